//! The ConfigMap with the daemons' configuration: Spark's properties, ZooKeeper's configuration, logging, and the
//! start scripts. Mounted at [`CONF_DIR`].

use std::collections::BTreeMap;
use std::fmt::Write;

use k8s_openapi::api::core::v1::ConfigMap;

use super::auth::{CERTIFICATES, S3_SCRIPT, TLS_DIR, zookeeper_secret};
use super::driver;
use crate::model::labels::{CONFIGURATION, Component, metadata};
use crate::model::ports::{
    CONNECT_PORT, CONNECT_UI_PORT, HISTORY_UI_PORT, ZOOKEEPER_ELECTION_PORT, ZOOKEEPER_PEER_PORT, ZOOKEEPER_PORT,
};
use crate::model::properties;
use crate::render::digest::NO_RESTART;
use crate::render::paths::{DRIVER_DEFAULTS, EVENTS_DIR, STATE_DIR};
use crate::render::protection::{CIPHER, cipher};
use crate::render::znodes::{zookeeper_directory, zookeeper_url};
use crate::spec::quantity::Memory;
use crate::spec::resolve::REDACTED;
use crate::spec::{Authentication, ClusterSpec, Connect, EventLogs, History, ManagedZooKeeper, Recovery, VolumeSource};

/// Property that enables decommissioning for daemons, drivers and executors.
const DECOMMISSION: &str = "spark.decommission.enabled";

/// Cores that masters give to an application without `spark.cores.max`.
const DEFAULT_CORES: &str = "spark.deploy.defaultCores";

/// Timeouts after which drivers consider an executor on a lost node dead. Nothing closes its connections, so only a timeout detects it.
/// Together they let a job continue within 30 s, and tolerate 20 s of silence: a paused driver, a garbage collection, a busy machine.
/// See docs/decisions/lost-executors.md.
const LOST_EXECUTORS: [(&str, &str); 7] = [
    ("spark.executor.heartbeatInterval", "3s"),
    // Spark's default: 120 s, checked every 60 s.
    ("spark.storage.blockManagerHeartbeatTimeoutMs", "24s"),
    ("spark.network.timeoutInterval", "1s"),
    // An executor exits after this number of failed heartbeats: ten minutes, as with Spark's default of 60 every 10 s.
    ("spark.executor.heartbeat.maxFailures", "200"),
    // A task that fetches blocks from a lost executor retries after 15 and 5 s, fails to connect for another 6 s, and asks the driver whether the
    // executor is alive, which the driver knows by then. A slow executor accepts connections, and is retried as long as with Spark's 120 s.
    ("spark.shuffle.io.connectionTimeout", "15s"),
    ("spark.shuffle.io.connectionCreationTimeout", "6s"),
    ("spark.shuffle.io.maxRetries", "6"),
];

/// How long a new leader waits for workers and drivers that do not respond. Afterwards it removes the workers, and finishes the applications
/// without notifying their drivers. Live ones responded within a second on the busiest machine: see docs/decisions/recovery-timeout.md.
const RECOVERY_TIMEOUT: &str = "15";

