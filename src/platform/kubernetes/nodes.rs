//! The Kubernetes cluster's nodes, read when something of ours depends on them. Most users may not read them.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Node;
use kube::Api;

use super::Cluster;
use crate::state::Facts;
use crate::state::nodes::{self, Nodes};

/// How long what was read counts.
const LASTS: Duration = Duration::from_secs(3);

/// Reads nodes, and keeps what it has read for a moment.
#[derive(Debug, Default)]
pub struct NodeReader {
    last: Option<(Instant, Nodes)>,
}

impl NodeReader {
    /// Adds the nodes to what was observed, if they have to be looked at.
    pub async fn complete(&mut self, cluster: &Cluster, facts: &mut Facts) {
        if nodes::matter(facts) {
            facts.nodes = self.read(cluster).await;
        }
    }

    pub async fn read(&mut self, cluster: &Cluster) -> Nodes {
        match &self.last {
            Some((at, nodes)) if at.elapsed() < LASTS => nodes.clone(),
            _ => {
                let api: Api<Node> = Api::all(cluster.client());
                let nodes = match cluster.list_in(&api, "").await {
                    Ok(nodes) => Nodes::Listed(nodes),
                    Err(error) => {
                        tracing::info!("nodes cannot be read: {error}");
                        Nodes::Unknown
                    }
                };
                self.last = Some((Instant::now(), nodes.clone()));
                nodes
            }
        }
    }
}
