//! Pods of either platform: why they do not start, and what ended them recently.

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::ResourceExt;

use super::{Check, Findings};
use crate::model::labels::is_ours;
use crate::spec::words::counted;
use crate::state::Facts;
use crate::state::trouble::{RestartBaseline, Trouble, TroubleKind, troubles};

const NAME: &str = "pods";
/// An older termination is ignored.
const RECENT: f64 = 3600.0;
const EVICTED: &str = "Evicted";

/// Why these pods do not start.
pub fn all_troubles(facts: &Facts, events: &[Event]) -> Vec<Trouble> {
    let is_warning = |event: &&Event| event.type_.as_deref() == Some("Warning");
    let warnings: Vec<_> = events.iter().filter(is_warning).cloned().collect();
    troubles(facts, &warnings, &RestartBaseline::default())
}

/// Pods that do not start, and those that ended within the last hour. `now` is in seconds since the epoch.
pub fn findings(facts: &Facts, events: &[Event], now: f64) -> Findings {
    let mut findings = Findings::of(NAME);
    for trouble in all_troubles(facts, events) {
        let hint = match trouble.kind {
            // These have checks of their own.
            TroubleKind::Image | TroubleKind::LostNode => continue,
            TroubleKind::Crash => {
                let name = &trouble.subject;
                let pod = facts.pods.iter().find(|pod| pod.name_any() == *name);
                remedy(name, pod, pod.and_then(last_reason).unwrap_or("Error"))
            }
            _ => trouble.help(),
        };
        findings.fail(trouble.to_string(), hint);
    }
    for pod in &facts.pods {
        if !findings.mention(&format!("{}:", pod.name_any())) {
            findings.found.extend(ended(pod, now));
        }
    }
    let mut evictions: Vec<_> = events.iter().filter(|event| is_eviction(event, facts, now)).collect();
    // The newest of each pod.
    evictions.sort_by_key(|event| std::cmp::Reverse(event.last_timestamp.as_ref().map(|time| time.0)));
    for event in evictions {
        let pod = event.involved_object.name.as_deref().unwrap_or_default();
        if !findings.mention(&format!("{pod} was evicted:")) {
            let message = event.message.as_deref().unwrap_or_default();
            findings.found.push(evicted(pod, message));
        }
    }
    findings
}

/// Whether it is about a StatefulSet's pod within the last hour. Kubernetes deletes such a pod to replace it: only the event remains.
fn is_eviction(event: &Event, facts: &Facts, now: f64) -> bool {
    let object = &event.involved_object;
    let set = object.name.as_deref().and_then(|name| name.rsplit_once('-'));
    let is_of = |(set, ordinal): (&str, &str)| {
        ordinal.parse::<u32>().is_ok() && facts.sets.iter().any(|known| known.name_any() == set)
    };
    let time = event.last_timestamp.as_ref().map(|time| time.0.as_second() as f64);
    event.reason.as_deref() == Some(EVICTED)
        && object.kind.as_deref() == Some("Pod")
        && set.is_some_and(is_of)
        && time.is_some_and(|time| now - time <= RECENT)
}

fn evicted(pod: &str, message: &str) -> Check {
    let hint = "its node ran out of resources, or a volume reached its sizeLimit: limit what it writes (spark.worker.cleanup), or raise requests \
                and limits (workers.shuffle has a sizeLimit)";
    Check::warning(NAME, format!("{pod} was evicted: {}", message.trim()), hint)
}

/// A pod that was evicted, or whose container ended within the last hour.
fn ended(pod: &Pod, now: f64) -> Option<Check> {
    let name = pod.name_any();
    let status = pod.status.as_ref()?;
    if status.reason.as_deref() == Some(EVICTED) {
        return Some(evicted(&name, status.message.as_deref().unwrap_or_default()));
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
    Some(Check::warning(NAME, observed, remedy(&name, Some(pod), reason)))
}

/// Why a pod's container ended last.
fn last_reason(pod: &Pod) -> Option<&str> {
    let mut containers = pod.status.as_ref()?.container_statuses.iter().flatten();
    containers.find_map(|container| container.last_state.as_ref()?.terminated.as_ref()?.reason.as_deref())
}

/// What to do about a container that ended for this reason.
fn remedy(name: &str, pod: Option<&Pod>, reason: &str) -> String {
    match reason {
        "OOMKilled" => {
            "it used more memory than its limit: raise that. Workers: workers.memory, or sparkConf spark.executor.memoryOverheadFactor; \
             masters: daemonMemory; drivers: their pod's own"
                .to_owned()
        }
        _ => {
            // sparkha shows the logs of what it made, and not those of users' own drivers.
            let program = match pod.is_none_or(|pod| is_ours(Some(pod.labels()))) {
                true => "sparkha",
                false => "kubectl",
            };
            format!("`{program} logs {name} --previous` shows its last log lines")
        }
    }
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
        assert!(check.hint.contains("workers.memory"));
        let logs = |pod: &Pod| remedy("p", Some(pod), "Error");
        assert!(
            logs(&pod).starts_with("`kubectl logs p --previous`"),
            "a user's own pod"
        );
        let mut own = pod.clone();
        own.labels_mut()
            .insert("app.kubernetes.io/managed-by".into(), "sparkha".into());
        assert!(logs(&own).starts_with("`sparkha logs p --previous`"));
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

    #[test]
    fn an_eviction_is_remembered_by_its_event_alone() {
        let set = serde_json::from_value(
            json!({"metadata": {"name": "spark-worker"}, "spec": {"selector": {}, "serviceName": "", "template": {}}}),
        );
        let facts = Facts {
            sets: vec![set.unwrap()],
            ..Facts::default()
        };
        let event = |pod: &str, time: &str| -> Event {
            serde_json::from_value(json!({
                "metadata": {}, "involvedObject": {"kind": "Pod", "name": pod}, "reason": "Evicted", "type": "Warning",
                "message": "Its volume is full. ", "lastTimestamp": time,
            }))
            .unwrap()
        };
        let (recent, old) = ("2026-01-01T00:00:00Z", "2025-12-31T22:00:00Z");
        let events = [
            event("spark-worker-0", recent),
            event("spark-worker-0", recent),
            event("spark-worker-1", old),
            event("other-worker-0", recent),
        ];
        let found = findings(&facts, &events, 1_767_225_600.0).found;
        let observed: Vec<_> = found.iter().map(|check| check.observed.as_str()).collect();
        assert_eq!(observed, ["spark-worker-0 was evicted: Its volume is full."]);
    }
}
