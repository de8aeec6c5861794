//! Images: those that nodes cannot pull, and different images of the same name, as when each node has its own build.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::ResourceExt;

use super::facts::Existing;
use super::pods::all_troubles;
use crate::doctor::{Check, Findings};
use crate::state::trouble::TroubleKind;

const NAME: &str = "images";

pub fn judge(existing: &Existing, users: &[Pod], events: &[Event]) -> Vec<Check> {
    let mut findings = Findings::of(NAME);
    for trouble in all_troubles(existing, users, events) {
        if trouble.kind == TroubleKind::Image {
            findings.fail(trouble.to_string(), trouble.help());
        }
    }
    let different = different(existing.observed.pods.iter().chain(users));
    findings.found.extend(different);
    findings.or_ok(format!("{} is available", existing.inventory.cluster.image))
}

/// Different images of the same name.
fn different<'a>(pods: impl Iterator<Item = &'a Pod>) -> Vec<Check> {
    let mut ids: BTreeMap<&str, BTreeMap<&str, BTreeSet<String>>> = BTreeMap::new();
    for pod in pods {
        let statuses = pod.status.iter().flat_map(|status| &status.container_statuses);
        // A container that has not started has no ID.
        let started = statuses.flatten().filter(|status| !status.image_id.is_empty());
        let id_of: BTreeMap<_, _> = started.map(|status| (&status.name, status.image_id.as_str())).collect();
        for container in pod.spec.iter().flat_map(|spec| &spec.containers) {
            if let (Some(image), Some(id)) = (container.image.as_deref(), id_of.get(&container.name)) {
                let of_image = ids.entry(image).or_default();
                of_image.entry(id).or_default().insert(pod.name_any());
            }
        }
    }
    let several = ids.into_iter().filter(|(_, ids)| ids.len() > 1);
    several
        .map(|(image, ids)| {
            let parties: Vec<_> = ids.values().map(|pods| pods.iter().cloned().collect::<Vec<_>>().join(" and ")).collect();
            let observed = format!("{image} is not the same image in {}", parties.join(" as in "));
            let hint = "nodes have their own builds under one name, or the tag was moved: push it to a registry, and use its digest";
            Check::warning(NAME, observed, hint)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_image_built_on_each_node_is_reported() {
        let pod = |name: &str, id: &str| -> Pod {
            serde_json::from_value(json!({
                "metadata": {"name": name},
                "spec": {"containers": [{"name": "c", "image": "spark:4"}]},
                "status": {"containerStatuses": [{
                    "name": "c", "image": "spark:4", "imageID": id, "ready": true, "restartCount": 0,
                }]},
            }))
            .unwrap()
        };
        let same = [pod("a", "sha256:1"), pod("b", "sha256:1"), pod("starting", "")];
        assert_eq!(different(same.iter()), []);
        let other = [pod("a", "sha256:1"), pod("b", "sha256:2")];
        assert_eq!(
            different(other.iter())[0].observed,
            "spark:4 is not the same image in a as in b"
        );
    }
}