pub fn config_map(spec: &ClusterSpec) -> ConfigMap {
    let common = common_properties(spec);
    let properties = |daemon| properties::write(&with(&common, daemon));
    let mut data = BTreeMap::new();
    let mut add = |name: &str, text: &str| data.insert(name.to_owned(), text.to_owned());
    add("log4j2.properties", include_str!("files/log4j2.properties"));
    // For drivers: mount this ConfigMap into the driver's pod and set SPARK_CONF_DIR.
    add(DRIVER_DEFAULTS, &properties(driver_properties(spec)));
    add("master.sh", include_str!("files/master.sh"));
    add(
        "master.conf",
        &(properties(master_properties(spec)) + &master_default_cores(spec)),
    );
    add("secret.sh", include_str!("files/secret.sh"));
    add("tcp.sh", include_str!("files/tcp.sh"));
    add("leads.sh", include_str!("files/leads.sh"));
    add("until_led.sh", include_str!("files/until_led.sh"));
    add("worker.sh", include_str!("files/worker.sh"));
    add("worker.conf", &properties(worker_properties()));
    add("driver.sh", include_str!("files/driver.sh"));
    // `sparkha submit` has no cluster file; it runs drivers from this template.
    add(driver::TEMPLATE, &driver::template(spec));
    if !matches!(spec.recovery, Recovery::FileSystem { .. }) {
        add("protect.sh", include_str!("files/protect.sh"));
        add("withdraw.sh", include_str!("files/withdraw.sh"));
        add("zookeeper-client.sh", include_str!("files/zookeeper-client.sh"));
    }
    if let Recovery::ManagedZooKeeper(zookeeper) = &spec.recovery {
        add("zookeeper.sh", include_str!("files/zookeeper.sh"));
        add("zoo.cfg", &zoo_cfg(spec, zookeeper));
    }
    if spec.s3.as_ref().is_some_and(|s3| s3.secret.is_some()) {
        add(S3_SCRIPT, include_str!("files/s3.sh"));
    }
    if let Some(history) = &spec.history {
        add("history.sh", include_str!("files/history.sh"));
        add("history.conf", &properties(history_properties(history)));
    }
    if let Some(connect) = &spec.connect {
        add("connect.sh", include_str!("files/connect.sh"));
        let mut conf = with(&common, driver_properties(spec));
        conf.extend(connect_properties(connect));
        add("connect.conf", &properties::write(&conf));
    }
    let mut metadata = metadata(spec, spec.name.conf(), Component::Cluster);
    let labels = metadata.labels.get_or_insert_default();
    labels.insert(CONFIGURATION.into(), "spark".into());
    ConfigMap {
        metadata,
        data: Some(data),
        ..Default::default()
    }
}

/// Size at which an executor rolls its log file, and the number of rolled files that it keeps.
const LOG_SIZE: Memory = Memory::from_mib(64);
const LOG_FILES: u32 = 4;

/// Default cores of applications whose drivers do not read `spark-defaults.conf`, which has the same value. It depends on the number of workers,
/// whose change should not restart masters.
fn master_default_cores(spec: &ClusterSpec) -> String {
    let cores = spec
        .default_cores
        .map(|cores| format!("{NO_RESTART}{DEFAULT_CORES}={cores}\n"));
    cores
        .filter(|_| !spec.spark_conf.contains_key(DEFAULT_CORES))
        .unwrap_or_default()
}

fn common_properties(spec: &ClusterSpec) -> BTreeMap<String, String> {
    let mut conf = BTreeMap::new();
    let mut set = |key: &str, value: &str| conf.insert(key.to_owned(), value.to_owned());
    // Otherwise everyone who can connect to a web UI could kill applications.
    set("spark.ui.killEnabled", "false");
    set("spark.redaction.regex", REDACTED);
    if spec.authentication != Authentication::Off {
        // The secret itself is not in a ConfigMap: see auth.rs.
        set("spark.authenticate", "true");
        set("spark.network.crypto.enabled", "true");
        // Version 1 lacks a key derivation function.
        set("spark.network.crypto.authEngineVersion", "2");
        set("spark.network.crypto.saslFallback", "false");
        if let Some(cipher) = cipher(spec) {
            set(CIPHER, cipher);
        }
    }
    if spec.tls.is_some() {
        // Java's own TLS does not support PEM files, which cert-manager writes.
        set("spark.ssl.rpc.enabled", "true");
        set("spark.ssl.rpc.openSslEnabled", "true");
        set("spark.ssl.rpc.certChain", CERTIFICATES);
        set("spark.ssl.rpc.privateKey", &format!("{TLS_DIR}/tls.key"));
    }
    if let Some(s3) = &spec.s3 {
        let mut set = |key: &str, value: &str| set(&format!("spark.hadoop.fs.s3a.{key}"), value);
        if let Some(endpoint) = &s3.endpoint {
            set("endpoint", endpoint);
            let tls = !endpoint.starts_with("http://");
            set("connection.ssl.enabled", &tls.to_string());
        }
        if let Some(region) = &s3.region {
            set("endpoint.region", region);
        }
        set("path.style.access", &s3.path_style.to_string());
        if s3.secret.is_some() {
            // Pods have the keys in a file: see s3.sh. Drivers of the user's own may have them in their environment.
            let package = "software.amazon.awssdk.auth.credentials";
            let providers =
                ["EnvironmentVariable", "Profile"].map(|kind| format!("{package}.{kind}CredentialsProvider"));
            set("aws.credentials.provider", &providers.join(","));
        }
    }
    if spec.metrics.is_some() {
        conf.extend(super::metrics::properties());
    }
    // The user's properties take precedence.
    conf.extend(spec.spark_conf.clone());
    conf
}

