//! NetworkPolicies: the pods that may connect to each port of the cluster. Unused ports are closed, including the masters' REST port.
//! Egress is not restricted. The kubelet's probes and port-forwards are not affected.

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::model::labels::{COMPONENT, Component, INSTANCE, MANAGED_BY, NAME, SPARKHA, metadata, selector};
use crate::model::ports::{
    CONNECT_PORT, CONNECT_UI_PORT, DRIVER_UI_PORTS, HISTORY_UI_PORT, MASTER_PORT, MASTER_UI_PORT, WORKER_PORT,
    WORKER_PORTS, WORKER_UI_PORT, ZOOKEEPER_ELECTION_PORT, ZOOKEEPER_PEER_PORT, ZOOKEEPER_PORT,
};
use crate::spec::{self, ClusterSpec, Recovery, ServiceType};

pub fn network_policies(spec: &ClusterSpec) -> Vec<NetworkPolicy> {
    let Some(settings) = &spec.network_policy else {
        return vec![];
    };
    let mut policies = vec![
        masters(spec, settings),
        workers(spec, settings),
        drivers(spec, settings),
    ];
    if let Recovery::ManagedZooKeeper(_) = spec.recovery {
        policies.push(zookeepers(spec));
    }
    if spec.history.is_some() {
        policies.push(history(spec, settings));
    }
    if spec.connect.is_some() {
        policies.push(connect(spec, settings));
    }
    policies
}

fn masters(spec: &ClusterSpec, settings: &spec::NetworkPolicy) -> NetworkPolicy {
    let pages = match spec.web_ui.service_type {
        ServiceType::ClusterIp => {
            let own = [
                part(spec, Component::Master),
                part(spec, Component::Worker),
                part(spec, Component::Driver),
            ];
            admit(with(own.into(), &web_uis_from(settings)), [MASTER_UI_PORT])
        }
        // Reachable from outside of the cluster, where addresses are not known.
        ServiceType::NodePort | ServiceType::LoadBalancer => admit(vec![], [MASTER_UI_PORT]),
    };
    policy(
        spec,
        Component::Master,
        vec![admit(jobs(spec, settings), [MASTER_PORT]), pages],
    )
}

fn workers(spec: &ClusterSpec, settings: &spec::NetworkPolicy) -> NetworkPolicy {
    // A recovering leader connects to the workers in its recovery state.
    let rpc = WORKER_PORT..WORKER_PORT + WORKER_PORTS;
    policy(
        spec,
        Component::Worker,
        vec![
            // Executors and their block managers listen on ephemeral ports.
            admit(jobs(spec, settings), []),
            admit(vec![part(spec, Component::Master)], rpc),
            admit(web_uis_from(settings), [WORKER_UI_PORT]),
        ],
    )
}

fn drivers(spec: &ClusterSpec, settings: &spec::NetworkPolicy) -> NetworkPolicy {
    // A recovering leader connects to the drivers in its recovery state, on any port.
    let jobs = vec![part(spec, Component::Worker), part(spec, Component::Master)];
    policy(
        spec,
        Component::Driver,
        vec![admit(jobs, []), admit(web_uis_from(settings), DRIVER_UI_PORTS)],
    )
}

fn history(spec: &ClusterSpec, settings: &spec::NetworkPolicy) -> NetworkPolicy {
    policy(
        spec,
        Component::History,
        vec![admit(web_uis_from(settings), [HISTORY_UI_PORT])],
    )
}

/// The Spark Connect server: a driver that remote clients connect to.
fn connect(spec: &ClusterSpec, settings: &spec::NetworkPolicy) -> NetworkPolicy {
    let cluster = vec![part(spec, Component::Worker), part(spec, Component::Master)];
    let clients = with(vec![part(spec, Component::Driver)], &settings.drivers_from);
    policy(
        spec,
        Component::Connect,
        vec![
            admit(cluster, []),
            admit(clients, [CONNECT_PORT]),
            admit(web_uis_from(settings), [CONNECT_UI_PORT]),
        ],
    )
}

