//! Adds Maven packages to a fetched Spark, as an image for Kubernetes has them: its daemons and drivers then find the classes without
//! `--packages`. Downloads those of a job, too. Spark itself resolves them, so the user's own repositories and mirrors apply.

use std::fs;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::Error;

/// Adds packages with what they depend on. Returns whether one was missing.
pub async fn add(home: &Path, packages: &[String]) -> Result<bool, Error> {
    let jars = home.join("jars");
    let own: Vec<_> = packages
        .iter()
        .map(|package| jar_name(package))
        .collect::<Result<_, _>>()?;
    if own.iter().all(|jar| jars.join(jar).exists()) {
        return Ok(false);
    }
    // Not a Spark home for other commands. What an interrupted command left is removed first.
    let scratch = home.with_file_name(format!(
        ".packages-{}",
        home.file_name().unwrap_or_default().to_string_lossy()
    ));
    let _ = fs::remove_dir_all(&scratch);
    let ivy = format!("spark.jars.ivy={}", scratch.display());
    let options = ["--packages", &packages.join(","), "--conf", &ivy].map(str::to_owned);
    let added = match resolve(home, &options).await {
        Ok(()) => take(&scratch.join("jars"), &jars, &own),
        Err(error) => Err(error),
    };
    let _ = fs::remove_dir_all(&scratch);
    added.map(|()| true)
}

/// The name of a package's JAR file as Spark stores it. Fails for a package that is not `GROUP:ARTIFACT:VERSION`.
fn jar_name(package: &str) -> Result<String, Error> {
    let is_part = |part: &&str| {
        let is_valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        !part.is_empty() && !part.starts_with('.') && part.chars().all(is_valid)
    };
    let parts: Vec<_> = package.split(':').filter(is_part).collect();
    match parts[..] {
        [group, artifact, version] if package.matches(':').count() == 2 => {
            Ok(format!("{group}_{artifact}-{version}.jar"))
        }
        _ => Err(Error::Packages {
            reason: format!("`{package}` is not a Maven package"),
            help: "write it like org.apache.hadoop:hadoop-aws:3.5.0".into(),
        }),
    }
}

/// Has spark-submit resolve packages with these options, for a program that prints Hadoop's version.
///
/// A driver of a local cluster cannot download them itself: its JVM knows only the names in the cluster's hosts file.
pub async fn resolve(home: &Path, options: &[String]) -> Result<(), Error> {
    let mut command = Command::new(home.join("bin/spark-submit"));
    command
        .args(["--master", "local"])
        .args(options)
        .args(["--class", "org.apache.hadoop.util.VersionInfo", "spark-internal"])
        .env("SPARK_HOME", home)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true);
    // As in a shell that `sparkha local env` has prepared.
    if std::env::var("JDK_JAVA_OPTIONS").is_ok_and(|options| options.contains("jdk.net.hosts.file")) {
        command.env_remove("JDK_JAVA_OPTIONS");
    }
    let failed = |reason: String| {
        Error::Packages {
        reason,
        help: "check their names and versions, and that Maven's repository can be reached; for a mirror, set spark.jars.ivySettings in the \
               spark-defaults.conf of a SPARK_CONF_DIR"
            .into(),
    }
    };
    let output = command.output().await;
    let output = output.map_err(|error| failed(format!("failed to run Spark: {error}")))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(failed(cause(&String::from_utf8_lossy(&output.stderr)))),
    }
}

/// Spark's exception, or the last line.
fn cause(errors: &str) -> String {
    let prefix = "Exception in thread \"main\" ";
    let exception = errors.lines().rev().find_map(|line| line.strip_prefix(prefix));
    let line = exception.or(errors.lines().last()).unwrap_or_default();
    line.to_owned()
}

/// Moves the JAR files. Those of the packages come last: they show that the others are there.
fn take(from: &Path, to: &Path, own: &[String]) -> Result<(), Error> {
    let entries = fs::read_dir(from).map_err(Error::file("read", from))?;
    let mut names: Vec<PathBuf> = entries.flatten().map(|entry| entry.file_name().into()).collect();
    names.sort_by_key(|name| own.iter().any(|own| name.as_os_str() == own.as_str()));
    for name in names {
        let target = to.join(&name);
        fs::rename(from.join(&name), &target).map_err(Error::file("write", &target))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_maven_package_has_a_jar_file() {
        let name = jar_name("org.apache.hadoop:hadoop-aws:3.5.0").unwrap();
        assert_eq!(name, "org.apache.hadoop_hadoop-aws-3.5.0.jar");
        for package in [
            "",
            "hadoop-aws",
            "a:b",
            "a:b:c:d",
            "a::c",
            "a:b:../c",
            "a:.b:c",
            "a:b:c d",
        ] {
            assert!(jar_name(package).is_err(), "{package}");
        }
    }

    #[test]
    fn the_cause_is_sparks_exception() {
        let errors = "\t:: not found\nException in thread \"main\" java.lang.RuntimeException: [unresolved dependency: a#b;1: not found]\n\tat x\n";
        assert_eq!(
            cause(errors),
            "java.lang.RuntimeException: [unresolved dependency: a#b;1: not found]"
        );
        assert_eq!(cause("first\nlast\n"), "last");
    }

    #[test]
    fn the_jars_of_the_packages_are_moved_last() {
        let folder = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| folder.path().join(name));
        fs::create_dir(&from).unwrap();
        for name in ["a_own-1.jar", "b_other-1.jar"] {
            fs::write(from.join(name), name).unwrap();
        }
        // Without the folder, the first move fails: it must not be that of the package.
        let error = take(&from, &to, &["a_own-1.jar".into()]).unwrap_err().to_string();
        assert!(error.contains("b_other-1.jar"), "{error}");
        fs::create_dir(&to).unwrap();
        take(&from, &to, &["a_own-1.jar".into()]).unwrap();
        assert_eq!(fs::read_dir(&to).unwrap().count(), 2);
    }
}
