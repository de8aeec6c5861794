//! Reads the cluster state for `sparkha status` and `sparkha list`.

use std::collections::HashMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::ResourceExt;
use kube::api::Api;

use crate::lifecycle::Error;
use crate::lifecycle::inventory::{inventory_object, read_inventory};
use crate::model::labels::{COMPONENT, Component, INSTANCE, MANAGED_BY, SPARKHA, cluster_selector};
use crate::platform::kubernetes::{Cluster, NodeReader};
use crate::platform::observer::{Observer, PodFilter};
use crate::render::inventory::Inventory;
use crate::spec::names::ClusterName;
use crate::state::overview::{Overview, overview};
use crate::state::{ClusterState, Facts, cluster_state};

/// The current state of one cluster. The observer keeps its connections for the next call.
pub async fn status(
    cluster: &Cluster,
    name: &ClusterName,
    observer: &mut Observer<Cluster>,
) -> Result<ClusterState, Error> {
    let inventory = read_inventory(&inventory_object(cluster, name).await?)?;
    let facts = observe(cluster, name, observer).await?;
    Ok(cluster_state(cluster.namespace().as_str(), &inventory, &facts))
}

/// Summaries of all clusters in the namespace or in all namespaces, from one list of inventories and one of pods.
pub async fn list(cluster: &Cluster, all_namespaces: bool) -> Result<Vec<Overview>, Error> {
    let (inventories, pods): (Api<ConfigMap>, Api<Pod>) = match all_namespaces {
        true => (Api::all(cluster.client()), Api::all(cluster.client())),
        false => (cluster.api(), cluster.api()),
    };
    let inventory_selector = format!("{MANAGED_BY}={SPARKHA},{COMPONENT}={}", Component::Cluster.as_str());
    let pod_selector = format!("{MANAGED_BY}={SPARKHA}");
    let (inventories, pods) = futures::try_join!(
        cluster.list_in(&inventories, &inventory_selector),
        cluster.list_in(&pods, &pod_selector),
    )?;
    let mut of_clusters: HashMap<_, Facts> = HashMap::new();
    for pod in pods {
        let cluster = (pod.namespace(), pod.labels().get(INSTANCE).cloned());
        of_clusters.entry(cluster).or_default().pods.push(pod);
    }
    let overviews = inventories.iter().filter_map(|config_map| {
        let inventory = Inventory::read_among(config_map)?;
        let namespace = config_map.namespace();
        let facts = of_clusters.remove(&(namespace.clone(), Some(inventory.cluster.name.to_string())));
        let created = config_map.metadata.creation_timestamp.clone();
        Some(overview(
            &namespace.unwrap_or_default(),
            &inventory,
            &facts.unwrap_or_default(),
            created,
        ))
    });
    let mut overviews: Vec<_> = overviews.collect();
    overviews.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    Ok(overviews)
}

/// Lists pods and StatefulSets and queries them.
async fn observe(cluster: &Cluster, name: &ClusterName, observer: &mut Observer<Cluster>) -> Result<Facts, Error> {
    let selector = cluster_selector(name);
    let (pods, sets) = futures::try_join!(
        cluster.list_of::<Pod>(&selector),
        cluster.list_of::<StatefulSet>(&selector),
    )?;
    let mut facts = observer.query(pods, sets, PodFilter::Running).await;
    NodeReader::default().complete(cluster, &mut facts).await;
    Ok(facts)
}
