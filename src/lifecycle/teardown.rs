//! `sparkha teardown`: removes objects that the inventory lists and that have the cluster's labels; workers first, so
//! that masters and ZooKeeper are left clean. Then waits until the objects are gone, and reports what blocks their
//! removal.

use std::collections::BTreeMap;
use std::ops::ControlFlow::{Break, Continue};
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::core::DynamicObject;

use crate::console::progress::Progress;
use crate::lifecycle::external_zookeeper::{Znodes, removable, remove_znodes};
use crate::lifecycle::inventory::read_inventory;
use crate::lifecycle::namespace::{Removal, remove_if_empty};
use crate::lifecycle::place::Place;
use crate::lifecycle::preflight::permissions::may;
use crate::lifecycle::{Error, lock};
use crate::model::kind::Kind;
use crate::model::labels::{COMPONENT, Component, cluster_selector, is_of_cluster, is_ours};
use crate::platform::kubernetes::{Cluster, NodeReader, drivers};
use crate::platform::poll::poll_until;
use crate::render::inventory::Inventory;
use crate::render::teardown_script::in_teardown_order;
use crate::spec::names::ClusterName;
use crate::spec::words::counted;
use crate::state::nodes::{self, Loss, LostNode, is_out_of_touch, node_of};

/// Options of teardown.
#[derive(Clone, Debug)]
pub struct TeardownOptions {
    pub timeout: Duration,
    /// Keep volume claims.
    pub keep_claims: bool,
    /// What to do with the znodes in an external ZooKeeper.
    pub znodes: Znodes,
    /// Delete pods of lost nodes without confirmation from these nodes.
    pub force: bool,
}

/// The resources that teardown removes after confirmation.
pub struct KubernetesResources {
    inventory: Inventory,
    object: DynamicObject,
    /// Volume claims with data.
    pub claims: Vec<PersistentVolumeClaim>,
    /// Description of the znodes in an external ZooKeeper.
    pub znodes: Option<String>,
}

const LOOK_EVERY: Duration = Duration::from_millis(300);
/// How long a node must be lost while teardown watches. Kubernetes has waited before it reports that, by default 40 s.
const LOST_AFTER: Duration = Duration::from_secs(30);
/// How long pods may take to terminate before their nodes are checked.
const GRACE: Duration = Duration::from_secs(15);
/// Grace period of pods that are not decommissioned.
pub const UNDRAINED_SECONDS: u32 = 10;
/// Timeout of the cleanup after a failed create.
const UNDO_TIMEOUT: Duration = Duration::from_secs(120);

/// The cluster's resources, once no other command holds the lock. `None` if there is no such cluster.
pub async fn owned_resources(cluster: &Cluster, name: &ClusterName) -> Result<Option<KubernetesResources>, Error> {
    let mut found = cluster.get(Kind::ConfigMap, &name.inventory()).await?;
    if lock::wait_for_lock(cluster, name, found.as_ref()).await? {
        found = cluster.get(Kind::ConfigMap, &name.inventory()).await?;
    }
    match found {
        Some(object) => of_inventory(cluster, name, object).await,
        None => Ok(None),
    }
}

/// The resources of the cluster with this inventory.
async fn of_inventory(
    cluster: &Cluster,
    name: &ClusterName,
    object: DynamicObject,
) -> Result<Option<KubernetesResources>, Error> {
    if !is_ours(object.metadata.labels.as_ref()) {
        return Ok(None);
    }
    let inventory = read_inventory(&object)?;
    let claims = claims(cluster, name)
        .await?
        .into_iter()
        .filter(|claim| inventory.owns_claim(&claim.name_any()))
        .collect();
    Ok(Some(KubernetesResources {
        znodes: removable(name, cluster.namespace(), &inventory),
        inventory,
        object,
        claims,
    }))
}

