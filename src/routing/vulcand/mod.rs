//! Vulcand's objects, in the order in which Vulcand needs them: listener, backend, server, frontend. A frontend created before its backend stays 404.
//! IDs are full host names, because Vulcand reads and deletes by prefix: `spark-10-0-0-1` would swallow `spark-10-0-0-12`.
//!
//! A server's ID names the owner of its host: `sparkha.OWNER.NAMESPACE`. There is no other inventory.

pub mod diff;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};

use super::{Route, authority, by_host, ports};
use crate::model::subset::contains;
use crate::spec::names::{Namespace, OwnerName};

/// Prefix of the IDs of all servers that sparkha writes.
const SERVER_PREFIX: &str = "sparkha.";

/// One key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    pub key: String,
    pub value: String,
}

/// The ID of an object. Variants are in the order in which objects must be written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Id {
    Listener(String),
    Backend(String),
    Server { backend: String, id: String },
    Frontend(String),
}

impl Id {
    /// Its key below a root without a trailing slash.
    pub fn key(&self, root: &str) -> String {
        match self {
            Id::Listener(id) => format!("{root}/listeners/{id}"),
            Id::Backend(id) => format!("{root}/backends/{id}/backend"),
            Id::Server { backend, id } => format!("{root}/backends/{backend}/servers/{id}"),
            Id::Frontend(id) => format!("{root}/frontends/{id}/frontend"),
        }
    }

    /// The object of a key; `None` for objects that sparkha does not use, such as middlewares.
    pub fn of_key(root: &str, key: &str) -> Option<Self> {
        let path: Vec<_> = key.strip_prefix(root)?.strip_prefix('/')?.split('/').collect();
        let id = |id: &str| id.to_owned();
        Some(match path[..] {
            ["listeners", listener] => Id::Listener(id(listener)),
            ["backends", backend, "backend"] => Id::Backend(id(backend)),
            ["backends", backend, "servers", server] => Id::Server {
                backend: id(backend),
                id: id(server),
            },
            ["frontends", frontend, "frontend"] => Id::Frontend(id(frontend)),
            _ => return None,
        })
    }

    /// The host it belongs to.
    pub fn host(&self) -> Option<&str> {
        match self {
            Id::Listener(_) => None,
            Id::Backend(host) | Id::Server { backend: host, .. } | Id::Frontend(host) => Some(host),
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Id::Listener(id) => write!(f, "listener {id}"),
            Id::Backend(id) => write!(f, "backend {id}"),
            Id::Server { backend, id } => write!(f, "server {id} of backend {backend}"),
            Id::Frontend(id) => write!(f, "frontend {id}"),
        }
    }
}

/// The value of an object, as JSON text: there may be thousands, and parsed they take ten times the memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JsonText(String);

impl JsonText {
    /// The value as a tree; null if the text is not JSON.
    pub fn parse(&self) -> Value {
        serde_json::from_str(&self.0).unwrap_or_default()
    }

    /// Whether it has every field of `part`.
    fn contains(&self, part: &Self) -> bool {
        self == part || contains(&self.parse(), &part.parse())
    }
}

impl From<Value> for JsonText {
    fn from(value: Value) -> Self {
        Self(value.to_string())
    }
}

impl From<Vec<u8>> for JsonText {
    fn from(bytes: Vec<u8>) -> Self {
        Self(String::from_utf8(bytes).unwrap_or_default())
    }
}

impl fmt::Display for JsonText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A desired object.
#[derive(Clone, Debug, PartialEq)]
pub struct VulcandObject {
    pub id: Id,
    pub value: JsonText,
}

/// Whose hosts are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    Namespace(Namespace),
    All,
}

impl Scope {
    /// Whether the server belongs to the owner, within the scope.
    fn has(&self, server: &str, owner: &OwnerName) -> bool {
        match self {
            Scope::Namespace(namespace) => server == server_id(owner, namespace.as_str()),
            // Neither owners nor namespaces contain dots.
            Scope::All => server.starts_with(&server_id(owner, "")),
        }
    }
}

fn server_id(owner: &OwnerName, namespace: &str) -> String {
    format!("{SERVER_PREFIX}{owner}.{namespace}")
}

fn listener_id(owner: &OwnerName, port: u16) -> String {
    format!("sparkha-{owner}-{port}")
}

/// All objects of a table's routes, in the order in which they must be written.
///
/// `Host()` has no port: of several UIs at one host, only its pod's own is routed.
pub fn objects(routes: &[Route], owner: &OwnerName, listen: IpAddr) -> Vec<VulcandObject> {
    let hosts: Vec<_> = by_host(routes).cloned().collect();
    let listeners = ports(&hosts).into_iter().map(|port| {
        let address = json!({"Network": "tcp", "Address": SocketAddr::new(listen, port).to_string()});
        VulcandObject {
            id: Id::Listener(listener_id(owner, port)),
            value: json!({"Protocol": "http", "Address": address}).into(),
        }
    });
    // With the defaults, a pod that is gone would cost a browser 55 s.
    let settings = json!({
        "Timeouts": {"Read": "30s", "Dial": "2s"},
        "KeepAlive": {"Period": "30s", "MaxIdleConnsPerHost": 64},
    });
    let backend = JsonText::from(json!({"Type": "http", "Settings": settings}));
    listeners
        .chain(hosts.iter().flat_map(|route| host(route, &backend, owner)))
        .collect()
}

