//! An overview of a cluster. On Kubernetes it has the inventory's summary and the number of ready pods. It needs no requests to masters or
//! ZooKeeper servers, so a hundred clusters are listed as quickly as one. Only a [`ClusterState`] tells whether a cluster is in service. On
//! this machine, where requests are cheap, the overview is computed from it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Serialize;

use super::{ClusterState, Facts, ZooKeeperState, is_ready, pods_of};
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

/// Computes the overview; it needs only the pods of the facts.
pub fn overview(namespace: &str, inventory: &Inventory, facts: &Facts, created: Option<Time>) -> Overview {
    let summary = &inventory.cluster;
    let count = |component, expected| Count {
        ready: pods_of(facts, component).filter(|pod| is_ready(pod)).count() as u32,
        expected,
    };
    let masters = count(Component::Master, summary.masters);
    let expected = match inventory.is_autoscaled() {
        // The autoscaler determines the number.
        true => pods_of(facts, Component::Worker).count() as u32,
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
            ZooKeeperState::Managed { servers } => {
                let serving = servers.iter().filter(|server| server.mode.is_some()).count();
                Some(count(serving, servers.len()))
            }
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
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::super::cluster_state;
    use super::*;
    use crate::model::labels::{COMPONENT, INSTANCE};
    use crate::spec::resolve::{Source, resolve};

    fn pod(name: &str, component: &str, ready: bool) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {INSTANCE: "spark", COMPONENT: component}},
            "status": {"containerStatuses": [
                {"name": component, "ready": ready, "restartCount": 0, "image": "", "imageID": ""},
            ]},
        }))
        .unwrap()
    }

    #[test]
    fn a_cluster_is_ready_if_all_expected_pods_are_ready() {
        let text = "masters: {count: 2}\nworkers: {count: 1}\nzookeeper: {count: 1}\n";
        let spec = resolve(Some(Source { name: "f", text }), &Default::default()).unwrap();
        let inventory = Inventory::of(&spec, &[]);
        let mut pods = vec![
            pod("spark-master-0", "master", true),
            pod("spark-master-1", "master", false),
            pod("spark-zookeeper-0", "zookeeper", true),
            pod("spark-worker-0", "worker", true),
            pod("job", "driver", false),
        ];
        let look = |pods: &[Pod]| {
            let facts = Facts {
                pods: pods.to_vec(),
                ..Default::default()
            };
            overview("data", &inventory, &facts, None)
        };
        let counts = |seen: &Overview| {
            let zookeeper = seen.zookeeper.map(|count| count.to_string());
            (
                seen.masters.to_string(),
                zookeeper,
                seen.workers.to_string(),
                seen.ready,
            )
        };
        assert_eq!(
            counts(&look(&pods)),
            ("1/2".into(), Some("1/1".into()), "1/1".into(), false)
        );
        pods[1] = pod("spark-master-1", "master", true);
        assert!(look(&pods).ready);
        pods[1].metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
        assert!(!look(&pods).ready);
    }

    #[test]
    fn the_history_server_counts_as_a_component() {
        let text = "masters: {count: 1}\nworkers: {count: 1}\nhistory: {}\n";
        let spec = resolve(Some(Source { name: "f", text }), &Default::default()).unwrap();
        let inventory = Inventory::of(&spec, &[]);
        let mut pods = vec![
            pod("spark-master-0", "master", true),
            pod("spark-worker-0", "worker", true),
            pod("spark-history-0", "history-server", false),
        ];
        let look = |pods: &[Pod]| {
            let facts = Facts {
                pods: pods.to_vec(),
                ..Default::default()
            };
            overview("data", &inventory, &facts, None)
        };
        assert!(!look(&pods).ready);
        pods[2] = pod("spark-history-0", "history-server", true);
        assert!(look(&pods).ready);
        assert_eq!(look(&pods).in_service, None, "in_service needs a state");
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
