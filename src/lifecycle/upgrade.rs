//! `sparkha upgrade`: changes the Spark version without losing an application. First the upgrade is recorded in the
//! inventory, so that `sparkha submit` accepts no new jobs. Then it waits until no application runs. Then create
//! changes the version stage by stage. The upgrade looks for running drivers only after writing the mark, and submit
//! checks the mark again once its driver is visible: one of them sees the other.

use std::collections::BTreeMap;
use std::ops::ControlFlow::{Break, Continue};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::console::progress::Progress;
use crate::lifecycle::Error;
use crate::lifecycle::applications::described;
use crate::lifecycle::inventory::{baseline, inventory};
use crate::model::labels::Component;
use crate::model::reports::ApplicationReport;
use crate::platform::leader::{Leader, LeaderReport};
use crate::platform::poll::poll_until;
use crate::platform::{Intent, Platform};
use crate::render::inventory::{Inventory, Upgrade, UpgradePhase};
use crate::state::{Facts, cluster_state};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The application name that connect.sh gives to the Connect server.
const CONNECT: &str = "Spark Connect";
/// Hint after an interrupted or timed-out upgrade with a successor.
pub const NEXT_BESIDE: &str = "run the same command to continue, or `sparkha upgrade --abort` to go back";
/// Hint after an interrupted or timed-out upgrade.
pub const NEXT: &str = "run the same command to continue; until then `sparkha submit` accepts no jobs for this cluster, unless `sparkha upgrade --abort` aborts \
                        the upgrade";

/// Records in the inventory whether an upgrade is in progress. `decide` gets what it has recorded, in the version that is changed.
pub async fn mark(
    platform: &dyn Platform,
    decide: impl FnOnce(Option<&Upgrade>) -> Result<Option<Upgrade>, Error>,
) -> Result<(), Error> {
    let (baseline, inventory) = baseline(platform).await?;
    let upgrade = decide(inventory.cluster.upgrade.as_ref())?;
    if upgrade == inventory.cluster.upgrade {
        return Ok(());
    }
    let marked = inventory.with_upgrade(upgrade);
    let mut lock = platform.lock(&baseline, Intent::change(&marked)).await?;
    Ok(lock.release(&marked, false).await?)
}

/// Fails if the inventory does not record this upgrade any more: another command has aborted or completed it. What waited for running
/// applications must not go on then, because the cluster takes jobs again.
pub fn is_in_progress(inventory: Option<&Inventory>, upgrade: &Upgrade) -> Result<(), Error> {
    let there = inventory.and_then(|inventory| inventory.cluster.upgrade.as_ref());
    if there.is_some_and(|there| there.is_same(upgrade)) {
        return Ok(());
    }
    Err(Error::InUse {
        message: format!(
            "another command has aborted or completed the upgrade from Spark {} to {} meanwhile",
            upgrade.from, upgrade.to
        ),
        help: "`sparkha status` shows the version; run the same command to start the upgrade again".into(),
    })
}

/// What runs on the cluster.
pub async fn active(platform: &dyn Platform, inventory: &Inventory) -> Result<ActiveJobs, Error> {
    let pods = platform.pods().await?;
    let running = platform.drivers().await?.into_iter().filter(|driver| !driver.ended);
    let reply = Leader::new(platform.transport()).query(pods.clone()).await;
    let facts = Facts {
        pods,
        ..Facts::default()
    };
    let connect = cluster_state(platform.namespace().as_str(), inventory, &facts).connect;
    let connect_ui = connect.and_then(|connect| connect.web_ui);
    Ok(ActiveJobs::of(
        reply,
        running.map(|driver| driver.pod.name_any()).collect(),
        inventory,
        connect_ui.as_deref(),
        facts.pods.iter().any(is_running_master),
    ))
}

fn is_running_master(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    Component::of(pod.labels()) == Some(Component::Master) && phase == Some("Running")
}

/// Applications and drivers that an upgrade would kill.
#[derive(Debug, Default, PartialEq)]
pub struct ActiveJobs {
    applications: Vec<ApplicationReport>,
    /// Drivers that sparkha started. Their applications are starting, running or have just ended.
    drivers: Vec<String>,
    /// Masters run but none leads, so the applications are not known.
    unknown: bool,
}

