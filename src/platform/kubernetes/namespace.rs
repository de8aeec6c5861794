//! Creates missing namespaces, marks them with a label, and removes them when nothing else is left in them.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::{Duration, SystemTime};

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{APIGroup, APIResource};
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use kube::core::{ApiResource, DynamicObject, ObjectMeta};
use serde_json::json;

use super::{Cluster, unless_paused};
use crate::model::kind::Kind;
use crate::model::labels::{MANAGED_BY, SERVICE_NAME, SPARKHA, is_of_cluster, is_ours};
use crate::platform::{Error, kubernetes};
use crate::render::inventory::Inventory;
use crate::spec::names::ClusterName;

/// Resources that Kubernetes itself creates in every namespace or leaves there for a while, as group and resource. They
/// are not the user's.
const OF_KUBERNETES: [(&str, &str); 3] = [
    ("", "events"),
    ("events.k8s.io", "events"),
    // Revisions of StatefulSets and DaemonSets, which are counted themselves.
    ("apps", "controllerrevisions"),
];
/// Groups whose resources are metrics or a catalogue, the same in every namespace.
const VIEWS: [&str; 4] = [
    "metrics.k8s.io",
    "custom.metrics.k8s.io",
    "external.metrics.k8s.io",
    "packages.operators.coreos.com",
];
/// The service account that a token's Secret belongs to.
const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
/// Objects per page.
const PAGE: u32 = 500;
/// Concurrent list requests.
const CONCURRENCY: usize = 8;
/// How old a list may be when the namespace is deleted: others may have created objects since.
const LIST_LASTS: Duration = Duration::from_secs(10);
/// How many times the namespace is listed and deleted, where that fails or takes too long.
const TRIES: u32 = 5;
/// The pause before the second try. Each is longer than the one before by as much.
const PAUSE: Duration = Duration::from_secs(1);

/// Whether a namespace exists, and who created it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamespaceState {
    Missing,
    /// Created by sparkha.
    Ours,
    Others,
}

pub async fn namespace_state(cluster: &Cluster) -> Result<NamespaceState, kubernetes::Error> {
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
        Err(error) => Err(error),
    }
}

