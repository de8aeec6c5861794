//! Explains with numbers why a job gets no executors.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;

use crate::console::progress::Progress;
use crate::jobs::orphans::{DriverUi, orphans};
use crate::jobs::submit::capacity::{ExecutorCapacity, executor_capacity};
use crate::jobs::submit::job::ResourceRequest;
use crate::lifecycle::Error;
use crate::model::reports::{ApplicationReport, MasterReport, WorkerReport};
use crate::platform::leader::{Leader, LeaderReport};
use crate::render::inventory::Inventory;
use crate::spec::quantity::Memory;

/// Interval of queries to the leader while the job waits for executors.
const POLL_EVERY: Duration = Duration::from_millis(500);
/// How long an application may wait for executors before that is reported: starting one takes a moment.
const EXPLAIN_AFTER: Duration = Duration::from_secs(3);

/// Interval of checks that the leader still knows a running application.
const ORPHAN_CHECK_EVERY: Duration = Duration::from_secs(10);

/// A waiting job.
pub struct Explained<'a> {
    pub inventory: &'a Inventory,
    /// Applications that existed before.
    pub known: Vec<String>,
    /// Prefix of the address of the driver's web UI.
    pub ui_prefix: Option<String>,
    /// The driver's web UI, if the driver is followed to its end.
    pub ui: Option<DriverUi>,
    pub request: ResourceRequest,
    /// The job sets its number of cores.
    pub sets_cores: bool,
    pub wait: bool,
}

/// The IDs of the applications that have not ended.
pub fn active_ids(report: &MasterReport) -> Vec<String> {
    report.activeapps.iter().map(|app| app.id.clone()).collect()
}

/// Reports with numbers why the application gets no executors, until it has some. Returns only if it can never get any.
/// Afterwards reports if the leader no longer knows the application.
pub async fn explain(
    leader: &mut Leader,
    application: &mut Option<String>,
    masters: impl Fn() -> Vec<Pod>,
    explained: Explained<'_>,
    progress: &Progress,
) -> Error {
    let mut waits_since = None;
    let mut reported = String::new();
    loop {
        tokio::time::sleep(POLL_EVERY).await;
        let report = if application.is_none() {
            let reply = leader.query(masters()).await;
            *application = reply.as_ref().and_then(|reply| own(reply, &explained));
            reply.map(|reply| reply.report)
        } else {
            leader.report(masters()).await.map(|(_, report)| report)
        };
        let (Some(report), Some(id)) = (report, application.as_ref()) else {
            continue;
        };
        let Some(app) = report.activeapps.iter().find(|app| app.id == *id) else {
            continue;
        };
        if app.state != "WAITING" {
            progress.part("Job", &format!("{id} runs{}", share(app, &report.workers, &explained)));
            if let Some(ui) = explained.ui {
                until_orphaned(leader, masters, ui, progress).await;
            }
            return std::future::pending().await;
        }
        progress.part("Job", &format!("{id} waits for executors"));
        // Only the application itself decides what it requests, so it is known from now on.
        let request = ResourceRequest {
            executor_memory: Some(Memory::from_mib(app.memory_per_executor)),
            ..explained.request
        };
        let since = *waits_since.get_or_insert_with(Instant::now);
        match executor_capacity(request, &report.workers, &explained.inventory.cluster.workers) {
            ExecutorCapacity::Never(message) if !explained.wait => return Error::NoCapacity { message },
            ExecutorCapacity::Never(message) | ExecutorCapacity::Later(message)
                if since.elapsed() >= EXPLAIN_AFTER && message != reported =>
            {
                progress.warn(&format!("no executors yet: {message}"));
                reported = message;
            }
            ExecutorCapacity::Enough if since.elapsed() >= EXPLAIN_AFTER * 3 && reported.is_empty() => {
                reported =
                    "no executors yet although there is capacity: an application whose code sets spark.cores.max below \
                        spark.executor.cores gets none"
                        .into();
                progress.warn(&reported);
            }
            _ => {}
        }
    }
}

/// Waits until the leader does not know the driver's application, and reports that.
async fn until_orphaned(leader: &mut Leader, masters: impl Fn() -> Vec<Pod>, ui: DriverUi, progress: &Progress) {
    loop {
        tokio::time::sleep(ORPHAN_CHECK_EVERY).await;
        let found = orphans(leader, masters(), vec![ui.clone()]).await;
        if let Some(orphan) = found.first() {
            progress.warn(&orphan.warning());
            return;
        }
    }
}

/// The application's share of the cluster, if a default limits it.
fn share(app: &ApplicationReport, workers: &[WorkerReport], explained: &Explained<'_>) -> String {
    let executors = explained.inventory.cluster.executors;
    let default = executors.and_then(|executors| executors.default_cores);
    let alive = workers.iter().filter(|worker| worker.state == "ALIVE");
    let all: u32 = alive.map(|worker| worker.cores).sum();
    match default {
        Some(default) if !explained.sets_cores && default < all => format!(
            " on {} of {all} cores, the cluster's default is {default}; --total-executor-cores requests more",
            app.cores
        ),
        _ => String::new(),
    }
}

/// The application of this driver: the new one with its web UI, or without a web UI the only new one.
fn own(reply: &LeaderReport, explained: &Explained<'_>) -> Option<String> {
    let uis = &reply.page.driver_uis;
    let prefix = explained.ui_prefix.as_deref();
    let is_its = |address: &str| prefix.is_some_and(|prefix| address.starts_with(prefix));
    let is_new = |id: &String| !explained.known.contains(id);
    if let Some((id, _)) = uis.iter().find(|(id, address)| is_new(id) && is_its(address)) {
        return Some(id.clone());
    }
    let has_ui = |id: &str| uis.iter().any(|(known, _)| known == id);
    let apps = reply.report.activeapps.iter().map(|app| &app.id);
    let new: Vec<_> = apps.filter(|id| is_new(id) && !has_ui(id)).collect();
    match new[..] {
        [id] => Some(id.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::spark::MasterPage;
    use crate::model::reports::MasterStatus;

    #[test]
    fn an_earlier_application_at_the_same_web_ui_is_another_drivers() {
        let spec = crate::spec::resolve::resolve(None, &Default::default()).unwrap();
        let inventory = crate::render::render(&spec).inventory;
        let uis = ["app-1", "app-2"].map(|id| (id.to_owned(), "http://driver:4040".to_owned()));
        let reply = LeaderReport {
            report: MasterReport {
                status: MasterStatus::Alive,
                url: String::new(),
                workers: vec![],
                activeapps: vec![],
                completedapps: vec![],
            },
            page: MasterPage {
                version: None,
                driver_uis: uis.into(),
            },
        };
        let explained = Explained {
            inventory: &inventory,
            known: vec!["app-1".into()],
            ui_prefix: Some("http://driver:4040".into()),
            ui: None,
            request: ResourceRequest::default(),
            sets_cores: false,
            wait: false,
        };
        assert_eq!(own(&reply, &explained), Some("app-2".into()));
    }
}