fn master_properties(spec: &ClusterSpec) -> Vec<(&'static str, String)> {
    // Otherwise a master silently listens on another port if its own is in use.
    let mut conf = vec![("spark.port.maxRetries", "0".to_owned())];
    match &spec.recovery {
        Recovery::FileSystem { .. } => conf.extend([
            ("spark.deploy.recoveryMode", "FILESYSTEM".to_owned()),
            ("spark.deploy.recoveryDirectory", format!("{STATE_DIR}/recovery")),
        ]),
        Recovery::ManagedZooKeeper(_) | Recovery::ExternalZooKeeper(_) => conf.extend([
            ("spark.deploy.recoveryMode", "ZOOKEEPER".to_owned()),
            ("spark.deploy.zookeeper.url", zookeeper_url(spec).unwrap_or_default()),
            (
                "spark.deploy.zookeeper.dir",
                zookeeper_directory(spec).unwrap_or_default(),
            ),
        ]),
    }
    // The REST server runs drivers of everyone, with and without authentication (measured with 4.3.0).
    conf.push(("spark.master.rest.enabled", "false".to_owned()));
    conf.push(("spark.deploy.recoveryTimeout", RECOVERY_TIMEOUT.to_owned()));
    conf
}

fn worker_properties() -> Vec<(&'static str, String)> {
    vec![
        // SIGPWR decommissions the worker: see worker.sh. Masters do not get this property: with it, everyone who can send a request
        // to their web UI could decommission any worker.
        (DECOMMISSION, "true".to_owned()),
        ("spark.port.maxRetries", "0".to_owned()),
        ("spark.worker.cleanup.enabled", "true".to_owned()),
        // Removes folders of ended applications within a day. Spark checks every 30 minutes, and by default keeps them for a week.
        ("spark.worker.cleanup.appDataTtl", "84600".to_owned()),
        // For executors that run for months: by default Spark keeps all logs in one file.
        ("spark.executor.logs.rolling.strategy", "size".to_owned()),
        ("spark.executor.logs.rolling.maxSize", LOG_SIZE.bytes().to_string()),
        ("spark.executor.logs.rolling.maxRetainedFiles", LOG_FILES.to_string()),
    ]
}

