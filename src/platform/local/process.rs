//! Identifies processes. The kernel reuses PIDs, so a process is identified by PID, start time and boot. Every process of a container has the
//! container's ID in its environment.

use std::io;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::platform::system::Signal;
use crate::platform::system::processes::{self, ProcessHandle};

/// The environment variable with the container's ID, which every process of the container inherits.
pub const CONTAINER_ID: &str = "SPARKHA_CONTAINER_ID";
/// The environment variable with the cluster's folder, which every process of the cluster inherits.
pub const CLUSTER_DIR: &str = "SPARKHA_CLUSTER_DIR";

/// How long killed processes may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The unique identity of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    pub pid: i32,
    /// Its start, in clock ticks since boot.
    started: u64,
    /// The ID of the machine's boot.
    boot: String,
}

impl ProcessId {
    /// The process that now has this PID; `None` if there is none, or a zombie.
    pub fn of(pid: i32) -> Option<Self> {
        Some(Self {
            pid,
            started: started(pid)?,
            boot: boot(),
        })
    }

    pub fn is_alive(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }

    /// Whether the process is known to have ended. False for a process of another boot, and for one that cannot be inspected.
    pub fn has_ended(&self) -> bool {
        let is_another = || started(self.pid).is_some_and(|started| started != self.started);
        self.boot == boot() && (processes::is_free(self.pid) || is_another())
    }

    /// Sends a signal. A process that has already ended is no error.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match self.handle() {
            Ok(Some(handle)) => handle.signal(signal),
            Ok(None) => Ok(()),
            // Without pidfds (an old kernel or a sandbox): by PID, right after checking its identity.
            Err(_) if self.is_alive() => processes::signal(self.pid, signal),
            Err(_) => Ok(()),
        }
    }

    /// Waits until the process has ended.
    pub async fn ended(&self) -> io::Result<()> {
        match self.handle() {
            Ok(Some(handle)) => handle.ended().await,
            Ok(None) => Ok(()),
            Err(_) => {
                while self.is_alive() {
                    tokio::time::sleep(POLL_INTERVAL).await;
                }
                Ok(())
            }
        }
    }

    /// A handle of this process, whose identity is checked after the handle is open. `None` if the process has ended.
    fn handle(&self) -> io::Result<Option<ProcessHandle>> {
        Ok(ProcessHandle::open(self.pid)?.filter(|_| self.is_alive()))
    }
}

/// Every process with this variable in its environment, which children inherit.
pub fn with_env(variable: &str, value: &str) -> Vec<ProcessId> {
    let entry = format!("{variable}={value}");
    let has_entry = |pid: &i32| {
        // The environments of other users' processes cannot be read. Those processes are not sparkha's.
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment
            .split(|&byte| byte == 0)
            .any(|variable| variable == entry.as_bytes())
    };
    let files = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = files.filter_map(|file| file.file_name().to_str()?.parse().ok());
    pids.filter(has_entry).filter_map(ProcessId::of).collect()
}

/// Kills every process with this variable in its environment, and repeats until there is none: a process may start another meanwhile. Two
/// checks in a row must find none, because a process between fork and exec has no environment for a moment.
pub async fn kill_with_env(variable: &str, value: &str) {
    let deadline = Instant::now() + END_TIMEOUT;
    let mut none_before = false;
    loop {
        let left = with_env(variable, value);
        if left.is_empty() && none_before {
            return;
        }
        none_before = left.is_empty();
        let ending = left.iter().map(|process| async move {
            // Wait from before the kill: a process loses its environment long before its last thread and its ports.
            let kill = async {
                if let Err(error) = process.signal(Signal::Kill) {
                    tracing::warn!("failed to kill process {}: {error}", process.pid);
                }
            };
            let ended = tokio::time::timeout(deadline.saturating_duration_since(Instant::now()), process.ended());
            futures::join!(ended, kill)
        });
        futures::future::join_all(ending).await;
        if Instant::now() > deadline {
            tracing::warn!("{} processes with {variable}={value} did not end", left.len());
            return;
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

fn started(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command, in parentheses, may contain any character.
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    if matches!(*fields.first()?, "Z" | "X") {
        return None;
    }
    fields.get(19)?.parse().ok()
}

/// The PID namespace of this process, if PIDs have namespaces here.
pub fn pid_namespace() -> Option<String> {
    let link = std::fs::read_link("/proc/self/ns/pid").ok()?;
    Some(link.display().to_string())
}

fn boot() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.map(|id| id.trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_identified_by_pid_start_and_boot() {
        let me = ProcessId::of(std::process::id() as i32).unwrap();
        assert!(me.is_alive());
        let before_me = ProcessId {
            started: me.started - 1,
            ..me.clone()
        };
        assert!(!before_me.is_alive());
        let before_boot = ProcessId {
            boot: "another".into(),
            ..me
        };
        assert!(!before_boot.is_alive());
        assert!(before_boot.signal(Signal::Kill).is_ok());
    }

    #[tokio::test]
    async fn waits_for_a_process_and_finds_its_children_by_container_id() {
        let container_id = format!("test-{}", std::process::id());
        let mut child = std::process::Command::new("sh")
            .args(["-c", "sleep 600 & wait"])
            .env(CONTAINER_ID, &container_id)
            .spawn()
            .unwrap();
        let process = ProcessId::of(child.id() as i32).unwrap();
        while with_env(CONTAINER_ID, &container_id).len() < 2 {
            tokio::task::yield_now().await;
        }
        process.signal(Signal::Kill).unwrap();
        process.ended().await.unwrap();
        child.wait().unwrap();
        assert!(!process.is_alive());
        kill_with_env(CONTAINER_ID, &container_id).await;
        assert_eq!(with_env(CONTAINER_ID, &container_id), []);
    }
}
