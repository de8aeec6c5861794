//! Checks before anything is changed: that the server responds, serves and allows the requests, has capacity, and that
//! names are free. Reports all findings at once.

pub mod capacity;
pub mod permissions;

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::version::Info;
use kube::ResourceExt;
use kube::api::Api;
use kube::core::{DynamicObject, ObjectMeta};

use crate::lifecycle::Error;
use crate::lifecycle::external_zookeeper::{self, ZnodeCheck};
use crate::lifecycle::inventory::read_inventory;
use crate::lifecycle::place::Place;
use crate::lifecycle::plan::LiveObjects;
use crate::model::finding::{Finding, Severity};
use crate::model::kind::Kind;
use crate::model::labels::{INSTANCE, cluster_selector, is_of_cluster, is_ours};
use crate::platform::kubernetes::{self, Cluster};
use crate::render::inventory::Inventory;
use crate::render::{Resource, render};
use crate::spec::ClusterSpec;

/// The oldest server that sparkha supports, as (major, minor).
const OLDEST: (u32, u32) = (1, 20);

/// The live state before create changes anything.
pub struct Snapshot {
    /// The resources to apply, only of kinds that the server serves.
    pub resources: Vec<Resource>,
    pub live: LiveObjects,
    pub inventory: Option<Inventory>,
    pub namespace: NamespaceState,
    /// The znodes in an external ZooKeeper, if the cluster uses one.
    pub znodes: Option<ZnodeCheck>,
    pub findings: Vec<Finding>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamespaceState {
    Missing,
    /// Created by sparkha.
    Ours,
    Others,
}

impl Snapshot {
    /// Whether there is no cluster with this name yet: neither an inventory nor objects.
    pub fn is_first(&self) -> bool {
        self.inventory.is_none() && self.live.is_empty()
    }

    /// Whether objects of a cluster with this name exist without an inventory.
    pub fn has_lost_inventory(&self) -> bool {
        self.inventory.is_none() && !self.live.is_empty()
    }
}

/// Runs all checks concurrently.
pub async fn preflight(cluster: &Cluster, spec: &ClusterSpec, skip: bool) -> Result<Snapshot, Error> {
    let mut resources = render(spec);
    let (version, absent, namespace) = futures::try_join!(
        version(cluster),
        absent_kinds(cluster, &resources),
        namespace_state(cluster),
    )?;
    let mut findings = version;
    for (kind, help) in absent {
        resources = without(spec, resources, kind);
        let message = format!(
            "this server does not serve {kind} ({}/v1); the cluster is created without it",
            kind.group()
        );
        findings.push(Finding::new(Severity::Warning, message, help));
    }
    let desired: Vec<_> = resources.iter().map(|r| (r.kind, r.name.as_str())).collect();
    let kinds = kinds(&desired);
    let (mut live, missing_permissions, names) = futures::try_join!(
        live(cluster, spec, &desired, namespace),
        permissions::missing_permissions(cluster, &resources, namespace),
        names(cluster, &desired, namespace),
    )?;
    let clashes = clashes(spec, &resources, &live, &names);
    findings.extend(missing_permissions);
    let inventory = match live.get(&(Kind::ConfigMap, spec.name.inventory())) {
        Some(object) => Some(read_inventory(object)?),
        None => None,
    };
    // Kinds that are no longer desired: their objects must be removed. Without an inventory all kinds are listed.
    let old = inventory.iter().flat_map(|inventory| &inventory.objects);
    let auth = spec.name.auth();
    let mut obsolete: Vec<_> = old.map(|entry| (entry.kind, entry.name.as_str())).collect();
    if inventory.is_none() && !live.is_empty() {
        // Secrets are read by name.
        obsolete.extend(Kind::ALL.map(|kind| (kind, auth.as_str())));
    }
    obsolete.retain(|(kind, _)| !kinds.contains(kind));
    if !obsolete.is_empty() {
        live.extend(self::live(cluster, spec, &obsolete, namespace).await?);
    }
    let sets: Vec<StatefulSet> = typed(
        resources
            .iter()
            .filter(|r| r.kind == Kind::StatefulSet)
            .map(|r| &r.object),
    );
    let live_values: Vec<_> = live
        .iter()
        .filter(|((kind, _), _)| *kind == Kind::StatefulSet)
        .filter_map(|(_, object)| serde_json::to_value(object).ok())
        .collect();
    let live_sets: Vec<StatefulSet> = typed(live_values.iter());
    let capacity = async {
        if skip {
            return vec![];
        }
        let (quota, nodes, storage, shared) = futures::join!(
            capacity::quota(cluster, &sets, &live_sets, namespace),
            capacity::nodes(cluster, spec, &sets),
            capacity::storage(cluster, spec),
            capacity::shared_claims(cluster, &sets, namespace),
        );
        [quota, nodes, storage, shared].into_iter().flatten().collect()
    };
    let place = &Place::Kubernetes(cluster.clone(), spec.name.clone());
    let znodes = external_zookeeper::check(place, spec, inventory.as_ref());
    let (capacity, znodes): (Vec<_>, _) = futures::join!(capacity, znodes);
    let znodes = znodes?;
    findings.extend(capacity);
    let (taken, unreachable): (Vec<_>, Vec<_>) = znodes
        .iter()
        .flat_map(|znodes| znodes.findings.iter().cloned())
        .partition(|finding| finding.severity == Severity::Clash);
    findings.extend(unreachable);
    if skip {
        for finding in &mut findings {
            finding.severity = Severity::Warning;
        }
    }
    // Never skipped: teardown would delete objects that create took over.
    findings.extend(clashes.into_iter().chain(taken));
    if findings.iter().any(|finding| finding.severity > Severity::Warning) {
        return Err(Error::Preflight { findings });
    }
    Ok(Snapshot {
        resources,
        live,
        inventory,
        namespace,
        znodes,
        findings,
    })
}

/// The resources without a kind. The inventory lists only the others.
fn without(spec: &ClusterSpec, resources: Vec<Resource>, kind: Kind) -> Vec<Resource> {
    let others: Vec<_> = resources
        .into_iter()
        .skip(1)
        .filter(|resource| resource.kind != kind)
        .collect();
    crate::render::with_inventory(spec, others)
}

async fn version(cluster: &Cluster) -> Result<Vec<Finding>, Error> {
    let info = server_version(cluster).await?;
    Ok(too_old(&info).into_iter().collect())
}

pub async fn server_version(cluster: &Cluster) -> Result<Info, kubernetes::Error> {
    let client = cluster.client();
    cluster
        .call("read the version of the API server", || client.apiserver_version())
        .await
}

/// A finding if the server is older than the oldest tested version.
pub fn too_old(info: &Info) -> Option<Finding> {
    let number = |text: &str| {
        let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or(0)
    };
    let version = (number(&info.major), number(&info.minor));
    (version != (0, 0) && version < OLDEST).then(|| {
        Finding::new(
            Severity::Warning,
            format!(
                "the API server is {}; sparkha is tested with 1.20 and newer",
                info.git_version
            ),
            "upgrade it if you run into problems",
        )
    })
}

/// Kind and name of an object.
type Named<'a> = (Kind, &'a str);