impl ActiveJobs {
    fn of(
        reply: Option<LeaderReport>,
        drivers: Vec<String>,
        inventory: &Inventory,
        connect_ui: Option<&str>,
        are_masters_up: bool,
    ) -> Self {
        let unknown = reply.is_none() && are_masters_up;
        let Some(LeaderReport { report, page }) = reply else {
            return Self {
                drivers,
                unknown,
                ..Self::default()
            };
        };
        let uis: BTreeMap<_, _> = page.driver_uis.into_iter().collect();
        // The upgrade restarts the cluster's own Connect server. Its web UI distinguishes it from a job with the same
        // name.
        let is_connect = |app: &ApplicationReport| {
            let ui = uis.get(&app.id).map(|ui| ui.trim_end_matches('/'));
            inventory.cluster.connect && app.name == CONNECT && (ui.is_none() || ui == connect_ui)
        };
        let applications = report.activeapps.into_iter().filter(|app| !is_connect(app));
        Self {
            applications: applications.collect(),
            drivers,
            unknown,
        }
    }

    fn are_none(&self) -> bool {
        self.applications.is_empty() && self.drivers.is_empty() && !self.unknown
    }

    /// One line for each application and driver that is known. Without a leader no application can have begun.
    pub fn known(&self) -> Vec<String> {
        self.applications
            .iter()
            .map(described)
            .chain(self.driver_lines())
            .collect()
    }

    fn driver_lines(&self) -> impl Iterator<Item = String> {
        self.drivers.iter().map(|driver| format!("driver {driver}"))
    }

    /// One line for each application, or for each driver if there is none.
    fn lines(&self, now_ms: u64) -> Vec<String> {
        if self.unknown {
            return vec!["no master leads, so the running applications are not known".into()];
        }
        if self.applications.is_empty() {
            return self.driver_lines().collect();
        }
        let since = |app: &ApplicationReport| age(now_ms.saturating_sub(app.started_ms) / 1000);
        let lines = self.applications.iter();
        lines
            .map(|app| format!("{} for {}", described(app), since(app)))
            .collect()
    }
}