/// Executors and drivers.
fn jobs(spec: &ClusterSpec, settings: &spec::NetworkPolicy) -> Vec<NetworkPolicyPeer> {
    let mut own = vec![part(spec, Component::Worker), part(spec, Component::Driver)];
    own.extend(spec.connect.iter().map(|_| part(spec, Component::Connect)));
    with(own, &settings.drivers_from)
}

fn zookeepers(spec: &ClusterSpec) -> NetworkPolicy {
    let peers = vec![part(spec, Component::ZooKeeper)];
    policy(
        spec,
        Component::ZooKeeper,
        vec![
            admit(vec![part(spec, Component::Master)], [ZOOKEEPER_PORT]),
            admit(peers, [ZOOKEEPER_PEER_PORT, ZOOKEEPER_ELECTION_PORT]),
        ],
    )
}

/// Peers that may reach every web UI: sparkha's router in this namespace, and those of the cluster file. The namespace matters because everyone
/// can set these labels on pods of another namespace.
fn web_uis_from(settings: &spec::NetworkPolicy) -> Vec<NetworkPolicyPeer> {
    let router = NetworkPolicyPeer {
        pod_selector: Some(labelled([(NAME, SPARKHA), (MANAGED_BY, SPARKHA)])),
        ..Default::default()
    };
    with(vec![router], &settings.web_uis_from)
}

/// A component of this cluster, in its namespace.
fn part(spec: &ClusterSpec, component: Component) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        pod_selector: Some(pods(spec, component)),
        ..Default::default()
    }
}

fn pods(spec: &ClusterSpec, component: Component) -> LabelSelector {
    match component {
        // Users' own driver pods only need this label.
        Component::Driver => match spec.active_alias() {
            None => labelled([(INSTANCE, spec.name.as_str()), (COMPONENT, component.as_str())]),
            Some(alias) => LabelSelector {
                match_labels: Some([(COMPONENT.to_owned(), component.as_str().to_owned())].into()),
                match_expressions: Some(vec![LabelSelectorRequirement {
                    key: INSTANCE.into(),
                    operator: "In".into(),
                    values: Some(vec![spec.name.to_string(), alias.to_string()]),
                }]),
            },
        },
        _ => selector(spec, component),
    }
}

fn labelled(labels: [(&str, &str); 2]) -> LabelSelector {
    LabelSelector {
        match_labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
        ..Default::default()
    }
}

fn with(mut peers: Vec<NetworkPolicyPeer>, others: &[NetworkPolicyPeer]) -> Vec<NetworkPolicyPeer> {
    peers.extend_from_slice(others);
    peers
}

/// Admits peers to ports. No peers means everyone, and no ports means all ports.
fn admit(from: Vec<NetworkPolicyPeer>, ports: impl IntoIterator<Item = u16>) -> NetworkPolicyIngressRule {
    // Listed individually: servers before 1.22 ignore the end of a range.
    let ports: Vec<_> = ports
        .into_iter()
        .map(|port| NetworkPolicyPort {
            port: Some(IntOrString::Int(i32::from(port))),
            protocol: Some("TCP".into()),
            ..Default::default()
        })
        .collect();
    NetworkPolicyIngressRule {
        from: Some(from).filter(|from| !from.is_empty()),
        ports: Some(ports).filter(|ports| !ports.is_empty()),
    }
}

