//! Versions of Spark: comparison and supported features. The supported versions of Spark and Kubernetes.

use std::fmt;

/// Which versions of a program are supported: from the oldest on. All numbers are major and minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Supported {
    pub program: &'static str,
    pub oldest: [u32; 2],
    /// The newest version that was tested.
    pub tested: [u32; 2],
}

pub const SPARK: Supported = Supported {
    program: "Spark",
    oldest: [4, 0],
    tested: [4, 3],
};

pub const KUBERNETES: Supported = Supported {
    program: "Kubernetes",
    oldest: [1, 20],
    tested: [1, 37],
};

impl Supported {
    /// Whether a version is older than all supported ones.
    pub fn is_too_old(&self, version: [u32; 2]) -> bool {
        version < self.oldest
    }

    /// Whether a version is newer than all tested ones.
    pub fn is_untested(&self, version: [u32; 2]) -> bool {
        version > self.tested
    }
}

/// Such as `Kubernetes 1.20 and later, tested up to 1.37`.
impl fmt::Display for Supported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([major, minor], [to_major, to_minor]) = (self.oldest, self.tested);
        write!(
            f,
            "{} {major}.{minor} and later, tested up to {to_major}.{to_minor}",
            self.program
        )
    }
}

/// The message about a version of Spark that is too old.
pub fn too_old_spark(version: &str) -> Option<String> {
    let [major, minor, _] = numbers(version);
    let is_known = major > 0;
    (is_known && SPARK.is_too_old([major, minor])).then(|| unsupported_spark(version))
}

/// The message about a version of Spark that is not supported, or not tested.
pub fn unsupported_spark(version: &str) -> String {
    format!("Spark is {version}; sparkha supports {SPARK}")
}

/// Whether the text is a dotted version number like `4.3.0`.
pub fn is_version(text: &str) -> bool {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    text.contains('.') && text.split('.').all(is_number)
}

/// Whether two versions have the same major and minor number.
pub fn is_same_feature_release(version: &str, other: &str) -> bool {
    numbers(version)[..2] == numbers(other)[..2]
}

/// Whether AES/GCM works. Without SPARK-56227 not even a worker can register.
pub fn has_gcm(version: &str) -> bool {
    let numbers = numbers(version);
    match numbers {
        [4, 0, patch] => patch >= 5,
        _ => numbers >= [4, 1, 3],
    }
}

/// Whether RPC can use TLS.
pub fn has_tls(version: &str) -> bool {
    numbers(version) >= [4, 0, 0]
}

/// Major, minor and patch number.
pub fn numbers(version: &str) -> [u32; 3] {
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or_default());
    [(); 3].map(|()| numbers.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aes_gcm_works_in_the_versions_it_was_tested_with() {
        for version in ["4.0.5", "4.1.3", "4.1.4", "4.2.0", "4.2.1", "4.3.0", "4.10.0", "5.0.0"] {
            assert!(has_gcm(version), "{version}");
        }
        for version in ["4.1.2", "4.1.1", "4.1.0", "4.0.3", "3.5.9"] {
            assert!(!has_gcm(version), "{version}");
        }
    }
}
