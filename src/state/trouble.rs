//! Reasons why pods do not start, from pods, StatefulSets and events, without any client. Each kind of trouble defines how long
//! it may take to resolve itself.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};
use kube::ResourceExt;

use super::s3::{S3Failure, failure};
use super::{Facts, nodes};
use crate::spec::words::counted;

/// A reason why a component does not start.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Trouble {
    pub kind: TroubleKind,
    /// The pod or StatefulSet.
    pub subject: String,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TroubleKind {
    /// The image cannot be pulled.
    Image,
    /// A Secret, ConfigMap or claim of the pod does not exist, or its container cannot be created.
    Container,
    /// The pod cannot be scheduled.
    Unschedulable,
    /// The container exits repeatedly.
    Crash,
    /// The API server does not admit the pod: quota, Pod Security, a webhook.
    NotAdmitted,
    /// A volume cannot be provisioned or mounted.
    Volume,
    /// A port is already in use on this machine.
    Port,
    /// The container exits because it cannot use the S3-compatible store.
    S3(S3Failure),
    /// The node of its pods does not respond.
    LostNode,
}

impl TroubleKind {
    /// How long to wait until it is considered permanent.
    pub const fn patience(self) -> Duration {
        Duration::from_secs(match self {
            // A registry may be slow once; a second failure is permanent.
            TroubleKind::Image => 20,
            TroubleKind::Container => 20,
            // A cluster autoscaler needs minutes to bring a node.
            TroubleKind::Unschedulable => 90,
            TroubleKind::Crash | TroubleKind::S3(_) => 20,
            TroubleKind::NotAdmitted => 15,
            TroubleKind::Volume => 60,
            TroubleKind::Port => 5,
            // Kubernetes has already waited for 40 s.
            TroubleKind::LostNode => 30,
        })
    }

    const fn what(self) -> &'static str {
        match self {
            TroubleKind::Image => "its image cannot be pulled",
            TroubleKind::Container => "its container cannot be created",
            TroubleKind::Unschedulable => "it cannot be scheduled",
            TroubleKind::Crash => "it crashes",
            TroubleKind::S3(failure) => failure.what(),
            TroubleKind::NotAdmitted => "the API server does not admit its pods",
            TroubleKind::Volume => "a volume cannot be provisioned or mounted",
            TroubleKind::Port => "it has no address",
            TroubleKind::LostNode => "the node is lost",
        }
    }

    /// The remedy; `POD` stands for the subject.
    const fn help(self) -> &'static str {
        match self {
            TroubleKind::Image => {
                "check image, imagePullPolicy and imagePullSecrets; a tag that does not exist looks the same"
            }
            TroubleKind::Container => "create the missing object, or correct its name in the cluster file",
            TroubleKind::Unschedulable => {
                "lower resources.requests or the number of workers, add nodes, or check nodeSelector, tolerations and podAntiAffinity"
            }
            TroubleKind::Crash => "its last lines are above; `sparkha logs POD --previous` shows the complete log",
            TroubleKind::S3(failure) => failure.help(),
            TroubleKind::NotAdmitted => "raise the quota, lower resources, or ask the administrator of the policy",
            TroubleKind::Port => "end the process that listens there (`ss -ltnp` shows it)",
            TroubleKind::LostNode => {
                "its pods are replaced when it is back, or when it is known to be gone: `kubectl delete node POD`, if the machine is off for \
                 good; `sparkha doctor` says more"
            }
            TroubleKind::Volume => {
                "check storageClassName, accessMode and the claim's name: `kubectl describe pvc`; of NFS, the server's exports and the NFS client \
                 of the nodes (nfs-common)"
            }
        }
    }
}

impl Trouble {
    /// The cause of a crash that the container's log shows, in place of the crash.
    pub fn explained(self, log: &str) -> Self {
        match failure(log) {
            Some((failure, message)) if self.kind == TroubleKind::Crash => Self {
                kind: TroubleKind::S3(failure),
                message,
                ..self
            },
            _ => self,
        }
    }

    /// The remedy.
    pub fn help(&self) -> String {
        self.kind.help().replace("POD", &self.subject)
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}: {}", self.subject, self.kind.what(), self.message)
    }
}

/// The restart counts of pods when observation began, by UID. Old pods may have restarted before; only additional restarts
/// indicate a crash.
#[derive(Debug, Default)]
pub struct RestartBaseline(BTreeMap<String, i32>);

impl RestartBaseline {
    /// Records the restart counts of new pods.
    pub fn remember(&mut self, facts: &Facts) {
        for pod in &facts.pods {
            self.0
                .entry(pod.uid().unwrap_or_default())
                .or_insert_with(|| restarts(pod));
        }
    }

    fn of(&self, pod: &Pod) -> i32 {
        self.0.get(&pod.uid().unwrap_or_default()).copied().unwrap_or_default()
    }
}

fn restarts(pod: &Pod) -> i32 {
    let containers = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten());
    containers.map(|container| container.restart_count).sum()
}

/// All troubles of the observed pods.
pub fn troubles(facts: &Facts, events: &[Event], before: &RestartBaseline) -> Vec<Trouble> {
    let mut troubles: Vec<_> = facts.pods.iter().flat_map(|pod| of_pod(pod, before.of(pod))).collect();
    let lost = nodes::lost(&facts.pods, &facts.nodes);
    troubles.extend(lost.into_iter().map(|lost| Trouble {
        kind: TroubleKind::LostNode,
        subject: lost.node.clone(),
        message: lost.to_string(),
    }));
    for event in events {
        troubles.extend(of_event(facts, event));
    }
    troubles.sort();
    troubles.dedup_by(|a, b| (a.kind, &a.subject) == (b.kind, &b.subject));
    troubles
}

