//! Watches a cluster's pods, StatefulSets and warning events, keeps them in memory, and reconnects after every loss.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::core::{NamespaceResourceScope, Resource};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use serde::de::DeserializeOwned;

use super::Cluster;
use crate::model::labels::cluster_selector;
use crate::spec::names::ClusterName;

/// A running watch. Stops when dropped.
pub struct Watch {
    pods: Store<Pod>,
    sets: Store<StatefulSet>,
    events: Store<Event>,
    tasks: Vec<tokio::task::AbortHandle>,
}

impl Watch {
    /// Starts watching, and waits until pods and StatefulSets have been listed once, for at most 10 s. Events are optional: without the
    /// permission to read them there are none.
    pub async fn start(cluster: &Cluster, name: &ClusterName) -> Self {
        let ours = watcher::Config::default().labels(&cluster_selector(name));
        let warnings = watcher::Config::default().fields("type=Warning");
        let (pods, pod_task) = follow(cluster, ours.clone());
        let (sets, set_task) = follow(cluster, ours);
        let (events, event_task) = follow(cluster, warnings);
        let watch = Self {
            pods,
            sets,
            events,
            tasks: vec![pod_task, set_task, event_task],
        };
        // The watchers reconnect by themselves, so the first list may also come later. The caller bounds that wait.
        let listed = async {
            let _ = futures::join!(watch.pods.wait_until_ready(), watch.sets.wait_until_ready());
        };
        let _ = tokio::time::timeout(Duration::from_secs(10), listed).await;
        watch
    }

    pub fn pods(&self) -> Vec<Pod> {
        objects(&self.pods)
    }

    pub fn sets(&self) -> Vec<StatefulSet> {
        objects(&self.sets)
    }

    pub fn events(&self) -> Vec<Event> {
        objects(&self.events)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::AbortHandle::abort);
    }
}

fn objects<K>(store: &Store<K>) -> Vec<K>
where
    K: Clone + Resource + 'static,
    K::DynamicType: std::hash::Hash + Eq + Clone,
{
    store.state().iter().map(|object| K::clone(object)).collect()
}

fn follow<K>(cluster: &Cluster, config: watcher::Config) -> (Store<K>, tokio::task::AbortHandle)
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
    K::DynamicType: Default + Eq + std::hash::Hash + Clone,
    ObjectRef<K>: Send,
{
    let (store, writer) = reflector::store();
    cluster.count_request();
    let mut stream: BoxStream<'static, _> = watcher(cluster.api::<K>(), config)
        .default_backoff()
        .reflect(writer)
        .boxed();
    let task = tokio::spawn(async move {
        while let Some(event) = stream.next().await {
            if let Err(error) = event {
                tracing::info!("a watch was interrupted and is restarted: {error}");
            }
        }
    });
    (store, task.abort_handle())
}
