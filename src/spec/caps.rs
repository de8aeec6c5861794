//! What a worker may offer to applications, from what its pod really has, and the executors that fill it. Without a cap a worker offers
//! all cores and memory of the *host*; in standalone mode its executors run inside the worker's own container, and the master counts their
//! heaps alone. So the offer leaves room for the daemon, and for what each executor that fits uses beside its heap.

use super::quantity::{Cpu, Memory};
use crate::spec::words::counted;

/// What a worker's JVM needs beside its heap. Measured: 241 MiB resident with a heap of 512 MiB that it does not fill, so
/// heap + 100 MiB is safe for small heaps, and 300 MiB the floor.
const DAEMON_OVERHEAD: Memory = Memory::from_mib(100);
const DAEMON_FLOOR: Memory = Memory::from_mib(300);
/// Below this no executor starts: Spark reserves 300 MiB and asks for half as much again.
pub const HEAP_MIN: Memory = Memory::from_mib(512);
/// A worker is not divided into smaller heaps than this only to have two executors.
const SPLIT_MIN: Memory = Memory::from_mib(768);
/// Above this a JVM's pointers are twice as long.
const HEAP_MAX: Memory = Memory::from_mib(31 * 1024);
/// Executors with more cores than this lose time in garbage collection and shared locks.
const CORES_MAX: u32 = 8;
/// How many cores an executor of a large worker has: enough to share broadcasts, few enough for its garbage collector.
const CORES_USUAL: u32 = 4;

/// What of the memory beside a heap is not for Python workers: the JVM's own, measured 270 to 325 MiB (of which direct buffers are 70 to 150, while it
/// shuffles), and PySpark's daemon with 36.
const JVM_SHARE: f64 = 0.1;
const JVM_LEAST: Memory = Memory::from_mib(352);
/// A Python worker: one for each core that is in use. It holds 60 MiB before it has any data.
const PYTHON: Memory = Memory::from_mib(224);
/// Python workers look at what they hold only now and then: measured, 229 MiB where 132 were allowed.
const PYTHON_EXCESS: f64 = 1.75;
/// Where a worker has many cores and little memory, no more than this is kept for Python, and at least that.
const PYTHON_MOST: f64 = 0.4;
const PYTHON_LEAST: Memory = Memory::from_mib(96);

/// What a worker offers (`SPARK_WORKER_CORES`, `SPARK_WORKER_MEMORY`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    pub cores: u32,
    /// Whole MiB.
    pub memory: Memory,
}

/// An executor, unless an application says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Executor {
    pub cores: u32,
    /// Its heap, in whole MiB.
    pub memory: Memory,
    /// How much each of its Python workers may hold before it spills (`spark.python.worker.memory`).
    pub python_memory: Memory,
}

/// A worker's offer, and the executors that fill it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit {
    pub offer: Offer,
    pub executor: Executor,
    /// How many such executors one worker holds.
    pub executors: u32,
}

/// What executors use beside their heaps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Overhead {
    /// As a share of the heap.
    pub share: f64,
    /// At least, each.
    pub least: Memory,
    /// And for each core.
    pub of_core: Memory,
    /// On top of that, each: memory that Spark itself allocates beside the heap.
    pub fixed: Memory,
    /// All executors together: a share of the pod's memory instead of the heap's.
    pub of_pod: Option<f64>,
}

impl Default for Overhead {
    /// The share that Spark on Kubernetes has for applications in Python, and what was measured.
    fn default() -> Self {
        Self {
            share: 0.4,
            least: JVM_LEAST,
            of_core: PYTHON,
            fixed: Memory::from_mib(0),
            of_pod: None,
        }
    }
}

impl Overhead {
    /// Beside the heap of an executor that has so many cores.
    fn beside(&self, heap: Memory, cores: u32) -> Memory {
        heap.share(self.share).max(self.least + times(self.of_core, cores)) + self.fixed
    }
}

fn times(each: Memory, count: u32) -> Memory {
    Memory::from_mib(each.mib() * u64::from(count))
}

/// What is said of executors.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Wanted {
    pub cores: Option<u32>,
    /// Not more than that, where nothing is said: an application that may have fewer cores than an executor has would get none.
    pub most_cores: Option<u32>,
    pub memory: Option<Memory>,
    pub overhead: Overhead,
}

