//! Servers of tests: processes in the foreground that end with the test, whatever its outcome.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::local::signal;
use super::sparkha;

/// A server of a test, ended with it.
pub struct Server(Child);

impl Server {
    /// Any server, without a word.
    pub fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::null());
        Self(command.stderr(Stdio::null()).spawn().unwrap())
    }

    /// How many files and sockets it has open.
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.0.id())).unwrap().count()
    }

    /// Sends a signal and gives the exit code.
    #[track_caller]
    pub fn ends_at(&mut self, name: &str) -> Option<i32> {
        signal(self.0.id() as i32, name);
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match self.0.try_wait().unwrap() {
                Some(status) => return status.code(),
                None => assert!(Instant::now() < deadline, "{name} does not end it"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process of a test, ended with all that it started in its process group.
pub struct Group(pub Child);

impl Group {
    pub fn start(command: &mut Command) -> Self {
        let started = command.process_group(0).stdin(Stdio::null()).spawn();
        Self(started.unwrap_or_else(|error| panic!("{}: {error}", command.get_program().display())))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Not by kill(1): that of procps 4.0.2 takes -123 for -1, which is every process.
        let group = Pid::from_child(&self.0);
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.0.wait();
    }
}

/// `sparkha router` in the foreground.
pub struct Router {
    pub server: Server,
    /// Kept open: nobody reading is another test.
    _errors: BufReader<ChildStderr>,
}

impl Router {
    /// Waits until it says that it is ready.
    #[track_caller]
    pub fn start(arguments: &[&str]) -> Self {
        let mut command = sparkha(&[&["router"], arguments].concat());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        let server = Server(child);
        let mut line = String::new();
        errors.read_line(&mut line).unwrap();
        if !line.starts_with('✓') {
            errors.read_to_string(&mut line).unwrap();
            panic!("the router is not ready: {line}");
        }
        Self {
            server,
            _errors: errors,
        }
    }
}
