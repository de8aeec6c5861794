//! An external ZooKeeper ensemble: whether it lets the cluster in, beforehand, and its znodes removed in the end.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;

use super::Error;
use super::preflight::{Finding, Severity};
use crate::platform::kubernetes::{Cluster, ForwardGuard};
use crate::platform::local::store::ClusterDir;
use crate::platform::local::volumes::users;
use crate::render::inventory::{Inventory, ZooKeeperSummary};
use crate::render::kind::Kind;
use crate::report::progress::Progress;
use crate::sources::with_sources;
use crate::spec::names::{ClusterName, Namespace};
use crate::spec::{ClusterSpec, Recovery};
use crate::zookeeper::{self, Login};

/// How long the ensemble may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where the cluster is: there is the Secret with the login, and maybe another way to the servers.
pub enum Platform<'a> {
    Kubernetes(&'a Cluster),
    Local(&'a ClusterDir),
}

/// Whether an external ensemble answers, and lets the cluster in.
pub async fn check(platform: Platform<'_>, spec: &ClusterSpec) -> Vec<Finding> {
    let Recovery::ExternalZooKeeper(external) = &spec.recovery else {
        return vec![];
    };
    let answered = match connect(platform, &external.servers, external.secret.as_deref()).await {
        Ok(reached) => zookeeper::exists(&reached.client, "/").await.map(|_| ()),
        Err(error) => Err(error),
    };
    match answered {
        Ok(()) => vec![],
        Err(error) => vec![Finding::new(
            Severity::Failure,
            with_sources(&error),
            "check zookeeper.external; --skip-preflight goes on if only this machine cannot reach it",
        )],
    }
}

/// An external ensemble is left without this cluster's znodes, and with all others.
pub async fn remove_znodes(
    platform: Platform<'_>,
    name: &ClusterName,
    inventory: &Inventory,
    keep_data: bool,
    progress: &Progress,
) -> Result<(), Error> {
    let ZooKeeperSummary::External {
        servers,
        directory,
        secret,
    } = &inventory.cluster.zookeeper
    else {
        return Ok(());
    };
    if keep_data {
        progress.done(&format!("znodes below {directory} kept"));
        return Ok(());
    }
    // The path is built from checked names; still, nothing but a cluster's own folder may ever be removed.
    if !directory.ends_with(&format!("/{name}")) || !directory.contains("/sparkha/") {
        progress.warn(&format!(
            "{directory} is not a folder that sparkha makes; it is left alone"
        ));
        return Ok(());
    }
    let reached = connect(platform, servers, secret.as_deref()).await?;
    let root = directory.split("/sparkha/").next().unwrap_or_default();
    let removed = zookeeper::remove_tree(&reached.client, directory, root).await?;
    progress.done(&format!(
        "{removed} znodes removed from ZooKeeper at {}",
        servers.join(",")
    ));
    Ok(())
}

/// A session with an external ensemble, and the forwarded port it may need.
struct Reached {
    client: zookeeper_client::Client,
    _forward: Option<ForwardGuard>,
}

/// Connects from here; or, where the servers' names mean something only inside the cluster, through a pod behind that
/// Service. `secret` names the Secret with the login.
async fn connect(
    platform: Platform<'_>,
    servers: &[String],
    secret: Option<&str>,
) -> Result<Reached, zookeeper::Error> {
    let read = match (secret, &platform) {
        (Some(name), Platform::Kubernetes(cluster)) => login(cluster, name).await.map(Some),
        (Some(name), Platform::Local(dir)) => login_local(dir, name).map(Some),
        (None, _) => Ok(None),
    };
    let all = servers.join(",");
    let login = read.map_err(|reason| zookeeper::Error::Connect {
        servers: all.clone(),
        reason,
    })?;
    let refused = match zookeeper::connect(&all, login.as_ref(), TIMEOUT).await {
        Ok(client) => return Ok(Reached { client, _forward: None }),
        Err(error) => error,
    };
    let Platform::Kubernetes(cluster) = platform else {
        return Err(refused);
    };
    for server in servers {
        let Some((pod, namespace, port)) = pod_behind(cluster, server).await else {
            continue;
        };
        let there = cluster.in_namespace(namespace);
        let Ok(forward) = there.forward_listener(&pod, port).await else {
            continue;
        };
        let address = forward.address.to_string();
        if let Ok(client) = zookeeper::connect(&address, login.as_ref(), TIMEOUT).await {
            return Ok(Reached {
                client,
                _forward: Some(forward),
            });
        }
    }
    Err(refused)
}

async fn login(cluster: &Cluster, name: &str) -> Result<Login, String> {
    let found = cluster.get(Kind::Secret, name).await;
    let found = found.map_err(|error| with_sources(&error))?;
    let data = found.map(|secret| serde_json::from_value::<BTreeMap<String, ByteString>>(secret.data["data"].clone()));
    let data = data
        .ok_or_else(|| format!("there is no Secret {name}"))?
        .unwrap_or_default();
    login_of(name, |key| String::from_utf8(data.get(key)?.0.clone()).ok())
}

fn login_local(dir: &ClusterDir, name: &str) -> Result<Login, String> {
    let folder = users("secrets", dir, name)?;
    login_of(name, |key| fs::read_to_string(folder.join(key)).ok())
}

fn login_of(name: &str, value: impl Fn(&str) -> Option<String>) -> Result<Login, String> {
    // A shell that reads the mounted files leaves out the last line's end, too.
    let read = |key: &str| {
        let value = value(key).map(|value| value.trim_end_matches('\n').to_owned());
        value.ok_or_else(|| format!("Secret {name} has no {key}"))
    };
    Ok(Login {
        username: read("username")?,
        password: read("password")?,
    })
}

/// The pod, namespace and port to which `name[.service][.namespace][.svc…]:port` leads inside the cluster.
async fn pod_behind(cluster: &Cluster, server: &str) -> Option<(String, Namespace, u16)> {
    let (host, port) = server.rsplit_once(':')?;
    let port = port.parse().ok()?;
    let labels: Vec<_> = host
        .trim_end_matches('.')
        .split('.')
        .take_while(|&label| label != "svc")
        .collect();
    // `service`, `service.namespace`, `pod.service` or `pod.service.namespace`.
    let own = cluster.namespace().to_string();
    let candidates: Vec<(Option<&str>, &str, String)> = match labels[..] {
        [service] => vec![(None, service, own)],
        [first, second] => vec![(None, first, second.to_owned()), (Some(first), second, own)],
        [pod, service, namespace] => vec![(Some(pod), service, namespace.to_owned())],
        _ => vec![],
    };
    for (pod, service, namespace) in candidates {
        let Ok(namespace) = Namespace::parse(&namespace) else {
            continue;
        };
        let there = cluster.in_namespace(namespace.clone());
        let api = there.api::<Service>();
        let found = there
            .call(&format!("read Service {service}"), || api.get_opt(service))
            .await;
        let Ok(Some(found)) = found else { continue };
        if let Some(pod) = pod {
            return Some((pod.to_owned(), namespace, port));
        }
        let selector = found.spec?.selector?;
        let selector: Vec<_> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let pods = there.list_of::<Pod>(&selector.join(",")).await.ok()?;
        return Some((pods.first()?.name_any(), namespace, port));
    }
    None
}
