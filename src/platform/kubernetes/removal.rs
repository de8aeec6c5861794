//! Stops the pods of a cluster on Kubernetes and removes its objects: only those that the inventory lists and that have the cluster's labels. Waits
//! until they are gone, and reports what blocks their removal.

use std::ops::ControlFlow::{Break, Continue};
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::Api;

use super::drivers;
use super::lock::AnnotationLock;
use super::namespace::{Removal, remove_if_empty};
use super::platform::{KubernetesPlatform, ObservedCluster};
use crate::model::kind::Kind;
use crate::model::labels::{COMPONENT, Component, cluster_selector, is_of_cluster};
use crate::platform::poll::poll_until;
use crate::platform::{Bounds, Claim, Error, UNDRAINED_SECONDS};
use crate::render::inventory::Inventory;
use crate::render::teardown_script::in_teardown_order;
use crate::spec::words::{counted, listed};
use crate::state::nodes::{self, Loss, LostNode, is_out_of_touch, node_of};

const LOOK_EVERY: Duration = Duration::from_millis(300);
/// How long a node must be lost while teardown watches. Kubernetes has waited before it reports that, by default 40 s.
const LOST_AFTER: Duration = Duration::from_secs(30);
/// How long pods may take to terminate before their nodes are checked.
const GRACE: Duration = Duration::from_secs(15);

impl KubernetesPlatform {
    /// Deletes all pods of these components, and returns when they are gone.
    pub(super) async fn restart_pods(&self, components: &[Component], bounds: &Bounds<'_>) -> Result<(), Error> {
        let components: Vec<_> = components.iter().map(|component| component.as_str()).collect();
        let selector = format!(
            "{},{COMPONENT} in ({})",
            cluster_selector(&self.name),
            components.join(",")
        );
        let old = self.delete_pods(&selector).await?;
        poll_until(LOOK_EVERY, bounds.remaining(), async || {
            let mut left = self.cluster.list_of::<Pod>(&selector).await?;
            left.retain(|pod| old.iter().any(|old| old.uid() == pod.uid()));
            if left.is_empty() {
                return Ok(Break(()));
            }
            bounds.progress.part("Old pods", &format!("{} left", left.len()));
            let blockers = left.iter().map(|pod| blocker("Pod", &pod.name_any(), pod.finalizers()));
            Ok(Continue(still_there(bounds, blockers)))
        })
        .await
    }

    /// Deletes the StatefulSet of a component, or all drivers, and returns when their containers have terminated.
    pub(super) async fn stop_component(
        &self,
        component: Component,
        inventory: &Inventory,
        bounds: &Bounds<'_>,
    ) -> Result<(), Error> {
        let selector = format!("{},{COMPONENT}={}", cluster_selector(&self.name), component.as_str());
        match component.set_name(&self.name) {
            Some(set) if component == Component::Worker && self.cluster.may("", "pods", "delete", None).await? => {
                self.delete_undrained(inventory, &set, &selector).await?;
            }
            Some(set) => self.delete_listed(inventory, Kind::StatefulSet, &set).await?,
            // Drivers are in no inventory.
            None => drivers::terminate_all(&self.cluster, &self.name).await?,
        }
        self.wait_for(&selector, component.as_str(), Until::Ended, bounds).await
    }

