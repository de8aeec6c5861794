//! Checks an external ZooKeeper ensemble, claims the cluster's znode there and removes it at teardown.
//!
//! Several clusters share an ensemble, and the path `CHROOT/sparkha/NAMESPACE/NAME` does not identify the Kubernetes
//! cluster or machine. The znode's data therefore names its owner: a random id that is also in the cluster's inventory.
//! sparkha never uses or removes znodes below a znode of another owner, or of none.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use kube::ResourceExt;
use serde::{Deserialize, Serialize};

use crate::clients::zookeeper::{self, ZooKeeperLogin};
use crate::console::progress::Progress;
use crate::lifecycle::{Error, secret};
use crate::model::error_chain::with_sources;
use crate::model::finding::{Finding, Severity};
use crate::model::kind::Kind;
use crate::model::properties;
use crate::platform::kubernetes::{Cluster, ForwardGuard};
use crate::platform::leader::Leader;
use crate::platform::{Backend, Platform, random_id};
use crate::render::inventory::{Inventory, ZooKeeperSummary};
use crate::spec::names::{ClusterName, Namespace};
use crate::spec::{ClusterSpec, ExternalZooKeeper, Recovery};

/// Timeout of the ensemble's responses.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How many times a claim is tried while others change the znode.
const TRIES: u32 = 5;

/// The data of a cluster's znode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct ZnodeOwner {
    /// The id in the owner's inventory.
    owner: String,
    /// Description of the cluster.
    cluster: String,
}

/// Ownership of a znode.
#[derive(Clone, Debug, PartialEq)]
enum Ownership {
    Missing,
    /// It names no owner. `in_use`: masters run an election below it.
    Unowned {
        version: i32,
        in_use: bool,
    },
    Owned(ZnodeOwner),
}

/// Result of the preflight check.
pub struct ZnodeCheck {
    /// Whether the ensemble responded. Otherwise nothing is claimed.
    pub reached: bool,
    /// The id that owns or will own the cluster's znode; `None` if it was never claimed and cannot be claimed now.
    pub owner: Option<String>,
    pub findings: Vec<Finding>,
}

/// Checks that the external ensemble is reachable, accepts the login, and that the cluster's znode is free or its own.
/// `old` is the live inventory. `None` if the cluster uses no external ensemble.
pub async fn check(
    platform: &dyn Platform,
    spec: &ClusterSpec,
    old: Option<&Inventory>,
) -> Result<Option<ZnodeCheck>, Error> {
    let Recovery::ExternalZooKeeper(external) = &spec.recovery else {
        return Ok(None);
    };
    let known = old.and_then(|old| old.cluster.zookeeper.owner());
    let found = match connect(platform, &external.servers, external.secret.as_deref()).await {
        Ok(reached) => ownership(&reached.client, &external.directory).await,
        Err(error) => Err(error),
    };
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            let finding = Finding::new(
                Severity::Failure,
                with_sources(&error),
                "check zookeeper.external; pass --skip-preflight if only this machine cannot reach it",
            );
            return Ok(Some(ZnodeCheck {
                reached: false,
                owner: known.map(str::to_owned),
                findings: vec![finding],
            }));
        }
    };
    let mut owner = match known {
        Some(known) => known.to_owned(),
        None => random_id()?,
    };
    let mut findings = vec![];
    if let Some(holder) = found.holder(&owner) {
        // The cluster was created by an older sparkha, or its inventory was lost. A master of it that leads there
        // proves that the path is its own.
        if leads(platform, spec, external).await {
            if let Ownership::Owned(there) = &found {
                owner = there.owner.clone();
            }
        } else {
            findings.push(taken(external, &holder));
        }
    }
    Ok(Some(ZnodeCheck {
        reached: true,
        owner: Some(owner),
        findings,
    }))
}

fn taken(external: &ExternalZooKeeper, holder: &str) -> Finding {
    Finding::new(
        Severity::Clash,
        format!(
            "znode {} in ZooKeeper at {} {holder}",
            external.directory,
            external.servers.join(",")
        ),
        "choose another NAME or namespace, or give each Kubernetes cluster and machine its own zookeeper.external.chroot; if the \
         cluster that it names is gone for good, empty that znode's data (`set PATH ''` in zkCli.sh) and run this again",
    )
}

