//! Waits until a cluster is in service. Masters, ZooKeeper servers and workers report that themselves; applied objects
//! are not enough. Problems are reported when they appear. A problem that cannot resolve itself ends the wait.

use std::collections::BTreeMap;
use std::ops::ControlFlow::{Break, Continue};
use std::time::Instant;

use kube::ResourceExt;

use crate::console::progress::Progress;
use crate::lifecycle::{Error, longer};
use crate::model::reports::MasterStatus;
use crate::platform::poll::poll_until;
use crate::platform::{Bounds, Observation, Platform};
use crate::render::inventory::Inventory;
use crate::spec::words::counted;
use crate::state::decommissioning::decommissioning;
use crate::state::readiness::NotReady;
use crate::state::s3::LOG_LINES;
use crate::state::trouble::{RestartBaseline, Trouble, TroubleKind, troubles};
use crate::state::{ClusterState, Facts, ZooKeeperState, cluster_state, serving};

/// Waits until the cluster is in service.
pub async fn until_ready(
    platform: &dyn Platform,
    inventory: &Inventory,
    bounds: &Bounds<'_>,
) -> Result<ClusterState, Error> {
    let progress = bounds.progress;
    let started = Instant::now();
    let mut patience = Patience::default();
    poll_until(platform.poll_interval(), bounds.remaining(), async || {
        let facts = platform.facts(Observation::Repeated).await?;
        let state = cluster_state(platform.namespace().as_str(), inventory, &facts);
        show(&state, progress);
        if state.ready {
            progress.clear_parts();
            progress.done(&format!("In service after {:.1} s", started.elapsed().as_secs_f64()));
            return Ok(Break(state));
        }
        let mut hopeless = patience.observe(platform, &facts, progress).await;
        hopeless.retain(|trouble| !waits_for_quorum(trouble, &state));
        if !hopeless.is_empty() {
            return Err(Error::DoesNotComeUp {
                troubles: with_logs(platform, &facts, hopeless).await,
            });
        }
        Ok(Continue(Error::NotInTime {
            subject: "the cluster is not in service".into(),
            waited: bounds.timeout,
            missing: state.not_ready.iter().map(ToString::to_string).collect(),
            help: format!(
                "{}; `sparkha status` shows the progress (after a first create only with --retain)",
                longer(bounds.timeout)
            ),
        }))
    })
    .await
}

/// Whether a master crashes only because ZooKeeper has no quorum. It recovers once there is one.
fn waits_for_quorum(trouble: &Trouble, state: &ClusterState) -> bool {
    let has_quorum = |missing: &NotReady| match missing {
        NotReady::ZooKeeper { serving, expected } => 2 * serving > *expected,
        _ => true,
    };
    trouble.kind == TroubleKind::Crash
        && state.masters.iter().any(|master| master.pod.name == trouble.subject)
        && !state.not_ready.iter().all(has_quorum)
}

fn show(state: &ClusterState, progress: &Progress) {
    if let ZooKeeperState::Managed { servers } = &state.zookeeper {
        let (serving, all) = (serving(servers), counted(servers.len(), "server"));
        progress.part("ZooKeeper", &format!("{serving} of {all} in the quorum"));
    }
    let with = |status| {
        state
            .masters
            .iter()
            .filter(|master| master.status == Some(status))
            .count()
    };
    let (alive, standby) = (with(MasterStatus::Alive), with(MasterStatus::Standby));
    progress.part(
        "Masters",
        &format!("{alive} alive, {standby} standby of {}", state.masters.len()),
    );
    let workers = &state.workers;
    progress.part("Workers", &workers.registration());
    let decommissioning = decommissioning(state, workers.expected);
    if !decommissioning.is_empty() {
        progress.part("Removing", &decommissioning.now());
    }
    if let Some(history) = &state.history {
        progress.part("History", if history.ready { "ready" } else { "not ready" });
    }
    if let Some(connect) = &state.connect {
        progress.part("Connect", if connect.ready { "ready" } else { "not ready" });
    }
}

/// How long each problem has lasted.
#[derive(Default)]
pub struct Patience {
    restarts: RestartBaseline,
    since: BTreeMap<(TroubleKind, String), Instant>,
    reported: BTreeMap<(TroubleKind, String), String>,
}

impl Patience {
    /// Reports new problems, and returns those that have lasted too long.
    pub async fn observe(&mut self, platform: &dyn Platform, facts: &Facts, progress: &Progress) -> Vec<Trouble> {
        self.restarts.remember(facts);
        let observed = troubles(facts, &platform.events().await, &self.restarts);
        for trouble in self.news(&observed) {
            progress.warn(&trouble.to_string());
        }
        self.exhausted(&observed)
    }

    /// Problems that were not reported yet.
    pub fn news(&mut self, observed: &[Trouble]) -> Vec<Trouble> {
        observed
            .iter()
            .filter(|trouble| {
                let key = (trouble.kind, trouble.subject.clone());
                // The message may contain a counter, so each kind and subject is reported once.
                self.reported.insert(key, trouble.message.clone()).is_none()
            })
            .cloned()
            .collect()
    }

    /// Problems that have lasted too long.
    pub fn exhausted(&mut self, observed: &[Trouble]) -> Vec<Trouble> {
        let now = Instant::now();
        self.since
            .retain(|(kind, subject), _| observed.iter().any(|t| t.kind == *kind && t.subject == *subject));
        observed
            .iter()
            .filter(|trouble| {
                let since = self.since.entry((trouble.kind, trouble.subject.clone())).or_insert(now);
                now.duration_since(*since) >= trouble.kind.patience()
            })
            .cloned()
            .collect()
    }
}

/// Lines that are shown of a crashed container's log.
const LOG_SHOWN: usize = 12;

/// Troubles, with the last log lines of crashed containers.
pub async fn with_logs(platform: &dyn Platform, facts: &Facts, troubles: Vec<Trouble>) -> Vec<(Trouble, String)> {
    let mut reported = Vec::new();
    for trouble in troubles {
        let pod = facts.pods.iter().find(|pod| pod.name_any() == trouble.subject);
        let log = match pod {
            Some(pod) if trouble.kind == TroubleKind::Crash => platform.last_log(pod, LOG_LINES).await,
            _ => String::new(),
        };
        let trouble = trouble.explained(&log);
        let shown = match trouble.kind {
            TroubleKind::Crash => last_lines(&log, LOG_SHOWN),
            // The cause is in the message.
            _ => String::new(),
        };
        reported.push((trouble, shown));
    }
    reported
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_for_a_master_that_crashes_without_a_zookeeper_quorum() {
        let mut state = crate::state::tests::state();
        let crash = |subject: &str| Trouble {
            kind: TroubleKind::Crash,
            subject: subject.into(),
            message: String::new(),
        };
        let master = state.masters[0].pod.name.clone();
        let mut waits = |serving, subject: &str| {
            state.not_ready = vec![NotReady::ZooKeeper { serving, expected: 3 }];
            waits_for_quorum(&crash(subject), &state)
        };
        assert!(waits(1, &master));
        assert!(!waits(2, &master));
        assert!(!waits(1, "spark-zookeeper-0"));
    }
}