    /// Removes everything else, and the inventory and with it the lock last: until then an interrupted teardown can continue, and no other command can
    /// begin.
    pub(super) async fn remove_rest(
        &self,
        lock: AnnotationLock,
        inventory: &Inventory,
        claims: &[Claim],
        bounds: &Bounds<'_>,
    ) -> Result<(), Error> {
        self.wait_for(&cluster_selector(&self.name), "ended", Until::Gone, bounds)
            .await?;
        let others = in_teardown_order(inventory.objects.iter().map(|entry| (entry.kind, entry.name.as_str())));
        let others = others
            .into_iter()
            .filter(|&(_, object)| object != self.name.inventory());
        try_join_all(others.map(|(kind, object)| self.delete_listed(inventory, kind, object))).await?;
        self.remove_claims(claims, bounds).await?;
        match remove_if_empty(&self.cluster, &self.name, inventory).await? {
            Removal::Removed => {
                drop(lock);
                self.wait_for_namespace(bounds).await
            }
            Removal::NotOurs => lock.remove_inventory().await,
            Removal::InUse(why) => {
                lock.remove_inventory().await?;
                bounds.progress.warn(&format!(
                    "Namespace {} was created by sparkha but is kept: {why}",
                    self.cluster.namespace()
                ));
                Ok(())
            }
        }
    }

    /// Deletes an object if the inventory lists it and it has the cluster's labels.
    async fn delete_listed(&self, inventory: &Inventory, kind: Kind, object: &str) -> Result<(), Error> {
        if inventory.entry(kind, object).is_none() {
            return Ok(());
        }
        let Some(found) = self.cluster.get(kind, object).await? else {
            return Ok(());
        };
        if !is_of_cluster(found.metadata.labels.as_ref(), self.name.as_str()) {
            tracing::warn!(
                "{kind} {object} is in the inventory but does not have the cluster's labels; it is not deleted"
            );
            return Ok(());
        }
        Ok(self.cluster.delete(kind, object, found.metadata.uid).await?)
    }

    /// Removes the workers without decommissioning: no worker is left to take over their data. The pods are deleted
    /// directly, because not every server can shorten a grace period.
    async fn delete_undrained(&self, inventory: &Inventory, set: &str, selector: &str) -> Result<(), Error> {
        if inventory.entry(Kind::StatefulSet, set).is_none() {
            return Ok(());
        }
        if let Some(found) = self.cluster.get(Kind::StatefulSet, set).await?
            && is_of_cluster(found.metadata.labels.as_ref(), self.name.as_str())
        {
            let uid = found.metadata.uid;
            self.cluster.delete_alone(Kind::StatefulSet, set, uid).await?;
        }
        self.delete_pods(selector).await?;
        Ok(())
    }

    /// Deletes pods without decommissioning. Returns those that were found.
    async fn delete_pods(&self, selector: &str) -> Result<Vec<Pod>, Error> {
        let pods = self.cluster.list_of::<Pod>(selector).await?;
        let deleted = pods
            .iter()
            .map(|pod| self.cluster.delete_pod(pod, Some(UNDRAINED_SECONDS)));
        try_join_all(deleted).await?;
        Ok(pods)
    }

    /// Waits for pods to terminate.
    async fn wait_for(&self, selector: &str, what: &str, until: Until, bounds: &Bounds<'_>) -> Result<(), Error> {
        let begun = Instant::now();
        poll_until(LOOK_EVERY, bounds.remaining(), async || {
            let mut pods = self.cluster.list_of::<Pod>(selector).await?;
            pods.retain(|pod| until == Until::Gone || is_running(pod));
            if pods.is_empty() {
                return Ok(Break(()));
            }
            let left = counted(pods.len(), &format!("{what} pod"));
            bounds.progress.part("Teardown", &format!("{left} left"));
            if let Some(lost) = self.lost(&pods, begun).await {
                let known = lost.iter().all(|lost| lost.loss != Loss::Suspected);
                if !bounds.force || !known {
                    return Err(Error::LostNodes { lost, known });
                }
                self.forget(&pods, &lost, bounds).await?;
            }
            let blockers = pods.iter().map(|pod| blocker("Pod", &pod.name_any(), pod.finalizers()));
            Ok(Continue(still_there(bounds, blockers)))
        })
        .await
    }

