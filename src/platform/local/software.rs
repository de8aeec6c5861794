//! The installed Spark and Java that clusters on this machine use in place of an image.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::paths;

/// Annotation of pods: the Spark that they run. See [`Software::label`].
pub const SPARK: &str = "sparkha/local-spark";
/// The oldest Java that Spark 4 supports.
const OLDEST_JAVA: u32 = 17;

/// An installed Spark and Java.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Software {
    pub spark_home: PathBuf,
    pub spark_version: String,
    pub java_home: Option<PathBuf>,
    pub java_version: u32,
    /// The `PATH` of the user who created the cluster.
    pub path: String,
}

/// A missing or unsuitable Spark or Java, with the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingDependency {
    pub message: String,
    pub help: String,
}

/// Finds Spark and Java. `image_version` is Spark's version in the cluster's image, if its tag says it.
pub fn find(spark_home: Option<&Path>, image_version: Option<&str>) -> Result<Software, Vec<MissingDependency>> {
    let path = std::env::var("PATH").unwrap_or_default();
    let spark = find_spark(spark_home, image_version, &path);
    let spark = spark.and_then(|spark| check_utf8("Spark", &spark.0).map(|()| spark));
    let java_home = std::env::var_os("JAVA_HOME")
        .map(PathBuf::from)
        .filter(|home| !home.as_os_str().is_empty());
    let java = java_home.as_deref().map_or(Ok(()), |home| check_utf8("Java", home));
    let java = java.and_then(|()| java_version(java_home.as_deref()));
    match (spark, java) {
        (Ok((spark_home, spark_version)), Ok(java_version)) => Ok(Software {
            spark_home,
            spark_version,
            java_home,
            java_version,
            path,
        }),
        (spark, java) => Err([spark.err(), java.err()].into_iter().flatten().collect()),
    }
}

fn find_spark(
    flag: Option<&Path>,
    image_version: Option<&str>,
    path: &str,
) -> Result<(PathBuf, String), MissingDependency> {
    let fetch = match image_version {
        Some(version) => format!("sparkha local fetch {version}"),
        None => "sparkha local fetch".to_owned(),
    };
    let configured = match flag {
        Some(home) => Some(("--spark-home", home.to_owned())),
        None => std::env::var_os("SPARK_HOME")
            .filter(|home| !home.is_empty())
            .map(|home| ("SPARK_HOME", PathBuf::from(home))),
    };
    if let Some((by, home)) = configured {
        return match version_of(&home) {
            Some(version) => Ok((std::path::absolute(&home).unwrap_or(home), version)),
            None => Err(MissingDependency {
                message: format!(
                    "there is no Spark at {} ({by}): jars/spark-core_*.jar is missing",
                    home.display()
                ),
                help: format!("correct {by}, or download Spark with `{fetch}`"),
            }),
        };
    }
    on_path(path)
        .or_else(|| fetched(image_version))
        .ok_or_else(|| MissingDependency {
            message: "there is no Spark on this machine: not in SPARK_HOME, PATH or the cache".into(),
            help: format!("`{fetch}` downloads it; or pass --spark-home FOLDER"),
        })
}

/// Rejects a home that the cluster's files and arguments cannot name.
fn check_utf8(program: &str, home: &Path) -> Result<(), MissingDependency> {
    match home.to_str() {
        Some(_) => Ok(()),
        None => Err(MissingDependency {
            message: format!("the path of {program} is not UTF-8: {}", home.display()),
            help: format!("set {}_HOME to a symbolic link to it", program.to_uppercase()),
        }),
    }
}

/// The Spark whose `bin` folder is on the PATH.
fn on_path(path: &str) -> Option<(PathBuf, String)> {
    std::env::split_paths(path).find_map(|folder| {
        let program = folder.join("spark-submit").canonicalize().ok()?;
        let home = program.parent()?.parent()?.to_owned();
        let version = version_of(&home)?;
        Some((home, version))
    })
}

/// The home of a fetched version of Spark.
pub fn fetched_home(version: &str) -> Option<PathBuf> {
    Some(paths::cache().ok()?.join(format!("spark-{version}")))
}

