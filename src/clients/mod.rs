//! Clients of the servers that sparkha queries: Spark's web UIs, ZooKeeper, etcd and Vulcand.

pub mod etcd;
pub mod http;
pub mod spark;
pub mod vulcand;
pub mod zookeeper;
