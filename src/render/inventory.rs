//! The inventory: a list of a cluster's objects, stored in ConfigMap `NAME-sparkha`. It survives a lost cluster file and
//! an interrupted create. teardown deletes only the listed objects, and status compares them with the observed state.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::DynamicObject;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::digest::short_digest;
use super::{Resource, auth, workloads};
use crate::model::kind::Kind;
use crate::model::labels::{self, ALIAS, Component, metadata};
use crate::spec::file::merge;
use crate::spec::image::ImageReference;
use crate::spec::names::{Alias, ClusterName, INVENTORY_SUFFIX, UiDomain, is_dns_label, is_dns_subdomain, visible};
use crate::spec::resolve::{MASTERS, MAX_WORKERS, rules};
use crate::spec::{ClusterSpec, Recovery};

/// Key of the ConfigMap's data with the objects.
const OBJECTS: &str = "objects.json";
/// Key of the ConfigMap's data with the summary.
const CLUSTER: &str = "cluster.json";
/// Key of the ConfigMap's data with the cluster file.
pub const CLUSTER_FILE: &str = "cluster-file.yaml";

/// The format that this sparkha writes, and the latest that it knows. Raise it if an earlier sparkha would do damage with what it reads, or
/// lose what it does not know. Every format keeps `format` and `sparkhaVersion` of `cluster.json`.
pub const FORMAT: u32 = 1;

/// The format of inventories that name none.
fn first_format() -> u32 {
    1
}

/// The objects and settings of a cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Inventory {
    pub cluster: Summary,
    pub objects: Vec<InventoryEntry>,
    /// The cluster file that the next create without one starts from, see [`ClusterSpec::cluster_file`]; also `None` if an older sparkha
    /// wrote the inventory.
    pub cluster_file: Option<String>,
}

/// One object that sparkha created.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InventoryEntry {
    pub kind: Kind,
    pub name: String,
    /// Digest of the last applied object; empty during a change.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// Names of the volume claim templates of a StatefulSet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<String>,
}

/// A summary of the resolved cluster for later commands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// See [`FORMAT`].
    #[serde(default = "first_format")]
    pub format: u32,
    pub name: ClusterName,
    /// The cluster's public name; set only for later generations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<Alias>,
    pub image: String,
    pub masters: u32,
    pub workers: WorkersSummary,
    pub zookeeper: ZooKeeperSummary,
    pub ui_domain: UiDomain,
    /// Defaults of applications; `None` if an older sparkha created the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executors: Option<ExecutorsSummary>,
    /// Whether there is a history server.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub history: bool,
    /// Whether there is a Spark Connect server.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub connect: bool,
    /// The Secret with the token of Spark Connect clients, if they need one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_secret: Option<String>,
    /// URL that workers and drivers connect to.
    pub master_url: String,
    /// Version of sparkha that wrote the inventory.
    pub sparkha_version: String,
    /// A pending upgrade of Spark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<Upgrade>,
}

/// An incomplete upgrade to another version of Spark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Upgrade {
    /// The versions, or the images if their tags have no version.
    pub from: String,
    pub to: String,
    pub from_image: String,
    pub phase: UpgradePhase,
    /// The generation that runs new jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub successor: Option<ClusterName>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum UpgradePhase {
    /// Nothing has changed yet. Applications run to their end; new ones are refused.
    Draining,
    /// Pods are being replaced.
    Changing,
    /// The successor runs new jobs. This generation is removed when its last job has ended.
    SideBySide,
}

impl fmt::Display for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, .. } = self;
        let successor = self.successor.as_ref().map_or("its successor", ClusterName::as_str);
        match self.phase {
            UpgradePhase::Draining => write!(
                f,
                "Spark {from} → {to} waits for running applications, and refuses new jobs"
            ),
            UpgradePhase::Changing => write!(f, "Spark {from} → {to} is incomplete"),
            UpgradePhase::SideBySide => write!(
                f,
                "Spark {from} → {to}: {successor} runs new jobs, this cluster is removed after its last one"
            ),
        }
    }
}

