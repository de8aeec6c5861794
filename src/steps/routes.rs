//! The routes of clusters as they are now.

use std::sync::Arc;

use super::Error;
use super::follow::{Follow, follow_local};
use crate::platform::kubernetes::Cluster;
use crate::platform::local::store::Store;
use crate::platform::way::Way;
use crate::routing::Table;
use crate::spec::names::Namespace;

/// Routes to the clusters of the namespace, or of all namespaces.
pub async fn routes(cluster: &Cluster, all_namespaces: bool) -> Result<Arc<Table>, Error> {
    let way = Way::Forwarded(cluster.clone());
    Follow::kubernetes(cluster, all_namespaces, way).await?.first().await
}

/// Routes to the clusters of this machine.
pub async fn local_routes(store: Store, namespace: Option<Namespace>) -> Result<Arc<Table>, Error> {
    follow_local(store, namespace).first().await
}
