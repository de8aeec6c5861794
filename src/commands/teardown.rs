//! `sparkha teardown`.

use std::time::Duration;

use clap::Args;

use crate::commands::arguments::Global;
use crate::commands::heading;
use crate::console::progress::Progress;
use crate::jobs::{JobState, RunningJobs, running};
use crate::lifecycle::Error;
use crate::lifecycle::external_zookeeper::Znodes;
use crate::lifecycle::inventory::existing;
use crate::lifecycle::teardown::{OwnedResources, TeardownOptions, owned_resources, remove};
use crate::model::error_chain::with_sources;
use crate::platform::Platform;
use crate::render::inventory::Inventory;
use crate::spec::names::visible;
use crate::spec::words::counted;

/// Remove a cluster and everything that create created
///
/// teardown asks for confirmation before it ends running jobs or deletes data: volume claims, and the cluster's znodes in an external ZooKeeper.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sparkha teardown --namespace data
  sparkha teardown etl --yes                   without confirmation
  sparkha teardown etl --keep-data             keep the volume claims")]
pub struct Arguments {
    /// Name of the cluster [default: spark]
    name: Option<String>,
    /// Keep volume claims, and the znodes in an external ZooKeeper
    #[arg(long, help_heading = heading::CHANGES)]
    keep_data: bool,
    /// End running jobs and delete data without confirmation
    #[arg(short, long, help_heading = heading::CHANGES)]
    yes: bool,
    /// Delete the pods of lost nodes without waiting for their kubelets
    ///
    /// A node is lost if it is not ready, or no longer exists.
    #[arg(long, help_heading = heading::CHANGES)]
    force: bool,
    /// How long to wait until everything is gone (Kubernetes only)
    #[arg(long, default_value = "3m", value_parser = super::duration, value_name = "TIME", help_heading = heading::WAITING)]
    timeout: Duration,
}

pub async fn run(global: &Global, arguments: &Arguments) -> Result<(), Error> {
    let platform = super::named_cluster(global, arguments.name.as_deref()).await?;
    let progress = Progress::new(global.quiet);
    let Some(owned) = owned_resources(platform.as_ref()).await? else {
        progress.done(&format!(
            "Nothing to do: there is no cluster {} in namespace {}",
            platform.name(),
            platform.namespace()
        ));
        return Ok(());
    };
    // An inventory that cannot be read names no successor.
    let inventory = existing(platform.as_ref()).await.ok().flatten();
    let successor = inventory.as_ref().and_then(Inventory::successor);
    arguments.confirm(platform.as_ref(), &owned, &progress).await?;
    let options = TeardownOptions {
        timeout: arguments.timeout,
        keep_claims: arguments.keep_data,
        znodes: if arguments.keep_data {
            Znodes::Keep
        } else {
            Znodes::Remove
        },
        force: arguments.force,
    };
    let work = remove(platform.as_ref(), owned, &options, &progress);
    super::unless_interrupted(work, super::CONTINUE).await?;
    if let Some(successor) = successor {
        progress.warn(&format!(
            "Its successor {successor} is still there: `sparkha teardown {successor}` removes it"
        ));
    }
    Ok(())
}

impl Arguments {
    /// Asks for confirmation once, for all running jobs and data.
    async fn confirm(&self, platform: &dyn Platform, owned: &OwnedResources, progress: &Progress) -> Result<(), Error> {
        if self.yes {
            return Ok(());
        }
        let running = running(platform).await.unwrap_or_else(|error| {
            // Teardown also removes clusters with damaged files.
            progress.warn(&format!("Running jobs are unknown: {}", with_sources(&error)));
            RunningJobs::default()
        });
        if running.no_leader {
            progress.warn("No master leads: jobs whose drivers sparkha did not start are unknown");
        }
        let losses = Losses {
            jobs: running.jobs.iter().map(job_name).collect(),
            data: match self.keep_data {
                true => vec![],
                false => data(&owned.claim_names(), owned.znodes.as_deref()),
            },
        };
        match losses.consequence() {
            None => Ok(()),
            Some(consequence) => super::confirm(&consequence, "Continue?", losses.help()),
        }
    }
}

/// The data that `--keep-data` keeps.
fn data(claims: &[String], znodes: Option<&str>) -> Vec<String> {
    let count = counted(claims.len(), "volume claim");
    let claims = (!claims.is_empty()).then(|| format!("{count} with data ({})", claims.join(", ")));
    claims.into_iter().chain(znodes.map(str::to_owned)).collect()
}

/// Jobs and data that teardown would end or remove, and asks about.
struct Losses {
    jobs: Vec<String>,
    data: Vec<String>,
}

impl Losses {
    /// `None` if nothing would be lost.
    fn consequence(&self) -> Option<String> {
        let jobs = match &self.jobs[..] {
            [] => None,
            [job] => Some(format!("1 job runs: {job}")),
            jobs => Some(format!("{} jobs run: {}", jobs.len(), jobs.join(", "))),
        };
        let data = (!self.data.is_empty()).then(|| format!("this would be removed: {}", self.data.join("; ")));
        let parts: Vec<_> = jobs.into_iter().chain(data).collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    fn help(&self) -> &'static str {
        match (self.jobs.is_empty(), self.data.is_empty()) {
            (false, false) => {
                "`sparkha teardown --yes` ends the jobs and removes the data, `sparkha teardown --yes --keep-data` keeps the data"
            }
            (false, true) => "`sparkha teardown --yes` ends them; `sparkha jobs` shows them",
            (true, _) => "`sparkha teardown --yes` removes the data, `sparkha teardown --keep-data` keeps it",
        }
    }
}

/// Its ID, name and driver, if known.
fn job_name(job: &JobState) -> String {
    let driver = job.driver.as_ref().map(|driver| format!("driver {driver}"));
    match &job.id {
        None => driver.unwrap_or_default(),
        Some(id) => {
            let more: Vec<_> = [Some(job.name.clone()), driver].into_iter().flatten().collect();
            visible(&format!("{id} ({})", more.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_question_lists_all_jobs_and_data() {
        let job = |id: Option<&str>, driver: Option<&str>| JobState {
            id: id.map(str::to_owned),
            name: "etl".into(),
            driver: driver.map(str::to_owned),
            ..JobState::default()
        };
        let jobs = [
            job(Some("app-1"), Some("d-1")),
            job(Some("app-2"), None),
            job(None, Some("d-2")),
        ];
        let of = |jobs: &[JobState], data: Vec<String>| Losses {
            jobs: jobs.iter().map(job_name).collect(),
            data,
        };
        assert_eq!(of(&[], data(&[], None)).consequence(), None);
        let one = of(&jobs[..1], vec![]);
        assert_eq!(one.consequence().unwrap(), "1 job runs: app-1 (etl, driver d-1)");
        assert!(one.help().contains("--yes` ends them"));
        let all = of(&jobs, data(&["a".into(), "b".into()], Some("znodes")));
        assert_eq!(
            all.consequence().unwrap(),
            "3 jobs run: app-1 (etl, driver d-1), app-2 (etl), driver d-2; \
             this would be removed: 2 volume claims with data (a, b); znodes"
        );
        assert!(all.help().contains("--yes --keep-data"));
        let mut hidden = job(Some("app-1"), None);
        hidden.name = "\u{1b}[8m\n".into();
        assert_eq!(job_name(&hidden), r"app-1 (\u{1b}[8m\n)");
    }
}
