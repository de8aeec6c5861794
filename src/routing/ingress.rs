//! Ingress objects. Their backends must be Services, so each route gets a Service without a selector, and Endpoints with the pod's address.
//! (Endpoints, not EndpointSlices: every server since 1.20 serves them in the same version and mirrors them into slices.)
//!
//! An Ingress only listens on ports 80 and 443: links with 8080 or 8081 need another format. It cannot distinguish the ports of one host either: a
//! worker's host leads to the worker, not to a driver beside it.

use serde_json::{Value, json};

use super::{Role, Route, UiOwner, by_host};
use crate::model::labels::{INSTANCE, MANAGED_BY, SPARKHA};

/// Services and Endpoints first, then an Ingress for each cluster.
pub fn objects(routes: &[Route], class: Option<&str>) -> Vec<Value> {
    let mut objects = backends(routes);
    for (owner, routes) in by_cluster(routes) {
        let rules: Vec<_> = routes
            .into_iter()
            .map(|route| {
                let service = json!({"name": service_name(&route.owner), "port": {"number": route.port}});
                let path = json!({"path": "/", "pathType": "Prefix", "backend": {"service": service}});
                json!({"host": route.host, "http": {"paths": [path]}})
            })
            .collect();
        let mut ingress = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": metadata(format!("{}-ui", owner.cluster), owner),
            "spec": {"rules": rules},
        });
        if let Some(class) = class {
            ingress["spec"]["ingressClassName"] = json!(class);
        }
        objects.push(ingress);
    }
    objects
}

/// A Service and its Endpoints for each host.
pub fn backends(routes: &[Route]) -> Vec<Value> {
    let objects = by_host(routes).flat_map(|route| {
        let metadata = metadata(service_name(&route.owner), &route.owner);
        [
            json!({
                "apiVersion": "v1", "kind": "Service", "metadata": metadata,
                "spec": {"ports": [{"name": "ui", "port": route.port, "protocol": "TCP", "targetPort": route.port}]},
            }),
            json!({
                "apiVersion": "v1", "kind": "Endpoints", "metadata": metadata,
                "subsets": [{
                    "addresses": [{"ip": route.target.to_string()}],
                    "ports": [{"name": "ui", "port": route.port, "protocol": "TCP"}],
                }],
            }),
        ]
    });
    objects.collect()
}

/// Each cluster's routes, one for each host.
fn by_cluster(routes: &[Route]) -> Vec<(&UiOwner, Vec<&Route>)> {
    let mut clusters: Vec<(&UiOwner, Vec<&Route>)> = Vec::new();
    for route in by_host(routes) {
        let same =
            |owner: &UiOwner| (&owner.namespace, &owner.cluster) == (&route.owner.namespace, &route.owner.cluster);
        match clusters.iter_mut().find(|(owner, _)| same(owner)) {
            Some((_, routes)) => routes.push(route),
            None => clusters.push((&route.owner, vec![route])),
        }
    }
    clusters
}

/// Name of the Service behind a route.
pub fn service_name(owner: &UiOwner) -> String {
    match owner.role {
        Role::Leader => format!("{}-leader-ui", owner.cluster),
        Role::Master | Role::Worker | Role::Driver | Role::History => format!("{}-ui", owner.pod),
    }
}

pub fn metadata(name: String, owner: &UiOwner) -> Value {
    json!({
        "name": name, "namespace": owner.namespace,
        "labels": {MANAGED_BY: SPARKHA, INSTANCE: owner.cluster, crate::model::labels::COMPONENT: "route"},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::tests::table;

    #[test]
    fn a_service_endpoints_and_an_ingress() {
        let labels = json!({MANAGED_BY: SPARKHA, INSTANCE: "spark", crate::model::labels::COMPONENT: "route"});
        let named = |name: &str| json!({"name": name, "namespace": "ns", "labels": labels});
        assert_eq!(
            objects(&table()[3..], Some("nginx")),
            [
                json!({
                    "apiVersion": "v1", "kind": "Service", "metadata": named("spark-leader-ui"),
                    "spec": {"ports": [{"name": "ui", "port": 8080, "protocol": "TCP", "targetPort": 8080}]},
                }),
                json!({
                    "apiVersion": "v1", "kind": "Endpoints", "metadata": named("spark-leader-ui"),
                    "subsets": [{"addresses": [{"ip": "10.1.2.4"}], "ports": [{"name": "ui", "port": 8080, "protocol": "TCP"}]}],
                }),
                json!({
                    "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": named("spark-ui"),
                    "spec": {"ingressClassName": "nginx", "rules": [{"host": "spark-master.ns.k8s", "http": {"paths": [{
                        "path": "/", "pathType": "Prefix",
                        "backend": {"service": {"name": "spark-leader-ui", "port": {"number": 8080}}},
                    }]}}]},
                }),
            ]
        );
    }
}
