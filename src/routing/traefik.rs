//! Traefik's dynamic configuration, for its file provider and for key-value stores. Its entry points are static configuration: one named
//! `sparkha-PORT` for each port.

use serde_json::{Map, Value, json};

use super::vulcand::KeyValue;
use super::{Route, authority};

/// For the file provider.
pub fn file(routes: &[Route]) -> Value {
    let mut routers = Map::new();
    let mut services = Map::new();
    for route in routes {
        let name = name(route);
        routers.insert(
            name.clone(),
            json!({"entryPoints": [entry_point(route)], "rule": rule(route), "service": name}),
        );
        let server = json!({"url": format!("http://{}", authority(route))});
        services.insert(name, json!({"loadBalancer": {"servers": [server]}}));
    }
    json!({"http": {"routers": routers, "services": services}})
}

/// For a key-value store, services before the routers that name them.
pub fn keys(routes: &[Route]) -> Vec<KeyValue> {
    let key = |path: String, value: String| KeyValue {
        key: format!("traefik/http/{path}"),
        value,
    };
    routes
        .iter()
        .flat_map(|route| {
            let name = name(route);
            [
                key(
                    format!("services/{name}/loadBalancer/servers/0/url"),
                    format!("http://{}", authority(route)),
                ),
                key(format!("routers/{name}/entryPoints/0"), entry_point(route)),
                key(format!("routers/{name}/service"), name.clone()),
                key(format!("routers/{name}/rule"), rule(route)),
            ]
        })
        .collect()
}

/// Host names have no underscore, so every route has its own name.
fn name(route: &Route) -> String {
    format!("{}_{}", route.host.replace('.', "_"), route.port)
}

fn entry_point(route: &Route) -> String {
    format!("sparkha-{}", route.port)
}

fn rule(route: &Route) -> String {
    format!("Host(`{}`)", route.host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::tests::table;

    #[test]
    fn the_file_and_the_keys_have_the_same_routes() {
        let routes = &table()[3..];
        assert_eq!(
            file(routes),
            json!({"http": {
                "routers": {"spark-master_ns_k8s_8080": {
                    "entryPoints": ["sparkha-8080"], "rule": "Host(`spark-master.ns.k8s`)", "service": "spark-master_ns_k8s_8080",
                }},
                "services": {"spark-master_ns_k8s_8080": {"loadBalancer": {"servers": [{"url": "http://10.1.2.4:8080"}]}}},
            }})
        );
        let keys: Vec<_> = keys(routes)
            .into_iter()
            .map(|KeyValue { key, value }| format!("{key}={value}"))
            .collect();
        assert_eq!(
            keys,
            [
                "traefik/http/services/spark-master_ns_k8s_8080/loadBalancer/servers/0/url=http://10.1.2.4:8080",
                "traefik/http/routers/spark-master_ns_k8s_8080/entryPoints/0=sparkha-8080",
                "traefik/http/routers/spark-master_ns_k8s_8080/service=spark-master_ns_k8s_8080",
                "traefik/http/routers/spark-master_ns_k8s_8080/rule=Host(`spark-master.ns.k8s`)",
            ]
        );
    }
}
