//! Properties and environment variables of Spark, as keys of a cluster file.

use std::collections::BTreeMap;

use super::{Draft, joined, text};
use crate::spec::caps::{self, ExecutorRequest};
use crate::spec::file;
use crate::spec::overrides::external_of;
use crate::spec::quantity::{Cpu, Memory};
use crate::spec::resolve::{executor_request, rules};

const NO_SECRETS: &str =
    "a cluster file has no secrets; create a Secret, and name it in s3.secret or in env with secretKeyRef";

const S3_ENDPOINT: &str = "spark.hadoop.fs.s3a.endpoint";
const S3_ENDPOINT_KEY: &[&str] = &["s3", "endpoint"];
const S3_TLS: &str = "spark.hadoop.fs.s3a.connection.ssl.enabled";
const WORKER_MEMORY: &[&str] = &["workers", "memory"];
const NO_MEMORY: &str = "it is not an amount of memory that a pod can have";

/// Variables with options of JVMs.
const JAVA_OPTIONS: [&str; 4] = [
    "SPARK_DAEMON_JAVA_OPTS",
    "SPARK_HISTORY_OPTS",
    "SPARK_MASTER_OPTS",
    "SPARK_WORKER_OPTS",
];

/// Variables that only start scripts on machines read.
const OF_MACHINES: [&str; 14] = [
    "HADOOP_HOME",
    "JAVA_HOME",
    "SPARK_HOME",
    "SPARK_IDENT_STRING",
    "SPARK_LOG_DIR",
    "SPARK_LOG_MAX_FILES",
    "SPARK_MASTER_IP",
    "SPARK_NICENESS",
    "SPARK_NO_DAEMONIZE",
    "SPARK_PID_DIR",
    "SPARK_SSH_FOREGROUND",
    "SPARK_SSH_OPTS",
    "SPARK_WORKER_INSTANCES",
    "SPARK_WORKER_WEBUI_HOST",
];

/// Beginnings of variables that only Bitnami's image reads.
const OF_BITNAMI: [&str; 6] = [
    "BITNAMI_",
    "SPARK_LOCAL_STORAGE_",
    "SPARK_METRICS_",
    "SPARK_MODE",
    "SPARK_RPC_",
    "SPARK_SSL_",
];

/// Variables with a folder of files that a pod must have, too.
const FOLDERS: [&str; 4] = [
    "HADOOP_CONF_DIR",
    "HIVE_CONF_DIR",
    "SPARK_DIST_CLASSPATH",
    "YARN_CONF_DIR",
];

impl Draft {
    /// Options of a JVM: properties of the form `-Dspark.x=y`, and others. Returns the properties.
    pub(super) fn java_options(&mut self, setting: &str, options: &str) {
        let Some(words) = shlex::split(options) else {
            return self.no_counterpart(setting, "a quote in it does not end");
        };
        let mut properties = BTreeMap::new();
        for word in words {
            match word.strip_prefix("-D").and_then(|property| property.split_once('=')) {
                Some((key, value)) => {
                    properties.insert(key.to_owned(), value.to_owned());
                }
                // Values can be secret.
                None => {
                    let name = word.split(['=', ':']).next().unwrap_or_default();
                    let setting = format!("{setting}: {}", name.escape_debug());
                    self.no_counterpart(&setting, "sparkha chooses the options of the daemons' JVMs");
                }
            }
        }
        self.properties(&format!("{setting}: "), &properties);
    }

    /// Spark's properties. The settings' names are those of the properties, after `place`.
    pub(super) fn properties(&mut self, place: &str, properties: &BTreeMap<String, String>) {
        for (key, value) in properties {
            self.property(&format!("{place}{}", key.escape_debug()), key, value, properties);
        }
    }

