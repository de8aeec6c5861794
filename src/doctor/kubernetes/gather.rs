//! Gathers the facts, as concurrently as possible.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Endpoints, Event, PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::discovery::v1::{EndpointConditions, EndpointSlice};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::{clocks, dns, probe, routes};
use crate::doctor::kubernetes::facts::{ApiServer, DiagnosticFacts, Existing, Observed};
use crate::doctor::s3;
use crate::jobs::orphans_of;
use crate::lifecycle::external_zookeeper;
use crate::lifecycle::preflight::kubernetes::{server_version, typed};
use crate::lifecycle::preflight::{capacity, permissions};
use crate::model::finding::Finding;
use crate::model::labels::{SERVICE_NAME, is_of_cluster};
use crate::platform::Platform;
use crate::platform::kubernetes::namespace::{NamespaceState, namespace_state};
use crate::platform::kubernetes::{self, Cluster, KubernetesPlatform, NodeReader};
use crate::platform::observer::{Observer, PodFilter};
use crate::render::inventory::Inventory;
use crate::render::render;
use crate::spec::ClusterSpec;
use crate::state::cluster_state;

/// Gathers all facts. Only an API server that does not respond is an error.
pub async fn gather(cluster: &Cluster, spec: &ClusterSpec) -> Result<DiagnosticFacts, kubernetes::Error> {
    let server = ApiServer {
        address: cluster.server().to_owned(),
        version: server_version(cluster).await?,
        clock: clocks::of_server(cluster).await,
    };
    let namespace = namespace_state(cluster).await?;
    let platform = &KubernetesPlatform::new(cluster, &spec.name);
    let (pods, services, addressed, claims, events, sets, inventory) = futures::join!(
        list::<Pod>(cluster, namespace),
        list::<Service>(cluster, namespace),
        addressed(cluster, namespace),
        list::<PersistentVolumeClaim>(cluster, namespace),
        list::<Event>(cluster, namespace),
        list::<StatefulSet>(cluster, namespace),
        platform.inventory(),
    );
    let name = spec.name.as_str();
    let desired = render(spec).all(spec);
    let sets: Vec<_> = sets.unwrap_or_default();
    let own = |set: &&StatefulSet| is_of_cluster(set.metadata.labels.as_ref(), name);
    let live: Vec<_> = sets.iter().filter(own).cloned().collect();
    let objects = desired.iter().map(|resource| &resource.object);
    let planned: Vec<StatefulSet> = typed(objects.filter(|object| object["kind"] == "StatefulSet"));
    // An existing cluster is judged by its live objects.
    let (sets_to_place, claim_requests) = match &inventory {
        Ok(Some(_)) => (&live, vec![]),
        Ok(None) | Err(_) => (&planned, capacity::new_claims(spec)),
    };
    let inventory: Observed<_> = inventory.map_err(|error| error.to_string());
    let old = inventory.clone().ok().flatten();
    let existing = async {
        Ok(match inventory? {
            Some(inventory) => Some(existing(cluster, platform, inventory, spec, &pods, &services, live.clone()).await),
            None => None,
        })
    };
    let (permissions, room, quota, storage, external_zookeeper, name_server, cluster_seen) = futures::join!(
        permissions::missing_permissions(cluster, &desired, namespace),
        capacity::nodes_and_pods(cluster),
        capacity::quota(cluster, sets_to_place, &live, namespace),
        storage(cluster, claim_requests, &claims),
        external_zookeeper::check(platform, spec, old.as_ref()),
        dns::query_cluster_dns(cluster, spec, &services),
        existing,
    );
    let external_zookeeper = external_zookeeper.ok().flatten();
    let shared = claims
        .iter()
        .flat_map(|claims| capacity::unshareable(sets_to_place, claims));
    let storage = storage.map(|findings| findings.into_iter().chain(shared).collect());
    let (nodes, capacity) = match room {
        Ok((nodes, others)) => {
            let findings = capacity::unschedulable_pods(cluster, name, sets_to_place, &nodes, others);
            (Ok(nodes), Ok(findings))
        }
        Err(error) => (Err(error.to_string()), Err(error.to_string())),
    };
    Ok(DiagnosticFacts {
        server,
        namespace,
        permissions: permissions.map_err(|error| error.to_string()),
        nodes,
        capacity,
        quota,
        storage,
        external_zookeeper: external_zookeeper.map_or_else(Vec::new, |checked| checked.findings),
        name_server,
        pods,
        services,
        addressed,
        claims,
        events: events.unwrap_or_default(),
        sets,
        desired,
        cluster: cluster_seen,
    })
}

