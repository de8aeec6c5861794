//! The desired cluster: a [`ClusterSpec`], resolved once from arguments, cluster file and defaults (in that order of
//! precedence) and valid by construction, so that later code cannot fail on bad input. Pure: no file, no client.

pub mod caps;
pub mod file;
pub mod image;
pub mod names;
pub mod overrides;
pub mod problem;
pub mod quantity;
pub mod resolve;
pub mod version;
pub mod words;

use std::collections::{BTreeMap, BTreeSet};

pub use file::{AntiAffinity, ExecutorsFile};
use k8s_openapi::api::core::v1::{Affinity, Toleration, TopologySpreadConstraint};
use k8s_openapi::api::networking::v1::NetworkPolicyPeer;

use image::ImageReference;
use names::{Alias, ClusterName, Namespace, UiDomain};
use quantity::{Cpu, Memory};
use resolve::rules::is_secret;

/// A complete cluster with all defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterSpec {
    pub name: ClusterName,
    /// The public name of the cluster; set only for later generations.
    pub alias: Option<Alias>,
    /// `None` renders objects without a namespace; create always sets one.
    pub namespace: Option<Namespace>,
    pub image: Image,
    /// `None` if unknown. On the local platform, the version of the installed Spark, which may differ from the image's.
    pub spark_version: Option<String>,
    pub masters: Masters,
    pub workers: Workers,
    /// Where the masters keep their recovery state.
    pub recovery: Recovery,
    /// `spark.*` properties for daemons and, through the ConfigMap, for drivers.
    pub spark_conf: BTreeMap<String, String>,
    /// Cores of an application that sets no `spark.cores.max`; `None`: all.
    pub default_cores: Option<u32>,
    /// Whether applications release idle executors, unless they set it themselves. Limits that are `None` are Spark's default.
    pub dynamic_allocation: Option<ExecutorsFile>,
    /// Environment of masters and workers; a role's own `env` takes precedence.
    pub env: BTreeMap<String, EnvValue>,
    pub s3: Option<S3>,
    pub authentication: Authentication,
    /// Name of the Secret with the certificate, if RPC uses TLS.
    pub tls: Option<String>,
    pub web_ui: WebUi,
    /// `None`: the pods accept connections from everywhere.
    pub network_policy: Option<NetworkPolicy>,
    pub history: Option<History>,
    pub connect: Option<Connect>,
    pub metrics: Option<Metrics>,
    /// Added to every object and pod.
    pub labels: BTreeMap<String, String>,
    /// Added to every object and pod.
    pub annotations: BTreeMap<String, String>,
    /// The cluster file merged with the flags, without name, namespace and defaults. `None` if it would disclose a secret.
    pub cluster_file: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    pub name: ImageReference,
    pub pull_policy: Option<PullPolicy>,
    /// Names of Secrets of type `kubernetes.io/dockerconfigjson`.
    pub pull_secrets: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Masters {
    pub count: u32,
    /// Heap of the master's JVM (`SPARK_DAEMON_MEMORY`).
    pub daemon_memory: Memory,
    pub pod: PodSettings,
}

/// A HorizontalPodAutoscaler over the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Autoscale {
    pub min: u32,
    pub max: u32,
    /// Target utilization of the workers' cores, averaged over all workers.
    pub cpu_percent: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Workers {
    /// With an autoscaler, its minimum.
    pub count: u32,
    pub autoscale: Option<Autoscale>,
    /// Time limit for decommissioning a worker.
    pub drain_seconds: u32,
    /// Heap of the worker's own JVM (`SPARK_DAEMON_MEMORY`).
    pub daemon_memory: Memory,
    /// What each worker offers to applications (`SPARK_WORKER_CORES`, `SPARK_WORKER_MEMORY`): see [`caps`].
    pub offer: caps::Offer,
    /// Default size of an executor (`spark.executor.cores`, `spark.executor.memory`).
    pub executor: caps::ExecutorSize,
    /// Number of such executors that fill a worker.
    pub executors: u32,
    /// Shuffle and spill space (`SPARK_LOCAL_DIRS`).
    pub shuffle: VolumeSource,
    pub pod: PodSettings,
}

