//! Spark versions: comparison and supported features.

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

fn numbers(version: &str) -> [u32; 3] {
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
