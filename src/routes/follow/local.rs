//! Pods and inventories on this machine: the clusters' folders are reread whenever one of their files changes.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;

use crate::lifecycle::Error;
use crate::model::error_chain::with_sources;
use crate::model::labels::{COMPONENT, Component, INSTANCE};
use crate::platform;
use crate::platform::local::store::{ClusterDir, ObservedState, Store};
use crate::platform::transport::Transport;
use crate::render::inventory::Summary;
use crate::routes::follow::{Event, Follow, ListChange, ObjectKey, ObservedPod, folder_watcher};
use crate::spec::names::Namespace;

/// How often to reread without a notification: a file system may send none.
const AT_LEAST_EVERY: Duration = Duration::from_secs(2);

/// Follows the clusters of a namespace, or of all, on this machine.
pub fn follow(store: Store, namespace: Option<Namespace>) -> Follow {
    Follow::start(Transport::Direct, |events, tasks| {
        tasks.spawn(poll(store, namespace, events));
    })
}

async fn poll(store: Store, namespace: Option<Namespace>, events: mpsc::Sender<Event>) {
    let (watcher, mut changes) = folder_watcher(|_| true);
    let mut watcher = watcher
        .inspect_err(|error| tracing::info!("failed to watch files for changes: {error}"))
        .ok();
    loop {
        if let Some(watcher) = &mut watcher {
            for folder in store.folders(namespace.as_ref()) {
                // It may have been removed, or not exist yet.
                let _ = watcher.watch(&folder, RecursiveMode::NonRecursive);
            }
        }
        match clusters(&store, namespace.as_ref()) {
            Ok(clusters) => {
                if report(clusters, &events).await.is_err() {
                    return;
                }
            }
            Err(error) => tracing::warn!("{}", with_sources(&error)),
        }
        // Reread with or without a notification.
        let _ = tokio::time::timeout(AT_LEAST_EVERY, changes.recv()).await;
    }
}

/// The inventory and pods of a cluster.
type LocalCluster = (ObjectKey, Summary, ObservedState);

/// The clusters; of one that cannot be understood only its key.
fn clusters(store: &Store, namespace: Option<&Namespace>) -> Result<Vec<Result<LocalCluster, ObjectKey>>, Error> {
    let mut found = Vec::new();
    for dir in store.clusters(namespace)? {
        match cluster(&dir) {
            Ok(cluster) => found.extend(cluster.map(Ok)),
            Err(error) => {
                tracing::warn!("{}/{}: {}", dir.namespace, dir.name, with_sources(&error));
                // Routes to a cluster that a newer sparkha changes meanwhile stay.
                let is_newer = matches!(&error, Error::Platform(error) if error.newer_format().is_some());
                found.extend(is_newer.then(|| Err((dir.namespace.to_string(), dir.name.to_string()))));
            }
        }
    }
    Ok(found)
}

fn cluster(dir: &ClusterDir) -> Result<Option<LocalCluster>, Error> {
    let Some(wanted) = dir.desired()? else { return Ok(None) };
    let Some(inventory) = wanted.inventory(&dir.name).map_err(platform::Error::from)? else {
        return Ok(None);
    };
    let key = (dir.namespace.to_string(), dir.name.to_string());
    Ok(Some((key, inventory.cluster, dir.observed()?)))
}

async fn report(
    clusters: Vec<Result<LocalCluster, ObjectKey>>,
    events: &mpsc::Sender<Event>,
) -> Result<(), mpsc::error::SendError<Event>> {
    events.send(Event::Cluster(ListChange::Begin)).await?;
    events.send(Event::Pod(ListChange::Begin)).await?;
    for cluster in clusters {
        let ((namespace, name), summary, seen) = match cluster {
            Ok(cluster) => cluster,
            Err(key) => {
                events.send(Event::Cluster(ListChange::Unknown(key))).await?;
                continue;
            }
        };
        let drivers = drivers(&namespace, &name);
        let drivers_address = seen.driver_address.map(|address| address.to_string());
        let pods = seen.pods.into_iter().map(|record| {
            let address = record.pod.status.and_then(|status| status.pod_ip);
            (record.pod.metadata, address)
        });
        for (metadata, address) in pods.chain([(drivers, drivers_address)]) {
            let key = (namespace.clone(), metadata.name.clone().unwrap_or_default());
            if let Some(pod) = ObservedPod::of(&metadata, None, address.as_deref()) {
                events.send(Event::Pod(ListChange::Is(key, pod))).await?;
            }
        }
        let cluster = ListChange::Is((namespace, name), Box::new(summary));
        events.send(Event::Cluster(cluster)).await?;
    }
    events.send(Event::Pod(ListChange::End)).await?;
    events.send(Event::Cluster(ListChange::End)).await
}

/// Represents the drivers in the user's own shell.
fn drivers(namespace: &str, cluster: &str) -> ObjectMeta {
    let labels = [(INSTANCE, cluster), (COMPONENT, Component::Driver.as_str())];
    ObjectMeta {
        name: Some(format!("{cluster}-drivers")),
        namespace: Some(namespace.to_owned()),
        labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
        ..Default::default()
    }
}
