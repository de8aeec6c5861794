//! The cluster file, `sparkha.yaml`: its keys as types, from which the JSON Schema is generated, and its parser, which reports all
//! mistakes of a file together, each with its position.
//!
//! The text becomes a tree with positions ([`tree`]). The tree is checked against the schema, and invalid values are removed
//! ([`check`]). The rest becomes a [`ClusterFile`], which [`super::resolve`] validates.

pub mod check;
pub mod merge;
pub mod tree;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::problem::Problem;
use super::{PullPolicy, ServiceType};

/// A standalone Spark cluster. All keys are optional.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClusterFile {
    /// Name of the cluster; its objects are named after it.
    pub name: Option<String>,
    /// Namespace to create the cluster in.
    pub namespace: Option<String>,
    /// Image with Spark in /opt/spark (or its SPARK_HOME), Java 17 and bash.
    pub image: Option<String>,
    /// When nodes pull the image; by default Kubernetes decides by its tag.
    pub image_pull_policy: Option<PullPolicy>,
    /// Names of Secrets with the registry's credentials.
    pub image_pull_secrets: Option<Vec<String>>,
    /// The masters.
    pub masters: Option<MastersFile>,
    /// The workers.
    pub workers: Option<WorkersFile>,
    /// Where several masters keep their state and elect their leader.
    pub zookeeper: Option<ZooKeeperFile>,
    /// Spark properties for the daemons and, through ConfigMap NAME-conf, for drivers.
    pub spark_conf: Option<BTreeMap<String, Scalar>>,
    /// Cores of an application that does not set spark.cores.max, or `all`; by default half of the cluster's, in whole executors.
    pub default_cores: Option<Amount>,
    /// Applications release idle executors, and request more when tasks wait: `true`, or with limits.
    pub dynamic_allocation: Option<DynamicAllocationFile>,
    /// Environment of masters and workers.
    pub env: Option<BTreeMap<String, EnvFile>>,
    /// Access to an S3-compatible store through s3a://.
    pub s3: Option<S3File>,
    /// Authentication between masters, workers, executors and drivers.
    pub authentication: Option<AuthenticationFile>,
    /// TLS between masters, workers, executors and drivers instead of Spark's own encryption.
    pub tls: Option<TlsFile>,
    /// The web UI's Service and addresses.
    pub web_ui: Option<WebUiFile>,
    /// Restricts connections to the cluster's pods.
    pub network_policy: Option<NetworkPolicyFile>,
    /// A history server, and the event logs that drivers write for it: `true`, or settings.
    pub history: Option<Feature<HistoryFile>>,
    /// A Spark Connect server for remote clients: `true`, or settings.
    pub connect: Option<Feature<ConnectFile>>,
    /// Metrics for Prometheus: `true`, or settings.
    pub metrics: Option<Feature<MetricsFile>>,
    /// Labels of every object and pod.
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations of every object and pod.
    pub annotations: Option<BTreeMap<String, String>>,
}

/// The masters.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("additionalProperties" = false))]
pub struct MastersFile {
    /// Number of masters; more than one require ZooKeeper.
    #[schemars(range(min = 1, max = 7))]
    pub count: Option<u32>,
    /// Heap of a master's JVM.
    pub daemon_memory: Option<Amount>,
    /// A volume for the recovery files of a single master.
    pub storage: Option<ClaimFile>,
    #[serde(flatten)]
    pub pod: PodFile,
}

/// The workers.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("additionalProperties" = false))]
pub struct WorkersFile {
    /// Number of workers.
    #[schemars(range(max = 1000))]
    pub count: Option<u32>,
    /// CPU limit of each worker's pod. A worker offers its whole cores.
    pub cores: Option<Amount>,
    /// Memory limit of each worker's pod. A worker offers less to applications: its daemon and the executors' off-heap memory need the rest.
    pub memory: Option<Amount>,
    /// Heap of the worker's own JVM.
    pub daemon_memory: Option<Amount>,
    /// Share of the pod's memory that is reserved for the executors' off-heap memory, at least 384 MiB for each executor. By default it is
    /// computed from the heaps, as on Kubernetes: 0.4 of each (sparkConf spark.executor.memoryOverheadFactor), enough for Python.
    #[schemars(range(min = 0.0, max = 0.9))]
    pub off_heap_share: Option<f64>,
    /// Time limit for decommissioning a worker that is scaled down, drained or replaced, in seconds; by default 300. Its executors finish
    /// their tasks and move their blocks to other workers. Workers without executors stop at once.
    #[schemars(range(max = 86400))]
    pub drain_seconds: Option<u32>,
    /// Let Kubernetes set the number of workers by their load, instead of `count`. Requires a metrics server.
    pub autoscale: Option<AutoscaleFile>,
    /// The volume for shuffle and spill files.
    pub shuffle: Option<SourceFile>,
    #[serde(flatten)]
    pub pod: PodFile,
}