/// Limits that leave nothing to offer, and executors that do not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CapError {
    #[error("a worker with {limit} CPU has no whole core to offer")]
    NoCore { limit: Cpu },
    #[error(
        "a worker with {limit} of memory has {left} MiB left for executors beside its daemon and their off-heap share; \
         they need {} MiB", HEAP_MIN.mib()
    )]
    NoMemory { limit: Memory, left: u64, enough: Memory },
    #[error(
        "an executor with {} does not fit into a worker with {offered}",
        counted(asked, "core")
    )]
    ExecutorCores { asked: u32, offered: u32 },
    #[error(
        "an executor with a heap of {asked}, and {beside} beside it, does not fit into a worker with {} MiB for executors", left.mib()
    )]
    ExecutorMemory {
        asked: Memory,
        beside: Memory,
        left: Memory,
    },
}

impl CapError {
    pub fn help(&self) -> String {
        match self {
            CapError::NoCore { .. } => "give each worker at least 1 core".into(),
            CapError::NoMemory { enough, .. } => format!("give each worker at least {enough}"),
            CapError::ExecutorCores { .. } => "lower it, or raise workers.cores".into(),
            CapError::ExecutorMemory { .. } => "lower it, or raise workers.memory".into(),
        }
    }
}

/// The memory of a worker's pod, and how executors share it.
#[derive(Clone, Copy)]
struct Room {
    limit: Memory,
    daemon: Memory,
    cores: u32,
    overhead: Overhead,
}

impl Room {
    /// What the daemon leaves.
    fn left(&self) -> Memory {
        self.limit.saturating_sub(self.daemon)
    }

    /// The heaps that so many executors may have altogether.
    fn heaps(&self, executors: u32) -> Memory {
        let Overhead {
            share,
            least,
            of_core,
            fixed,
            of_pod,
        } = self.overhead;
        let without_fixed = self.left().saturating_sub(times(fixed, executors));
        // However cores are divided among executors. Rather less of it than no executor at all.
        let bare = without_fixed.saturating_sub(least + HEAP_MIN).max(PYTHON_LEAST);
        let of_cores = times(of_core, self.cores)
            .min(without_fixed.share(PYTHON_MOST))
            .min(bare);
        let above_least = without_fixed.saturating_sub(times(least, executors) + of_cores);
        let heaps = match of_pod {
            Some(share) => above_least.min(without_fixed.saturating_sub(self.limit.share(share))),
            None => above_least.min(Memory::from_mib((without_fixed.mib() as f64 / (1.0 + share)) as u64)),
        };
        Memory::from_mib(heaps.mib())
    }

    /// The heap of each of them.
    fn heap(&self, executors: u32) -> Memory {
        Memory::from_mib(self.heaps(executors).mib() / u64::from(executors.max(1)))
    }

    /// How many executors of this heap fit.
    fn holds(&self, heap: Memory, most: u32) -> u32 {
        (1..=most)
            .rev()
            .find(|&executors| self.heap(executors) >= heap)
            .unwrap_or(0)
    }

    fn no_memory(&self) -> CapError {
        let enough = (1..)
            .map(|step| Memory::from_mib(step * 64))
            .find(|&limit| Room { limit, ..*self }.heap(1) >= HEAP_MIN)
            .unwrap_or_default();
        CapError::NoMemory {
            limit: self.limit,
            left: self.heap(1).mib(),
            enough,
        }
    }
}

