//! What `sparkha status` and `sparkha list` look at.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::ResourceExt;
use kube::api::Api;

use super::Error;
use super::preflight::read_inventory;
use crate::observe::{ClusterState, Facts, cluster_state};
use crate::platform::kubernetes::Cluster;
use crate::platform::observer::{Ask, Observer};
use crate::render::inventory::Inventory;
use crate::render::kind::Kind;
use crate::render::labels::{COMPONENT, Component, MANAGED_BY, SPARKHA, cluster_selector};
use crate::spec::names::{ClusterName, Namespace};

/// One cluster as it is now; the observer keeps its connections for the next look.
pub async fn status(
    cluster: &Cluster,
    name: &ClusterName,
    observer: &mut Observer<Cluster>,
) -> Result<ClusterState, Error> {
    let found = cluster.get(Kind::ConfigMap, &name.inventory()).await?;
    let Some(object) = found else {
        return Err(Error::NoCluster {
            name: name.to_string(),
            namespace: cluster.namespace().to_string(),
        });
    };
    let inventory = read_inventory(&object)?;
    let facts = observe(cluster, name, observer).await?;
    Ok(cluster_state(cluster.namespace().as_str(), &inventory, &facts))
}

/// All clusters of the namespace, or of all namespaces.
pub async fn list(cluster: &Cluster, all_namespaces: bool) -> Result<Vec<ClusterState>, Error> {
    let seen = look_at_all(cluster, all_namespaces).await?;
    let states = seen
        .iter()
        .map(|(namespace, inventory, facts)| cluster_state(namespace, inventory, facts));
    Ok(states.collect())
}

/// Inventory and facts of all clusters, by namespace and name.
pub async fn look_at_all(cluster: &Cluster, all_namespaces: bool) -> Result<Vec<(String, Inventory, Facts)>, Error> {
    let api: Api<ConfigMap> = if all_namespaces {
        Api::all(cluster.client())
    } else {
        cluster.api()
    };
    let selector = format!("{MANAGED_BY}={SPARKHA},{COMPONENT}={}", Component::Cluster.as_str());
    let config_maps = cluster.list_in(&api, &selector).await?;
    let looks = config_maps
        .iter()
        .filter_map(|config_map| Some((config_map, Inventory::read(config_map).ok()?)))
        .map(|(config_map, inventory)| look(cluster, config_map.namespace().unwrap_or_default(), inventory));
    let mut seen: Vec<_> = futures::future::try_join_all(looks)
        .await?
        .into_iter()
        .flatten()
        .collect();
    seen.sort_by(|(a, one, _), (b, other, _)| (a, &one.cluster.name).cmp(&(b, &other.cluster.name)));
    Ok(seen)
}

async fn look(
    cluster: &Cluster,
    namespace: String,
    inventory: Inventory,
) -> Result<Option<(String, Inventory, Facts)>, Error> {
    let (Ok(parsed), Ok(name)) = (
        Namespace::parse(&namespace),
        ClusterName::parse(&inventory.cluster.name),
    ) else {
        return Ok(None);
    };
    let cluster = cluster.in_namespace(parsed);
    let facts = observe(&cluster, &name, &mut Observer::new(cluster.clone())).await?;
    Ok(Some((namespace, inventory, facts)))
}

/// Lists pods and StatefulSets, and asks.
async fn observe(cluster: &Cluster, name: &ClusterName, observer: &mut Observer<Cluster>) -> Result<Facts, Error> {
    let selector = cluster_selector(name);
    let (pods, sets) = futures::try_join!(
        cluster.list_of::<Pod>(&selector),
        cluster.list_of::<StatefulSet>(&selector),
    )?;
    Ok(observer.ask(pods, sets, Ask::Running).await)
}
