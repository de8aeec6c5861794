//! Nodes: whether they are ready, and whether they have capacity.

use k8s_openapi::api::core::v1::{Node, NodeCondition};
use kube::ResourceExt;

use super::facts::{Existing, Observed, joined};
use crate::doctor::{Check, Findings};
use crate::model::finding::Finding;
use crate::spec::words::counted;
use crate::state::nodes::{Nodes, Warning};

pub fn judge(nodes: &Observed<Vec<Node>>) -> Vec<Check> {
    const NAME: &str = "nodes";
    let nodes = match nodes {
        Ok(nodes) => nodes,
        Err(_) => return vec![Check::skipped(NAME, "you may not list nodes", "")],
    };
    let is_ready =
        |node: &&Node| conditions(node).any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let ready = nodes.iter().filter(is_ready).count();
    let troubles = troubles(nodes);
    let mut findings = Findings::of(NAME);
    if ready == 0 {
        let all = counted(nodes.len(), "node");
        findings.fail(format!("none of {all} is ready: {}", joined(&troubles)), HINT);
    } else if !troubles.is_empty() {
        findings.warn(joined(&troubles), HINT);
    }
    findings.or_ok(format!("{ready} of {} ready", nodes.len()))
}

const HINT: &str = "`kubectl describe node` says more; a node without a network plugin never becomes ready, and one whose disk is full evicts \
                    pods (spark.worker.cleanup, workers.shuffle with a sizeLimit)";

fn conditions(node: &Node) -> impl Iterator<Item = &NodeCondition> {
    let status = node.status.iter();
    status.flat_map(|status| status.conditions.iter().flatten())
}

fn troubles(nodes: &[Node]) -> Vec<String> {
    let of_node = |node: &Node| {
        let name = node.name_any();
        let wrong = |condition: &NodeCondition| {
            // `Ready` should be true; every other condition is a trouble of the node.
            let should_be = if condition.type_ == "Ready" { "True" } else { "False" };
            // All conditions of a silent node are unknown; one is enough.
            condition.status != should_be && (condition.type_ == "Ready" || condition.status != "Unknown")
        };
        let list = conditions(node).filter(|condition| wrong(condition)).map(|condition| {
            let message = condition.message.as_deref().unwrap_or_default();
            match (condition.type_.as_str(), message) {
                ("Ready", message) => format!("{name} is not ready: {message}"),
                (kind, "") => format!("{name} has {kind}"),
                (kind, message) => format!("{name} has {kind}: {message}"),
            }
        });
        // One that hung on joining, until Kubernetes says the same.
        let is_silent = !conditions(node).any(|condition| condition.type_ == "Ready");
        let never = is_silent.then(|| format!("{name} is not ready: Kubelet never posted node status."));
        list.chain(never).collect::<Vec<_>>()
    };
    nodes.iter().flat_map(of_node).collect()
}

/// Where the cluster's pods are: on nodes that respond, and members of one kind apart.
pub fn placement(existing: &Existing) -> Vec<Check> {
    let mut findings = Findings::of("placement");
    for warning in &existing.state.warnings {
        match warning {
            Warning::LostNode(_) => findings.fail(warning.to_string(), warning.help()),
            Warning::SharedNode { .. } => findings.warn(warning.to_string(), warning.help()),
            // The check of the versions reports it.
            Warning::NewerSparkha(_) => {}
        }
    }
    match existing.observed.nodes {
        Nodes::Listed(_) => findings.or_ok("masters and ZooKeeper servers are spread as far as the nodes allow"),
        _ => findings.or_skipped("you may not list nodes"),
    }
}

pub fn capacity(room: &Observed<Vec<Finding>>, quota: &[Finding]) -> Vec<Check> {
    let mut findings = Findings::of("capacity");
    findings.add(quota);
    match room {
        Ok(found) => {
            findings.add(found);
            findings.or_ok("the nodes and the quota have capacity for all pods")
        }
        Err(_) => findings.or_skipped("you may not list nodes and the pods of all namespaces"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::doctor::Status;

    fn node(name: &str, conditions: &serde_json::Value) -> Node {
        serde_json::from_value(json!({"metadata": {"name": name}, "status": {"conditions": conditions}})).unwrap()
    }

    #[test]
    fn a_node_without_a_network_is_reported() {
        let good = node(
            "a",
            &json!([{"type": "Ready", "status": "True"}, {"type": "DiskPressure", "status": "False"}]),
        );
        let unplugged = node(
            "b",
            &json!([
                {"type": "NetworkUnavailable", "status": "True"},
                {"type": "Ready", "status": "False", "message": "cni plugin not initialized"},
            ]),
        );
        let full = node(
            "c",
            &json!([{"type": "Ready", "status": "True"}, {"type": "DiskPressure", "status": "True"}]),
        );
        assert_eq!(judge(&Ok(vec![good.clone()])), [Check::ok("nodes", "1 of 1 ready")]);
        let check = &judge(&Ok(vec![good, unplugged.clone(), full]))[0];
        assert_eq!(check.status, Status::Warning);
        assert_eq!(
            check.observed,
            "b has NetworkUnavailable, b is not ready: cni plugin not initialized, c has DiskPressure"
        );
        assert_eq!(judge(&Ok(vec![unplugged]))[0].status, Status::Failed);
        assert_eq!(judge(&Err("no".into()))[0].status, Status::Skipped);
    }
}
