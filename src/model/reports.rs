//! Status reports of masters and ZooKeeper servers.

use serde::{Deserialize, Serialize};

/// Path of a master's status alone: unlike `/json/`, it does not list the workers. A Spark that does not know it answers with the whole state.
pub const MASTER_STATUS_PATH: &str = "/json/status";

/// State of a master, with Spark's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum MasterStatus {
    Alive,
    Standby,
    Recovering,
    /// Recovery is complete; workers and applications re-register.
    #[serde(rename = "COMPLETING_RECOVERY")]
    CompletingRecovery,
}

impl std::fmt::Display for MasterStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.serialize(f)
    }
}

/// The fields of a `/json/` response that sparkha uses (Spark's `JsonProtocol.writeMasterState`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MasterReport {
    pub status: MasterStatus,
    /// `spark://host:port`.
    pub url: String,
    #[serde(default)]
    pub workers: Vec<WorkerReport>,
    #[serde(default)]
    pub activeapps: Vec<ApplicationReport>,
    #[serde(default)]
    pub completedapps: Vec<ApplicationReport>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerReport {
    pub id: String,
    pub host: String,
    pub webuiaddress: String,
    pub cores: u32,
    pub coresused: u32,
    /// MiB.
    pub memory: u64,
    /// MiB.
    pub memoryused: u64,
    /// `ALIVE`, `DEAD`, `DECOMMISSIONED` or `UNKNOWN`.
    pub state: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApplicationReport {
    pub id: String,
    pub name: String,
    pub cores: u32,
    pub user: String,
    /// `WAITING`, `RUNNING`, `FINISHED`, `FAILED`, `KILLED` or `UNKNOWN`.
    pub state: String,
    /// MiB of each executor.
    #[serde(
        default,
        rename(serialize = "memoryPerExecutorMib", deserialize = "memoryperexecutor")
    )]
    pub memory_per_executor: u64,
    /// Registration time, in milliseconds since 1970.
    #[serde(default, rename(serialize = "startedMs", deserialize = "starttime"))]
    pub started_ms: u64,
    /// Duration so far, in milliseconds.
    #[serde(default, rename(serialize = "durationMs"))]
    pub duration: u64,
}

/// The role of a ZooKeeper server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ZooKeeperMode {
    Leader,
    Follower,
    Observer,
    Standalone,
}

impl std::fmt::Display for ZooKeeperMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.serialize(f)
    }
}

/// The report of a server in a quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZooKeeperReport {
    pub mode: ZooKeeperMode,
    /// Outstanding requests.
    pub outstanding: u64,
    /// Its last transaction ID; the upper 32 bits count elections.
    pub zxid: u64,
    /// Major, minor and patch number of its version.
    pub version: Option<[u32; 3]>,
}
