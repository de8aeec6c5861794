//! What create reads and checks on Kubernetes: that the server responds, serves and allows the requests, has capacity, and that names are free.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::apimachinery::pkg::version::Info;
use kube::ResourceExt;
use kube::core::{DynamicObject, ObjectMeta};

use crate::lifecycle::Error;
use crate::lifecycle::external_zookeeper;
use crate::lifecycle::preflight::{Environment, Snapshot, capacity, permissions};
use crate::model::finding::{Finding, Severity};
use crate::model::kind::Kind;
use crate::model::labels::{INSTANCE, cluster_selector, is_of_cluster};
use crate::platform::kubernetes::namespace::{NamespaceState, namespace_state};
use crate::platform::kubernetes::{self, Cluster};
use crate::platform::{self, Baseline, LiveObjects, Platform};
use crate::render::{Resource, render};
use crate::spec::ClusterSpec;
use crate::spec::version::KUBERNETES;

/// What create needs to know about the API server and the namespace.
pub struct ServerFacts {
    version: Info,
    /// Optional kinds that the server does not serve, with a hint.
    absent: Vec<(Kind, &'static str)>,
    pub namespace: NamespaceState,
    /// The names that are in use, by any owner.
    names: Vec<(Kind, ObjectMeta)>,
}

/// Reads the live cluster.
pub async fn discover(platform: &dyn Platform, cluster: &Cluster, spec: &ClusterSpec) -> Result<Snapshot, Error> {
    let desired = render(spec).all(spec);
    let (version, absent, namespace) = futures::try_join!(
        server_version(cluster),
        absent_kinds(cluster, &desired),
        namespace_state(cluster),
    )?;
    let baseline = match platform.baseline().await {
        // Reported with all other missing permissions.
        Err(platform::Error::Kubernetes(kubernetes::Error::Forbidden { .. })) => Baseline::unknown(),
        baseline => baseline?,
    };
    let is_served = |kind| absent.iter().all(|(absent, _)| *absent != kind);
    let desired = desired.iter().filter(|resource| is_served(resource.kind));
    let desired: Vec<_> = desired
        .map(|resource| (resource.kind, resource.name.as_str()))
        .collect();
    let (mut live, names) = futures::try_join!(
        live(cluster, spec, &desired, namespace),
        names(cluster, &desired, namespace),
    )?;
    // Kinds that are no longer desired: their objects must be removed. Without an inventory all kinds are listed.
    let old = baseline.inventory.iter().flat_map(|inventory| &inventory.objects);
    let auth = spec.name.auth();
    let mut obsolete: Vec<_> = old.map(|entry| (entry.kind, entry.name.as_str())).collect();
    if baseline.inventory.is_none() && !live.is_empty() {
        // Secrets are read by name.
        obsolete.extend(Kind::ALL.map(|kind| (kind, auth.as_str())));
    }
    let kinds = kinds(&desired);
    obsolete.retain(|(kind, _)| !kinds.contains(kind));
    if !obsolete.is_empty() {
        live.extend(self::live(cluster, spec, &obsolete, namespace).await?);
    }
    Ok(Snapshot {
        znodes: external_zookeeper::check(platform, spec, baseline.inventory.as_ref()).await?,
        is_first: baseline.inventory.is_none() && live.is_empty(),
        baseline,
        live,
        environment: Environment::Kubernetes(Box::new(ServerFacts {
            version,
            absent,
            namespace,
            names,
        })),
    })
}

impl ServerFacts {
    /// The objects of kinds that the server serves.
    pub fn served(&self, mut objects: Vec<Resource>) -> Vec<Resource> {
        objects.retain(|resource| self.absent.iter().all(|(kind, _)| *kind != resource.kind));
        objects
    }

