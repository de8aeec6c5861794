//! Gathers the facts, as concurrently as possible.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Event, PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::Resource;
use kube::core::NamespaceResourceScope;
use serde::de::DeserializeOwned;

use super::{clocks, dns, probe, routes};
use crate::doctor::kubernetes::facts::{ApiServer, DiagnosticFacts, Existing, Observed};
use crate::jobs::orphans_of;
use crate::lifecycle::external_zookeeper;
use crate::lifecycle::preflight::kubernetes::{server_version, typed};
use crate::lifecycle::preflight::{capacity, permissions};
use crate::model::finding::Finding;
use crate::model::labels::is_of_cluster;
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
    let (pods, services, endpoints, claims, events, sets, inventory) = futures::join!(
        list::<Pod>(cluster, namespace),
        list::<Service>(cluster, namespace),
        list::<Endpoints>(cluster, namespace),
        list::<PersistentVolumeClaim>(cluster, namespace),
        list::<Event>(cluster, namespace),
        list::<StatefulSet>(cluster, namespace),
        inventory(cluster, spec, namespace),
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
    let platform = &KubernetesPlatform::new(cluster, &spec.name);
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
        endpoints,
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

async fn inventory(cluster: &Cluster, spec: &ClusterSpec, namespace: NamespaceState) -> Observed<Option<Inventory>> {
    if namespace == NamespaceState::Missing {
        return Ok(None);
    }
    let api = cluster.api::<ConfigMap>();
    let name = spec.name.inventory();
    let action = format!("read ConfigMap {name}");
    let found = cluster.call(&action, || api.get_opt(&name)).await;
    match found.map_err(|error| error.to_string())? {
        Some(found) => Inventory::read(&found).map(Some).map_err(|error| error.to_string()),
        None => Ok(None),
    }
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
    let (probes, routes, orphans) = futures::join!(
        probe::query_pods(cluster, &observed, &services),
        routes::check_routes(cluster, &inventory, &observed, pods),
        orphans_of(platform, observed.pods.clone(), domain),
    );
    Existing {
        inventory,
        observed,
        state,
        probes,
        routes,
        orphans: orphans.unwrap_or_default(),
    }
}