impl Upgrade {
    /// From one image to another.
    pub fn of_images(from: String, to: String) -> Self {
        let tag = |image: &String| image.parse::<ImageReference>().ok()?.tag_label().map(str::to_owned);
        let version = |image: &String| tag(image).unwrap_or_else(|| image.clone());
        Self {
            from: version(&from),
            to: version(&to),
            from_image: from,
            phase: UpgradePhase::Draining,
            successor: None,
        }
    }

    /// From the new version to the old one.
    pub fn back(self, from_image: String) -> Self {
        Self {
            from: self.to,
            to: self.from,
            from_image,
            phase: UpgradePhase::Draining,
            successor: None,
        }
    }

    /// Whether both lead to the same version in the same way.
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.to, &self.successor) == (&other.to, &other.successor)
    }

    /// Commands that continue or abort the upgrade.
    pub fn help(&self) -> &'static str {
        match self.phase {
            UpgradePhase::Draining => "`sparkha upgrade` continues, `sparkha upgrade --abort` ends that",
            UpgradePhase::Changing => "`sparkha upgrade` continues",
            UpgradePhase::SideBySide => "`sparkha upgrade --side-by-side` continues, `sparkha upgrade --abort` reverts",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkersSummary {
    pub count: u32,
    /// Cores that each worker offers.
    pub cores: u32,
    /// Memory that each worker offers, in MiB.
    pub memory_mib: u64,
}

/// Defaults of applications.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutorsSummary {
    /// Cores of each executor.
    pub cores: u32,
    /// Heap of each executor, in MiB.
    pub memory_mib: u64,
    /// Cores of an application's executors together; `None`: all cores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_cores: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ZooKeeperSummary {
    /// One master, recovering from its own files.
    None,
    Managed {
        count: u32,
        failover_seconds: u32,
    },
    External {
        servers: Vec<String>,
        directory: String,
        /// The Secret with the login, if there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        secret: Option<String>,
        /// The random owner ID in the directory's znode; `None` if create never claimed it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owner: Option<String>,
    },
}

impl Summary {
    /// See [`ClusterSpec::active_alias`].
    pub fn active_alias(&self) -> Option<&ClusterName> {
        Alias::active(self.alias.as_ref())
    }

    pub fn is_known_as(&self, alias: &ClusterName) -> bool {
        self.alias.as_ref().is_some_and(|known| known.name == *alias)
    }

    /// The name in the addresses of its web UIs.
    pub fn known_name(&self) -> &ClusterName {
        self.active_alias().unwrap_or(&self.name)
    }
}

impl ZooKeeperSummary {
    /// The owner ID in the cluster's znode in an external ensemble.
    pub fn owner(&self) -> Option<&str> {
        match self {
            ZooKeeperSummary::External { owner, .. } => owner.as_deref(),
            ZooKeeperSummary::None | ZooKeeperSummary::Managed { .. } => None,
        }
    }
}

/// An inventory that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    #[error("ConfigMap {name} is not an inventory that this version of sparkha can read: {reason}")]
    Unreadable { name: String, reason: String },
    #[error(transparent)]
    Newer(#[from] NewerFormat),
}

/// The inventory has a later format than this sparkha knows. What it reads may be incomplete, and it must not write or delete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "camelCase")]
#[error(
    "cluster {cluster} was written by sparkha {sparkha_version}, in format {format} of the inventory; this is sparkha {own}, which knows \
     formats up to {FORMAT}",
    own = env!("CARGO_PKG_VERSION")
)]
pub struct NewerFormat {
    pub cluster: String,
    pub format: u32,
    /// The version that wrote it.
    pub sparkha_version: String,
}

impl NewerFormat {
    /// The remedy.
    pub fn help(&self) -> String {
        let version = &self.sparkha_version;
        format!("install sparkha {version} or a newer one, and run the command with it; nothing was changed")
    }

