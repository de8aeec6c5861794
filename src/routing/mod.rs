//! The route table: which host name and port of the UI domain leads to which pod's web UI. Pure; every format and its order of application follow
//! from it.
//!
//! Routes only lead to listed pods with the labels of a managed cluster, and only to the pod's own UI ports: a rule for "any address in a host name"
//! would be an open proxy.

pub mod coredns;
pub mod dnsmasq;
pub mod gateway;
pub mod ingress;
pub mod nginx;
pub mod traefik;
pub mod vulcand;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::model::hosts::{history_host, leader_host, pod_host};
use crate::model::labels::{Component, INSTANCE, is_ours};
use crate::model::pods::has_ended;
use crate::model::ports::{DRIVER_UI_PORTS, HISTORY_UI_PORT, MASTER_UI_PORT, WORKER_UI_PORT};
use crate::spec::names::{ClusterName, UiDomain};

/// A host name and port, and the target of its requests.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// As browsers send it, in lower case and without a port.
    pub host: String,
    /// The port in Spark's own links; the target has the same.
    pub port: u16,
    pub target: IpAddr,
    pub owner: UiOwner,
}

/// The pod whose UI it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UiOwner {
    pub namespace: String,
    pub cluster: String,
    pub pod: String,
    pub role: Role,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// The cluster's web UI: that of the master that leads.
    Leader,
    Master,
    Worker,
    /// A running application.
    Driver,
    History,
}

/// A listed pod of a cluster: only such a pod can be the target of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutedPod {
    pub pod: String,
    pub component: Component,
    pub address: IpAddr,
}

/// The part of a managed cluster that determines its routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutedCluster {
    pub namespace: String,
    pub name: ClusterName,
    /// Its other name, see [`crate::spec::names::Alias`].
    pub alias: Option<ClusterName>,
    pub ui_domain: UiDomain,
    pub members: Vec<RoutedPod>,
    /// Name of the pod whose master leads.
    pub leader: Option<String>,
    /// Addresses of the running drivers' web UIs, as the leader lists them.
    pub driver_uis: Vec<String>,
}

/// All routes at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Table {
    /// Includes clusters without routes.
    pub clusters: Vec<ClusterEntry>,
    /// In order of host and port, each pair once.
    pub routes: Vec<Route>,
}

/// The table, as published while it is kept current.
#[derive(Clone, Default)]
pub struct Published {
    pub table: Arc<Table>,
    /// Everything has been listed, and every master queried, at least once.
    pub settled: bool,
}

/// A cluster, with or without routes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterEntry {
    pub namespace: String,
    pub name: String,
    /// Host of the web UI of the master that leads.
    pub host: String,
}

impl RoutedPod {
    /// The pod, if it belongs to this cluster, has not ended and is not being deleted. Drivers are the users' own pods: they name the cluster, but
    /// sparkha need not have made them.
    pub fn of(
        pod: &ObjectMeta,
        phase: Option<&str>,
        pod_ip: Option<&str>,
        namespace: &str,
        cluster: &str,
    ) -> Option<Self> {
        let labels = pod.labels.as_ref()?;
        let component = Component::of(labels)?;
        let is_of_cluster = pod.namespace.as_deref() == Some(namespace)
            && labels.get(INSTANCE).map(String::as_str) == Some(cluster)
            && (component == Component::Driver || is_ours(Some(labels)));
        let is_there = pod.deletion_timestamp.is_none() && !has_ended(phase);
        let address = pod_ip?.parse().ok()?;
        (is_of_cluster && is_there).then(|| Self {
            pod: pod.name.clone().unwrap_or_default(),
            component,
            address,
        })
    }
}

impl RoutedCluster {
    /// Host of the web UI of the master that leads.
    pub fn host(&self) -> String {
        let name = self.alias.as_ref().unwrap_or(&self.name);
        leader_host(name, &self.namespace, &self.ui_domain)
    }

    /// The names under which it is known.
    fn names(&self) -> impl Iterator<Item = &ClusterName> {
        std::iter::once(&self.name).chain(&self.alias)
    }