/// Creates the cluster's znode, or writes the owner to one that is unowned and unused. Returns true if it was created.
pub async fn claim(platform: &dyn Platform, spec: &ClusterSpec, owner: &str) -> Result<bool, Error> {
    let Recovery::ExternalZooKeeper(external) = &spec.recovery else {
        return Ok(false);
    };
    let reached = connect(platform, &external.servers, external.secret.as_deref()).await?;
    let (client, path) = (&reached.client, external.directory.as_str());
    let data = ZnodeOwner {
        owner: owner.to_owned(),
        cluster: platform.description(),
    };
    // Strings always serialise.
    let data = serde_json::to_vec(&data).unwrap_or_default();
    for _ in 0..TRIES {
        let found = ownership(client, path).await?;
        if let Some(holder) = found.holder(owner)
            && !leads(platform, spec, external).await
        {
            return Err(Error::Preflight {
                findings: vec![taken(external, &holder)],
            });
        }
        match found {
            Ownership::Missing => {
                if zookeeper::create(client, path, &data, reached.login.as_ref()).await? {
                    return Ok(true);
                }
            }
            Ownership::Unowned { version, .. } => {
                if zookeeper::write(client, path, &data, version).await? {
                    return Ok(false);
                }
            }
            Ownership::Owned(_) => return Ok(false),
        }
    }
    Err(Error::Preflight {
        findings: vec![taken(external, "is being changed by another process")],
    })
}

/// What teardown does with the znodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Znodes {
    Remove,
    /// They stay. If the ensemble is reachable, their owner is removed, so that the next cluster with this name can
    /// claim them.
    #[default]
    Keep,
}

/// Description of the znodes that teardown would remove; `None` if there are none.
pub fn removable(name: &ClusterName, namespace: &Namespace, inventory: &Inventory) -> Option<String> {
    let ZooKeeperSummary::External {
        servers,
        directory,
        owner: Some(_),
        ..
    } = &inventory.cluster.zookeeper
    else {
        return None;
    };
    chroot_of(directory, namespace, name)
        .map(|_| format!("the znodes below {directory} in ZooKeeper at {}", servers.join(",")))
}

/// Removes this cluster's znodes, and no others, from an external ensemble.
pub async fn remove_znodes(
    platform: &dyn Platform,
    inventory: &Inventory,
    znodes: Znodes,
    progress: &Progress,
) -> Result<(), Error> {
    let ZooKeeperSummary::External {
        servers,
        directory,
        secret,
        owner,
    } = &inventory.cluster.zookeeper
    else {
        return Ok(());
    };
    let left = |why: &str| progress.warn(&format!("The znodes below {directory} are not changed: {why}"));
    // An inventory that was copied from another namespace has the path of another cluster.
    let Some(chroot) = chroot_of(directory, platform.namespace(), platform.name()) else {
        left("the path is not this cluster's");
        return Ok(());
    };
    let Some(owner) = owner else {
        left("this cluster never claimed them");
        return Ok(());
    };
    let reached = match connect(platform, servers, secret.as_deref()).await {
        Ok(reached) => reached,
        Err(error) if znodes == Znodes::Keep => {
            progress.warn(&format!(
                "The znodes below {directory} are kept and still belong to this cluster: {}",
                with_sources(&error)
            ));
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    let client = &reached.client;
    let (data, version) = match zookeeper::read(client, directory).await? {
        Some(read) => read,
        None => return Ok(()),
    };
    match owner_in(&data) {
        Some(there) if there.is(owner) => {}
        Some(there) => {
            left(&format!("they belong to {}", there.cluster));
            return Ok(());
        }
        None => {
            left("they have no owner");
            return Ok(());
        }
    }
    if znodes == Znodes::Keep {
        zookeeper::write(client, directory, b"", version).await?;
        progress.done(&format!("znodes below {directory} kept"));
        return Ok(());
    }
    let removed = zookeeper::remove_tree(client, directory, chroot).await?;
    progress.done(&format!(
        "{removed} znodes removed from ZooKeeper at {}",
        servers.join(",")
    ));
    Ok(())
}

/// The znode that the user has chosen for clusters; `None` if the directory is not this cluster's.
fn chroot_of<'a>(directory: &'a str, namespace: &Namespace, name: &ClusterName) -> Option<&'a str> {
    directory.strip_suffix(&format!("/sparkha/{namespace}/{name}"))
}

async fn ownership(client: &zookeeper_client::Client, path: &str) -> Result<Ownership, zookeeper::Error> {
    let Some((data, version)) = zookeeper::read(client, path).await? else {
        return Ok(Ownership::Missing);
    };
    Ok(match owner_in(&data) {
        Some(owner) => Ownership::Owned(owner),
        None => Ownership::Unowned {
            version,
            in_use: zookeeper::has_children(client, &format!("{path}/leader_election")).await?,
        },
    })
}

fn owner_in(data: &[u8]) -> Option<ZnodeOwner> {
    if data.is_empty() {
        return None;
    }
    // Unreadable data belongs to another owner.
    Some(serde_json::from_slice(data).unwrap_or_else(|_| ZnodeOwner {
        owner: String::new(),
        cluster: format!(
            "an unknown owner that wrote `{}`",
            String::from_utf8_lossy(data).escape_debug()
        ),
    }))
}

impl ZnodeOwner {
    fn is(&self, owner: &str) -> bool {
        !owner.is_empty() && self.owner == owner
    }
}

