//! Container image references, and the Spark version in their tags.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use regex::Regex;

use super::names::is_qualified;
use super::version::is_version;

/// The registry of images that name none, and the folder of those that name nothing else.
const DOCKER_HUB: &str = "docker.io";
const LIBRARY: &str = "library";
/// Most bytes of a repository's name.
const MAX_REPOSITORY: usize = 255;

/// The grammar of the distribution project, in ASCII: with all letters of Unicode in tags it takes 30 ms to compile, which every command would pay.
#[expect(clippy::unwrap_used, reason = "it is a literal")]
static REFERENCE: LazyLock<Regex> = LazyLock::new(|| {
    const HOST: &str = "[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?";
    const COMPONENT: &str = "[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*";
    const HEX: &str = "[0-9a-fA-F]";
    let name = format!(r"(?:{HOST}(?:\.{HOST})*(?::[0-9]+)?/)?{COMPONENT}(?:/{COMPONENT})*");
    let digest = format!("sha256:{HEX}{{64}}|sha384:{HEX}{{96}}|sha512:{HEX}{{128}}");
    Regex::new(&format!(r"(?-u)^({name})(?::(\w[\w.-]{{0,127}}))?(?:@(?:{digest}))?$")).unwrap()
});

/// A container image reference, as written: `[registry[:port]/]path[:tag][@digest]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageReference {
    text: String,
    registry: String,
    repository: String,
    tag: Option<String>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not an image reference: [registry[:port]/]path[:tag][@digest], the path in lower case", text.escape_debug())]
pub struct ImageError {
    text: String,
}

impl FromStr for ImageReference {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, ImageError> {
        let error = || ImageError { text: text.to_owned() };
        let captures = REFERENCE.captures(text).ok_or_else(error)?;
        let (registry, repository) = split(&captures[1]);
        if repository.len() > MAX_REPOSITORY {
            return Err(error());
        }
        Ok(Self {
            text: text.to_owned(),
            registry,
            repository,
            tag: captures.get(2).map(|tag| tag.as_str().to_owned()),
        })
    }
}

/// Registry and repository, as Docker understands a name: a first component with a dot or a port is a registry.
fn split(name: &str) -> (String, String) {
    let is_registry = |host: &str| host.contains(['.', ':']) || host == "localhost";
    let (registry, repository) = match name.split_once('/') {
        Some((host, path)) if is_registry(host) => (host, path),
        _ => (DOCKER_HUB, name),
    };
    let registry = match registry {
        "index.docker.io" => DOCKER_HUB,
        registry => registry,
    };
    let repository = match registry == DOCKER_HUB && !repository.contains('/') {
        true => format!("{LIBRARY}/{repository}"),
        false => repository.to_owned(),
    };
    (registry.to_owned(), repository)
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl ImageReference {
    /// The tag as written.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The tag, if it is a valid label value.
    pub fn tag_label(&self) -> Option<&str> {
        self.tag().filter(|tag| is_qualified(tag))
    }

    /// Whether both name the same repository, regardless of tags and digests.
    pub fn is_same_repository(&self, other: &Self) -> bool {
        (&self.registry, &self.repository) == (&other.registry, &other.repository)
    }

    /// The version in the tag: `4.3.0` of `apache/spark:4.3.0-java17`.
    pub fn version(&self) -> Option<&str> {
        let version = self.tag()?.split(['-', '_']).next()?;
        is_version(version).then_some(version)
    }

    /// The Spark version of an image named `spark`; tags of other images may be versions of something else.
    pub fn spark_version(&self) -> Option<&str> {
        let name = self.repository.rsplit('/').next();
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
            "`spark:\\u{1b}` is not an image reference: [registry[:port]/]path[:tag][@digest], the path in lower case"
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