/// A fetched Spark: the image's version, or else the newest.
fn fetched(image_version: Option<&str>) -> Option<(PathBuf, String)> {
    if let Some(home) = image_version.and_then(fetched_home)
        && let Some(version) = version_of(&home)
    {
        return Some((home, version));
    }
    let entries = std::fs::read_dir(paths::cache().ok()?).ok()?.flatten();
    let homes = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("spark-"));
    let versions = homes.filter_map(|entry| Some((entry.path(), version_of(&entry.path())?)));
    versions.max_by_key(|(_, version)| {
        let parts = version.split('.').map(|part| part.parse().unwrap_or(0));
        parts.collect::<Vec<u32>>()
    })
}

/// The version of the Spark in a folder, from the name of its core JAR: `spark-core_2.13-4.3.0.jar`.
pub fn version_of(home: &Path) -> Option<String> {
    if !home.join("bin/spark-class").exists() {
        return None;
    }
    let jars = std::fs::read_dir(home.join("jars")).ok()?.flatten();
    jars.filter_map(|jar| jar.file_name().into_string().ok())
        .find_map(|jar| {
            let versions = jar.strip_prefix("spark-core_")?.strip_suffix(".jar")?;
            Some(versions.split_once('-')?.1.to_owned())
        })
}

fn java_version(home: Option<&Path>) -> Result<u32, MissingDependency> {
    let program = home.map_or_else(|| PathBuf::from("java"), |home| home.join("bin/java"));
    let missing = |message: String| MissingDependency {
        message,
        help: format!(
            "install Java {OLDEST_JAVA} or newer (Debian: apt-get install default-jre-headless), or point JAVA_HOME to one"
        ),
    };
    let output = Command::new(&program).arg("-version").output();
    let program = program.display();
    let output = output.map_err(|error| missing(format!("there is no Java: failed to run {program}: {error}")))?;
    let text = String::from_utf8_lossy(&output.stderr);
    match parse_java_version(&text) {
        Some(version) if version >= OLDEST_JAVA => Ok(version),
        Some(version) => Err(missing(format!("Java {version} ({program}) is too old for Spark 4"))),
        None => Err(missing(format!(
            "failed to read the version of {program}: {}",
            text.trim()
        ))),
    }
}

/// Parses `openjdk version "17.0.15" 2025-04-15`; before Java 9 `java version "1.8.0_452"`.
fn parse_java_version(text: &str) -> Option<u32> {
    let version = text
        .lines()
        .find(|line| line.contains("version \""))?
        .split('"')
        .nth(1)?;
    let mut parts = version
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse().ok());
    match parts.next()?? {
        1 => parts.next()?,
        version => Some(version),
    }
}

impl Software {
    /// The annotation of pods that run this Spark: `4.3.0 at /opt/spark`.
    pub fn label(&self) -> String {
        format!("{} at {}", self.spark_version, self.spark_home.display())
    }

    /// The version of hadoop-aws among Spark's jars, which `s3a://` requires.
    ///
    /// # Errors
    /// What is missing.
    pub fn hadoop_aws(&self) -> Result<String, MissingDependency> {
        let home = self.spark_home.display();
        let hadoop = self.jar_version("hadoop-client-api").unwrap_or_default();
        let package = format!("org.apache.hadoop:hadoop-aws:{hadoop}");
        let add = format!("`sparkha local fetch {} --packages {package}`", self.spark_version);
        let help = match fetched_home(&self.spark_version) {
            Some(fetched) if fetched == self.spark_home => format!("{add} adds it"),
            _ => format!("add {package} with its dependencies to {home}/jars; or run {add} and use that Spark"),
        };
        match self.jar_version("hadoop-aws") {
            Some(version) if version == hadoop || hadoop.is_empty() => Ok(version),
            Some(version) => Err(MissingDependency {
                message: format!(
                    "Spark at {home} has Hadoop {hadoop}, but hadoop-aws {version}: they must be of one version"
                ),
                help,
            }),
            None => Err(MissingDependency {
                message: format!("Spark at {home} has no hadoop-aws, which s3a:// requires"),
                help,
            }),
        }
    }

    /// The version of an artifact among Spark's jars. Those that Spark fetched have the group in front.
    fn jar_version(&self, artifact: &str) -> Option<String> {
        let jars = std::fs::read_dir(self.spark_home.join("jars")).ok()?.flatten();
        let names = jars.filter_map(|jar| jar.file_name().into_string().ok());
        names.into_iter().find_map(|name| {
            let (group, version) = name.strip_suffix(".jar")?.split_once(&format!("{artifact}-"))?;
            let is_version = version.starts_with(|c: char| c.is_ascii_digit());
            (is_version && (group.is_empty() || group.ends_with('_'))).then(|| version.to_owned())
        })
    }

