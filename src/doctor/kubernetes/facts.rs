//! The facts that the checks judge, gathered once and as concurrently as possible. A fact that may not be read holds the reason, and affects only the
//! checks that need it.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Event, Node, PersistentVolumeClaim, Pod, Service};
use k8s_openapi::apimachinery::pkg::version::Info;
use kube::ResourceExt;

use crate::doctor::s3::S3Report;
use crate::jobs::orphans::Orphan;
use crate::model::finding::Finding;
use crate::platform::kubernetes::namespace::NamespaceState;
use crate::render::inventory::Inventory;
use crate::routes::check::RouteReport;
use crate::state::{self, ClusterState};

/// What was observed, or why it could not be.
pub type Observed<T> = Result<T, String>;

/// All facts, at one moment.
pub struct DiagnosticFacts {
    pub server: ApiServer,
    pub namespace: NamespaceState,
    /// Missing permissions.
    pub permissions: Observed<Vec<Finding>>,
    pub nodes: Observed<Vec<Node>>,
    pub capacity: Observed<Vec<Finding>>,
    /// Violations of quotas and limit ranges.
    pub quota: Vec<Finding>,
    pub storage: Observed<Vec<Finding>>,
    /// Whether an external ZooKeeper answers.
    pub external_zookeeper: Vec<Finding>,
    /// The answers of the cluster's name server to this machine.
    pub name_server: Observed<NameServerReport>,
    /// Of the whole namespace, of any owner.
    pub pods: Observed<Vec<Pod>>,
    pub services: Observed<Vec<Service>>,
    /// The Services that lead to a ready address.
    pub addressed: Observed<BTreeSet<String>>,
    pub claims: Observed<Vec<PersistentVolumeClaim>>,
    pub events: Vec<Event>,
    pub sets: Vec<StatefulSet>,
    /// The objects of which the cluster would consist.
    pub desired: Vec<crate::render::Resource>,
    /// `None` if there is no such cluster; an error if that could not be read.
    pub cluster: Observed<Option<Existing>>,
}

/// The API server.
pub struct ApiServer {
    pub address: String,
    pub version: Info,
    /// Its clock, compared with this machine's.
    pub clock: Option<ClockReading>,
}

/// An existing cluster.
pub struct Existing {
    pub inventory: Inventory,
    pub observed: state::Facts,
    pub state: ClusterState,
    /// What its own pods can resolve and reach.
    pub probes: Observed<Vec<PodReport>>,
    pub routes: Observed<RouteReport>,
    /// Drivers whose applications the leader does not know.
    pub orphans: Vec<Orphan>,
    pub s3: Vec<S3Report>,
}

impl DiagnosticFacts {
    pub fn existing(&self) -> Option<&Existing> {
        self.cluster.as_ref().ok()?.as_ref()
    }
}

/// The answers of the name server.
#[derive(Debug, PartialEq, Eq)]
pub struct NameServerReport {
    /// The pod that was queried.
    pub server: String,
    pub names: usize,
    /// Names that do not resolve, and why.
    pub wrong: Vec<String>,
}

/// The report of one pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodReport {
    pub pod: String,
    pub clock: Option<ClockReading>,
    pub ports: Vec<Port>,
    pub names: Vec<Lookup>,
    pub disks: Vec<Disk>,
}

/// The file system of a pod's volumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Where its first volume is mounted.
    pub path: String,
    /// 100 if nothing more can be written.
    pub percent_used: u8,
}

/// An attempt to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    pub target: ConnectTarget,
    pub outcome: Reachability,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectTarget {
    /// The pod or Service.
    pub name: String,
    pub is_service: bool,
    pub address: String,
    pub port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reachability {
    Open,
    Refused,
    Silent,
}

impl std::fmt::Display for Reachability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Reachability::Open => "open",
            Reachability::Refused => "refused",
            Reachability::Silent => "no answer",
        })
    }
}

/// An attempt to resolve a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    pub name: String,
    pub outcome: Resolution,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    Known,
    Unknown,
    Unanswered,
}

/// A clock's time minus this machine's, in seconds: at the query, and at the response.
#[derive(Clone, Debug, PartialEq)]
pub struct ClockReading {
    pub who: String,
    pub least: f64,
    pub most: f64,
}

impl ClockReading {
    pub fn within(who: &str, time: f64, (queried, responded): (f64, f64)) -> Self {
        Self {
            who: who.to_owned(),
            least: time - responded,
            most: time - queried,
        }
    }

    /// Seconds by which it certainly is ahead of this machine; negative if behind.
    pub fn offset(&self) -> f64 {
        match (self.least, self.most) {
            (least, _) if least > 0.0 => least,
            (_, most) if most < 0.0 => most,
            _ => 0.0,
        }
    }
}

/// The names of these pods, for messages: the first three, if there are more.
pub fn named<'a>(pods: impl IntoIterator<Item = &'a Pod>) -> String {
    joined(&pods.into_iter().map(ResourceExt::name_any).collect::<Vec<_>>())
}

/// All names, or the first three and the number of the others.
pub fn joined(names: &[String]) -> String {
    match names {
        [a, b, c, _, more @ ..] => format!("{a}, {b}, {c} and {} more", more.len() + 1),
        few => few.join(", "),
    }
}
