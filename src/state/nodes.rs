//! The nodes of a cluster's pods: lost nodes, and nodes that run several members of one component. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, Taint, Toleration};
use kube::ResourceExt;
use serde::Serialize;

use super::{Facts, pods_of};
use crate::model::labels::Component;
use crate::render::inventory::NewerFormat;
use crate::spec::words::listed;

/// The known nodes of the Kubernetes cluster.
#[derive(Clone, Debug, Default)]
pub enum Nodes {
    /// Not needed.
    #[default]
    NotAsked,
    /// Not readable: most users lack the permission.
    Unknown,
    Listed(Vec<Node>),
}

/// A risk for the cluster, or the cause of an outage.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", tag = "warning")]
pub enum Warning {
    /// A node with pods of the cluster does not respond.
    LostNode(LostNode),
    /// Several members of one component share a node, while another node could run one of them.
    SharedNode {
        node: String,
        pods: Vec<String>,
        free: Vec<String>,
    },
    /// A newer sparkha wrote the inventory, in a format that this one does not know.
    NewerSparkha(NewerFormat),
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LostNode {
    pub node: String,
    pub loss: Loss,
    /// The cluster's pods there.
    pub pods: Vec<String>,
    /// The terminating ones of them.
    pub terminating: Vec<String>,
}

/// The reason why a node is lost.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum Loss {
    /// Kubernetes has received no heartbeat since.
    Silent { since: Option<String> },
    /// It is no longer one of the Kubernetes cluster's nodes.
    Removed,
    /// Its pods' states indicate that it does not respond; the node itself is not readable.
    Suspected,
}

impl LostNode {
    /// The remedy.
    pub fn help(&self) -> String {
        let node = &self.node;
        match self.loss {
            Loss::Removed => "Kubernetes removes and replaces them within a minute".into(),
            Loss::Silent { .. } | Loss::Suspected => format!(
                "its pods are replaced only when the node is back, or is known to be gone. If the machine is off for good, \
                 `kubectl delete node {node}` says so (its owner may; from Kubernetes 1.28 also `kubectl taint node {node} \
                 node.kubernetes.io/out-of-service=nodeshutdown:NoExecute`). Never do either while it may still run: two \
                 ZooKeeper servers of one number can form two quorums"
            ),
        }
    }
}

impl std::fmt::Display for LostNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.loss {
            Loss::Silent { since: Some(since) } => write!(f, "has not answered since {since}"),
            Loss::Silent { since: None } => f.write_str("does not answer"),
            Loss::Removed => f.write_str("is no longer in the Kubernetes cluster"),
            Loss::Suspected => {
                f.write_str("seems not to respond (you may not read nodes; only its pods' states indicate it)")
            }
        }?;
        write!(f, "; {} ran there", listed(&self.pods))
    }
}

impl Warning {
    /// The remedy.
    pub fn help(&self) -> String {
        match self {
            Warning::LostNode(lost) => lost.help(),
            Warning::SharedNode { pods, .. } => format!(
                "the loss of that node would take them together. `kubectl delete pod {}` moves one, where no volume holds it; \
                 `podAntiAffinity: required` keeps them apart",
                pods.last().map_or("", String::as_str)
            ),
            Warning::NewerSparkha(newer) => format!(
                "what is shown may be incomplete, and this sparkha does not change the cluster: install sparkha {} or a newer one",
                newer.sparkha_version
            ),
        }
    }
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Warning::LostNode(lost) => write!(f, "node {} {lost}", lost.node),
            Warning::SharedNode { node, pods, free } => write!(
                f,
                "{} share node {node}, while {} could take one",
                pods.join(" and "),
                free.join(", ")
            ),
            Warning::NewerSparkha(newer) => newer.fmt(f),
        }
    }
}

/// Whether the nodes must be read: a pod's node seems silent, a pod is terminating, or members share a node.
pub fn matter(facts: &Facts) -> bool {
    facts.pods.iter().any(|pod| is_out_of_touch(pod) || is_ending(pod))
        || QUORUMS.iter().any(|&component| !shared(facts, component).is_empty())
}