    /// Findings that --skip-preflight turns into warnings.
    pub async fn findings(
        &self,
        cluster: &Cluster,
        spec: &ClusterSpec,
        resources: &[Resource],
        live: &LiveObjects,
        skip: bool,
    ) -> Result<Vec<Finding>, Error> {
        let mut findings: Vec<_> = too_old(&self.version).into_iter().collect();
        findings.extend(self.absent.iter().map(|(kind, help)| {
            let message = format!(
                "this server does not serve {kind} ({}/v1); the cluster is created without it",
                kind.group()
            );
            Finding::new(Severity::Warning, message, *help)
        }));
        let is_set = |resource: &&Resource| resource.kind == Kind::StatefulSet;
        let live_sets = live.iter().filter(|((kind, _), _)| *kind == Kind::StatefulSet);
        let live_sets: Vec<StatefulSet> = live_sets.filter_map(|(_, set)| set.clone().try_parse().ok()).collect();
        let sets: Vec<StatefulSet> = typed(resources.iter().filter(is_set).map(|set| &set.object));
        let capacity = async {
            if skip {
                return vec![];
            }
            let (quota, nodes, storage, shared) = futures::join!(
                capacity::quota(cluster, &sets, &live_sets, self.namespace),
                capacity::nodes(cluster, spec, &sets),
                capacity::storage(cluster, spec),
                capacity::shared_claims(cluster, &sets, self.namespace),
            );
            [quota, nodes, storage, shared].into_iter().flatten().collect()
        };
        let permissions = permissions::missing_permissions(cluster, resources, self.namespace);
        let (permissions, capacity): (_, Vec<_>) = futures::join!(permissions, capacity);
        findings.extend(permissions?);
        findings.extend(capacity);
        Ok(findings)
    }

    /// Names that other objects already have. An object with this cluster's labels is ours even if it has just appeared: then another sparkha
    /// process is running, and the lock reports it.
    pub fn clashes(&self, spec: &ClusterSpec, resources: &[Resource], live: &LiveObjects) -> Vec<Finding> {
        let new = resources
            .iter()
            .filter(|resource| !live.contains_key(&(resource.kind, resource.name.clone())));
        let clashes = new.filter_map(|resource| {
            let has_name = |(kind, metadata): &&(Kind, ObjectMeta)| {
                *kind == resource.kind
                    && metadata.name.as_deref() == Some(resource.name.as_str())
                    && !is_of_cluster(metadata.labels.as_ref(), spec.name.as_str())
            };
            let (_, metadata) = self.names.iter().find(has_name)?;
            Some(clash(resource, metadata))
        });
        clashes.collect()
    }
}

pub async fn server_version(cluster: &Cluster) -> Result<Info, kubernetes::Error> {
    let client = cluster.client();
    cluster
        .call("read the version of the API server", || client.apiserver_version())
        .await
}

/// The server's major and minor number; `None` if it does not tell them.
pub fn version_of(info: &Info) -> Option<[u32; 2]> {
    let number = |text: &str| {
        let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or(0)
    };
    Some([number(&info.major), number(&info.minor)]).filter(|version| *version != [0, 0])
}

/// A finding if the server is older than the supported versions.
pub fn too_old(info: &Info) -> Option<Finding> {
    KUBERNETES.is_too_old(version_of(info)?).then(|| {
        Finding::new(
            Severity::Warning,
            format!("the API server is {}; sparkha supports {KUBERNETES}", info.git_version),
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
async fn absent_kinds(
    cluster: &Cluster,
    resources: &[Resource],
) -> Result<Vec<(Kind, &'static str)>, kubernetes::Error> {
    let kinds: BTreeSet<_> = resources.iter().map(|resource| resource.kind).collect();
    let optional = kinds.into_iter().filter_map(|kind| Some((kind, kind.absence()?)));
    let served = optional.map(|(kind, absence)| async move {
        let is_served = serves(cluster, kind).await?;
        Ok::<_, kubernetes::Error>((!is_served).then_some((kind, absence)))
    });
    let served = futures::future::try_join_all(served).await?;
    Ok(served.into_iter().flatten().collect())
}

async fn serves(cluster: &Cluster, kind: Kind) -> Result<bool, kubernetes::Error> {
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
        Err(error) => Err(error),
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
