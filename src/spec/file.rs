//! The cluster file, `sparkha.yaml`: its keys as types (from which the JSON Schema is made), and how it is read so that all
//! mistakes of one file are reported together, each with its place.
//!
//! The text becomes a tree with places ([`tree`]), the tree is checked against the schema and freed of what is wrong
//! ([`check`]), and what is left becomes a [`ClusterFile`] whose meaning [`super::resolve`] goes on to check.

pub mod check;
pub mod merge;
pub mod tree;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::problem::Problem;
use super::{PullPolicy, ServiceType};

/// A cluster of standalone Spark. Everything may be left out.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClusterFile {
    /// Name of the cluster; its objects are named after it.
    pub name: Option<String>,
    /// Namespace to create the cluster in.
    pub namespace: Option<String>,
    /// Image with Spark at /opt/spark (or wherever its SPARK_HOME says), Java 17 and bash.
    pub image: Option<String>,
    /// When nodes pull the image; Kubernetes decides by its tag if left out.
    pub image_pull_policy: Option<PullPolicy>,
    /// Names of Secrets with the registry's credentials.
    pub image_pull_secrets: Option<Vec<String>>,
    /// The masters.
    pub masters: Option<MastersFile>,
    /// The workers.
    pub workers: Option<WorkersFile>,
    /// Where several masters keep their state and elect their leader.
    pub zookeeper: Option<ZooKeeperFile>,
    /// Spark properties for the daemons, and by ConfigMap NAME-conf for drivers.
    pub spark_conf: Option<BTreeMap<String, Scalar>>,
    /// The cores that an application gets unless it says otherwise (spark.cores.max), or `all`; half of the cluster's, in whole executors,
    /// if left out.
    pub default_cores: Option<Scalar>,
    /// Applications give back executors that idle, and ask for more when tasks wait: `true`, or with bounds.
    pub dynamic_allocation: Option<DynamicAllocationFile>,
    /// Environment of masters and workers.
    pub env: Option<BTreeMap<String, EnvFile>>,
    /// Access to an S3-compatible store through s3a://.
    pub s3: Option<S3File>,
    /// How masters, workers, executors and drivers know each other.
    pub authentication: Option<AuthenticationFile>,
    /// TLS between masters, workers, executors and drivers instead of Spark's own encryption.
    pub tls: Option<TlsFile>,
    /// The web UI's Service and addresses.
    pub web_ui: Option<WebUiFile>,
    /// Who may connect to the cluster's pods.
    pub network_policy: Option<NetworkPolicyFile>,
    /// A history server, and the event logs that drivers write for it: `true`, or its settings.
    pub history: Option<Part<HistoryFile>>,
    /// A Spark Connect server for remote clients: `true`, or its settings.
    pub connect: Option<Part<ConnectFile>>,
    /// Metrics for Prometheus: `true`, or their settings.
    pub metrics: Option<Part<MetricsFile>>,
    /// Labels for every object and pod.
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations for every object and pod.
    pub annotations: Option<BTreeMap<String, String>>,
}

/// The masters.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("additionalProperties" = false))]
pub struct MastersFile {
    /// How many; more than one need ZooKeeper.
    pub count: Option<u32>,
    /// Heap of a master's JVM.
    pub daemon_memory: Option<Scalar>,
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
    /// How many.
    pub count: Option<u32>,
    /// Cores that each worker's pod has: its CPU limit.
    pub cores: Option<Scalar>,
    /// Memory that each worker's pod has: its limit. What a worker offers to applications is less, by its daemon and
    /// the off-heap share.
    pub memory: Option<Scalar>,
    /// Heap of the worker's own JVM.
    pub daemon_memory: Option<Scalar>,
    /// Share of the pod's memory that is set aside for what executors use beside their heaps, at least 384 MiB for each. If left out, it
    /// follows from the heaps, as on Kubernetes: 0.4 of each (sparkConf spark.executor.memoryOverheadFactor), enough for Python.
    #[schemars(range(min = 0.0, max = 0.9))]
    pub off_heap_share: Option<f64>,
    /// How long the executors of a worker that leaves (scaled down, drained, replaced) may finish tasks and move their blocks to other
    /// workers; 300 if left out. Workers without executors leave at once.
    #[schemars(range(max = 86400))]
    pub drain_seconds: Option<u32>,
    /// Let Kubernetes choose the number of workers by their load, instead of `count`. Needs a metrics server.
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
    /// The least number of workers.
    #[schemars(range(min = 1, max = 1000))]
    pub min: u32,
    /// The greatest number of workers.
    #[schemars(range(min = 1, max = 1000))]
    pub max: u32,
    /// How much of their cores the workers should use on the average, in percent; 80 if left out.
    #[serde(default)]
    #[schemars(range(min = 1, max = 100))]
    pub cpu_percent: Option<u32>,
}