    /// This software with the Spark of a pod's annotation. During an upgrade, pods of both versions run.
    pub fn of_pod(&self, annotation: Option<&String>) -> Self {
        match annotation.and_then(|text| text.split_once(" at ")) {
            Some((version, home)) => Self {
                spark_home: home.into(),
                spark_version: version.to_owned(),
                ..self.clone()
            },
            None => self.clone(),
        }
    }

    /// The environment that an image would set.
    pub fn environment(&self) -> Vec<(String, String)> {
        let mut environment = vec![
            ("PATH".to_owned(), self.path.clone()),
            ("SPARK_HOME".to_owned(), self.spark_home.display().to_string()),
            ("LANG".to_owned(), "C.UTF-8".to_owned()),
        ];
        let java_home = self.java_home.as_ref().map(|home| home.display().to_string());
        for (name, value) in [("JAVA_HOME", java_home), ("PYTHONPATH", self.python_path())] {
            environment.extend(value.map(|value| (name.to_owned(), value)));
        }
        environment
    }

    /// The program that runs JVMs.
    pub fn java(&self) -> Option<PathBuf> {
        let folder = self.java_home.as_ref().map(|home| home.join("bin"));
        let mut folders = folder.into_iter().chain(std::env::split_paths(&self.path));
        folders.find_map(|folder| folder.join("java").canonicalize().ok())
    }

    /// What Spark puts before all other jars in the class path.
    pub fn logging_api(&self) -> Option<PathBuf> {
        let jars = std::fs::read_dir(self.spark_home.join("jars")).ok()?.flatten();
        let mut names = jars.filter_map(|jar| jar.file_name().into_string().ok());
        let name = names.find(|name| name.starts_with("slf4j-api-") && name.ends_with(".jar"))?;
        Some(self.spark_home.join("jars").join(name))
    }

    /// `PYTHONPATH` of PySpark and Py4J, which distributions keep in different folders.
    pub fn python_path(&self) -> Option<String> {
        let python = self.spark_home.join("python");
        let libraries = std::fs::read_dir(python.join("lib")).into_iter().flatten().flatten();
        let mut parts: Vec<_> = libraries.map(|entry| entry.path()).collect();
        parts.retain(|path| path.extension().is_some_and(|end| end == "zip"));
        parts.extend(Some(python).filter(|path| path.join("pyspark").exists()));
        parts.sort();
        let parts: Vec<_> = parts.iter().map(|path| path.display().to_string()).collect();
        (!parts.is_empty()).then(|| parts.join(":"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hadoop_aws_must_be_of_hadoops_version() {
        let folder = tempfile::tempdir().unwrap();
        let software = Software {
            spark_home: folder.path().into(),
            spark_version: "4.3.0".into(),
            ..Software::default()
        };
        std::fs::create_dir(folder.path().join("jars")).unwrap();
        let jar = |name: &str| std::fs::write(folder.path().join("jars").join(name), "").unwrap();
        jar("hadoop-client-api-3.5.0.jar");
        jar("hadoop-aws-tools-1.jar");
        let missing = software.hadoop_aws().unwrap_err();
        assert!(
            missing.message.ends_with("has no hadoop-aws, which s3a:// requires"),
            "{missing:?}"
        );
        let command = "`sparkha local fetch 4.3.0 --packages org.apache.hadoop:hadoop-aws:3.5.0`";
        assert!(missing.help.contains(command), "{missing:?}");
        jar("hadoop-aws-3.4.2.jar");
        let wrong = software.hadoop_aws().unwrap_err().message;
        assert!(wrong.contains("has Hadoop 3.5.0, but hadoop-aws 3.4.2"), "{wrong}");
        std::fs::remove_file(folder.path().join("jars/hadoop-aws-3.4.2.jar")).unwrap();
        jar("org.apache.hadoop_hadoop-aws-3.5.0.jar");
        assert_eq!(software.hadoop_aws(), Ok("3.5.0".into()));
    }

    #[test]
    fn parses_both_formats_of_javas_version() {
        assert_eq!(parse_java_version("openjdk version \"17.0.15\" 2025-04-15\n"), Some(17));
        assert_eq!(
            parse_java_version("NOTE: Picked up\njava version \"1.8.0_452\"\n"),
            Some(8)
        );
        assert_eq!(parse_java_version("openjdk version \"25\" 2025-09-16"), Some(25));
        assert_eq!(parse_java_version("command not found"), None);
    }
}
