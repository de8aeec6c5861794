//! What a worker may offer to applications, from what its pod really has. Without a cap a worker offers all cores and memory of
//! the *host*; in standalone mode its executors run inside the worker's own container, so the cap has to leave room for the
//! daemon and for what executors use beside their heaps.

use super::quantity::{Cpu, Memory};

/// What a worker's JVM needs beside its heap. Measured: 241 MiB resident with a heap of 512 MiB that it does not fill, so
/// heap + 100 MiB is safe for small heaps, and 300 MiB the floor.
const DAEMON_OVERHEAD: Memory = Memory::from_mib(100);
const DAEMON_FLOOR: Memory = Memory::from_mib(300);
/// Off-heap memory of one executor at least (Spark's own minimum for `spark.executor.memoryOverhead`).
const EXECUTOR_OVERHEAD_MIN: Memory = Memory::from_mib(384);
/// Below this no executor starts: Spark reserves 300 MiB and asks for half as much again.
const OFFER_MIN: Memory = Memory::from_mib(512);

/// What a worker offers (`SPARK_WORKER_CORES`, `SPARK_WORKER_MEMORY`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    pub cores: u32,
    /// Whole MiB.
    pub memory: Memory,
}

/// Limits that leave nothing to offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CapError {
    #[error("a worker with {limit} CPU has no whole core to offer")]
    NoCore { limit: Cpu },
    #[error(
        "a worker with {limit} of memory has {left} MiB left for executors beside its daemon and their off-heap share; \
         they need {} MiB", OFFER_MIN.mib()
    )]
    NoMemory { limit: Memory, left: u64, enough: Memory },
}

impl CapError {
    pub fn help(&self) -> String {
        match self {
            CapError::NoCore { .. } => "give each worker at least 1 core".into(),
            CapError::NoMemory { enough, .. } => format!("give each worker at least {enough}"),
        }
    }
}

/// The offer of a worker whose pod has these limits, whose daemon has this heap, and of whose memory this share is set aside
/// for what executors use beside their heaps.
pub fn offer(cpu: Cpu, memory: Memory, daemon_heap: Memory, off_heap_share: f64) -> Result<Offer, CapError> {
    if cpu.cores() == 0 {
        return Err(CapError::NoCore { limit: cpu });
    }
    let daemon = (daemon_heap + DAEMON_OVERHEAD).max(DAEMON_FLOOR);
    let off_heap = memory.share(off_heap_share).max(EXECUTOR_OVERHEAD_MIN);
    let left = memory.saturating_sub(daemon).saturating_sub(off_heap);
    if left < OFFER_MIN {
        return Err(CapError::NoMemory {
            limit: memory,
            left: left.mib(),
            enough: smallest_limit(daemon, off_heap_share),
        });
    }
    Ok(Offer {
        cores: cpu.cores(),
        memory: Memory::from_mib(left.mib()),
    })
}

/// The smallest limit, in steps of 64 MiB, that leaves enough.
fn smallest_limit(daemon: Memory, off_heap_share: f64) -> Memory {
    let with_floor = (daemon + EXECUTOR_OVERHEAD_MIN + OFFER_MIN).mib();
    let with_share = ((daemon + OFFER_MIN).mib() as f64 / (1.0 - off_heap_share)).ceil() as u64;
    Memory::from_mib(with_floor.max(with_share).next_multiple_of(64))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEAP: Memory = Memory::from_mib(256);

    #[test]
    fn two_gib_leave_room_for_an_executor_of_one() {
        let offer = offer(Cpu::from_cores(1), Memory::from_mib(2048), HEAP, 0.2).unwrap();
        assert_eq!(
            offer,
            Offer {
                cores: 1,
                memory: Memory::from_mib(1282)
            }
        );
    }

    #[test]
    fn too_little_is_refused_with_what_would_do() {
        let error = offer(Cpu::from_cores(1), Memory::from_mib(1024), HEAP, 0.2).unwrap_err();
        assert_eq!(error.help(), "give each worker at least 1280Mi");
        assert!(offer(Cpu::from_cores(1), Memory::from_mib(1280), HEAP, 0.2).is_ok());
        assert_eq!(
            offer(Cpu::from_millis(500), Memory::from_mib(4096), HEAP, 0.2).unwrap_err(),
            CapError::NoCore {
                limit: Cpu::from_millis(500)
            }
        );
    }

    proptest! {
        #[test]
        fn never_more_than_the_pod_has(millis in 0..100_000u32, mib in 0..1_000_000u64, heap in 0..10_000u64, share in 0.0..0.9) {
            let (cpu, memory) = (Cpu::from_millis(millis), Memory::from_mib(mib));
            match offer(cpu, memory, Memory::from_mib(heap), share) {
                Ok(offer) => {
                    prop_assert!(Cpu::from_cores(offer.cores) <= cpu);
                    prop_assert!(offer.memory + Memory::from_mib(heap) + EXECUTOR_OVERHEAD_MIN <= memory);
                }
                Err(CapError::NoMemory { enough, .. }) => {
                    prop_assert!(offer(cpu, enough, Memory::from_mib(heap), share).is_ok());
                }
                Err(CapError::NoCore { .. }) => prop_assert!(cpu < Cpu::from_cores(1)),
            }
        }
    }
}