fn host(route: &Route, backend: &JsonText, owner: &OwnerName) -> [VulcandObject; 3] {
    let id = &route.host;
    [
        VulcandObject {
            id: Id::Backend(id.clone()),
            value: backend.clone(),
        },
        VulcandObject {
            id: Id::Server {
                backend: id.clone(),
                id: server_id(owner, &route.owner.namespace),
            },
            value: json!({"URL": format!("http://{}", authority(route))}).into(),
        },
        VulcandObject {
            id: Id::Frontend(id.clone()),
            value: json!({
                "Type": "http", "BackendId": id, "Route": format!("Host(`{id}`)"),
                "Settings": {"PassHostHeader": true},
            })
            .into(),
        },
    ]
}

/// The keys as `etcdctl` commands, in order, below `root` (Vulcand's default is `/vulcand`).
pub fn commands(routes: &[Route], root: &str, owner: &OwnerName, listen: IpAddr) -> String {
    let root = root.trim_end_matches('/');
    let keys: Vec<_> = objects(routes, owner, listen)
        .into_iter()
        .map(|object| KeyValue {
            key: object.id.key(root),
            value: object.value.to_string(),
        })
        .collect();
    format!(
        "# The order matters: a frontend before its backend stays 404.\n{}",
        etcdctl(&keys)
    )
}

/// Keys as `etcdctl` commands; `etcdctl` reads the server's address from its environment.
pub fn etcdctl(keys: &[KeyValue]) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
    let lines = keys
        .iter()
        .map(|KeyValue { key, value }| format!("etcdctl put {} {}\n", quoted(key), quoted(value)));
    format!("export ETCDCTL_API=3\n{}", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::tests::table;

    #[test]
    fn a_table_becomes_ordered_keys() {
        let owner = OwnerName::parse("kubernetes").unwrap();
        let keys: Vec<_> = objects(&table()[3..], &owner, [0, 0, 0, 0].into())
            .into_iter()
            .map(|VulcandObject { id, value }| format!("{} {value}", id.key("/vulcand")))
            .collect();
        assert_eq!(
            keys,
            [
                r#"/vulcand/listeners/sparkha-kubernetes-8080 {"Address":{"Address":"0.0.0.0:8080","Network":"tcp"},"Protocol":"http"}"#,
                r#"/vulcand/backends/spark-master.ns.k8s/backend {"Settings":{"KeepAlive":{"MaxIdleConnsPerHost":64,"Period":"30s"},"Timeouts":{"Dial":"2s","Read":"30s"}},"Type":"http"}"#,
                r#"/vulcand/backends/spark-master.ns.k8s/servers/sparkha.kubernetes.ns {"URL":"http://10.1.2.4:8080"}"#,
                r#"/vulcand/frontends/spark-master.ns.k8s/frontend {"BackendId":"spark-master.ns.k8s","Route":"Host(`spark-master.ns.k8s`)","Settings":{"PassHostHeader":true},"Type":"http"}"#,
            ]
        );
        assert_eq!(
            commands(&table()[3..], "/vulcand/", &owner, [0, 0, 0, 0].into())
                .lines()
                .nth(2)
                .unwrap(),
            r#"etcdctl put '/vulcand/listeners/sparkha-kubernetes-8080' '{"Address":{"Address":"0.0.0.0:8080","Network":"tcp"},"Protocol":"http"}'"#
        );
    }

    #[test]
    fn only_the_first_ui_of_a_host_is_routed() {
        let owner = OwnerName::parse("kubernetes").unwrap();
        let mut routes = vec![table()[3].clone(), table()[3].clone()];
        routes[0].port = 8090;
        let of = |routes: &[Route]| objects(routes, &owner, [0, 0, 0, 0].into());
        assert_eq!(of(&routes), of(&table()[3..]), "and there is no listener for the other");
    }

    #[test]
    fn keys_are_parsed_back_to_ids() {
        let owner = OwnerName::parse("kubernetes").unwrap();
        for VulcandObject { id, .. } in objects(&table(), &owner, [0, 0, 0, 0].into()) {
            assert_eq!(Id::of_key("vulcand", &id.key("vulcand")), Some(id));
        }
        for other in [
            "vulcand/hosts/x/host",
            "vulcand/frontends/x/middlewares/m",
            "vulcand2/listeners/x",
            "vulcand",
        ] {
            assert_eq!(Id::of_key("vulcand", other), None, "{other}");
        }
    }

    #[test]
    fn no_id_is_a_prefix_of_another() {
        let ids: Vec<_> = table().iter().map(|route| route.host.clone()).collect();
        for a in &ids {
            assert_eq!(ids.iter().filter(|b| b.starts_with(a.as_str())).count(), 1);
        }
    }

    #[test]
    fn an_owner_has_its_own_servers_only() {
        let owner = OwnerName::parse("blue").unwrap();
        let dev = Scope::Namespace(Namespace::parse("dev").unwrap());
        for (server, in_namespace, in_all) in [
            ("sparkha.blue.dev", true, true),
            ("sparkha.blue.dev2", false, true),
            ("sparkha.blue2.dev", false, false),
            ("sparkha.green.dev", false, false),
            ("pod", false, false),
        ] {
            assert_eq!(dev.has(server, &owner), in_namespace, "{server}");
            assert_eq!(Scope::All.has(server, &owner), in_all, "{server}");
        }
    }
}
