//! Deploys sparkha into a cluster and removes it: the objects of [`deployed`](crate::render::deployed), applied in order and awaited.

use std::ops::ControlFlow::{Break, Continue};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::Api;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::Value;

use crate::console::progress::Progress;
use crate::lifecycle::Error;
use crate::model::labels::is_ours;
use crate::platform::kubernetes::Cluster;
use crate::platform::poll::poll_until;

/// How long its pods may take to become available.
const TIMEOUT: Duration = Duration::from_secs(120);
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Applies the objects and waits until the Deployment is available.
pub async fn deploy(cluster: &Cluster, objects: &[Value], progress: &Progress) -> Result<(), Error> {
    for object in objects {
        let (api, kind, name) = addressed(cluster, object);
        cluster.apply_in(&api, &kind, &name, object, false).await?;
        progress.done(&format!("{kind} {name}"));
    }
    let api = cluster.api::<Deployment>();
    for name in objects
        .iter()
        .filter(|object| object["kind"] == "Deployment")
        .filter_map(name_of)
    {
        wait_until_available(cluster, &api, name, progress).await?;
    }
    Ok(())
}

async fn wait_until_available(
    cluster: &Cluster,
    api: &Api<Deployment>,
    name: &str,
    progress: &Progress,
) -> Result<(), Error> {
    poll_until(LOOK_AGAIN, TIMEOUT, async || {
        let deployment = cluster
            .call(&format!("read Deployment {name}"), || api.get(name))
            .await?;
        let wanted = deployment.spec.replicas.unwrap_or(1);
        let status = deployment.status.unwrap_or_default();
        let available = status
            .available_replicas
            .unwrap_or(0)
            .min(status.updated_replicas.unwrap_or(0));
        progress.part("Pods", &format!("{available} of {wanted} available"));
        if available >= wanted && status.observed_generation >= deployment.metadata.generation {
            return Ok(Break(()));
        }
        Ok(Continue(Error::NotInTime {
            subject: format!("Deployment {name} is not available"),
            waited: TIMEOUT,
            missing: vec![format!("{available} of {wanted} pods are available")],
            help: format!(
                "`kubectl --namespace {} describe pods --selector app.kubernetes.io/component={name}` shows why; the Deployment stays, \
                 and --undeploy removes it",
                cluster.namespace()
            ),
        }))
    })
    .await
}

/// Removes those of the objects that sparkha made, in reverse order.
pub async fn remove(cluster: &Cluster, objects: &[Value], progress: &Progress) -> Result<(), Error> {
    for object in objects.iter().rev() {
        let (api, kind, name) = addressed(cluster, object);
        let found = cluster
            .call(&format!("read {kind} {name}"), || api.get_opt(&name))
            .await?;
        let Some(found) = found.filter(|found| is_ours(found.metadata.labels.as_ref())) else {
            continue;
        };
        cluster.delete_in(&api, &kind, &name, found.metadata.uid).await?;
        progress.done(&format!("{kind} {name} removed"));
    }
    Ok(())
}

fn name_of(object: &Value) -> Option<&str> {
    object["metadata"]["name"].as_str()
}

fn addressed(cluster: &Cluster, object: &Value) -> (Api<DynamicObject>, String, String) {
    let version = object["apiVersion"].as_str().unwrap_or_default();
    let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
    let kind = object["kind"].as_str().unwrap_or_default();
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    let api = Api::namespaced_with(cluster.client(), cluster.namespace().as_str(), &resource);
    (api, kind.to_owned(), name_of(object).unwrap_or_default().to_owned())
}
