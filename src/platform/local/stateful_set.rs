//! The StatefulSet controller's logic: which pods to create and delete next, and a set's status. Pure.

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;

use crate::render::digest::short_digest;
use crate::state::is_ready;

const REVISION: &str = "controller-revision-hash";
/// Annotation of a set with the strategy OnDelete: comma-separated UIDs of the pods to replace.
pub const REPLACE: &str = "sparkha/replace";

/// A step towards the desired pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodStep {
    Create { set: String, ordinal: i32 },
    Delete { pod: String },
}

/// The next steps from these pods to these sets. Missing pods are created and surplus pods deleted all at once. Outdated pods are replaced one
/// at a time from the highest ordinal, each after those above it are ready. A set with the strategy OnDelete replaces the pods that its
/// annotation names.
pub fn steps(sets: &[StatefulSet], pods: &[Pod]) -> Vec<PodStep> {
    let mut steps = Vec::new();
    let known = |pod: &&Pod| sets.iter().any(|set| ordinal_in(pod, set).is_some());
    let delete = |pod: &Pod| PodStep::Delete { pod: pod.name_any() };
    steps.extend(pods.iter().filter(|pod| !known(pod) && !is_deleting(pod)).map(delete));
    for set in sets {
        let replicas = set.spec.replicas.unwrap_or(1);
        let member = |ordinal| pods.iter().find(move |pod| ordinal_in(pod, set) == Some(ordinal));
        let name = set.name_any();
        let missing = (0..replicas).filter(|&ordinal| member(ordinal).is_none());
        steps.extend(missing.map(|ordinal| PodStep::Create {
            set: name.clone(),
            ordinal,
        }));
        let surplus = pods.iter().filter(|pod| ordinal_in(pod, set) >= Some(replicas));
        steps.extend(surplus.filter(|pod| !is_deleting(pod)).map(delete));
        let revision = revision(set);
        let is_outdated = |pod: &Pod| pod.labels().get(REVISION) != Some(&revision);
        if is_on_delete(set) {
            let named = set.annotations().get(REPLACE).map(String::as_str).unwrap_or_default();
            let is_named = |pod: &&Pod| pod.uid().is_some_and(|uid| named.split(',').any(|named| named == uid));
            let members = (0..replicas).filter_map(member);
            let outdated = members.filter(|pod| is_outdated(pod) && !is_deleting(pod));
            steps.extend(outdated.filter(is_named).map(delete));
            continue;
        }
        for pod in (0..replicas).rev().map_while(member) {
            if is_outdated(pod) || !is_ready(pod) {
                steps.extend((is_outdated(pod) && !is_deleting(pod)).then(|| delete(pod)));
                break;
            }
        }
    }
    steps
}

/// A pod of a set before its start.
pub fn pod(set: &StatefulSet, ordinal: i32, namespace: &str, address: &str, uid: String) -> Pod {
    let name = format!("{}-{ordinal}", set.name_any());
    let template = &set.spec.template;
    let mut metadata = template.metadata.clone().unwrap_or_default();
    metadata.name = Some(name.clone());
    metadata.namespace = Some(namespace.to_owned());
    metadata.uid = Some(uid);
    metadata.owner_references = Some(vec![OwnerReference {
        api_version: "apps/v1".into(),
        kind: "StatefulSet".into(),
        name: set.name_any(),
        controller: Some(true),
        ..Default::default()
    }]);
    let labels = metadata.labels.get_or_insert_default();
    labels.insert(REVISION.into(), revision(set));
    labels.insert("statefulset.kubernetes.io/pod-name".into(), name.clone());
    let mut spec = template.spec.clone().unwrap_or_default();
    spec.hostname = Some(name.clone());
    spec.subdomain = set.spec.service_name.clone();
    spec.node_name = Some("localhost".into());
    // Each claim template of the set adds a volume of its name.
    for claim in set.spec.volume_claim_templates.iter().flatten() {
        let volume = serde_json::json!({
            "name": claim.name_any(),
            "persistentVolumeClaim": {"claimName": format!("{}-{name}", claim.name_any())},
        });
        spec.volumes
            .get_or_insert_default()
            .extend(serde_json::from_value(volume));
    }
    Pod {
        metadata,
        spec: Some(spec),
        status: Some(PodStatus {
            phase: Some("Pending".into()),
            pod_ip: Some(address.to_owned()).filter(|address| !address.is_empty()),
            host_ip: Some("127.0.0.1".into()),
            ..Default::default()
        }),
    }
}

