//! sparkha itself as a Deployment: the router, or `route watch`, with a Role that may only read the pods and inventories of one namespace.
//! Pure.

use serde_json::{Value, json};

use crate::model::labels::{COMPONENT, MANAGED_BY, NAME, SPARKHA};
use crate::model::ports::{DRIVER_UI_PORTS, HISTORY_UI_PORT, MASTER_UI_PORT, WORKER_UI_PORT};
use crate::spec::ServiceType;

/// Container port behind port 80 or 443 of the Service: an unprivileged user cannot listen below 1024.
pub const ANY_UI_PORT: u16 = 8000;
/// Container port for DNS.
pub const DNS_PORT: u16 = 5353;
/// Container port for metrics and health.
pub const METRICS_PORT: u16 = 9090;
/// User ID in sparkha's image, without privileges.
const UID: u32 = 65532;

/// The Deployment.
pub struct Deployed {
    /// Name of all objects.
    pub name: &'static str,
    pub namespace: String,
    pub image: String,
    /// Arguments of sparkha.
    pub args: Vec<String>,
    pub replicas: u32,
    /// Secrets, each mounted at /etc/sparkha/NAME.
    pub secrets: Vec<String>,
    /// Only for a router.
    pub router: Option<RouterService>,
}

/// The Service of a router.
pub struct RouterService {
    pub service_type: ServiceType,
    pub tls: bool,
    pub dns: bool,
}

/// All objects, in the order of applying.
pub fn objects(deployed: &Deployed) -> Vec<Value> {
    let name = deployed.name;
    let metadata = metadata(name, deployed);
    let subject = json!({"kind": "ServiceAccount", "name": name, "namespace": deployed.namespace});
    let look = ["get", "list", "watch"];
    let mut objects = vec![
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata,
            "rules": [{"apiGroups": [""], "resources": ["pods", "configmaps"], "verbs": look}],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}, "subjects": [subject],
        }),
    ];
    if let Some(router) = &deployed.router {
        objects.extend(services(deployed, router));
    }
    objects.push(json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
        "spec": {
            "replicas": deployed.replicas,
            "selector": {"matchLabels": labels(name)},
            "template": {"metadata": {"labels": labels(name)}, "spec": pod(deployed)},
        },
    }));
    objects
}

fn labels(name: &str) -> Value {
    json!({NAME: SPARKHA, COMPONENT: name, MANAGED_BY: SPARKHA})
}

fn metadata(name: &str, deployed: &Deployed) -> Value {
    json!({"name": name, "namespace": deployed.namespace, "labels": labels(deployed.name)})
}

fn services(deployed: &Deployed, router: &RouterService) -> Vec<Value> {
    let port = |name: String, port: u16, target: u16, protocol: &str| json!({"name": name, "port": port, "targetPort": target, "protocol": protocol});
    let (any, at) = if router.tls { ("https", 443) } else { ("http", 80) };
    let mut web = vec![port(any.into(), at, ANY_UI_PORT, "TCP")];
    web.extend(spark_ports().map(|at| port(format!("spark-{at}"), at, at, "TCP")));
    let service = |name: &str, ports: Vec<Value>| {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": metadata(name, deployed),
            "spec": {"type": router.service_type, "selector": labels(deployed.name), "ports": ports},
        })
    };
    let mut services = vec![service(deployed.name, web)];
    if router.dns {
        let mut ports = vec![port("dns".into(), 53, DNS_PORT, "UDP")];
        // Load balancers with both protocols require 1.26.
        if router.service_type != ServiceType::LoadBalancer {
            ports.push(port("dns-tcp".into(), 53, DNS_PORT, "TCP"));
        }
        services.push(service(&format!("{}-dns", deployed.name), ports));
    }
    services
}

fn spark_ports() -> impl Iterator<Item = u16> {
    [MASTER_UI_PORT, WORKER_UI_PORT, HISTORY_UI_PORT]
        .into_iter()
        .chain(DRIVER_UI_PORTS)
}

fn pod(deployed: &Deployed) -> Value {
    let probe = |path: &str| json!({"httpGet": {"path": path, "port": METRICS_PORT}, "periodSeconds": 5});
    let mount = |name: &String| json!({"name": name, "mountPath": format!("/etc/sparkha/{name}"), "readOnly": true});
    let volume = |name: &String| json!({"name": name, "secret": {"secretName": name}});
    json!({
        "serviceAccountName": deployed.name,
        "enableServiceLinks": false,
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": UID, "runAsGroup": UID, "fsGroup": UID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumes": deployed.secrets.iter().map(volume).collect::<Vec<_>>(),
        "containers": [{
            "name": deployed.name,
            "image": deployed.image,
            "args": deployed.args,
            "ports": [{"name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP"}],
            "readinessProbe": probe("/readyz"),
            "livenessProbe": probe("/healthz"),
            // No CPU limit: throttling would slow down the router.
            "resources": {"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
            "securityContext": {
                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
            },
            "volumeMounts": deployed.secrets.iter().map(mount).collect::<Vec<_>>(),
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router() -> Deployed {
        Deployed {
            name: "sparkha-router",
            namespace: "data".into(),
            image: "sparkha:1".into(),
            args: vec!["router".into()],
            replicas: 2,
            secrets: vec!["tls".into()],
            router: Some(RouterService {
                service_type: ServiceType::ClusterIp,
                tls: false,
                dns: true,
            }),
        }
    }

    #[test]
    fn its_role_is_read_only() {
        let objects = objects(&router());
        let rules: Vec<_> = objects.iter().filter(|object| object["rules"].is_array()).collect();
        assert_eq!(rules.len(), 1);
        assert_eq!(rules[0]["kind"], "Role");
        assert_eq!(
            rules[0]["rules"],
            json!([{"apiGroups": [""], "resources": ["pods", "configmaps"], "verbs": ["get", "list", "watch"]}])
        );
        assert!(objects.iter().all(|object| object["metadata"]["namespace"] == "data"));
    }

    #[test]
    fn the_services_have_the_ports_of_sparks_links() {
        let objects = objects(&router());
        let ports = |name: &str| {
            let is_it = |object: &&Value| object["kind"] == "Service" && object["metadata"]["name"] == name;
            let service = objects.iter().find(is_it).unwrap();
            let ports = service["spec"]["ports"].as_array().unwrap().clone();
            ports
                .iter()
                .map(|port| {
                    format!(
                        "{} -> {} {}",
                        port["port"],
                        port["targetPort"],
                        port["protocol"].as_str().unwrap()
                    )
                })
                .collect::<Vec<_>>()
        };
        let web = ports("sparkha-router");
        assert_eq!(web[..3], ["80 -> 8000 TCP", "8080 -> 8080 TCP", "8081 -> 8081 TCP"]);
        assert_eq!(web.len(), 1 + 3 + 17);
        assert_eq!(ports("sparkha-router-dns"), ["53 -> 5353 UDP", "53 -> 5353 TCP"]);
    }
}
