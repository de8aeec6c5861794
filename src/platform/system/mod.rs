//! What operating systems do differently. This folder alone says which system it is for, and `platform/local` alone relies on Linux
//! beyond it: everything else works on Linux, macOS and Windows alike.

pub mod peers;
#[cfg_attr(not(target_os = "linux"), path = "no_processes.rs")]
pub mod processes;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use unix::*;
#[cfg(windows)]
pub use windows::*;

/// Signals that sparkha sends.
#[derive(Clone, Copy, Debug)]
pub enum Signal {
    Hangup,
    Terminate,
    Kill,
}

/// The name of this process's user.
pub fn user_name() -> String {
    std::env::var(USER).unwrap_or_else(|_| "someone".into())
}
