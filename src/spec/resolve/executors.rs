//! Executors: what `sparkConf` says of their sizes, and how many cores an application gets unless it says otherwise.

use std::collections::BTreeMap;

use super::{Overrides, Resolver};
use crate::spec::caps::{Overhead, Wanted};
use crate::spec::file::Scalar;
use crate::spec::quantity::Memory;
use crate::spec::words::counted;
use crate::spec::{Connect, Workers};

/// Where the user says how large executors are.
pub const CORES_PATH: &str = "sparkConf.spark.executor.cores";
/// How many cores an application gets.
const DEFAULT_CORES: &str = "defaultCores";
pub const MEMORY_PATH: &str = "sparkConf.spark.executor.memory";
/// How the cores of an application are limited in Spark's own words: by itself, and by the masters.
const LIMITS: [&str; 2] = ["spark.cores.max", "spark.deploy.defaultCores"];
/// Spark's own minimum beside a heap, where it is told what is to be there.
const SPARK_LEAST: Memory = Memory::from_mib(384);
/// No limit, in the cluster file.
const ALL: &str = "all";

/// What is said of the cores that an application gets unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    Nothing,
    All,
    Cores(u32),
}

impl Resolver {
    /// What `sparkConf` says of executors. Standalone masters know nothing of the memory beside a heap; the same properties mean the
    /// same here as where Spark runs on Kubernetes.
    pub(super) fn wanted_executors(
        &mut self,
        conf: &BTreeMap<String, String>,
        off_heap_share: Option<f64>,
        default_cores: Said,
    ) -> Wanted {
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
        Wanted {
            cores: self.conf_number("spark.executor.cores", conf),
            most_cores: match default_cores {
                Said::Cores(cores) => Some(cores),
                Said::Nothing | Said::All => None,
            },
            memory: self.conf_memory(conf, "spark.executor.memory"),
            overhead: Overhead {
                share: match (all_of_it, factor, python) {
                    (Some(_), _, _) => 0.0,
                    (None, Some(factor), _) => factor,
                    // What Python may have is said, so the share is the JVM's alone.
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
        let parsed = Memory::parse_spark(conf.get(key)?);
        parsed
            .map_err(|error| self.problem(&format!("sparkConf.{key}"), error.to_string(), error.help()))
            .ok()
    }

    fn conf_number<T: std::str::FromStr>(&mut self, key: &str, conf: &BTreeMap<String, String>) -> Option<T> {
        let text = conf.get(key)?;
        let parsed = text.trim().parse().ok();
        if parsed.is_none() {
            self.problem(
                &format!("sparkConf.{key}"),
                format!("`{text}` is no number"),
                "write it like 2",
            );
        }
        parsed
    }

    /// The cores that an application gets unless it says otherwise, as the user has it. `None` only if there are problems.
    pub(super) fn said_cores(
        &mut self,
        file: Option<&Scalar>,
        flags: &Overrides,
        conf: &BTreeMap<String, String>,
    ) -> Option<Said> {
        let flag = flags.default_cores.as_ref().map(|_| "--default-cores");
        let said = flags.default_cores.clone().or_else(|| file.map(Scalar::to_string));
        let in_conf = LIMITS.into_iter().find(|key| conf.contains_key(*key));
        let (message, help) = match (said.as_deref(), in_conf) {
            (None, None) => return Some(Said::Nothing),
            (None, Some(key)) => return self.conf_number(key, conf).map(Said::Cores),
            (Some(_), Some(key)) => (format!("sparkConf says the same by {key}"), "keep one of them"),
            (Some(ALL), None) => return Some(Said::All),
            (Some(text), None) => match text.parse() {
                Ok(cores) if cores > 0 => return Some(Said::Cores(cores)),
                _ => (format!("`{text}` is no number of cores"), "write it like 4, or `all`"),
            },
        };
        self.problem_in(DEFAULT_CORES, flag, message, help);
        None
    }

    /// The same for this cluster; `None` means all.
    pub(super) fn default_cores(&mut self, said: Said, workers: &Workers, connect: Option<&Connect>) -> Option<u32> {
        let executor = workers.executor.cores;
        match said {
            Said::All => None,
            Said::Nothing => Some(usual_cores(workers, connect)),
            Said::Cores(cores) => {
                if cores < executor {
                    self.problem(
                        CORES_PATH,
                        format!(
                            "applications get {} by default, which is less than one executor has",
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

/// Half of the cluster, in whole executors, and without what the Spark Connect server keeps: so there is room for a second application.
fn usual_cores(workers: &Workers, connect: Option<&Connect>) -> u32 {
    let kept = connect.map_or(0, |connect| connect.cores.div_ceil(workers.executor.cores));
    let executors = (workers.most() * workers.executors)
        .saturating_sub(kept)
        .div_ceil(2)
        .max(1);
    executors * workers.executor.cores
}
