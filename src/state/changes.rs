//! Differences between two observed states of a cluster, as short messages for `status --watch`. Pure.

use std::collections::BTreeMap;

use super::{ClusterState, PodState, ZooKeeperState};
use crate::spec::words::counted;

/// The changes, in the order of components.
pub fn changes(before: &ClusterState, after: &ClusterState) -> Vec<String> {
    let mut changes = Vec::new();
    let (old, new) = (members(before), members(after));
    for (name, now) in &new {
        match old.get(name) {
            Some(then) => changes.extend(then.difference(now).map(|words| format!("{name} {words}"))),
            None => changes.push(format!("{name} is new: {}", now.words())),
        }
    }
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    changes.extend(gone.map(|name| format!("{name} is gone")));
    let (old, new) = (applications(before), applications(after));
    let begun = new.iter().filter(|(id, _)| !old.contains_key(*id));
    changes.extend(begun.map(|(id, name)| format!("application {name} has started ({id})")));
    let ended = old.iter().filter(|(id, _)| !new.contains_key(*id));
    // Without a leader, applications are unknown.
    let ended = ended.filter(|_| after.leader().is_some());
    changes.extend(ended.map(|(id, name)| format!("application {name} has ended ({id})")));
    let is_new = |warning: &&super::nodes::Warning| !before.warnings.contains(warning);
    changes.extend(after.warnings.iter().filter(is_new).map(ToString::to_string));
    match (before.ready, after.ready) {
        (false, true) => changes.push("the cluster is in service".into()),
        (true, false) => {
            let reasons: Vec<_> = after.not_ready.iter().map(ToString::to_string).collect();
            changes.push(format!("the cluster is NOT READY: {}", reasons.join("; ")));
        }
        _ => {}
    }
    changes
}

/// The state of a member.
struct MemberState<'a> {
    pod: &'a PodState,
    /// Its own report, or the leader's.
    state: String,
}

impl MemberState<'_> {
    fn words(&self) -> String {
        match self.pod.phase.as_str() {
            "Running" => self.state.clone(),
            phase => format!("{phase}, {}", self.state),
        }
    }

    fn difference(&self, now: &MemberState<'_>) -> Option<String> {
        let (then, is) = (self.words(), now.words());
        let restarts = now.pod.restarts - self.pod.restarts;
        match (then == is, restarts > 0) {
            (true, false) => None,
            (true, true) => Some(format!(
                "was restarted ({} in total)",
                counted(now.pod.restarts, "time")
            )),
            (false, false) => Some(format!("was {then}, and is {is}")),
            (false, true) => Some(format!("was {then}, was restarted, and is {is}")),
        }
    }
}

fn members(state: &ClusterState) -> BTreeMap<&str, MemberState<'_>> {
    let mut members = Vec::new();
    for master in &state.masters {
        let state = master
            .status
            .map_or_else(|| "silent".into(), |status| status.to_string());
        members.push((&master.pod, state));
    }
    if let ZooKeeperState::Managed { servers } = &state.zookeeper {
        for server in servers {
            let state = server
                .mode
                .map_or_else(|| "in no quorum".into(), |mode| mode.to_string());
            members.push((&server.pod, state));
        }
    }
    for worker in &state.workers.pods {
        let state = state.workers.shown_state(worker);
        members.push((&worker.pod, state));
    }
    let members = members.into_iter();
    members
        .map(|(pod, state)| (pod.name.as_str(), MemberState { pod, state }))
        .collect()
}

fn applications(state: &ClusterState) -> BTreeMap<&str, &str> {
    let applications = state.applications.iter();
    applications.map(|app| (app.id.as_str(), app.name.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::super::readiness::NotReady;
    use super::super::tests::state;
    use super::*;
    use crate::model::reports::MasterStatus;

    #[test]
    fn a_failover_is_reported() {
        let before = state();
        let mut after = before.clone();
        assert_eq!(changes(&before, &after), Vec::<String>::new());
        after.masters[0].status = None;
        after.masters[0].pod.phase = "Missing".into();
        after.masters[1].status = Some(MasterStatus::Recovering);
        after.applications.clear();
        after.ready = false;
        after.not_ready = vec![NotReady::NoLeader { recovering: None }];
        assert_eq!(
            changes(&before, &after),
            [
                "spark-master-0 was ALIVE, and is Missing, silent",
                "spark-master-1 was STANDBY, and is RECOVERING",
                "the cluster is NOT READY: no master is ALIVE",
            ]
        );
        let mut later = after.clone();
        later.masters[0] = before.masters[0].clone();
        later.masters[0].status = Some(MasterStatus::Standby);
        later.masters[0].pod.restarts = 1;
        later.masters[1].status = Some(MasterStatus::Alive);
        later.workers.pods.clear();
        later.ready = true;
        assert_eq!(
            changes(&after, &later),
            [
                "spark-master-0 was Missing, silent, was restarted, and is STANDBY",
                "spark-master-1 was RECOVERING, and is ALIVE",
                "spark-worker-0 is gone",
                "the cluster is in service",
            ]
        );
        assert_eq!(
            changes(
                &before,
                &ClusterState {
                    applications: vec![],
                    ..before.clone()
                }
            ),
            ["application squares has ended (app-1)"]
        );
    }
}