/// A HorizontalPodAutoscaler over the workers.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AutoscaleFile {
    /// Minimum number of workers.
    #[schemars(range(min = 1, max = 1000))]
    pub min: u32,
    /// Maximum number of workers.
    #[schemars(range(min = 1, max = 1000))]
    pub max: u32,
    /// Target CPU utilization, averaged over all workers, in percent; by default 80.
    #[serde(default)]
    #[schemars(range(min = 1, max = 100))]
    pub cpu_percent: Option<u32>,
}

/// Dynamic allocation of executors.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(transform = dynamic_allocation_schema)]
pub enum DynamicAllocationFile {
    Enabled(bool),
    Between(ExecutorsFile),
}

/// Limits of the number of executors of each application.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ExecutorsFile {
    /// Minimum number of executors of an application, even if they are idle.
    pub min_executors: Option<u32>,
    /// Maximum number of executors of an application.
    pub max_executors: Option<u32>,
}

/// ZooKeeper: managed by sparkha, or external.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("additionalProperties" = false))]
pub struct ZooKeeperFile {
    /// An existing ensemble.
    pub external: Option<ExternalFile>,
    /// Number of managed servers: 1, 3 or 5.
    #[schemars(range(min = 1, max = 5))]
    pub count: Option<u32>,
    /// A volume for each managed server; by default an emptyDir.
    pub storage: Option<ClaimFile>,
    /// Maximum time until a standby replaces a lost master, in seconds.
    pub failover_seconds: Option<u32>,
    /// Heap of a server's JVM.
    pub daemon_memory: Option<Amount>,
    #[serde(flatten)]
    pub pod: PodFile,
}

/// An optional component or feature: `true`, or settings.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum Feature<T> {
    Enabled(bool),
    Settings(Box<T>),
}

impl<T: Default> Feature<T> {
    /// The settings, if the feature is enabled by the file or by a flag.
    pub fn settings(part: Option<Self>, flag: bool) -> Option<T> {
        match part {
            Some(Feature::Settings(settings)) => Some(*settings),
            Some(Feature::Enabled(enabled)) => (enabled || flag).then(T::default),
            None => flag.then(T::default),
        }
    }
}

/// The history server.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("additionalProperties" = false))]
pub struct HistoryFile {
    /// Location of event logs: a folder as s3a:// URL, or a volume that drivers share with the history server. By default a new
    /// ReadWriteMany claim of 20Gi.
    pub event_logs: Option<EventLogsFile>,
    /// Rolling and compaction of the event logs of long applications.
    pub rolling: Option<RollingFile>,
    /// Event logs older than this are deleted: `7d`.
    pub max_age: Option<Amount>,
    /// Heap of the server's JVM.
    pub daemon_memory: Option<Amount>,
    #[serde(flatten)]
    pub pod: PodFile,
}

/// The Spark Connect server.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("additionalProperties" = false))]
pub struct ConnectFile {
    /// Cores of all its executors together; by default half of the cluster's, in whole executors.
    #[schemars(range(min = 1))]
    pub cores: Option<u32>,
    /// Memory of each of its executors; by default that of all applications' executors.
    pub executor_memory: Option<Amount>,
    /// Heap of the server's JVM, which is a driver.
    pub driver_memory: Option<Amount>,
    /// Whether clients need a token. Without one, everyone who can connect to the server can use it.
    #[schemars(extend("default" = true))]
    pub authentication: Option<bool>,
    #[serde(flatten)]
    pub pod: PodFile,
}