    fn property(&mut self, setting: &str, key: &str, value: &str, all: &BTreeMap<String, String>) {
        let is_s3 = |value: &str| value.starts_with("s3a://");
        match key {
            "spark.deploy.zookeeper.url" => self.external_zookeeper(setting, value),
            "spark.deploy.zookeeper.dir" => {
                self.ignored(
                    setting,
                    "each cluster keeps its state below /sparkha in zookeeper.external.chroot",
                );
            }
            "spark.deploy.recoveryMode" => match value.to_uppercase().as_str() {
                "ZOOKEEPER" => self.carried_over(setting, &["zookeeper"]),
                "FILESYSTEM" => self.set(setting, &["masters", "count"], 1),
                _ => self.ignored(setting, "three masters under ZooKeeper are the default"),
            },
            "spark.deploy.defaultCores" => self.set(setting, &["defaultCores"], value),
            S3_ENDPOINT => {
                let is_plain = all
                    .get(S3_TLS)
                    .is_some_and(|tls| tls.trim().eq_ignore_ascii_case("false"));
                let url = match (value.contains("://"), is_plain) {
                    (true, _) => value.to_owned(),
                    // As hadoop-aws takes it.
                    (false, true) => format!("http://{value}"),
                    (false, false) => format!("https://{value}"),
                };
                self.set(setting, S3_ENDPOINT_KEY, url);
            }
            // sparkha sets it by the endpoint's scheme.
            S3_TLS if all.contains_key(S3_ENDPOINT) => self.carried_over(setting, S3_ENDPOINT_KEY),
            "spark.hadoop.fs.s3a.endpoint.region" => self.set(setting, &["s3", "region"], value),
            "spark.hadoop.fs.s3a.path.style.access" => self.flag(setting, &["s3", "pathStyleAccess"], value),
            "spark.eventLog.enabled" => {
                self.ignored(setting, "a cluster with history has event logs, others have none");
            }
            "spark.eventLog.dir" | "spark.history.fs.logDirectory" => match is_s3(value) {
                true => self.set(setting, &["history", "eventLogs"], value),
                false => self.no_counterpart(setting, "history.eventLogs takes an s3a:// URL, or a volume"),
            },
            "spark.history.fs.cleaner.maxAge" if all.values().any(|value| is_s3(value)) => {
                self.set(setting, &["history", "maxAge"], value);
            }
            "spark.dynamicAllocation.enabled" => self.flag(setting, &["dynamicAllocation"], value),
            "spark.dynamicAllocation.minExecutors" | "spark.dynamicAllocation.maxExecutors"
                if self.file.get("dynamicAllocation").is_some_and(|on| *on != false) =>
            {
                let key = key.rsplit('.').next().unwrap_or_default();
                match value.parse::<u32>() {
                    Ok(count) => self.set(setting, &["dynamicAllocation", key], count),
                    Err(_) => self.no_counterpart(setting, "its value is not a number"),
                }
            }
            _ => match rules::own_property(key) {
                Some(instead) => self.ignored(setting, format!("sparkha sets it: {instead}")),
                None if rules::is_secret(key) && !value.is_empty() => self.no_counterpart(setting, NO_SECRETS),
                None => self.set(setting, &["sparkConf", key], value),
            },
        }
    }

    fn flag(&mut self, setting: &str, path: &[&str], value: &str) {
        match value.trim().to_lowercase().parse::<bool>() {
            Ok(flag) => self.set(setting, path, flag),
            Err(_) => self.no_counterpart(setting, "its value is not true or false"),
        }
    }

    fn external_zookeeper(&mut self, setting: &str, url: &str) {
        let (servers, chroot) = external_of(url);
        self.set(setting, &["zookeeper", "external", "servers"], servers);
        if let Some(chroot) = chroot {
            self.put(&["zookeeper", "external", "chroot"], chroot);
        }
    }

