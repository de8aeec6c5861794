//! The current routes of clusters.

pub mod check;
pub mod deploy;
pub mod follow;
pub mod publish;
pub mod serve;
pub mod watch;

use std::sync::Arc;

use crate::lifecycle::Error;
use crate::platform::kubernetes::Cluster;
use crate::platform::local::store::Store;
use crate::platform::transport::Transport;
use crate::routes::follow::{Follow, follow_local};
use crate::routing::Table;
use crate::spec::names::Namespace;

/// Routes to the clusters of the namespace, or of all namespaces.
pub async fn routes(cluster: &Cluster, all_namespaces: bool) -> Result<Arc<Table>, Error> {
    let transport = Transport::PortForward(cluster.clone());
    Follow::kubernetes(cluster, all_namespaces, transport)
        .await?
        .first()
        .await
}

/// Routes to the clusters on this machine.
pub async fn local_routes(store: Store, namespace: Option<Namespace>) -> Result<Arc<Table>, Error> {
    follow_local(store, namespace).first().await
}
