//! Reads the cluster state for `sparkha status` and `sparkha list`.

use std::collections::HashMap;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::ResourceExt;
use kube::api::Api;

use crate::lifecycle::Error;
use crate::lifecycle::inventory::inventory;
use crate::model::error_chain::with_sources;
use crate::model::labels::{COMPONENT, Component, INSTANCE, MANAGED_BY, SPARKHA};
use crate::platform::kubernetes::Cluster;
use crate::platform::local::LocalPlatform;
use crate::platform::local::store::Store;
use crate::platform::{Observation, Platform};
use crate::render::inventory::Inventory;
use crate::spec::names::Namespace;
use crate::state::overview::{Overview, of_state, overview};
use crate::state::{ClusterState, Facts, cluster_state};

/// The current state of one cluster. The platform keeps its connections for the next call.
pub async fn status(platform: &dyn Platform) -> Result<ClusterState, Error> {
    let inventory = inventory(platform).await?;
    let facts = platform.facts(Observation::Once).await?;
    Ok(cluster_state(platform.namespace().as_str(), &inventory, &facts))
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

/// Summaries of the clusters on this machine, in one namespace or in all.
pub async fn list_local(namespace: Option<&Namespace>) -> Result<Vec<Overview>, Error> {
    let dirs = Store::open()?.clusters(namespace)?;
    let states = dirs.into_iter().map(async |dir| {
        let platform = LocalPlatform::new(dir, None);
        match status(&platform).await {
            Ok(state) => Some(of_state(&state)),
            Err(Error::Platform(crate::platform::Error::NoCluster { .. })) => None,
            Err(error) => {
                let (namespace, name) = (platform.namespace(), platform.name());
                tracing::warn!("{namespace}/{name}: {}", with_sources(&error));
                None
            }
        }
    });
    Ok(join_all(states).await.into_iter().flatten().collect())
}
