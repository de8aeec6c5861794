//! The Spark Connect server, and its share of the cluster.

use super::{Resolver, pods};
use crate::spec::caps::HEAP_MIN;
use crate::spec::file::ConnectFile;
use crate::spec::quantity::{Cpu, Memory};
use crate::spec::{Connect, ConnectToken, Workers};

/// Spark's Connect server also reads its token from this variable.
const TOKEN_VARIABLE: &str = "SPARK_CONNECT_AUTHENTICATE_TOKEN";

impl Resolver {
    /// `workers` is `None` only if there are problems.
    pub(super) fn connect(
        &mut self,
        connect: ConnectFile,
        workers: Option<&Workers>,
        authenticated: bool,
    ) -> Option<Connect> {
        let driver_memory = self.memory("connect.driverMemory", &connect.driver_memory, Memory::from_mib(1024));
        if driver_memory < HEAP_MIN {
            self.problem(
                "connect.driverMemory",
                format!("a driver cannot start with a heap of {driver_memory}"),
                format!("set at least {HEAP_MIN}"),
            );
        }
        let defaults = pods::Defaults {
            cpu_limit: Cpu::from_cores(1),
            cpu_request: Cpu::from_millis(250),
            memory: driver_memory + (driver_memory.share(0.1)).max(Memory::from_mib(512)),
        };
        let pod = self.pod("connect", connect.pod, defaults);
        self.heap_fits("connect", "driverMemory", driver_memory, pod.resources.memory_limit);
        let workers = workers?;
        let executor_memory = match &connect.executor_memory {
            Some(memory) => self.memory_of("connect.executorMemory", memory)?,
            None => workers.executor.memory,
        };
        if !(HEAP_MIN..=workers.offer.memory).contains(&executor_memory) {
            self.problem(
                "connect.executorMemory",
                format!(
                    "no worker can start executors of {executor_memory}: each offers {}",
                    workers.offer.memory
                ),
                "choose at most what a worker offers, and at least 512Mi",
            );
        }
        // The other half is for jobs: the server never releases its executors.
        let half = (workers.count * workers.executors / 2).max(1) * workers.executor.cores;
        let cores = connect.cores.unwrap_or(half);
        let token = match connect.authentication.unwrap_or(authenticated) {
            _ if pod.env.contains_key(TOKEN_VARIABLE) => ConnectToken::OfUser,
            true if authenticated => ConnectToken::OfCluster,
            true => {
                self.problem(
                    "connect.authentication",
                    "without authentication there is no Secret that can store a token",
                    format!(
                        "remove it, or authentication.enabled, or give connect.env a {TOKEN_VARIABLE} from a Secret"
                    ),
                );
                ConnectToken::None
            }
            false => ConnectToken::None,
        };
        Some(Connect {
            cores,
            executor_cores: divisor(cores, workers.executor.cores),
            executor_memory,
            driver_memory,
            token,
            pod,
        })
    }
}

/// Cores of each executor that divide the total: at most `most`, and not much less only to divide it exactly.
fn divisor(cores: u32, most: u32) -> u32 {
    let exact = (most.div_ceil(2)..=most).rev().find(|each| cores.is_multiple_of(*each));
    exact.unwrap_or(most.min(cores))
}