/// Warnings about the nodes.
pub fn warnings(facts: &Facts) -> Vec<Warning> {
    let lost = lost(&facts.pods, &facts.nodes);
    let mut warnings: Vec<_> = lost.iter().cloned().map(Warning::LostNode).collect();
    let Nodes::Listed(nodes) = &facts.nodes else {
        return warnings;
    };
    for component in QUORUMS {
        for (node, pods) in shared(facts, component) {
            if lost.iter().any(|lost| lost.node == node) {
                continue;
            }
            let taken: Vec<_> = pods_of(&facts.pods, component).filter_map(node_of).collect();
            let free: Vec<_> = nodes
                .iter()
                .filter(|node| !taken.contains(&node.name_any().as_str()) && could_take(node, pods[0]))
                .map(ResourceExt::name_any)
                .collect();
            if !free.is_empty() {
                let pods = pods.iter().map(|pod| pod.name_any()).collect();
                warnings.push(Warning::SharedNode { node, pods, free });
            }
        }
    }
    warnings
}

/// The lost nodes of these pods.
pub fn lost(pods: &[Pod], nodes: &Nodes) -> Vec<LostNode> {
    let lost = by_node(pods).into_iter().filter_map(|(node, pods)| {
        let loss = match nodes {
            Nodes::NotAsked => None,
            Nodes::Unknown => pods.iter().any(|pod| is_out_of_touch(pod)).then_some(Loss::Suspected),
            Nodes::Listed(nodes) => loss_of(nodes.iter().find(|found| found.name_any() == node)),
        }?;
        let names = |of: &dyn Fn(&&&Pod) -> bool| {
            let mut names: Vec<_> = pods.iter().filter(of).map(|pod| pod.name_any()).collect();
            names.sort();
            names
        };
        Some(LostNode {
            node: node.to_owned(),
            loss,
            pods: names(&|_| true),
            terminating: names(&|pod| is_ending(pod)),
        })
    });
    lost.collect()
}

fn by_node<'a>(pods: impl IntoIterator<Item = &'a Pod>) -> BTreeMap<&'a str, Vec<&'a Pod>> {
    let mut of_nodes: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for pod in pods {
        if let Some(node) = node_of(pod) {
            of_nodes.entry(node).or_default().push(pod);
        }
    }
    of_nodes
}

fn loss_of(node: Option<&Node>) -> Option<Loss> {
    let Some(node) = node else {
        return Some(Loss::Removed);
    };
    // The kubelet itself reports `False`; Kubernetes sets `Unknown` if it received no report.
    let ready = ready_condition(node).filter(|condition| condition.status == "Unknown")?;
    Some(Loss::Silent {
        since: ready.last_transition_time.as_ref().map(|time| time.0.to_string()),
    })
}

/// Components whose members vote, or replace each other.
const QUORUMS: [Component; 2] = [Component::Master, Component::ZooKeeper];

/// Nodes with several pods of a component.
fn shared(facts: &Facts, component: Component) -> Vec<(String, Vec<&Pod>)> {
    let of_nodes = by_node(pods_of(&facts.pods, component).filter(|pod| !is_ending(pod)));
    let several = of_nodes.into_iter().filter(|(_, pods)| pods.len() > 1);
    several.map(|(node, pods)| (node.to_owned(), pods)).collect()
}

/// Whether a node is ready, schedulable, and meets the pod's requirements.
fn could_take(node: &Node, pod: &Pod) -> bool {
    let works = ready_condition(node).is_some_and(|condition| condition.status == "True");
    let open = node.spec.as_ref().is_none_or(|spec| spec.unschedulable != Some(true));
    let spec = pod.spec.clone().unwrap_or_default();
    let (selector, tolerations) = (
        spec.node_selector.unwrap_or_default(),
        spec.tolerations.unwrap_or_default(),
    );
    works && open && accepts(node, &selector, &tolerations)
}

/// Whether a node has the labels that a pod selects, and no taint that the pod does not tolerate.
pub fn accepts(node: &Node, selector: &BTreeMap<String, String>, tolerations: &[Toleration]) -> bool {
    let selected = selector
        .iter()
        .all(|(key, value)| node.labels().get(key) == Some(value));
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let tolerated = |taint: &Taint| {
        tolerations.iter().any(|toleration| {
            let key = toleration.key.as_deref().is_none_or(|key| key == taint.key);
            let effect = toleration.effect.as_deref().is_none_or(|effect| effect == taint.effect);
            let exists = toleration.operator.as_deref() == Some("Exists");
            key && effect && (exists || toleration.value == taint.value)
        })
    };
    selected && taints.filter(|taint| taint.effect != "PreferNoSchedule").all(tolerated)
}

