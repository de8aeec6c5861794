//! Pods and inventories on Kubernetes, listed and watched. Only the metadata, phase and address of pods are read.

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use kube::runtime::{WatchStreamExt, watcher};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::model::labels::{COMPONENT, Component, INSTANCE, inventories_selector};
use crate::platform::kubernetes::slim::{SlimPod, slim_pods};
use crate::platform::kubernetes::{Cluster, Error};
use crate::render::inventory::{Inventory, Summary};
use crate::routes::follow::{Event, ListChange, ObjectKey, ObservedPod};
use crate::spec::names::INVENTORY_SUFFIX;

/// Page sizes of lists: a page must fit into memory. Some clusters' ConfigMaps have 60 KiB.
const PODS: u32 = 100;
const CONFIG_MAPS: u32 = 20;

fn inventories(cluster: &Cluster, all_namespaces: bool) -> Api<ConfigMap> {
    if all_namespaces {
        Api::all(cluster.client())
    } else {
        cluster.api()
    }
}

fn pod_selector() -> String {
    let routed = [
        Component::Master,
        Component::Worker,
        Component::Driver,
        Component::History,
        Component::Connect,
    ];
    format!(
        "{INSTANCE},{COMPONENT} in ({})",
        routed.map(Component::as_str).join(",")
    )
}

/// Checks that both may be listed, and that the API server responds.
pub async fn check(cluster: &Cluster, all_namespaces: bool) -> Result<(), Error> {
    let one = ListParams::default().limit(1);
    let pods = slim_pods(cluster, all_namespaces);
    let inventories = inventories(cluster, all_namespaces);
    futures::try_join!(
        cluster.call("list pods", || pods.list_metadata(&one)),
        cluster.call("list configmaps", || inventories.list_metadata(&one)),
    )?;
    Ok(())
}

/// Starts to list and watch.
pub fn follow(cluster: &Cluster, all_namespaces: bool, events: mpsc::Sender<Event>, tasks: &mut JoinSet<()>) {
    let config = |selector: &str, page| watcher::Config::default().labels(selector).page_size(page);
    let pods = watcher(slim_pods(cluster, all_namespaces), config(&pod_selector(), PODS));
    let inventories = watcher(
        inventories(cluster, all_namespaces),
        config(&inventories_selector(), CONFIG_MAPS),
    );
    cluster.count_request();
    cluster.count_request();
    tasks.spawn(forward(pods, pod_change, key, Event::Pod, events.clone()));
    tasks.spawn(forward(
        inventories,
        cluster_change,
        inventory_key,
        Event::Cluster,
        events,
    ));
}

/// A pod that is no longer routed, because it has ended or is being deleted, counts as gone.
fn pod_change(pod: &SlimPod) -> ListChange<ObservedPod> {
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref());
    let address = status.and_then(|status| status.pod_ip.as_deref());
    match ObservedPod::of(&pod.metadata, phase, address) {
        Some(observed) => ListChange::Is(key(pod), observed),
        None => ListChange::Gone(key(pod)),
    }
}

/// The cluster whose inventory it is. The cluster's other ConfigMap may have the same labels, and has the key of no cluster.
fn inventory_key(config_map: &ConfigMap) -> ObjectKey {
    let (namespace, name) = key(config_map);
    let cluster = config_map
        .labels()
        .get(INSTANCE)
        .filter(|_| name.ends_with(INVENTORY_SUFFIX));
    (
        namespace,
        cluster.cloned().unwrap_or_else(|| format!("configmap/{name}")),
    )
}

fn cluster_change(config_map: &ConfigMap) -> ListChange<Box<Summary>> {
    let key = inventory_key(config_map);
    match Inventory::read_among(config_map) {
        Some(inventory) => ListChange::Is(key, Box::new(inventory.cluster)),
        // Routes to a cluster that a newer sparkha changes meanwhile stay.
        None if Inventory::is_of_newer(config_map) => ListChange::Unknown(key),
        None => ListChange::Gone(key),
    }
}

fn key(object: &impl ResourceExt) -> ObjectKey {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// Forwards the events of a watch until the receiver is dropped. Lost watches are restarted.
async fn forward<K, T>(
    watch: impl futures::Stream<Item = watcher::Result<watcher::Event<K>>>,
    convert: impl Fn(&K) -> ListChange<T>,
    key: impl Fn(&K) -> ObjectKey,
    event: impl Fn(ListChange<T>) -> Event,
    events: mpsc::Sender<Event>,
) where
    K: Clone,
{
    let mut watch = std::pin::pin!(watch.default_backoff());
    while let Some(next) = watch.next().await {
        let change = match next {
            Ok(watcher::Event::Init) => ListChange::Begin,
            Ok(watcher::Event::InitDone) => ListChange::End,
            Ok(watcher::Event::InitApply(object) | watcher::Event::Apply(object)) => convert(&object),
            Ok(watcher::Event::Delete(object)) => ListChange::Gone(key(&object)),
            Err(error) => {
                tracing::info!("a watch was interrupted and is restarted: {error}");
                continue;
            }
        };
        if events.send(event(change)).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::render::render;
    use crate::routes::follow::Listed;
    use crate::spec::resolve::resolve;

    #[test]
    fn a_pod_is_gone_once_it_has_ended() {
        let mut pods = Listed::default();
        let mut take = |phase: &str| {
            let labels = json!({INSTANCE: "spark", COMPONENT: "driver"});
            let pod = json!({
                "metadata": {"name": "job", "namespace": "data", "uid": "1", "labels": labels},
                "spec": {},
                "status": {"phase": phase, "podIP": "10.1.2.3"},
            });
            pods.take(pod_change(&serde_json::from_value(pod).unwrap()));
            pods.objects.len()
        };
        assert_eq!((take("Running"), take("Succeeded")), (1, 0));
        assert_eq!((take("Running"), take("Failed")), (1, 0));
    }

    #[test]
    fn a_cluster_stays_routed_while_its_configuration_or_the_format_of_its_inventory_changes() {
        let spec = resolve(None, &Default::default()).unwrap();
        let all = render(&spec).all(&spec).into_iter();
        let config_map = |name: &str| -> ConfigMap {
            let mut all = all.clone();
            let mut object = all.find(|resource| resource.name == name).unwrap().object;
            object["metadata"]["namespace"] = json!("data");
            serde_json::from_value(object).unwrap()
        };
        let (inventory, conf) = (config_map("spark-sparkha"), config_map("spark-conf"));
        let mut clusters = Listed::default();
        assert!(clusters.take(cluster_change(&inventory)));
        assert!(!clusters.take(cluster_change(&conf)));
        assert!(!clusters.take(ListChange::Gone(inventory_key(&conf))));
        let mut newer = inventory.clone();
        let newer_data = newer.data.as_mut().unwrap();
        newer_data.insert(
            "cluster.json".into(),
            json!({"format": 99, "sparkhaVersion": "9.0.0"}).to_string(),
        );
        assert!(!clusters.take(cluster_change(&newer)));
        // Also when everything is listed again.
        assert!(!clusters.take(ListChange::Begin));
        assert!(!clusters.take(cluster_change(&conf)));
        assert!(!clusters.take(cluster_change(&newer)));
        assert!(clusters.take(ListChange::End), "the first list has ended");
        assert_eq!(clusters.objects.len(), 1);
        let mut damaged = inventory.clone();
        damaged.data = None;
        assert!(clusters.take(cluster_change(&damaged)));
    }
}
