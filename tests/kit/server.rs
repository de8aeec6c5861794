//! Servers of tests: processes in the foreground that end with the test, whatever its outcome.

use std::io::{BufRead, BufReader, Read};
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
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

    /// One that was started already.
    pub fn of(child: Child) -> Self {
        Self(child)
    }

    /// How many files and sockets it has open.
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.0.id())).unwrap().count()
    }

    /// Addresses to which its TCP sockets lead, or are about to.
    pub fn peers(&self) -> Vec<Ipv4Addr> {
        let folder = PathBuf::from(format!("/proc/{}", self.0.id()));
        let open = std::fs::read_dir(folder.join("fd")).unwrap().flatten();
        let links = open.filter_map(|file| std::fs::read_link(file.path()).ok());
        let own: Vec<_> = links.map(|link| link.display().to_string()).collect();
        let table = std::fs::read_to_string(folder.join("net/tcp")).unwrap();
        let peers = table.lines().skip(1).filter_map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            let is_own = own.contains(&format!("socket:[{}]", words[9]));
            let (address, _) = words[2].split_once(':')?;
            // As the processor has it in memory.
            let address = u32::from_str_radix(address, 16).ok()?.to_ne_bytes();
            (is_own && address != [0; 4]).then(|| address.into())
        });
        peers.collect()
    }

    pub fn id(&self) -> i32 {
        self.0.id() as i32
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

    /// To all of them at once. Not by kill(1): that of procps 4.0.2 takes -123 for -1, which is every process.
    pub fn signal(&self, signal: Signal) {
        let _ = kill_process_group(Pid::from_child(&self.0), signal);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.0.wait();
    }
}

/// `sparkha router` in the foreground.
pub struct Router {
    pub server: Server,
    /// What it has said.
    log: Arc<Mutex<String>>,
}

impl Router {
    /// Waits until it says that it is ready.
    #[track_caller]
    pub fn start(arguments: &[&str]) -> Self {
        Self::run(&mut sparkha(&[&["router"], arguments].concat()))
    }

    /// As [`Router::start`], with a command of one's own.
    #[track_caller]
    pub fn run(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        let server = Server(child);
        let mut line = String::new();
        errors.read_line(&mut line).unwrap();
        if !line.starts_with('✓') {
            errors.read_to_string(&mut line).unwrap();
            panic!("the router is not ready: {line}");
        }
        let log = Arc::new(Mutex::new(line));
        let reading = log.clone();
        std::thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                let mut log = reading.lock().unwrap_or_else(PoisonError::into_inner);
                log.push_str(&line);
                log.push('\n');
            }
        });
        Self { server, log }
    }

    /// What it has said so far, on standard error.
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