impl Ownership {
    /// The other holder of the znode; `None` if it is free or owned by `owner`.
    fn holder(&self, owner: &str) -> Option<String> {
        match self {
            Ownership::Missing | Ownership::Unowned { in_use: false, .. } => None,
            Ownership::Owned(there) if there.is(owner) => None,
            Ownership::Owned(there) => Some(format!("belongs to {}", there.cluster)),
            Ownership::Unowned { in_use: true, .. } => {
                Some("is used by masters of another cluster that did not write its owner".into())
            }
        }
    }
}

/// Whether a running master of this cluster was elected below this path.
async fn leads(platform: &dyn Platform, spec: &ClusterSpec, external: &ExternalZooKeeper) -> bool {
    let conf = platform.object(Kind::ConfigMap, &spec.name.conf()).await.ok().flatten();
    let conf = conf.and_then(|conf| conf.try_parse::<ConfigMap>().ok());
    let pods = platform.pods().await.unwrap_or_default();
    let leader = Leader::new(platform.transport()).report(pods).await;
    let expected = [
        ("spark.deploy.zookeeper.dir", external.directory.clone()),
        ("spark.deploy.zookeeper.url", external.servers.join(",")),
    ];
    let expected = properties::write(&expected.map(|(key, value)| (key.to_owned(), value)).into());
    let is_configured = conf
        .and_then(|conf| conf.data)
        .unwrap_or_default()
        .into_values()
        .any(|file| {
            let mut expected = expected.lines();
            expected.all(|line| file.lines().any(|there| there == line))
        });
    is_configured && leader.is_some()
}

/// A session with an external ensemble, and the port-forward that it may need.
struct Session {
    client: zookeeper_client::Client,
    login: Option<ZooKeeperLogin>,
    _forward: Option<ForwardGuard>,
}

/// Connects from this machine. If the server names resolve only inside the cluster, connects through a pod of that
/// Service. `secret` names the Secret with the login.
async fn connect(
    platform: &dyn Platform,
    servers: &[String],
    secret: Option<&str>,
) -> Result<Session, zookeeper::Error> {
    let all = servers.join(",");
    let refused = |reason| zookeeper::Error::Connect {
        servers: all.clone(),
        reason,
    };
    let login = match secret {
        Some(name) => Some(login(platform, name).await.map_err(refused)?),
        None => None,
    };
    let connected = |client, forward| Session {
        client,
        login: login.clone(),
        _forward: forward,
    };
    let refused = match zookeeper::connect(&all, login.as_ref(), TIMEOUT).await {
        Ok(client) => return Ok(connected(client, None)),
        Err(error) => error,
    };
    let Backend::Kubernetes(cluster) = platform.backend() else {
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
            return Ok(connected(client, Some(forward)));
        }
    }
    Err(refused)
}

async fn login(platform: &dyn Platform, name: &str) -> Result<ZooKeeperLogin, String> {
    let values = platform.secret(name).await.map_err(|error| with_sources(&error))?;
    let read = |key: &str| secret::text(&values, key).ok_or_else(|| format!("Secret {name} has no {key}"));
    Ok(ZooKeeperLogin {
        username: read("username")?,
        password: read("password")?,
    })
}

/// The pod, namespace and port that `name[.service][.namespace][.svc…]:port` resolves to inside the cluster.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_free_or_own_znode_may_be_used() {
        let owned = |text: &str| Ownership::Owned(owner_in(text.as_bytes()).unwrap());
        let ours = owned(r#"{"owner": "1", "cluster": "cluster spark in namespace data of https://a"}"#);
        assert_eq!(ours.holder("1"), None);
        assert_eq!(
            ours.holder("2").unwrap(),
            "belongs to cluster spark in namespace data of https://a"
        );
        assert_eq!(Ownership::Missing.holder("1"), None);
        let unowned = |in_use| Ownership::Unowned { version: 0, in_use };
        assert_eq!(unowned(false).holder("1"), None);
        assert!(unowned(true).holder("1").is_some());
        // Unreadable data has another owner.
        assert_eq!(
            owned("a\nb").holder("").unwrap(),
            "belongs to an unknown owner that wrote `a\\nb`"
        );
    }

    #[test]
    fn an_inventory_copied_from_another_namespace_does_not_match_the_path() {
        let name = ClusterName::parse("spark").unwrap();
        let chroot = |path| chroot_of(path, &Namespace::parse("data").unwrap(), &name);
        assert_eq!(chroot("/sparkha/data/spark"), Some(""));
        assert_eq!(chroot("/team/sparkha/data/spark"), Some("/team"));
        assert_eq!(chroot("/sparkha/sparkha/data/spark"), Some("/sparkha"));
        for other in [
            "/sparkha/dev/spark",
            "/sparkha/data/spark2",
            "/sparkha/x-data/spark",
            "/data/spark",
            "/",
        ] {
            assert_eq!(chroot(other), None, "{other}");
        }
    }
}