    /// An environment variable of daemons. `environment` is its place in the cluster file.
    pub(super) fn variable(&mut self, setting: &str, environment: &[&str], name: &str, value: &str) {
        let begins = |beginnings: &[&str]| beginnings.iter().any(|beginning| name.starts_with(beginning));
        if JAVA_OPTIONS.contains(&name) {
            return self.java_options(setting, value);
        }
        if OF_MACHINES.contains(&name) {
            return self.ignored(setting, "it is for the start scripts of a machine");
        }
        if begins(&OF_BITNAMI) {
            return self.ignored(setting, "only Bitnami's image reads it");
        }
        if FOLDERS.contains(&name) {
            return self.no_counterpart(
                setting,
                "mount the files with volumes, and set the variable to their folder",
            );
        }
        match rules::own_variable(name) {
            Some(instead) => self.ignored(setting, format!("sparkha sets it: {instead}")),
            None if rules::is_secret(name) && !value.is_empty() => self.no_counterpart(setting, NO_SECRETS),
            None => {
                let path: Vec<_> = environment.iter().copied().chain([name]).collect();
                self.set(setting, &path, value);
            }
        }
    }

    /// The heap of masters, in pods that are large enough for it.
    pub(super) fn master_heap(&mut self, setting: &str, heap: &str) {
        let has_limit = self.file.pointer("/masters/resources/limits/memory").is_some();
        if let Ok(heap) = Memory::parse(heap)
            && heap > caps::MASTER_HEAP
            && !has_limit
        {
            let pod = (heap + caps::MASTER_HEAP).to_string();
            self.put(&["masters", "resources", "limits", "memory"], pod);
        }
        self.set(setting, &["masters", "daemonMemory"], heap);
    }

    /// The memory that a worker offered, as the memory of a pod whose worker offers as much: see [`Draft::size_workers`].
    pub(super) fn offer(&mut self, setting: &str, memory: &str) {
        match Memory::parse_spark(memory) {
            Ok(offer) => {
                self.offer = Some(offer);
                self.carried_over(setting, WORKER_MEMORY);
            }
            Err(_) => self.no_counterpart(setting, NO_MEMORY),
        }
    }

    /// Gives workers pods that offer what they offered before. It depends on the worker's cores and heap, and on the size of executors.
    pub(super) fn size_workers(&mut self) {
        let Some(offer) = self.offer else {
            return self.enlarge_workers();
        };
        let request = executor_request(&file::read(&self.text()).file);
        // Executors that do not fit into any worker are refused later.
        let pod = self.pod_to_offer(offer, request);
        match pod.or_else(|| self.pod_to_offer(offer, ExecutorRequest::default())) {
            Some(pod) => self.put(WORKER_MEMORY, pod.to_string()),
            None => self.take_back(&joined(WORKER_MEMORY), NO_MEMORY),
        }
    }

    /// Gives workers whose own heap is larger than usual pods that offer as much as others.
    fn enlarge_workers(&mut self) {
        let workers = &self.file["workers"];
        if workers["daemonMemory"].is_null() || !workers["memory"].is_null() {
            return;
        }
        let usual = caps::fit(
            Cpu::from_cores(1),
            caps::WORKER,
            caps::DAEMON_HEAP,
            ExecutorRequest::default(),
        );
        let pod = usual
            .ok()
            .and_then(|usual| self.pod_to_offer(usual.offer.memory, ExecutorRequest::default()));
        if let Some(pod) = pod.filter(|pod| *pod > caps::WORKER) {
            self.put(WORKER_MEMORY, pod.to_string());
        }
    }

    fn pod_to_offer(&self, offer: Memory, request: ExecutorRequest) -> Option<Memory> {
        let at = |pointer: &str| self.file.pointer(pointer).and_then(text);
        let heap = at("/workers/daemonMemory").and_then(|heap| Memory::parse(&heap).ok());
        let cores = at("/workers/cores").and_then(|cores| cores.parse().ok());
        let cpu = Cpu::from_cores(cores.unwrap_or(1));
        caps::memory_to_offer(offer, cpu, heap.unwrap_or(caps::DAEMON_HEAP), request)
    }
}
