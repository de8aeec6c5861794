//! Counts pods of many clusters, and reads only what that needs: thousands of whole pods take hundreds of megabytes.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::Pod;
use kube::Resource;
use kube::api::ListParams;
use kube::core::Request;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Cluster, Error};
use crate::model::labels::{Component, INSTANCE, MANAGED_BY, SPARKHA};
use crate::state::overview::PodCounts;

/// Pods in one page. A whole pod has about 12 KB.
const PAGE: u32 = 500;

#[derive(Deserialize)]
struct Page {
    metadata: PageMetadata,
    items: Vec<BriefPod>,
}

#[derive(Deserialize)]
struct PageMetadata {
    #[serde(rename = "continue", default)]
    token: String,
}

#[derive(Deserialize)]
struct BriefPod {
    metadata: BriefMetadata,
    #[serde(default)]
    status: BriefStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BriefMetadata {
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    deletion_timestamp: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct BriefStatus {
    #[serde(default)]
    container_statuses: Vec<BriefContainer>,
}

#[derive(Deserialize)]
struct BriefContainer {
    ready: bool,
}

impl BriefPod {
    /// As [`crate::state::is_ready`].
    fn is_ready(&self) -> bool {
        let containers = &self.status.container_statuses;
        let all_ready = containers.iter().all(|container| container.ready);
        self.metadata.deletion_timestamp.is_none() && !containers.is_empty() && all_ready
    }
}

impl Cluster {
    /// The pods of each cluster, by namespace and name: in this namespace or in all.
    pub async fn pod_counts(&self, all_namespaces: bool) -> Result<HashMap<(String, String), PodCounts>, Error> {
        let namespace = (!all_namespaces).then(|| self.namespace().as_str());
        let pods = Request::new(Pod::url_path(&(), namespace));
        let mut counts: HashMap<_, PodCounts> = HashMap::new();
        let mut params = ListParams::default()
            .labels(&format!("{MANAGED_BY}={SPARKHA}"))
            .limit(PAGE);
        loop {
            let page = self.call("list pods", || async {
                let request = pods.list(&params).map_err(kube::Error::BuildRequest)?;
                self.client().request::<Page>(request).await
            });
            let page = page.await?;
            for pod in page.items {
                let is_ready = pod.is_ready();
                let component = Component::of(&pod.metadata.labels);
                let BriefMetadata {
                    namespace, mut labels, ..
                } = pod.metadata;
                if let (Some(component), Some(name)) = (component, labels.remove(INSTANCE)) {
                    counts.entry((namespace, name)).or_default().add(component, is_ready);
                }
            }
            if page.metadata.token.is_empty() {
                return Ok(counts);
            }
            params = params.continue_token(&page.metadata.token);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::labels::COMPONENT;

    #[test]
    fn a_brief_pod_is_ready_as_a_whole_one_is() {
        let pod = |change: fn(&mut serde_json::Value)| {
            let mut pod = json!({
                "metadata": {"name": "a", "namespace": "n", "labels": {COMPONENT: "master"}, "uid": "u"},
                "spec": {"containers": []},
                "status": {"phase": "Running", "containerStatuses": [
                    {"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 0},
                ]},
            });
            change(&mut pod);
            let brief: BriefPod = serde_json::from_value(pod.clone()).unwrap();
            let whole: Pod = serde_json::from_value(pod).unwrap();
            assert_eq!(brief.is_ready(), crate::state::is_ready(&whole));
            brief.is_ready()
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
