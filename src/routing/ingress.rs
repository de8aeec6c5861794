//! Ingress objects. Their backends must be Services, so each route gets a Service without a selector, and an EndpointSlice with the pod's address.
//!
//! An Ingress only listens on ports 80 and 443: links with 8080 or 8081 need another format. It cannot distinguish the ports of one host either: a
//! worker's host leads to the worker, not to a driver beside it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Role, Route, UiOwner, by_host};
use crate::model::labels::{INSTANCE, MANAGED_BY, SPARKHA};

/// The kind of object that holds the address behind a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    EndpointSlices,
    /// Deprecated since Kubernetes 1.33: for servers before 1.21, which mirror them into slices.
    Endpoints,
}

/// Services and their addresses first, then an Ingress for each cluster.
pub fn objects(routes: &[Route], addresses: Addresses, class: Option<&str>) -> Vec<Value> {
    let mut objects = backends(routes, addresses);
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

/// All Services, each with its address.
pub fn backends(routes: &[Route], addresses: Addresses) -> Vec<Value> {
    let objects = by_service(routes).into_iter().flat_map(|((_, name), routes)| {
        let route = routes[0];
        let metadata = metadata(name, &route.owner);
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": metadata,
            "spec": {"ports": [{"name": "ui", "port": route.port, "protocol": "TCP", "targetPort": route.port}]},
        });
        let address = match addresses {
            Addresses::EndpointSlices => endpoint_slice(metadata, route),
            Addresses::Endpoints => endpoints(metadata, route),
        };
        [service, address]
    });
    objects.collect()
}

/// `metadata` is the Service's.
fn endpoint_slice(mut metadata: Value, route: &Route) -> Value {
    metadata["labels"]["kubernetes.io/service-name"] = metadata["name"].clone();
    // By this, the control plane knows that the slice is not one of its own.
    metadata["labels"]["endpointslice.kubernetes.io/managed-by"] = json!(SPARKHA);
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata,
        "addressType": if route.target.is_ipv6() { "IPv6" } else { "IPv4" },
        "endpoints": [{"addresses": [route.target.to_string()], "conditions": {"ready": true}}],
        "ports": [{"name": "ui", "port": route.port, "protocol": "TCP"}],
    })
}

/// `metadata` is the Service's.
fn endpoints(metadata: Value, route: &Route) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Endpoints", "metadata": metadata,
        "subsets": [{
            "addresses": [{"ip": route.target.to_string()}],
            "ports": [{"name": "ui", "port": route.port, "protocol": "TCP"}],
        }],
    })
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

/// The routes, one for each host, by the namespace and name of the Service behind them. An alias gives one Service two hosts.
pub fn by_service(routes: &[Route]) -> BTreeMap<(&str, String), Vec<&Route>> {
    let mut services: BTreeMap<_, Vec<&Route>> = BTreeMap::new();
    for route in by_host(routes) {
        let service = (route.owner.namespace.as_str(), service_name(&route.owner));
        services.entry(service).or_default().push(route);
    }
    services
}

/// Name of the Service behind a route.
fn service_name(owner: &UiOwner) -> String {
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
    fn a_service_an_endpoint_slice_and_an_ingress() {
        let labels = json!({MANAGED_BY: SPARKHA, INSTANCE: "spark", crate::model::labels::COMPONENT: "route"});
        let named = |name: &str| json!({"name": name, "namespace": "ns", "labels": labels});
        let mut of_slice = named("spark-leader-ui");
        of_slice["labels"]["kubernetes.io/service-name"] = json!("spark-leader-ui");
        of_slice["labels"]["endpointslice.kubernetes.io/managed-by"] = json!(SPARKHA);
        assert_eq!(
            objects(&table()[3..], Addresses::EndpointSlices, Some("nginx")),
            [
                json!({
                    "apiVersion": "v1", "kind": "Service", "metadata": named("spark-leader-ui"),
                    "spec": {"ports": [{"name": "ui", "port": 8080, "protocol": "TCP", "targetPort": 8080}]},
                }),
                json!({
                    "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": of_slice, "addressType": "IPv4",
                    "endpoints": [{"addresses": ["10.1.2.4"], "conditions": {"ready": true}}],
                    "ports": [{"name": "ui", "port": 8080, "protocol": "TCP"}],
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
        assert_eq!(
            backends(&table()[3..], Addresses::Endpoints)[1],
            json!({
                "apiVersion": "v1", "kind": "Endpoints", "metadata": named("spark-leader-ui"),
                "subsets": [{"addresses": [{"ip": "10.1.2.4"}], "ports": [{"name": "ui", "port": 8080, "protocol": "TCP"}]}],
            })
        );
    }
}
