//! The nodes of the Kubernetes cluster, read only if the Spark cluster depends on them. Most users have no permission to read them.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Node;
use kube::Api;

use super::Cluster;
use crate::state::Facts;
use crate::state::nodes::{self, Nodes};

/// How long a list of nodes stays valid.
const VALIDITY: Duration = Duration::from_secs(3);

/// Reads nodes, and caches them for a moment.
#[derive(Debug, Default)]
pub struct NodeReader {
    last: Option<(Instant, Nodes)>,
}

impl NodeReader {
    /// Adds the nodes to the facts, if the facts depend on them.
    pub async fn complete(&mut self, cluster: &Cluster, facts: &mut Facts) {
        if nodes::matter(facts) {
            facts.nodes = self.read(cluster).await;
        }
    }

    pub async fn read(&mut self, cluster: &Cluster) -> Nodes {
        match &self.last {
            Some((at, nodes)) if at.elapsed() < VALIDITY => nodes.clone(),
            _ => {
                let api: Api<Node> = Api::all(cluster.client());
                let nodes = match cluster.list_in(&api, "").await {
                    Ok(nodes) => Nodes::Listed(nodes),
                    Err(error) => {
                        tracing::info!("failed to read nodes: {error}");
                        Nodes::Unknown
                    }
                };
                self.last = Some((Instant::now(), nodes.clone()));
                nodes
            }
        }
    }
}
