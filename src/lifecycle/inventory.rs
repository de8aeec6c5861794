//! Reads the inventory of a cluster on Kubernetes.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::DynamicObject;

use crate::lifecycle::Error;
use crate::model::kind::Kind;
use crate::platform::kubernetes::Cluster;
use crate::render::inventory::Inventory;
use crate::spec::names::ClusterName;

/// The ConfigMap with the cluster's inventory. Fails if there is no such cluster.
pub async fn inventory_object(cluster: &Cluster, name: &ClusterName) -> Result<DynamicObject, Error> {
    let found = cluster.get(Kind::ConfigMap, &name.inventory()).await?;
    found.ok_or_else(|| Error::no_cluster(name, cluster.namespace()))
}

/// Parses the inventory in its ConfigMap.
pub fn read_inventory(object: &DynamicObject) -> Result<Inventory, Error> {
    let value = serde_json::to_value(object).unwrap_or_default();
    let config_map: ConfigMap = serde_json::from_value(value).unwrap_or_default();
    Ok(Inventory::read(&config_map)?)
}
