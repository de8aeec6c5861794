//! The errors of all commands, and a hint for each.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use crate::clients::{etcd, spark, vulcand, zookeeper};
use crate::model::finding::Finding;
use crate::platform::local::is_full;
use crate::platform::{self, Platform, kubernetes, local};
use crate::routing::vulcand::diff::Conflict;
use crate::spec::problem::Problems;
use crate::state::trouble::Trouble;

/// A step that failed. [`crate::report::exit_code`] maps each kind to its exit code.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Input(#[from] Problems),
    #[error("{message}")]
    Usage { message: String, help: String },
    #[error(transparent)]
    Platform(#[from] platform::Error),
    #[error(transparent)]
    ZooKeeper(#[from] zookeeper::Error),
    #[error(transparent)]
    Spark(#[from] spark::Error),
    #[error(transparent)]
    Etcd(#[from] etcd::Error),
    #[error(transparent)]
    Vulcand(#[from] vulcand::Error),
    #[error("Vulcand already has objects with these names that sparkha does not own; nothing was written: {}", joined(.0))]
    RouteConflict(Vec<Conflict>),
    #[error("failed to write the routes: another process changed them during each of {tries} attempts")]
    RoutesContended { tries: u32 },
    #[error("preflight checks failed; nothing was changed")]
    Preflight { findings: Vec<Finding> },
    /// Applications are running, or an upgrade that must not lose them is in progress.
    #[error("{message}")]
    InUse { message: String, help: String },
    #[error("applications are still running after {seconds} s; nothing was changed: {}", running.join("; "))]
    NotDrained {
        seconds: u64,
        running: Vec<String>,
        next: &'static str,
    },
    #[error("the cluster failed to start")]
    DoesNotComeUp { troubles: Vec<(Trouble, String)> },
    #[error("the driver failed to start")]
    DoesNotStart { troubles: Vec<(Trouble, String)> },
    #[error("the cluster can never run this job: {message}")]
    NoCapacity { message: String },
    #[error("the probe job returned no result: {reason}")]
    NoResult { reason: String },
    #[error("{message}")]
    Driver { message: String, help: String },
    #[error("{message}")]
    Incomplete { message: String, help: String },
    /// `subject` is what did not happen, such as "the cluster is not in service".
    #[error("{subject} after {} s: {}", waited.as_secs(), missing.join("; "))]
    NotInTime {
        subject: String,
        waited: Duration,
        missing: Vec<String>,
        help: String,
    },
    #[error("the cluster is not in service: {}", missing.join("; "))]
    NotInService { missing: Vec<String> },
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
    /// The failed action, worded to follow "failed to".
    #[error("failed to {action}")]
    Io {
        action: String,
        #[source]
        source: std::io::Error,
    },
    #[error("failed to write the output")]
    Output(#[source] std::io::Error),
}

impl From<kubernetes::Error> for Error {
    fn from(error: kubernetes::Error) -> Self {
        Error::Platform(error.into())
    }
}

impl From<local::Error> for Error {
    fn from(error: local::Error) -> Self {
        Error::Platform(error.into())
    }
}

impl Error {
    /// For `map_err`. `action` is worded to follow "failed to".
    pub fn io(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let action = action.into();
        move |source| Error::Io { action, source }
    }

    pub fn no_cluster(platform: &dyn Platform) -> Self {
        platform::Error::no_cluster(platform.name(), platform.namespace()).into()
    }

    /// A hint that tells the user what to do; `None` if there is none.
    pub fn help(&self) -> Option<String> {
        match self {
            Error::Usage { help, .. }
            | Error::Driver { help, .. }
            | Error::Incomplete { help, .. }
            | Error::InUse { help, .. }
            | Error::NotInTime { help, .. } => Some(help.clone()),
            Error::NoCapacity { .. } => Some(
                "request less with --executor-memory and --executor-cores, or enlarge the workers with \
                 `sparkha create --worker-memory SIZE`; pass --wait to wait anyway"
                    .into(),
            ),
            Error::NoResult { .. } => Some(
                "nothing was changed; `sparkha jobs` lists the running jobs; pass --no-canary to run the drill without a job".into(),
            ),
            Error::Platform(error) => error.help(),
            Error::Etcd(error) => error.help(),
            Error::Vulcand(error) => error.help(),
            Error::RouteConflict(_) => Some(
                "delete them if nobody needs them; if several Kubernetes clusters share this Vulcand, give each its own --owner \
                 and its own UI domain"
                    .into(),
            ),
            Error::RoutesContended { .. } => Some("run it again; do not run two processes with the same --owner at the same time".into()),
            Error::ZooKeeper(_) => Some("check the servers' names and that this machine can reach them".into()),
            Error::Preflight { .. } => Some("fix the problems, or pass --skip-preflight to continue anyway".into()),
            Error::NotDrained { next, .. } => Some(format!(
                "`sparkha jobs` lists them, `sparkha jobs --kill ID` kills one; {next}",
            )),
            Error::NotInService { .. } => Some("nothing was changed; `sparkha status` shows details".into()),
            Error::NoJob { .. } => Some("`sparkha jobs` lists the jobs and drivers".into()),
            Error::Listen { address, source } => Some(match source.kind() {
                ErrorKind::AddrInUse => format!(
                    "`ss -lntup sport = :{}` shows the process that listens there; stop it, or choose another address or port",
                    address.port()
                ),
                ErrorKind::PermissionDenied => {
                    "ports below 1024 need the capability CAP_NET_BIND_SERVICE; grant it or choose another port".into()
                }
                ErrorKind::AddrNotAvailable => {
                    "this machine does not have that address: `ip address` lists its addresses, 0.0.0.0 means all of them".into()
                }
                _ => return None,
            }),
            Error::Interrupted { next } => Some(next.clone()),
            Error::Access(_) => Some("correct the file; nothing was started or changed".into()),
            Error::Certificate { .. } => {
                Some("both files must be PEM: the certificate chain, the server's certificate first, and the private key".into())
            }
            Error::Input(_) | Error::Spark(_) | Error::DoesNotComeUp { .. } | Error::DoesNotStart { .. } => None,
            Error::Io { source, .. } | Error::Output(source) => is_full(source)
                .then(|| "free some space there and run it again".into()),
        }
    }
}

/// The hint of a command whose `--timeout` was too short.
pub fn longer(timeout: Duration) -> String {
    let seconds = timeout.as_secs().saturating_mul(2).max(60);
    let longer = match seconds % 60 {
        0 => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    };
    format!("--timeout {longer} waits longer")
}

fn joined(conflicts: &[Conflict]) -> String {
    conflicts.iter().map(Conflict::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_timeout_is_longer_than_the_one_that_ended() {
        for (seconds, longer_one) in [(0, "1m"), (40, "80s"), (300, "10m"), (600, "20m"), (5400, "180m")] {
            let hint = longer(Duration::from_secs(seconds));
            assert_eq!(hint, format!("--timeout {longer_one} waits longer"));
        }
    }
}
