//! The platform of one Linux machine: the rendered resources become processes. Each "pod" has its own loopback address and its real name.
//!
//! [`store`] keeps the desired and the observed state as files. [`supervisor`] reconciles them and outlives the command that started it.
//! Commands read the files and query the processes directly.

pub mod addresses;
pub mod cgroup;
pub mod class_archive;
pub mod container;
pub mod drivers;
mod external_names;
pub mod fetch;
mod hosts;
pub mod kubelet;
pub mod limits;
pub mod logs;
pub mod machine;
pub mod packages;
pub mod paths;
mod platform;
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

pub use platform::LocalPlatform;

use crate::model::error_chain::with_sources;
use crate::render::inventory::NewerFormat;

/// The operating system of local clusters, as [`std::env::consts::OS`] names it.
pub const SYSTEM: &str = "linux";

/// An operation on this machine failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to {action} {}", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("failed to parse {}: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    #[error(transparent)]
    Newer(NewerFormat),
    #[error("failed to start the supervisor: {reason}")]
    Supervisor { reason: String },
    #[error("failed to fetch Spark: {reason}")]
    Fetch { reason: String, help: String },
    #[error("failed to fetch packages: {reason}")]
    Packages { reason: String, help: String },
    #[error("failed to signal the process of {pod}")]
    Signal {
        pod: String,
        #[source]
        source: std::io::Error,
    },
    #[error("failed to find your home directory")]
    NoHome,
}

impl Error {
    /// A conversion for `map_err` on file operations.
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::File { action, path, source }
    }

    /// Whether a full disk or quota caused the error.
    pub fn is_full(&self) -> bool {
        matches!(self, Error::File { source, .. } if is_full(source))
    }

    /// Whether this user may not write there, or nobody.
    pub fn is_denied(&self) -> bool {
        use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
        matches!(self, Error::File { source, .. } if matches!(source.kind(), PermissionDenied | ReadOnlyFilesystem))
    }

    /// The remedy, if there is one.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            _ if self.is_full() => "free some space there, or set XDG_STATE_HOME to a folder on another disk".into(),
            _ if self.is_denied() => "make it writable for you, or set XDG_STATE_HOME to another folder".into(),
            Error::File { .. } | Error::Signal { .. } => return None,
            Error::Unreadable { .. } => {
                "use the version of sparkha that wrote it; if the file is damaged, `sparkha teardown` still removes the cluster".into()
            }
            Error::Newer(newer) => newer.help(),
            Error::Supervisor { .. } => "see supervisor.log in the cluster's folder".into(),
            Error::Fetch { help, .. } | Error::Packages { help, .. } => help.clone(),
            Error::NoHome => "set HOME, or XDG_STATE_HOME and XDG_CACHE_HOME".into(),
        })
    }
}

/// The reason as a kubelet would report it.
impl From<Error> for String {
    fn from(error: Error) -> Self {
        with_sources(&error)
    }
}

/// Whether a full disk or quota caused the error.
pub fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}
