//! Services: one for each master, one in front of the cluster's web UI and of each part that has one pod, and the headless ones that give
//! pods their names.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::labels::{Component, identity, metadata};
use super::{
    CONNECT_PORT, HISTORY_UI_PORT, MASTER_PORT, MASTER_REST_PORT, MASTER_UI_PORT, WORKER_PORT, WORKER_UI_PORT,
    ZOOKEEPER_ELECTION_PORT, ZOOKEEPER_PEER_PORT, ZOOKEEPER_PORT,
};
use crate::spec::{ClusterSpec, Recovery, ServiceType};

const RPC: (&str, u16) = ("rpc", MASTER_PORT);
const UI: (&str, u16) = ("ui", MASTER_UI_PORT);
const REST: (&str, u16) = ("rest", MASTER_REST_PORT);

pub fn services(spec: &ClusterSpec) -> Vec<Service> {
    let mut services = vec![headless(
        spec,
        spec.name.masters_service(),
        Component::Master,
        &[RPC, UI, REST],
    )];
    services.extend((0..spec.masters.count).map(|ordinal| master(spec, ordinal)));
    services.push(web_ui(spec));
    services.push(headless(
        spec,
        spec.name.workers_service(),
        Component::Worker,
        &[("rpc", WORKER_PORT), ("ui", WORKER_UI_PORT)],
    ));
    if let Recovery::ManagedZooKeeper(_) = spec.recovery {
        services.push(headless(
            spec,
            spec.name.zookeeper(),
            Component::ZooKeeper,
            &[
                ("client", ZOOKEEPER_PORT),
                ("peer", ZOOKEEPER_PEER_PORT),
                ("election", ZOOKEEPER_ELECTION_PORT),
            ],
        ));
    }
    if spec.history.is_some() {
        services.push(single(
            spec,
            spec.name.history(),
            Component::History,
            &[("ui", HISTORY_UI_PORT)],
        ));
    }
    if spec.connect.is_some() {
        services.push(single(
            spec,
            spec.name.connect(),
            Component::Connect,
            &[("grpc", CONNECT_PORT)],
        ));
    }
    services
}

/// The Service of one master, of the very name of its pod: inside the pod the kubelet's /etc/hosts makes that name the
/// pod's own address, to which a master can bind; for everyone else it is an address that outlives the pod.
fn master(spec: &ClusterSpec, ordinal: u32) -> Service {
    let name = spec.name.master(ordinal);
    let mut selector = identity(spec, Component::Master);
    selector.insert("statefulset.kubernetes.io/pod-name".into(), name.clone());
    Service {
        metadata: metadata(spec, name, Component::Master),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".into()),
            selector: Some(selector),
            ports: Some(ports(&[RPC, UI, REST])),
            // A master must be reachable by its name while it starts, or no worker could register in time.
            publish_not_ready_addresses: Some(true),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn web_ui(spec: &ClusterSpec) -> Service {
    let web_ui = &spec.web_ui;
    let mut ports = ports(&[UI]);
    ports[0].node_port = web_ui.node_port.map(i32::from);
    let mut metadata = metadata(spec, spec.name.ui_service(), Component::Master);
    if !web_ui.annotations.is_empty() {
        metadata
            .annotations
            .get_or_insert_default()
            .extend(web_ui.annotations.clone());
    }
    let service_type = match web_ui.service_type {
        ServiceType::ClusterIp => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
    };
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(service_type.into()),
            selector: Some(identity(spec, Component::Master)),
            ports: Some(ports),
            load_balancer_ip: web_ui.load_balancer_ip.clone(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The Service of a part that has one pod, under an address that outlives it.
fn single(spec: &ClusterSpec, name: String, component: Component, named_ports: &[(&str, u16)]) -> Service {
    Service {
        metadata: metadata(spec, name, component),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".into()),
            selector: Some(identity(spec, component)),
            ports: Some(ports(named_ports)),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn headless(spec: &ClusterSpec, name: String, component: Component, named_ports: &[(&str, u16)]) -> Service {
    Service {
        metadata: metadata(spec, name, component),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".into()),
            cluster_ip: Some("None".into()),
            selector: Some(identity(spec, component)),
            ports: Some(ports(named_ports)),
            // ZooKeeper's servers must find each other before any of them can be ready.
            publish_not_ready_addresses: Some(true),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn ports(named_ports: &[(&str, u16)]) -> Vec<ServicePort> {
    named_ports
        .iter()
        .map(|&(name, port)| ServicePort {
            name: Some(name.into()),
            port: i32::from(port),
            target_port: Some(IntOrString::Int(i32::from(port))),
            // Kubernetes 1.20's server-side apply refuses a port without it ("omits key field").
            protocol: Some("TCP".into()),
            ..Default::default()
        })
        .collect()
}
