//! Gateway API: an HTTPRoute for each host, with the same Services and addresses behind it as an Ingress. One route for all hosts is impossible: an
//! HTTPRoute has 16 at most, and a wildcard only matches a whole first label.

use serde_json::{Value, json};

use super::ingress::{Addresses, backends, metadata, service_name};
use super::{Route, by_host};

/// All objects; `gateway` is the name of the Gateway in each cluster's namespace.
pub fn objects(routes: &[Route], gateway: &str) -> Vec<Value> {
    let http_routes = by_host(routes).map(|route| {
        let service = service_name(&route.owner);
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": metadata(service.clone(), &route.owner),
            "spec": {
                "parentRefs": [{"name": gateway}], "hostnames": [route.host],
                "rules": [{"backendRefs": [{"name": service, "port": route.port}]}],
            },
        })
    });
    // A server with a Gateway API is younger than EndpointSlices.
    let mut objects = backends(routes, Addresses::EndpointSlices);
    objects.extend(http_routes);
    objects
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::tests::table;

    #[test]
    fn a_route_for_each_host() {
        let objects = objects(&table()[3..], "edge");
        assert_eq!(objects.len(), 3);
        assert_eq!(
            objects[2]["spec"],
            json!({
                "parentRefs": [{"name": "edge"}], "hostnames": ["spark-master.ns.k8s"],
                "rules": [{"backendRefs": [{"name": "spark-leader-ui", "port": 8080}]}],
            })
        );
    }
}
