//! What masters and ZooKeeper servers report about themselves.

use serde::{Deserialize, Serialize};

/// State of a master, in Spark's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum MasterStatus {
    Alive,
    Standby,
    Recovering,
    /// Recovery is over, workers and applications are being taken back.
    #[serde(rename = "COMPLETING_RECOVERY")]
    CompletingRecovery,
}

impl std::fmt::Display for MasterStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            MasterStatus::Alive => "ALIVE",
            MasterStatus::Standby => "STANDBY",
            MasterStatus::Recovering => "RECOVERING",
            MasterStatus::CompletingRecovery => "COMPLETING_RECOVERY",
        })
    }
}

/// The answer of `/json/`, as far as sparkha reads it (Spark's `JsonProtocol.writeMasterState`).
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
    /// MiB that each executor gets.
    #[serde(
        default,
        rename(serialize = "memoryPerExecutorMib", deserialize = "memoryperexecutor")
    )]
    pub memory_per_executor: u64,
    /// When it registered, in milliseconds since 1970.
    #[serde(default, rename(serialize = "startedMs", deserialize = "starttime"))]
    pub started_ms: u64,
    /// Milliseconds, so far.
    #[serde(default, rename(serialize = "durationMs"))]
    pub duration: u64,
}

/// The part a server plays.
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
        f.pad(match self {
            ZooKeeperMode::Leader => "leader",
            ZooKeeperMode::Follower => "follower",
            ZooKeeperMode::Observer => "observer",
            ZooKeeperMode::Standalone => "standalone",
        })
    }
}

/// What a server in a quorum says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZooKeeperReport {
    pub mode: ZooKeeperMode,
    /// Requests that wait for an answer.
    pub outstanding: u64,
    /// The last transaction that it knows; the upper half counts elections.
    pub zxid: u64,
}