/// Creates the namespace with sparkha's label.
pub async fn create(cluster: &Cluster) -> Result<(), Error> {
    let name = cluster.namespace().as_str();
    let api: Api<Namespace> = Api::all(cluster.client());
    let namespace = serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {MANAGED_BY: SPARKHA}},
    }))
    .unwrap_or_default();
    match cluster
        .create(&api, &namespace, &format!("create Namespace {name}"))
        .await
    {
        // Another process created it first.
        Ok(_) | Err(kubernetes::Error::Rejected { code: 409, .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Result of removing a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It is not sparkha's, or no longer exists.
    NotOurs,
    /// It was removed together with the cluster's inventory.
    Removed,
    /// It is sparkha's, but other objects are or may be in it; the reason.
    InUse(String),
}

/// Removes the namespace if sparkha created it and it contains only leftovers of this cluster: its inventory and
/// objects that Kubernetes removes itself. Counts as in use unless all kinds could be listed completely.
pub async fn remove_if_empty(cluster: &Cluster, name: &ClusterName, inventory: &Inventory) -> Result<Removal, Error> {
    let leftovers = Leftovers { name, inventory };
    let mut reason = "the API server responds too slowly to tell what it contains".to_owned();
    for tries in 0..TRIES {
        tokio::time::sleep(PAUSE * tries).await;
        // Objects may have been created during a pause, so list again.
        match unless_paused(SystemTime::now(), try_to_remove(cluster, &leftovers)).await {
            Some(Ok(Some(removal))) => return Ok(removal),
            Some(Err(error)) if error.is_transient() || matches!(error, kubernetes::Error::TimedOut { .. }) => {
                reason = format!("failed to delete it: {error}");
            }
            Some(Err(error)) => return Err(error.into()),
            Some(Ok(None)) | None => {}
        }
    }
    Ok(Removal::InUse(reason))
}

/// Lists the namespace, and sends one request to delete it. `None` if that would have been too long after the list.
async fn try_to_remove(cluster: &Cluster, leftovers: &Leftovers<'_>) -> Result<Option<Removal>, kubernetes::Error> {
    let namespace = cluster.namespace().as_str();
    let api: Api<Namespace> = Api::all(cluster.client());
    let found = cluster
        .call(&format!("read Namespace {namespace}"), || api.get_opt(namespace))
        .await;
    let found = match found {
        Ok(Some(found)) if is_ours(found.metadata.labels.as_ref()) => found,
        Ok(_) | Err(kubernetes::Error::Forbidden { .. }) => return Ok(Some(Removal::NotOurs)),
        Err(error) => return Err(error),
    };
    if found.metadata.deletion_timestamp.is_some() {
        return Ok(Some(Removal::Removed));
    }
    let unlisted = |error| Ok(Some(Removal::InUse(format!("failed to list its objects: {error}"))));
    let resources = match namespaced_resources(cluster).await {
        Ok(resources) => resources,
        Err(error) => return unlisted(error),
    };
    let until = SystemTime::now() + LIST_LASTS;
    match first_tenant(cluster, &resources, leftovers).await {
        Ok(None) => {}
        Ok(Some(tenant)) => return Ok(Some(Removal::InUse(format!("it still contains {tenant}")))),
        Err(error) => return unlisted(error),
    }
    match cluster
        .delete_until(&api, "Namespace", namespace, found.uid(), until)
        .await
    {
        Ok(deleted) => Ok(deleted.then_some(Removal::Removed)),
        Err(kubernetes::Error::Forbidden { .. }) => Ok(Some(Removal::InUse("you may not delete it".into()))),
        Err(error) => Err(error),
    }
}

/// Leftovers of a cluster that do not keep its namespace in use.
struct Leftovers<'a> {
    name: &'a ClusterName,
    inventory: &'a Inventory,
}

/// Any object that is neither Kubernetes' own nor a leftover of the cluster, in any served version of any kind.
async fn first_tenant(
    cluster: &Cluster,
    resources: &[ApiResource],
    leftovers: &Leftovers<'_>,
) -> Result<Option<String>, kubernetes::Error> {
    let lists = resources.iter().map(|resource| tenant_of(cluster, resource, leftovers));
    let mut lists = stream::iter(lists).buffer_unordered(CONCURRENCY);
    while let Some(tenant) = lists.try_next().await? {
        if tenant.is_some() {
            return Ok(tenant);
        }
    }
    Ok(None)
}

async fn tenant_of(
    cluster: &Cluster,
    resource: &ApiResource,
    leftovers: &Leftovers<'_>,
) -> Result<Option<String>, kubernetes::Error> {
    let api: &Api<DynamicObject> = &Api::namespaced_with(cluster.client(), cluster.namespace().as_str(), resource);
    let action = format!("list {} of {}", resource.plural, resource.api_version);
    let params = ListParams::default().limit(PAGE);
    let mut pages = pin!(cluster.pages(action, params, |params| async move { api.list_metadata(&params).await }));
    while let Some(page) = pages.try_next().await? {
        let mut others = page
            .iter()
            .filter(|object| !leftovers.explains(resource, &object.metadata));
        if let Some(object) = others.next() {
            return Ok(Some(format!("{} {}", resource.kind, object.name_any())));
        }
    }
    Ok(None)
}

impl Leftovers<'_> {
    /// Whether an object is Kubernetes' own, a leftover of the cluster, or being deleted.
    fn explains(&self, resource: &ApiResource, object: &ObjectMeta) -> bool {
        let name = object.name.as_deref().unwrap_or_default();
        let value = |values: &Option<BTreeMap<String, String>>, key: &str| values.as_ref()?.get(key).cloned();
        let is_service = |name: &str| self.inventory.entry(Kind::Service, name).is_some();
        let is_known = match (resource.group.as_str(), resource.plural.as_str()) {
            ("", "configmaps") => {
                let is_inventory =
                    name == self.name.inventory() && is_of_cluster(object.labels.as_ref(), self.name.as_str());
                is_inventory || name == "kube-root-ca.crt" || name == "openshift-service-ca.crt"
            }
            ("", "serviceaccounts") => name == "default",
            ("", "secrets") => value(&object.annotations, ACCOUNT_NAME).is_some_and(|account| {
                let is_known = account == "default" || self.inventory.entry(Kind::ServiceAccount, &account).is_some();
                is_known && name.starts_with(&format!("{account}-token-"))
            }),
            // Controllers delete them shortly after their Services.
            ("", "endpoints") => is_service(name),
            ("discovery.k8s.io", "endpointslices") => {
                value(&object.labels, SERVICE_NAME).is_some_and(|service| is_service(&service))
            }
            _ => false,
        };
        is_known || object.deletion_timestamp.is_some()
    }
}

