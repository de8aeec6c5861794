//! A cluster at a glance: what its inventory promises, and how many of its pods are ready. It costs no question to masters or ZooKeepers,
//! so a hundred clusters are listed as quickly as one; whether a cluster really is in service, its [`super::ClusterState`] tells.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Serialize;

use super::{Facts, is_ready, pods_of};
use crate::render::inventory::{Inventory, ZooKeeperSummary};
use crate::render::labels::Component;

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Overview {
    pub namespace: String,
    pub name: String,
    pub image: String,
    /// As many pods are ready as should be.
    pub ready: bool,
    pub masters: Count,
    /// `None` where sparkha manages no ZooKeeper for it.
    pub zookeeper: Option<Count>,
    pub workers: Count,
    /// `None` on the local platform.
    pub created: Option<Time>,
}

/// How many pods are ready, and how many should be.
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

/// Puts it together; of the facts only pods are needed.
pub fn overview(namespace: &str, inventory: &Inventory, facts: &Facts, created: Option<Time>) -> Overview {
    let summary = &inventory.cluster;
    let count = |component, expected| Count {
        ready: pods_of(facts, component).filter(|pod| is_ready(pod)).count() as u32,
        expected,
    };
    let masters = count(Component::Master, summary.masters);
    let expected = match inventory.is_autoscaled() {
        // As many as the autoscaler has let be made.
        true => pods_of(facts, Component::Worker).count() as u32,
        false => summary.workers.count,
    };
    let workers = count(Component::Worker, expected);
    let zookeeper = match summary.zookeeper {
        ZooKeeperSummary::Managed { count: expected, .. } => Some(count(Component::ZooKeeper, expected)),
        ZooKeeperSummary::None | ZooKeeperSummary::External { .. } => None,
    };
    let mut counts = [masters, workers].into_iter().chain(zookeeper);
    Overview {
        namespace: namespace.to_owned(),
        name: summary.name.clone(),
        image: summary.image.clone(),
        ready: counts.all(|count| count.ready == count.expected),
        masters,
        zookeeper,
        workers,
        created,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;
    use crate::render::labels::{COMPONENT, INSTANCE};
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
    fn ready_are_as_many_pods_as_should_be() {
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
}