/// The set with its status.
pub fn with_status(set: &StatefulSet, pods: &[Pod]) -> StatefulSet {
    let revision = revision(set);
    let members: Vec<_> = pods.iter().filter(|pod| ordinal_in(pod, set).is_some()).collect();
    let count = |condition: &dyn Fn(&&&Pod) -> bool| members.iter().filter(condition).count() as i32;
    let updated = count(&|pod| pod.labels().get(REVISION) == Some(&revision));
    let outdated = members
        .iter()
        .find_map(|pod| pod.labels().get(REVISION).filter(|other| **other != revision));
    let mut set = set.clone();
    set.metadata.generation = Some(1);
    set.status = Some(StatefulSetStatus {
        observed_generation: Some(1),
        replicas: members.len() as i32,
        ready_replicas: Some(count(&|pod| is_ready(pod))),
        updated_replicas: Some(updated),
        current_revision: Some(outdated.unwrap_or(&revision).clone()),
        update_revision: Some(revision.clone()),
        ..Default::default()
    });
    set
}

fn revision(set: &StatefulSet) -> String {
    short_digest([serde_json::to_string(&set.spec.template).unwrap_or_default().as_str()])
}

fn ordinal_in(pod: &Pod, set: &StatefulSet) -> Option<i32> {
    let mut owners = pod.owner_references().iter();
    owners.find(|owner| owner.kind == "StatefulSet" && owner.name == set.name_any())?;
    pod.name_any().rsplit('-').next()?.parse().ok()
}

fn is_on_delete(set: &StatefulSet) -> bool {
    let strategy = set.spec.update_strategy.as_ref();
    strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete")
}

fn is_deleting(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(replicas: i32, image: &str) -> StatefulSet {
        serde_json::from_value(json!({
            "metadata": {"name": "s"},
            "spec": {"replicas": replicas, "serviceName": "h", "selector": {},
                "template": {"spec": {"containers": [{"name": "c", "image": image}]}}},
        }))
        .unwrap()
    }

    fn ready(mut pod: Pod) -> Pod {
        let status = json!({"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 0});
        pod.status.as_mut().unwrap().container_statuses = Some(vec![serde_json::from_value(status).unwrap()]);
        pod
    }

    fn member(set: &StatefulSet, ordinal: i32) -> Pod {
        pod(set, ordinal, "n", "127.64.0.1", "u".into())
    }

    fn delete(pod: &str) -> PodStep {
        PodStep::Delete { pod: pod.into() }
    }

    #[test]
    fn missing_pods_are_created_and_surplus_pods_deleted_all_at_once() {
        let three = set(3, "a");
        let create = |ordinal| PodStep::Create {
            set: "s".into(),
            ordinal,
        };
        assert_eq!(
            steps(std::slice::from_ref(&three), &[member(&three, 1)]),
            [create(0), create(2)]
        );
        let all: Vec<_> = (0..3).map(|ordinal| member(&three, ordinal)).collect();
        assert_eq!(steps(std::slice::from_ref(&three), &all), []);
        assert_eq!(steps(&[set(1, "a")], &all), [delete("s-1"), delete("s-2")]);
        assert_eq!(steps(&[], &all), [delete("s-0"), delete("s-1"), delete("s-2")]);
        // Another set's pod is not a member, even if one name begins with the other.
        let mut other = set(1, "a");
        other.metadata.name = Some("s-0".into());
        assert_eq!(steps(&[set(0, "a"), other.clone()], &[member(&other, 0)]), []);
    }

    #[test]
    fn outdated_pods_are_replaced_one_at_a_time() {
        let (old, new) = (set(2, "a"), set(2, "b"));
        let pods = [ready(member(&old, 0)), ready(member(&old, 1))];
        assert_eq!(steps(std::slice::from_ref(&new), &pods), [delete("s-1")]);
        let pods = [ready(member(&old, 0)), member(&new, 1)];
        assert_eq!(steps(std::slice::from_ref(&new), &pods), []);
        let status = with_status(&new, &pods).status.unwrap();
        assert_eq!(status.updated_replicas, Some(1));
        assert_ne!(status.current_revision, status.update_revision);
        let pods = [ready(member(&old, 0)), ready(member(&new, 1))];
        assert_eq!(steps(std::slice::from_ref(&new), &pods), [delete("s-0")]);
        let pods = [ready(member(&new, 0)), ready(member(&new, 1))];
        assert_eq!(steps(&[new], &pods), []);
    }

    #[test]
    fn a_set_on_delete_replaces_only_the_pods_in_its_annotation() {
        let (old, mut new) = (set(3, "a"), set(3, "b"));
        new.spec.update_strategy.get_or_insert_default().type_ = Some("OnDelete".into());
        let pod = |set, ordinal| pod(set, ordinal, "n", "127.64.0.1", format!("u{ordinal}"));
        let pods = [ready(pod(&old, 0)), ready(pod(&old, 1)), ready(pod(&new, 2))];
        assert_eq!(steps(std::slice::from_ref(&new), &pods), []);
        new.annotations_mut().insert(REPLACE.into(), "u0,u2".into());
        assert_eq!(steps(&[new], &pods), [delete("s-0")]);
    }
}
