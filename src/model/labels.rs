//! Labels, selectors and metadata that mark an object as belonging to a cluster.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use crate::spec::ClusterSpec;
use crate::spec::names::ClusterName;

/// Label with the software's name.
pub const NAME: &str = "app.kubernetes.io/name";
/// Label with the manager of an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Value of this label for all objects that sparkha creates.
pub const SPARKHA: &str = "sparkha";
/// Label with the cluster's name.
pub const INSTANCE: &str = "app.kubernetes.io/instance";
/// Label with the component of the cluster.
pub const COMPONENT: &str = "app.kubernetes.io/component";

/// Label of an EndpointSlice with the name of its Service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Label of a later generation's inventory with the cluster's public name.
pub const ALIAS: &str = "sparkha/alias";

/// Label of the ConfigMap with Spark's configuration: it is 20 times as large as the inventory, which has the same component, and lists of
/// inventories leave it out.
pub const CONFIGURATION: &str = "sparkha/configuration";

/// A component of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    /// Objects that all components share.
    Cluster,
    Master,
    Worker,
    ZooKeeper,
    /// An application's driver in client mode: a pod that the user runs.
    Driver,
    History,
    /// The Spark Connect server, a driver that sparkha manages.
    Connect,
}

impl Component {
    /// Name of the objects about its pods: StatefulSet, NetworkPolicy, PodMonitor and others.
    pub fn object_name(self, cluster: &ClusterName) -> String {
        match self {
            Component::Master => cluster.masters_set(),
            Component::Worker => cluster.workers_set(),
            Component::ZooKeeper => cluster.zookeeper(),
            Component::History => cluster.history(),
            Component::Connect => cluster.connect(),
            Component::Driver => cluster.drivers(),
            Component::Cluster => cluster.to_string(),
        }
    }

    /// Name of its StatefulSet; `None` for drivers and for objects that all components share.
    pub fn set_name(self, cluster: &ClusterName) -> Option<String> {
        let has_set = !matches!(self, Component::Driver | Component::Cluster);
        has_set.then(|| self.object_name(cluster))
    }

    /// Value of the component label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Component::Cluster => "cluster",
            Component::Master => "master",
            Component::Worker => "worker",
            Component::ZooKeeper => "zookeeper",
            Component::Driver => "driver",
            Component::History => "history-server",
            Component::Connect => "connect",
        }
    }

    /// The component that an object with these labels belongs to.
    pub fn of(labels: &BTreeMap<String, String>) -> Option<Self> {
        let value = labels.get(COMPONENT)?;
        let all = [
            Component::Cluster,
            Component::Master,
            Component::Worker,
            Component::ZooKeeper,
            Component::Driver,
            Component::History,
            Component::Connect,
        ];
        all.into_iter().find(|component| component.as_str() == value)
    }
}

/// Whether these labels mark an object that sparkha created.
pub fn is_ours(labels: Option<&BTreeMap<String, String>>) -> bool {
    labels.and_then(|labels| labels.get(MANAGED_BY)).map(String::as_str) == Some(SPARKHA)
}

/// Whether these labels mark an object that sparkha created for this cluster.
pub fn is_of_cluster(labels: Option<&BTreeMap<String, String>>, cluster: &str) -> bool {
    let instance = labels.and_then(|labels| labels.get(INSTANCE));
    is_ours(labels) && instance.map(String::as_str) == Some(cluster)
}

/// Selects all objects of one cluster.
pub fn cluster_selector(name: &ClusterName) -> String {
    format!("{MANAGED_BY}={SPARKHA},{INSTANCE}={name}")
}

/// Selects the inventories of all clusters; and the configurations of those that an earlier sparkha made, which have no label of their own.
pub fn inventories_selector() -> String {
    format!(
        "{MANAGED_BY}={SPARKHA},{COMPONENT}={},!{CONFIGURATION}",
        Component::Cluster.as_str()
    )
}

/// Selects the pods of one component of a cluster. Without the instance it would also match other clusters of the namespace.
pub fn selector(spec: &ClusterSpec, component: Component) -> LabelSelector {
    LabelSelector {
        match_labels: Some(identity(spec, component)),
        ..Default::default()
    }
}

/// The labels that never change during a cluster's life: selectors and volume claim templates are immutable.
pub fn identity(spec: &ClusterSpec, component: Component) -> BTreeMap<String, String> {
    [
        (NAME, "spark"),
        (INSTANCE, spec.name.as_str()),
        (COMPONENT, component.as_str()),
        (MANAGED_BY, SPARKHA),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// All labels of an object: identity, version, and the user's own.
pub fn labels(spec: &ClusterSpec, component: Component) -> BTreeMap<String, String> {
    let mut labels = spec.labels.clone();
    labels.extend(identity(spec, component));
    labels.insert("app.kubernetes.io/part-of".into(), "spark".into());
    if let Some(version) = spec.image.name.tag_label() {
        labels.insert("app.kubernetes.io/version".into(), version.into());
    }
    labels
}

/// Metadata of an object of the cluster.
pub fn metadata(spec: &ClusterSpec, name: String, component: Component) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: spec.namespace.as_ref().map(ToString::to_string),
        labels: Some(labels(spec, component)),
        annotations: non_empty(spec.annotations.clone()),
        ..Default::default()
    }
}

/// `None` for an empty map, so that the field is not rendered.
pub fn non_empty<K: Ord, V>(map: BTreeMap<K, V>) -> Option<BTreeMap<K, V>> {
    Some(map).filter(|map| !map.is_empty())
}
