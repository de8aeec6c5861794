//! The routes of clusters as they are now.

use super::Error;
use super::local::LocalView;
use super::status::look_at_all;
use crate::platform::kubernetes::Cluster;
use crate::platform::local::store::Store;
use crate::routing::{self, Route};
use crate::spec::names::Namespace;

/// Routes to the clusters of the namespace, or of all namespaces.
pub async fn routes(cluster: &Cluster, all_namespaces: bool) -> Result<Vec<Route>, Error> {
    let seen = look_at_all(cluster, all_namespaces).await?;
    let routes = seen
        .iter()
        .flat_map(|(namespace, inventory, facts)| routing::routes(namespace, inventory, facts));
    Ok(sorted(routes))
}

/// Routes to the clusters of this machine.
pub async fn local_routes(store: &Store, namespace: Option<&Namespace>) -> Result<Vec<Route>, Error> {
    let mut found = Vec::new();
    for dir in store.clusters(namespace)? {
        if let Some((inventory, facts)) = LocalView::of(&dir).look().await? {
            found.extend(routing::routes(dir.namespace.as_str(), &inventory, &facts));
        }
    }
    Ok(sorted(found.into_iter()))
}

fn sorted(routes: impl Iterator<Item = Route>) -> Vec<Route> {
    let mut routes: Vec<_> = routes.collect();
    routes.sort();
    routes
}
