//! One Linux machine as the place where a cluster runs: the rendered resources become processes, each "pod" with its own loopback
//! address and its real name.
//!
//! [`store`] keeps what is wanted and what is there, as files; [`supervisor`] makes the one into the other and outlives the
//! command that started it; commands read the files and ask the processes themselves.

pub mod addresses;
pub mod cgroup;
pub mod container;
pub mod drivers;
mod external_names;
pub mod fetch;
mod hosts;
pub mod kubelet;
pub mod limits;
mod logs;
pub mod machine;
pub mod paths;
pub mod pod;
mod probe;
pub mod process;
pub mod software;
pub mod stateful_set;
pub mod store;
pub mod submitted;
pub mod supervisor;
mod translate;
pub mod volumes;

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::net::TcpStream;

use super::observer::PodConnector;

/// Something on this machine that could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to {action} {}", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} is not what this version of sparkha writes: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    #[error("failed to start the supervisor: {reason}")]
    Supervisor { reason: String },
    #[error("failed to fetch Spark: {reason}")]
    Fetch { reason: String, help: String },
    #[error("no home directory is known")]
    NoHome,
}

impl Error {
    /// For `map_err` on file operations.
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::File { action, path, source }
    }

    /// Whether a disk is full.
    pub fn is_full(&self) -> bool {
        matches!(self, Error::File { source, .. } if is_full(source))
    }

    /// The remedy, where there is one to name.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            _ if self.is_full() => "free some space there, or name a folder on another disk with XDG_STATE_HOME".into(),
            Error::File { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                "make it writable for you, or name another folder with XDG_STATE_HOME".into()
            }
            Error::File { .. } => return None,
            Error::Unreadable { .. } => {
                "use the version of sparkha that made it; if it is damaged, `sparkha teardown` still removes it".into()
            }
            Error::Supervisor { .. } => "its own words are in supervisor.log in the cluster's folder".into(),
            Error::Fetch { help, .. } => help.clone(),
            Error::NoHome => "set HOME, or XDG_STATE_HOME and XDG_CACHE_HOME".into(),
        })
    }
}

/// Whether this says that a disk is full.
pub fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

/// The way into pods on this machine: their addresses are its own.
#[derive(Clone, Copy)]
pub struct Loopback;

impl PodConnector for Loopback {
    type Stream = TcpStream;

    /// Asking costs nobody anything.
    const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);

    async fn open(&self, pod: &Pod, port: u16) -> Result<TcpStream, String> {
        let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
        let address = address.ok_or("it has no address yet")?;
        let opened = TcpStream::connect((address.as_str(), port)).await;
        opened.map_err(|error| error.to_string())
    }
}