/// Removes the cluster.
pub async fn teardown(
    cluster: &Cluster,
    name: &ClusterName,
    owned: KubernetesResources,
    options: &TeardownOptions,
    progress: &Progress,
) -> Result<(), Error> {
    let started = Instant::now();
    let KubernetesResources {
        inventory,
        object,
        claims,
        ..
    } = owned;
    let mut unlocked = serde_json::to_value(&object).unwrap_or_default();
    // Only our own fields are applied again.
    let metadata = &unlocked["metadata"];
    unlocked = serde_json::json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": metadata["name"], "labels": metadata["labels"]},
    });
    let lock = lock::take(cluster, name, Some(&object), unlocked, &inventory, false).await?;
    let cluster = &lock.fenced();
    let parts = [
        (Component::Driver, None),
        (Component::Connect, Some(name.connect())),
        (Component::History, Some(name.history())),
        (Component::Worker, Some(name.workers_set())),
        (Component::Master, Some(name.masters_set())),
        (Component::ZooKeeper, Some(name.zookeeper())),
    ];
    let mut ends = Ends {
        cluster,
        options,
        deadline: started + options.timeout,
        nodes: NodeReader::default(),
        lost_since: BTreeMap::new(),
        progress,
    };
    let may_hurry = may(cluster, "", "pods", "delete", None).await?;
    for (component, set) in parts {
        if component == Component::ZooKeeper {
            // No master runs any more that could write there.
            let platform = &Place::Kubernetes(cluster.clone(), name.clone());
            let remove = || remove_znodes(platform, &inventory, options.znodes, progress);
            lock.guard("remove znodes", remove).await?;
        }
        match set {
            Some(set) if component == Component::Worker && may_hurry => {
                delete_undrained(cluster, &inventory, &set, name).await?;
            }
            Some(set) => delete(cluster, &inventory, Kind::StatefulSet, &set, name).await?,
            // Drivers are in no inventory. They end first, so that the masters can unregister them.
            None => drivers::terminate_all(cluster, name).await?,
        }
        let selector = format!("{},{COMPONENT}={}", cluster_selector(name), component.as_str());
        ends.wait_for(&selector, component.as_str(), Until::Ended).await?;
    }
    ends.wait_for(&cluster_selector(name), "ended", Until::Gone).await?;
    let deadline = ends.deadline;
    let others = inventory.objects.iter().map(|entry| (entry.kind, entry.name.as_str()));
    let others = in_teardown_order(others)
        .into_iter()
        .filter(|&(_, object)| object != name.inventory());
    try_join_all(others.map(|(kind, object)| delete(cluster, &inventory, kind, object, name))).await?;
    if !options.keep_claims {
        remove_claims(cluster, &claims, deadline, options.timeout).await?;
    } else if !claims.is_empty() {
        progress.done(&format!("{} kept", counted(claims.len(), "volume claim")));
    }
    // The inventory and with it the lock are removed last: until then an interrupted teardown can continue, and no
    // other command can begin.
    match remove_if_empty(cluster, name, &inventory).await? {
        Removal::Removed => {
            drop(lock);
            wait_for_namespace(cluster, deadline, options.timeout, progress).await?;
        }
        Removal::NotOurs => lock.remove_inventory().await?,
        Removal::InUse(why) => {
            lock.remove_inventory().await?;
            progress.warn(&format!(
                "Namespace {} was created by sparkha but is kept: {why}",
                cluster.namespace()
            ));
        }
    }
    progress.clear_parts();
    progress.done(&format!("Gone after {:.1} s", started.elapsed().as_secs_f64()));
    Ok(())
}

/// Cleans up after a failed first create, unless another command has changed the cluster since. `id` is the id of its
/// lock. New claims hold no data yet; claims that existed before are kept. Returns false if nothing was removed.
pub async fn undo(
    cluster: &Cluster,
    name: &ClusterName,
    id: &str,
    before: &[PersistentVolumeClaim],
    znodes: Znodes,
    progress: &Progress,
) -> Result<bool, Error> {
    let options = TeardownOptions {
        timeout: UNDO_TIMEOUT,
        keep_claims: false,
        znodes,
        force: false,
    };
    let Some(object) = lock::undoable(cluster, name, id).await? else {
        return Ok(false);
    };
    let Some(mut owned) = of_inventory(cluster, name, object).await? else {
        return Ok(false);
    };
    let is_new = |claim: &PersistentVolumeClaim| before.iter().all(|old| old.uid() != claim.uid());
    owned.claims.retain(is_new);
    teardown(cluster, name, owned, &options, progress).await?;
    Ok(true)
}

