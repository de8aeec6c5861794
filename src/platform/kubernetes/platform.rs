//! A cluster in a Kubernetes namespace.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Event, PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::core::DynamicObject;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::lock::{self, AnnotationLock};
use super::watch::Watch;
use super::{Cluster, FIELD_MANAGER, NodeReader, drivers};
use crate::model::kind::Kind;
use crate::model::labels::{ALIAS, Component, MANAGED_BY, SPARKHA, cluster_selector, is_of_cluster};
use crate::model::managed_fields::owned;
use crate::platform::observer::{Observer, PodFilter};
use crate::platform::transport::Transport;
use crate::platform::{
    Backend, Baseline, Bounds, Claim, DriverState, Error, Intent, Lock, Observation, Platform, Read, kubernetes,
};
use crate::render::Resource;
use crate::render::auth::keys;
use crate::render::inventory::{Inventory, Summary};
use crate::render::workloads::ON_DELETE;
use crate::spec::names::{ClusterName, Namespace};
use crate::state::Facts;

/// Concurrent requests for objects of one kind.
const CONCURRENCY: usize = 16;

/// A cluster in a Kubernetes namespace.
#[derive(Clone)]
pub struct KubernetesPlatform {
    pub(super) cluster: Cluster,
    pub(super) name: ClusterName,
    pub(super) observed: Rc<Mutex<ObservedCluster>>,
}

/// What observations keep from one to the next.
pub(super) struct ObservedCluster {
    /// Begun by the first [`Observation::Repeated`].
    watch: Option<Watch>,
    /// Keeps its connections to the masters.
    observer: Observer,
    pub(super) nodes: NodeReader,
    /// When each node was first observed to be lost.
    pub(super) lost_since: BTreeMap<String, Instant>,
}

impl KubernetesPlatform {
    pub fn new(cluster: &Cluster, name: &ClusterName) -> Self {
        let observed = ObservedCluster {
            watch: None,
            observer: Observer::new(Transport::PortForward(cluster.clone())),
            nodes: NodeReader::default(),
            lost_since: BTreeMap::new(),
        };
        Self {
            cluster: cluster.clone(),
            name: name.clone(),
            observed: Rc::new(Mutex::new(observed)),
        }
    }

    async fn inventory_object(&self) -> Result<Option<DynamicObject>, kubernetes::Error> {
        self.cluster.get(Kind::ConfigMap, &self.name.inventory()).await
    }

    /// Whether the object is this cluster's inventory, and not somebody else's ConfigMap of that name.
    fn is_ours(&self, object: &DynamicObject) -> bool {
        is_of_cluster(object.metadata.labels.as_ref(), self.name.as_str())
    }

    fn baseline_of(&self, object: Option<DynamicObject>) -> Result<Baseline, Error> {
        let ours = object.as_ref().filter(|object| self.is_ours(object));
        let inventory = ours.map(|object| Ok::<_, Error>(read_inventory(object)?.writable()?));
        Ok(Baseline {
            inventory: inventory.transpose()?,
            damage: None,
            is_first: ours.is_some_and(lock::is_first),
            read: Read::Kubernetes(object.map(Box::new)),
        })
    }
}

/// Parses the inventory in its ConfigMap.
fn read_inventory(object: &DynamicObject) -> Result<Inventory, Error> {
    let config_map: ConfigMap = object.clone().try_parse().unwrap_or_default();
    Ok(Inventory::read(&config_map)?)
}

#[async_trait(?Send)]
impl Platform for KubernetesPlatform {
    fn name(&self) -> &ClusterName {
        &self.name
    }

    fn namespace(&self) -> &Namespace {
        self.cluster.namespace()
    }

    fn sibling(&self, name: &ClusterName) -> Rc<dyn Platform> {
        Rc::new(Self::new(&self.cluster, name))
    }

