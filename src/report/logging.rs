//! Logging on standard error: warnings, more with `-v`, and the router's access log.

use std::io::{self, Stderr, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::MakeWriterExt;

use crate::console::colours;
use crate::platform::system::is_writable;
use crate::router::ACCESS_LOG;

/// Starts logging: at a verbosity of 0, warnings and errors only.
pub fn start(verbosity: u8, access_log: bool) {
    let level = match verbosity {
        0 => "sparkha=warn",
        1 => "sparkha=info",
        2 => "sparkha=debug",
        _ => "debug",
    };
    let access = if access_log { "info" } else { "off" };
    let of_requests = AtOnce::new.with_filter(|metadata| metadata.target() == ACCESS_LOG);
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(format!("{level},{ACCESS_LOG}={access}")))
        .with_writer(of_requests.or_else(io::stderr))
        .with_ansi(colours(&io::stderr()))
        .with_target(false)
        .without_time()
        // A closed pipe or a full disk does not end the program.
        .log_internal_errors(false)
        .init();
}

/// Standard error for lines that may be dropped: requests must not wait for a pipe without a reader.
struct AtOnce(Stderr);

impl AtOnce {
    fn new() -> Self {
        Self(io::stderr())
    }
}

impl Write for AtOnce {
    /// A line is shorter than the amount that a writable pipe accepts (4096 bytes).
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // Locked, so that no other thread writes in between.
        let mut stderr = self.0.lock();
        match is_writable(&self.0)? {
            false => Ok(line.len()),
            true => stderr.write(line),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