/// The cluster's volume claims.
pub async fn claims(cluster: &Cluster, name: &ClusterName) -> Result<Vec<PersistentVolumeClaim>, Error> {
    Ok(cluster
        .list_of::<PersistentVolumeClaim>(&cluster_selector(name))
        .await?)
}

/// Deletes an object if the inventory lists it and it has the cluster's labels.
async fn delete(
    cluster: &Cluster,
    inventory: &Inventory,
    kind: Kind,
    object: &str,
    name: &ClusterName,
) -> Result<(), Error> {
    if inventory.entry(kind, object).is_none() {
        return Ok(());
    }
    let Some(found) = cluster.get(kind, object).await? else {
        return Ok(());
    };
    if !is_of_cluster(found.metadata.labels.as_ref(), name.as_str()) {
        tracing::warn!("{kind} {object} is in the inventory but does not have the cluster's labels; it is not deleted");
        return Ok(());
    }
    Ok(cluster.delete(kind, object, found.metadata.uid).await?)
}

/// Removes the workers without decommissioning: no worker is left to take over their data. The pods are deleted
/// directly, because not every server can shorten a grace period.
async fn delete_undrained(
    cluster: &Cluster,
    inventory: &Inventory,
    set: &str,
    name: &ClusterName,
) -> Result<(), Error> {
    if inventory.entry(Kind::StatefulSet, set).is_none() {
        return Ok(());
    }
    if let Some(found) = cluster.get(Kind::StatefulSet, set).await?
        && is_of_cluster(found.metadata.labels.as_ref(), name.as_str())
    {
        cluster.delete_alone(Kind::StatefulSet, set, found.metadata.uid).await?;
    }
    let selector = format!("{},{COMPONENT}={}", cluster_selector(name), Component::Worker.as_str());
    let pods = cluster.list_of::<Pod>(&selector).await?;
    let deleted = pods.iter().map(|pod| cluster.delete_pod(pod, Some(UNDRAINED_SECONDS)));
    try_join_all(deleted).await?;
    Ok(())
}

/// The state of pods that the next step requires.
#[derive(Clone, Copy, PartialEq)]
enum Until {
    /// Their containers have terminated and no longer write.
    Ended,
    Gone,
}

/// Waits for pods to terminate.
struct Ends<'a> {
    cluster: &'a Cluster,
    options: &'a TeardownOptions,
    deadline: Instant,
    nodes: NodeReader,
    /// When each node was first observed to be lost.
    lost_since: BTreeMap<String, Instant>,
    progress: &'a Progress,
}

impl Ends<'_> {
    async fn wait_for(&mut self, selector: &str, what: &str, until: Until) -> Result<(), Error> {
        let (begun, timeout) = (Instant::now(), self.options.timeout);
        poll_until(LOOK_EVERY, remaining(self.deadline), async || {
            let mut pods = self.cluster.list_of::<Pod>(selector).await?;
            pods.retain(|pod| until == Until::Gone || is_running(pod));
            if pods.is_empty() {
                return Ok(Break(()));
            }
            self.progress.part(
                "Teardown",
                &format!("{} left", counted(pods.len(), &format!("{what} pod"))),
            );
            let lost = self.lost(&pods, begun).await;
            if let Some(lost) = &lost {
                let known = lost.iter().all(|lost| lost.loss != Loss::Suspected);
                if !self.options.force || !known {
                    return Err(Error::LostNodes {
                        lost: lost.clone(),
                        known,
                    });
                }
                self.forget(&pods, lost).await?;
            }
            let blockers = pods.iter().map(|pod| blocker("Pod", &pod.name_any(), pod.finalizers()));
            Ok(Continue(still_there(timeout, blockers)))
        })
        .await
    }

    /// The nodes of these pods, if all are lost and have been for [`LOST_AFTER`], counted from the first observation,
    /// because clocks are not compared.
    async fn lost(&mut self, pods: &[Pod], begun: Instant) -> Option<Vec<LostNode>> {
        // A pod that was not ready before does not appear out of touch.
        if begun.elapsed() < GRACE && !pods.iter().any(is_out_of_touch) {
            return None;
        }
        let lost = nodes::lost(pods, &self.nodes.read(self.cluster).await);
        let is_lost = |node: &str| lost.iter().any(|lost| lost.node == node);
        for node in pods.iter().filter_map(node_of).filter(|node| !is_lost(node)) {
            self.lost_since.remove(node);
        }
        let mut for_long = true;
        for lost in &lost {
            let since = self.lost_since.entry(lost.node.clone()).or_insert_with(Instant::now);
            for_long &= since.elapsed() >= LOST_AFTER;
        }
        let theirs: usize = lost.iter().map(|lost| lost.terminating.len()).sum();
        (for_long && theirs == pods.len()).then_some(lost)
    }

    /// Force-deletes pods whose nodes cannot confirm the deletion.
    async fn forget(&self, pods: &[Pod], lost: &[LostNode]) -> Result<(), Error> {
        for lost in lost {
            self.progress.warn(&format!(
                "{} of lost node {} force-deleted",
                lost.pods.join(", "),
                lost.node
            ));
        }
        try_join_all(pods.iter().map(|pod| self.cluster.delete_pod(pod, Some(0)))).await?;
        Ok(())
    }
}

