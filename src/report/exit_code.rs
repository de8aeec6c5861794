//! Every exit code of sparkha, in one place.

use std::io::{self, ErrorKind};

use crate::clients::{etcd, vulcand};
use crate::lifecycle::Error;
use crate::model::finding::Severity;
use crate::platform::{self, kubernetes, local};

/// The result of a run. [`ExitCode::TABLE`] says what each code means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    Success,
    Failure,
    BadInput,
    Unreachable,
    NotAllowed,
    Conflict,
    TimedOut,
    NotFound,
    Impossible,
    NotReady,
    Incomplete,
    Interrupted,
    /// The job's own exit code (`submit`).
    Job(u8),
}

impl ExitCode {
    const fn number(self) -> u8 {
        match self {
            ExitCode::Success => 0,
            ExitCode::Failure => 1,
            ExitCode::BadInput => 2,
            ExitCode::Unreachable => 3,
            ExitCode::NotAllowed => 4,
            ExitCode::Conflict => 5,
            ExitCode::TimedOut => 6,
            ExitCode::NotFound => 7,
            ExitCode::Impossible => 8,
            ExitCode::NotReady => 9,
            ExitCode::Incomplete => 10,
            ExitCode::Interrupted => 130,
            ExitCode::Job(code) => code,
        }
    }

    /// The table in `sparkha --help`.
    pub const TABLE: &str = "\
Exit codes:
  0    success
  1    a failure that no other code describes
  2    invalid arguments or cluster file; nothing was changed
  3    the API server, ZooKeeper, etcd, Vulcand or a pod cannot be reached
  4    permission denied by the API server, etcd or this machine
  5    conflict: a name, field, route, port or lock belongs to someone else, running applications would be lost,
       or a newer sparkha wrote the cluster
  6    timed out
  7    no such cluster or job
  8    not enough capacity, or the cluster cannot start
  9    the cluster is not in service (status, failover) or has a fault (doctor), or a route is wrong (route check)
  10   the job has ended, but part of its output could not be read (submit)
  130  interrupted
Once the job runs, submit exits with the job's own code.";
}

impl From<&Error> for ExitCode {
    fn from(error: &Error) -> Self {
        match error {
            Error::Input(_) | Error::Usage { .. } => ExitCode::BadInput,
            Error::Platform(error) => of_platform(error),
            Error::ZooKeeper(_) | Error::Spark(_) => ExitCode::Unreachable,
            Error::Etcd(error) => match error {
                etcd::Error::Unreachable { .. } => ExitCode::Unreachable,
                etcd::Error::NotAllowed { .. } => ExitCode::NotAllowed,
                etcd::Error::Endpoint { .. } | etcd::Error::File { .. } | etcd::Error::Tls(_) => ExitCode::BadInput,
                etcd::Error::Rejected { .. } | etcd::Error::Protocol { .. } => ExitCode::Failure,
            },
            Error::Vulcand(error) => match error {
                vulcand::Error::Unreachable { .. } => ExitCode::Unreachable,
                vulcand::Error::Address { .. } => ExitCode::BadInput,
                _ => ExitCode::Failure,
            },
            Error::RouteConflict(_) | Error::RoutesContended { .. } => ExitCode::Conflict,
            Error::Preflight { findings } => match findings.iter().map(|finding| finding.severity).max() {
                Some(Severity::Clash) => ExitCode::Conflict,
                Some(Severity::NotAllowed) => ExitCode::NotAllowed,
                _ => ExitCode::Impossible,
            },
            Error::InUse { .. } => ExitCode::Conflict,
            Error::Access(_) | Error::Certificate { .. } => ExitCode::BadInput,
            Error::DoesNotComeUp { .. } | Error::DoesNotStart { .. } | Error::NoCapacity { .. } => ExitCode::Impossible,
            Error::NotInService { .. } | Error::NoResult { .. } => ExitCode::NotReady,
            Error::Driver { .. } => ExitCode::Failure,
            Error::Incomplete { .. } => ExitCode::Incomplete,
            Error::NotInTime { .. } | Error::NotDrained { .. } => ExitCode::TimedOut,
            Error::NoJob { .. } => ExitCode::NotFound,
            Error::Listen { source, .. } if source.kind() == ErrorKind::AddrNotAvailable => ExitCode::BadInput,
            Error::Listen { source, .. } | Error::Io { source, .. } | Error::Output(source) => of_io(source),
            Error::Interrupted { .. } => ExitCode::Interrupted,
        }
    }
}