/// The offer of a worker whose pod has these limits and whose daemon has this heap, and the executors that fill it.
pub fn fit(cpu: Cpu, memory: Memory, daemon_heap: Memory, wanted: Wanted) -> Result<Fit, CapError> {
    let cores = cpu.cores();
    if cores == 0 {
        return Err(CapError::NoCore { limit: cpu });
    }
    if let Some(asked) = wanted.cores.filter(|&asked| asked > cores || asked == 0) {
        return Err(CapError::ExecutorCores { asked, offered: cores });
    }
    let daemon = (daemon_heap + DAEMON_OVERHEAD).max(DAEMON_FLOOR);
    let room = Room {
        limit: memory,
        daemon,
        cores,
        overhead: wanted.overhead,
    };
    let most_cores = wanted.most_cores.unwrap_or(cores).clamp(1, cores);
    let (each, executors, heap, offered) = match wanted.memory {
        None => {
            let each = wanted
                .cores
                .unwrap_or_else(|| cores_that_fill(cores, most_cores, &room));
            let executors = (1..=cores / each)
                .rev()
                .find(|&executors| room.heap(executors) >= HEAP_MIN)
                .ok_or_else(|| room.no_memory())?;
            let heap = room.heap(executors);
            (
                each,
                executors,
                heap,
                Memory::from_mib(heap.mib() * u64::from(executors)),
            )
        }
        Some(heap) => {
            let beside = wanted.overhead.least + wanted.overhead.fixed;
            if heap + beside > room.left() {
                return Err(CapError::ExecutorMemory {
                    asked: heap,
                    beside,
                    left: room.left(),
                });
            }
            // Who says how large one executor is, may have it with less beside it than would be reserved otherwise.
            let most = room.holds(heap, cores).max(1);
            let each = wanted.cores.unwrap_or_else(|| cores_for(cores, most_cores, most));
            let executors = most.min(cores / each);
            (each, executors, heap, room.heaps(executors).max(heap))
        }
    };
    let beside = match wanted.overhead.of_pod {
        Some(share) => Memory::from_mib(memory.share(share).mib() / u64::from(executors)).max(wanted.overhead.least),
        None => wanted.overhead.beside(heap, each).saturating_sub(wanted.overhead.fixed),
    };
    let python = beside.saturating_sub(heap.share(JVM_SHARE).max(JVM_LEAST)).mib() / u64::from(each);
    Ok(Fit {
        offer: Offer { cores, memory: offered },
        executor: Executor {
            cores: each,
            memory: heap,
            // With less it would spill all the time.
            python_memory: Memory::from_mib(((python as f64 / PYTHON_EXCESS) as u64).max(128)),
        },
        executors,
    })
}

/// How many cores each executor has where both sizes are free: no core is left over, heaps are neither tiny nor huge, two applications
/// can share a worker, and large workers have executors of [`CORES_USUAL`].
fn cores_that_fill(cores: u32, most_cores: u32, room: &Room) -> u32 {
    let usual = f64::from(CORES_USUAL.min(most_cores)).min((f64::from(cores) / 2.0).max(1.0));
    let fewest = if cores > 3 { 2.min(most_cores) } else { 1 };
    let key = |each: u32| {
        let executors = cores / each;
        let heap = room.heap(executors);
        let faults = [
            heap < HEAP_MIN,
            heap > HEAP_MAX || each > CORES_MAX,
            executors > 1 && heap < SPLIT_MIN,
        ];
        let distance = (f64::from(each) / usual).ln().abs();
        (
            (faults[0], faults[1]),
            cores % each * 8 >= cores,
            each < fewest,
            cores % each,
            faults[2],
            (distance * 1000.0) as u64,
        )
    };
    let candidates = (1..=CORES_MAX.min(most_cores)).chain([most_cores]);
    candidates.min_by_key(|&each| key(each)).unwrap_or(most_cores)
}