/// Whether executors come and go with the work.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(transform = dynamic_allocation_schema)]
pub enum DynamicAllocationFile {
    Enabled(bool),
    Between(ExecutorsFile),
}

/// Bounds for each application's executors.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ExecutorsFile {
    /// Executors that an application keeps even if they idle.
    pub min_executors: Option<u32>,
    /// Executors that an application has at most.
    pub max_executors: Option<u32>,
}

/// ZooKeeper: managed by sparkha, or external.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("additionalProperties" = false))]
pub struct ZooKeeperFile {
    /// An ensemble that exists already.
    pub external: Option<ExternalFile>,
    /// How many managed servers: 1, 3 or 5.
    pub count: Option<u32>,
    /// A volume for each managed server; without it an emptyDir.
    pub storage: Option<ClaimFile>,
    /// After how many seconds at most a lost master is replaced.
    pub failover_seconds: Option<u32>,
    /// Heap of a server's JVM.
    pub daemon_memory: Option<Scalar>,
    #[serde(flatten)]
    pub pod: PodFile,
}

/// A part that a cluster may have: `true`, or its settings.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum Part<T> {
    Wanted(bool),
    Settings(Box<T>),
}

impl<T: Default> Part<T> {
    /// The settings, if the part is wanted at all: a flag may want it, too.
    pub fn settings(part: Option<Self>, flag: bool) -> Option<T> {
        match part {
            Some(Part::Settings(settings)) => Some(*settings),
            Some(Part::Wanted(wanted)) => (wanted || flag).then(T::default),
            None => flag.then(T::default),
        }
    }
}

/// The history server.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("additionalProperties" = false))]
pub struct HistoryFile {
    /// Where event logs are: a folder as s3a:// URL, or a volume that drivers share with the history server. A new claim
    /// of 20Gi, ReadWriteMany, if left out.
    pub event_logs: Option<EventLogsFile>,
    /// How event logs of long applications are kept small.
    pub rolling: Option<RollingFile>,
    /// Event logs are deleted when they are older: `7d`.
    pub max_age: Option<String>,
    /// Heap of the server's JVM.
    pub daemon_memory: Option<Scalar>,
    #[serde(flatten)]
    pub pod: PodFile,
}

/// The Spark Connect server.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("additionalProperties" = false))]
pub struct ConnectFile {
    /// How many of the cluster's cores its executors may have; half of them, in whole executors, if left out.
    #[schemars(range(min = 1))]
    pub cores: Option<u32>,
    /// Memory of each of its executors; that of any application's executors if left out.
    pub executor_memory: Option<Scalar>,
    /// Heap of the server's JVM, which is a driver.
    pub driver_memory: Option<Scalar>,
    /// Whether clients need a token. Without one, everybody who can reach the server can use it.
    #[schemars(extend("default" = true))]
    pub authentication: Option<bool>,
    #[serde(flatten)]
    pub pod: PodFile,
}

/// Metrics for Prometheus.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MetricsFile {
    /// PodMonitors for the Prometheus Operator; left out where the server does not serve them.
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
    /// A driver begins a new file at this size: `128m`.
    pub max_file_size: Option<Scalar>,
    /// How many files of an application are kept as they are; older ones are compacted into one, without what ended long ago.
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