    /// Its routes. Without a leader, the cluster's own name has none.
    fn routes(&self) -> Vec<Route> {
        let route = |member: &RoutedPod, host: String, port, role| Route {
            host,
            port,
            target: member.address,
            owner: UiOwner {
                namespace: self.namespace.clone(),
                cluster: self.name.to_string(),
                pod: member.pod.clone(),
                role,
            },
        };
        let own_host = |member: &RoutedPod| pod_host(member.address, &self.namespace, &self.ui_domain);
        let mut routes = Vec::new();
        for member in &self.members {
            match member.component {
                Component::Master => {
                    routes.push(route(member, own_host(member), MASTER_UI_PORT, Role::Master));
                    if Some(&member.pod) == self.leader.as_ref() {
                        let hosts = self
                            .names()
                            .map(|name| leader_host(name, &self.namespace, &self.ui_domain));
                        routes.extend(hosts.map(|host| route(member, host, MASTER_UI_PORT, Role::Leader)));
                    }
                }
                Component::Worker => routes.push(route(member, own_host(member), WORKER_UI_PORT, Role::Worker)),
                Component::History => {
                    let hosts = self
                        .names()
                        .map(|name| history_host(name, &self.namespace, &self.ui_domain));
                    routes.extend(hosts.map(|host| route(member, host, HISTORY_UI_PORT, Role::History)));
                }
                // A driver's UI is where its application says.
                Component::Driver | Component::Connect | Component::ZooKeeper | Component::Cluster => {}
            }
        }
        for (host, port) in self.driver_uis.iter().filter_map(|url| driver_ui(url)) {
            // In cluster mode, drivers run in workers' pods.
            let member = self.members.iter().find(|member| {
                let has_drivers = matches!(
                    member.component,
                    Component::Driver | Component::Connect | Component::Worker
                );
                has_drivers && (own_host(member) == host || member.address.to_string() == host || member.pod == host)
            });
            if let Some(member) = member {
                routes.push(route(member, own_host(member), port, Role::Driver));
            }
        }
        routes
    }
}

impl Table {
    pub fn of<'a>(clusters: impl IntoIterator<Item = &'a RoutedCluster>) -> Self {
        let mut table = Self::default();
        for cluster in clusters {
            table.routes.extend(cluster.routes());
            table.clusters.push(ClusterEntry {
                namespace: cluster.namespace.clone(),
                name: cluster.name.to_string(),
                host: cluster.host(),
            });
        }
        table.clusters.sort();
        table.routes.sort();
        table.routes.dedup_by(|a, b| (&a.host, a.port) == (&b.host, b.port));
        table
    }

    /// A table from printed routes; its clusters are those with a leader.
    pub fn from_routes(mut routes: Vec<Route>) -> Self {
        routes.sort();
        routes.dedup_by(|a, b| (&a.host, a.port) == (&b.host, b.port));
        let leaders = routes.iter().filter(|route| route.owner.role == Role::Leader);
        let mut clusters: Vec<_> = leaders
            .map(|route| ClusterEntry {
                namespace: route.owner.namespace.clone(),
                name: route.owner.cluster.clone(),
                host: route.host.clone(),
            })
            .collect();
        clusters.sort();
        Self { clusters, routes }
    }

    /// The route of a host and port.
    pub fn find(&self, host: &str, port: u16) -> Option<&Route> {
        let at = self
            .routes
            .binary_search_by(|route| (route.host.as_str(), route.port).cmp(&(host, port)));
        self.routes.get(at.ok()?)
    }

    /// The route of a host requested without Spark's own port: its own UI, or else its first driver's.
    pub fn find_host(&self, host: &str) -> Option<&Route> {
        let first = self.routes.partition_point(|route| route.host.as_str() < host);
        let mut of_hosts = self.routes[first..].chunk_by(|a, b| a.host == b.host);
        main_route(of_hosts.next()?).filter(|route| route.host == host)
    }

    /// The cluster whose leader's web UI has this host.
    pub fn cluster_at(&self, host: &str) -> Option<&ClusterEntry> {
        self.clusters.iter().find(|cluster| cluster.host == host)
    }
}

/// One route for each host, for routers that cannot distinguish ports.
pub fn by_host(routes: &[Route]) -> impl Iterator<Item = &Route> {
    routes.chunk_by(|a, b| a.host == b.host).filter_map(main_route)
}

/// Of the routes of one host, the one to its pod's own UI, or else to its first driver's.
fn main_route(of_host: &[Route]) -> Option<&Route> {
    of_host
        .iter()
        .min_by_key(|route| (route.owner.role == Role::Driver, route.port))
}

