//! The ports of all components of a cluster.

use std::ops::RangeInclusive;

/// Port of a master's RPC: workers and drivers connect to it.
pub const MASTER_PORT: u16 = 7077;
/// Port of a master's web UI.
pub const MASTER_UI_PORT: u16 = 8080;
/// Port of a worker's RPC.
pub const WORKER_PORT: u16 = 7078;
/// Number of ports, starting with this one, that a worker uses in rotation: see worker.sh.
pub const WORKER_PORTS: u16 = 4;
/// Port of a worker's web UI.
pub const WORKER_UI_PORT: u16 = 8081;
/// Port of the history server's web UI.
pub const HISTORY_UI_PORT: u16 = 18080;
/// Port of the Spark Connect server.
pub const CONNECT_PORT: u16 = 15002;
/// Port of the Spark Connect server's web UI, a driver's web UI.
pub const CONNECT_UI_PORT: u16 = 4040;
/// Port for ZooKeeper's clients.
pub const ZOOKEEPER_PORT: u16 = 2181;
/// Port at which a ZooKeeper's followers reach their leader.
pub const ZOOKEEPER_PEER_PORT: u16 = 2888;
/// Port at which ZooKeepers elect their leader.
pub const ZOOKEEPER_ELECTION_PORT: u16 = 3888;
/// Ports of drivers' web UIs: the first free one of `spark.ui.port` and the 16 after it (`spark.port.maxRetries`).
pub const DRIVER_UI_PORTS: RangeInclusive<u16> = 4040..=4056;

/// Ports of all other web UIs.
pub const UI_PORTS: [u16; 3] = [MASTER_UI_PORT, WORKER_UI_PORT, HISTORY_UI_PORT];
