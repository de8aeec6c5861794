//! Namespaces that sparkha makes where there is none, remembers by label, and removes when nothing else is left in them.

use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use kube::core::{ApiResource, DynamicObject};
use serde_json::json;

use super::Error;
use crate::platform::kubernetes::{self, Cluster};
use crate::render::labels::{MANAGED_BY, SPARKHA, is_ours};

/// What Kubernetes itself puts into every namespace, or leaves behind there for a while.
const OF_KUBERNETES: [&str; 8] = [
    "events",
    "endpoints",
    "endpointslices",
    "leases",
    "controllerrevisions",
    "localsubjectaccessreviews",
    "bindings",
    "pods.metrics.k8s.io",
];

/// Makes the namespace, ours by its label.
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
        // Somebody was faster.
        Ok(_) | Err(kubernetes::Error::Rejected { code: 409, .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What became of a namespace in teardown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It is not ours, or gone already.
    NotOurs,
    Removed,
    /// It is ours, but there is something else in it.
    InUse(String),
}

/// Removes the namespace if sparkha made it and nothing else is in it.
pub async fn remove_if_empty(cluster: &Cluster) -> Result<Removal, Error> {
    let name = cluster.namespace().as_str();
    let api: Api<Namespace> = Api::all(cluster.client());
    let found = cluster
        .call(&format!("read Namespace {name}"), || api.get_opt(name))
        .await;
    let namespace = match found {
        Ok(Some(namespace)) if is_ours(namespace.metadata.labels.as_ref()) => namespace,
        Ok(_) | Err(kubernetes::Error::Forbidden { .. }) => return Ok(Removal::NotOurs),
        Err(error) => return Err(error.into()),
    };
    if let Some(tenant) = first_tenant(cluster).await? {
        return Ok(Removal::InUse(tenant));
    }
    let action = format!("delete Namespace {name}");
    match cluster.delete_in(&api, name, namespace.uid(), &action).await {
        Ok(()) => Ok(Removal::Removed),
        Err(kubernetes::Error::Forbidden { .. }) => Ok(Removal::InUse("you may not delete it".into())),
        Err(error) => Err(error.into()),
    }
}

/// Anything in the namespace that Kubernetes did not put there, of every kind that the server has.
async fn first_tenant(cluster: &Cluster) -> Result<Option<String>, Error> {
    for resource in namespaced_resources(cluster).await? {
        let api: Api<DynamicObject> = Api::namespaced_with(cluster.client(), cluster.namespace().as_str(), &resource);
        let params = ListParams::default().limit(50);
        let action = format!("list {}", resource.plural);
        match cluster.call(&action, || api.list_metadata(&params)).await {
            Ok(list) => {
                let tenant = list
                    .items
                    .iter()
                    .find(|object| !is_of_kubernetes(&resource, &object.metadata));
                if let Some(object) = tenant {
                    return Ok(Some(format!("{} {}", resource.kind, object.name_any())));
                }
            }
            // What cannot be listed may be there.
            Err(kubernetes::Error::Forbidden { .. }) => {
                return Ok(Some(format!("{}, which you may not list", resource.plural)));
            }
            // An aggregated API that is down, or a kind without lists.
            Err(kubernetes::Error::Rejected { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

fn is_of_kubernetes(resource: &ApiResource, object: &kube::core::ObjectMeta) -> bool {
    let name = object.name.as_deref().unwrap_or_default();
    match resource.plural.as_str() {
        "configmaps" => name == "kube-root-ca.crt" || name == "openshift-service-ca.crt",
        "serviceaccounts" => name == "default",
        "secrets" => name.starts_with("default-token-"),
        // Already on its way out.
        _ => object.deletion_timestamp.is_some(),
    }
}

async fn namespaced_resources(cluster: &Cluster) -> Result<Vec<ApiResource>, Error> {
    let client = cluster.client();
    let mut versions = vec![("".to_owned(), "v1".to_owned())];
    let groups = cluster.call("list API groups", || client.list_api_groups()).await?;
    for group in groups.groups {
        if let Some(version) = group.preferred_version.or_else(|| group.versions.first().cloned()) {
            versions.push((group.name, version.version));
        }
    }
    let mut resources = Vec::new();
    for (group, version) in versions {
        let (served, group_version) = if group.is_empty() {
            let served = cluster
                .call("list core kinds", || client.list_core_api_resources(&version))
                .await;
            (served, version.clone())
        } else {
            let group_version = format!("{group}/{version}");
            let action = format!("list the kinds of {group_version}");
            let served = cluster
                .call(&action, || client.list_api_group_resources(&group_version))
                .await;
            (served, group_version)
        };
        // An aggregated API that is down hides its own kinds only.
        let Ok(served) = served else { continue };
        for resource in served.resources {
            let listable = resource.verbs.iter().any(|verb| verb == "list");
            if resource.namespaced
                && listable
                && !OF_KUBERNETES.contains(&resource.name.as_str())
                && group != "metrics.k8s.io"
            {
                resources.push(ApiResource {
                    group: group.clone(),
                    version: version.clone(),
                    api_version: group_version.clone(),
                    kind: resource.kind,
                    plural: resource.name,
                });
            }
        }
    }
    Ok(resources)
}