fn of_platform(error: &platform::Error) -> ExitCode {
    use platform::Error;
    match error {
        Error::Kubernetes(error) => match error {
            kubernetes::Error::NoCluster { .. }
            | kubernetes::Error::Credentials { .. }
            | kubernetes::Error::Proxy { .. }
            | kubernetes::Error::Unreachable { .. } => ExitCode::Unreachable,
            kubernetes::Error::TimedOut { .. } => ExitCode::TimedOut,
            kubernetes::Error::Forbidden { .. } | kubernetes::Error::Unauthorized { .. } => ExitCode::NotAllowed,
            kubernetes::Error::Conflict { .. } | kubernetes::Error::LockLost { .. } => ExitCode::Conflict,
            kubernetes::Error::Rejected {
                code: 429 | 502..=504, ..
            } => ExitCode::Unreachable,
            kubernetes::Error::Rejected { .. } => ExitCode::Impossible,
            kubernetes::Error::Protocol { .. } => ExitCode::Failure,
        },
        _ if error.newer_format().is_some() => ExitCode::Conflict,
        Error::Local(error) => match error {
            local::Error::File { source, .. } | local::Error::Signal { source, .. } => of_io(source),
            local::Error::Fetch { .. } => ExitCode::Unreachable,
            _ => ExitCode::Failure,
        },
        Error::NoSecret { .. } => ExitCode::BadInput,
        Error::NoCluster { .. } => ExitCode::NotFound,
        Error::Busy { .. } => ExitCode::Conflict,
        Error::StillThere { .. } | Error::LostNodes { .. } => ExitCode::TimedOut,
        Error::Inventory(_) | Error::Random => ExitCode::Failure,
    }
}

/// The exit code for an error of the operating system.
fn of_io(error: &io::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::AddrInUse => ExitCode::Conflict,
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => ExitCode::NotAllowed,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => ExitCode::Impossible,
        _ => ExitCode::Failure,
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_operating_system_have_a_message_and_an_exit_code() {
        for (kind, code) in [
            (ErrorKind::StorageFull, ExitCode::Impossible),
            (ErrorKind::QuotaExceeded, ExitCode::Impossible),
            (ErrorKind::PermissionDenied, ExitCode::NotAllowed),
            (ErrorKind::ReadOnlyFilesystem, ExitCode::NotAllowed),
            (ErrorKind::AddrInUse, ExitCode::Conflict),
            (ErrorKind::NotFound, ExitCode::Failure),
            (ErrorKind::BrokenPipe, ExitCode::Failure),
        ] {
            let source = || io::Error::from(kind);
            let errors = [
                (Error::io("start python3")(source()), "failed to start python3: "),
                (Error::Output(source()), "failed to write the output: "),
                (
                    local::Error::file("write", "/x/y".as_ref())(source()).into(),
                    "failed to write /x/y: ",
                ),
            ];
            for (error, text) in errors {
                assert_eq!(ExitCode::from(&error), code, "{error}");
                assert_eq!(
                    crate::model::error_chain::with_sources(&error),
                    format!("{text}{}", source())
                );
            }
        }
        // Only a closed pipe means that the reader ended.
        let broken = || io::Error::from(ErrorKind::BrokenPipe);
        assert!(crate::report::logs::is_unread(&Error::Output(broken())));
        assert!(!crate::report::logs::is_unread(&Error::io("write to standard error")(
            broken()
        )));
    }

    #[test]
    fn the_help_text_lists_every_exit_code() {
        use ExitCode::*;
        let all = [
            Success,
            Failure,
            BadInput,
            Unreachable,
            NotAllowed,
            Conflict,
            TimedOut,
            NotFound,
            Impossible,
            NotReady,
            Incomplete,
            Interrupted,
        ];
        let listed: Vec<u8> = ExitCode::TABLE
            .lines()
            .skip(1)
            .filter_map(|line| line.split_whitespace().next()?.parse().ok())
            .collect();
        assert_eq!(listed, all.map(ExitCode::number));
    }
}
