//! The capacity that a cluster requires: total requests for quotas and limit ranges, and whether its pods fit on nodes. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{LimitRange, Node, Pod, PodSpec, ResourceQuota, Toleration};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;

use crate::model::pods::has_ended;
use crate::spec::quantity::{Cpu, Memory};
use crate::state::nodes::{accepts, node_of};

/// Kubernetes' resource name of the node's disk.
const DISK: &str = "ephemeral-storage";

/// Requested capacity by the resource names of quotas (`requests.cpu`, `pods`, …); CPU in millicores, memory in bytes.
pub type RequestedCapacity = BTreeMap<String, i128>;

/// The requests of a pod to be scheduled.
#[derive(Clone, Debug)]
pub struct PodRequest {
    pub name: String,
    /// Its StatefulSet, if its pods must not share a node.
    pub apart: Option<String>,
    pub cpu: i128,
    pub memory: i128,
    /// Requested disk of the node.
    pub disk: i128,
    pub node_selector: BTreeMap<String, String>,
    pub tolerations: Vec<Toleration>,
}

/// Total requests and limits of StatefulSets.
pub fn amounts(sets: &[StatefulSet]) -> RequestedCapacity {
    let mut amounts = RequestedCapacity::new();
    for set in sets {
        let spec = &set.spec;
        let replicas = i128::from(spec.replicas.unwrap_or(1));
        let pod = spec.template.spec.as_ref();
        let mut add = |name: String, amount: i128| *amounts.entry(name).or_default() += amount * replicas;
        add("pods".into(), 1);
        add("count/pods".into(), 1);
        for resources in pod
            .iter()
            .flat_map(|pod| &pod.containers)
            .filter_map(|c| c.resources.as_ref())
        {
            for (prefix, quantities) in [("requests", &resources.requests), ("limits", &resources.limits)] {
                for (name, quantity) in quantities.iter().flatten() {
                    add(format!("{prefix}.{name}"), amount(name, quantity));
                    if prefix == "requests" {
                        // Quotas may omit the prefix.
                        add(name.to_string(), amount(name, quantity));
                    }
                }
            }
        }
        for claim in spec.volume_claim_templates.iter().flatten() {
            add("persistentvolumeclaims".into(), 1);
            let requests = claim
                .spec
                .as_ref()
                .and_then(|spec| spec.resources.as_ref()?.requests.as_ref());
            if let Some(storage) = requests.and_then(|requests| requests.get("storage")) {
                add("requests.storage".into(), amount("storage", storage));
            }
        }
    }
    amounts
}

/// The reasons why a quota would refuse the pods: `cpu: 3 more needed, 1 of 4 left`.
pub fn over_quota(quota: &ResourceQuota, more: &RequestedCapacity, ranges: &[LimitRange]) -> Vec<String> {
    let spec = quota.spec.as_ref();
    if spec.is_some_and(|spec| spec.scopes.is_some() || spec.scope_selector.is_some()) {
        // Only the API server can tell which pods a scope covers.
        return vec![];
    }
    let Some(hard) = quota.status.as_ref().and_then(|status| status.hard.as_ref()) else {
        return vec![];
    };
    let used = quota.status.as_ref().and_then(|status| status.used.as_ref());
    let of_disk = hard
        .keys()
        .filter(|name| name.ends_with(DISK) && !more.contains_key(*name));
    let unsaid = of_disk.filter(|_| !has_default(ranges)).map(|name| {
        let place = name.split_once('.').map_or("requests", |(place, _)| place);
        format!("the quota limits {name}, so each pod must set it: set resources.{place}.{DISK} of each component")
    });
    let over = hard.iter().filter_map(|(name, hard)| {
        let more = *more.get(name)?;
        let hard = amount(name, hard);
        let left = (hard - of(used, name)).max(0);
        (more > left).then(|| {
            format!(
                "{name}: {} more needed, {} of {} left",
                shown(name, more),
                shown(name, left),
                shown(name, hard)
            )
        })
    });
    unsaid.chain(over).collect()
}

/// Whether containers without `ephemeral-storage` get a default.
fn has_default(ranges: &[LimitRange]) -> bool {
    let items = ranges
        .iter()
        .filter_map(|range| range.spec.as_ref())
        .flat_map(|spec| &spec.limits);
    let mut defaults = items.flat_map(|item| [&item.default, &item.default_request]).flatten();
    defaults.any(|defaults| defaults.contains_key(DISK))
}