    /// Of the text of `cluster.json` in a ConfigMap, which need not be readable otherwise.
    fn of(name: &str, cluster_json: &str) -> Option<Self> {
        let InventoryHeader {
            format,
            sparkha_version,
        } = serde_json::from_str(cluster_json).ok()?;
        let is_shown = is_word(&sparkha_version) && !sparkha_version.is_empty();
        (format > FORMAT).then(|| Self {
            cluster: visible(name.strip_suffix(INVENTORY_SUFFIX).unwrap_or(name)),
            format,
            sparkha_version: if is_shown { sparkha_version } else { "unknown".into() },
        })
    }

    /// As [`NewerFormat::of`], for the ConfigMap's `data` as JSON.
    pub fn of_data(name: &str, data: &Value) -> Option<Self> {
        Self::of(name, data[CLUSTER].as_str()?)
    }
}

/// What every format's `cluster.json` has.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InventoryHeader {
    #[serde(default = "first_format")]
    format: u32,
    #[serde(default)]
    sparkha_version: String,
}

impl Inventory {
    /// The inventory of a cluster with these resources.
    pub fn of(spec: &ClusterSpec, resources: &[Resource]) -> Self {
        let mut objects = vec![InventoryEntry {
            kind: Kind::ConfigMap,
            name: spec.name.inventory(),
            digest: String::new(),
            claims: vec![],
        }];
        objects.extend(resources.iter().map(entry));
        Self {
            cluster: summary(spec),
            objects,
            cluster_file: spec.cluster_file.clone(),
        }
    }

    pub fn config_map(&self, spec: &ClusterSpec) -> ConfigMap {
        let mut metadata = metadata(spec, spec.name.inventory(), Component::Cluster);
        if let Some(alias) = &spec.alias {
            let labels = metadata.labels.get_or_insert_default();
            labels.insert(ALIAS.into(), alias.name.to_string());
        }
        ConfigMap {
            metadata,
            data: Some(self.data()),
            ..Default::default()
        }
    }

    /// The ConfigMap's data.
    pub fn data(&self) -> BTreeMap<String, String> {
        let pretty = |value: serde_json::Result<String>| value.unwrap_or_default() + "\n";
        [
            (CLUSTER, pretty(serde_json::to_string_pretty(&self.cluster))),
            (OBJECTS, pretty(serde_json::to_string_pretty(&self.objects))),
            // Empty instead of omitted: a merge patch would keep the previous value.
            (CLUSTER_FILE, self.cluster_file.clone().unwrap_or_default()),
        ]
        .map(|(key, text)| (key.to_owned(), text))
        .into()
    }

    /// Parses an inventory, also one of a later format if it has all that this sparkha knows: see [`Inventory::newer`].
    pub fn read(config_map: &ConfigMap) -> Result<Self, InventoryError> {
        let name = config_map.metadata.name.clone().unwrap_or_default();
        let part = |key: &str| {
            config_map
                .data
                .as_ref()
                .and_then(|data| data.get(key))
                .ok_or_else(|| format!("it has no {key}"))
        };
        let read = || {
            Ok::<_, String>(Self {
                cluster: serde_json::from_str(part(CLUSTER)?).map_err(|e| format!("{CLUSTER}: {e}"))?,
                objects: serde_json::from_str(part(OBJECTS)?).map_err(|e| format!("{OBJECTS}: {e}"))?,
                cluster_file: part(CLUSTER_FILE).ok().filter(|text| !text.is_empty()).cloned(),
            })
        };
        let found = read().and_then(|inventory| {
            inventory.belongs_to(config_map)?;
            inventory.check()?;
            Ok(inventory)
        });
        found.map_err(
            |reason| match part(CLUSTER).ok().and_then(|text| NewerFormat::of(&name, text)) {
                Some(newer) => newer.into(),
                None => InventoryError::Unreadable {
                    name,
                    reason: visible(&reason),
                },
            },
        )
    }