/// How many cores each executor has if at most so many fit into the memory: few cores and little memory are left over.
pub fn cores_for(cores: u32, most_cores: u32, most: u32) -> u32 {
    let cost = |each: &u32| {
        let executors = cores / each;
        let wasted = f64::from(cores % each) / f64::from(cores) + f64::from(most.abs_diff(executors)) / f64::from(most);
        ((wasted * 1000.0) as u64, std::cmp::Reverse(*each))
    };
    (1..=most_cores)
        .filter(|each| cores / each <= most)
        .min_by_key(cost)
        .unwrap_or(most_cores)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEAP: Memory = Memory::from_mib(256);

    fn fitted(cores: u32, mib: u64, wanted: Wanted) -> Fit {
        fit(Cpu::from_cores(cores), Memory::from_mib(mib), HEAP, wanted).unwrap()
    }

    fn sizes(cores: u32, mib: u64) -> (u32, u32, u64) {
        let fit = fitted(cores, mib, Wanted::default());
        (fit.executors, fit.executor.cores, fit.executor.memory.mib())
    }

    #[test]
    fn executors_fill_workers_of_usual_sizes() {
        // Executors, cores and MiB of each.
        assert_eq!(sizes(1, 2048), (1, 1, 1116));
        assert_eq!(sizes(2, 2048), (1, 2, 892));
        assert_eq!(sizes(2, 3072), (2, 1, 782));
        assert_eq!(sizes(2, 8192), (2, 1, 2798));
        assert_eq!(sizes(4, 16 * 1024), (2, 2, 5724));
        assert_eq!(sizes(6, 16 * 1024), (2, 3, 5724));
        assert_eq!(sizes(7, 16 * 1024), (1, 7, 11448));
        assert_eq!(sizes(8, 8192), (2, 4, 2670));
        assert_eq!(sizes(16, 64 * 1024), (4, 4, 11639));
        assert_eq!(sizes(7, 48 * 1024), (7, 1, 4979));
        assert_eq!(sizes(11, 64 * 1024), (2, 5, 23278));
        // Sixteen tasks on one small heap: nothing else fits.
        assert_eq!(sizes(16, 2048), (1, 16, 663));
    }

    #[test]
    fn the_reservation_follows_what_the_user_says_of_executors() {
        let wanted = |cores: Option<u32>, mib: Option<u64>| Wanted {
            cores,
            memory: mib.map(Memory::from_mib),
            ..Wanted::default()
        };
        let small = fitted(8, 8192, wanted(Some(1), Some(1024)));
        assert_eq!((small.executors, small.offer.memory.mib()), (4, 4636));
        // Without a word on cores as many as fit, and no core is lost.
        let some = fitted(8, 8192, wanted(None, Some(1024)));
        assert_eq!((some.executors, some.executor.cores), (4, 2));
        let tiny = fitted(8, 8192, wanted(Some(1), Some(512)));
        assert_eq!(
            (tiny.executors, tiny.offer.memory.mib()),
            (6, 8192 - 356 - 6 * 352 - 8 * 224)
        );
        // More of the worker than would be left to it otherwise, as long as the JVM itself has enough.
        let large = fitted(2, 8192, wanted(None, Some(6144)));
        assert_eq!((large.executors, large.offer.memory.mib()), (1, 6144));
        let error = |wanted| fit(Cpu::from_cores(2), Memory::from_mib(8192), HEAP, wanted).unwrap_err();
        assert!(matches!(
            error(wanted(None, Some(7600))),
            CapError::ExecutorMemory { .. }
        ));
        assert!(matches!(
            error(wanted(Some(3), None)),
            CapError::ExecutorCores { asked: 3, offered: 2 }
        ));
    }

    #[test]
    fn a_share_of_the_pod_is_what_it_was_for_one_executor() {
        let overhead = Overhead {
            of_pod: Some(0.2),
            of_core: Memory::default(),
            ..Overhead::default()
        };
        let fit = fitted(
            1,
            2048,
            Wanted {
                overhead,
                ..Wanted::default()
            },
        );
        assert_eq!(fit.offer.memory.mib(), 1282);
    }

    #[test]
    fn too_little_is_refused_with_what_would_do() {
        let fit_of = |cpu, mib| fit(cpu, Memory::from_mib(mib), HEAP, Wanted::default());
        let error = fit_of(Cpu::from_cores(1), 1024).unwrap_err();
        assert_eq!(error.help(), "give each worker at least 1344Mi");
        assert!(fit_of(Cpu::from_cores(1), 1344).is_ok());
        assert_eq!(
            fit_of(Cpu::from_millis(500), 4096).unwrap_err(),
            CapError::NoCore {
                limit: Cpu::from_millis(500)
            }
        );
    }

    fn overheads() -> impl Strategy<Value = Overhead> {
        let share = (
            0.0..2.0,
            352..2000u64,
            0..500u64,
            0..2000u64,
            proptest::option::of(0.0..0.9),
        );
        share.prop_map(|(share, least, of_core, fixed, of_pod)| Overhead {
            share,
            least: Memory::from_mib(least),
            of_core: Memory::from_mib(of_core),
            fixed: Memory::from_mib(fixed),
            of_pod,
        })
    }

    proptest! {
        #[test]
        fn executors_never_need_more_than_the_pod_has(
            millis in 0..130_000u32, mib in 0..1_000_000u64, heap in 0..10_000u64,
            cores in proptest::option::of(1..130u32), most_cores in proptest::option::of(1..20u32),
            memory in proptest::option::of(512..500_000u64), overhead in overheads(),
        ) {
            let (cpu, limit) = (Cpu::from_millis(millis), Memory::from_mib(mib));
            let wanted = Wanted { cores, most_cores, memory: memory.map(Memory::from_mib), overhead };
            match fit(cpu, limit, Memory::from_mib(heap), wanted) {
                Ok(fit) => {
                    let Fit { offer, executor, executors } = fit;
                    prop_assert!(Cpu::from_cores(offer.cores) <= cpu);
                    prop_assert!(executors >= 1 && executors * executor.cores <= offer.cores);
                    let heaps = executor.memory.mib() * u64::from(executors);
                    prop_assert!(heaps <= offer.memory.mib());
                    let share = if overhead.of_pod.is_some() || executors == 1 && memory.is_some() { 0.0 } else { overhead.share };
                    let beside = Overhead { share, of_core: Memory::from_mib(0), ..overhead }.beside(executor.memory, 0).mib() * u64::from(executors);
                    let of_pod = limit.share(overhead.of_pod.filter(|_| memory.is_none() || executors > 1).unwrap_or(0.0)).mib();
                    prop_assert!(heap + heaps + beside.max(of_pod) <= limit.mib() + u64::from(executors), "{fit:?}");
                    prop_assert_eq!(executor.cores, cores.unwrap_or(executor.cores));
                    prop_assert!(cores.is_some() || executor.cores <= most_cores.unwrap_or(u32::MAX));
                    prop_assert_eq!(executor.memory.mib(), memory.unwrap_or(executor.memory.mib()));
                }
                Err(CapError::NoMemory { enough, .. }) => {
                    prop_assert!(fit(cpu, enough, Memory::from_mib(heap), wanted).is_ok());
                }
                Err(CapError::NoCore { .. }) => prop_assert!(cpu < Cpu::from_cores(1)),
                Err(CapError::ExecutorCores { asked, offered }) => prop_assert!(asked > offered),
                Err(CapError::ExecutorMemory { asked, left, .. }) => prop_assert!(asked + overhead.least > left || overhead.fixed.mib() > 0),
            }
        }

        /// Applications may ask for other heaps: as long as their executors have no fewer cores, what they use beside is reserved.
        #[test]
        fn other_heaps_fit_too(cores in 1..65u32, mib in 1344..500_000u64, heap in 512..100_000u64) {
            let fit = fitted(cores, mib, Wanted::default());
            let by_memory = fit.offer.memory.mib() / heap;
            let executors = by_memory.min(u64::from(cores / fit.executor.cores));
            prop_assert!(used(cores, mib, executors, heap) <= mib);
        }

        /// Less than one core in eight is left over, and what of the memory is left over is rounding.
        #[test]
        fn executors_fill_the_worker(cores in 1..129u32, gib in 2..8u64) {
            let mib = gib * 1024 * u64::from(cores);
            let fit = fitted(cores, mib, Wanted::default());
            prop_assert!((cores - fit.executors * fit.executor.cores) * 8 < cores, "{fit:?}");
            prop_assert!(fit.executor.memory >= HEAP_MIN);
            let used = used(cores, mib, u64::from(fit.executors), fit.executor.memory.mib());
            prop_assert!(mib - used <= 3 * u64::from(fit.executors) + 8, "{fit:?} {used}");
        }
    }

    /// All of a worker's memory in MiB if each core has a Python worker.
    fn used(cores: u32, mib: u64, executors: u64, heap: u64) -> u64 {
        let left = mib - 356;
        let bare = left
            .saturating_sub(JVM_LEAST.mib() + HEAP_MIN.mib())
            .max(PYTHON_LEAST.mib());
        let most = (left as f64 * PYTHON_MOST) as u64;
        let python = (u64::from(cores) * PYTHON.mib()).min(most).min(bare);
        let beside = ((executors * heap) as f64 * 0.4) as u64;
        356 + executors * heap + beside.max(executors * JVM_LEAST.mib() + python)
    }
}
