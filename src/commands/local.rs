//! `sparkha local`: commands for this machine.

use std::path::{Path, PathBuf};

use clap::Subcommand;

use crate::commands::arguments::Global;
use crate::commands::heading;
use crate::console::progress::Progress;
use crate::lifecycle::connect_url::{Client, connect_url};
use crate::lifecycle::inventory::inventory;
use crate::lifecycle::{Error, generations};
use crate::platform::Backend;
use crate::platform::local::SYSTEM;
use crate::platform::local::fetch::{self, FetchStage, fetch};
use crate::platform::local::{class_archive, packages, software, supervisor};
use crate::report;
use crate::spec::image::version_in_image;
use crate::spec::resolve::DEFAULT_IMAGE;

#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  sparkha local fetch                          download the Spark version of the default image
  sparkha create --local
  sparkha submit --local -- job.py
  eval \"$(sparkha local env)\"                  for drivers that you start yourself
  spark-submit --master \"$SPARK_MASTER_URL\" job.py")]
pub enum LocalCommand {
    /// Download Spark into the cache, with your pip configuration
    #[command(after_help = "Examples:
  sparkha local fetch
  sparkha local fetch 4.3.0 --packages org.apache.hadoop:hadoop-aws:3.5.0    for s3a://")]
    Fetch {
        /// Version of Spark [default: the default image's]
        #[arg(value_name = "VERSION")]
        spark: Option<String>,
        /// Maven coordinates of jars to add to this Spark, with what they depend on
        #[arg(long, value_delimiter = ',', help_heading = heading::SELECTION)]
        packages: Vec<String>,
    },
    /// Print shell variables for drivers that you start yourself
    #[command(after_help = "Examples:
  eval \"$(sparkha local env)\"
  spark-submit --master \"$SPARK_MASTER_URL\" job.py")]
    Env {
        /// Name of the cluster [default: spark]
        name: Option<String>,
    },
    /// Run the supervisor of a cluster's folder
    #[command(hide = true)]
    Supervise { folder: PathBuf },
}

/// Refuses local clusters where they do not run. `os` is [`std::env::consts::OS`].
pub fn check_system(os: &str) -> Result<(), Error> {
    if os == SYSTEM {
        return Ok(());
    }
    Err(Error::Usage {
        message: format!("local clusters run on Linux only, and this is {os}"),
        help: "use a Kubernetes cluster, without --local, or run sparkha in a Linux container or virtual machine"
            .into(),
    })
}

pub async fn run(global: &Global, command: LocalCommand) -> Result<(), Error> {
    match command {
        LocalCommand::Fetch { spark, packages } => {
            let version = spark.or_else(|| version_in_image(DEFAULT_IMAGE)).unwrap_or_default();
            let version = version.as_str();
            let progress = Progress::new(global.quiet);
            let begin_wait = || progress.part("Fetch", &format!("waits for another `sparkha local fetch {version}`"));
            let work = async { Ok(fetch::lock(version, begin_wait).await?) };
            let lock = super::unless_interrupted(work, super::CONTINUE).await?;
            progress.clear_parts();
            let work = async {
                Ok(fetch(version, lock.clone(), |stage| match stage {
                    FetchStage::Downloading(there, total) => {
                        progress.bytes(&format!("Fetching Spark {version}"), there, total)
                    }
                    FetchStage::Unpacking => progress.step("Unpacking"),
                })
                .await?)
            };
            let (home, fetched) = super::unless_interrupted(work, super::CONTINUE).await?;
            progress.done(&match fetched {
                true => format!("Spark {version} fetched"),
                false => format!("Spark {version} is already installed"),
            });
            let mut changed = fetched;
            if !packages.is_empty() {
                progress.step("Adding packages");
                let work = async { Ok(packages::add(&home, &packages).await?) };
                let added = super::unless_interrupted(work, super::CONTINUE).await?;
                progress.done(match added {
                    true => "Packages added",
                    false => "The packages are already there",
                });
                changed |= added;
            }
            prepare_starts(&progress, &home, changed).await?;
            report::print(&format!("{}\n", home.display()))?;
        }
        LocalCommand::Env { name } => {
            let platform = super::named_cluster(global, name.as_deref()).await?;
            let platform = generations::for_jobs(platform).await?;
            if let Backend::Local(local) = platform.backend() {
                let inventory = inventory(platform.as_ref()).await?;
                let (mut variables, programs) = local.driver_environment(&inventory)?;
                if let Some(url) = connect_url(platform.as_ref(), Client::Inside).await? {
                    variables.push(("SPARK_CONNECT_URL".into(), url));
                }
                report::print(&report::shell(&variables, &programs))?;
            }
        }
        LocalCommand::Supervise { folder } => supervisor::supervise(&folder).await?,
    }
    Ok(())
}

/// Makes the archives with which Spark's servers start faster. Without them everything works, too.
async fn prepare_starts(progress: &Progress, spark_home: &Path, spark_has_changed: bool) -> Result<(), Error> {
    let work = async {
        let software = software::find(Some(spark_home), None).map_err(|missing| {
            let reasons = missing.into_iter().map(|missing| missing.message);
            reasons.collect::<Vec<_>>().join("; ")
        })?;
        class_archive::make(&software, spark_has_changed, || {
            progress.step("Preparing faster starts")
        })
        .await
    };
    let prepared = super::unless_interrupted(async { Ok(work.await) }, super::CONTINUE).await?;
    match prepared {
        Ok(true) => progress.done("Faster starts prepared"),
        Ok(false) => {}
        Err(reason) => progress.warn(&format!(
            "Faster starts not prepared: {reason}; clusters work all the same, and `sparkha local fetch` tries it again"
        )),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_clusters_are_refused_on_other_systems_than_linux() {
        assert!(check_system("linux").is_ok());
        for os in ["macos", "windows"] {
            let refused = check_system(os).unwrap_err();
            assert_eq!(
                refused.to_string(),
                format!("local clusters run on Linux only, and this is {os}")
            );
        }
    }
}
