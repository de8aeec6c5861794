//! The cores and memory that a worker offers to applications, computed from its pod's limits, and the executors that fill it. Without a cap
//! a worker offers all cores and memory of the *host*. In standalone mode executors run in the worker's own container, and the master counts
//! only their heaps. The offer therefore reserves memory for the daemon and for each executor's off-heap memory.

use super::quantity::{Cpu, Memory};
use crate::spec::words::counted;

/// Off-heap memory of a worker's JVM. Measured: 241 MiB resident with a heap of 512 MiB that it does not fill, so
/// heap + 100 MiB is safe for small heaps, with a minimum of 300 MiB.
const DAEMON_OVERHEAD: Memory = Memory::from_mib(100);
const DAEMON_FLOOR: Memory = Memory::from_mib(300);
/// The smallest heap of an executor that sparkha chooses.
pub const HEAP_MIN: Memory = Memory::from_mib(512);
/// The smallest heap with which an executor starts: Spark requires 450 MiB, not counting a thirtieth that SerialGC keeps free.
const SPARK_HEAP_MIN: Memory = Memory::from_mib(480);
/// Heap of a master by default; its pod has as much beside it.
pub const MASTER_HEAP: Memory = Memory::from_mib(512);
/// Memory of a worker's pod by default.
pub const WORKER: Memory = Memory::from_mib(2048);
/// Heap of a worker's own JVM by default.
pub const DAEMON_HEAP: Memory = Memory::from_mib(256);
/// A worker is divided into two executors only if each heap has at least this size.
const SPLIT_MIN: Memory = Memory::from_mib(768);
/// Above this heap size the JVM cannot compress pointers.
const HEAP_MAX: Memory = Memory::from_mib(31 * 1024);
/// Executors with more cores lose time to garbage collection and lock contention.
const CORES_MAX: u32 = 8;
/// Cores of an executor on a large worker: enough to share broadcasts, few enough for the garbage collector.
const CORES_USUAL: u32 = 4;

/// The share of off-heap memory that Python workers do not get. The JVM itself uses 270 to 325 MiB (measured; 70 to 150 of it are direct
/// buffers during a shuffle), PySpark's daemon 36.
const JVM_SHARE: f64 = 0.1;
const JVM_LEAST: Memory = Memory::from_mib(352);
/// Memory of a Python worker. There is one for each core in use; without data it uses 60 MiB.
const PYTHON: Memory = Memory::from_mib(224);
/// Python workers check their memory only periodically: measured, 229 MiB with a limit of 132.
const PYTHON_EXCESS: f64 = 1.75;
/// On a worker with many cores and little memory: the largest share, and the least memory, reserved for Python.
const PYTHON_MOST: f64 = 0.4;
const PYTHON_LEAST: Memory = Memory::from_mib(96);

/// What a worker offers (`SPARK_WORKER_CORES`, `SPARK_WORKER_MEMORY`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    pub cores: u32,
    /// Whole MiB.
    pub memory: Memory,
}

/// The default size of an executor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecutorSize {
    pub cores: u32,
    /// Its heap, in whole MiB.
    pub memory: Memory,
    /// Memory of each Python worker before it spills (`spark.python.worker.memory`).
    pub python_memory: Memory,
}

/// A worker's offer, and the executors that fill it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit {
    pub offer: Offer,
    pub executor: ExecutorSize,
    /// Number of such executors that fit into one worker.
    pub executors: u32,
}

/// Off-heap memory of executors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Overhead {
    /// As a share of the heap.
    pub share: f64,
    /// Minimum for each executor.
    pub least: Memory,
    /// Additional minimum for each core.
    pub of_core: Memory,
    /// Additional memory for each executor that Spark itself allocates off-heap.
    pub fixed: Memory,
    /// For all executors together: a share of the pod's memory, which replaces `share`.
    pub of_pod: Option<f64>,
}