    /// The format, if it is later than this sparkha knows.
    pub fn newer(&self) -> Option<NewerFormat> {
        let Summary {
            format,
            name,
            sparkha_version,
            ..
        } = &self.cluster;
        (*format > FORMAT).then(|| NewerFormat {
            cluster: name.to_string(),
            format: *format,
            sparkha_version: sparkha_version.clone(),
        })
    }

    /// The inventory to change.
    ///
    /// # Errors
    /// If it has a later format.
    pub fn writable(self) -> Result<Self, InventoryError> {
        match self.newer() {
            Some(newer) => Err(newer.into()),
            None => Ok(self),
        }
    }

    /// Parses one of several inventories, some of which may be another tenant's. An invalid one is logged and omitted.
    pub fn read_among(config_map: &ConfigMap) -> Option<Self> {
        // The cluster's other ConfigMap has the same labels.
        let name = config_map.metadata.name.as_deref()?;
        let read = name.ends_with(INVENTORY_SUFFIX).then(|| Self::read(config_map))?;
        let namespace = config_map.metadata.namespace.as_deref().unwrap_or_default();
        read.inspect_err(|error| tracing::warn!("namespace {namespace}: {error}; it is omitted"))
            .ok()
    }

    /// Whether it cannot be read because it has a later format.
    pub fn is_of_newer(config_map: &ConfigMap) -> bool {
        matches!(Self::read(config_map), Err(InventoryError::Newer(_)))
    }

    /// Whether the object is this very cluster's.
    fn belongs_to(&self, config_map: &ConfigMap) -> Result<(), String> {
        let (name, metadata) = (&self.cluster.name, &config_map.metadata);
        let is_its = metadata.name.as_ref() == Some(&name.inventory())
            && labels::is_of_cluster(metadata.labels.as_ref(), name.as_str());
        match is_its {
            true => Ok(()),
            false => Err(format!(
                "its content names cluster {name}, but its name or labels do not"
            )),
        }
    }