impl ClusterSpec {
    /// Names of environment variables with a secret in plain text: everyone who may read ConfigMaps or pods sees it.
    pub fn plain_secrets(&self) -> BTreeSet<&str> {
        let pods = [
            Some(&self.masters.pod),
            Some(&self.workers.pod),
            match &self.recovery {
                Recovery::ManagedZooKeeper(zookeeper) => Some(&zookeeper.pod),
                Recovery::ExternalZooKeeper(_) | Recovery::FileSystem { .. } => None,
            },
            self.history.as_ref().map(|history| &history.pod),
            self.connect.as_ref().map(|connect| &connect.pod),
        ];
        let environments = pods.into_iter().flatten().map(|pod| &pod.env).chain([&self.env]);
        // GOOGLE_APPLICATION_CREDENTIALS and others like it name a file.
        let is_path = |name: &str, text: &str| name.to_lowercase().ends_with("credentials") && text.starts_with('/');
        let secrets = environments.flatten().filter(|(name, value)| match value {
            EnvValue::Value(text) => is_secret(name) && !text.is_empty() && !is_path(name, text),
            _ => false,
        });
        secrets.map(|(name, _)| name.as_str()).collect()
    }

    /// The alias, if it has objects.
    pub fn active_alias(&self) -> Option<&ClusterName> {
        Alias::active(self.alias.as_ref())
    }
}

impl Workers {
    /// Maximum number of workers.
    pub fn most(&self) -> u32 {
        self.autoscale.map_or(self.count, |autoscale| autoscale.max)
    }
}

/// Settings that all pods share.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct PodSettings {
    pub resources: Resources,
    pub env: BTreeMap<String, EnvValue>,
    pub volumes: Vec<Volume>,
    pub node_selector: BTreeMap<String, String>,
    pub tolerations: Vec<Toleration>,
    /// Replaces sparkha's own anti-affinity.
    pub affinity: Option<Affinity>,
    pub anti_affinity: AntiAffinity,
    /// A constraint without a selector selects the component's own pods.
    pub topology_spread: Vec<TopologySpreadConstraint>,
    pub priority_class: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

