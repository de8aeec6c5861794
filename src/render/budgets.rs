//! PodDisruptionBudgets: voluntary evictions keep a majority of ZooKeeper servers and evict one master at a time.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::model::labels::{Component, metadata, selector};
use crate::spec::{ClusterSpec, Recovery};

pub fn budgets(spec: &ClusterSpec) -> Vec<PodDisruptionBudget> {
    let mut budgets = Vec::new();
    // A budget for a single pod would only block draining its node.
    if let Recovery::ManagedZooKeeper(zookeeper) = &spec.recovery
        && zookeeper.count > 1
    {
        let minority = (zookeeper.count - 1) / 2;
        budgets.push(budget(spec, Component::ZooKeeper, minority));
    }
    if spec.masters.count > 1 {
        budgets.push(budget(spec, Component::Master, 1));
    }
    budgets
}

fn budget(spec: &ClusterSpec, component: Component, max_unavailable: u32) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: metadata(spec, component.object_name(&spec.name), component),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(max_unavailable as i32)),
            selector: Some(selector(spec, component)),
            ..Default::default()
        }),
        ..Default::default()
    }
}
