//! Reads the cluster state for `sparkha status` and `sparkha list`.

use futures::future::join_all;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::Api;

use crate::lifecycle::Error;
use crate::lifecycle::inventory::{to_read, warn_if_newer};
use crate::model::error_chain::with_sources;
use crate::model::labels::inventories_selector;
use crate::platform::kubernetes::Cluster;
use crate::platform::local::LocalPlatform;
use crate::platform::local::store::Store;
use crate::platform::{Observation, Platform};
use crate::render::inventory::Inventory;
use crate::spec::names::Namespace;
use crate::state::nodes::Warning;
use crate::state::overview::{Overview, of_state, overview};
use crate::state::{ClusterState, cluster_state};

/// The current state of one cluster. The platform keeps its connections for the next call.
pub async fn status(platform: &dyn Platform) -> Result<ClusterState, Error> {
    let inventory = to_read(platform).await?;
    let facts = platform.facts(Observation::Once).await?;
    Ok(cluster_state(platform.namespace().as_str(), &inventory, &facts))
}

/// Summaries of all clusters in the namespace or in all namespaces, from one list of inventories and one of pods.
pub async fn list(cluster: &Cluster, all_namespaces: bool) -> Result<Vec<Overview>, Error> {
    let inventories: Api<ConfigMap> = match all_namespaces {
        true => Api::all(cluster.client()),
        false => cluster.api(),
    };
    let selector = inventories_selector();
    let inventories = cluster.list_parts(&inventories, &selector, |config_map| {
        let inventory = Inventory::read_among(config_map)?;
        let created = config_map.metadata.creation_timestamp.clone();
        Some((config_map.namespace().unwrap_or_default(), inventory, created))
    });
    let (inventories, mut pods) = futures::try_join!(inventories, cluster.pod_counts(all_namespaces))?;
    let overviews = inventories.into_iter().map(|(namespace, inventory, created)| {
        warn_if_newer(&inventory);
        let pods = pods.remove(&(namespace.clone(), inventory.cluster.name.to_string()));
        overview(&namespace, &inventory, &pods.unwrap_or_default(), created)
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
            Ok(state) => {
                let newer = |warning: &&Warning| matches!(warning, Warning::NewerSparkha(_));
                for warning in state.warnings.iter().filter(newer) {
                    tracing::warn!("{warning}: what it shows may be incomplete");
                }
                Some(of_state(&state))
            }
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
