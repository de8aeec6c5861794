//! Releases as Helm 3 and later store them: one Secret for each revision, with the values and the chart as compressed JSON.

use std::io::Read;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flate2::read::GzDecoder;
use serde::Deserialize;
use serde_json::Value;

/// Labels of the Secrets of deployed releases.
pub const LABELS: &str = "owner=helm,status=deployed";

/// Most bytes of a release: a Secret has at most 1 MiB, compressed.
const MOST: u64 = 32 << 20;

/// One revision of a release.
#[derive(Debug, PartialEq, Deserialize)]
pub struct Release {
    pub name: String,
    pub chart: Chart,
    /// The values that its user gave.
    #[serde(default)]
    pub config: Value,
}

#[derive(Debug, PartialEq, Deserialize)]
pub struct Chart {
    pub metadata: Metadata,
    /// The chart's defaults.
    #[serde(default)]
    pub values: Value,
}

#[derive(Debug, PartialEq, Deserialize)]
pub struct Metadata {
    pub name: String,
    pub version: String,
}

/// A Secret that does not hold a release.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("it is not base64")]
    Base64(#[from] base64::DecodeError),
    #[error("it is not compressed")]
    Gzip(#[from] std::io::Error),
    #[error("it is not a release of Helm")]
    Json(#[from] serde_json::Error),
}

impl Release {
    /// Reads the key `release` of a Secret, which Helm encodes once more.
    pub fn read(data: &[u8]) -> Result<Self, Error> {
        let compressed = BASE64_STANDARD.decode(data)?;
        let mut json = Vec::new();
        GzDecoder::new(compressed.as_slice())
            .take(MOST)
            .read_to_end(&mut json)?;
        Ok(serde_json::from_slice(&json)?)
    }

    /// The tag of the chart's default image.
    pub fn default_tag(&self) -> Option<&str> {
        self.chart.values.pointer("/image/tag")?.as_str()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use serde_json::json;

    use super::*;

    fn stored(json: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(json).unwrap();
        BASE64_STANDARD.encode(encoder.finish().unwrap()).into_bytes()
    }

    #[test]
    fn a_release_has_its_chart_and_the_values_of_its_user() {
        let release = json!({
            "name": "analytics",
            "info": {"status": "deployed"},
            "chart": {
                "metadata": {"name": "spark", "version": "10.0.1", "apiVersion": "v2"},
                "templates": [],
                "values": {"image": {"tag": "3.5.5-debian-12-r0"}},
            },
            "config": {"worker": {"replicaCount": 4}},
            "version": 3,
        });
        let read = Release::read(&stored(release.to_string().as_bytes())).unwrap();
        assert_eq!(
            (read.name.as_str(), read.chart.metadata.version.as_str()),
            ("analytics", "10.0.1")
        );
        assert_eq!(read.default_tag(), Some("3.5.5-debian-12-r0"));
        assert_eq!(read.config, json!({"worker": {"replicaCount": 4}}));
    }

    #[test]
    fn what_is_no_release_is_refused() {
        for (data, said) in [
            (b"no base64!".to_vec(), "it is not base64"),
            (BASE64_STANDARD.encode("plain").into_bytes(), "it is not compressed"),
            (stored(b"{}"), "it is not a release of Helm"),
            (stored(b"[1, 2"), "it is not a release of Helm"),
        ] {
            assert_eq!(Release::read(&data).unwrap_err().to_string(), said);
        }
    }

    #[test]
    fn no_more_is_unpacked_than_a_release_has() {
        let bomb = stored(&vec![b' '; 64 << 20]);
        assert!(bomb.len() < 1 << 20);
        assert_eq!(
            Release::read(&bomb).unwrap_err().to_string(),
            "it is not a release of Helm"
        );
    }
}