    /// Checks that a cluster file could have produced the values: everyone who may write ConfigMaps may have written them.
    fn check(&self) -> Result<(), String> {
        let cluster = &self.cluster;
        cluster
            .image
            .parse::<ImageReference>()
            .map_err(|error| error.to_string())?;
        must(
            MASTERS.contains(&cluster.masters),
            "the number of masters is out of range",
        )?;
        must(
            cluster.workers.count <= MAX_WORKERS,
            "the number of workers is out of range",
        )?;
        let url = workloads::masters_url(&cluster.name, cluster.masters);
        must(cluster.master_url == url, "its master URL is not its own")?;
        if let ZooKeeperSummary::External {
            servers,
            directory,
            secret,
            owner,
        } = &cluster.zookeeper
        {
            servers.iter().try_for_each(|server| rules::host_port(server))?;
            rules::znode(directory)?;
            must(
                secret.as_deref().is_none_or(is_dns_subdomain),
                "the Secret of its login has an invalid name",
            )?;
            must(
                owner.as_deref().is_none_or(is_word),
                "its owner ID in ZooKeeper is invalid",
            )?;
        }
        let upgrade = cluster.upgrade.iter();
        let upgrade = upgrade.flat_map(|upgrade| [&upgrade.from, &upgrade.to, &upgrade.from_image]);
        // If a tag has no version, the version is "of" an image.
        let mut words = upgrade
            .flat_map(|version| version.split(' '))
            .chain([&*cluster.sparkha_version]);
        must(words.all(is_word), "it has an invalid version")?;
        must(
            cluster.connect_secret.as_deref().is_none_or(is_dns_subdomain),
            "it has a Secret with an invalid name",
        )?;
        let is_object = |entry: &InventoryEntry| {
            is_dns_subdomain(&entry.name)
                && entry.claims.iter().all(|claim| is_dns_label(claim))
                && entry.digest.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        must(
            self.objects.iter().all(is_object),
            "it has an object with an invalid name",
        )
    }

    /// This inventory with another number of workers, also in its cluster file.
    pub fn with_workers(&self, count: u32) -> Inventory {
        let mut inventory = self.clone();
        if inventory.cluster.workers.count != count {
            inventory.cluster.workers.count = count;
            let cluster_file = inventory.cluster_file.as_deref();
            inventory.cluster_file = cluster_file.map(|text| merge::with_workers(text, count));
        }
        inventory
    }

    /// This inventory with this pending upgrade, or with none.
    pub fn with_upgrade(mut self, upgrade: Option<Upgrade>) -> Inventory {
        self.cluster.upgrade = upgrade;
        self
    }

    /// This inventory with the pending drain of the previous one.
    pub fn keeping_drain_of(self, old: Option<&Inventory>) -> Inventory {
        let upgrade = old.and_then(|old| old.cluster.upgrade.clone());
        self.with_upgrade(upgrade.filter(|upgrade| upgrade.phase == UpgradePhase::Draining))
    }

    /// This inventory with the owner ID of the znode in an external ensemble.
    pub fn with_znode_owner(mut self, id: Option<String>) -> Inventory {
        if let ZooKeeperSummary::External { owner, .. } = &mut self.cluster.zookeeper {
            *owner = id;
        }
        self
    }

    /// This inventory with entries added for existing objects that it lacks.
    pub fn adopting(mut self, live: &HashMap<(Kind, String), DynamicObject>) -> Inventory {
        let mut found: Vec<_> = live.iter().collect();
        found.sort_by_key(|(key, _)| *key);
        let found = found.into_iter().map(|((kind, name), object)| InventoryEntry {
            digest: String::new(),
            ..entry(&Resource {
                kind: *kind,
                name: name.clone(),
                object: serde_json::to_value(object).unwrap_or_default(),
            })
        });
        self.absorb(found);
        self
    }

    /// The generation that runs this cluster's new jobs.
    pub fn successor(&self) -> Option<&ClusterName> {
        self.cluster.upgrade.as_ref()?.successor.as_ref()
    }

    /// Whether Kubernetes chooses the number of workers.
    pub fn is_autoscaled(&self) -> bool {
        self.objects
            .iter()
            .any(|entry| entry.kind == Kind::HorizontalPodAutoscaler)
    }

    pub fn entry(&self, kind: Kind, name: &str) -> Option<&InventoryEntry> {
        self.objects
            .iter()
            .find(|entry| entry.kind == kind && entry.name == name)
    }

    /// This inventory before any object is applied.
    pub fn without_digests(&self) -> Inventory {
        let mut inventory = self.clone();
        for entry in &mut inventory.objects {
            entry.digest.clear();
        }
        inventory
    }

    /// This inventory with the additional entries of another: the objects that may exist during the change from one to the other. Entries that
    /// differ lose their digest, because the object may be in either state.
    pub fn united_with(&self, other: &Inventory) -> Inventory {
        let mut united = self.clone();
        for entry in &mut united.objects {
            let same = other
                .entry(entry.kind, &entry.name)
                .is_some_and(|old| old.digest == entry.digest);
            if !same {
                entry.digest.clear();
            }
        }
        united.absorb(other.objects.iter().cloned());
        united
    }

    /// Adds missing entries, and missing claims of existing entries.
    fn absorb(&mut self, others: impl Iterator<Item = InventoryEntry>) {
        for other in others {
            let is_same = |entry: &&mut InventoryEntry| entry.kind == other.kind && entry.name == other.name;
            match self.objects.iter_mut().find(is_same) {
                Some(entry) => {
                    let missing = other.claims.into_iter().filter(|claim| !entry.claims.contains(claim));
                    let missing: Vec<_> = missing.collect();
                    entry.claims.extend(missing);
                }
                None => self.objects.push(other),
            }
        }
    }

    /// Whether a claim came from a volume claim template of one of these StatefulSets.
    pub fn owns_claim(&self, claim: &str) -> bool {
        self.objects.iter().any(|set| {
            let mut templates = set.claims.iter();
            templates.any(|template| is_claim_of(claim, template, &set.name))
        })
    }
}

/// Whether a claim came from this template of this StatefulSet: `TEMPLATE-SET-ORDINAL`.
pub fn is_claim_of(claim: &str, template: &str, set: &str) -> bool {
    claim
        .strip_prefix(&format!("{template}-{set}-"))
        .is_some_and(|ordinal| !ordinal.is_empty() && ordinal.bytes().all(|b| b.is_ascii_digit()))
}

fn must(holds: bool, or_else: &str) -> Result<(), String> {
    holds.then_some(()).ok_or_else(|| or_else.to_owned())
}

/// Visible characters, and none that separates words.
fn is_word(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn entry(resource: &Resource) -> InventoryEntry {
    let templates = resource.object["spec"]["volumeClaimTemplates"].as_array();
    let claims = templates
        .into_iter()
        .flatten()
        .filter_map(|claim| claim["metadata"]["name"].as_str())
        .map(str::to_owned)
        .collect();
    let mut object = resource.object.clone();
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        // The number of pods may change without create, which compares it with the live object.
        spec.remove("replicas");
    }
    InventoryEntry {
        kind: resource.kind,
        name: resource.name.clone(),
        digest: short_digest([object.to_string().as_str()]),
        claims,
    }
}

fn summary(spec: &ClusterSpec) -> Summary {
    Summary {
        format: FORMAT,
        name: spec.name.clone(),
        alias: spec.alias.clone(),
        image: spec.image.name.to_string(),
        masters: spec.masters.count,
        workers: WorkersSummary {
            count: spec.workers.count,
            cores: spec.workers.offer.cores,
            memory_mib: spec.workers.offer.memory.mib(),
        },
        executors: Some(ExecutorsSummary {
            cores: spec.workers.executor.cores,
            memory_mib: spec.workers.executor.memory.mib(),
            default_cores: spec.default_cores,
        }),
        zookeeper: match &spec.recovery {
            Recovery::FileSystem { .. } => ZooKeeperSummary::None,
            Recovery::ManagedZooKeeper(zookeeper) => ZooKeeperSummary::Managed {
                count: zookeeper.count,
                failover_seconds: zookeeper.failover_seconds,
            },
            Recovery::ExternalZooKeeper(zookeeper) => ZooKeeperSummary::External {
                servers: zookeeper.servers.clone(),
                directory: zookeeper.directory.clone(),
                secret: zookeeper.secret.clone(),
                owner: None,
            },
        },
        ui_domain: spec.web_ui.domain.clone(),
        history: spec.history.is_some(),
        connect: spec.connect.is_some(),
        connect_secret: auth::connect_secret_name(spec),
        master_url: workloads::masters_url(&spec.name, spec.masters.count),
        sparkha_version: env!("CARGO_PKG_VERSION").into(),
        upgrade: None,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    use serde_json::json;

    use super::*;

    fn inventory(objects: &[(Kind, &str, &str, &[&str])]) -> Inventory {
        Inventory {
            cluster: Summary {
                format: FORMAT,
                name: ClusterName::parse("spark").unwrap(),
                alias: None,
                image: "spark:4".into(),
                masters: 1,
                workers: WorkersSummary {
                    count: 1,
                    cores: 1,
                    memory_mib: 1024,
                },
                executors: None,
                zookeeper: ZooKeeperSummary::None,
                ui_domain: UiDomain::default(),
                history: false,
                connect: false,
                connect_secret: None,
                master_url: "spark://spark-master-0:7077".into(),
                sparkha_version: "0".into(),
                upgrade: None,
            },
            objects: objects
                .iter()
                .map(|&(kind, name, digest, claims)| InventoryEntry {
                    kind,
                    name: name.into(),
                    digest: digest.into(),
                    claims: claims.iter().map(|&c| c.to_owned()).collect(),
                })
                .collect(),
            cluster_file: Some("masters:\n  count: 1\nworkers:\n  count: 1\n".into()),
        }
    }

    fn stored(data: BTreeMap<String, String>) -> ConfigMap {
        let labels = [(labels::MANAGED_BY, labels::SPARKHA), (labels::INSTANCE, "spark")];
        ConfigMap {
            metadata: ObjectMeta {
                name: Some("spark-sparkha".into()),
                namespace: Some("ns".into()),
                labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
                ..Default::default()
            },
            data: Some(data),
            ..Default::default()
        }
    }

    /// Each value would reach a router's configuration, a shell command, a page or a terminal.
    #[test]
    fn inventories_with_values_that_a_cluster_file_cannot_set_are_refused() {
        let inventory = inventory(&[(Kind::StatefulSet, "spark-worker", "d", &["shuffle"])]);
        let refused = |of: &str, path: &str, value: Value| {
            let mut data = inventory.data();
            let mut part: Value = serde_json::from_str(&data[of]).unwrap();
            *part.pointer_mut(path).unwrap() = value;
            data.insert(of.into(), part.to_string());
            Inventory::read(&stored(data)).unwrap_err().to_string()
        };
        let cases = [
            (
                CLUSTER,
                "/uiDomain",
                json!("x 1.2.3.4:80;\n}\naccess_log /etc/cron.d/x;"),
                "is not a valid domain name",
            ),
            (
                CLUSTER,
                "/uiDomain",
                json!("x`) || hostregexp(`.*"),
                "is not a valid domain name",
            ),
            (CLUSTER, "/uiDomain", json!("x\"; curl"), "is not a valid domain name"),
            (
                CLUSTER,
                "/uiDomain",
                json!("a.".repeat(70) + "k8s"),
                "characters, 125 are allowed",
            ),
            (CLUSTER, "/name", json!("<script>"), "is not a valid cluster name"),
            (CLUSTER, "/name", json!("etl"), "its name or labels do not"),
            (
                CLUSTER,
                "/image",
                json!("spark:4\u{1b}[2J"),
                "is not an image reference",
            ),
            (CLUSTER, "/masters", json!(4_000_000_000_u32), "masters"),
            (CLUSTER, "/workers/count", json!(4_000_000_000_u32), "workers"),
            (
                CLUSTER,
                "/masterUrl",
                json!("spark://evil:7077"),
                "its master URL is not its own",
            ),
            (CLUSTER, "/sparkhaVersion", json!("1\n"), "it has an invalid version"),
            (
                CLUSTER,
                "/zookeeper",
                json!({"external": {"servers": ["a b:1"], "directory": "/"}}),
                "is not a host",
            ),
            (
                CLUSTER,
                "/zookeeper",
                json!("no\u{1b}[2J"),
                "unknown variant `no\\u{1b}[2J`",
            ),
            (
                OBJECTS,
                "/0/name",
                json!("../../namespaces/x"),
                "an object with an invalid name",
            ),
            (OBJECTS, "/0/claims/0", json!("a/b"), "an object with an invalid name"),
        ];
        for (of, path, value, why) in cases {
            let told = refused(of, path, value);
            assert!(told.contains(why) && !told.contains('\u{1b}'), "{path}: {told}");
        }
    }

    #[test]
    fn a_stored_inventory_parses_back() {
        let inventory = inventory(&[(Kind::StatefulSet, "spark-worker", "d", &["shuffle"])]);
        assert_eq!(Inventory::read(&stored(inventory.data())).unwrap(), inventory);
        let upgrade = Upgrade {
            from: "4.2.1".into(),
            ..Upgrade::of_images("of docker.io/apache/spark:next".into(), "of spark@sha256:1".into())
        };
        let inventory = inventory.with_upgrade(Some(upgrade));
        assert_eq!(Inventory::read(&stored(inventory.data())).unwrap(), inventory);
    }

    #[test]
    fn an_older_inventory_without_a_cluster_file_can_be_read() {
        let inventory = Inventory {
            cluster_file: None,
            ..inventory(&[(Kind::StatefulSet, "spark-worker", "d", &["shuffle"])])
        };
        let mut data = inventory.data();
        assert_eq!(data[CLUSTER_FILE], "");
        let read = |data: BTreeMap<_, _>| Inventory::read(&stored(data)).unwrap();
        assert_eq!(read(data.clone()), inventory);
        data.remove(CLUSTER_FILE);
        assert_eq!(read(data), inventory);
    }

    #[test]
    fn a_later_format_is_named_whether_or_not_the_rest_can_be_read() {
        let read = |format: Value, other: Option<(&str, Value)>| {
            let mut data = inventory(&[]).data();
            let mut cluster: Value = serde_json::from_str(&data[CLUSTER]).unwrap();
            cluster["sparkhaVersion"] = json!("9.0.0");
            match format.is_null() {
                true => drop(cluster.as_object_mut().unwrap().remove("format")),
                false => cluster["format"] = format,
            }
            if let Some((key, value)) = other {
                cluster[key] = value;
            }
            data.insert(CLUSTER.into(), cluster.to_string());
            Inventory::read(&stored(data))
        };
        let zookeeper = || Some(("zookeeper", json!("another")));
        // The inventories of the first versions name no format.
        let first = read(Value::Null, None).unwrap();
        assert_eq!((first.cluster.format, first.newer()), (1, None));
        assert!(first.writable().is_ok());
        let expected = NewerFormat {
            cluster: "spark".into(),
            format: 2,
            sparkha_version: "9.0.0".into(),
        };
        let readable = read(json!(2), None).unwrap();
        assert_eq!(readable.newer(), Some(expected.clone()));
        assert!(matches!(readable.writable(), Err(InventoryError::Newer(newer)) if newer == expected));
        assert!(matches!(read(json!(2), zookeeper()), Err(InventoryError::Newer(newer)) if newer == expected));
        assert!(matches!(
            read(json!(1), zookeeper()),
            Err(InventoryError::Unreadable { .. })
        ));
        assert!(matches!(read(json!("2"), None), Err(InventoryError::Unreadable { .. })));
        let hostile = read(json!(2), Some(("sparkhaVersion", json!("1\u{1b}[2J")))).unwrap_err();
        assert!(hostile.to_string().contains("sparkha unknown,"), "{hostile}");
    }

    #[test]
    fn a_new_number_of_workers_is_stored_in_the_cluster_file() {
        let inventory = inventory(&[]);
        let scaled = inventory.with_workers(4);
        assert_eq!(scaled.cluster.workers.count, 4);
        assert_eq!(
            scaled.cluster_file.unwrap(),
            "masters:\n  count: 1\nworkers:\n  count: 4\n"
        );
        assert_eq!(inventory.with_workers(1), inventory);
    }

    #[test]
    fn during_a_change_the_objects_of_both_states_are_listed_without_stale_digests() {
        let new = inventory(&[(Kind::Service, "a", "1", &[]), (Kind::StatefulSet, "s", "new", &["x"])]);
        let old = inventory(&[
            (Kind::Service, "a", "1", &[]),
            (Kind::StatefulSet, "s", "old", &["y"]),
            (Kind::Service, "gone", "3", &[]),
        ]);
        assert_eq!(
            new.united_with(&old).objects,
            inventory(&[
                (Kind::Service, "a", "1", &[]),
                (Kind::StatefulSet, "s", "", &["x", "y"]),
                (Kind::Service, "gone", "3", &[]),
            ])
            .objects
        );
    }

    #[test]
    fn claims_must_match_a_template_of_a_listed_stateful_set() {
        let inventory = inventory(&[(Kind::StatefulSet, "spark-worker", "", &["shuffle"])]);
        assert!(inventory.owns_claim("shuffle-spark-worker-10"));
        assert!(!inventory.owns_claim("shuffle-spark-worker-b-0"));
        assert!(!inventory.owns_claim("shuffle-spark-worker-"));
        assert!(!inventory.owns_claim("data-spark-worker-0"));
    }
}