async fn list<K>(cluster: &Cluster, namespace: NamespaceState) -> Observed<Vec<K>>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
    K::DynamicType: Default,
{
    match namespace {
        NamespaceState::Missing => Ok(vec![]),
        _ => cluster.list_of::<K>("").await.map_err(|error| error.to_string()),
    }
}

/// The Services with a ready address, by their EndpointSlices. Servers before 1.21, and Roles of earlier versions, have only Endpoints.
async fn addressed(cluster: &Cluster, namespace: NamespaceState) -> Observed<BTreeSet<String>> {
    if namespace != NamespaceState::Missing
        && let Ok(slices) = cluster.list_of::<EndpointSlice>("").await
    {
        return Ok(slices.iter().filter_map(addressed_by).map(str::to_owned).collect());
    }
    let endpoints = list::<Endpoints>(cluster, namespace).await?.into_iter();
    let has_address = |endpoints: &Endpoints| {
        let mut subsets = endpoints.subsets.iter().flatten();
        subsets.any(|subset| subset.addresses.as_ref().is_some_and(|addresses| !addresses.is_empty()))
    };
    Ok(endpoints
        .filter(has_address)
        .map(|endpoints| endpoints.name_any())
        .collect())
}

/// The Service of a slice that has a ready address.
fn addressed_by(slice: &EndpointSlice) -> Option<&str> {
    let is_ready = |conditions: &EndpointConditions| conditions.ready != Some(false);
    let mut endpoints = slice.endpoints.iter().flatten();
    let has_address =
        endpoints.any(|endpoint| !endpoint.addresses.is_empty() && endpoint.conditions.as_ref().is_none_or(is_ready));
    let service = slice.labels().get(SERVICE_NAME).filter(|_| has_address);
    service.map(String::as_str)
}

/// Claims that no storage class can provision: those of the file, and those that wait.
async fn storage(
    cluster: &Cluster,
    mut claim_requests: Vec<capacity::ClaimRequest>,
    claims: &Observed<Vec<PersistentVolumeClaim>>,
) -> Observed<Vec<Finding>> {
    claim_requests.extend(claims.iter().flatten().filter_map(super::storage::claim_request));
    if claim_requests.is_empty() {
        return Ok(vec![]);
    }
    let classes: Vec<StorageClass> = capacity::storage_classes(cluster)
        .await
        .map_err(|error| error.to_string())?;
    Ok(capacity::wrong_claims(&claim_requests, &classes))
}

async fn existing(
    cluster: &Cluster,
    platform: &KubernetesPlatform,
    inventory: Inventory,
    spec: &ClusterSpec,
    pods: &Observed<Vec<Pod>>,
    services: &Observed<Vec<Service>>,
    sets: Vec<StatefulSet>,
) -> Existing {
    let name = spec.name.as_str();
    let own = |pod: &&Pod| is_of_cluster(pod.metadata.labels.as_ref(), name);
    let own: Vec<_> = pods.iter().flatten().filter(own).cloned().collect();
    let mut observer = Observer::new(platform.transport());
    let mut observed = observer.query(own, sets, PodFilter::Running).await;
    observed.nodes = NodeReader::default().read(cluster).await;
    let state = cluster_state(cluster.namespace().as_str(), &inventory, &observed);
    let services: Vec<_> = services.iter().flatten().cloned().collect();
    let domain = &inventory.cluster.ui_domain;
    let (probes, routes, orphans, s3) = futures::join!(
        probe::query_pods(cluster, &observed, &services),
        routes::check_routes(cluster, &inventory, &observed, pods),
        orphans_of(platform, observed.pods.clone(), domain),
        s3::reports(platform, &observed.pods),
    );
    Existing {
        inventory,
        observed,
        state,
        probes,
        routes,
        orphans: orphans.unwrap_or_default(),
        s3,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_slice_counts_only_with_a_ready_address() {
        let of = |endpoints: serde_json::Value| {
            let slice = json!({
                "metadata": {"name": "s-1", "labels": {SERVICE_NAME: "s"}},
                "addressType": "IPv4", "endpoints": endpoints, "ports": [],
            });
            let slice: EndpointSlice = serde_json::from_value(slice).unwrap();
            addressed_by(&slice).map(str::to_owned)
        };
        let endpoint = |ready: Option<bool>| json!({"addresses": ["10.1.2.3"], "conditions": {"ready": ready}});
        assert_eq!(
            of(json!([endpoint(Some(false)), endpoint(Some(true))])).as_deref(),
            Some("s")
        );
        // Unknown counts as ready.
        assert_eq!(of(json!([endpoint(None)])).as_deref(), Some("s"));
        assert_eq!(of(json!([endpoint(Some(false))])), None);
        assert_eq!(of(json!(null)), None);
    }
}