    fn backend(&self) -> Backend<'_> {
        Backend::Kubernetes(&self.cluster)
    }

    fn description(&self) -> String {
        format!(
            "cluster {} in namespace {} of {}",
            self.name,
            self.namespace(),
            self.cluster.server()
        )
    }

    async fn inventory(&self) -> Result<Option<Inventory>, Error> {
        let object = self.inventory_object().await?;
        let ours = object.filter(|object| self.is_ours(object));
        ours.as_ref().map(read_inventory).transpose()
    }

    async fn known_as(&self, alias: &ClusterName) -> Result<Vec<Summary>, Error> {
        let selector = format!("{MANAGED_BY}={SPARKHA},{ALIAS}={alias}");
        let listed = match self.cluster.list_of::<ConfigMap>(&selector).await {
            Err(kubernetes::Error::Forbidden { .. }) => vec![],
            listed => listed?,
        };
        let summaries = listed
            .iter()
            .filter_map(Inventory::read_among)
            .map(|inventory| inventory.cluster);
        Ok(summaries.filter(|summary| summary.is_known_as(alias)).collect())
    }

    async fn object(&self, kind: Kind, name: &str) -> Result<Option<DynamicObject>, Error> {
        Ok(self.cluster.get(kind, name).await?)
    }

    async fn secret(&self, name: &str) -> Result<BTreeMap<String, ByteString>, Error> {
        match self.cluster.get(Kind::Secret, name).await? {
            Some(found) => Ok(keys(&found)),
            None => Err(Error::NoSecret {
                reason: format!("there is no Secret {name}"),
            }),
        }
    }

    async fn pods(&self) -> Result<Vec<Pod>, Error> {
        Ok(self.cluster.list_of(&cluster_selector(&self.name)).await?)
    }

    async fn facts(&self, observation: Observation) -> Result<Facts, Error> {
        let ObservedCluster {
            watch, observer, nodes, ..
        } = &mut *self.observed.lock().await;
        let (pods, sets, filter) = match observation {
            Observation::Once => {
                let selector = cluster_selector(&self.name);
                let (pods, sets) = futures::try_join!(
                    self.cluster.list_of::<Pod>(&selector),
                    self.cluster.list_of::<StatefulSet>(&selector),
                )?;
                (pods, sets, PodFilter::Running)
            }
            Observation::Repeated => {
                let watch = match watch {
                    Some(watch) => watch,
                    None => watch.insert(Watch::start(&self.cluster, &self.name).await),
                };
                (watch.pods(), watch.sets(), PodFilter::Ready)
            }
        };
        let mut facts = observer.query(pods, sets, filter).await;
        nodes.complete(&self.cluster, &mut facts).await;
        Ok(facts)
    }

    async fn events(&self) -> Vec<Event> {
        let observed = self.observed.lock().await;
        observed.watch.as_ref().map(Watch::events).unwrap_or_default()
    }

    async fn last_log(&self, pod: &Pod, lines: usize) -> String {
        let mut containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        let Some(container) = containers.next() else {
            return String::new();
        };
        match self.cluster.previous_log(pod, &container.name, lines as i64).await {
            Ok(log) => log,
            Err(error) => format!("({error})"),
        }
    }

    fn transport(&self) -> Transport {
        Transport::PortForward(self.cluster.clone())
    }

    fn poll_interval(&self) -> Duration {
        Duration::from_millis(200)
    }

    async fn drivers(&self) -> Result<Vec<DriverState>, Error> {
        Ok(drivers::among(&self.pods().await?, &self.name))
    }

    async fn end_driver(&self, driver: &str, wait: bool) -> Result<(), Error> {
        drivers::terminate(&self.cluster, driver).await?;
        if wait {
            drivers::wait_until_ended(&self.cluster, driver).await?;
        }
        Ok(())
    }

    async fn kill_pod(&self, pod: &Pod, hard: bool) -> Result<(), Error> {
        Ok(self.cluster.delete_pod(pod, hard.then_some(0)).await?)
    }

    async fn baseline(&self) -> Result<Baseline, Error> {
        let mut object = self.inventory_object().await?;
        if lock::wait_for_lock(&self.cluster, &self.name, object.as_ref()).await? {
            object = self.inventory_object().await?;
        }
        self.baseline_of(object)
    }

    async fn lock(&self, baseline: &Baseline, intent: Intent<'_>) -> Result<Box<dyn Lock>, Error> {
        let (Read::Kubernetes(observed), Some(inventory)) = (&baseline.read, intent.inventory) else {
            return Err(Error::no_cluster(&self.name, self.namespace()));
        };
        let lock = lock::take(&self.cluster, &self.name, observed.as_deref(), inventory, intent).await?;
        let platform = Self {
            cluster: lock.fenced(),
            ..self.clone()
        };
        Ok(Box::new(KubernetesLock {
            lock,
            platform,
            inventory: inventory.clone(),
        }))
    }

    async fn undoable(&self, id: &str) -> Result<Option<Baseline>, Error> {
        let object = lock::undoable(&self.cluster, &self.name, id).await?;
        object.map(|object| self.baseline_of(Some(object))).transpose()
    }

    async fn confirm_first(&self) -> Result<(), Error> {
        lock::confirm_first(&self.cluster, &self.name).await
    }

    async fn apply(&self, resources: &[Resource], force: bool) -> Result<(), Error> {
        if resources.iter().any(|resource| resource.kind == Kind::StatefulSet) {
            // A watch may show them as they were before for a moment.
            self.observed.lock().await.watch = None;
        }
        let applied = stream::iter(resources).map(|resource| async move {
            let Resource { kind, name, object } = resource;
            self.cluster.apply(*kind, name, object, force).await.map(drop)
        });
        Ok(applied.buffer_unordered(CONCURRENCY).try_collect().await?)
    }

    async fn put_secret(
        &self,
        name: &str,
        values: BTreeMap<String, String>,
        new: Option<&Resource>,
    ) -> Result<(), Error> {
        let values = values
            .into_iter()
            .map(|(key, value)| (key, ByteString(value.into_bytes())));
        let data = json!(values.collect::<BTreeMap<_, _>>());
        let Some(new) = new else {
            self.cluster.merge(Kind::Secret, name, &json!({"data": data})).await?;
            return Ok(());
        };
        let mut object = new.object.clone();
        if let Some(fields) = object.as_object_mut() {
            fields.remove("stringData");
            fields.insert("data".into(), data);
        }
        self.cluster.apply(Kind::Secret, name, &object, false).await?;
        Ok(())
    }

    async fn scale(&self, set: &DynamicObject, replicas: u32, force: bool) -> Result<(), Error> {
        let mut fields = owned(set, FIELD_MANAGER);
        fields["spec"]["replicas"] = json!(replicas);
        self.cluster
            .apply(Kind::StatefulSet, &set.name_any(), &fields, force)
            .await?;
        Ok(())
    }

    async fn set_strategy(&self, set: &str, strategy: &str) -> Result<(), Error> {
        // This needs a merge patch: the server defaults `rollingUpdate`, which `OnDelete` does not allow.
        let mut patch = json!({"spec": {"updateStrategy": {"type": strategy}}});
        if strategy == ON_DELETE {
            patch["spec"]["updateStrategy"]["rollingUpdate"] = Value::Null;
        }
        self.cluster.merge(Kind::StatefulSet, set, &patch).await?;
        Ok(())
    }

    async fn replace_pods(&self, _: &str, pods: &[Pod]) -> Result<(), Error> {
        try_join_all(pods.iter().map(|pod| self.cluster.delete_pod(pod, None))).await?;
        Ok(())
    }

    async fn delete(&self, kind: Kind, name: &str, uid: Option<String>) -> Result<(), Error> {
        Ok(self.cluster.delete(kind, name, uid).await?)
    }

    async fn restart(&self, components: &[Component], bounds: &Bounds<'_>) -> Result<(), Error> {
        self.restart_pods(components, bounds).await
    }

    async fn ensure_running(&self) -> Result<bool, Error> {
        Ok(false)
    }

    async fn claims(&self, inventory: Option<&Inventory>) -> Result<Vec<Claim>, Error> {
        let claims: Vec<PersistentVolumeClaim> = self.cluster.list_of(&cluster_selector(&self.name)).await?;
        let claims = claims.into_iter().map(|claim| Claim {
            name: claim.name_any(),
            uid: claim.metadata.uid,
        });
        Ok(claims
            .filter(|claim| inventory.is_none_or(|inventory| inventory.owns_claim(&claim.name)))
            .collect())
    }
}

struct KubernetesLock {
    lock: AnnotationLock,
    /// With a fence.
    platform: KubernetesPlatform,
    /// What may exist while it is held.
    inventory: Inventory,
}

#[async_trait(?Send)]
impl Lock for KubernetesLock {
    fn id(&self) -> &str {
        self.lock.id()
    }

    fn platform(&self) -> &dyn Platform {
        &self.platform
    }

    async fn check(&self, action: &str) -> Result<SystemTime, Error> {
        Ok(self.lock.check(action).await?)
    }

    async fn release(&mut self, inventory: &Inventory, undoable: bool) -> Result<(), Error> {
        self.lock.release(inventory, undoable).await
    }

    async fn stop(&self, component: Component, bounds: &Bounds<'_>) -> Result<(), Error> {
        self.platform.stop_component(component, &self.inventory, bounds).await
    }

    async fn remove(self: Box<Self>, claims: &[Claim], bounds: &Bounds<'_>) -> Result<(), Error> {
        self.platform
            .remove_rest(self.lock, &self.inventory, claims, bounds)
            .await
    }
}