fn of_pod(pod: &Pod, before: i32) -> Vec<Trouble> {
    let trouble = |kind, message: String| Trouble {
        kind,
        subject: pod.name_any(),
        message,
    };
    let Some(status) = &pod.status else { return vec![] };
    if pod.metadata.deletion_timestamp.is_some() {
        return vec![];
    }
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .filter(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
        .map(|condition| {
            let message = condition.message.clone().unwrap_or_default();
            // The scheduler's message may also be about claims.
            let kind = if message.to_lowercase().contains("persistentvolumeclaim") {
                TroubleKind::Volume
            } else {
                TroubleKind::Unschedulable
            };
            trouble(kind, message)
        });
    let containers = status.container_statuses.iter().flatten();
    unscheduled
        .chain(containers.filter_map(|container| {
            let (kind, message) = of_container(container, before)?;
            Some(trouble(kind, message))
        }))
        .collect()
}

fn of_container(container: &ContainerStatus, before: i32) -> Option<(TroubleKind, String)> {
    let state = container.state.as_ref()?;
    if let Some(waiting) = &state.waiting {
        let reason = waiting.reason.as_deref().unwrap_or_default();
        let message = waiting.message.clone().unwrap_or_else(|| reason.to_owned());
        let kind = match reason {
            "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => TroubleKind::Image,
            "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => TroubleKind::Container,
            "AddressNotAvailable" => TroubleKind::Port,
            "CrashLoopBackOff" => {
                return Some((TroubleKind::Crash, last_end(container).unwrap_or(message)));
            }
            _ => return None,
        };
        return Some((kind, one_line(&message)));
    }
    // A member that started before its ensemble may restart once; several restarts are a crash.
    (container.restart_count >= before + 3 && !container.ready)
        .then(|| last_end(container).map(|message| (TroubleKind::Crash, message)))
        .flatten()
}

/// The end of the container's last run.
fn last_end(container: &ContainerStatus) -> Option<String> {
    let ended = container.last_state.as_ref()?.terminated.as_ref()?;
    let reason = ended.reason.as_deref().unwrap_or("Error");
    Some(format!(
        "exit code {} ({reason}), {}",
        ended.exit_code,
        counted(container.restart_count, "restart")
    ))
}

/// Troubles that only events report, because there is no pod.
fn of_event(facts: &Facts, event: &Event) -> Option<Trouble> {
    let subject = event.involved_object.name.as_deref()?;
    let kind = match event.reason.as_deref()? {
        "FailedCreate" if facts.sets.iter().any(|set| set.name_any() == subject && is_short(set)) => {
            TroubleKind::NotAdmitted
        }
        "FailedMount" | "FailedAttachVolume" if facts.pods.iter().any(|pod| is_waiting(pod, subject)) => {
            TroubleKind::Volume
        }
        _ => return None,
    };
    Some(Trouble {
        kind,
        subject: subject.to_owned(),
        message: one_line(event.message.as_deref().unwrap_or_default()),
    })
}

fn is_short(set: &k8s_openapi::api::apps::v1::StatefulSet) -> bool {
    let wanted = set.spec.replicas.unwrap_or(0);
    set.status.as_ref().map_or(0, |status| status.replicas) < wanted
}

fn is_waiting(pod: &Pod, name: &str) -> bool {
    pod.name_any() == name && pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Pending")
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn facts(restarts: i32) -> Facts {
        let pod = json!({
            "metadata": {"name": "p", "uid": "u"},
            "status": {"containerStatuses": [{
                "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": restarts,
                "state": {"running": {}}, "lastState": {"terminated": {"exitCode": 1}},
            }]},
        });
        Facts {
            pods: vec![serde_json::from_value(pod).unwrap()],
            ..Facts::default()
        }
    }

    #[test]
    fn a_refused_volume_is_reported() {
        let pod = json!({"metadata": {"name": "p"}, "status": {"phase": "Pending"}});
        let waiting = Facts {
            pods: vec![serde_json::from_value(pod).unwrap()],
            ..Facts::default()
        };
        let refused =
            "MountVolume.SetUp failed: mount.nfs: access denied by server while mounting 172.28.128.10:/nfs_mnt";
        let event = json!({
            "metadata": {}, "involvedObject": {"kind": "Pod", "name": "p"}, "reason": "FailedMount", "message": refused,
        });
        let event = [serde_json::from_value(event).unwrap()];
        let found = troubles(&waiting, &event, &RestartBaseline::default());
        assert_eq!(
            found[0].to_string(),
            format!("p: a volume cannot be provisioned or mounted: {refused}")
        );
        // A running pod has no trouble.
        assert_eq!(troubles(&facts(0), &event, &RestartBaseline::default()), []);
    }

    #[test]
    fn earlier_restarts_are_not_a_crash() {
        let mut before = RestartBaseline::default();
        before.remember(&facts(7));
        assert_eq!(troubles(&facts(9), &[], &before), []);
        assert_eq!(troubles(&facts(10), &[], &before)[0].kind, TroubleKind::Crash);
        assert_eq!(
            troubles(&facts(3), &[], &RestartBaseline::default())[0].kind,
            TroubleKind::Crash
        );
    }
}