/// Host and port of a driver's web UI, if the port is one that drivers use: an application must not lead to another port of its pod.
fn driver_ui(url: &str) -> Option<(String, u16)> {
    let url = Url::parse(url).ok().filter(|url| url.scheme() == "http")?;
    let port = url.port().filter(|port| DRIVER_UI_PORTS.contains(port))?;
    Some((url.host_str()?.trim_matches(['[', ']']).to_owned(), port))
}

/// The domain of a host of this namespace.
pub fn domain<'a>(host: &'a str, namespace: &str) -> Option<&'a str> {
    host.split_once(&format!(".{namespace}.")).map(|(_, domain)| domain)
}

/// The domains of a table's hosts.
pub fn domains(routes: &[Route]) -> Vec<String> {
    let domains = routes
        .iter()
        .filter_map(|route| domain(&route.host, &route.owner.namespace));
    domains
        .map(str::to_owned)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect()
}

/// The ports on which a router must listen.
pub fn ports(routes: &[Route]) -> BTreeSet<u16> {
    routes.iter().map(|route| route.port).collect()
}

/// `address:port`, as in URLs.
pub fn authority(route: &Route) -> String {
    SocketAddr::new(route.target, route.port).to_string()
}

#[cfg(test)]
pub mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::labels::{COMPONENT, MANAGED_BY, SPARKHA};

    fn pod(name: &str, component: &str, namespace: &str, instance: &str) -> ObjectMeta {
        let labels = json!({MANAGED_BY: SPARKHA, INSTANCE: instance, COMPONENT: component});
        serde_json::from_value(json!({"name": name, "namespace": namespace, "labels": labels})).unwrap()
    }

    fn member(pod: &ObjectMeta, ip: &str) -> Option<RoutedPod> {
        RoutedPod::of(pod, Some("Running"), Some(ip), "ns", "spark")
    }

    pub fn cluster() -> RoutedCluster {
        let pods = [
            ("spark-master-0", "master", "10.1.2.3", "ns", "spark"),
            ("spark-master-1", "master", "10.1.2.4", "ns", "spark"),
            ("spark-worker-0", "worker", "fd00::5", "ns", "spark"),
            ("spark-zookeeper-0", "zookeeper", "10.1.2.6", "ns", "spark"),
            // Not one of sparkha's.
            ("spark-worker-1", "worker", "10.1.2.7", "other", "spark"),
            ("etl-worker-0", "worker", "10.1.2.8", "ns", "etl"),
            ("spark-worker-2", "worker", "not an address", "ns", "spark"),
        ];
        let members = pods.iter().filter_map(|(name, component, ip, namespace, instance)| {
            member(&pod(name, component, namespace, instance), ip)
        });
        RoutedCluster {
            namespace: "ns".into(),
            name: ClusterName::parse("spark").unwrap(),
            alias: None,
            ui_domain: UiDomain::default(),
            members: members.collect(),
            leader: Some("spark-master-1".into()),
            driver_uis: vec![],
        }
    }

    fn lines(cluster: &RoutedCluster) -> Vec<String> {
        let line = |route: &Route| {
            let Route { host, port, owner, .. } = route;
            format!("{host}:{port} {} {:?} {}", authority(route), owner.role, owner.pod)
        };
        Table::of([cluster]).routes.iter().map(line).collect()
    }

    /// A small table for the formats' tests.
    pub fn table() -> Vec<Route> {
        Table::of([&cluster()]).routes
    }

    /// A table with a host that has two UIs.
    pub fn with_driver_beside_worker() -> Table {
        Table::of([&RoutedCluster {
            driver_uis: vec!["http://spark-fd00--5.ns.k8s:4040".into()],
            ..cluster()
        }])
    }

    #[test]
    fn routes_lead_only_to_listed_pods_on_their_own_ports() {
        assert_eq!(
            lines(&cluster()),
            [
                "spark-10-1-2-3.ns.k8s:8080 10.1.2.3:8080 Master spark-master-0",
                "spark-10-1-2-4.ns.k8s:8080 10.1.2.4:8080 Master spark-master-1",
                "spark-fd00--5.ns.k8s:8081 [fd00::5]:8081 Worker spark-worker-0",
                "spark-master.ns.k8s:8080 10.1.2.4:8080 Leader spark-master-1",
            ]
        );
        assert_eq!(domains(&table()), ["k8s"]);
        assert_eq!(ports(&table()), [8080, 8081].into());
    }

    #[test]
    fn without_a_leader_the_cluster_name_has_no_route() {
        let cluster = RoutedCluster {
            leader: None,
            ..cluster()
        };
        let table = Table::of([&cluster]);
        assert!(table.routes.iter().all(|route| route.owner.role != Role::Leader));
        assert!(table.find("spark-master.ns.k8s", 8080).is_none());
        assert_eq!(table.cluster_at("spark-master.ns.k8s").unwrap().name, "spark");
    }

    #[test]
    fn an_alias_leads_to_the_leader() {
        let cluster = RoutedCluster {
            alias: Some(ClusterName::parse("etl").unwrap()),
            ..cluster()
        };
        let leaders: Vec<_> = lines(&cluster)
            .into_iter()
            .filter(|line| line.contains("Leader"))
            .collect();
        assert_eq!(
            leaders,
            [
                "etl-master.ns.k8s:8080 10.1.2.4:8080 Leader spark-master-1",
                "spark-master.ns.k8s:8080 10.1.2.4:8080 Leader spark-master-1",
            ]
        );
        assert_eq!(
            Table::of([&cluster]).cluster_at("etl-master.ns.k8s").unwrap().name,
            "spark"
        );
    }

    #[test]
    fn driver_uis_need_a_listed_pod_and_a_driver_port() {
        let mut cluster = cluster();
        // A user's own pod: it names its cluster, and lacks sparkha's label.
        let mut driver = pod("job", "driver", "ns", "spark");
        driver.labels.as_mut().unwrap().remove(MANAGED_BY);
        cluster.members.extend(member(&driver, "10.1.2.9"));
        cluster.driver_uis = [
            "http://spark-10-1-2-9.ns.k8s:4040",
            "http://10.1.2.9:4041",
            "http://job:4042",
            // In cluster mode it runs in a worker's pod.
            "http://spark-fd00--5.ns.k8s:4040",
            // Not a driver's UI port, not listed, of another component, of another namespace.
            "http://spark-10-1-2-9.ns.k8s:7078",
            "http://169.254.169.254:4040",
            "http://10.1.2.6:4040",
            "http://spark-10-1-2-9.other.k8s:4043",
            "https://10.1.2.9:4044",
            "nonsense",
        ]
        .map(str::to_owned)
        .into();
        let drivers: Vec<_> = lines(&cluster)
            .into_iter()
            .filter(|line| line.contains("Driver"))
            .collect();
        assert_eq!(
            drivers,
            [
                "spark-10-1-2-9.ns.k8s:4040 10.1.2.9:4040 Driver job",
                "spark-10-1-2-9.ns.k8s:4041 10.1.2.9:4041 Driver job",
                "spark-10-1-2-9.ns.k8s:4042 10.1.2.9:4042 Driver job",
                "spark-fd00--5.ns.k8s:4040 [fd00::5]:4040 Driver spark-worker-0",
            ]
        );
        let table = Table::of([&cluster]);
        assert_eq!(
            table.find_host("spark-fd00--5.ns.k8s").unwrap().owner.role,
            Role::Worker
        );
        assert_eq!(table.find_host("spark-10-1-2-9.ns.k8s").unwrap().port, 4040);
        assert!(table.find_host("spark-10-1-2-").is_none());
        assert!(table.find_host("zzz").is_none());
    }

    #[test]
    fn a_history_server_has_its_own_host() {
        let mut cluster = cluster();
        let history = pod("spark-history-0", "history-server", "ns", "spark");
        cluster.members = member(&history, "10.1.2.10").into_iter().collect();
        assert_eq!(
            lines(&cluster),
            ["spark-history.ns.k8s:18080 10.1.2.10:18080 History spark-history-0"]
        );
    }

    #[test]
    fn a_pod_that_has_ended_or_is_being_deleted_has_no_route() {
        let mut pod = pod("spark-master-0", "master", "ns", "spark");
        assert!(member(&pod, "10.1.2.3").is_some());
        for (phase, has_route) in [(None, true), (Some("Succeeded"), false), (Some("Failed"), false)] {
            let routed = RoutedPod::of(&pod, phase, Some("10.1.2.3"), "ns", "spark");
            assert_eq!(routed.is_some(), has_route, "{phase:?}");
        }
        pod.deletion_timestamp = Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
        assert_eq!(member(&pod, "10.1.2.3"), None);
    }
}