fn policy(spec: &ClusterSpec, component: Component, ingress: Vec<NetworkPolicyIngressRule>) -> NetworkPolicy {
    NetworkPolicy {
        metadata: metadata(spec, component.object_name(&spec.name), component),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(pods(spec, component)),
            policy_types: Some(vec!["Ingress".into()]),
            ingress: Some(ingress),
            ..Default::default()
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::spec::resolve::{Overrides, Source, resolve};

    /// The `ingress` of each policy, by name.
    fn ingress_of(text: &str) -> Vec<(String, Value)> {
        let spec = resolve(Some(Source { name: "f", text }), &Default::default()).unwrap();
        network_policies(&spec)
            .iter()
            .map(|policy| {
                let value = serde_json::to_value(policy).unwrap();
                let name = value["metadata"]["name"].as_str().unwrap().to_owned();
                (name, value["spec"]["ingress"].clone())
            })
            .collect()
    }

    fn names(text: &str) -> Vec<String> {
        ingress_of(text).into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn each_component_has_its_own_policy() {
        let default = ["spark-master", "spark-worker", "spark-driver", "spark-zookeeper"];
        assert_eq!(names(""), default);
        assert_eq!(names("masters: {count: 1}\n"), default[..3]);
        let external = "namespace: a\nzookeeper: {external: {servers: ['zk:2181']}}\n";
        assert_eq!(names(external), default[..3]);
        assert_eq!(names("networkPolicy: {enabled: false}\n"), [""; 0]);
    }

    #[test]
    fn selectors_of_pods_include_the_cluster() {
        let spec = resolve(None, &Default::default()).unwrap();
        for policy in network_policies(&spec) {
            let policy = policy.spec.unwrap();
            let rules = policy.ingress.unwrap();
            // A rule without peers would admit everyone.
            assert!(rules.iter().all(|rule| rule.from.is_some()), "{rules:#?}");
            let peers = rules.into_iter().flat_map(|rule| rule.from.unwrap());
            for peer in peers {
                assert_eq!(peer.namespace_selector, None);
                let labels = peer.pod_selector.unwrap().match_labels.unwrap();
                assert!(labels.get(NAME).is_some_and(|name| name == SPARKHA) || labels[INSTANCE] == "spark");
            }
            assert_eq!(policy.pod_selector.unwrap().match_labels.unwrap()[INSTANCE], "spark");
        }
    }

    #[test]
    fn a_later_generation_admits_drivers_labelled_with_its_alias() {
        let drivers = |active| {
            let flags = Overrides::generation("etl-2", active);
            serde_json::to_value(pods(&resolve(None, &flags).unwrap(), Component::Driver)).unwrap()
        };
        let of_one = json!({"matchLabels": {INSTANCE: "etl-2", COMPONENT: "driver"}});
        let of_both = json!({
            "matchLabels": {COMPONENT: "driver"},
            "matchExpressions": [{"key": INSTANCE, "operator": "In", "values": ["etl-2", "etl"]}],
        });
        assert_eq!((drivers(false), drivers(true)), (of_one, of_both));
    }

    #[test]
    fn listed_peers_reach_only_the_ports_they_are_listed_for() {
        let guest = json!({"ipBlock": {"cidr": "192.0.2.0/24"}});
        let admitted = |text: &str| -> Vec<String> {
            let rules = ingress_of(text).into_iter().flat_map(|(name, ingress)| {
                let rules = ingress.as_array().unwrap().clone();
                rules.into_iter().map(move |rule| (name.clone(), rule))
            });
            let with_guest = rules.filter(|(_, rule)| rule["from"].as_array().unwrap().contains(&guest));
            with_guest
                .map(|(name, rule)| format!("{name} {}", rule["ports"][0]["port"]))
                .collect()
        };
        assert_eq!(
            admitted("networkPolicy: {webUisFrom: [{ipBlock: {cidr: 192.0.2.0/24}}]}\n"),
            ["spark-master 8080", "spark-worker 8081", "spark-driver 4040"]
        );
        assert_eq!(
            admitted("networkPolicy: {driversFrom: [{ipBlock: {cidr: 192.0.2.0/24}}]}\n"),
            ["spark-master 7077", "spark-worker null"]
        );
    }

    #[test]
    fn an_exposed_web_ui_admits_everyone() {
        for kind in ["NodePort", "LoadBalancer"] {
            let ingress = ingress_of(&format!("webUi: {{serviceType: {kind}}}\n"));
            let everyone = json!({"ports": [{"port": 8080, "protocol": "TCP"}]});
            assert_eq!(ingress[0].1[1], everyone, "{kind}");
            assert!(
                ingress[1..]
                    .iter()
                    .all(|(_, ingress)| { ingress.as_array().unwrap().iter().all(|rule| rule["from"].is_array()) })
            );
        }
    }

    #[test]
    fn worker_sh_uses_the_open_ports() {
        let script = include_str!("files/worker.sh");
        assert!(script.contains(&format!("starts % {WORKER_PORTS}")), "{script}");
        let script = include_str!("files/until_led.sh");
        assert!(script.contains(&format!(" {MASTER_UI_PORT} ")), "{script}");
    }
}