impl Default for Overhead {
    /// Spark on Kubernetes' share for Python applications, and the measured minimum.
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
    /// Off-heap memory of an executor with this heap and these cores.
    fn beside(&self, heap: Memory, cores: u32) -> Memory {
        heap.share(self.share).max(self.least + times(self.of_core, cores)) + self.fixed
    }
}

fn times(each: Memory, count: u32) -> Memory {
    Memory::from_mib(each.mib().saturating_mul(count.into()))
}

/// The requested size of executors.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ExecutorRequest {
    pub cores: Option<u32>,
    /// Upper limit if `cores` is `None`: an application limited to fewer cores than one executor has would get no executor.
    pub most_cores: Option<u32>,
    pub memory: Option<Memory>,
    pub overhead: Overhead,
}

/// Limits too low for any executor, or executors that do not fit.
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
        counted(requested, "core")
    )]
    ExecutorCores { requested: u32, offered: u32 },
    #[error("an executor cannot start with a heap of {requested}")]
    SmallHeap { requested: Memory },
    #[error(
        "an executor with a heap of {requested}, and {beside} beside it, does not fit into a worker with {} MiB for executors", left.mib()
    )]
    ExecutorMemory {
        requested: Memory,
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
            CapError::SmallHeap { .. } => format!("set at least {}", SPARK_HEAP_MIN.spark()),
            CapError::ExecutorMemory { .. } => "lower it, or raise workers.memory".into(),
        }
    }
}

/// The memory of a worker's pod, and its distribution among executors.
#[derive(Clone, Copy)]
struct WorkerMemory {
    limit: Memory,
    daemon: Memory,
    cores: u32,
    overhead: Overhead,
}

impl WorkerMemory {
    /// Memory without the daemon.
    fn left(&self) -> Memory {
        self.limit.saturating_sub(self.daemon)
    }