/// Metrics for Prometheus.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MetricsFile {
    /// Whether to create PodMonitors for the Prometheus Operator, if the API server serves this kind.
    pub pod_monitor: Option<bool>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum EventLogsFile {
    Url(String),
    Volume(Box<SourceFile>),
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RollingFile {
    /// A driver rolls its event log at this size: `128m`.
    pub max_file_size: Option<Amount>,
    /// Number of files per application that are kept uncompacted. Older ones are compacted into one, without finished jobs.
    #[schemars(range(min = 1))]
    pub max_files_to_retain: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AntiAffinity {
    #[default]
    Preferred,
    Required,
}

/// Settings that all components share. The check against the schema finds unknown keys: serde cannot refuse them in flattened structs.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PodFile {
    /// Requests and limits of each container.
    pub resources: Option<ResourcesFile>,
    /// Environment of this component's containers; takes precedence over the cluster's.
    pub env: Option<BTreeMap<String, EnvFile>>,
    /// Additional volumes of each pod.
    pub volumes: Option<Vec<VolumeFile>>,
    /// Labels that nodes must have.
    pub node_selector: Option<BTreeMap<String, String>>,
    /// Tolerations, as in a pod's specification.
    pub tolerations: Option<Vec<serde_json::Value>>,
    /// Affinity, as in a pod's specification; replaces sparkha's own anti-affinity.
    pub affinity: Option<serde_json::Value>,
    /// Whether this component's pods run on different nodes: if there are enough nodes (`preferred`), or always (`required`).
    pub pod_anti_affinity: Option<AntiAffinity>,
    /// Constraints, as in a pod's specification, that spread this component's pods over zones; the default labelSelector selects these pods.
    pub topology_spread_constraints: Option<Vec<serde_json::Value>>,
    /// Name of an existing PriorityClass.
    pub priority_class_name: Option<String>,
    /// Labels of this component's pods.
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations of this component's pods.
    pub annotations: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ExternalFile {
    /// Its servers, as `host:port`.
    pub servers: Vec<String>,
    /// Path below which the cluster creates its znodes.
    pub chroot: Option<String>,
    /// Name of a Secret with username and password, if ZooKeeper requires SASL DIGEST-MD5. Only this user can then access the cluster's
    /// znodes.
    pub secret: Option<String>,
}

/// Requests and limits of a container.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ResourcesFile {
    /// Resources that the scheduler reserves on a node.
    pub requests: Option<QuantitiesFile>,
    /// Resources that a container cannot exceed.
    pub limits: Option<QuantitiesFile>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct QuantitiesFile {
    /// CPU: `2`, `1.5` or `500m`.
    pub cpu: Option<Amount>,
    /// Memory: `2Gi` as in Kubernetes, or `2g` as in Spark.
    pub memory: Option<Amount>,
    /// Disk of the node, for logs and emptyDirs (including those for shuffles). By default neither requested nor limited.
    #[serde(rename = "ephemeral-storage")]
    pub ephemeral_storage: Option<Amount>,
}

/// A volume and its mount path.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("additionalProperties" = false))]
pub struct VolumeFile {
    /// Name of the volume in the pod.
    pub name: String,
    /// Absolute path in containers.
    pub mount_path: String,
    /// A path inside the volume to mount instead of its root.
    #[serde(default)]
    pub sub_path: Option<String>,
    /// Mount it read-only.
    #[serde(default)]
    pub read_only: Option<bool>,
    #[serde(flatten)]
    pub source: SourceFile,
}

/// Source of a volume: exactly one of these.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SourceFile {
    pub host_path: Option<HostPathFile>,
    pub persistent_volume_claim: Option<ExistingClaimFile>,
    pub new_claim: Option<ClaimFile>,
    pub empty_dir: Option<EmptyDirFile>,
    pub config_map: Option<ConfigMapFile>,
    pub secret: Option<SecretFile>,
    pub nfs: Option<NfsFile>,
}

/// A folder on the node. The *restricted* Pod Security level does not admit it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostPathFile {
    /// Absolute path on the node.
    pub path: String,
    /// What must be there, or is created; by default anything.
    #[serde(default, rename = "type")]
    pub kind: Option<HostPathType>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
pub enum HostPathType {
    BlockDevice,
    CharDevice,
    Directory,
    DirectoryOrCreate,
    File,
    FileOrCreate,
    Socket,
}

/// An existing claim. sparkha never deletes it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExistingClaimFile {
    /// Name of the claim.
    pub claim_name: String,
}

