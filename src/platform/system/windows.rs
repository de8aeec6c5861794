//! Windows.

use std::fs::{DirBuilder, Metadata};
use std::io::{self, Stderr};
use std::os::windows::fs::MetadataExt;
use std::path::Path;
use std::process::ExitStatus;

use tokio::signal::windows::{ctrl_break, ctrl_c};

pub use std::os::windows::fs::symlink_file as symlink;

/// The program that opens an address in the browser, and its first arguments.
pub const OPENER: &[&str] = &["rundll32", "url.dll,FileProtocolHandler"];
/// The environment variable with the user's name.
pub(super) const USER: &str = "USERNAME";

/// Completes at Ctrl-C or Ctrl-Break, from this call on.
pub fn termination() -> io::Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate) = (ctrl_c()?, ctrl_break()?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Completes when the user interrupts this process, from this call on.
pub fn interruption() -> io::Result<impl Future<Output = ()>> {
    termination()
}

/// SIGHUPs, which Windows does not have.
pub struct Hangups;

impl Hangups {
    pub fn listen() -> io::Result<Self> {
        Ok(Self)
    }

    pub async fn next(&mut self) {
        std::future::pending().await
    }
}

pub fn exit_code(status: ExitStatus) -> Option<i32> {
    status.code()
}

/// The name of this machine.
pub fn host_name() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_default()
}

/// Users have no numbers.
pub fn user_id() -> Option<u32> {
    None
}

/// Files have no modes: new ones get the access list of their folder, and a user's own folders are closed to others.
pub fn set_mode(_path: &Path, _mode: u32) -> io::Result<()> {
    Ok(())
}

/// A builder of folders, with the access list of the folder above.
pub fn private_folders() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    builder
}

/// What tells a file from a later one at its path.
pub fn file_id(metadata: &Metadata) -> (u64, u64) {
    (0, metadata.creation_time())
}

/// Windows does not limit the number of sockets.
pub fn raise_file_limit() -> Option<u64> {
    None
}

/// True: Windows cannot tell.
pub fn is_writable(_stderr: &Stderr) -> io::Result<bool> {
    Ok(true)
}