/// Properties that only drivers and executors read.
fn driver_properties(spec: &ClusterSpec) -> Vec<(&'static str, String)> {
    // Executors of a decommissioned worker finish their tasks and move their blocks.
    let moves = SHUFFLES_MOVE
        .into_iter()
        .chain(["spark.storage.decommission.rddBlocks.enabled"]);
    let mut conf: Vec<_> = moves.map(|key| (key, "true".to_owned())).collect();
    // An executor exits once a check finds no blocks to move; Spark's default interval is 30 s.
    conf.push((
        "spark.storage.decommission.replicationReattemptInterval",
        "1s".to_owned(),
    ));
    // A task that requests shuffle files from a removed executor is retried and finds them at their new location. With the default
    // of 0 each retry counts towards the four failures that abort a stage.
    conf.push((
        "spark.scheduler.maxRetainedRemovedDecommissionExecutors",
        "100".to_owned(),
    ));
    conf.extend(executor_properties(spec));
    conf.extend(broken_worker_properties(spec));
    // Spark uses these as defaults of others, which must also hold for properties of the user. driver.sh does the same for a job's properties.
    let has = |key: &str| spec.spark_conf.contains_key(key);
    let timeouts = !has("spark.network.timeout") && !has("spark.executor.heartbeatInterval");
    let lost = LOST_EXECUTORS
        .into_iter()
        .filter(|(key, _)| timeouts || !key.ends_with("Timeout") && !key.ends_with("TimeoutMs"));
    conf.extend(lost.map(|(key, value)| (key, value.to_owned())));
    if let Some(limits) = spec.dynamic_allocation {
        conf.extend([
            ("spark.dynamicAllocation.enabled", "true".to_owned()),
            // A decommissioned executor moves its shuffle files. With both, an executor with such files would never exit (measured).
            (
                "spark.dynamicAllocation.shuffleTracking.enabled",
                (!hands_over(spec)).to_string(),
            ),
        ]);
        let limits = [
            ("spark.dynamicAllocation.minExecutors", limits.min_executors),
            ("spark.dynamicAllocation.maxExecutors", limits.max_executors),
        ];
        conf.extend(
            limits
                .into_iter()
                .filter_map(|(key, limit)| Some((key, limit?.to_string()))),
        );
    }
    // Event logs for the history server.
    if let Some(history) = &spec.history {
        conf.extend([
            ("spark.eventLog.enabled", "true".to_owned()),
            ("spark.eventLog.dir", event_log_directory(history, "")),
            ("spark.eventLog.rolling.enabled", "true".to_owned()),
            ("spark.eventLog.rolling.maxFileSize", history.max_file_size.spark()),
        ]);
    }
    conf
}

/// Properties that exclude broken workers. A broken worker (without Python, with a read-only folder) gets every task because it fails them
/// fastest, and so fails each job. With these properties a task's last attempt runs elsewhere. Spark's defaults would fail an application with a
/// single executor at its first or second failure; these leave it three of four attempts. With one worker, nothing is excluded.
fn broken_worker_properties(spec: &ClusterSpec) -> Vec<(&'static str, String)> {
    if spec.workers.most() < 2 {
        return vec![];
    }
    const TRIES: &str = "3";
    const NEVER: &str = "1000000";
    [
        // The application-level exclusion would also refuse jobs with a lower spark.task.maxFailures.
        ("spark.excludeOnFailure.taskAndStage.enabled", "true"),
        ("spark.excludeOnFailure.task.maxTaskAttemptsPerExecutor", TRIES),
        ("spark.excludeOnFailure.task.maxTaskAttemptsPerNode", TRIES),
        ("spark.excludeOnFailure.stage.maxFailedTasksPerExecutor", NEVER),
        ("spark.excludeOnFailure.stage.maxFailedExecutorsPerNode", NEVER),
    ]
    .map(|(key, value)| (key, value.to_owned()))
    .to_vec()
}

/// Properties that an executor needs to move its shuffle files when it is decommissioned.
const SHUFFLES_MOVE: [&str; 3] = [
    DECOMMISSION,
    "spark.storage.decommission.enabled",
    "spark.storage.decommission.shuffleBlocks.enabled",
];

/// Whether the user has not disabled it.
fn hands_over(spec: &ClusterSpec) -> bool {
    let is_off = |key: &&str| spec.spark_conf.get(*key).is_some_and(|value| value.trim() == "false");
    !SHUFFLES_MOVE.iter().any(is_off)
}