/// What all parts have in common. (Unknown keys are found by the check against the schema:
/// serde cannot refuse them where structs are flattened.)
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PodFile {
    /// Requests and limits of each container.
    pub resources: Option<ResourcesFile>,
    /// Environment of this part's containers; wins over the cluster's.
    pub env: Option<BTreeMap<String, EnvFile>>,
    /// Further volumes of each pod.
    pub volumes: Option<Vec<VolumeFile>>,
    /// Labels that nodes must have.
    pub node_selector: Option<BTreeMap<String, String>>,
    /// As in a pod's specification.
    pub tolerations: Option<Vec<serde_json::Value>>,
    /// As in a pod's specification; replaces sparkha's own anti-affinity.
    pub affinity: Option<serde_json::Value>,
    /// Whether this part's pods run on different nodes: where there are enough (`preferred`), or else not at all (`required`).
    pub pod_anti_affinity: Option<AntiAffinity>,
    /// As in a pod's specification, to spread this part's pods over zones; a labelSelector that is left out selects them.
    pub topology_spread_constraints: Option<Vec<serde_json::Value>>,
    /// Name of a PriorityClass that exists.
    pub priority_class_name: Option<String>,
    /// Labels for this part's pods.
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations for this part's pods.
    pub annotations: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ExternalFile {
    /// `host:port` of its servers.
    pub servers: Vec<String>,
    /// Znode below which the cluster keeps its own.
    pub chroot: Option<String>,
    /// Name of a Secret with the username and password of ZooKeeper's SASL DIGEST-MD5, if it asks for them. The cluster's znodes are this
    /// user's alone then.
    pub secret: Option<String>,
}

/// Requests and limits of a container.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ResourcesFile {
    /// What a node must have free.
    pub requests: Option<QuantitiesFile>,
    /// What a container never exceeds.
    pub limits: Option<QuantitiesFile>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct QuantitiesFile {
    /// Processors: `2`, `1.5` or `500m`.
    pub cpu: Option<Scalar>,
    /// Memory: `2Gi` as in Kubernetes, or `2g` as in Spark.
    pub memory: Option<Scalar>,
    /// The node's disk: logs and emptyDirs, those for shuffles among them. Nothing is asked for if left out.
    #[serde(rename = "ephemeral-storage")]
    pub ephemeral_storage: Option<Scalar>,
}

/// A volume and where it is mounted.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VolumeFile {
    /// Name of the volume in the pod.
    pub name: String,
    /// Absolute path where containers see it.
    pub mount_path: String,
    /// A path inside the volume to mount instead of its root.
    #[serde(default)]
    pub sub_path: Option<String>,
    /// Mount it read-only.
    #[serde(default)]
    pub read_only: Option<bool>,
    #[serde(default)]
    pub host_path: Option<HostPathFile>,
    #[serde(default)]
    pub persistent_volume_claim: Option<ExistingClaimFile>,
    #[serde(default)]
    pub new_claim: Option<ClaimFile>,
    #[serde(default)]
    pub empty_dir: Option<EmptyDirFile>,
    #[serde(default)]
    pub config_map: Option<ConfigMapFile>,
    #[serde(default)]
    pub secret: Option<SecretFile>,
    #[serde(default)]
    pub nfs: Option<NfsFile>,
}

/// Where a volume comes from: exactly one of these.
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

/// A folder of the node. The *restricted* Pod Security level does not admit it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostPathFile {
    /// Absolute path on the node.
    pub path: String,
    /// Directory, DirectoryOrCreate, File, …
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
}

/// A claim that exists already. It is never deleted.
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
    /// How much storage to ask for: `20Gi`.
    pub size: Scalar,
    /// The cluster's default class, if left out.
    #[serde(default)]
    pub storage_class_name: Option<String>,
    /// How nodes may mount it; ReadWriteOnce if left out.
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
    /// The pod is evicted when it has written more.
    pub size_limit: Option<Scalar>,
    /// `Memory`: in memory, and counted as such.
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
    /// URL of the store; AWS if left out.
    pub endpoint: Option<String>,
    /// Region of the store.
    pub region: Option<String>,
    /// `endpoint/bucket` instead of `bucket.endpoint`; most stores other than AWS need it.
    pub path_style_access: Option<bool>,
    /// The Secret with the keys.
    pub secret: Option<S3SecretFile>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct S3SecretFile {
    /// Name of the Secret.
    pub name: String,
    /// Key of the Secret's data with the access key; AWS_ACCESS_KEY_ID if left out.
    #[serde(default)]
    pub access_key: Option<String>,
    /// Key of the Secret's data with the secret key; AWS_SECRET_ACCESS_KEY if left out.
    #[serde(default)]
    pub secret_key: Option<String>,
}

