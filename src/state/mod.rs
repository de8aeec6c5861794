//! Computes a [`ClusterState`] from the observed pods, masters and ZooKeeper servers, without any client.
//! [`readiness`] evaluates it, [`trouble`] explains why pods do not start.

pub mod capacity;
pub mod changes;
pub mod decommissioning;
pub mod nodes;
pub mod overview;
pub mod readiness;
pub mod s3;
pub mod trouble;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde::Serialize;

use crate::model::hosts::{history_host, leader_host, pod_host};
use crate::model::labels::Component;
use crate::model::ports::{CONNECT_PORT, CONNECT_UI_PORT, HISTORY_UI_PORT, MASTER_UI_PORT, WORKER_UI_PORT};
use crate::model::reports::{ApplicationReport, MasterReport, MasterStatus, ZooKeeperMode, ZooKeeperReport};
use crate::render::inventory::{ExecutorsSummary, Inventory, Summary, Upgrade, ZooKeeperSummary};
use crate::spec::names::{ClusterName, UiDomain};
use crate::spec::words::{are, counted};

/// The observed state at one moment.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub pods: Vec<Pod>,
    pub sets: Vec<StatefulSet>,
    /// By pod: its master's report, or the reason why there is none.
    pub masters: BTreeMap<String, Result<MasterReport, String>>,
    /// By pod: its ZooKeeper server's report, or the reason why there is none.
    pub zookeepers: BTreeMap<String, Result<ZooKeeperReport, String>>,
    /// The Kubernetes cluster's nodes.
    pub nodes: nodes::Nodes,
    /// Whether the pods run on this machine, which connects to their addresses and does not resolve Services.
    pub here: bool,
    /// Whether the local supervisor is gone, so that nothing restarts processes.
    pub unattended: bool,
}

/// The state of a cluster.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterState {
    pub name: String,
    /// Its alias: the name of its first generation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias: Option<ClusterName>,
    pub namespace: String,
    pub image: String,
    /// Whether the cluster is in service; otherwise `not_ready` has the reasons.
    pub ready: bool,
    pub not_ready: Vec<readiness::NotReady>,
    /// Lost nodes, and members that share a node.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<nodes::Warning>,
    /// A pending upgrade of Spark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<Upgrade>,
    /// URL that drivers connect to.
    pub master_url: String,
    /// The routed address of the web UI; it requires a router.
    pub web_ui: String,
    pub masters: Vec<MasterState>,
    pub zookeeper: ZooKeeperState,
    pub workers: WorkersState,
    /// Defaults of applications.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executors: Option<ExecutorsSummary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<HistoryState>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect: Option<ConnectState>,
    pub applications: Vec<ApplicationReport>,
    /// StatefulSets that are replacing pods.
    pub rollouts: Vec<Rollout>,
    /// The addresses of a local cluster's pods, by name: this machine connects to them, and does not resolve routed names.
    #[serde(skip)]
    pub addresses: BTreeMap<String, IpAddr>,
}