/// Default size and number of an application's executors.
fn executor_properties(spec: &ClusterSpec) -> Vec<(&'static str, String)> {
    let executor = spec.workers.executor;
    let mut conf = vec![
        ("spark.executor.cores", executor.cores.to_string()),
        ("spark.executor.memory", executor.memory.spark()),
        // Python workers spill above this limit; Spark's default of 512 MiB each may exceed the off-heap memory.
        ("spark.python.worker.memory", executor.python_memory.spark()),
    ];
    conf.extend(spec.default_cores.map(|cores| ("spark.cores.max", cores.to_string())));
    // Blocks of a decommissioned worker move to an executor with capacity, or are recomputed.
    conf.extend(migrated(spec).map(|most| ("spark.storage.decommission.shuffleBlocks.maxDiskSize", most.spark())));
    conf
}

/// Maximum shuffle data of an executor that accepts blocks of others: half of its share of the worker's volume. The volume's limit applies
/// to all data, and a pod that exceeds it is evicted. `None` if the volume's size is unknown.
fn migrated(spec: &ClusterSpec) -> Option<Memory> {
    let workers = &spec.workers;
    let volume = match &workers.shuffle {
        VolumeSource::EmptyDir {
            size_limit,
            in_memory: false,
        } => {
            let limits = [*size_limit, workers.pod.resources.disk_limit];
            limits.into_iter().flatten().min()
        }
        VolumeSource::EmptyDir {
            size_limit,
            in_memory: true,
        } => *size_limit,
        VolumeSource::NewClaim(claim) => Some(claim.size),
        _ => None,
    }?;
    Some(Memory::from_mib(
        (volume.mib() / 2 / u64::from(workers.executors)).max(1),
    ))
}

fn history_properties(history: &History) -> Vec<(&'static str, String)> {
    vec![
        ("spark.port.maxRetries", "0".to_owned()),
        ("spark.history.ui.port", HISTORY_UI_PORT.to_string()),
        ("spark.history.fs.logDirectory", event_log_directory(history, "file:")),
        (
            "spark.history.fs.eventLog.rolling.maxFilesToRetain",
            history.max_files_to_retain.to_string(),
        ),
        // Spark's default is off, which would fill the volume.
        ("spark.history.fs.cleaner.enabled", "true".to_owned()),
        ("spark.history.fs.cleaner.maxAge", history.max_age.clone()),
    ]
}

