//! Location of the cluster's state in ZooKeeper.

use crate::model::ports::ZOOKEEPER_PORT;
use crate::spec::{ClusterSpec, Recovery};

/// ZooKeeper's connect string for the masters.
pub fn zookeeper_url(spec: &ClusterSpec) -> Option<String> {
    match &spec.recovery {
        Recovery::FileSystem { .. } => None,
        Recovery::ManagedZooKeeper(zookeeper) => {
            let set = spec.name.zookeeper();
            let servers: Vec<_> = (0..zookeeper.count)
                .map(|ordinal| format!("{set}-{ordinal}.{set}:{ZOOKEEPER_PORT}"))
                .collect();
            Some(servers.join(","))
        }
        Recovery::ExternalZooKeeper(zookeeper) => Some(zookeeper.servers.join(",")),
    }
}

/// The znode below which the masters keep election and recovery state.
pub fn zookeeper_directory(spec: &ClusterSpec) -> Option<String> {
    match &spec.recovery {
        Recovery::FileSystem { .. } => None,
        Recovery::ManagedZooKeeper(_) => Some(format!("/{}", spec.name)),
        Recovery::ExternalZooKeeper(zookeeper) => Some(zookeeper.directory.clone()),
    }
}
