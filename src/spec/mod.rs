//! What the user wants: a [`ClusterSpec`], resolved once from arguments, cluster file and defaults (in that order of
//! precedence) and valid by construction, so that everything after it cannot fail on bad input. Pure: no file, no client.

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

use std::collections::BTreeMap;

pub use file::AntiAffinity;
use k8s_openapi::api::core::v1::{Affinity, Toleration, TopologySpreadConstraint};
use k8s_openapi::api::networking::v1::NetworkPolicyPeer;

use image::ImageReference;
use names::{Alias, ClusterName, Namespace, UiDomain};
use quantity::{Cpu, Memory};

/// A whole cluster, every default filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterSpec {
    pub name: ClusterName,
    /// Of a later generation: the name that the cluster is known by.
    pub alias: Option<Alias>,
    /// `None` renders objects without a namespace; create always has one.
    pub namespace: Option<Namespace>,
    pub image: Image,
    /// `None` if it is unknown. On the local platform it is the version of the Spark that runs, which may differ from the image's.
    pub spark_version: Option<String>,
    pub masters: Masters,
    pub workers: Workers,
    /// Where the masters keep what they must not forget.
    pub recovery: Recovery,
    /// `spark.*` properties for daemons and, by the ConfigMap, for drivers.
    pub spark_conf: BTreeMap<String, String>,
    /// The cores that an application gets, unless it says otherwise; `None`: all.
    pub default_cores: Option<u32>,
    /// Whether applications give back executors that idle, unless they say otherwise.
    pub dynamic_allocation: Option<DynamicAllocation>,
    /// Environment of masters and workers (a role's own `env` wins).
    pub env: BTreeMap<String, EnvValue>,
    pub s3: Option<S3>,
    pub authentication: Authentication,
    /// The Secret with the certificate, if RPC uses TLS.
    pub tls: Option<String>,
    pub web_ui: WebUi,
    /// `None`: whoever reaches the pods' addresses reaches their ports.
    pub network_policy: Option<NetworkPolicy>,
    pub history: Option<History>,
    pub connect: Option<Connect>,
    pub metrics: Option<Metrics>,
    /// Added to every object and pod.
    pub labels: BTreeMap<String, String>,
    /// Added to every object and pod.
    pub annotations: BTreeMap<String, String>,
    /// The cluster file with the flags merged in, without name, namespace and defaults. `None` if that would disclose a secret.
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

/// How many executors an application has at least and at most; Spark's own defaults where nothing is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DynamicAllocation {
    pub min: Option<u32>,
    pub max: Option<u32>,
}

/// A HorizontalPodAutoscaler over the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Autoscale {
    pub min: u32,
    pub max: u32,
    /// Of a worker's cores, on the average of all workers.
    pub cpu_percent: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Workers {
    /// With an autoscaler, its minimum.
    pub count: u32,
    pub autoscale: Option<Autoscale>,
    /// How long executors may take to hand over what they have when their worker leaves.
    pub drain_seconds: u32,
    /// Heap of the worker's own JVM (`SPARK_DAEMON_MEMORY`).
    pub daemon_memory: Memory,
    /// What each worker offers to applications (`SPARK_WORKER_CORES`, `SPARK_WORKER_MEMORY`): see [`caps`].
    pub offer: caps::Offer,
    /// An executor, unless an application says otherwise (`spark.executor.cores`, `spark.executor.memory`).
    pub executor: caps::Executor,
    /// How many such executors fill a worker.
    pub executors: u32,
    /// Shuffle and spill space (`SPARK_LOCAL_DIRS`).
    pub shuffle: VolumeSource,
    pub pod: PodSettings,
}

impl ClusterSpec {
    /// The other name of which there are objects.
    pub fn active_alias(&self) -> Option<&ClusterName> {
        Alias::active(self.alias.as_ref())
    }
}

impl Workers {
    /// How many there may be.
    pub fn most(&self) -> u32 {
        self.autoscale.map_or(self.count, |autoscale| autoscale.max)
    }
}

