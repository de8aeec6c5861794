//! The route table: which host name and port of the UI domain leads to which pod's web UI. Pure; every format and the order to apply
//! them follows from it.
//!
//! Only addresses of pods that were listed, with the labels of a managed cluster, ever get into it, and only on that pod's own UI port: a
//! rule for "any address in a host name" would be an open proxy.

pub mod coredns;
pub mod dnsmasq;
pub mod gateway;
pub mod ingress;
pub mod nginx;
pub mod traefik;
pub mod vulcand;

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde::Serialize;

use crate::observe::{Facts, leader_host, pod_host, pods_of};
use crate::render::inventory::Inventory;
use crate::render::labels::{Component, is_of_cluster};
use crate::render::{MASTER_UI_PORT, WORKER_UI_PORT};
use crate::spark::MasterStatus;

/// One host name and port, and where it leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// As browsers send it, in lower case and without a port.
    pub host: String,
    /// The port that Spark's own links carry; the same at the target.
    pub port: u16,
    pub target: IpAddr,
    pub owner: Owner,
}

/// Whose UI it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    pub namespace: String,
    pub cluster: String,
    pub pod: String,
    pub role: Role,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// Whichever master leads now: the cluster's web UI.
    Leader,
    Master,
    Worker,
}

/// The routes of one cluster, in order of their hosts. Without a leader, the cluster's own name leads nowhere.
pub fn routes(namespace: &str, inventory: &Inventory, facts: &Facts) -> Vec<Route> {
    let summary = &inventory.cluster;
    let route = |pod: &Pod, host: String, port, role| {
        Some(Route {
            host: host.to_lowercase(),
            port,
            target: address(pod)?,
            owner: Owner {
                namespace: namespace.to_owned(),
                cluster: summary.name.clone(),
                pod: pod.name_any(),
                role,
            },
        })
    };
    let own_host = |pod: &Pod| pod_host(pod, namespace, &summary.ui_domain);
    let of = |component| pods_of(facts, component).filter(|pod| is_routed(pod, namespace, &summary.name));
    let masters = of(Component::Master).filter_map(|pod| route(pod, own_host(pod)?, MASTER_UI_PORT, Role::Master));
    let workers = of(Component::Worker).filter_map(|pod| route(pod, own_host(pod)?, WORKER_UI_PORT, Role::Worker));
    let leads = |pod: &&Pod| {
        let report = facts.masters.get(&pod.name_any());
        report.is_some_and(|report| report.as_ref().is_ok_and(|report| report.status == MasterStatus::Alive))
    };
    let leaders: Vec<_> = of(Component::Master).filter(leads).collect();
    // Two masters that both say ALIVE are for a moment possible; neither is the cluster's then.
    let leader = match leaders[..] {
        [leader] => route(leader, leader_host(summary, namespace), MASTER_UI_PORT, Role::Leader),
        _ => None,
    };
    let mut routes: Vec<_> = masters.chain(workers).chain(leader).collect();
    routes.sort();
    routes.dedup_by(|a, b| (&a.host, a.port) == (&b.host, b.port));
    routes
}

/// Whether a pod is of this very cluster, and there to be asked.
fn is_routed(pod: &Pod, namespace: &str, cluster: &str) -> bool {
    pod.namespace().as_deref() == Some(namespace)
        && is_of_cluster(pod.metadata.labels.as_ref(), cluster)
        && pod.metadata.deletion_timestamp.is_none()
}

fn address(pod: &Pod) -> Option<IpAddr> {
    pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()
}

/// The domains in which a table's hosts are.
pub fn domains(routes: &[Route]) -> Vec<String> {
    let mut domains: Vec<_> = routes
        .iter()
        .filter_map(|route| {
            let below = format!(".{}.", route.owner.namespace);
            route.host.split_once(&below).map(|(_, domain)| domain.to_owned())
        })
        .collect();
    domains.sort();
    domains.dedup();
    domains
}

