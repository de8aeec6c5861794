//! Pods and inventories on Kubernetes, listed and watched. Only the metadata and address of pods are read.

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use kube::runtime::{WatchStreamExt, watcher};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::model::labels::{COMPONENT, Component, INSTANCE, MANAGED_BY, SPARKHA};
use crate::platform::kubernetes::slim::{SlimPod, slim_pods};
use crate::platform::kubernetes::{Cluster, Error};
use crate::render::inventory::Inventory;
use crate::routes::follow::{Event, ListChange, ObjectKey, ObservedPod};

/// Page size of lists: a page must fit into memory.
const PAGE: u32 = 100;

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

fn inventory_selector() -> String {
    format!("{MANAGED_BY}={SPARKHA},{COMPONENT}={}", Component::Cluster.as_str())
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
    let config = |selector: &str| watcher::Config::default().labels(selector).page_size(PAGE);
    let pods = watcher(slim_pods(cluster, all_namespaces), config(&pod_selector()));
    let inventories = watcher(inventories(cluster, all_namespaces), config(&inventory_selector()));
    let convert = |pod: &SlimPod| {
        let address = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref());
        Some((key(pod), ObservedPod::of(&pod.metadata, address)?))
    };
    let summary = |config_map: &ConfigMap| {
        let cluster = Inventory::read_among(config_map)?.cluster;
        Some(((config_map.namespace()?, cluster.name.to_string()), Box::new(cluster)))
    };
    // A pod that is no longer routed (it is being deleted) counts as gone; an inventory's name contains the cluster's.
    let inventory_key = |config_map: &ConfigMap| {
        let (namespace, name) = key(config_map);
        let cluster = config_map.labels().get(INSTANCE).cloned().unwrap_or(name);
        (namespace, cluster)
    };
    cluster.count_request();
    cluster.count_request();
    tasks.spawn(forward(pods, convert, key, Event::Pod, events.clone()));
    tasks.spawn(forward(inventories, summary, inventory_key, Event::Cluster, events));
}

fn key(object: &impl ResourceExt) -> ObjectKey {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// Forwards the events of a watch until the receiver is dropped. Lost watches are restarted.
async fn forward<K, T>(
    watch: impl futures::Stream<Item = watcher::Result<watcher::Event<K>>>,
    convert: impl Fn(&K) -> Option<(ObjectKey, T)>,
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
            Ok(watcher::Event::InitApply(object) | watcher::Event::Apply(object)) => match convert(&object) {
                Some((key, object)) => ListChange::Is(key, object),
                None => ListChange::Gone(key(&object)),
            },
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
