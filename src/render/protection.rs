//! Encryption and authentication between masters, workers, executors and drivers.

use crate::spec::version::has_gcm;
use crate::spec::{Authentication, ClusterSpec};

pub const CIPHER: &str = "spark.network.crypto.cipher";

/// Spark's default.
pub const DEFAULT_CIPHER: &str = "AES/CTR/NoPadding";

/// The cipher for RPC and shuffles; `None` for Spark's default, which does not detect changed messages.
pub fn cipher(spec: &ClusterSpec) -> Option<&str> {
    let version = spec.spark_version.as_deref();
    let by_version = version.filter(|version| has_gcm(version)).map(|_| "AES/GCM/NoPadding");
    let cipher = spec.spark_conf.get(CIPHER).map(String::as_str).or(by_version);
    cipher.filter(|cipher| *cipher != DEFAULT_CIPHER)
}

/// Protection of the RPC between masters and workers; it must be the same on both sides. `None`: Spark's default with a secret.
pub fn rpc_protection(spec: &ClusterSpec) -> Option<&str> {
    match spec.authentication {
        _ if spec.tls.is_some() => Some("TLS"),
        Authentication::Off => Some("without a secret"),
        _ => cipher(spec),
    }
}