/// Every served version of every kind that can be listed in a namespace. A group that fails to respond is an error: it
/// may have objects.
async fn namespaced_resources(cluster: &Cluster) -> Result<Vec<ApiResource>, kubernetes::Error> {
    let groups = cluster.api_groups().await?;
    let of_group = |group: &APIGroup| {
        let versions = group.versions.iter().map(|version| version.version.clone());
        versions
            .map(|version| (group.name.clone(), version))
            .collect::<Vec<_>>()
    };
    let core = [(String::new(), "v1".to_owned())];
    let versions = core.into_iter().chain(groups.iter().flat_map(of_group));
    let versions = versions.filter(|(group, _)| !VIEWS.contains(&group.as_str()));
    let lists = versions.map(|(group, version)| resources_of(cluster, group, version));
    stream::iter(lists).buffer_unordered(CONCURRENCY).try_concat().await
}

async fn resources_of(
    cluster: &Cluster,
    group: String,
    version: String,
) -> Result<Vec<ApiResource>, kubernetes::Error> {
    let client = cluster.client();
    let api_version = match group.as_str() {
        "" => version.clone(),
        group => format!("{group}/{version}"),
    };
    let action = format!("list the kinds of {api_version}");
    let served = match group.as_str() {
        "" => {
            cluster
                .call(&action, || client.list_core_api_resources(&version))
                .await?
        }
        _ => {
            cluster
                .call(&action, || client.list_api_group_resources(&api_version))
                .await?
        }
    };
    let is_listed = |resource: &APIResource| {
        let is_listable = resource.verbs.iter().any(|verb| verb == "list");
        resource.namespaced && is_listable && !OF_KUBERNETES.contains(&(group.as_str(), resource.name.as_str()))
    };
    let resources = served
        .resources
        .into_iter()
        .filter(is_listed)
        .map(|resource| ApiResource {
            group: group.clone(),
            version: version.clone(),
            api_version: api_version.clone(),
            kind: resource.kind,
            plural: resource.name,
        });
    Ok(resources.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::labels::INSTANCE;

    fn explains(group: &str, plural: &str, metadata: serde_json::Value) -> bool {
        let spec = crate::spec::resolve::resolve(None, &Default::default()).unwrap();
        let inventory = crate::render::render(&spec).inventory;
        let leftovers = Leftovers {
            name: &spec.name,
            inventory: &inventory,
        };
        let resource = ApiResource {
            group: group.into(),
            version: "v1".into(),
            api_version: format!("{group}/v1"),
            kind: "X".into(),
            plural: plural.into(),
        };
        leftovers.explains(&resource, &serde_json::from_value(metadata).unwrap())
    }

    #[test]
    fn objects_of_kubernetes_do_not_keep_a_namespace() {
        assert!(explains("", "configmaps", json!({"name": "kube-root-ca.crt"})));
        assert!(explains("", "serviceaccounts", json!({"name": "default"})));
        let token =
            |account: &str| json!({"name": format!("{account}-token-x1y2z"), "annotations": {ACCOUNT_NAME: account}});
        assert!(explains("", "secrets", token("default")) && explains("", "secrets", token("spark")));
        assert!(!explains("", "secrets", token("engineer")));
        assert!(explains(
            "batch",
            "jobs",
            json!({"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z"})
        ));
    }

    #[test]
    fn leftovers_of_the_cluster_do_not_keep_a_namespace() {
        let ours = json!({MANAGED_BY: SPARKHA, INSTANCE: "spark"});
        assert!(explains(
            "",
            "configmaps",
            json!({"name": "spark-sparkha", "labels": ours})
        ));
        assert!(!explains("", "configmaps", json!({"name": "spark-sparkha"})));
        assert!(!explains(
            "",
            "configmaps",
            json!({"name": "etl-sparkha", "labels": ours})
        ));
        assert!(explains("", "endpoints", json!({"name": "spark-master-0"})));
        assert!(!explains("", "endpoints", json!({"name": "database"})));
        let slice = |service: &str| json!({"name": "spark-master-0-abcde", "labels": {SERVICE_NAME: service}});
        assert!(explains("discovery.k8s.io", "endpointslices", slice("spark-master-0")));
        assert!(!explains("discovery.k8s.io", "endpointslices", slice("database")));
    }

    #[test]
    fn a_name_says_nothing_without_its_group() {
        assert!(!explains(
            "example.test",
            "configmaps",
            json!({"name": "kube-root-ca.crt"})
        ));
        assert!(!explains("example.test", "serviceaccounts", json!({"name": "default"})));
        assert!(!explains("", "secrets", json!({"name": "default-token-of-mine"})));
        assert!(!explains(
            "example.test",
            "endpoints",
            json!({"name": "spark-master-0"})
        ));
        assert!(!OF_KUBERNETES.contains(&("example.test", "events")));
    }
}
