//! Gateway API: an HTTPRoute for each Service, with the same Services and addresses behind it as an Ingress. One route for all hosts is impossible: an
//! HTTPRoute has 16 at most, and a wildcard only matches a whole first label.

use serde_json::{Value, json};

use super::Route;
use super::ingress::{Addresses, backends, by_service, metadata};

/// All objects; `gateway` is the name of the Gateway in each cluster's namespace.
pub fn objects(routes: &[Route], gateway: &str) -> Vec<Value> {
    let http_routes = by_service(routes).into_iter().map(|((_, service), routes)| {
        let hosts: Vec<_> = routes.iter().map(|route| &route.host).collect();
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": metadata(service.clone(), &routes[0].owner),
            "spec": {
                "parentRefs": [{"name": gateway}], "hostnames": hosts,
                "rules": [{"backendRefs": [{"name": service, "port": routes[0].port}]}],
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
    use std::collections::HashSet;

    use super::*;
    use crate::routing::tests::{cluster, table};
    use crate::routing::{RoutedCluster, Table};
    use crate::spec::names::ClusterName;

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

    #[test]
    fn two_hosts_of_one_leader_are_one_route() {
        let cluster = RoutedCluster {
            alias: Some(ClusterName::parse("etl").unwrap()),
            ..cluster()
        };
        let objects = objects(&Table::of([&cluster]).routes, "edge");
        let names = objects
            .iter()
            .map(|object| (&object["kind"], &object["metadata"]["name"]));
        assert_eq!(names.clone().collect::<HashSet<_>>().len(), names.count());
        let is_leaders =
            |object: &&Value| object["kind"] == "HTTPRoute" && object["metadata"]["name"] == "spark-leader-ui";
        let leader = objects.iter().find(is_leaders).unwrap();
        assert_eq!(
            leader["spec"]["hostnames"],
            json!(["etl-master.ns.k8s", "spark-master.ns.k8s"])
        );
    }
}
