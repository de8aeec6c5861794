//! Pods: why they do not start, and what ended them recently. Users' driver pods are checked too.

use k8s_openapi::api::core::v1::{Container, Event, Pod};
use kube::ResourceExt;

use super::facts::{DiagnosticFacts, Existing};
use crate::doctor::{Check, Findings};
use crate::model::labels::{Component, is_ours};
use crate::spec::ClusterSpec;
use crate::spec::words::{counted, listed};
use crate::state;
use crate::state::readiness::NotReady;
use crate::state::trouble::{RestartBaseline, Trouble, TroubleKind, troubles};

const NAME: &str = "pods";
/// An older termination is ignored.
const RECENT: f64 = 3600.0;

/// The users' pods that use Spark: labelled as drivers, or with a master's URL.
pub fn users(facts: &DiagnosticFacts, spec: &ClusterSpec) -> Vec<Pod> {
    let master = format!("spark://{}-master-", spec.name);
    let names_a_master = |container: &Container| {
        let words = container.command.iter().chain(&container.args).flatten();
        let variables = container.env.iter().flatten();
        let values = variables.filter_map(|variable| variable.value.as_ref());
        words.chain(values).any(|text| text.contains(&master))
    };
    let is_driver = |pod: &&Pod| {
        let labels = pod.labels();
        let labelled = Component::of(labels) == Some(Component::Driver)
            || labels.get("spark-role").map(String::as_str) == Some("driver");
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        labelled || (!is_ours(Some(labels)) && containers.into_iter().any(names_a_master))
    };
    facts.pods.iter().flatten().filter(is_driver).cloned().collect()
}

/// Why pods of the cluster and of its users do not start.
pub fn all_troubles(existing: &Existing, users: &[Pod], events: &[Event]) -> Vec<Trouble> {
    let mut facts = existing.observed.clone();
    facts.pods.extend_from_slice(users);
    let is_warning = |event: &&Event| event.type_.as_deref() == Some("Warning");
    let warnings: Vec<_> = events.iter().filter(is_warning).cloned().collect();
    troubles(&facts, &warnings, &RestartBaseline::default())
}

pub fn judge(existing: &Existing, users: &[Pod], events: &[Event], now: f64) -> Vec<Check> {
    let mut findings = Findings::of(NAME);
    for trouble in all_troubles(existing, users, events) {
        // These have checks of their own.
        if !matches!(trouble.kind, TroubleKind::Image | TroubleKind::LostNode) {
            findings.fail(trouble.to_string(), trouble.help());
        }
    }
    for pod in existing.observed.pods.iter().chain(users) {
        if !findings.mention(&format!("{}:", pod.name_any())) {
            findings.found.extend(ended(pod, now));
        }
    }
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

/// A pod that was evicted, or whose container ended within the last hour.
fn ended(pod: &Pod, now: f64) -> Option<Check> {
    let name = pod.name_any();
    let status = pod.status.as_ref()?;
    if status.reason.as_deref() == Some("Evicted") {
        let message = status.message.clone().unwrap_or_default();
        let hint = "its node ran out of resources: limit what it writes (workers.shuffle with a sizeLimit, spark.worker.cleanup), or raise requests";
        return Some(Check::warning(NAME, format!("{name} was evicted: {message}"), hint));
    }
    let mut containers = status.container_statuses.iter().flatten();
    let container = containers.find(|container| container.restart_count > 0)?;
    let last = container.last_state.as_ref()?.terminated.as_ref()?;
    let age = now - last.finished_at.as_ref()?.0.as_second() as f64;
    if age > RECENT {
        return None;
    }
    let reason = last.reason.as_deref().unwrap_or("Error");
    let observed = format!(
        "{name} restarted {:.0} min ago: exit code {} ({reason}), {}",
        age / 60.0,
        last.exit_code,
        counted(container.restart_count, "restart")
    );
    let hint = match reason {
        "OOMKilled" => {
            "it used more memory than its limit: raise workers.memory, or sparkConf spark.executor.memoryOverheadFactor (masters: daemonMemory)"
                .to_owned()
        }
        _ => format!("`sparkha logs {name} --previous` shows its last log lines"),
    };
    Some(Check::warning(NAME, observed, hint))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_terminations_of_the_last_hour_are_reported() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "spark-worker-0"},
            "status": {"containerStatuses": [{
                "name": "worker", "image": "", "imageID": "", "ready": true, "restartCount": 1, "state": {"running": {}},
                "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": "2026-01-01T00:00:00Z"}},
            }]},
        }))
        .unwrap();
        let end = 1_767_225_600.0;
        let check = ended(&pod, end + 120.0).unwrap();
        assert_eq!(
            check.observed,
            "spark-worker-0 restarted 2 min ago: exit code 137 (OOMKilled), 1 restart"
        );
        assert!(check.hint.contains("raise workers.memory"));
        assert_eq!(ended(&pod, end + 7200.0), None);
    }

    #[test]
    fn an_evicted_pod_is_reported() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p"},
            "status": {"reason": "Evicted", "message": "The node was low on resource: ephemeral-storage."},
        }))
        .unwrap();
        let check = ended(&pod, 0.0).unwrap();
        assert_eq!(
            check.observed,
            "p was evicted: The node was low on resource: ephemeral-storage."
        );
    }
}