/// A new claim for each pod.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClaimFile {
    /// Storage request: `20Gi`.
    pub size: Amount,
    /// Storage class; by default the Kubernetes cluster's.
    #[serde(default)]
    pub storage_class_name: Option<String>,
    /// Access mode; by default ReadWriteOnce.
    #[serde(default)]
    pub access_mode: Option<AccessMode>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[expect(clippy::enum_variant_names, reason = "they are Kubernetes' own words")]
pub enum AccessMode {
    ReadWriteOnce,
    ReadWriteOncePod,
    ReadWriteMany,
    ReadOnlyMany,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EmptyDirFile {
    /// Maximum size. Kubernetes evicts a pod that exceeds it.
    pub size_limit: Option<Amount>,
    /// `Memory`: in memory, and part of the container's memory limit.
    pub medium: Option<Medium>,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
pub enum Medium {
    Memory,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfigMapFile {
    /// Name of the ConfigMap.
    pub name: String,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretFile {
    /// Name of the Secret.
    pub secret_name: String,
}

/// An NFS export. The *restricted* Pod Security level does not admit it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NfsFile {
    /// Host of the NFS server.
    pub server: String,
    /// Exported path.
    pub path: String,
}

/// Access to an S3-compatible store through s3a://.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct S3File {
    /// URL of the store; by default AWS.
    pub endpoint: Option<String>,
    /// Region of the store.
    pub region: Option<String>,
    /// `endpoint/bucket` instead of `bucket.endpoint`; most stores other than AWS require it.
    pub path_style_access: Option<bool>,
    /// The Secret with the keys.
    pub secret: Option<S3SecretFile>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct S3SecretFile {
    /// Name of the Secret.
    pub name: String,
    /// Key in the Secret of the access key; by default AWS_ACCESS_KEY_ID.
    #[serde(default)]
    pub access_key: Option<String>,
    /// Key in the Secret of the secret key; by default AWS_SECRET_ACCESS_KEY.
    #[serde(default)]
    pub secret_key: Option<String>,
}

/// The web UI's Service and addresses.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WebUiFile {
    /// Domain of the web UIs.
    pub domain: Option<String>,
    /// Service type: ClusterIP, NodePort or LoadBalancer; by default ClusterIP.
    pub service_type: Option<ServiceType>,
    /// Port on every node; by default Kubernetes chooses one.
    #[schemars(range(min = 1, max = 65535))]
    pub node_port: Option<u16>,
    /// Address requested from the load balancer.
    #[serde(rename = "loadBalancerIP")]
    pub load_balancer_ip: Option<String>,
    /// Annotations of the web UI's Service, for example for a load balancer.
    pub annotations: Option<BTreeMap<String, String>>,
}

/// Authentication and encryption between the components of Spark.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AuthenticationFile {
    /// Whether connections require the cluster's secret and are encrypted; by default `true`.
    pub enabled: Option<bool>,
    /// Name of an existing Secret with the keys spark.authenticate.secret and, for managed ZooKeeper servers, zookeeper.password. By default
    /// sparkha creates a Secret.
    pub secret: Option<String>,
}

/// TLS between masters, workers, executors and drivers.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TlsFile {
    /// Name of an existing Secret with tls.crt, tls.key (PKCS #8, not encrypted) and ca.crt, as cert-manager creates it.
    pub secret: Option<String>,
}

/// Peers that may connect to the cluster's pods: its own pods, its drivers, sparkha's router, and the peers listed here. The network plugin
/// must enforce NetworkPolicies.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NetworkPolicyFile {
    /// `false`: do not restrict connections.
    pub enabled: Option<bool>,
    /// Additional peers that may reach the web UIs, as in `spec.ingress.from` of a NetworkPolicy: an Ingress controller, a monitor.
    pub web_uis_from: Option<Vec<serde_json::Value>>,
    /// Additional peers that may be drivers, likewise. Drivers in the cluster's namespace need only their labels.
    pub drivers_from: Option<Vec<serde_json::Value>>,
}

/// A string, or a number that is used as its text.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(transform = amount_schema)]
pub enum Amount {
    Text(String),
    Number(serde_json::Number),
}

