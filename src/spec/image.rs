//! Container image references, and the Spark version in their tags.

use std::fmt;
use std::str::FromStr;

use oci_spec::distribution::{ParseError, Reference};

use super::names::is_qualified;
use super::version::is_version;

/// A container image reference, as written: `[registry[:port]/]path[:tag][@digest]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageReference {
    text: String,
    parsed: Reference,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not an image reference: {reason}", text.escape_debug())]
pub struct ImageError {
    text: String,
    reason: ParseError,
}

impl FromStr for ImageReference {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, ImageError> {
        let parsed = match text.is_ascii() {
            true => text.parse(),
            // The parser accepts any Unicode letter in a tag.
            false => Err(ParseError::ReferenceInvalidFormat),
        };
        let text = text.to_owned();
        match parsed {
            Ok(parsed) => Ok(Self { text, parsed }),
            Err(reason) => Err(ImageError { text, reason }),
        }
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl ImageReference {
    /// The tag as written. The parser adds `latest` to a reference without tag and digest.
    pub fn tag(&self) -> Option<&str> {
        let (name, tag) = (self.text.split('@').next()?, self.parsed.tag()?);
        name.strip_suffix(tag)?.ends_with(':').then_some(tag)
    }

    /// The tag, if it is a valid label value.
    pub fn tag_label(&self) -> Option<&str> {
        self.tag().filter(|tag| is_qualified(tag))
    }

    /// Whether both name the same repository, regardless of tags and digests.
    pub fn is_same_repository(&self, other: &Self) -> bool {
        (self.parsed.registry(), self.parsed.repository()) == (other.parsed.registry(), other.parsed.repository())
    }

    /// The version in the tag: `4.3.0` of `apache/spark:4.3.0-java17`.
    pub fn version(&self) -> Option<&str> {
        let version = self.tag()?.split(['-', '_']).next()?;
        is_version(version).then_some(version)
    }

    /// The Spark version of an image named `spark`; tags of other images may be versions of something else.
    pub fn spark_version(&self) -> Option<&str> {
        let name = self.parsed.repository().rsplit('/').next();
        self.version().filter(|_| name == Some("spark"))
    }
}

/// The version in an image's tag; `None` also if the text is not an image reference.
pub fn version_in_image(image: &str) -> Option<String> {
    let image: ImageReference = image.parse().ok()?;
    image.version().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(text: &str) -> ImageReference {
        text.parse().unwrap()
    }

    #[test]
    fn invalid_references_are_refused() {
        for good in [
            "spark",
            "docker.io/apache/spark:4.3.0",
            "localhost:5000/spark",
            "registry.example:5000/a/b_c:T.1",
            &format!("spark:1@sha256:{}", "a".repeat(64)),
        ] {
            assert_eq!(image(good).to_string(), good);
        }
        for bad in [
            "",
            "Spark",
            "a//b",
            "spark:",
            "spark:a b",
            "spark:ä",
            "spark@sha256:1",
            "x.y:port/spark",
            "spark :1",
        ] {
            assert!(bad.parse::<ImageReference>().is_err(), "{bad}");
        }
        assert_eq!(
            "spark:\u{1b}".parse::<ImageReference>().unwrap_err().to_string(),
            "`spark:\\u{1b}` is not an image reference: invalid reference format"
        );
    }

    #[test]
    fn a_reference_without_a_tag_has_none() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, tag) in [
            ("docker.io/apache/spark:4.3.0".into(), Some("4.3.0")),
            ("registry:5000/spark".into(), None),
            ("spark:latest".into(), Some("latest")),
            ("latest".into(), None),
            (format!("registry:5000/spark:1@{digest}"), Some("1")),
            (format!("spark@{digest}"), None),
        ] {
            assert_eq!(image(&text).tag(), tag, "{text}");
        }
        assert_eq!(image("spark:4.3.0-x").tag_label(), Some("4.3.0-x"));
        assert_eq!(image("spark:ends-with-").tag_label(), None);
        assert_eq!(image("spark:_1").tag_label(), None);
    }

    #[test]
    fn a_tag_may_contain_the_version() {
        assert_eq!(image("docker.io/apache/spark:4.3.0").version(), Some("4.3.0"));
        assert_eq!(
            image("apache/spark:4.3.0-scala2.13-java17-python3-ubuntu").version(),
            Some("4.3.0")
        );
        assert_eq!(image("registry:5000/spark").version(), None);
        assert_eq!(image("registry:5000/spark:latest").version(), None);
        assert_eq!(version_in_image("no reference:4.3.0"), None);
    }

    #[test]
    fn only_tags_of_images_named_spark_are_spark_versions() {
        for (text, version) in [
            ("spark:4.3.0".into(), Some("4.3.0")),
            ("docker.io/apache/spark:4.3.0-java21".into(), Some("4.3.0")),
            (
                format!("registry:5000/spark:4.2.1@sha256:{}", "0".repeat(64)),
                Some("4.2.1"),
            ),
            ("registry:5000/spark".into(), None),
            ("example/spark-jobs:4.2.0".into(), None),
            ("spark:latest".into(), None),
        ] {
            assert_eq!(image(&text).spark_version(), version, "{text}");
        }
    }

    #[test]
    fn repositories_are_compared_with_their_registry() {
        assert!(image("apache/spark:1").is_same_repository(&image("docker.io/apache/spark:2")));
        assert!(!image("registry:5000/spark:1").is_same_repository(&image("spark:1")));
    }
}