    /// Total heap of this number of executors.
    fn heaps(&self, executors: u32) -> Memory {
        let Overhead {
            share,
            least,
            of_core,
            fixed,
            of_pod,
        } = self.overhead;
        let without_fixed = self.left().saturating_sub(times(fixed, executors));
        // Independent of how cores are divided among executors. Reserve less rather than start no executor.
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

    /// Heap of each of this number of executors.
    fn heap(&self, executors: u32) -> Memory {
        Memory::from_mib(self.heaps(executors).mib() / u64::from(executors.max(1)))
    }

    /// Number of executors with this heap that fit.
    fn holds(&self, heap: Memory, most: u32) -> u32 {
        (1..=most)
            .rev()
            .find(|&executors| self.heap(executors) >= heap)
            .unwrap_or(0)
    }

    fn no_memory(&self) -> CapError {
        let limit = |steps: u64| Memory::from_mib(steps.saturating_mul(64));
        // Halved each time: the daemon may have any size.
        let (mut too_few, mut enough) = (0, u64::MAX);
        while enough - too_few > 1 {
            let middle = too_few.midpoint(enough);
            let worker = WorkerMemory {
                limit: limit(middle),
                ..*self
            };
            match worker.heap(1) >= HEAP_MIN {
                true => enough = middle,
                false => too_few = middle,
            }
        }
        CapError::NoMemory {
            limit: self.limit,
            left: self.heap(1).mib(),
            enough: limit(enough),
        }
    }
}

/// Computes the offer of a worker from its pod's limits and its daemon's heap, and the executors that fill it.
pub fn fit(cpu: Cpu, memory: Memory, daemon_heap: Memory, request: ExecutorRequest) -> Result<Fit, CapError> {
    let cores = cpu.cores();
    if cores == 0 {
        return Err(CapError::NoCore { limit: cpu });
    }
    if let Some(requested) = request.cores.filter(|&requested| requested > cores || requested == 0) {
        return Err(CapError::ExecutorCores {
            requested,
            offered: cores,
        });
    }
    if let Some(requested) = request.memory.filter(|&requested| requested < SPARK_HEAP_MIN) {
        return Err(CapError::SmallHeap { requested });
    }
    let daemon = (daemon_heap + DAEMON_OVERHEAD).max(DAEMON_FLOOR);
    let worker = WorkerMemory {
        limit: memory,
        daemon,
        cores,
        overhead: request.overhead,
    };
    let most_cores = request.most_cores.unwrap_or(cores).clamp(1, cores);
    let (each, executors, heap, offered) = match request.memory {
        None => {
            let each = request
                .cores
                .unwrap_or_else(|| cores_that_fill(cores, most_cores, &worker));
            let executors = (1..=cores / each)
                .rev()
                .find(|&executors| worker.heap(executors) >= HEAP_MIN)
                .ok_or_else(|| worker.no_memory())?;
            let heap = worker.heap(executors);
            (
                each,
                executors,
                heap,
                Memory::from_mib(heap.mib() * u64::from(executors)),
            )
        }
        Some(heap) => {
            let beside = request.overhead.least + request.overhead.fixed;
            if heap + beside > worker.left() {
                return Err(CapError::ExecutorMemory {
                    requested: heap,
                    beside,
                    left: worker.left(),
                });
            }
            // A single executor of a requested size may have less off-heap memory than the default reservation.
            let most = worker.holds(heap, cores).max(1);
            let each = request.cores.unwrap_or_else(|| cores_for(cores, most_cores, most));
            let executors = most.min(cores / each);
            (each, executors, heap, worker.heaps(executors).max(heap))
        }
    };
    let beside = match request.overhead.of_pod {
        Some(share) => Memory::from_mib(memory.share(share).mib() / u64::from(executors)).max(request.overhead.least),
        None => request
            .overhead
            .beside(heap, each)
            .saturating_sub(request.overhead.fixed),
    };
    let python = beside.saturating_sub(heap.share(JVM_SHARE).max(JVM_LEAST)).mib() / u64::from(each);
    Ok(Fit {
        offer: Offer { cores, memory: offered },
        executor: ExecutorSize {
            cores: each,
            memory: heap,
            // With less it would spill constantly.
            python_memory: Memory::from_mib(((python as f64 / PYTHON_EXCESS) as u64).max(128)),
        },
        executors,
    })
}

/// The least memory of a pod whose worker offers this much to executors of the requested size, and holds as many of them as this offer alone
/// would; in steps of 64 MiB. `None` if no pod is that large.
pub fn memory_to_offer(offer: Memory, cpu: Cpu, daemon_heap: Memory, request: ExecutorRequest) -> Option<Memory> {
    let limit = |steps: u64| Memory::from_mib(steps.saturating_mul(64));
    let by_memory = request.memory.map_or(1, |heap| offer.mib() / heap.mib().max(1));
    let offers_enough = |steps: u64| {
        let fit = fit(cpu, limit(steps), daemon_heap, request);
        fit.is_ok_and(|fit| {
            let by_cores = fit.offer.cores / fit.executor.cores;
            fit.offer.memory >= offer && u64::from(fit.executors) >= by_memory.min(by_cores.into())
        })
    };
    // 16 TiB; halved each time.
    let (mut too_few, mut enough) = (0, 1 << 18);
    if !offers_enough(enough) {
        return None;
    }
    while enough - too_few > 1 {
        let middle = too_few.midpoint(enough);
        match offers_enough(middle) {
            true => enough = middle,
            false => too_few = middle,
        }
    }
    Some(limit(enough))
}

/// Cores of each executor if neither cores nor memory are requested: no core is unused, heaps are neither tiny nor huge, two applications
/// can share a worker, and large workers have executors of [`CORES_USUAL`].
fn cores_that_fill(cores: u32, most_cores: u32, worker: &WorkerMemory) -> u32 {
    let usual = f64::from(CORES_USUAL.min(most_cores)).min((f64::from(cores) / 2.0).max(1.0));
    let fewest = if cores > 3 { 2.min(most_cores) } else { 1 };
    let key = |each: u32| {
        let executors = cores / each;
        let heap = worker.heap(executors);
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

/// Cores of each executor if at most `most` executors fit into the memory: wastes the fewest cores and the least memory.
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

    fn fitted(cores: u32, mib: u64, request: ExecutorRequest) -> Fit {
        fit(Cpu::from_cores(cores), Memory::from_mib(mib), HEAP, request).unwrap()
    }

    fn sizes(cores: u32, mib: u64) -> (u32, u32, u64) {
        let fit = fitted(cores, mib, ExecutorRequest::default());
        (fit.executors, fit.executor.cores, fit.executor.memory.mib())
    }

    #[test]
    fn a_pod_offers_what_was_requested_and_no_smaller_one_does() {
        for (offer, cores) in [(512, 1), (1024, 1), (4096, 2), (8192, 4), (65_536, 16), (1 << 20, 64)] {
            let offer = Memory::from_mib(offer);
            let pod = memory_to_offer(offer, Cpu::from_cores(cores), DAEMON_HEAP, ExecutorRequest::default()).unwrap();
            let offered = |pod| fit(Cpu::from_cores(cores), pod, DAEMON_HEAP, ExecutorRequest::default());
            assert!(offered(pod).unwrap().offer.memory >= offer, "{pod}");
            let smaller = pod.saturating_sub(Memory::from_mib(64));
            assert!(
                !offered(smaller).is_ok_and(|fit| fit.offer.memory >= offer),
                "{smaller}"
            );
        }
        let most = Memory::from_mib(u64::MAX);
        assert_eq!(
            memory_to_offer(most, Cpu::from_cores(1), DAEMON_HEAP, ExecutorRequest::default()),
            None
        );
    }

    #[test]
    fn a_pod_holds_as_many_executors_of_a_requested_size_as_were_offered() {
        for (offer, cores, heap, each, executors) in [
            (8192, 8, 1024, 1, 8),
            (8700, 8, 1024, 1, 8),
            (8192, 4, 1024, 1, 4),
            (8192, 8, 3000, 2, 2),
        ] {
            let request = ExecutorRequest {
                cores: Some(each),
                memory: Some(Memory::from_mib(heap)),
                ..ExecutorRequest::default()
            };
            let offer = Memory::from_mib(offer);
            let held = |pod| fit(Cpu::from_cores(cores), pod, DAEMON_HEAP, request).unwrap();
            let enough = |fit: Fit| fit.executors >= executors && fit.offer.memory >= offer;
            let pod = memory_to_offer(offer, Cpu::from_cores(cores), DAEMON_HEAP, request).unwrap();
            assert!(enough(held(pod)), "{pod}");
            assert!(!enough(held(pod.saturating_sub(Memory::from_mib(64)))), "{pod}");
        }
    }

    #[test]
    fn a_daemon_of_any_size_is_judged_at_once() {
        let daemon = |heap| {
            fit(
                Cpu::from_cores(16),
                Memory::from_mib(65536),
                heap,
                ExecutorRequest::default(),
            )
        };
        for heap in ["512Mi", "8000000Ti", "16000000Ti"] {
            let heap = Memory::parse(heap).unwrap();
            match daemon(heap) {
                Err(CapError::NoMemory { enough, .. }) => assert!(enough > heap),
                fitted => assert!(fitted.is_ok() && heap.mib() == 512),
            }
        }
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
    fn the_reservation_follows_the_requested_executor_size() {
        let request = |cores: Option<u32>, mib: Option<u64>| ExecutorRequest {
            cores,
            memory: mib.map(Memory::from_mib),
            ..ExecutorRequest::default()
        };
        let small = fitted(8, 8192, request(Some(1), Some(1024)));
        assert_eq!((small.executors, small.offer.memory.mib()), (4, 4636));
        // Without requested cores: as many executors as fit, and no unused core.
        let some = fitted(8, 8192, request(None, Some(1024)));
        assert_eq!((some.executors, some.executor.cores), (4, 2));
        let tiny = fitted(8, 8192, request(Some(1), Some(512)));
        assert_eq!(
            (tiny.executors, tiny.offer.memory.mib()),
            (6, 8192 - 356 - 6 * 352 - 8 * 224)
        );
        // An explicit size may exceed the default as long as the JVM itself has enough.
        let large = fitted(2, 8192, request(None, Some(6144)));
        assert_eq!((large.executors, large.offer.memory.mib()), (1, 6144));
        let error = |request| fit(Cpu::from_cores(2), Memory::from_mib(8192), HEAP, request).unwrap_err();
        assert!(matches!(
            error(request(None, Some(7600))),
            CapError::ExecutorMemory { .. }
        ));
        assert!(matches!(
            error(request(Some(3), None)),
            CapError::ExecutorCores {
                requested: 3,
                offered: 2
            }
        ));
    }

    #[test]
    fn an_off_heap_share_applies_to_the_memory_of_the_pod() {
        let overhead = Overhead {
            of_pod: Some(0.2),
            of_core: Memory::default(),
            ..Overhead::default()
        };
        let fit = fitted(
            1,
            2048,
            ExecutorRequest {
                overhead,
                ..ExecutorRequest::default()
            },
        );
        assert_eq!(fit.offer.memory.mib(), 1282);
    }

    #[test]
    fn too_small_workers_are_refused_with_the_required_size() {
        let fit_of = |cpu, mib| fit(cpu, Memory::from_mib(mib), HEAP, ExecutorRequest::default());
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
        fn executors_never_need_more_memory_than_the_pod_has(
            millis in 0..130_000u32, mib in 0..1_000_000u64, heap in 0..10_000u64,
            cores in proptest::option::of(1..130u32), most_cores in proptest::option::of(1..20u32),
            memory in proptest::option::of(500..500_000u64), overhead in overheads(),
        ) {
            let (cpu, limit) = (Cpu::from_millis(millis), Memory::from_mib(mib));
            let request = ExecutorRequest { cores, most_cores, memory: memory.map(Memory::from_mib), overhead };
            match fit(cpu, limit, Memory::from_mib(heap), request) {
                Ok(fit) => {
                    let Fit { offer, executor, executors } = fit;
                    prop_assert!(executor.memory >= HEAP_MIN);
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
                    prop_assert!(fit(cpu, enough, Memory::from_mib(heap), request).is_ok());
                }
                Err(CapError::SmallHeap { requested }) => prop_assert!(requested < SPARK_HEAP_MIN),
                Err(CapError::NoCore { .. }) => prop_assert!(cpu < Cpu::from_cores(1)),
                Err(CapError::ExecutorCores { requested, offered }) => prop_assert!(requested > offered),
                Err(CapError::ExecutorMemory { requested, left, .. }) => prop_assert!(requested + overhead.least > left || overhead.fixed.mib() > 0),
            }
        }

        /// Applications may request other heaps. Off-heap memory remains reserved as long as executors do not have fewer cores.
        #[test]
        fn other_heap_sizes_also_fit(cores in 1..65u32, mib in 1344..500_000u64, heap in 512..100_000u64) {
            let fit = fitted(cores, mib, ExecutorRequest::default());
            let by_memory = fit.offer.memory.mib() / heap;
            let executors = by_memory.min(u64::from(cores / fit.executor.cores));
            prop_assert!(used(cores, mib, executors, heap) <= mib);
        }

        /// Fewer than one core in eight is unused, and unused memory is only rounding.
        #[test]
        fn executors_fill_the_worker(cores in 1..129u32, gib in 2..8u64) {
            let mib = gib * 1024 * u64::from(cores);
            let fit = fitted(cores, mib, ExecutorRequest::default());
            prop_assert!((cores - fit.executors * fit.executor.cores) * 8 < cores, "{fit:?}");
            prop_assert!(fit.executor.memory >= HEAP_MIN);
            let used = used(cores, mib, u64::from(fit.executors), fit.executor.memory.mib());
            prop_assert!(mib - used <= 3 * u64::from(fit.executors) + 8, "{fit:?} {used}");
        }
    }

    /// Memory used on a worker, in MiB, if each core has a Python worker.
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
