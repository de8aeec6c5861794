//! Services: one for each master, one for the cluster's web UI, one for each single-pod component, and headless Services for the pods'
//! names.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::model::labels::{Component, identity, metadata};
use crate::model::ports::{
    CONNECT_PORT, HISTORY_UI_PORT, MASTER_PORT, MASTER_UI_PORT, WORKER_PORT, WORKER_UI_PORT, ZOOKEEPER_ELECTION_PORT,
    ZOOKEEPER_PEER_PORT, ZOOKEEPER_PORT,
};
use crate::spec::names::ClusterName;
use crate::spec::{ClusterSpec, Recovery, ServiceType};

/// A port and its name.
pub type NamedPort = (&'static str, u16);

const MASTER_UI: NamedPort = ("ui", MASTER_UI_PORT);
const CONNECT: [NamedPort; 1] = [("grpc", CONNECT_PORT)];
/// Ports of a master, which its container and its Services share; likewise those of the other components.
pub const MASTER: [NamedPort; 2] = [("rpc", MASTER_PORT), MASTER_UI];
pub const WORKER: [NamedPort; 2] = [("rpc", WORKER_PORT), ("ui", WORKER_UI_PORT)];
pub const ZOOKEEPER: [NamedPort; 3] = [
    ("client", ZOOKEEPER_PORT),
    ("peer", ZOOKEEPER_PEER_PORT),
    ("election", ZOOKEEPER_ELECTION_PORT),
];
pub const HISTORY: [NamedPort; 1] = [("ui", HISTORY_UI_PORT)];

pub fn services(spec: &ClusterSpec) -> Vec<Service> {
    let mut services = vec![headless(spec, spec.name.masters_service(), Component::Master, &MASTER)];
    services.extend((0..spec.masters.count).map(|ordinal| master(spec, ordinal)));
    services.push(web_ui(spec));
    services.extend(spec.active_alias().map(|alias| exposed(spec, alias)));
    services.push(headless(spec, spec.name.workers_service(), Component::Worker, &WORKER));
    if let Recovery::ManagedZooKeeper(_) = spec.recovery {
        services.push(headless(spec, spec.name.zookeeper(), Component::ZooKeeper, &ZOOKEEPER));
    }
    if spec.history.is_some() {
        services.push(single(spec, spec.name.history(), Component::History, &HISTORY));
    }
    if spec.connect.is_some() {
        // Clients keep the address across generations.
        let names = [&spec.name].into_iter().chain(spec.active_alias());
        services.extend(names.map(|name| single(spec, name.connect(), Component::Connect, &CONNECT)));
    }
    services
}

/// The Service of one master, with the name of its pod. Inside the pod the kubelet's /etc/hosts resolves this name to the
/// pod's own address, to which the master can bind. For other pods the Service's address outlives the pod.
fn master(spec: &ClusterSpec, ordinal: u32) -> Service {
    let name = spec.name.master(ordinal);
    let mut selector = identity(spec, Component::Master);
    selector.insert("statefulset.kubernetes.io/pod-name".into(), name.clone());
    Service {
        metadata: metadata(spec, name, Component::Master),
        spec: Some(ServiceSpec {
            selector: Some(selector),
            // A master must be reachable by its name during its start, or workers could not register in time.
            publish_not_ready_addresses: Some(true),
            ..to_pods(spec, Component::Master, &MASTER)
        }),
        ..Default::default()
    }
}

/// The Service of the cluster's web UI. That of a later generation is only reachable within the cluster: see [`exposed`].
fn web_ui(spec: &ClusterSpec) -> Service {
    match spec.alias {
        None => exposed(spec, &spec.name),
        Some(_) => single(spec, spec.name.ui_service(), Component::Master, &[MASTER_UI]),
    }
}

/// The Services under the cluster's public name, so that external ports and addresses remain.
fn exposed(spec: &ClusterSpec, name: &ClusterName) -> Service {
    let web_ui = &spec.web_ui;
    let mut service = to_pods(spec, Component::Master, &[MASTER_UI]);
    for port in service.ports.iter_mut().flatten() {
        port.node_port = web_ui.node_port.map(i32::from);
    }
    let mut metadata = metadata(spec, name.ui_service(), Component::Master);
    if !web_ui.annotations.is_empty() {
        metadata
            .annotations
            .get_or_insert_default()
            .extend(web_ui.annotations.clone());
    }
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(web_ui.service_type.to_string()),
            load_balancer_ip: web_ui.load_balancer_ip.clone(),
            ..service
        }),
        ..Default::default()
    }
}

