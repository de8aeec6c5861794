//! Pods without the fields that only a single cluster's state needs: thousands of whole pods take hundreds of megabytes.

use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::core::{ApiResource, NotUsed, Object};
use serde::{Deserialize, Serialize};

use super::Cluster;

pub type SlimPod = Object<NotUsed, SlimStatus>;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SlimStatus {
    pub phase: Option<String>,
    #[serde(rename = "podIP")]
    pub pod_ip: Option<String>,
}

/// Pods of this namespace, or of all.
pub fn slim_pods(cluster: &Cluster, all_namespaces: bool) -> Api<SlimPod> {
    let kind = ApiResource::erase::<Pod>(&());
    match all_namespaces {
        true => Api::all_with(cluster.client(), &kind),
        false => Api::namespaced_with(cluster.client(), cluster.namespace().as_str(), &kind),
    }
}
