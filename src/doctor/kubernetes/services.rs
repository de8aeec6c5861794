//! Services: each of the cluster's must select its pods and no others, and lead to those that are ready.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;

use super::facts::{DiagnosticFacts, Existing, Observed, named};
use crate::doctor::{Check, Findings};
use crate::model::labels::{Component, is_of_cluster};
use crate::state::is_ready;

const NAME: &str = "Services";

pub fn judge(existing: &Existing, facts: &DiagnosticFacts) -> Vec<Check> {
    let cluster = existing.inventory.cluster.name.as_str();
    let (services, pods) = match (&facts.services, &facts.pods) {
        (Ok(services), Ok(pods)) => (services, pods),
        (Err(why), _) | (_, Err(why)) => return vec![Check::skipped(NAME, why, "")],
    };
    let own: Vec<_> = services
        .iter()
        .filter(|service| is_of_cluster(service.metadata.labels.as_ref(), cluster))
        .filter(|service| !is_of_no_workers(service, &facts.sets))
        .collect();
    let mut findings = Findings::of(NAME);
    for service in &own {
        if let Some((observed, hint)) = of_service(service, pods, &facts.addressed, cluster) {
            findings.fail(observed, hint);
        }
    }
    findings.or_ok(format!("{} lead to their pods", own.len()))
}

/// Whether it is the workers' Service, and there are none: only they may be none.
fn is_of_no_workers(service: &Service, sets: &[StatefulSet]) -> bool {
    let is_theirs = |labels: &BTreeMap<String, String>| Component::of(labels) == Some(Component::Worker);
    let mut workers = sets.iter().filter(|set| is_theirs(set.labels()));
    is_theirs(service.labels()) && workers.all(|set| set.spec.replicas == Some(0))
}

/// What is wrong with a Service, and the hint.
fn of_service(
    service: &Service,
    pods: &[Pod],
    addressed: &Observed<BTreeSet<String>>,
    cluster: &str,
) -> Option<(String, &'static str)> {
    let name = service.name_any();
    let spec = service.spec.as_ref()?;
    let selector = spec.selector.clone().unwrap_or_default();
    let selected: Vec<_> = pods.iter().filter(|pod| selects(&selector, pod.labels())).collect();
    if selected.is_empty() {
        let list: Vec<_> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let observed = format!("{name} selects no pod ({})", list.join(","));
        let hint = "if its pods exist, its selector was changed: run `sparkha create --force-conflicts`";
        return Some((observed, hint));
    }
    let foreign: Vec<_> = selected
        .iter()
        .copied()
        .filter(|pod| !is_of_cluster(pod.metadata.labels.as_ref(), cluster))
        .collect();
    if !foreign.is_empty() {
        let observed = format!("{name} leads to pods that are not the cluster's: {}", named(foreign));
        let hint = "those pods have the cluster's labels, or its selector was changed";
        return Some((observed, hint));
    }
    let has_address = match addressed {
        Ok(addressed) => addressed.contains(&name),
        // Without permission to read endpoints, the pods must do.
        Err(_) => selected.iter().any(|pod| is_ready(pod)),
    };
    if has_address {
        return None;
    }
    let waiting: Vec<_> = selected.into_iter().filter(|pod| !is_ready(pod)).collect();
    Some(match waiting.is_empty() {
        true => (
            format!("{name} has no address, although its pods are ready"),
            "no controller fills its endpoints: check kube-controller-manager",
        ),
        false => (
            format!("{name} has no ready address: {} not ready", named(waiting)),
            "see the checks of pods",
        ),
    })
}

/// An empty selector selects nothing here: no controller fills its endpoints.
fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, instance: &str, ready: bool) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {
                "app.kubernetes.io/managed-by": "sparkha", "app.kubernetes.io/instance": instance, "part": "master",
            }},
            "status": {"containerStatuses": [{
                "name": "c", "image": "", "imageID": "", "ready": ready, "restartCount": 0,
            }]},
        }))
        .unwrap()
    }

    fn observed(selector: &serde_json::Value, pods: &[Pod], addressed: &Observed<BTreeSet<String>>) -> Option<String> {
        let service = json!({"metadata": {"name": "s"}, "spec": {"selector": selector}});
        of_service(&serde_json::from_value(service).unwrap(), pods, addressed, "spark").map(|(observed, _)| observed)
    }

    #[test]
    fn a_service_of_no_workers_is_not_judged() {
        let of = |component: &str, replicas: u32| {
            let labels = json!({"app.kubernetes.io/component": component});
            let service = json!({"metadata": {"name": "s", "labels": labels}});
            let set = json!({"metadata": {"name": "w", "labels": labels}, "spec": {
                "replicas": replicas, "selector": {}, "template": {},
            }});
            let (service, set) = (serde_json::from_value(service), serde_json::from_value(set));
            is_of_no_workers(&service.unwrap(), &[set.unwrap()])
        };
        assert!(of("worker", 0));
        assert!(!of("worker", 1));
        // All others have a pod at least.
        assert!(!of("history", 0));
    }

    #[test]
    fn a_service_that_selects_no_pods_is_reported() {
        let pods = [pod("a", "spark", true), pod("b", "other", true)];
        let hidden = Err("not allowed".into());
        let part = json!({"part": "master"});
        let own = json!({"part": "master", "app.kubernetes.io/instance": "spark"});
        assert_eq!(
            observed(&json!({"part": "x"}), &pods, &hidden).unwrap(),
            "s selects no pod (part=x)"
        );
        assert_eq!(
            observed(&part, &pods, &hidden).unwrap(),
            "s leads to pods that are not the cluster's: b"
        );
        assert_eq!(observed(&own, &pods, &hidden), None);
        let asleep = [pod("a", "spark", false)];
        assert_eq!(
            observed(&own, &asleep, &hidden).unwrap(),
            "s has no ready address: a not ready"
        );
        assert_eq!(
            observed(&own, &pods, &Ok(BTreeSet::new())).unwrap(),
            "s has no address, although its pods are ready"
        );
    }
}
