//! Digests of the files that pods read: a pod restarts when its digest changes.

use data_encoding::HEXLOWER;
use k8s_openapi::api::core::v1::ConfigMap;
use sha2::{Digest, Sha256};

use crate::model::labels::Component;
use crate::render::auth::S3_SCRIPT;

/// A digest of the files that one component reads. It is an annotation of its pods, so that a change restarts only the
/// affected pods.
pub fn digest(config: &ConfigMap, component: Component) -> String {
    let files: &[&str] = match component {
        Component::Master => &[
            "log4j2.properties",
            "master.conf",
            "master.sh",
            "protect.sh",
            "secret.sh",
            "tcp.sh",
            "withdraw.sh",
            "zookeeper-client.sh",
        ],
        Component::Worker => &[
            "leads.sh",
            "log4j2.properties",
            S3_SCRIPT,
            "secret.sh",
            "tcp.sh",
            "until_led.sh",
            "worker.conf",
            "worker.sh",
        ],
        Component::ZooKeeper => &["log4j2.properties", "secret.sh", "zoo.cfg", "zookeeper.sh"],
        Component::History => &["log4j2.properties", "history.conf", "history.sh", S3_SCRIPT],
        Component::Connect => &[
            "connect.conf",
            "connect.sh",
            "log4j2.properties",
            S3_SCRIPT,
            "secret.sh",
        ],
        Component::Cluster | Component::Driver => &[],
    };
    let texts = files.iter().filter_map(|file| {
        let text = config.data.as_ref()?.get(*file)?;
        Some((*file, text.split(NO_RESTART).next().unwrap_or_default()))
    });
    short_digest(texts.flat_map(|(file, text)| [file, text]))
}

/// Changes below this line do not restart pods; they take effect at the next start.
pub const NO_RESTART: &str = "# A change of what follows restarts no master.\n";

/// 16 hexadecimal digits of SHA-256 over some strings.
pub fn short_digest<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut sha = Sha256::new();
    for part in parts {
        sha.update((part.len() as u64).to_be_bytes());
        sha.update(part);
    }
    HEXLOWER.encode(&sha.finalize()[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_depends_on_the_boundaries_of_its_strings() {
        assert_ne!(short_digest(["ab", "c"]), short_digest(["a", "bc"]));
        assert_eq!(short_digest(["a"]).len(), 16);
    }
}