/// Properties that override the user's, which are for jobs: `connect` sets the server's resources, and its
/// Service and probes use fixed ports.
fn connect_properties(connect: &Connect) -> BTreeMap<String, String> {
    [
        ("spark.cores.max", connect.cores.to_string()),
        ("spark.driver.memory", connect.driver_memory.spark()),
        ("spark.executor.cores", connect.executor_cores.to_string()),
        ("spark.executor.memory", connect.executor_memory.spark()),
        ("spark.connect.grpc.binding.port", CONNECT_PORT.to_string()),
        ("spark.ui.enabled", "true".to_owned()),
        ("spark.ui.port", CONNECT_UI_PORT.to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// A driver treats a path without a scheme as a file, regardless of the default file system, and a path with a scheme as a URL without
/// escapes. The history server requires the scheme.
fn event_log_directory(history: &History, scheme: &str) -> String {
    match &history.event_logs {
        EventLogs::Volume(_) => format!("{scheme}{EVENTS_DIR}"),
        EventLogs::S3(url) => url.clone(),
    }
}

/// The common properties override a daemon's defaults, so that users can change them. The recovery properties cannot be
/// among them: the cluster file refuses them.
fn with(common: &BTreeMap<String, String>, daemon: Vec<(&'static str, String)>) -> BTreeMap<String, String> {
    let mut conf: BTreeMap<_, _> = daemon.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    conf.extend(common.clone());
    conf
}

/// ZooKeeper's own configuration. Sessions expire after `failoverSeconds` at the latest: Spark's client requests 60 s, and only the
/// server's maximum can reduce it.
fn zoo_cfg(spec: &ClusterSpec, zookeeper: &ManagedZooKeeper) -> String {
    let session_ms = zookeeper.failover_seconds * 1000;
    // ZooKeeper detects expired sessions only at ticks, so a long tick would add to the session timeout.
    let tick_ms = 500;
    // How long a quorum keeps an unresponsive leader. Meanwhile no election is possible, including that of a master. See docs/decisions/zookeeper-timing.md.
    let sync_ticks = 8;
    // How long an elected server waits for followers. In a new ensemble, DNS may not yet tell them where it is, and until it gives up it does not hear
    // that others are elected.
    let init_ticks = 20;
    let mut cfg = format!(
        "dataDir={STATE_DIR}/zookeeper\n\
         clientPort={ZOOKEEPER_PORT}\n\
         tickTime={tick_ms}\n\
         initLimit={init_ticks}\n\
         syncLimit={sync_ticks}\n\
         minSessionTimeout={}\n\
         maxSessionTimeout={session_ms}\n\
         autopurge.snapRetainCount=3\n\
         autopurge.purgeInterval=1\n\
         4lw.commands.whitelist=srvr,ruok\n\
         # Jetty is not among Spark's jars.\n\
         admin.enableServer=false\n",
        session_ms.min(2 * tick_ms),
    );
    if zookeeper_secret(spec).is_some() {
        // Without a login, clients may only send `srvr`.
        cfg.push_str(
            "authProvider.sasl=org.apache.zookeeper.server.auth.SASLAuthenticationProvider\n\
             sessionRequireClientSASLAuth=true\n",
        );
    }
    if zookeeper.count > 1 {
        // DNS resolves a pod's own name only after the pod has started.
        cfg.push_str("quorumListenOnAllIPs=true\n");
        let set = spec.name.zookeeper();
        for ordinal in 0..zookeeper.count {
            let _ = writeln!(
                cfg,
                "server.{}={set}-{ordinal}.{set}:{ZOOKEEPER_PEER_PORT}:{ZOOKEEPER_ELECTION_PORT}",
                ordinal + 1
            );
        }
    }
    cfg
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::digest::digest;
    use crate::render::protection::rpc_protection;

    #[test]
    fn drivers_enable_decommissioning_and_masters_do_not() {
        let source = crate::spec::resolve::Source {
            name: "f",
            text: "dynamicAllocation: {maxExecutors: 4}\n\
                   sparkConf: {spark.storage.decommission.rddBlocks.enabled: false}\n",
        };
        let spec = crate::spec::resolve::resolve(Some(source), &Default::default()).unwrap();
        let data = config_map(&spec).data.unwrap();
        let has = |file: &str, line: &str| data[file].lines().any(|found| found == line);
        for line in [
            "spark.decommission.enabled=true",
            "spark.storage.decommission.enabled=true",
            "spark.storage.decommission.shuffleBlocks.enabled=true",
            "spark.scheduler.maxRetainedRemovedDecommissionExecutors=100",
            // The user's property.
            "spark.storage.decommission.rddBlocks.enabled=false",
            "spark.dynamicAllocation.enabled=true",
            "spark.dynamicAllocation.shuffleTracking.enabled=false",
            "spark.dynamicAllocation.maxExecutors=4",
        ] {
            assert!(has(DRIVER_DEFAULTS, line), "{line}: {}", data[DRIVER_DEFAULTS]);
        }
        assert!(!data[DRIVER_DEFAULTS].contains("minExecutors"));
        // worker.sh looks for it. On the master it would enable decommissioning through the web UI.
        assert!(has("worker.conf", "spark.decommission.enabled=true"));
        assert!(!data["master.conf"].contains("spark.decommission.enabled"));
        // Spark refuses dynamic allocation without both.
        let source = crate::spec::resolve::Source {
            name: "f",
            text: "dynamicAllocation: true\nsparkConf: {spark.storage.decommission.shuffleBlocks.enabled: false}\n",
        };
        let spec = crate::spec::resolve::resolve(Some(source), &Default::default()).unwrap();
        let data = config_map(&spec).data.unwrap();
        assert!(data[DRIVER_DEFAULTS].contains("shuffleTracking.enabled=true"));
    }

    #[test]
    fn sizes_and_limits_follow_the_workers_and_restart_no_master() {
        let data = |text: &str| {
            let source = crate::spec::resolve::Source { name: "f", text };
            let spec = crate::spec::resolve::resolve(Some(source), &Default::default()).unwrap();
            config_map(&spec)
        };
        let two = data("workers: {count: 2, cores: 8, memory: 8Gi}\n");
        let files = two.data.as_ref().unwrap();
        let has = |file: &str, line: &str| {
            assert!(
                files[file].lines().any(|found| found == line),
                "{line}: {}",
                files[file]
            )
        };
        for line in [
            "spark.executor.cores=4",
            "spark.executor.memory=2670m",
            "spark.python.worker.memory=128m",
            "spark.cores.max=8",
            // Half of 20 GiB, for two executors.
            "spark.storage.decommission.shuffleBlocks.maxDiskSize=5120m",
        ] {
            has(DRIVER_DEFAULTS, line);
        }
        has("master.conf", "spark.deploy.defaultCores=8");
        has("worker.conf", "spark.executor.logs.rolling.strategy=size");
        has("worker.conf", "spark.worker.cleanup.appDataTtl=84600");
        let four = data("workers: {count: 4, cores: 8, memory: 8Gi}\n");
        assert!(four.data.as_ref().unwrap()["master.conf"].contains("spark.deploy.defaultCores=16"));
        for component in [Component::Master, Component::Worker] {
            assert_eq!(digest(&two, component), digest(&four, component));
        }
        // A volume of unknown size.
        let host = data("workers: {shuffle: {hostPath: {path: /mnt}}}\ndefaultCores: all\n")
            .data
            .unwrap();
        for key in ["maxDiskSize", "cores.max", "defaultCores"] {
            assert!(
                !host[DRIVER_DEFAULTS].contains(key) && !host["master.conf"].contains(key),
                "{key}"
            );
        }
    }

    #[test]
    fn drivers_detect_lost_executors_in_time_unless_the_user_sets_timeouts() {
        let conf = |text: &str| {
            let source = crate::spec::resolve::Source { name: "f", text };
            let spec = crate::spec::resolve::resolve(Some(source), &Default::default()).unwrap();
            let text = config_map(&spec).data.unwrap().remove(DRIVER_DEFAULTS).unwrap();
            let pairs = text.lines().filter_map(|line| line.split_once('='));
            pairs
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect::<BTreeMap<_, _>>()
        };
        let defaults = conf("");
        let seconds = |key: &str| defaults[key].trim_end_matches('s').parse::<u32>().unwrap();
        let heartbeat = seconds("spark.executor.heartbeatInterval");
        let timeout = seconds("spark.storage.blockManagerHeartbeatTimeoutMs");
        let interval = seconds("spark.network.timeoutInterval");
        let given_up = timeout + interval;
        // An executor that was silent for 20 s, as seen by a paused driver.
        assert!(timeout > 20 + heartbeat, "{defaults:?}");
        // Spark's default wait between retries is 5 s.
        let asked =
            seconds("spark.shuffle.io.connectionTimeout") + 5 + seconds("spark.shuffle.io.connectionCreationTimeout");
        assert!(given_up < asked && asked < 30, "{defaults:?}");
        let users = conf("sparkConf: {spark.storage.blockManagerHeartbeatTimeoutMs: 300s}\n");
        assert_eq!(users["spark.storage.blockManagerHeartbeatTimeoutMs"], "300s");
        assert_eq!(users["spark.executor.heartbeatInterval"], "3s");
        let users = conf("sparkConf: {spark.network.timeout: 600s}\n");
        let derived = users
            .keys()
            .filter(|key| key.ends_with("Timeout") || key.ends_with("TimeoutMs"));
        assert_eq!(derived.collect::<Vec<_>>(), Vec::<&String>::new());
    }

    #[test]
    fn drivers_and_the_history_server_use_the_same_folder() {
        let text = |history: &str, file: &str| {
            let text = format!("s3: {{}}\nhistory: {history}\n");
            let source = crate::spec::resolve::Source { name: "f", text: &text };
            let spec = crate::spec::resolve::resolve(Some(source), &Default::default()).unwrap();
            config_map(&spec).data.unwrap()[file].clone()
        };
        for (history, directory) in [("true", "/var/spark/events"), ("{eventLogs: 's3a://b/e'}", "s3a://b/e")] {
            let drivers = text(history, "spark-defaults.conf");
            assert!(
                drivers.contains(&format!("spark.eventLog.dir={directory}\n")),
                "{drivers}"
            );
            assert!(drivers.contains("spark.eventLog.rolling.enabled=true\n"), "{drivers}");
            let server = text(history, "history.conf");
            let directory = directory.replace("/var", "file:/var");
            assert!(
                server.contains(&format!("spark.history.fs.logDirectory={directory}\n")),
                "{server}"
            );
            for setting in [
                "eventLog.rolling.maxFilesToRetain=10",
                "cleaner.enabled=true",
                "cleaner.maxAge=7d",
            ] {
                assert!(server.contains(&format!("spark.history.fs.{setting}\n")), "{server}");
            }
        }
    }

    #[test]
    fn an_s3_endpoint_may_be_an_ipv6_address() {
        let source = crate::spec::resolve::Source {
            name: "f",
            text: "s3: {endpoint: 'http://[fd00::10]:9000', pathStyleAccess: true}\n",
        };
        let spec = crate::spec::resolve::resolve(Some(source), &Default::default()).unwrap();
        let data = config_map(&spec).data.unwrap();
        for line in [
            "spark.hadoop.fs.s3a.endpoint=http://[fd00::10]:9000\n",
            "spark.hadoop.fs.s3a.connection.ssl.enabled=false\n",
        ] {
            assert!(
                data[DRIVER_DEFAULTS].contains(line),
                "{line}: {}",
                data[DRIVER_DEFAULTS]
            );
        }
    }

    #[test]
    fn rpc_encryption_detects_changes_where_spark_supports_it() {
        let cases = [
            ("", Some("AES/GCM/NoPadding")),
            ("image: spark:4.1.0\n", None),
            ("image: example/jobs:4.3.0\n", None),
            (
                "image: example/jobs:1\nsparkConf: {spark.network.crypto.cipher: AES/GCM/NoPadding}\n",
                Some("AES/GCM/NoPadding"),
            ),
            ("sparkConf: {spark.network.crypto.cipher: AES/CTR/NoPadding}\n", None),
            ("authentication: {enabled: false}\n", Some("without a secret")),
            ("tls: {secret: s}\n", Some("TLS")),
        ];
        for (text, expected) in cases {
            let source = crate::spec::resolve::Source { name: "f", text };
            let spec = crate::spec::resolve::resolve(Some(source), &Default::default()).unwrap();
            assert_eq!(rpc_protection(&spec), expected, "{text}");
            let data = config_map(&spec).data.unwrap();
            for file in ["master.conf", "worker.conf", DRIVER_DEFAULTS] {
                let has = |line: &str| data[file].contains(line);
                let gcm = expected == Some("AES/GCM/NoPadding") || expected == Some("TLS");
                assert_eq!(
                    has("spark.network.crypto.cipher=AES/GCM/NoPadding\n"),
                    gcm,
                    "{text}{file}"
                );
                assert_eq!(
                    has("spark.ssl.rpc.enabled=true\n"),
                    expected == Some("TLS"),
                    "{text}{file}"
                );
            }
        }
    }
}