/// A container's resources. Requests never exceed limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Resources {
    pub cpu_request: Cpu,
    pub cpu_limit: Cpu,
    pub memory_request: Memory,
    pub memory_limit: Memory,
    /// `ephemeral-storage`; `None`: no request.
    pub disk_request: Option<Memory>,
    pub disk_limit: Option<Memory>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum EnvValue {
    Value(String),
    SecretKey { name: String, key: String },
    ConfigMapKey { name: String, key: String },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Volume {
    /// A DNS label, unique within the pod and different from sparkha's own (`conf`, `tmp`, `work`, `auth`, `data`, `shuffle`, `events`).
    pub name: String,
    pub mount_path: String,
    pub sub_path: Option<String>,
    pub read_only: bool,
    pub source: VolumeSource,
}

#[derive(Clone, Debug, PartialEq)]
pub enum VolumeSource {
    HostPath {
        path: String,
        kind: Option<String>,
    },
    /// An existing claim; sparkha never deletes it.
    ExistingClaim {
        name: String,
    },
    /// One new claim for each pod, from a template.
    NewClaim(NewClaim),
    EmptyDir {
        size_limit: Option<Memory>,
        in_memory: bool,
    },
    ConfigMap {
        name: String,
    },
    Secret {
        name: String,
    },
    Nfs {
        server: String,
        path: String,
    },
}

impl VolumeSource {
    /// An emptyDir on the node's disk.
    pub fn empty_dir(limit: Memory) -> Self {
        Self::EmptyDir {
            size_limit: Some(limit),
            in_memory: false,
        }
    }
}

/// A claim that sparkha creates, and that teardown deletes without `--keep-data`.
#[derive(Clone, Debug, PartialEq)]
pub struct NewClaim {
    pub size: Memory,
    /// `None`: the cluster's default class.
    pub storage_class: Option<String>,
    /// Default: `ReadWriteOnce`.
    pub access_mode: String,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Recovery {
    /// One master with `spark.deploy.recoveryMode=FILESYSTEM`; `None` keeps the state in an emptyDir, which outlives
    /// the container but not the pod.
    FileSystem {
        storage: Option<NewClaim>,
    },
    ManagedZooKeeper(Box<ManagedZooKeeper>),
    ExternalZooKeeper(ExternalZooKeeper),
}

#[derive(Clone, Debug, PartialEq)]
pub struct ManagedZooKeeper {
    /// 1, 3 or 5.
    pub count: u32,
    /// `None`: an emptyDir.
    pub storage: Option<NewClaim>,
    /// Maximum session timeout (`maxSessionTimeout`), in seconds: the loss of a node is detected after this time at the latest.
    pub failover_seconds: u32,
    /// Heap of each server's JVM.
    pub daemon_memory: Memory,
    pub pod: PodSettings,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ExternalZooKeeper {
    /// `host:port`, at least one.
    pub servers: Vec<String>,
    /// Absolute path under which this cluster keeps its znodes (`spark.deploy.zookeeper.dir`): `/sparkha/NAMESPACE/NAME`,
    /// below the chroot if there is one. Without a namespace (in `render`), the path has none.
    pub directory: String,
    /// A Secret with the masters' `username` and `password` for SASL DIGEST-MD5, with the keys of type `kubernetes.io/basic-auth`.
    pub secret: Option<String>,
}

/// Authentication (`spark.authenticate`) and encryption between the components of the cluster.
#[derive(Clone, Debug, PartialEq)]
pub enum Authentication {
    Off,
    /// With a random secret that sparkha generates.
    Own,
    /// With the keys `spark.authenticate.secret` and, for managed ZooKeepers, `zookeeper.password` of an existing Secret.
    Secret {
        name: String,
    },
}

/// A history server, and the event logs that drivers write for it.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    pub event_logs: EventLogs,
    /// A driver rolls its event log at this size.
    pub max_file_size: Memory,
    /// Number of files per application that are kept uncompacted; older ones are compacted into one.
    pub max_files_to_retain: u32,
    /// Event logs older than this are deleted, in Spark's notation: `7d`.
    pub max_age: String,
    /// Heap of the server's JVM.
    pub daemon_memory: Memory,
    pub pod: PodSettings,
}

/// A Spark Connect server: a driver that remote clients share.
#[derive(Clone, Debug, PartialEq)]
pub struct Connect {
    /// Cores of all its executors together (`spark.cores.max`).
    pub cores: u32,
    /// Cores of each of its executors (`spark.executor.cores`).
    pub executor_cores: u32,
    /// Memory of each of its executors (`spark.executor.memory`).
    pub executor_memory: Memory,
    /// Heap of the server's JVM (`spark.driver.memory`).
    pub driver_memory: Memory,
    pub token: ConnectToken,
    pub pod: PodSettings,
}

/// The token that clients of the Spark Connect server need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectToken {
    /// The token in the cluster's Secret.
    OfCluster,
    /// A token that you set for the server.
    OfUser,
    /// No token.
    None,
}

/// Metrics for Prometheus, from the web UIs of masters, workers and drivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Whether to create PodMonitors, if the Prometheus Operator is installed.
    pub pod_monitor: bool,
}

/// Where event logs are.
#[derive(Clone, Debug, PartialEq)]
pub enum EventLogs {
    /// A volume that drivers and the history server share.
    Volume(VolumeSource),
    /// A folder in an S3-compatible store, as an `s3a://` URL.
    S3(String),
}

/// Access to an S3-compatible store through `s3a://`.
#[derive(Clone, Debug, PartialEq)]
pub struct S3 {
    pub endpoint: Option<String>,
    pub region: Option<String>,
    pub path_style: bool,
    /// Secret with the keys; `None` leaves authentication to the environment.
    pub secret: Option<S3Secret>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct S3Secret {
    pub name: String,
    pub access_key: String,
    pub secret_key: String,
}

/// The Service `NAME-master` in front of the web UI.
#[derive(Clone, Debug, PartialEq)]
pub struct WebUi {
    /// UI addresses are `spark-<ip with dashes>.<namespace>.<domain>`.
    pub domain: UiDomain,
    pub service_type: ServiceType,
    pub node_port: Option<u16>,
    /// Address requested from the load balancer (MetalLB and others).
    pub load_balancer_ip: Option<String>,
    /// Annotations of this Service only.
    pub annotations: BTreeMap<String, String>,
}

/// Peers admitted in addition to the cluster's own pods, its drivers and sparkha's router.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct NetworkPolicy {
    /// Peers of all web UIs.
    pub web_uis_from: Vec<NetworkPolicyPeer>,
    /// Peers of masters and workers, such as drivers outside of the cluster.
    pub drivers_from: Vec<NetworkPolicyPeer>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub enum ServiceType {
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    NodePort,
    LoadBalancer,
}

impl std::fmt::Display for ServiceType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        serde::Serialize::serialize(self, f)
    }
}