/// The reasons why a limit range would refuse these containers.
pub fn out_of_range(range: &LimitRange, sets: &[StatefulSet]) -> Vec<String> {
    let mut found = Vec::new();
    let items = range.spec.iter().flat_map(|spec| &spec.limits);
    for item in items.filter(|item| item.type_ == "Container" || item.type_ == "Pod") {
        for set in sets {
            let pod = set.spec.template.spec.as_ref();
            let Some(resources) = pod.and_then(|pod| pod.containers.first()?.resources.as_ref()) else {
                continue;
            };
            let set = set.name_any();
            let above = item.max.iter().flatten().filter_map(|(name, max)| {
                let limit = of(resources.limits.as_ref(), name);
                let message = || format!("{set}: limit of {name} {} exceeds {}", shown(name, limit), max.0);
                (limit > amount(name, max)).then(message)
            });
            let below = item.min.iter().flatten().filter_map(|(name, min)| {
                let request = of(resources.requests.as_ref(), name);
                let message = || format!("{set}: request of {name} {} is below {}", shown(name, request), min.0);
                (request < amount(name, min)).then(message)
            });
            found.extend(above.chain(below));
        }
    }
    found
}

/// The requests of the pods of StatefulSets.
pub fn pods(sets: &[StatefulSet]) -> Vec<PodRequest> {
    sets.iter()
        .flat_map(|set| {
            let replicas = set.spec.replicas.unwrap_or(1);
            let pod = set.spec.template.spec.clone().unwrap_or_default();
            let apart = must_be_apart(set).then(|| set.name_any());
            (0..replicas).map(move |ordinal| PodRequest {
                name: format!("{}-{ordinal}", set.name_any()),
                apart: apart.clone(),
                cpu: requested(&pod, "cpu"),
                memory: requested(&pod, "memory"),
                disk: requested(&pod, DISK),
                node_selector: pod.node_selector.clone().unwrap_or_default(),
                tolerations: pod.tolerations.clone().unwrap_or_default(),
            })
        })
        .collect()
}

/// Whether the pods of a set must not share a node.
fn must_be_apart(set: &StatefulSet) -> bool {
    let template = &set.spec.template;
    let labels = template.metadata.as_ref().and_then(|metadata| metadata.labels.as_ref());
    let affinity = template.spec.as_ref().and_then(|pod| pod.affinity.as_ref());
    let rule = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    let mut terms = rule
        .iter()
        .flat_map(|rule| &rule.required_during_scheduling_ignored_during_execution)
        .flatten();
    terms.any(|term| {
        let selected = term
            .label_selector
            .as_ref()
            .and_then(|selector| selector.match_labels.as_ref());
        let selects_itself = selected.is_some_and(|selected| {
            let mut pairs = selected.iter();
            pairs.all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
        });
        term.topology_key == "kubernetes.io/hostname" && selects_itself
    })
}

/// The pods that do not fit on any node. Each pod is placed on the node with the most free memory. `others`: existing pods.
pub fn without_a_node<'a>(requests: &'a [PodRequest], nodes: &'a [Node], others: &[Pod]) -> Vec<&'a PodRequest> {
    struct Free<'n> {
        node: &'n Node,
        cpu: i128,
        memory: i128,
        disk: i128,
        pods: i128,
        /// StatefulSets that must not have another pod here.
        sets: Vec<&'n String>,
    }
    let mut free: Vec<_> = nodes
        .iter()
        .filter(|node| node.spec.as_ref().is_none_or(|spec| spec.unschedulable != Some(true)))
        .map(|node| {
            let on_node = others.iter().filter(|pod| uses_capacity_of(pod, &node.name_any()));
            let specs: Vec<_> = on_node.filter_map(|pod| pod.spec.as_ref()).collect();
            let taken = |name: &str| specs.iter().map(|spec| requested(spec, name)).sum::<i128>();
            Free {
                node,
                cpu: allocatable(node, "cpu") - taken("cpu"),
                memory: allocatable(node, "memory") - taken("memory"),
                disk: allocatable(node, DISK) - taken(DISK),
                pods: allocatable(node, "pods") - specs.len() as i128,
                sets: vec![],
            }
        })
        .collect();
    let mut largest_first: Vec<_> = requests.iter().collect();
    largest_first.sort_by_key(|request| std::cmp::Reverse((request.memory, request.cpu)));
    let mut left_over = Vec::new();
    for request in largest_first {
        let place = free
            .iter_mut()
            .filter(|free| free.cpu >= request.cpu && free.memory >= request.memory && free.pods >= 1)
            // A node that does not report its disk only accepts pods without a disk request.
            .filter(|free| request.disk == 0 || free.disk >= request.disk)
            .filter(|free| request.apart.as_ref().is_none_or(|set| !free.sets.contains(&set)))
            .filter(|free| accepts(free.node, &request.node_selector, &request.tolerations))
            .max_by_key(|free| free.memory);
        match place {
            Some(free) => {
                free.cpu -= request.cpu;
                free.memory -= request.memory;
                free.disk -= request.disk;
                free.pods -= 1;
                free.sets.extend(&request.apart);
            }
            None => left_over.push(request),
        }
    }
    left_over
}

