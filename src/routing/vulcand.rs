//! Vulcand's keys in etcd, in the order in which Vulcand needs them: backend, server, frontend; a frontend that comes before its backend
//! stays 404. IDs are full host names, for Vulcand reads and deletes by prefix: `spark-10-0-0-1` would swallow `spark-10-0-0-12`.

use std::net::{IpAddr, SocketAddr};

use serde_json::json;

use super::{Route, authority, ports};

/// One key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub key: String,
    pub value: String,
}

/// All keys below `root` (`/vulcand` unless Vulcand was told otherwise).
///
/// `Host()` knows no port: of several UIs at one host, only the one with the lowest port is routed.
pub fn keys(routes: &[Route], root: &str, listen: IpAddr) -> Vec<Key> {
    let root = root.trim_end_matches('/');
    let key = |path: String, value: serde_json::Value| Key {
        key: format!("{root}/{path}"),
        value: value.to_string(),
    };
    let listeners = ports(routes).into_iter().map(|port| {
        let address = json!({"Network": "tcp", "Address": SocketAddr::new(listen, port).to_string()});
        key(
            format!("listeners/sparkha-{port}"),
            json!({"Protocol": "http", "Address": address}),
        )
    });
    let mut keys: Vec<_> = listeners.collect();
    let mut hosts: Vec<&Route> = routes.iter().collect();
    hosts.dedup_by(|later, first| later.host == first.host);
    for route in hosts {
        let id = &route.host;
        // A pod that is gone must not cost a browser 55 s, as it does with the defaults.
        let settings = json!({
            "Timeouts": {"Read": "30s", "Dial": "2s"},
            "KeepAlive": {"Period": "30s", "MaxIdleConnsPerHost": 64},
        });
        keys.push(key(
            format!("backends/{id}/backend"),
            json!({"Type": "http", "Settings": settings}),
        ));
        keys.push(key(
            format!("backends/{id}/servers/pod"),
            json!({"URL": format!("http://{}", authority(route))}),
        ));
        keys.push(key(
            format!("frontends/{id}/frontend"),
            json!({
                "Type": "http", "BackendId": id, "Route": format!("Host(`{id}`)"),
                "Settings": {"PassHostHeader": true},
            }),
        ));
    }
    keys
}

/// The keys as `etcdctl` commands, in their order.
pub fn commands(routes: &[Route], root: &str, listen: IpAddr) -> String {
    format!(
        "# The order matters: a frontend before its backend stays 404.\n{}",
        etcdctl(&keys(routes, root, listen))
    )
}

/// Keys as commands of `etcdctl`, which reads the server's address from its environment.
pub fn etcdctl(keys: &[Key]) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
    let lines = keys
        .iter()
        .map(|Key { key, value }| format!("etcdctl put {} {}\n", quoted(key), quoted(value)));
    format!("export ETCDCTL_API=3\n{}", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::tests::table;

    #[test]
    fn keys_of_a_table() {
        let keys: Vec<_> = keys(&table()[3..], "/vulcand/", [0, 0, 0, 0].into())
            .into_iter()
            .map(|Key { key, value }| format!("{key} {value}"))
            .collect();
        assert_eq!(
            keys,
            [
                r#"/vulcand/listeners/sparkha-8080 {"Address":{"Address":"0.0.0.0:8080","Network":"tcp"},"Protocol":"http"}"#,
                r#"/vulcand/backends/spark-master.ns.k8s/backend {"Settings":{"KeepAlive":{"MaxIdleConnsPerHost":64,"Period":"30s"},"Timeouts":{"Dial":"2s","Read":"30s"}},"Type":"http"}"#,
                r#"/vulcand/backends/spark-master.ns.k8s/servers/pod {"URL":"http://10.1.2.4:8080"}"#,
                r#"/vulcand/frontends/spark-master.ns.k8s/frontend {"BackendId":"spark-master.ns.k8s","Route":"Host(`spark-master.ns.k8s`)","Settings":{"PassHostHeader":true},"Type":"http"}"#,
            ]
        );
    }

    #[test]
    fn no_id_is_a_prefix_of_another() {
        let ids: Vec<_> = table().iter().map(|route| format!("{}/", route.host)).collect();
        for a in &ids {
            assert_eq!(ids.iter().filter(|b| b.starts_with(a.as_str())).count(), 1);
        }
    }
}