impl std::fmt::Display for Amount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Amount::Text(text) => f.write_str(text),
            Amount::Number(number) => write!(f, "{number}"),
        }
    }
}

/// A string, or a number or boolean that is used as its text.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(transform = scalar_schema)]
pub enum Scalar {
    Amount(Amount),
    Bool(bool),
}

impl std::fmt::Display for Scalar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Scalar::Amount(amount) => write!(f, "{amount}"),
            Scalar::Bool(bool) => write!(f, "{bool}"),
        }
    }
}

/// The value of an environment variable: a string, or a key of a Secret or ConfigMap.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(transform = env_schema)]
pub enum EnvFile {
    Scalar(Scalar),
    From(EnvFromFile),
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EnvFromFile {
    /// A key of a Secret.
    pub secret_key_ref: Option<KeyRefFile>,
    /// A key of a ConfigMap.
    pub config_map_key_ref: Option<KeyRefFile>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyRefFile {
    /// Name of the object.
    pub name: String,
    /// Key in its data.
    pub key: String,
}

fn amount_schema(schema: &mut schemars::Schema) {
    of_types(schema, &["string", "number"]);
}

fn scalar_schema(schema: &mut schemars::Schema) {
    of_types(schema, &["string", "number", "boolean"]);
}

/// A flat list of types is equivalent to alternatives, and gives better messages.
fn of_types(schema: &mut schemars::Schema, types: &[&str]) {
    schema.remove("anyOf");
    schema.insert("type".into(), serde_json::json!(types));
}

fn dynamic_allocation_schema(schema: &mut schemars::Schema) {
    of_types(schema, &["boolean", "object"]);
    let mut bounds = schemars::schema_for!(ExecutorsFile).to_value();
    schema.insert("properties".into(), bounds["properties"].take());
    schema.insert("additionalProperties".into(), serde_json::json!(false));
}

fn env_schema(schema: &mut schemars::Schema) {
    schema.remove("anyOf");
    schema.insert(
        "type".into(),
        serde_json::json!(["string", "number", "boolean", "object"]),
    );
    schema.insert(
        "properties".into(),
        serde_json::json!({
            "secretKeyRef": {"$ref": "#/$defs/KeyRefFile"},
            "configMapKeyRef": {"$ref": "#/$defs/KeyRefFile"},
        }),
    );
    schema.insert("additionalProperties".into(), serde_json::json!(false));
}

/// The JSON Schema of the cluster file.
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(ClusterFile);
    schema.insert("title".into(), "sparkha.yaml".into());
    // `env_schema` refers to it, which schemars cannot see.
    let key_ref = schemars::schema_for!(KeyRefFile);
    let mut schema = schema.to_value();
    let mut key_ref = key_ref.to_value();
    if let Some(definition) = key_ref.as_object_mut() {
        definition.remove("$schema");
    }
    schema["$defs"]["KeyRefFile"] = key_ref;
    schema
}

/// A parsed cluster file. It contains the valid values even if there are problems, so that they are validated too.
#[derive(Debug, Default)]
pub struct ParsedFile {
    pub file: ClusterFile,
    /// The file as plain values.
    pub value: serde_json::Value,
    pub positions: tree::Positions,
    pub problems: Vec<Problem>,
}

/// Parses a cluster file.
pub fn read(text: &str) -> ParsedFile {
    let (value, positions, mut problems) = match tree::read(text) {
        Ok(read) => read,
        Err(problem) => {
            return ParsedFile {
                problems: vec![problem],
                ..ParsedFile::default()
            };
        }
    };
    let pruned = check::check(&value, &schema(), &positions, &mut problems);
    let value = pruned.clone();
    let file = serde_json::from_value(pruned).unwrap_or_else(|error| {
        // Only reached if schema and types disagree.
        problems.push(Problem::at(positions.nearest(""), "", error.to_string()));
        ClusterFile::default()
    });
    ParsedFile {
        file,
        value,
        positions,
        problems,
    }
}

/// Values as YAML that parsers of YAML 1.1 (such as kubectl's) and 1.2 read identically.
pub fn yaml(value: &impl serde::Serialize) -> String {
    let options = serde_saphyr::ser_options! { prefer_block_scalars: true, compact_list_indent: true, yaml_12: false };
    serde_saphyr::to_string_with_options(value, options).unwrap_or_default()
}
