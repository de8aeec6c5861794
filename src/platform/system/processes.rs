//! Processes of this machine, by Linux's pidfds: the kernel reuses PIDs, but a pidfd stays that of one process.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::process::{self, Pid, PidfdFlags, kill_process, pidfd_open, pidfd_send_signal, test_kill_process};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::Command;

use super::Signal;

/// An open pidfd.
pub struct ProcessHandle(OwnedFd);

impl ProcessHandle {
    /// The process that has this PID now; `None` if there is none.
    ///
    /// # Errors
    /// Without pidfds: on an old kernel, or in a sandbox.
    pub fn open(pid: i32) -> io::Result<Option<Self>> {
        let Some(pid) = Pid::from_raw(pid) else {
            return Ok(None);
        };
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => Ok(Some(Self(handle))),
            Err(Errno::SRCH) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.0, signal.into())?)
    }

    /// Waits until the process has ended.
    pub async fn ended(self) -> io::Result<()> {
        #[expect(
            deprecated,
            reason = "an OwnedFd keeps the promise that the newer function asks for as unsafe code"
        )]
        let handle = AsyncFd::with_interest(self.0, Interest::READABLE)?;
        handle.readable().await.map(|_| ())
    }
}

/// Sends a signal to the process that has this PID now. No process is no error.
pub fn signal(pid: i32, signal: Signal) -> io::Result<()> {
    match Pid::from_raw(pid) {
        Some(pid) => Ok(kill_process(pid, signal.into())?),
        None => Ok(()),
    }
}

/// Whether no process has this PID.
pub fn is_free(pid: i32) -> bool {
    Pid::from_raw(pid).is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH))
}

/// Whether this process ignores SIGHUP, as `nohup` has it.
pub fn ignores_hangups() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // The lowest bit is SIGHUP's. Without /proc nobody knows.
    ignored.is_none_or(|mask| mask & 1 == 1)
}

/// Starts the process in a process group of its own.
pub fn in_own_group(command: &mut Command) -> &mut Command {
    command.process_group(0)
}

/// Moves this process to a session of its own, away from the terminal of its parent.
pub fn start_session() -> io::Result<()> {
    process::setsid()?;
    Ok(())
}

impl From<Signal> for process::Signal {
    fn from(signal: Signal) -> Self {
        match signal {
            Signal::Hangup => Self::HUP,
            Signal::Terminate => Self::TERM,
            Signal::Kill => Self::KILL,
        }
    }
}
