//! Executors: their size in `sparkConf`, and the default number of cores of an application.

use std::collections::BTreeMap;

use super::{Overrides, Resolver};
use crate::spec::caps::{ExecutorRequest, Overhead};
use crate::spec::file::Amount;
use crate::spec::quantity::Memory;
use crate::spec::words::counted;
use crate::spec::{Connect, Workers};

/// Keys of the executors' size.
pub const CORES_PATH: &str = "sparkConf.spark.executor.cores";
/// Key of the cores of an application.
const DEFAULT_CORES: &str = "defaultCores";
pub const MEMORY_PATH: &str = "sparkConf.spark.executor.memory";
/// Spark's properties that limit the cores of an application: its own, and the masters' default.
const LIMITS: [&str; 2] = ["spark.cores.max", "spark.deploy.defaultCores"];
/// Spark's own minimum of off-heap memory, used if any overhead is configured.
const SPARK_LEAST: Memory = Memory::from_mib(384);
/// No limit, in the cluster file.
const ALL: &str = "all";

/// The configured default limit of an application's cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoreLimit {
    Default,
    All,
    Cores(u32),
}

impl Resolver {
    /// The executors' size in `sparkConf`. Standalone masters do not account for off-heap memory; sparkha applies the properties of Spark on
    /// Kubernetes.
    pub(super) fn executor_request(
        &mut self,
        conf: &BTreeMap<String, String>,
        off_heap_share: Option<f64>,
        default_cores: CoreLimit,
    ) -> ExecutorRequest {
        let usual = Overhead::default();
        let off_heap = conf
            .get("spark.memory.offHeap.enabled")
            .is_some_and(|text| text.trim() == "true");
        let off_heap = self.conf_memory(conf, "spark.memory.offHeap.size").filter(|_| off_heap);
        let python = self.conf_memory(conf, "spark.executor.pyspark.memory");
        let all_of_it = self.conf_memory(conf, "spark.executor.memoryOverhead");
        let least = self.conf_memory(conf, "spark.executor.minMemoryOverhead");
        let factor = self.conf_number("spark.executor.memoryOverheadFactor", conf);
        let is_usual =
            off_heap_share.is_none() && [all_of_it, least, python].iter().all(Option::is_none) && factor.is_none();
        ExecutorRequest {
            cores: self.conf_number("spark.executor.cores", conf),
            most_cores: match default_cores {
                CoreLimit::Cores(cores) => Some(cores),
                CoreLimit::Default | CoreLimit::All => None,
            },
            memory: self.conf_memory(conf, "spark.executor.memory"),
            overhead: Overhead {
                share: match (all_of_it, factor, python) {
                    (Some(_), _, _) => 0.0,
                    (None, Some(factor), _) => factor,
                    // Python's memory is configured, so the share is for the JVM only.
                    (None, None, Some(_)) => 0.1,
                    (None, None, None) => usual.share,
                },
                least: all_of_it
                    .or(least)
                    .unwrap_or(if is_usual { usual.least } else { SPARK_LEAST }),
                of_core: if is_usual { usual.of_core } else { Memory::default() },
                fixed: off_heap.unwrap_or_default() + python.unwrap_or_default(),
                of_pod: off_heap_share,
            },
        }
    }

    fn conf_memory(&mut self, conf: &BTreeMap<String, String>, key: &str) -> Option<Memory> {
        self.quantity(&format!("sparkConf.{key}"), None, Memory::parse_spark(conf.get(key)?))
    }

    fn conf_number<T: std::str::FromStr>(&mut self, key: &str, conf: &BTreeMap<String, String>) -> Option<T> {
        let text = conf.get(key)?;
        let parsed = text.trim().parse().ok();
        if parsed.is_none() {
            self.problem(
                &format!("sparkConf.{key}"),
                format!("`{text}` is not a number"),
                "write it like 2",
            );
        }
        parsed
    }

    /// The configured default limit of an application's cores. `None` only if there are problems.
    pub(super) fn core_limit(
        &mut self,
        file: Option<&Amount>,
        flags: &Overrides,
        conf: &BTreeMap<String, String>,
    ) -> Option<CoreLimit> {
        let flag = flags.default_cores.as_ref().map(|_| "--default-cores");
        let limit = flags.default_cores.clone().or_else(|| file.map(Amount::to_string));
        let in_conf = LIMITS.into_iter().find(|key| conf.contains_key(*key));
        let (message, help) = match (limit.as_deref(), in_conf) {
            (None, None) => return Some(CoreLimit::Default),
            (None, Some(key)) => return self.conf_number(key, conf).map(CoreLimit::Cores),
            (Some(_), Some(key)) => (format!("sparkConf sets the same limit with {key}"), "keep one of them"),
            (Some(ALL), None) => return Some(CoreLimit::All),
            (Some(text), None) => match text.parse() {
                Ok(cores) if cores > 0 => return Some(CoreLimit::Cores(cores)),
                _ => (
                    format!("`{text}` is not a number of cores"),
                    "write it like 4, or `all`",
                ),
            },
        };
        self.problem_in(DEFAULT_CORES, flag, message, help);
        None
    }

    /// The default cores of applications in this cluster; `None` means all.
    pub(super) fn default_cores(
        &mut self,
        limit: CoreLimit,
        workers: &Workers,
        connect: Option<&Connect>,
    ) -> Option<u32> {
        let executor = workers.executor.cores;
        match limit {
            CoreLimit::All => None,
            CoreLimit::Default => Some(usual_cores(workers, connect)),
            CoreLimit::Cores(cores) => {
                if cores < executor {
                    self.problem(
                        CORES_PATH,
                        format!(
                            "applications get {} by default, fewer than one executor has",
                            counted(cores, "core")
                        ),
                        "lower it, or raise defaultCores",
                    );
                }
                Some(cores)
            }
        }
    }
}

/// Half of the cluster without the Spark Connect server's share, in whole executors, so that a second application can run.
fn usual_cores(workers: &Workers, connect: Option<&Connect>) -> u32 {
    let kept = connect.map_or(0, |connect| connect.cores.div_ceil(workers.executor.cores));
    let executors = (workers.most() * workers.executors)
        .saturating_sub(kept)
        .div_ceil(2)
        .max(1);
    executors * workers.executor.cores
}