/// Free capacity of all nodes, for messages: `0.4 CPU and 3.1 GiB`.
pub fn free_in_all(nodes: &[Node], others: &[Pod]) -> String {
    let sum = |name: &str| {
        let all: i128 = nodes.iter().map(|node| allocatable(node, name)).sum();
        let specs = others
            .iter()
            .filter(|pod| nodes.iter().any(|node| uses_capacity_of(pod, &node.name_any())))
            .filter_map(|pod| pod.spec.as_ref());
        all - specs.map(|spec| requested(spec, name)).sum::<i128>()
    };
    format!(
        "{} CPU and {} of memory",
        shown("cpu", sum("cpu")),
        shown("memory", sum("memory"))
    )
}

fn uses_capacity_of(pod: &Pod, node: &str) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    node_of(pod) == Some(node) && !has_ended(phase)
}

fn allocatable(node: &Node, name: &str) -> i128 {
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    of(allocatable, name)
}

fn requested(pod: &PodSpec, name: &str) -> i128 {
    let containers = pod
        .containers
        .iter()
        .filter_map(|container| container.resources.as_ref());
    containers.map(|resources| of(resources.requests.as_ref(), name)).sum()
}

/// The amount of one resource; 0 if it is not among them.
fn of(quantities: Option<&BTreeMap<String, Quantity>>, name: &str) -> i128 {
    let quantity = quantities.and_then(|all| all.get(name));
    quantity.map_or(0, |quantity| amount(name, quantity))
}

/// CPU in millicores; other resources in bytes or as a count.
fn amount(name: &str, quantity: &Quantity) -> i128 {
    // So the server writes 2000. In a cluster file it would be Spark's notation.
    let thousands = quantity
        .0
        .strip_suffix('k')
        .and_then(|number| number.parse::<i128>().ok());
    if let Some(thousands) = thousands {
        return thousands * if is_cpu(name) { 1_000_000 } else { 1000 };
    }
    if is_cpu(name) {
        return Cpu::parse(&quantity.0).map_or(0, |cpu| i128::from(cpu.millis()));
    }
    match quantity.0.parse::<i128>() {
        Ok(plain) => plain,
        Err(_) => Memory::parse(&quantity.0).map_or(0, |memory| i128::from(memory.bytes())),
    }
}

fn shown(name: &str, amount: i128) -> String {
    if is_cpu(name) {
        format!("{:.1}", amount as f64 / 1000.0)
    } else if name.ends_with("memory") || name.ends_with("storage") {
        format!("{:.1} GiB", amount as f64 / f64::from(1 << 30))
    } else {
        amount.to_string()
    }
}

