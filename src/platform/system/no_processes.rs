//! In place of `processes.rs` on systems without local clusters: no process of a cluster can be found here, so none is ever signalled.

use std::convert::Infallible;
use std::io;

use tokio::process::Command;

use super::Signal;

/// No process.
#[allow(dead_code, reason = "there is none to construct")]
pub struct ProcessHandle(Infallible);

impl ProcessHandle {
    pub fn open(_pid: i32) -> io::Result<Option<Self>> {
        Ok(None)
    }

    pub fn signal(&self, _signal: Signal) -> io::Result<()> {
        match self.0 {}
    }

    pub async fn ended(self) -> io::Result<()> {
        match self.0 {}
    }
}

pub fn signal(_pid: i32, _signal: Signal) -> io::Result<()> {
    Ok(())
}

/// False: the PID may be another machine's.
pub fn is_free(_pid: i32) -> bool {
    false
}

/// True: it cannot be known, and a caught SIGHUP would not be ignored any more.
#[cfg_attr(windows, expect(dead_code, reason = "Windows has no SIGHUP"))]
pub fn ignores_hangups() -> bool {
    true
}

pub fn in_own_group(command: &mut Command) -> &mut Command {
    command
}

pub fn start_session() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