/// The Service of a single-pod component, with an address that outlives the pod.
fn single(spec: &ClusterSpec, name: String, component: Component, named_ports: &[NamedPort]) -> Service {
    Service {
        metadata: metadata(spec, name, component),
        spec: Some(to_pods(spec, component, named_ports)),
        ..Default::default()
    }
}

fn headless(spec: &ClusterSpec, name: String, component: Component, named_ports: &[NamedPort]) -> Service {
    Service {
        metadata: metadata(spec, name, component),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".into()),
            // ZooKeeper servers must connect to each other before any of them is ready.
            publish_not_ready_addresses: Some(true),
            ..to_pods(spec, component, named_ports)
        }),
        ..Default::default()
    }
}

/// A Service within the cluster for the pods of a component.
fn to_pods(spec: &ClusterSpec, component: Component, named_ports: &[NamedPort]) -> ServiceSpec {
    let ports = named_ports.iter().map(|&(name, port)| ServicePort {
        name: Some(name.into()),
        port: i32::from(port),
        target_port: Some(IntOrString::Int(i32::from(port))),
        // Kubernetes 1.20's server-side apply refuses a port without it ("omits key field").
        protocol: Some("TCP".into()),
        ..Default::default()
    });
    ServiceSpec {
        type_: Some(ServiceType::ClusterIp.to_string()),
        selector: Some(identity(spec, component)),
        ports: Some(ports.collect()),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::resolve::{Overrides, Source, resolve};

    /// Services of the web UI and of Connect, with their type and node port.
    fn outer(flags: &Overrides) -> Vec<String> {
        let text = "webUi: {serviceType: NodePort, nodePort: 30080}\nconnect: true\nworkers: {count: 2}\n";
        let source = Source {
            name: "sparkha.yaml",
            text,
        };
        let spec = resolve(Some(source), flags).unwrap();
        let services = services(&spec).into_iter();
        let outer = services.filter_map(|service| {
            let name = service.metadata.name.unwrap();
            let spec = service.spec.unwrap();
            assert_eq!(spec.selector.unwrap()["app.kubernetes.io/instance"], "etl-2");
            let port = spec.ports.unwrap()[0].node_port;
            let is_outer = name.ends_with("-master") || name.ends_with("-connect");
            is_outer.then(|| format!("{name} {} {port:?}", spec.type_.unwrap()))
        });
        outer.collect()
    }

    #[test]
    fn a_later_generation_is_exposed_under_its_alias() {
        let first = Overrides {
            alias: None,
            ..Overrides::generation("etl-2", false)
        };
        assert_eq!(
            outer(&first),
            ["etl-2-master NodePort Some(30080)", "etl-2-connect ClusterIP None"]
        );
        // The previous generation still has the alias.
        assert_eq!(
            outer(&Overrides::generation("etl-2", false)),
            ["etl-2-master ClusterIP None", "etl-2-connect ClusterIP None"]
        );
        assert_eq!(
            outer(&Overrides::generation("etl-2", true)),
            [
                "etl-2-master ClusterIP None",
                "etl-master NodePort Some(30080)",
                "etl-2-connect ClusterIP None",
                "etl-connect ClusterIP None",
            ]
        );
    }
}
