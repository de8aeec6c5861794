//! Linux and macOS: nothing here may exist on Linux only.

use std::fs::{DirBuilder, Metadata, Permissions, set_permissions};
use std::io::{self, Stderr};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Resource, Rlimit, geteuid, getrlimit, setrlimit};
use rustix::system::uname;
use tokio::signal::unix::{SignalKind, signal};

pub use std::os::unix::fs::symlink;

use super::processes::ignores_hangups;

/// The program that opens an address in the browser.
pub const OPENER: &[&str] = match cfg!(target_os = "macos") {
    true => &["open"],
    false => &["xdg-open"],
};
/// The environment variable with the user's name.
pub(super) const USER: &str = "USER";

/// The limit of open files that macOS accepts: it refuses to lift the limit altogether.
const OPEN_MAX: u64 = 10_240;

/// Completes at Ctrl-C or SIGTERM, from this call on.
pub fn termination() -> io::Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Completes when the user interrupts this process, from this call on: as [`termination`], or when its terminal closes. A process that
/// `nohup` started goes on then.
pub fn interruption() -> io::Result<impl Future<Output = ()>> {
    let terminated = termination()?;
    let hangups = match ignores_hangups() {
        true => None,
        false => Some(Hangups::listen()?),
    };
    Ok(async move {
        let closed = async {
            match hangups {
                Some(mut hangups) => hangups.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = terminated => {}
            () = closed => {}
        }
    })
}

/// The SIGHUPs that this process gets.
pub struct Hangups(tokio::signal::unix::Signal);

impl Hangups {
    /// Catches them from this call on.
    pub fn listen() -> io::Result<Self> {
        signal(SignalKind::hangup()).map(Self)
    }

    pub async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending().await
        }
    }
}

/// The exit code as a shell reports it: above 128 after a signal.
pub fn exit_code(status: ExitStatus) -> Option<i32> {
    status.code().or_else(|| Some(128 + status.signal()?))
}

/// The name of this machine.
pub fn host_name() -> String {
    uname().nodename().to_string_lossy().into_owned()
}

/// The number of this process's user.
pub fn user_id() -> Option<u32> {
    Some(geteuid().as_raw())
}

/// Sets the mode of a file or folder.
pub fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    set_permissions(path, Permissions::from_mode(mode))
}

/// A builder of folders that only this user can open.
pub fn private_folders() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder
}

/// What tells a file from all others, also from a later one at its path.
pub fn file_id(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Raises the limit of open files as far as permitted, and returns it; `None` is no limit.
pub fn raise_file_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = |current: Option<u64>| {
        let raise = Rlimit { current, ..limit };
        setrlimit(Resource::Nofile, raise).ok().map(|()| current)
    };
    let raised = raised(limit.maximum).or_else(|| raised(Some(OPEN_MAX)));
    raised.unwrap_or(limit.current)
}

/// Whether standard error accepts a line at once.
pub fn is_writable(stderr: &Stderr) -> io::Result<bool> {
    let mut room = [PollFd::new(stderr, PollFlags::OUT)];
    Ok(poll(&mut room, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? > 0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    #[tokio::test]
    async fn the_end_of_the_terminal_interrupts_unless_it_is_ignored() {
        let ignored = ignores_hangups();
        let interrupted = interruption().unwrap();
        kill_process(getpid(), Signal::HUP).unwrap();
        let interrupted = tokio::time::timeout(Duration::from_millis(100), interrupted).await;
        assert_eq!(interrupted.is_err(), ignored);
    }
}