/// The web UI's Service and addresses.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WebUiFile {
    /// UI addresses end in it.
    pub domain: Option<String>,
    /// ClusterIP, NodePort or LoadBalancer; ClusterIP if left out.
    pub service_type: Option<ServiceType>,
    /// Port on every node; Kubernetes chooses one if left out.
    #[schemars(range(min = 1, max = 65535))]
    pub node_port: Option<u16>,
    /// Address to ask of the load balancer.
    #[serde(rename = "loadBalancerIP")]
    pub load_balancer_ip: Option<String>,
    /// Annotations for the web UI's Service, as load balancers ask for.
    pub annotations: Option<BTreeMap<String, String>>,
}

/// Authentication and encryption between the parts of Spark.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AuthenticationFile {
    /// Whether whoever connects must know the cluster's secret, and what is said is encrypted (on if left out).
    pub enabled: Option<bool>,
    /// Name of a Secret that exists already, with the keys spark.authenticate.secret and, for managed ZooKeepers, zookeeper.password; without
    /// it sparkha makes one.
    pub secret: Option<String>,
}

/// TLS between masters, workers, executors and drivers.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TlsFile {
    /// Name of an existing Secret with tls.crt, tls.key (PKCS #8, not encrypted) and ca.crt, as cert-manager makes it.
    pub secret: Option<String>,
}

/// Who may connect to the cluster's pods: its own, its drivers, sparkha's router, and whoever is named here. The network must enforce
/// NetworkPolicies.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NetworkPolicyFile {
    /// `false`: whoever reaches the pods' addresses may.
    pub enabled: Option<bool>,
    /// Who else may reach the web UIs, as in `spec.ingress.from` of a NetworkPolicy: an Ingress controller, a monitor.
    pub web_uis_from: Option<Vec<serde_json::Value>>,
    /// Who else may be a driver, likewise; drivers in the cluster's namespace need only their labels.
    pub drivers_from: Option<Vec<serde_json::Value>>,
}

/// A text, or a number or truth value that stands for its text.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(transform = scalar_schema)]
pub enum Scalar {
    Text(String),
    Number(serde_json::Number),
    Bool(bool),
}

impl std::fmt::Display for Scalar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Scalar::Text(text) => f.write_str(text),
            Scalar::Number(number) => write!(f, "{number}"),
            Scalar::Bool(bool) => write!(f, "{bool}"),
        }
    }
}

/// The value of an environment variable: a text, or a key of a Secret or ConfigMap.
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
    /// Key of its data.
    pub key: String,
}

/// One flat list of types says the same as alternatives, and gives better messages.
fn scalar_schema(schema: &mut schemars::Schema) {
    schema.remove("anyOf");
    schema.insert("type".into(), serde_json::json!(["string", "number", "boolean"]));
}

fn dynamic_allocation_schema(schema: &mut schemars::Schema) {
    schema.remove("anyOf");
    schema.insert("type".into(), serde_json::json!(["boolean", "object"]));
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
    // Named by `env_schema` without schemars' knowledge.
    let key_ref = schemars::schema_for!(KeyRefFile);
    let mut schema = schema.to_value();
    let mut key_ref = key_ref.to_value();
    if let Some(definition) = key_ref.as_object_mut() {
        definition.remove("$schema");
    }
    schema["$defs"]["KeyRefFile"] = key_ref;
    schema
}

/// A cluster file that was read. What could be understood comes back beside the problems, so that its meaning is checked too.
#[derive(Debug, Default)]
pub struct Read {
    pub file: ClusterFile,
    /// The same as plain values.
    pub value: serde_json::Value,
    pub places: tree::Places,
    pub problems: Vec<Problem>,
}

/// Reads a cluster file.
pub fn read(text: &str) -> Read {
    let (value, places, mut problems) = match tree::read(text) {
        Ok(read) => read,
        Err(problem) => {
            return Read {
                problems: vec![problem],
                ..Read::default()
            };
        }
    };
    let pruned = check::check(&value, &schema(), &places, &mut problems);
    let value = pruned.clone();
    let file = serde_json::from_value(pruned).unwrap_or_else(|error| {
        // Only a disagreement between schema and types can lead here.
        problems.push(Problem::at(places.nearest(""), "", error.to_string()));
        ClusterFile::default()
    });
    Read {
        file,
        value,
        places,
        problems,
    }
}

/// Values as YAML that readers of YAML 1.1, as kubectl, and of 1.2 understand alike.
pub fn yaml(value: &impl serde::Serialize) -> String {
    let options = serde_saphyr::ser_options! { prefer_block_scalars: true, compact_list_indent: true, yaml_12: false };
    serde_saphyr::to_string_with_options(value, options).unwrap_or_default()
}