fn kinds(objects: &[Named<'_>]) -> BTreeSet<Kind> {
    objects.iter().map(|&(kind, _)| kind).collect()
}

/// Optional kinds that the server does not serve, with a hint.
async fn absent_kinds(cluster: &Cluster, resources: &[Resource]) -> Result<Vec<(Kind, &'static str)>, Error> {
    let kinds: BTreeSet<_> = resources.iter().map(|resource| resource.kind).collect();
    let optional = kinds.into_iter().filter_map(|kind| Some((kind, kind.absence()?)));
    let served = optional.map(|(kind, absence)| async move {
        let is_served = serves(cluster, kind).await?;
        Ok::<_, Error>((!is_served).then_some((kind, absence)))
    });
    let served = futures::future::try_join_all(served).await?;
    Ok(served.into_iter().flatten().collect())
}

async fn serves(cluster: &Cluster, kind: Kind) -> Result<bool, Error> {
    let client = cluster.client();
    let group = format!("{}/v1", kind.group());
    let served = cluster
        .call(&format!("list the kinds of {group}"), || {
            client.list_api_group_resources(&group)
        })
        .await;
    match served {
        Ok(list) => Ok(list.resources.iter().any(|resource| resource.name == kind.plural())),
        Err(kubernetes::Error::Rejected { code: 404, .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

pub async fn namespace_state(cluster: &Cluster) -> Result<NamespaceState, Error> {
    let api: Api<Namespace> = Api::all(cluster.client());
    let name = cluster.namespace().as_str();
    let found = cluster
        .call(&format!("read Namespace {name}"), || api.get_opt(name))
        .await;
    match found {
        Ok(None) => Ok(NamespaceState::Missing),
        Ok(Some(namespace)) if is_ours(namespace.metadata.labels.as_ref()) => Ok(NamespaceState::Ours),
        // A user who may not read namespaces was given an existing one.
        Ok(Some(_)) | Err(kubernetes::Error::Forbidden { .. }) => Ok(NamespaceState::Others),
        Err(error) => Err(error.into()),
    }
}

/// The cluster's live objects.
async fn live(
    cluster: &Cluster,
    spec: &ClusterSpec,
    objects: &[Named<'_>],
    namespace: NamespaceState,
) -> Result<LiveObjects, Error> {
    if namespace == NamespaceState::Missing {
        return Ok(LiveObjects::new());
    }
    let selector = cluster_selector(&spec.name);
    let lists = kinds(objects).into_iter().map(|kind| {
        let selector = &selector;
        async move {
            let found = match kind {
                Kind::Secret => secrets(cluster, objects).await.map(|mut secrets| {
                    secrets.retain(|secret| is_of_cluster(secret.metadata.labels.as_ref(), spec.name.as_str()));
                    secrets
                }),
                _ => cluster.list(kind, selector).await,
            };
            match found {
                Ok(objects) => Ok((kind, objects)),
                // Reported with all other missing permissions.
                Err(kubernetes::Error::Forbidden { .. }) => Ok((kind, vec![])),
                // A kind that is not served has no objects.
                Err(kubernetes::Error::Rejected { code: 404, .. }) => Ok((kind, vec![])),
                Err(error) => Err(error),
            }
        }
    });
    let lists = futures::future::try_join_all(lists).await?;
    Ok(lists
        .into_iter()
        .flat_map(|(kind, objects)| {
            objects
                .into_iter()
                .map(move |object| ((kind, object.name_any()), object))
        })
        .collect())
}

/// Reads Secrets by name, so that users need no permission to list all Secrets of a namespace.
async fn secrets(cluster: &Cluster, objects: &[Named<'_>]) -> Result<Vec<DynamicObject>, kubernetes::Error> {
    let desired = objects.iter().filter(|(kind, _)| *kind == Kind::Secret);
    let found = desired.map(|(_, name)| cluster.get(Kind::Secret, name));
    let found = futures::future::try_join_all(found).await?;
    Ok(found.into_iter().flatten().collect())
}

pub fn typed<'a, T: serde::de::DeserializeOwned>(values: impl Iterator<Item = &'a serde_json::Value>) -> Vec<T> {
    values
        .filter_map(|value| serde_json::from_value(value.clone()).ok())
        .collect()
}

/// The names that are in use, by any owner: one list per kind.
async fn names(
    cluster: &Cluster,
    objects: &[Named<'_>],
    namespace: NamespaceState,
) -> Result<Vec<(Kind, ObjectMeta)>, Error> {
    if namespace == NamespaceState::Missing {
        return Ok(vec![]);
    }
    let lists = kinds(objects).into_iter().map(|kind| async move {
        let found = match kind {
            Kind::Secret => {
                let secrets = secrets(cluster, objects).await;
                secrets.map(|secrets| secrets.into_iter().map(|secret| secret.metadata).collect())
            }
            _ => cluster.list_names(kind).await,
        };
        match found {
            Ok(found) => {
                let found: Vec<ObjectMeta> = found;
                Ok(found.into_iter().map(|metadata| (kind, metadata)).collect())
            }
            // Reported with all other missing permissions.
            Err(kubernetes::Error::Forbidden { .. }) => Ok(vec![]),
            Err(error) => Err(error),
        }
    });
    let lists: Vec<Vec<_>> = futures::future::try_join_all(lists).await?;
    Ok(lists.into_iter().flatten().collect())
}

/// Reports names that other objects already have. An object with this cluster's labels is ours even if it has just
/// appeared: then another sparkha process is running, and the lock reports it.
fn clashes(
    spec: &ClusterSpec,
    resources: &[Resource],
    live: &LiveObjects,
    names: &[(Kind, ObjectMeta)],
) -> Vec<Finding> {
    resources
        .iter()
        .filter(|resource| !live.contains_key(&(resource.kind, resource.name.clone())))
        .filter_map(|resource| {
            let has_name = |(kind, metadata): &&(Kind, ObjectMeta)| {
                *kind == resource.kind
                    && metadata.name.as_deref() == Some(resource.name.as_str())
                    && !is_of_cluster(metadata.labels.as_ref(), spec.name.as_str())
            };
            names
                .iter()
                .find(has_name)
                .map(|(_, metadata)| clash(resource, metadata))
        })
        .collect()
}

fn clash(resource: &Resource, metadata: &ObjectMeta) -> Finding {
    let label = |key: &str| metadata.labels.as_ref().and_then(|labels| labels.get(key));
    let owner = match (label(crate::model::labels::MANAGED_BY), label(INSTANCE)) {
        (Some(manager), Some(instance)) => format!("managed by {manager} for {instance}"),
        (Some(manager), None) => format!("managed by {manager}"),
        _ => "not sparkha's".to_owned(),
    };
    Finding::new(
        Severity::Clash,
        format!("{} {} already exists, {owner}", resource.kind, resource.name),
        "choose another NAME or namespace, or remove it",
    )
}
