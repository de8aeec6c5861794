//! Whether a cluster is in service, and the reasons if not, with numbers. Pure functions of a [`ClusterState`].

use serde::Serialize;

use super::{ClusterState, ZooKeeperState, serving};
use crate::model::reports::{MasterStatus, ZooKeeperMode};
use crate::spec::words::{are, counted};

/// A reason why a cluster is not in service.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", tag = "reason")]
pub enum NotReady {
    /// Too few ZooKeeper servers are in the quorum.
    ZooKeeper { serving: usize, expected: usize },
    /// Not all masters respond.
    MastersSilent { answering: usize, expected: usize },
    /// No master is ALIVE.
    NoLeader { recovering: Option<String> },
    /// Several masters are ALIVE.
    SeveralLeaders { leaders: Vec<String> },
    /// The number of registered workers is not the expected one.
    Workers { registered: u32, expected: u32 },
    /// A worker's offer is not the expected one.
    WorkerSize {
        worker: String,
        cores: u32,
        memory_mib: u64,
    },
    /// The web UI of the history server does not respond.
    History,
    /// The Spark Connect server does not accept connections.
    Connect,
    /// Pods of an older version are still being replaced.
    RollingOut { set: String, updated: i32, replicas: i32 },
    /// The local supervisor is gone.
    Unattended,
}

impl std::fmt::Display for NotReady {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NotReady::ZooKeeper { serving, expected } => {
                let servers = counted(expected, "ZooKeeper server");
                write!(f, "{serving} of {servers} {} in the quorum", are(expected))
            }
            NotReady::MastersSilent { answering, expected } => {
                let masters = counted(expected, "master");
                write!(f, "{answering} of {masters} {} answering", are(expected))
            }
            NotReady::NoLeader { recovering: None } => write!(f, "no master is ALIVE"),
            NotReady::NoLeader {
                recovering: Some(master),
            } => write!(f, "no master is ALIVE yet; {master} is RECOVERING"),
            NotReady::SeveralLeaders { leaders } => {
                write!(f, "several masters are ALIVE at once: {}", leaders.join(", "))
            }
            NotReady::Workers { registered, expected } if registered > expected => {
                write!(f, "{} still to be removed", counted(registered - expected, "worker"))
            }
            NotReady::Workers { registered, expected } => {
                let workers = counted(expected, "worker");
                write!(f, "{registered} of {workers} {} registered", are(expected))
            }
            NotReady::WorkerSize {
                worker,
                cores,
                memory_mib,
            } => write!(
                f,
                "worker {worker} offers {} and {memory_mib} MiB, not what is configured",
                counted(cores, "core")
            ),
            NotReady::RollingOut { set, updated, replicas } if updated > replicas => {
                write!(f, "{} of {set} still to be removed", counted(updated - replicas, "pod"))
            }
            NotReady::History => f.write_str("the history server is not ready"),
            NotReady::Connect => f.write_str("the Spark Connect server is not ready"),
            NotReady::RollingOut { set, updated, replicas } => {
                let pods = counted(replicas, "pod");
                write!(f, "{updated} of {pods} of {set} {} up to date", are(replicas))
            }
            NotReady::Unattended => {
                f.write_str("its supervisor is gone: `sparkha create`, with the same arguments, starts it again")
            }
        }
    }
}

/// All reasons; empty if the cluster is in service: a full quorum, exactly one ALIVE master and the
/// others STANDBY, every worker registered with the expected cores and memory, no pod of an older version.
pub fn judge(state: &ClusterState) -> Vec<NotReady> {
    let mut missing = Vec::new();
    if let ZooKeeperState::Managed { servers } = &state.zookeeper {
        let serving = serving(servers);
        let led = servers
            .iter()
            .any(|server| matches!(server.mode, Some(ZooKeeperMode::Leader | ZooKeeperMode::Standalone)));
        if serving < servers.len() || !led {
            missing.push(NotReady::ZooKeeper {
                serving,
                expected: servers.len(),
            });
        }
    }
    missing.extend(judge_masters(state));
    let workers = &state.workers;
    if workers.registered != workers.expected {
        missing.push(NotReady::Workers {
            registered: workers.registered,
            expected: workers.expected,
        });
    }
    let odd = workers.pods.iter().filter(|worker| {
        worker.state.as_deref() == Some("ALIVE")
            && (worker.cores, worker.memory_mib) != (workers.expected_cores, workers.expected_memory_mib)
    });
    missing.extend(odd.map(|worker| NotReady::WorkerSize {
        worker: worker.pod.name.clone(),
        cores: worker.cores,
        memory_mib: worker.memory_mib,
    }));
    if state.history.as_ref().is_some_and(|history| !history.ready) {
        missing.push(NotReady::History);
    }
    if state.connect.as_ref().is_some_and(|connect| !connect.ready) {
        missing.push(NotReady::Connect);
    }
    missing.extend(state.rollouts.iter().map(|rollout| NotReady::RollingOut {
        set: rollout.set.clone(),
        updated: rollout.updated,
        replicas: rollout.replicas,
    }));
    missing
}

fn judge_masters(state: &ClusterState) -> Vec<NotReady> {
    let mut missing = Vec::new();
    let with = |wanted: MasterStatus| {
        state
            .masters
            .iter()
            .filter(move |master| master.status == Some(wanted))
            .map(|master| master.pod.name.clone())
    };
    let answering = state.masters.iter().filter(|master| master.status.is_some()).count();
    if answering < state.masters.len() {
        missing.push(NotReady::MastersSilent {
            answering,
            expected: state.masters.len(),
        });
    }
    let leaders: Vec<_> = with(MasterStatus::Alive).collect();
    match leaders.len() {
        1 => {}
        0 => missing.push(NotReady::NoLeader {
            recovering: with(MasterStatus::Recovering)
                .chain(with(MasterStatus::CompletingRecovery))
                .next(),
        }),
        _ => missing.push(NotReady::SeveralLeaders { leaders }),
    }
    missing
}