/// The state of a pod.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodState {
    pub name: String,
    /// `Running`, or the reason why it is not; `Missing` without a pod.
    pub phase: String,
    pub restarts: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MasterState {
    #[serde(flatten)]
    pub pod: PodState,
    /// `None`: no response.
    pub status: Option<MasterStatus>,
    /// Routed address of this master's own web UI.
    pub web_ui: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum ZooKeeperState {
    /// One master, recovering from its own files.
    None,
    Managed {
        servers: Vec<ServerState>,
    },
    External {
        servers: Vec<String>,
        directory: String,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerState {
    #[serde(flatten)]
    pub pod: PodState,
    /// `None`: not in a quorum, or no response.
    pub mode: Option<ZooKeeperMode>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkersState {
    pub expected: u32,
    /// Number of workers that the leader considers ALIVE.
    pub registered: u32,
    pub cores: u32,
    pub cores_used: u32,
    pub memory_mib: u64,
    pub memory_used_mib: u64,
    /// The expected offer of each worker.
    pub expected_cores: u32,
    pub expected_memory_mib: u64,
    pub pods: Vec<WorkerState>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerState {
    #[serde(flatten)]
    pub pod: PodState,
    /// The worker's state according to the leader; `None`: not registered.
    pub state: Option<String>,
    pub cores: u32,
    pub cores_used: u32,
    pub memory_mib: u64,
    pub memory_used_mib: u64,
    /// Routed address of the worker's web UI.
    pub web_ui: Option<String>,
}

impl WorkersState {
    /// The number of registered workers. A removed worker stays registered for a moment.
    pub fn registration(&self) -> String {
        match self.registered.checked_sub(self.expected) {
            None | Some(0) => format!("{} of {} registered", self.registered, self.expected),
            Some(more) => format!("{} registered, {more} more {} leaving", self.expected, are(more)),
        }
    }

    /// A worker's state for display: a decommissioned worker is not shown as DEAD, as if it had failed.
    pub fn shown_state(&self, worker: &WorkerState) -> String {
        match worker.state.as_deref() {
            Some("DEAD") if worker.ordinal() >= Some(self.expected) => "LEFT".into(),
            Some(state) => state.to_owned(),
            None => "not registered".into(),
        }
    }
}

impl WorkerState {
    /// Its ordinal in the StatefulSet.
    pub fn ordinal(&self) -> Option<u32> {
        ordinal(&self.pod.name)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HistoryState {
    #[serde(flatten)]
    pub pod: PodState,
    /// Whether its web UI responds.
    pub ready: bool,
    /// Routed address of its web UI.
    pub web_ui: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectState {
    #[serde(flatten)]
    pub pod: PodState,
    /// Whether it accepts connections.
    pub ready: bool,
    /// URL that remote clients connect to.
    pub url: String,
    /// Whether clients also need a token: see `sparkha connect-url`.
    pub needs_token: bool,
    /// Command that forwards it to `sc://localhost:15002` outside of the Kubernetes cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forward: Option<String>,
    /// Routed address of its web UI, a driver's web UI.
    pub web_ui: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    pub set: String,
    pub updated: i32,
    pub replicas: i32,
}

impl ClusterState {
    /// The reachable address of a pod's web UI: the pod's own on this machine, otherwise the routed one.
    pub fn reachable_ui(&self, pod: &str, routed: &str) -> String {
        let port = routed.rsplit(':').next().unwrap_or_default();
        match self.addresses.get(pod) {
            Some(address) => format!("http://{}", SocketAddr::new(*address, port.parse().unwrap_or_default())),
            None => routed.to_owned(),
        }
    }

    /// The reachable address of the cluster's web UI, which is the leader's.
    pub fn reachable_cluster_ui(&self) -> String {
        let master = self.leader().or_else(|| self.masters.first());
        match master {
            Some(master) => self.reachable_ui(&master.pod.name, &self.web_ui),
            None => self.web_ui.clone(),
        }
    }

    /// The leading master.
    pub fn leader(&self) -> Option<&MasterState> {
        let leads = |master: &&MasterState| master.status == Some(MasterStatus::Alive);
        self.masters.iter().find(leads)
    }

    /// Reasons why applications wait for executors: free capacity, and the applications that use the rest.
    pub fn waiting(&self) -> Vec<String> {
        let is_waiting = |app: &&ApplicationReport| app.state == "WAITING";
        let having = self.applications.iter().filter(|app| app.cores > 0);
        let having: Vec<_> = having.map(|app| format!("{} has {}", app.id, app.cores)).collect();
        let workers = &self.workers;
        let free = workers.cores.saturating_sub(workers.cores_used);
        let with = if having.is_empty() {
            String::new()
        } else {
            format!("; {}", having.join(", "))
        };
        self.applications
            .iter()
            .filter(is_waiting)
            .map(|app| {
                format!(
                    "{} waits for executors of {} MiB: {free} of {} and {} of {} MiB are free{with}",
                    app.id,
                    app.memory_per_executor,
                    counted(workers.cores, "core"),
                    workers.memory_mib.saturating_sub(workers.memory_used_mib),
                    workers.memory_mib,
                )
            })
            .collect()
    }
}

/// Computes the state from the facts. The inventory has the desired state.
pub fn cluster_state(namespace: &str, inventory: &Inventory, facts: &Facts) -> ClusterState {
    let summary = &inventory.cluster;
    let ui = |pod: Option<&Pod>, port| routed_address(pod?, namespace, &summary.ui_domain, port);
    let masters: Vec<_> = (0..summary.masters)
        .map(|ordinal| {
            let name = format!("{}-master-{ordinal}", summary.name);
            let pod = pod_named(facts, &name);
            MasterState {
                status: facts.masters.get(&name).and_then(|r| Some(r.as_ref().ok()?.status)),
                web_ui: ui(pod, MASTER_UI_PORT),
                pod: pod_state(name, pod),
            }
        })
        .collect();
    let leader = facts
        .masters
        .values()
        .filter_map(|report| report.as_ref().ok())
        .find(|report| report.status == MasterStatus::Alive);
    let mut state = ClusterState {
        name: summary.name.to_string(),
        alias: summary.active_alias().cloned(),
        namespace: namespace.to_owned(),
        image: summary.image.clone(),
        ready: false,
        not_ready: vec![],
        warnings: {
            let newer = inventory.newer().map(nodes::Warning::NewerSparkha);
            newer.into_iter().chain(nodes::warnings(facts)).collect()
        },
        upgrade: summary.upgrade.clone(),
        master_url: summary.master_url.clone(),
        web_ui: format!(
            "http://{}:{MASTER_UI_PORT}",
            leader_host(summary.known_name(), namespace, &summary.ui_domain)
        ),
        masters,
        zookeeper: zookeeper_state(summary, facts),
        workers: workers_state(namespace, inventory, facts, leader),
        executors: summary.executors,
        history: summary.history.then(|| history_state(namespace, summary, facts)),
        connect: summary.connect.then(|| connect_state(namespace, summary, facts)),
        applications: leader.map(|report| report.activeapps.clone()).unwrap_or_default(),
        rollouts: facts.sets.iter().filter_map(rollout).collect(),
        addresses: match facts.here {
            true => facts
                .pods
                .iter()
                .filter_map(|pod| Some((pod.name_any(), address_of(pod)?)))
                .collect(),
            false => BTreeMap::new(),
        },
    };
    state.not_ready = readiness::judge(&state);
    if facts.unattended {
        state.not_ready.push(readiness::NotReady::Unattended);
    }
    state.ready = state.not_ready.is_empty();
    state
}

/// How many ZooKeeper servers serve.
pub fn serving(servers: &[ServerState]) -> usize {
    servers.iter().filter(|server| server.mode.is_some()).count()
}

fn zookeeper_state(summary: &Summary, facts: &Facts) -> ZooKeeperState {
    match &summary.zookeeper {
        ZooKeeperSummary::None => ZooKeeperState::None,
        ZooKeeperSummary::External { servers, directory, .. } => ZooKeeperState::External {
            servers: servers.clone(),
            directory: directory.clone(),
        },
        ZooKeeperSummary::Managed { count, .. } => ZooKeeperState::Managed {
            servers: (0..*count)
                .map(|ordinal| {
                    let name = format!("{}-zookeeper-{ordinal}", summary.name);
                    ServerState {
                        mode: facts
                            .zookeepers
                            .get(&name)
                            .and_then(|server| Some(server.as_ref().ok()?.mode)),
                        pod: pod_state(name.clone(), pod_named(facts, &name)),
                    }
                })
                .collect(),
        },
    }
}

fn workers_state(namespace: &str, inventory: &Inventory, facts: &Facts, leader: Option<&MasterReport>) -> WorkersState {
    let summary = &inventory.cluster;
    let set = facts
        .sets
        .iter()
        .find(|set| set.name_any() == format!("{}-worker", summary.name));
    let chosen = set.and_then(|set| u32::try_from(set.spec.replicas?).ok());
    let reports = leader.map(|report| report.workers.as_slice()).unwrap_or_default();
    let alive: Vec<_> = reports.iter().filter(|worker| worker.state == "ALIVE").collect();
    let mut pods: Vec<_> = pods_of(&facts.pods, Component::Worker).collect();
    pods.sort_by_key(|pod| ordinal(&pod.name_any()));
    WorkersState {
        expected: chosen
            .filter(|_| inventory.is_autoscaled())
            .unwrap_or(summary.workers.count),
        registered: alive.len() as u32,
        cores: alive.iter().map(|worker| worker.cores).sum(),
        cores_used: alive.iter().map(|worker| worker.coresused).sum(),
        memory_mib: alive.iter().map(|worker| worker.memory).sum(),
        memory_used_mib: alive.iter().map(|worker| worker.memoryused).sum(),
        expected_cores: summary.workers.cores,
        expected_memory_mib: summary.workers.memory_mib,
        pods: pods
            .into_iter()
            .map(|pod| {
                let ip = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref());
                // A restarted worker registers again; its previous registration stays listed as DEAD for a while.
                let of_pod = |worker: &&&crate::model::reports::WorkerReport| Some(worker.host.as_str()) == ip;
                let report = reports
                    .iter()
                    .filter(|worker| of_pod(&worker))
                    .max_by_key(|worker| worker.state == "ALIVE");
                WorkerState {
                    state: report.map(|worker| worker.state.clone()),
                    cores: report.map_or(0, |worker| worker.cores),
                    cores_used: report.map_or(0, |worker| worker.coresused),
                    memory_mib: report.map_or(0, |worker| worker.memory),
                    memory_used_mib: report.map_or(0, |worker| worker.memoryused),
                    web_ui: routed_address(pod, namespace, &summary.ui_domain, WORKER_UI_PORT),
                    pod: pod_state(pod.name_any(), Some(pod)),
                }
            })
            .collect(),
    }
}

fn history_state(namespace: &str, summary: &Summary, facts: &Facts) -> HistoryState {
    let name = format!("{}-history-0", summary.name);
    let pod = pod_named(facts, &name);
    let host = history_host(summary.known_name(), namespace, &summary.ui_domain);
    HistoryState {
        ready: pod.is_some_and(is_ready),
        web_ui: format!("http://{host}:{HISTORY_UI_PORT}"),
        pod: pod_state(name, pod),
    }
}

/// The Spark Connect server.
pub fn connect_state(namespace: &str, summary: &Summary, facts: &Facts) -> ConnectState {
    let service = format!("{}-connect", summary.name);
    let name = format!("{service}-0");
    let pod = pod_named(facts, &name);
    let address = pod.and_then(|pod| pod.status.as_ref()?.pod_ip.clone());
    let host = match address.filter(|_| facts.here) {
        Some(address) => address,
        None => format!("{service}.{namespace}"),
    };
    let forward = format!("kubectl port-forward --namespace {namespace} service/{service} {CONNECT_PORT}");
    ConnectState {
        forward: (!facts.here).then_some(forward),
        ready: pod.is_some_and(is_ready),
        needs_token: summary.connect_secret.is_some(),
        url: format!("sc://{host}:{CONNECT_PORT}"),
        web_ui: pod.and_then(|pod| routed_address(pod, namespace, &summary.ui_domain, CONNECT_UI_PORT)),
        pod: pod_state(name, pod),
    }
}

/// Pods of one component.
pub fn pods_of(pods: &[Pod], component: Component) -> impl Iterator<Item = &Pod> {
    pods.iter()
        .filter(move |pod| Component::of(pod.labels()) == Some(component))
}

fn pod_named<'a>(facts: &'a Facts, name: &str) -> Option<&'a Pod> {
    facts.pods.iter().find(|pod| pod.name_any() == name)
}

/// The ordinal of a StatefulSet pod.
fn ordinal(pod: &str) -> Option<u32> {
    pod.rsplit('-').next()?.parse().ok()
}

/// Whether all of a pod's containers are ready and it is not terminating.
pub fn is_ready(pod: &Pod) -> bool {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref());
    pod.metadata.deletion_timestamp.is_none()
        && statuses.is_some_and(|statuses| !statuses.is_empty() && statuses.iter().all(|container| container.ready))
}

fn pod_state(name: String, pod: Option<&Pod>) -> PodState {
    let container = pod.and_then(|pod| pod.status.as_ref()?.container_statuses.as_ref()?.first());
    PodState {
        name,
        phase: pod.map_or_else(|| "Missing".into(), phase),
        restarts: container.map_or(0, |container| container.restart_count),
        node: pod.and_then(|pod| pod.spec.as_ref()?.node_name.clone()),
    }
}

/// As kubectl shows it: the reason why a container waits, or else the pod's phase.
fn phase(pod: &Pod) -> String {
    if pod.metadata.deletion_timestamp.is_some() {
        return "Terminating".into();
    }
    let status = pod.status.as_ref();
    let waiting = status
        .and_then(|status| status.container_statuses.as_ref()?.first()?.state.as_ref())
        .and_then(|state| match (&state.waiting, &state.terminated) {
            (Some(waiting), _) => waiting.reason.clone(),
            (_, Some(terminated)) => terminated.reason.clone(),
            _ => None,
        });
    waiting
        .or_else(|| status?.phase.clone())
        .unwrap_or_else(|| "Pending".into())
}

/// The pod's IP address, once it has one.
pub fn address_of(pod: &Pod) -> Option<IpAddr> {
    pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()
}

/// Prefix of the addresses of a pod's web UIs, which lacks only the port: `http://spark-<ip with dashes>.<namespace>.<domain>:`. Spark's own
/// links begin so, by `SPARK_PUBLIC_DNS`.
pub fn ui_prefix(pod: &Pod, namespace: &str, domain: &UiDomain) -> Option<String> {
    Some(format!("http://{}:", pod_host(address_of(pod)?, namespace, domain)))
}

fn routed_address(pod: &Pod, namespace: &str, domain: &UiDomain, port: u16) -> Option<String> {
    Some(format!("{}{port}", ui_prefix(pod, namespace, domain)?))
}

/// `None` if all pods have the newest revision.
fn rollout(set: &StatefulSet) -> Option<Rollout> {
    let wanted = set.spec.replicas?;
    let status = set.status.as_ref();
    let observed = status.and_then(|status| status.observed_generation) >= set.metadata.generation;
    let replicas = status.map_or(0, |status| status.replicas);
    // The controller counts only pods of the newest revision as updated; 1.20 omits a count of 0.
    let updated = match status {
        Some(status) if status.current_revision == status.update_revision => replicas,
        Some(status) => status.updated_replicas.unwrap_or(0),
        None => 0,
    };
    (!observed || replicas != wanted || updated < wanted).then(|| Rollout {
        set: set.name_any(),
        updated,
        replicas: wanted,
    })
}

#[cfg(test)]
pub mod tests {
    use super::*;

    fn pod(name: &str) -> PodState {
        PodState {
            name: name.into(),
            phase: "Running".into(),
            restarts: 0,
            node: None,
        }
    }

    fn master(name: &str, status: MasterStatus) -> MasterState {
        MasterState {
            pod: pod(name),
            status: Some(status),
            web_ui: None,
        }
    }

    /// A small cluster in service, with an application.
    pub fn state() -> ClusterState {
        ClusterState {
            name: "spark".into(),
            namespace: "data".into(),
            image: "spark:4.3.0".into(),
            ready: true,
            not_ready: vec![],
            warnings: vec![],
            master_url: "spark://spark-master-0:7077,spark-master-1:7077".into(),
            web_ui: "http://spark-master.data.k8s:8080".into(),
            masters: vec![
                master("spark-master-0", MasterStatus::Alive),
                master("spark-master-1", MasterStatus::Standby),
            ],
            zookeeper: ZooKeeperState::Managed {
                servers: vec![ServerState {
                    pod: pod("spark-zookeeper-0"),
                    mode: Some(ZooKeeperMode::Standalone),
                }],
            },
            workers: WorkersState {
                expected: 1,
                registered: 1,
                cores: 1,
                cores_used: 1,
                memory_mib: 1282,
                memory_used_mib: 600,
                expected_cores: 1,
                expected_memory_mib: 1282,
                pods: vec![WorkerState {
                    pod: pod("spark-worker-0"),
                    state: Some("ALIVE".into()),
                    cores: 1,
                    cores_used: 1,
                    memory_mib: 1282,
                    memory_used_mib: 600,
                    web_ui: None,
                }],
            },
            upgrade: None,
            alias: None,
            executors: None,
            history: None,
            connect: None,
            applications: vec![ApplicationReport {
                id: "app-1".into(),
                name: "squares".into(),
                cores: 1,
                user: "spark".into(),
                state: "RUNNING".into(),
                memory_per_executor: 600,
                started_ms: 0,
                duration: 0,
            }],
            rollouts: vec![],
            addresses: BTreeMap::new(),
        }
    }
}