fn ready_condition(node: &Node) -> Option<&NodeCondition> {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().find(|condition| condition.type_ == "Ready")
}

pub fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

fn is_ending(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Kubernetes marks the pods of a silent node as not ready, but keeps the kubelet's last report about their containers.
pub fn is_out_of_touch(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let says = |kind: &str, status: &str| {
        conditions
            .clone()
            .any(|condition| condition.type_ == kind && condition.status == status)
    };
    says("Ready", "False") && says("ContainersReady", "True")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, component: &str, node: &str, ready: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {"app.kubernetes.io/component": component}},
            "spec": {"nodeName": node, "containers": []},
            "status": {"conditions": [{"type": "Ready", "status": ready}, {"type": "ContainersReady", "status": "True"}]},
        }))
        .unwrap()
    }

    fn node(name: &str, ready: &str) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": name},
            "status": {"conditions": [{
                "type": "Ready", "status": ready, "lastTransitionTime": "2026-01-02T03:04:05Z",
            }]},
        }))
        .unwrap()
    }

    fn said(pods: &[Pod], nodes: Nodes) -> Vec<String> {
        let facts = Facts {
            pods: pods.to_vec(),
            nodes,
            ..Facts::default()
        };
        warnings(&facts).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_silent_node_is_reported_with_its_pods() {
        let pods = [
            pod("m-0", "master", "a", "True"),
            pod("m-1", "master", "b", "False"),
            pod("z-0", "zookeeper", "b", "False"),
        ];
        let silent = Nodes::Listed(vec![node("a", "True"), node("b", "Unknown")]);
        assert_eq!(
            said(&pods, silent),
            ["node b has not answered since 2026-01-02T03:04:05Z; m-1, z-0 ran there"]
        );
        let removed = Nodes::Listed(vec![node("a", "True")]);
        assert_eq!(
            said(&pods, removed),
            ["node b is no longer in the Kubernetes cluster; m-1, z-0 ran there"]
        );
        // The kubelet itself reports this, so it can also report the end of a pod.
        let unwell = Nodes::Listed(vec![node("a", "True"), node("b", "False")]);
        assert_eq!(said(&pods, unwell), Vec::<String>::new());
        assert_eq!(
            said(&pods, Nodes::Unknown),
            [
                "node b seems not to respond (you may not read nodes; only its pods' states indicate it); m-1, z-0 ran there"
            ]
        );
        assert_eq!(said(&pods[..1], Nodes::Unknown), Vec::<String>::new());
    }

    #[test]
    fn members_that_share_a_node_are_reported_only_if_one_could_move() {
        let pods = [
            pod("m-0", "master", "a", "True"),
            pod("m-1", "master", "a", "True"),
            pod("w-0", "worker", "a", "True"),
            pod("w-1", "worker", "a", "True"),
        ];
        let facts = Facts {
            pods: pods.to_vec(),
            ..Facts::default()
        };
        assert!(matter(&facts));
        assert_eq!(
            said(&pods, Nodes::Listed(vec![node("a", "True")])),
            Vec::<String>::new()
        );
        let two = vec![node("a", "True"), node("b", "True")];
        assert_eq!(
            said(&pods, Nodes::Listed(two.clone())),
            ["m-0 and m-1 share node a, while b could take one"]
        );
        let cordoned = |change: &dyn Fn(&mut Node)| {
            let mut nodes = two.clone();
            change(&mut nodes[1]);
            said(&pods, Nodes::Listed(nodes))
        };
        let taint: Taint = serde_json::from_value(json!({"key": "k", "effect": "NoSchedule"})).unwrap();
        assert_eq!(cordoned(&|b| *b = node("b", "Unknown")), Vec::<String>::new());
        assert_eq!(
            cordoned(&|b| b.spec.get_or_insert_default().unschedulable = Some(true)),
            Vec::<String>::new()
        );
        assert_eq!(
            cordoned(&|b| b.spec.get_or_insert_default().taints = Some(vec![taint.clone()])),
            Vec::<String>::new()
        );
    }
}
