//! The errors of both platforms, and a hint for each.

use super::{kubernetes, local};
use crate::render::inventory::{InventoryError, NewerFormat};
use crate::spec::names::{ClusterName, Namespace};
use crate::state::nodes::LostNode;

/// An operation on a platform failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Kubernetes(#[from] kubernetes::Error),
    #[error(transparent)]
    Local(#[from] local::Error),
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    #[error("there is no cluster {name} in namespace {namespace}")]
    NoCluster { name: String, namespace: String },
    #[error("{reason}")]
    NoSecret { reason: String },
    #[error("another sparkha ({holder}) is changing this cluster")]
    Busy { holder: String },
    #[error("some objects still exist after {seconds} s: {}", blockers.join("; "))]
    StillThere { seconds: u64, blockers: Vec<String> },
    #[error("pods do not terminate: {}", lost.iter().map(|lost| format!("node {} {lost}", lost.node)).collect::<Vec<_>>().join("; "))]
    LostNodes { lost: Vec<LostNode>, known: bool },
    #[error("failed to read random numbers: the operating system returned none")]
    Random,
}

impl Error {
    pub fn no_cluster(name: &ClusterName, namespace: &Namespace) -> Self {
        Error::NoCluster {
            name: name.to_string(),
            namespace: namespace.to_string(),
        }
    }

    /// Another sparkha process changed what this one has read.
    pub fn has_just_finished() -> Self {
        Error::Busy {
            holder: "finished just now".into(),
        }
    }

    /// The inventory's format, if it is later than this sparkha knows.
    pub fn newer_format(&self) -> Option<&NewerFormat> {
        match self {
            Error::Inventory(InventoryError::Newer(newer)) | Error::Local(local::Error::Newer(newer)) => Some(newer),
            _ => None,
        }
    }

    /// The remedy, if there is one.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Error::Kubernetes(error) => return error.help(),
            Error::Local(error) => return error.help(),
            Error::Inventory(InventoryError::Newer(newer)) => newer.help(),
            Error::Inventory(InventoryError::Unreadable { .. }) => "use the sparkha version that created the cluster, or a newer one".into(),
            Error::NoCluster { .. } => "`sparkha list -A` lists the clusters, `sparkha create` creates one".into(),
            Error::Busy { .. } => "wait until it has finished, then run this command again".into(),
            Error::StillThere { .. } => "remove the blockers, then run the same command again".into(),
            Error::LostNodes { known: true, .. } => {
                "`sparkha teardown --force` deletes these pods without confirmation from their nodes; if a node comes back, its kubelet kills what \
                 still runs there. Or bring the node back and run `sparkha teardown` again"
                    .into()
            }
            Error::LostNodes { known: false, .. } => {
                "bring the node back and run `sparkha teardown` again. Or ask somebody who may read nodes whether it is gone: they can delete \
                 it (`kubectl delete node`), or run `sparkha teardown --force`"
                    .into()
            }
            Error::NoSecret { .. } | Error::Random => return None,
        })
    }
}
