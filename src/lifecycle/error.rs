//! What can go wrong in a command, and what to do about it.

use std::io::ErrorKind;
use std::net::SocketAddr;

use crate::clients::{etcd, spark, vulcand, zookeeper};
use crate::model::finding::Finding;
use crate::platform::{kubernetes, local as machine};
use crate::render::inventory::InventoryError;
use crate::routing::vulcand::diff::Conflict;
use crate::spec::names::{ClusterName, Namespace};
use crate::spec::problem::Problems;
use crate::state::nodes::LostNode;
use crate::state::trouble::Trouble;

/// A step that could not be done. [`crate::report::exit_code`] gives each kind its exit code.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Input(#[from] Problems),
    #[error("{message}")]
    Usage { message: String, help: String },
    #[error(transparent)]
    Kubernetes(#[from] kubernetes::Error),
    #[error(transparent)]
    Local(#[from] machine::Error),
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    #[error(transparent)]
    ZooKeeper(#[from] zookeeper::Error),
    #[error(transparent)]
    Spark(#[from] spark::Error),
    #[error(transparent)]
    Etcd(#[from] etcd::Error),
    #[error(transparent)]
    Vulcand(#[from] vulcand::Error),
    #[error("what is in Vulcand under these names is not ours; nothing was written: {}", joined(.0))]
    RouteConflict(Vec<Conflict>),
    #[error("failed to write the routes: others changed them meanwhile, {tries} times in a row")]
    RoutesContended { tries: u32 },
    #[error("preflight checks failed; nothing was changed")]
    Preflight { findings: Vec<Finding> },
    #[error("another sparkha ({holder}) is at work on this cluster")]
    Busy { holder: String },
    /// Applications run, or an upgrade that must not lose them is under way.
    #[error("{message}")]
    InUse { message: String, help: String },
    #[error("applications still run after {seconds} s, and nothing of theirs was changed: {}", running.join("; "))]
    NotDrained {
        seconds: u64,
        running: Vec<String>,
        next: &'static str,
    },
    #[error("the cluster does not come up")]
    DoesNotComeUp { troubles: Vec<(Trouble, String)> },
    #[error("the driver does not start")]
    DoesNotStart { troubles: Vec<(Trouble, String)> },
    #[error("the job can never run here: {message}")]
    NoCapacity { message: String },
    #[error("the probe job gave no result: {reason}")]
    NoResult { reason: String },
    #[error("{message}")]
    Driver { message: String, help: String },
    #[error("{message}")]
    Incomplete { message: String, help: String },
    #[error("the cluster is not in service after {seconds} s: {}", missing.join("; "))]
    NotInTime { seconds: u64, missing: Vec<String> },
    #[error("the cluster is not in service: {}", missing.join("; "))]
    NotInService { missing: Vec<String> },
    #[error("not everything is gone after {seconds} s: {}", blockers.join("; "))]
    StillThere { seconds: u64, blockers: Vec<String> },
    #[error("pods do not end: {}", lost.iter().map(|lost| format!("node {} {lost}", lost.node)).collect::<Vec<_>>().join("; "))]
    LostNodes { lost: Vec<LostNode>, known: bool },
    #[error("there is no cluster {name} in namespace {namespace}")]
    NoCluster { name: String, namespace: String },
    #[error("cluster {name} has no job or driver {requested}")]
    NoJob { requested: String, name: String },
    #[error("failed to listen at {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("interrupted")]
    Interrupted { next: String },
    #[error(transparent)]
    Access(#[from] crate::router::AccessError),
    #[error("failed to use the certificate in {}", path.display())]
    Certificate {
        path: std::path::PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What was being done, in words that follow "failed to".
    #[error("failed to {action}")]
    Io {
        action: String,
        #[source]
        source: std::io::Error,
    },
    #[error("failed to write the output")]
    Output(#[source] std::io::Error),
}

impl Error {
    /// For `map_err`: what failed, in words that follow "failed to".
    pub fn io(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let action = action.into();
        move |source| Error::Io { action, source }
    }

    pub fn no_cluster(name: &ClusterName, namespace: &Namespace) -> Self {
        Error::NoCluster {
            name: name.to_string(),
            namespace: namespace.to_string(),
        }
    }

    /// Another sparkha has changed what this one has read.
    pub fn has_just_finished() -> Self {
        Error::Busy {
            holder: "it has just finished".into(),
        }
    }

    /// What to do about it, where there is something to say.
    pub fn help(&self) -> Option<String> {
        match self {
            Error::Usage { help, .. }
            | Error::Driver { help, .. }
            | Error::Incomplete { help, .. }
            | Error::InUse { help, .. } => Some(help.clone()),
            Error::NoCapacity { .. } => Some(
                "ask for less with --executor-memory and --executor-cores, or give workers more with \
                 `sparkha create --worker-memory SIZE`; --wait waits anyway"
                    .into(),
            ),
            Error::NoResult { .. } => Some(
                "nothing was changed; `sparkha jobs` shows what runs, --no-canary runs the drill without a job".into(),
            ),
            Error::Kubernetes(error) => error.help(),
            Error::Local(error) => error.help(),
            Error::Inventory(_) => Some("use the version of sparkha that made the cluster, or a newer one".into()),
            Error::Etcd(error) => error.help(),
            Error::Vulcand(error) => error.help(),
            Error::RouteConflict(_) => Some(
                "delete it if nobody needs it; if another Kubernetes cluster shares this Vulcand, give each its own --owner \
                 and its own UI domain"
                    .into(),
            ),
            Error::RoutesContended { .. } => Some("run it again; two with the same --owner should not run at a time".into()),
            Error::ZooKeeper(_) => Some("check the servers' names and that this machine can reach them".into()),
            Error::Preflight { .. } => Some("correct it, or pass --skip-preflight to continue anyway".into()),
            Error::Busy { .. } => Some("wait until it is done and run this again".into()),
            Error::NotDrained { next, .. } => Some(format!(
                "`sparkha jobs` shows them, `sparkha jobs --kill ID` ends one; {next}",
            )),
            Error::NotInTime { .. } => Some(
                "--timeout 10m waits longer; `sparkha status` shows how far it is (a first create needs --retain for that)"
                    .into(),
            ),
            Error::NotInService { .. } => Some("nothing was changed; `sparkha status` shows more".into()),
            Error::StillThere { .. } => Some("remove what blocks it, then run `sparkha teardown` again".into()),
            Error::LostNodes { known: true, .. } => Some(
                "`sparkha teardown --force` deletes these pods without the nodes' confirmation; should a node come back, its kubelet ends what \
                 still runs there. Or bring the node back, and run `sparkha teardown` again"
                    .into(),
            ),
            Error::LostNodes { known: false, .. } => Some(
                "bring the node back, and run `sparkha teardown` again; or ask somebody who may read nodes whether it is gone: they can remove \
                 it (`kubectl delete node`), or run `sparkha teardown --force`"
                    .into(),
            ),
            Error::NoCluster { .. } => Some("`sparkha list -A` lists the clusters, `sparkha create` creates one".into()),
            Error::NoJob { .. } => Some("`sparkha jobs` lists the jobs and drivers".into()),
            Error::Listen { address, source } => Some(match source.kind() {
                ErrorKind::AddrInUse => format!(
                    "`ss -lntup sport = :{}` shows who listens there; end it, or choose another address or port",
                    address.port()
                ),
                ErrorKind::PermissionDenied => {
                    "ports below 1024 need the capability CAP_NET_BIND_SERVICE; or choose another port".into()
                }
                ErrorKind::AddrNotAvailable => {
                    "it is none of this machine's addresses: `ip address` shows them, 0.0.0.0 stands for all".into()
                }
                _ => return None,
            }),
            Error::Interrupted { next } => Some(next.clone()),
            Error::Access(_) => Some("correct the file; nothing was started or changed".into()),
            Error::Certificate { .. } => {
                Some("both files are PEM: the chain, the server's own first, and its key".into())
            }
            Error::Input(_) | Error::Spark(_) | Error::DoesNotComeUp { .. } | Error::DoesNotStart { .. } => None,
            Error::Io { source, .. } | Error::Output(source) => machine::is_full(source)
                .then(|| "free some space there, and run it again".into()),
        }
    }
}

fn joined(conflicts: &[Conflict]) -> String {
    conflicts.iter().map(Conflict::to_string).collect::<Vec<_>>().join("; ")
}
