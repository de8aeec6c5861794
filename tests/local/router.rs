//! The built-in router: the real program between clients and servers that keep every byte.
//!
//! - [`refused`]: nobody reaches anything but listed web UIs.
//! - [`framing`]: two servers never see two different requests: smuggling, injection, limits.
//! - [`passing`]: what goes to the pod and comes back: headers, streams, kept connections, WebSocket.
//! - [`trouble`]: pods and clients that fail or dawdle, routes that change, and the router's end.
//! - [`strangers`]: pages of other sites, other users, and thousands of connections.
//! - [`access`]: TLS, passwords, tokens, and the log.
//! - [`cluster`]: real masters: who leads, and nobody.

mod access;
mod cluster;
mod framing;
mod passing;
mod refused;
mod strangers;
mod trouble;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::kit::client::Client;
use crate::kit::server::Router;
use crate::kit::sparkha;

/// The port at which the host alone decides.
const PORT: u16 = 8000;
const LEADER: &str = "spark-master.ns.k8s";

/// A router with routes from a file: a master that leads, and a worker that also has a driver. Each test has addresses of its own.
struct Stage {
    router: Router,
    number: u8,
    folder: TempDir,
}

/// The address of one of a test's pods: 1 is the master, 2 the worker, others are nobody's.
fn pod(number: u8, which: u8) -> String {
    format!("127.0.21.{}", number * 8 + which)
}

/// The name of one of a test's pods.
fn host(number: u8, which: u8) -> String {
    format!("spark-{}.ns.k8s", pod(number, which).replace('.', "-"))
}

fn route(host: &str, port: u16, target: &str, pod: &str, role: &str) -> Value {
    let owner = json!({"namespace": "ns", "cluster": "spark", "pod": pod, "role": role});
    json!({"host": host, "port": port, "target": target, "owner": owner})
}

fn routes(number: u8) -> Vec<Value> {
    let (master, worker) = (pod(number, 1), pod(number, 2));
    vec![
        route(LEADER, 8080, &master, "spark-master-0", "leader"),
        route(&host(number, 1), 8080, &master, "spark-master-0", "master"),
        route(&host(number, 2), 8081, &worker, "spark-worker-0", "worker"),
        route(&host(number, 2), 4040, &worker, "spark-worker-0", "driver"),
    ]
}

/// Replaces a file whole, as who writes routes does.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(&new, path).unwrap();
}

impl Stage {
    fn new(number: u8) -> Self {
        Self::with(number, &[])
    }

    /// With further arguments.
    fn with(number: u8, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("routes.json");
        std::fs::write(&file, json!(routes(number)).to_string()).unwrap();
        let mut command = sparkha(&["router", "--listen", &address(number), "--port", "8000", "--routes"]);
        let router = Router::run(command.arg(&file).args(arguments));
        Self { router, number, folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("routes.json")
    }

    fn address(&self) -> String {
        address(self.number)
    }

    #[track_caller]
    fn connect(&self, port: u16) -> Client {
        Client::connect((self.address().as_str(), port))
    }

    fn pod(&self, which: u8) -> String {
        pod(self.number, which)
    }

    fn host(&self, which: u8) -> String {
        host(self.number, which)
    }
}

/// Where a test's router listens.
fn address(number: u8) -> String {
    format!("127.0.9.{}", 100 + number)
}
