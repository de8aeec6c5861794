//! Spark versions: which one an image has, and what it supports.

/// The version in an image's tag: `4.3.0` of `apache/spark:4.3.0-java17`.
pub fn version_in_image(image: &str) -> Option<&str> {
    let tag = image
        .split('@')
        .next()?
        .rsplit_once(':')
        .map(|(_, tag)| tag)
        .filter(|tag| !tag.contains('/'))?;
    let version = tag.split(['-', '_']).next()?;
    let numbers = version
        .split('.')
        .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
    (numbers && version.contains('.')).then_some(version)
}

/// The Spark version of an image named `spark`; tags of other images may be versions of something else.
pub fn version_of_spark(image: &str) -> Option<&str> {
    let (name, _) = image.split('@').next()?.rsplit_once(':')?;
    version_in_image(image).filter(|_| name.rsplit('/').next() == Some("spark"))
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
    fn an_images_tag_may_say_the_version() {
        assert_eq!(version_in_image("docker.io/apache/spark:4.3.0"), Some("4.3.0"));
        assert_eq!(
            version_in_image("apache/spark:4.3.0-scala2.13-java17-python3-ubuntu"),
            Some("4.3.0")
        );
        assert_eq!(version_in_image("registry:5000/spark"), None);
        assert_eq!(version_in_image("registry:5000/spark:latest"), None);
    }

    #[test]
    fn only_tags_of_images_named_spark_are_spark_versions() {
        for (image, version) in [
            ("spark:4.3.0", Some("4.3.0")),
            ("docker.io/apache/spark:4.3.0-java21", Some("4.3.0")),
            ("registry:5000/spark:4.2.1@sha256:0", Some("4.2.1")),
            ("registry:5000/spark", None),
            ("example/spark-jobs:4.2.0", None),
            ("spark:latest", None),
        ] {
            assert_eq!(version_of_spark(image), version, "{image}");
        }
    }

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