/// What all kinds of pods have in common.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct PodSettings {
    pub resources: Resources,
    pub env: BTreeMap<String, EnvValue>,
    pub volumes: Vec<Volume>,
    pub node_selector: BTreeMap<String, String>,
    pub tolerations: Vec<Toleration>,
    /// Replaces sparkha's own anti-affinity when given.
    pub affinity: Option<Affinity>,
    pub anti_affinity: AntiAffinity,
    /// Those without a selector are for the part's own pods.
    pub topology_spread: Vec<TopologySpreadConstraint>,
    pub priority_class: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

/// A container's resources. Limits are what the pod really has; requests never exceed them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Resources {
    pub cpu_request: Cpu,
    pub cpu_limit: Cpu,
    pub memory_request: Memory,
    pub memory_limit: Memory,
    /// Of the node's disk; `None`: nothing is asked for.
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
    /// A DNS label, unique within the pod and none of sparkha's own (`conf`, `tmp`, `work`, `auth`, `data`, `shuffle`, `events`).
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
    /// A claim that exists already; sparkha never deletes it.
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

/// A claim that sparkha makes, and deletes in teardown unless told to keep data.
#[derive(Clone, Debug, PartialEq)]
pub struct NewClaim {
    pub size: Memory,
    /// `None`: the cluster's default class.
    pub storage_class: Option<String>,
    /// `ReadWriteOnce` if the user named none.
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
    /// Upper bound of a session (`maxSessionTimeout`): how long the loss of a whole node goes unnoticed.
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
    /// below the chroot if one is given. `None` as namespace in `render` leaves the namespace out.
    pub directory: String,
    /// A Secret with the masters' `username` and `password` for SASL's DIGEST-MD5, as type `kubernetes.io/basic-auth` has them.
    pub secret: Option<String>,
}

/// How the parts of the cluster know each other (`spark.authenticate`), and whether they encrypt what they say.
#[derive(Clone, Debug, PartialEq)]
pub enum Authentication {
    Off,
    /// By a random secret that sparkha makes.
    Own,
    /// By the keys `spark.authenticate.secret` and, for managed ZooKeepers, `zookeeper.password` of a Secret that exists already.
    Secret {
        name: String,
    },
}

/// A history server, and the event logs that drivers write for it.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    pub event_logs: EventLogs,
    /// A driver begins a new file of its event log at this size.
    pub max_file_size: Memory,
    /// How many such files of an application are kept as they are; older ones are compacted into one.
    pub max_files_to_retain: u32,
    /// Event logs are deleted when they are older, in Spark's words: `7d`.
    pub max_age: String,
    /// Heap of the server's JVM.
    pub daemon_memory: Memory,
    pub pod: PodSettings,
}

/// A Spark Connect server: a driver of the cluster's own, which remote clients share.
#[derive(Clone, Debug, PartialEq)]
pub struct Connect {
    /// How many of the cluster's cores its executors may have (`spark.cores.max`).
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

/// What clients of the Spark Connect server must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectToken {
    /// The one in the cluster's Secret.
    OfCluster,
    /// One that the user gives the server.
    OfUser,
    /// Nothing.
    None,
}

/// Metrics for Prometheus, from the web UIs of masters, workers and drivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// PodMonitors for the Prometheus Operator, where that is there.
    pub pod_monitor: bool,
}

/// Where event logs are.
#[derive(Clone, Debug, PartialEq)]
pub enum EventLogs {
    /// A volume that drivers and the history server share.
    Volume(VolumeSource),
    /// A folder in an S3-compatible store, as `s3a://` URL.
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
    /// Address asked of the load balancer (MetalLB and others).
    pub load_balancer_ip: Option<String>,
    /// Annotations of this Service alone.
    pub annotations: BTreeMap<String, String>,
}

/// Who is admitted besides the cluster's own pods, its drivers and sparkha's router.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct NetworkPolicy {
    /// To every web UI.
    pub web_uis_from: Vec<NetworkPolicyPeer>,
    /// As drivers: to masters and workers.
    pub drivers_from: Vec<NetworkPolicyPeer>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub enum ServiceType {
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    NodePort,
    LoadBalancer,
}