    /// The nodes of these pods, if all are lost and have been for [`LOST_AFTER`], counted from the first observation,
    /// because clocks are not compared.
    async fn lost(&self, pods: &[Pod], begun: Instant) -> Option<Vec<LostNode>> {
        // A pod that was not ready before does not appear out of touch.
        if begun.elapsed() < GRACE && !pods.iter().any(is_out_of_touch) {
            return None;
        }
        let ObservedCluster {
            nodes: reader,
            lost_since,
            ..
        } = &mut *self.observed.lock().await;
        let lost = nodes::lost(pods, &reader.read(&self.cluster).await);
        let is_lost = |node: &str| lost.iter().any(|lost| lost.node == node);
        for node in pods.iter().filter_map(node_of).filter(|node| !is_lost(node)) {
            lost_since.remove(node);
        }
        let mut for_long = true;
        for lost in &lost {
            let since = lost_since.entry(lost.node.clone()).or_insert_with(Instant::now);
            for_long &= since.elapsed() >= LOST_AFTER;
        }
        let theirs: usize = lost.iter().map(|lost| lost.terminating.len()).sum();
        (for_long && theirs == pods.len()).then_some(lost)
    }

    /// Force-deletes pods whose nodes cannot confirm the deletion.
    async fn forget(&self, pods: &[Pod], lost: &[LostNode], bounds: &Bounds<'_>) -> Result<(), Error> {
        for lost in lost {
            bounds.progress.warn(&format!(
                "{} of lost node {} force-deleted",
                listed(&lost.pods),
                lost.node
            ));
        }
        try_join_all(pods.iter().map(|pod| self.cluster.delete_pod(pod, Some(0)))).await?;
        Ok(())
    }

    async fn remove_claims(&self, claims: &[Claim], bounds: &Bounds<'_>) -> Result<(), Error> {
        let api = &self.cluster.api::<PersistentVolumeClaim>();
        try_join_all(claims.iter().map(|Claim { name, uid }| async move {
            let kind = "PersistentVolumeClaim";
            self.cluster.delete_in(api, kind, name, uid.clone()).await
        }))
        .await?;
        poll_until(LOOK_EVERY, bounds.remaining(), async || {
            let mut left = Vec::new();
            for Claim { name, uid } in claims {
                let action = format!("read PersistentVolumeClaim {name}");
                let found = self.cluster.call(&action, || api.get_opt(name)).await?;
                left.extend(found.filter(|found| found.uid() == *uid));
            }
            if left.is_empty() {
                return Ok(Break(()));
            }
            let blockers = left
                .iter()
                .map(|claim| blocker("PersistentVolumeClaim", &claim.name_any(), claim.finalizers()));
            Ok(Continue(still_there(bounds, blockers)))
        })
        .await
    }

    async fn wait_for_namespace(&self, bounds: &Bounds<'_>) -> Result<(), Error> {
        let api: Api<Namespace> = Api::all(self.cluster.client());
        let name = self.cluster.namespace().as_str();
        bounds.progress.part("Teardown", &format!("namespace {name}"));
        poll_until(LOOK_EVERY, bounds.remaining(), async || {
            let action = format!("read Namespace {name}");
            let Some(namespace) = self.cluster.call(&action, || api.get_opt(name)).await? else {
                bounds.progress.done(&format!("Namespace {name} removed"));
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
            Ok(Continue(still_there(bounds, std::iter::once(blocker))))
        })
        .await
    }
}

/// The state of pods that the next step requires.
#[derive(Clone, Copy, PartialEq)]
enum Until {
    /// Their containers have terminated and no longer write.
    Ended,
    Gone,
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

fn still_there(bounds: &Bounds<'_>, blockers: impl Iterator<Item = String>) -> Error {
    Error::StillThere {
        seconds: bounds.timeout.as_secs(),
        blockers: blockers.collect(),
    }
}

fn blocker(kind: &str, name: &str, finalizers: &[String]) -> String {
    match finalizers {
        [] => format!("{kind} {name}"),
        finalizers => format!("{kind} {name} (held by finalizer {})", finalizers.join(", ")),
    }
}