/// Whether the pod may still run: it is not marked for deletion, or one of its containers runs.
fn is_running(pod: &Pod) -> bool {
    let containers = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten());
    pod.metadata.deletion_timestamp.is_none()
        || containers
            .filter_map(|container| container.state.as_ref())
            .any(|state| state.running.is_some())
}

async fn remove_claims(
    cluster: &Cluster,
    claims: &[PersistentVolumeClaim],
    deadline: Instant,
    timeout: Duration,
) -> Result<(), Error> {
    let api = cluster.api::<PersistentVolumeClaim>();
    try_join_all(claims.iter().map(|claim| {
        let api = &api;
        async move {
            let name = claim.name_any();
            let action = format!("delete PersistentVolumeClaim {name}");
            cluster.delete_in(api, &name, claim.uid(), &action).await
        }
    }))
    .await?;
    poll_until(LOOK_EVERY, remaining(deadline), async || {
        let mut left = Vec::new();
        for claim in claims {
            let name = claim.name_any();
            let action = format!("read PersistentVolumeClaim {name}");
            let found = cluster.call(&action, || api.get_opt(&name)).await?;
            left.extend(found.filter(|found| found.uid() == claim.uid()));
        }
        if left.is_empty() {
            return Ok(Break(()));
        }
        let blockers = left
            .iter()
            .map(|claim| blocker("PersistentVolumeClaim", &claim.name_any(), claim.finalizers()));
        Ok(Continue(still_there(timeout, blockers)))
    })
    .await
}

async fn wait_for_namespace(
    cluster: &Cluster,
    deadline: Instant,
    timeout: Duration,
    progress: &Progress,
) -> Result<(), Error> {
    let api: kube::Api<k8s_openapi::api::core::v1::Namespace> = kube::Api::all(cluster.client());
    let name = cluster.namespace().as_str();
    progress.part("Teardown", &format!("namespace {name}"));
    poll_until(LOOK_EVERY, remaining(deadline), async || {
        let found = cluster
            .call(&format!("read Namespace {name}"), || api.get_opt(name))
            .await?;
        let Some(namespace) = found else {
            progress.done(&format!("Namespace {name} removed"));
            return Ok(Break(()));
        };
        let conditions = namespace
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten());
        let reasons: Vec<_> = conditions
            .filter(|condition| condition.status == "True")
            .filter_map(|condition| condition.message.clone())
            .collect();
        let blocker = format!("Namespace {name} ({})", reasons.join(", "));
        Ok(Continue(still_there(timeout, std::iter::once(blocker))))
    })
    .await
}

fn remaining(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

fn still_there(timeout: Duration, blockers: impl Iterator<Item = String>) -> Error {
    Error::StillThere {
        seconds: timeout.as_secs(),
        blockers: blockers.collect(),
    }
}

fn blocker(kind: &str, name: &str, finalizers: &[String]) -> String {
    match finalizers {
        [] => format!("{kind} {name}"),
        finalizers => format!("{kind} {name} (held by finalizer {})", finalizers.join(", ")),
    }
}