/// The ports on which a router has to listen.
pub fn ports(routes: &[Route]) -> Vec<u16> {
    let mut ports: Vec<_> = routes.iter().map(|route| route.port).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// `address:port`, as URLs have it.
pub fn authority(route: &Route) -> String {
    std::net::SocketAddr::new(route.target, route.port).to_string()
}

#[cfg(test)]
pub mod tests {
    use serde_json::json;

    use super::*;
    use crate::render::labels::{INSTANCE, MANAGED_BY, SPARKHA};
    use crate::render::render;
    use crate::spec::resolve::{Source, resolve};

    fn pod(name: &str, component: &str, ip: &str, namespace: &str, instance: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": namespace, "labels": {
                MANAGED_BY: SPARKHA, INSTANCE: instance, crate::render::labels::COMPONENT: component,
            }},
            "status": {"podIP": ip},
        }))
        .unwrap()
    }

    fn report(status: &str) -> Result<crate::spark::MasterReport, String> {
        Ok(serde_json::from_value(json!({"status": status, "url": "spark://x"})).unwrap())
    }

    fn inventory() -> Inventory {
        let source = Source {
            name: "f",
            text: "namespace: ns\nmasters: {count: 2}\n",
        };
        let spec = resolve(Some(source), &Default::default()).unwrap();
        Inventory::of(&spec, &render(&spec)[1..])
    }

    fn facts() -> Facts {
        Facts {
            pods: vec![
                pod("spark-master-0", "master", "10.1.2.3", "ns", "spark"),
                pod("spark-master-1", "master", "10.1.2.4", "ns", "spark"),
                pod("spark-worker-0", "worker", "fd00::5", "ns", "spark"),
                pod("spark-zookeeper-0", "zookeeper", "10.1.2.6", "ns", "spark"),
                // None of ours.
                pod("spark-worker-1", "worker", "10.1.2.7", "other", "spark"),
                pod("etl-worker-0", "worker", "10.1.2.8", "ns", "etl"),
                pod("spark-worker-2", "worker", "not an address", "ns", "spark"),
            ],
            masters: [
                ("spark-master-0".into(), report("STANDBY")),
                ("spark-master-1".into(), report("ALIVE")),
            ]
            .into(),
            ..Facts::default()
        }
    }

    /// A small table for the formats' tests.
    pub fn table() -> Vec<Route> {
        routes("ns", &inventory(), &facts())
    }

    #[test]
    fn listed_pods_on_their_own_ports_and_nothing_else() {
        let lines: Vec<_> = table()
            .iter()
            .map(|route| {
                format!(
                    "{}:{} {} {:?} {}",
                    route.host,
                    route.port,
                    authority(route),
                    route.owner.role,
                    route.owner.pod
                )
            })
            .collect();
        assert_eq!(
            lines,
            [
                "spark-10-1-2-3.ns.k8s:8080 10.1.2.3:8080 Master spark-master-0",
                "spark-10-1-2-4.ns.k8s:8080 10.1.2.4:8080 Master spark-master-1",
                "spark-fd00--5.ns.k8s:8081 [fd00::5]:8081 Worker spark-worker-0",
                "spark-master.ns.k8s:8080 10.1.2.4:8080 Leader spark-master-1",
            ]
        );
        assert_eq!(domains(&table()), ["k8s"]);
        assert_eq!(ports(&table()), [8080, 8081]);
    }

    #[test]
    fn no_leader_or_two_lead_nowhere() {
        for statuses in [["STANDBY", "RECOVERING"], ["ALIVE", "ALIVE"]] {
            let mut facts = facts();
            facts.masters = (0..2)
                .map(|n| (format!("spark-master-{n}"), report(statuses[n])))
                .collect();
            let routes = routes("ns", &inventory(), &facts);
            assert!(
                routes.iter().all(|route| route.owner.role != Role::Leader),
                "{statuses:?}"
            );
        }
    }

    #[test]
    fn a_pod_that_is_being_deleted_is_no_target() {
        let mut facts = facts();
        facts.pods[0].metadata.deletion_timestamp =
            Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
        assert!(
            routes("ns", &inventory(), &facts)
                .iter()
                .all(|route| route.owner.pod != "spark-master-0")
        );
    }
}
