//! Explains with numbers why an application gets no executors, and whether it ever can. Pure.

use crate::jobs::submit::job::ResourceRequest;
use crate::model::reports::WorkerReport;
use crate::render::inventory::WorkersSummary;
use crate::spec::quantity::Memory;
use crate::spec::words::counted;

/// Spark's default memory of an executor.
const DEFAULT_MEMORY: Memory = Memory::from_mib(1024);
/// Maximum number of listed workers.
const LISTED: usize = 5;

/// Whether a worker has capacity for an executor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecutorCapacity {
    /// A worker has capacity.
    Enough,
    /// No worker has capacity now.
    Later(String),
    /// No worker of this cluster can ever have capacity.
    Never(String),
}

/// Checks the workers' capacity. Only the application itself may know its executors' memory, so an unset value never
/// rules it out.
pub fn executor_capacity(
    request: ResourceRequest,
    workers: &[WorkerReport],
    expected: &WorkersSummary,
) -> ExecutorCapacity {
    let memory = request.executor_memory.unwrap_or(DEFAULT_MEMORY).mib();
    let cores = request.executor_cores.unwrap_or(1);
    let alive: Vec<_> = workers.iter().filter(|worker| worker.state == "ALIVE").collect();
    let each = format!("each executor requests {memory} MiB and {}", counted(cores, "core"));
    let offers = alive.iter().map(|worker| (worker.memory, worker.cores));
    let offers: Vec<_> = offers.chain([(expected.memory_mib, expected.cores)]).collect();
    let fits = |&(offered, offered_cores): &(u64, u32)| offered >= memory && offered_cores >= cores;
    if !offers.iter().any(fits) {
        let largest = offers.iter().map(|(memory, _)| *memory).max();
        let most = offers.iter().map(|(_, cores)| *cores).max();
        return ExecutorCapacity::Never(format!(
            "{each}, and no worker offers more than {} MiB and {}",
            largest.unwrap_or_default(),
            counted(most.unwrap_or_default(), "core")
        ));
    }
    let free = alive.iter().map(|worker| {
        (
            worker.memory.saturating_sub(worker.memoryused),
            worker.cores.saturating_sub(worker.coresused),
        )
    });
    let free: Vec<_> = free.collect();
    if free.iter().any(fits) {
        return ExecutorCapacity::Enough;
    }
    if alive.is_empty() {
        return ExecutorCapacity::Later(format!("{each}, and no worker is registered"));
    }
    let mut list: Vec<_> = alive
        .iter()
        .zip(free)
        .take(LISTED)
        .map(|(worker, (free_memory, free_cores))| {
            format!(
                "{} has {free_memory} of {} MiB and {free_cores} of {} free",
                worker.host,
                worker.memory,
                counted(worker.cores, "core")
            )
        })
        .collect();
    if alive.len() > LISTED {
        list.push(format!("{} more have no capacity either", alive.len() - LISTED));
    }
    ExecutorCapacity::Later(format!("{each}; {}", list.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(memory_used: u64, cores_used: u32, state: &str) -> WorkerReport {
        WorkerReport {
            id: "w".into(),
            host: "10.0.0.5".into(),
            webuiaddress: String::new(),
            cores: 2,
            coresused: cores_used,
            memory: 1282,
            memoryused: memory_used,
            state: state.into(),
        }
    }

    const EXPECTED: WorkersSummary = WorkersSummary {
        count: 2,
        cores: 2,
        memory_mib: 1282,
    };

    fn asks(memory: Option<u64>, cores: Option<u32>) -> ResourceRequest {
        ResourceRequest {
            executor_memory: memory.map(Memory::from_mib),
            executor_cores: cores,
        }
    }

    #[test]
    fn a_waiting_job_gets_the_numbers() {
        let free = worker(0, 0, "ALIVE");
        assert_eq!(
            executor_capacity(asks(None, None), std::slice::from_ref(&free), &EXPECTED),
            ExecutorCapacity::Enough
        );
        assert_eq!(
            executor_capacity(
                asks(None, None),
                &[worker(600, 1, "ALIVE"), worker(0, 0, "DEAD")],
                &EXPECTED
            ),
            ExecutorCapacity::Later(
                "each executor requests 1024 MiB and 1 core; 10.0.0.5 has 682 of 1282 MiB and 1 of 2 cores free".into()
            )
        );
        assert_eq!(
            executor_capacity(asks(None, None), &[], &EXPECTED),
            ExecutorCapacity::Later("each executor requests 1024 MiB and 1 core, and no worker is registered".into())
        );
    }

    #[test]
    fn impossible_requests_are_detected() {
        let free = [worker(0, 0, "ALIVE")];
        let never = "each executor requests 2048 MiB and 1 core, and no worker offers more than 1282 MiB and 2 cores";
        assert_eq!(
            executor_capacity(asks(Some(2048), None), &free, &EXPECTED),
            ExecutorCapacity::Never(never.into())
        );
        assert!(matches!(
            executor_capacity(asks(Some(512), Some(3)), &free, &EXPECTED),
            ExecutorCapacity::Never(_)
        ));
        // Larger workers are starting, or smaller ones are about to stop.
        let larger = WorkersSummary {
            memory_mib: 4096,
            ..EXPECTED
        };
        assert!(matches!(
            executor_capacity(asks(Some(2048), None), &free, &larger),
            ExecutorCapacity::Later(_)
        ));
    }
}
