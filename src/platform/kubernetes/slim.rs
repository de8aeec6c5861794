//! Pods without the fields that only a single cluster's state needs: thousands of whole pods take hundreds of megabytes.

use std::collections::HashMap;
use std::pin::pin;

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use kube::core::{ApiResource, NotUsed, Object};
use serde::{Deserialize, Serialize};

use super::{Cluster, Error, PAGE};
use crate::model::labels::{Component, INSTANCE, MANAGED_BY, SPARKHA};
use crate::state::overview::PodCounts;

pub type SlimPod = Object<NotUsed, SlimStatus>;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SlimStatus {
    #[serde(rename = "podIP")]
    pub pod_ip: Option<String>,
    container_statuses: Vec<SlimContainer>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct SlimContainer {
    ready: bool,
}

/// Pods of this namespace, or of all.
pub fn slim_pods(cluster: &Cluster, all_namespaces: bool) -> Api<SlimPod> {
    let kind = ApiResource::erase::<Pod>(&());
    match all_namespaces {
        true => Api::all_with(cluster.client(), &kind),
        false => Api::namespaced_with(cluster.client(), cluster.namespace().as_str(), &kind),
    }
}

/// As [`crate::state::is_ready`].
fn is_ready(pod: &SlimPod) -> bool {
    let containers = pod.status.as_ref().map(|status| status.container_statuses.as_slice());
    pod.metadata.deletion_timestamp.is_none()
        && containers.is_some_and(|containers| !containers.is_empty() && containers.iter().all(|each| each.ready))
}

impl Cluster {
    /// The pods of each cluster, by namespace and name: in this namespace or in all.
    pub async fn pod_counts(&self, all_namespaces: bool) -> Result<HashMap<(String, String), PodCounts>, Error> {
        let api = &slim_pods(self, all_namespaces);
        let mut counts: HashMap<_, PodCounts> = HashMap::new();
        let params = ListParams::default()
            .labels(&format!("{MANAGED_BY}={SPARKHA}"))
            .limit(PAGE);
        let mut pages = pin!(self.pages("list pods", params, |params| async move { api.list(&params).await }));
        while let Some(page) = pages.try_next().await? {
            for pod in page {
                if let (Some(component), Some(name)) = (Component::of(pod.labels()), pod.labels().get(INSTANCE)) {
                    let cluster = (pod.namespace().unwrap_or_default(), name.clone());
                    counts.entry(cluster).or_default().add(component, is_ready(&pod));
                }
            }
        }
        Ok(counts)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_slim_pod_is_ready_as_a_whole_one_is() {
        let pod = |change: fn(&mut serde_json::Value)| {
            let mut pod = json!({
                "metadata": {"name": "a", "namespace": "n"}, "spec": {"containers": []},
                "status": {"phase": "Running", "containerStatuses": [
                    {"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 0},
                ]},
            });
            change(&mut pod);
            let slim = is_ready(&serde_json::from_value(pod.clone()).unwrap());
            assert_eq!(slim, crate::state::is_ready(&serde_json::from_value(pod).unwrap()));
            slim
        };
        assert!(pod(|_| ()));
        assert!(!pod(|pod| pod["status"]["containerStatuses"][0]["ready"] = json!(false)));
        assert!(!pod(|pod| pod["status"]["containerStatuses"] = json!([])));
        assert!(!pod(|pod| pod["status"] = json!({})));
        assert!(!pod(
            |pod| pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z")
        ));
    }
}