/// Seconds for people: in whole minutes, so that a line is written once a minute.
fn age(seconds: u64) -> String {
    match seconds {
        0..60 => "less than a minute".into(),
        60..3600 => format!("{} min", seconds / 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// Stops accepting new jobs, or sends them to the successor, and waits until no application runs.
pub async fn drain(
    platform: &dyn Platform,
    upgrade: &Upgrade,
    timeout: Duration,
    progress: &Progress,
) -> Result<(), Error> {
    let is_same = |there: &&Upgrade| there.is_same(upgrade);
    mark(platform, |there| Ok(there.filter(is_same).or(Some(upgrade)).cloned())).await?;
    let what = format!("Spark {} → {}", upgrade.from, upgrade.to);
    let successor = &upgrade.successor;
    progress.done(&match successor {
        Some(successor) => format!("{what}: `sparkha submit` sends new jobs to {successor}"),
        None => format!("{what}: `sparkha submit` accepts no new jobs until it is done"),
    });
    poll_until(LOOK_EVERY, timeout, async || {
        let inventory = inventory(platform).await?;
        is_in_progress(Some(&inventory), upgrade)?;
        let active = active(platform, &inventory).await?;
        if active.are_none() {
            progress.clear_parts();
            progress.done("No application runs");
            return Ok(Break(()));
        }
        let lines = active.lines(Timestamp::now().as_millisecond().unsigned_abs());
        progress.part("Draining", &lines.join("; "));
        Ok(Continue(Error::NotDrained {
            seconds: timeout.as_secs(),
            running: lines,
            next: match successor {
                Some(_) => NEXT_BESIDE,
                None => NEXT,
            },
        }))
    })
    .await
}

/// Accepts new jobs again, if no pod was changed yet.
pub async fn abort(platform: &dyn Platform, progress: &Progress) -> Result<(), Error> {
    let mut from = None;
    mark(platform, |upgrade| match upgrade {
        Some(upgrade) if upgrade.phase == UpgradePhase::Changing => Err(Error::InUse {
            message: format!("Spark {} → {} has already changed pods", upgrade.from, upgrade.to),
            help: format!(
                "run `sparkha upgrade` with the same arguments to finish it; no application runs then, so another upgrade, to Spark {} \
                 (image {}), reverts it",
                upgrade.from, upgrade.from_image
            ),
        }),
        upgrade => {
            from = upgrade.map(|upgrade| upgrade.from.clone());
            Ok(None)
        }
    })
    .await?;
    progress.done(&match from {
        Some(from) => format!("Spark stays {from}: `sparkha submit` accepts jobs again"),
        None => "No upgrade is in progress".into(),
    });
    Ok(())
}

/// Refuses new jobs while an upgrade is in progress: they would be lost or delay it. With a successor, a job that was
/// already being submitted is waited for.
pub fn takes_jobs(inventory: &Inventory) -> Result<(), Error> {
    match &inventory.cluster.upgrade {
        None => Ok(()),
        Some(upgrade) if upgrade.successor.is_some() => Ok(()),
        Some(upgrade) => Err(Error::InUse {
            message: format!(
                "the cluster is being upgraded from Spark {} to {} and accepts no new jobs until that is done",
                upgrade.from, upgrade.to
            ),
            help: "submit the job again later; `sparkha upgrade --abort` aborts the upgrade while it only waits".into(),
        }),
    }
}

/// Refuses changes of a cluster that is removed after its last job.
pub fn takes_changes(inventory: Option<&Inventory>) -> Result<(), Error> {
    match inventory.and_then(Inventory::successor) {
        None => Ok(()),
        Some(successor) => Err(Error::InUse {
            message: format!(
                "new jobs run on its successor {successor}, and this cluster is removed after its last job"
            ),
            help: format!(
                "`sparkha create {successor}` changes the successor; `sparkha upgrade --side-by-side` continues the upgrade, `sparkha upgrade --abort` aborts it"
            ),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::spark::MasterPage;
    use crate::model::reports::{MasterReport, MasterStatus};
    use crate::spec::resolve::{Source, resolve};

    fn inventory(text: &str) -> Inventory {
        let source = Source {
            name: "sparkha.yaml",
            text,
        };
        Inventory::of(&resolve(Some(source), &Default::default()).unwrap(), &[])
    }

    fn app(id: &str, name: &str) -> ApplicationReport {
        ApplicationReport {
            id: id.into(),
            name: name.into(),
            cores: 2,
            user: "ann".into(),
            state: "RUNNING".into(),
            memory_per_executor: 600,
            started_ms: 60_000,
            duration: 0,
        }
    }

    fn reply(apps: Vec<ApplicationReport>, uis: &[(&str, &str)]) -> Option<LeaderReport> {
        Some(LeaderReport {
            report: MasterReport {
                status: MasterStatus::Alive,
                url: String::new(),
                workers: vec![],
                activeapps: apps,
                completedapps: vec![],
            },
            page: MasterPage {
                version: None,
                driver_uis: uis.iter().map(|&(id, ui)| (id.to_owned(), ui.to_owned())).collect(),
            },
        })
    }

    #[test]
    fn the_clusters_own_connect_server_does_not_delay_an_upgrade() {
        let (with, without) = (inventory("connect: true\n"), inventory(""));
        let ui = Some("http://spark-1:4040");
        let apps = || vec![app("app-1", "Spark Connect"), app("app-2", "job")];
        let active = |inventory, uis| {
            let active = ActiveJobs::of(reply(apps(), uis), vec![], inventory, ui, true);
            active.applications.iter().map(|app| app.id.clone()).collect::<Vec<_>>()
        };
        assert_eq!(active(&with, &[("app-1", "http://spark-1:4040")]), ["app-2"]);
        // A job with that name is a job.
        assert_eq!(active(&with, &[("app-1", "http://spark-9:4040")]), ["app-1", "app-2"]);
        assert_eq!(
            active(&without, &[("app-1", "http://spark-1:4040")]),
            ["app-1", "app-2"]
        );
    }

    #[test]
    fn drivers_and_unreachable_leaders_delay_an_upgrade() {
        let inventory = inventory("");
        let of = |reply, drivers: &[&str], up| {
            let drivers = drivers.iter().map(|&driver| driver.to_owned()).collect();
            ActiveJobs::of(reply, drivers, &inventory, None, up)
        };
        assert!(of(reply(vec![], &[]), &[], true).are_none());
        assert!(of(None, &[], false).are_none());
        assert_eq!(
            of(None, &[], true).lines(0),
            ["no master leads, so the running applications are not known"]
        );
        assert_eq!(
            of(reply(vec![], &[]), &["spark-driver-1"], true).lines(0),
            ["driver spark-driver-1"]
        );
        let running = of(reply(vec![app("app-1", "job")], &[]), &["spark-driver-1"], true);
        assert_eq!(running.lines(200_000), ["app-1 job of ann (2 cores) for 2 min"]);
    }

    #[test]
    fn a_cluster_being_upgraded_accepts_no_jobs() {
        let upgrade = |phase| Upgrade {
            phase,
            ..Upgrade::of_images("spark:4.2.1".into(), "spark:4.3.0".into())
        };
        assert!(takes_jobs(&inventory("")).is_ok());
        for phase in [UpgradePhase::Draining, UpgradePhase::Changing] {
            let marked = inventory("").with_upgrade(Some(upgrade(phase)));
            let error = takes_jobs(&marked).unwrap_err();
            assert!(error.to_string().contains("from Spark 4.2.1 to 4.3.0"), "{error}");
        }
    }
}