fn is_cpu(name: &str) -> bool {
    name.rsplit('.').next() == Some("cpu")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str, cpu: &str, memory: &str) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": name},
            "status": {"allocatable": {"cpu": cpu, "memory": memory, "pods": "10"}},
        }))
        .unwrap()
    }

    fn set(replicas: i32, cpu: &str, memory: &str) -> StatefulSet {
        serde_json::from_value(json!({
            "metadata": {"name": "w"},
            "spec": {"replicas": replicas, "serviceName": "w", "selector": {}, "template": {"spec": {"containers": [
                {"name": "w", "resources": {"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": "1"}}},
            ]}}},
        }))
        .unwrap()
    }

    #[test]
    fn thousands_are_amounts_of_the_server() {
        let of = |name: &str, text: &str| amount(name, &Quantity(text.into()));
        assert_eq!((of("pods", "2k"), of("requests.cpu", "1k")), (2000, 1_000_000));
        assert_eq!((of("pods", "1500"), of("cpu", "1500m")), (1500, 1500));
        assert_eq!(of("memory", "2Gi"), 2 << 30);
    }

    #[test]
    fn pods_that_fit_on_no_node_are_returned() {
        let nodes = [node("a", "2", "4Gi"), node("b", "2", "4Gi")];
        let requests = pods(&[set(3, "500m", "3Gi")]);
        let left_over = without_a_node(&requests, &nodes, &[]);
        assert_eq!(left_over.len(), 1);
        assert!(without_a_node(&requests[..2], &nodes, &[]).is_empty());
    }

    #[test]
    fn a_taint_excludes_pods_without_a_toleration() {
        let mut tainted = node("a", "2", "4Gi");
        tainted.spec = serde_json::from_value(json!({"taints": [{"key": "gpu", "effect": "NoSchedule"}]})).unwrap();
        let mut requests = pods(&[set(1, "1", "1Gi")]);
        assert_eq!(without_a_node(&requests, &[tainted.clone()], &[]).len(), 1);
        requests[0].tolerations = serde_json::from_value(json!([{"key": "gpu", "operator": "Exists"}])).unwrap();
        assert!(without_a_node(&requests, &[tainted], &[]).is_empty());
    }

    #[test]
    fn pods_that_must_not_share_a_node_need_one_each() {
        let left_over = |text: &str| {
            let source = crate::spec::resolve::Source { name: "f", text };
            let spec = crate::spec::resolve::resolve(Some(source), &Default::default()).unwrap();
            let sets = crate::render::render(&spec).objects.into_iter();
            let sets = sets.filter(|resource| resource.kind == crate::model::kind::Kind::StatefulSet);
            let sets: Vec<_> = sets.map(|set| serde_json::from_value(set.object).unwrap()).collect();
            let requests = pods(&sets);
            let nodes = [node("a", "64", "256Gi"), node("b", "64", "256Gi")];
            let left_over = without_a_node(&requests, &nodes, &[]);
            left_over.iter().map(|request| request.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(left_over(""), Vec::<String>::new());
        assert_eq!(left_over("masters: {podAntiAffinity: required}\n"), ["spark-master-2"]);
    }

    #[test]
    fn an_exceeded_quota_is_reported_with_the_missing_amount() {
        let quota: ResourceQuota = serde_json::from_value(json!({
            "status": {"hard": {"requests.cpu": "2", "pods": "5"}, "used": {"requests.cpu": "1500m", "pods": "1"}},
        }))
        .unwrap();
        let more = amounts(&[set(2, "500m", "1Gi")]);
        assert_eq!(
            over_quota(&quota, &more, &[]),
            ["requests.cpu: 1.0 more needed, 0.5 of 2.0 left"]
        );
    }

    #[test]
    fn disk_requests_count_against_nodes_and_quotas() {
        let mut asking = set(1, "1", "1Gi");
        let pod = asking.spec.template.spec.as_mut().unwrap();
        let requests = pod.containers[0].resources.as_mut().unwrap().requests.as_mut().unwrap();
        requests.insert(DISK.into(), Quantity("30Gi".into()));
        let mut large = node("a", "2", "4Gi");
        assert_eq!(without_a_node(&pods(&[asking.clone()]), &[large.clone()], &[]).len(), 1);
        let allocatable = large.status.as_mut().unwrap().allocatable.as_mut().unwrap();
        allocatable.insert(DISK.into(), Quantity("50Gi".into()));
        assert!(without_a_node(&pods(&[asking.clone()]), &[large], &[]).is_empty());

        let quota: ResourceQuota =
            serde_json::from_value(json!({"status": {"hard": {"requests.ephemeral-storage": "20Gi"}}})).unwrap();
        assert_eq!(
            over_quota(&quota, &amounts(&[asking]), &[]),
            ["requests.ephemeral-storage: 30.0 GiB more needed, 20.0 GiB of 20.0 GiB left"]
        );
        let silent = amounts(&[set(1, "1", "1Gi")]);
        let told = over_quota(&quota, &silent, &[]);
        assert!(told[0].contains("set resources.requests.ephemeral-storage"), "{told:?}");
        let range: LimitRange = serde_json::from_value(
            json!({"spec": {"limits": [{"type": "Container", "defaultRequest": {"ephemeral-storage": "1Gi"}}]}}),
        )
        .unwrap();
        assert_eq!(over_quota(&quota, &silent, &[range]), Vec::<String>::new());
    }
}
