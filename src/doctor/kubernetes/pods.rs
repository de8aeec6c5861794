//! Pods: why they do not start, and what ended them recently. Users' driver pods are checked too.

use k8s_openapi::api::core::v1::{Container, Event, Pod};
use kube::ResourceExt;

use super::facts::Existing;
use crate::doctor::{Check, pods};
use crate::model::labels::{Component, INSTANCE, is_ours};
use crate::spec::ClusterSpec;
use crate::spec::words::listed;
use crate::state;
use crate::state::readiness::NotReady;
use crate::state::trouble::Trouble;

/// The pods that use this cluster: labelled as its drivers, or a user's own with the URL of one of its masters.
pub fn users(pods: &[Pod], spec: &ClusterSpec) -> Vec<Pod> {
    let master = format!("spark://{}-master-", spec.name);
    let names_a_master = |container: &Container| {
        let words = container.command.iter().chain(&container.args).flatten();
        let variables = container.env.iter().flatten();
        let values = variables.filter_map(|variable| variable.value.as_ref());
        words.chain(values).any(|text| text.contains(&master))
    };
    let is_driver = |pod: &&Pod| {
        let labels = pod.labels();
        let is_labelled = Component::of(labels) == Some(Component::Driver)
            || labels.get("spark-role").map(String::as_str) == Some("driver");
        let mut names = [Some(&spec.name), spec.active_alias()].into_iter().flatten();
        let is_its = labels
            .get(INSTANCE)
            .is_some_and(|instance| names.any(|name| name.as_str() == instance));
        let mut containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        (is_labelled && is_its) || (!is_ours(Some(labels)) && containers.any(names_a_master))
    };
    pods.iter().filter(is_driver).cloned().collect()
}

/// Why pods of the cluster and of its users do not start.
pub fn all_troubles(existing: &Existing, users: &[Pod], events: &[Event]) -> Vec<Trouble> {
    pods::all_troubles(&with_users(existing, users), events)
}

fn with_users(existing: &Existing, users: &[Pod]) -> state::Facts {
    let mut facts = existing.observed.clone();
    facts.pods.extend_from_slice(users);
    facts
}

pub fn judge(existing: &Existing, users: &[Pod], events: &[Event], now: f64) -> Vec<Check> {
    let mut findings = pods::findings(&with_users(existing, users), events, now);
    for lack in &existing.state.not_ready {
        if matches!(lack, NotReady::RollingOut { .. }) {
            let hint = "a change is in progress; if this persists, a pod does not become ready";
            findings.warn(lack.to_string(), hint);
        }
    }
    let missing = missing(&existing.state);
    if !missing.is_empty() {
        let hint = "their StatefulSet's events show why: `kubectl describe statefulset`";
        findings.fail(format!("{} missing", listed(&missing)), hint);
    }
    findings.or_ok(format!("{} run", existing.observed.pods.len()))
}

fn missing(state: &state::ClusterState) -> Vec<String> {
    let servers = match &state.zookeeper {
        state::ZooKeeperState::Managed { servers } => servers.as_slice(),
        _ => &[],
    };
    let pods = state.masters.iter().map(|master| &master.pod);
    let pods = pods.chain(servers.iter().map(|server| &server.pod));
    pods.filter(|pod| pod.phase == "Missing")
        .map(|pod| pod.name.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::spec::resolve::resolve;

    #[test]
    fn drivers_of_other_clusters_are_not_judged() {
        let is_user = |labels: serde_json::Value, master: &str| {
            let pod = json!({
                "metadata": {"name": "p", "labels": labels},
                "spec": {"containers": [{"name": "c", "args": [format!("--master=spark://{master}-0:7077")]}]},
            });
            let spec = resolve(None, &Default::default()).unwrap();
            !users(&[serde_json::from_value(pod).unwrap()], &spec).is_empty()
        };
        let driver =
            |cluster: &str| json!({"app.kubernetes.io/instance": cluster, "app.kubernetes.io/component": "driver"});
        let foreign = json!({"spark-role": "driver"});
        assert!(is_user(driver("spark"), "elsewhere"));
        assert!(!is_user(driver("etl"), "etl-master"));
        assert!(!is_user(foreign.clone(), "etl-master"));
        assert!(is_user(foreign, "spark-master"));
        assert!(is_user(
            json!({"app.kubernetes.io/instance": "airflow"}),
            "spark-master"
        ));
    }
}
