//! The Spark Connect server: what it may have of the cluster.

use super::{Resolver, pods};
use crate::spec::file::ConnectFile;
use crate::spec::quantity::{Cpu, Memory};
use crate::spec::{Connect, Workers};

/// Below this Spark refuses to start a driver or an executor: it reserves 300 MiB and asks for half as much again.
const HEAP_MIN: Memory = Memory::from_mib(512);
/// Memory of an executor, unless told otherwise: Spark's own default.
const EXECUTOR_MEMORY: Memory = Memory::from_mib(1024);

impl Resolver {
    /// `workers` are missing only if there are problems.
    pub(super) fn connect(&mut self, connect: ConnectFile, workers: Option<&Workers>) -> Option<Connect> {
        let driver_memory = self.memory("connect.driverMemory", connect.driver_memory.as_ref(), "1Gi");
        if driver_memory < HEAP_MIN {
            self.problem(
                "connect.driverMemory",
                format!("no driver starts with a heap of {driver_memory}"),
                format!("give it at least {HEAP_MIN}"),
            );
        }
        let defaults = pods::Defaults {
            cpu_limit: Cpu::from_cores(1),
            cpu_request: Cpu::from_millis(250),
            memory: driver_memory + (driver_memory.share(0.1)).max(Memory::from_mib(512)),
        };
        let pod = self.pod("connect", connect.pod, defaults);
        self.heap_of_key_fits("connect", "driverMemory", driver_memory, pod.resources.memory_limit);
        let workers = workers?;
        let all_cores = workers.count * workers.offer.cores;
        let executor_memory = match &connect.executor_memory {
            Some(memory) => self.memory_of("connect.executorMemory", memory)?,
            None => EXECUTOR_MEMORY.min(workers.offer.memory),
        };
        if !(HEAP_MIN..=workers.offer.memory).contains(&executor_memory) {
            self.problem(
                "connect.executorMemory",
                format!(
                    "no worker can start executors of {executor_memory}: each offers {}",
                    workers.offer.memory
                ),
                "choose less than a worker offers, and at least 512Mi",
            );
        }
        Some(Connect {
            // The other half is for jobs: a server never gives its executors back by itself.
            cores: connect.cores.unwrap_or((all_cores / 2).max(1)),
            executor_memory,
            driver_memory,
            pod,
        })
    }
}
