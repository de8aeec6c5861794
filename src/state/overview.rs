//! An overview of a cluster. On Kubernetes it has the inventory's summary and the number of ready pods. It needs no requests to masters or
//! ZooKeeper servers, so a hundred clusters are listed as quickly as one. Only a [`ClusterState`] tells whether a cluster is in service. On
//! this machine, where requests are cheap, the overview is computed from it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Serialize;

use super::{ClusterState, ZooKeeperState, serving};
use crate::model::labels::Component;
use crate::render::inventory::{Inventory, ZooKeeperSummary};

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Overview {
    pub namespace: String,
    pub name: String,
    pub image: String,
    /// Whether the cluster is in service, if known; otherwise whether all pods are ready.
    pub ready: bool,
    /// As in `sparkha status`; `None` if only pods were observed.
    pub in_service: Option<bool>,
    pub masters: Count,
    /// `None` without a managed ZooKeeper.
    pub zookeeper: Option<Count>,
    pub workers: Count,
    /// `None` on the local platform.
    pub created: Option<Time>,
}

/// The number of ready pods (or of serving members, if known), and the expected number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Count {
    pub ready: u32,
    pub expected: u32,
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.ready, self.expected)
    }
}

/// The pods of a cluster, by component: how many are ready, and how many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodCounts(BTreeMap<Component, (u32, u32)>);

impl PodCounts {
    pub fn add(&mut self, component: Component, is_ready: bool) {
        let (ready, all) = self.0.entry(component).or_default();
        *ready += u32::from(is_ready);
        *all += 1;
    }

    fn of(&self, component: Component) -> (u32, u32) {
        self.0.get(&component).copied().unwrap_or_default()
    }
}

/// Computes the overview.
pub fn overview(namespace: &str, inventory: &Inventory, pods: &PodCounts, created: Option<Time>) -> Overview {
    let summary = &inventory.cluster;
    let count = |component, expected| Count {
        ready: pods.of(component).0,
        expected,
    };
    let masters = count(Component::Master, summary.masters);
    let expected = match inventory.is_autoscaled() {
        // The autoscaler determines the number.
        true => pods.of(Component::Worker).1,
        false => summary.workers.count,
    };
    let workers = count(Component::Worker, expected);
    let zookeeper = match summary.zookeeper {
        ZooKeeperSummary::Managed { count: expected, .. } => Some(count(Component::ZooKeeper, expected)),
        ZooKeeperSummary::None | ZooKeeperSummary::External { .. } => None,
    };
    let others = [
        (Component::History, summary.history),
        (Component::Connect, summary.connect),
    ];
    let others = others.map(|(component, is_wanted)| count(component, is_wanted.into()));
    let mut counts = [masters, workers].into_iter().chain(zookeeper).chain(others);
    Overview {
        namespace: namespace.to_owned(),
        name: summary.name.to_string(),
        image: summary.image.clone(),
        ready: counts.all(|count| count.ready == count.expected),
        in_service: None,
        masters,
        zookeeper,
        workers,
        created,
    }
}

/// The overview of a cluster with a known state.
pub fn of_state(state: &ClusterState) -> Overview {
    let count = |ready: usize, expected: usize| Count {
        ready: ready as u32,
        expected: expected as u32,
    };
    let answering = state.masters.iter().filter(|master| master.status.is_some()).count();
    Overview {
        namespace: state.namespace.clone(),
        name: state.name.clone(),
        image: state.image.clone(),
        ready: state.ready,
        in_service: Some(state.ready),
        masters: count(answering, state.masters.len()),
        zookeeper: match &state.zookeeper {
            ZooKeeperState::Managed { servers } => Some(count(serving(servers), servers.len())),
            ZooKeeperState::None | ZooKeeperState::External { .. } => None,
        },
        workers: Count {
            ready: state.workers.registered,
            expected: state.workers.expected,
        },
        created: None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Facts, cluster_state};
    use super::*;
    use crate::spec::resolve::{Source, resolve};

    /// The cluster of a file with these pods.
    fn seen(text: &str, pods: &[(Component, bool)]) -> Overview {
        let spec = resolve(Some(Source { name: "f", text }), &Default::default()).unwrap();
        let mut counts = PodCounts::default();
        pods.iter().for_each(|&(component, ready)| counts.add(component, ready));
        overview("data", &Inventory::of(&spec, &[]), &counts, None)
    }

    #[test]
    fn a_cluster_is_ready_if_all_expected_pods_are_ready() {
        let of = |second_master| {
            let text = "masters: {count: 2}\nworkers: {count: 1}\nzookeeper: {count: 1}\n";
            let pods = [
                (Component::Master, true),
                (Component::Master, second_master),
                (Component::ZooKeeper, true),
                (Component::Worker, true),
                (Component::Driver, false),
            ];
            seen(text, &pods)
        };
        let waiting = of(false);
        let counts = [Some(waiting.masters), waiting.zookeeper, Some(waiting.workers)];
        let counts = counts.map(|count| count.unwrap().to_string());
        assert_eq!((counts, waiting.ready), (["1/2", "1/1", "1/1"].map(Into::into), false));
        assert!(of(true).ready);
    }

    #[test]
    fn the_history_server_counts_as_a_component() {
        let of = |history| {
            let text = "masters: {count: 1}\nworkers: {count: 1}\nhistory: {}\n";
            let pods = [
                (Component::Master, true),
                (Component::Worker, true),
                (Component::History, history),
            ];
            seen(text, &pods)
        };
        assert!(!of(false).ready);
        assert!(of(true).ready);
        assert_eq!(of(true).in_service, None, "in_service needs a state");
    }

    #[test]
    fn an_overview_of_a_known_state_agrees_with_it() {
        let spec = resolve(None, &Default::default()).unwrap();
        let facts = Facts {
            unattended: true,
            ..Facts::default()
        };
        let mut state = cluster_state("data", &Inventory::of(&spec, &[]), &facts);
        let seen = of_state(&state);
        assert_eq!((seen.ready, seen.in_service), (false, Some(false)));
        assert_eq!(
            (seen.masters.to_string(), seen.workers.to_string()),
            ("0/3".into(), "0/2".into())
        );
        assert_eq!(seen.zookeeper.map(|count| count.to_string()), Some("0/3".into()));
        state.ready = true;
        assert_eq!(of_state(&state).in_service, Some(true));
    }
}
