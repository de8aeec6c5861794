//! `sparkha rotate-secret`: creates a new secret and restarts all pods that use it at once. Masters and workers with
//! different secrets cannot communicate, so a rolling restart would gain nothing. If it is interrupted, the next run
//! creates yet another secret.

use std::ops::ControlFlow::{Break, Continue};
use std::time::{Duration, Instant};

use futures::future::{join_all, try_join_all};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::console::progress::Progress;
use crate::lifecycle::inventory::{inventory_object, read_inventory};
use crate::lifecycle::local::{LocalView, desired_of};
use crate::lifecycle::teardown::UNDRAINED_SECONDS;
use crate::lifecycle::{Error, create, lock, secret, wait};
use crate::model::kind::Kind;
use crate::model::labels::{COMPONENT, Component, cluster_selector};
use crate::model::managed_fields::owned;
use crate::platform::kubernetes::{Cluster, FIELD_MANAGER};
use crate::platform::local::drivers;
use crate::platform::local::kubelet::terminate_process;
use crate::platform::local::store::{ClusterDir, LockHolder, PodRecord, Store};
use crate::platform::poll::poll_until;
use crate::render::inventory::Inventory;
use crate::spec::names::ClusterName;
use crate::state::ClusterState;

const LOOK_EVERY: Duration = Duration::from_millis(300);

/// The components whose pods use the secret.
const KNOWING: [Component; 4] = [
    Component::Master,
    Component::Worker,
    Component::Connect,
    Component::ZooKeeper,
];

/// Rotates the secret of a cluster on Kubernetes and waits until it is in service again.
pub async fn rotate(
    cluster: &Cluster,
    name: &ClusterName,
    timeout: Duration,
    progress: &Progress,
) -> Result<ClusterState, Error> {
    let mut object = inventory_object(cluster, name).await?;
    if lock::wait_for_lock(cluster, name, Some(&object)).await? {
        object = inventory_object(cluster, name).await?;
    }
    let inventory = read_inventory(&object)?;
    has_own_secret(&inventory, name)?;
    let deadline = Instant::now() + timeout;
    let lock = lock::take(
        cluster,
        name,
        Some(&object),
        owned(&object, FIELD_MANAGER),
        &inventory,
        false,
    )
    .await?;
    match replace_and_restart(&lock.fenced(), name, deadline, timeout, progress).await {
        Ok(()) => lock.release(&inventory, false).await?,
        Err(error) => {
            create::abort(lock, &inventory, false).await;
            return Err(error);
        }
    }
    let view = wait::KubernetesView::of(cluster, name).await;
    let left = deadline.saturating_duration_since(Instant::now());
    wait::until_ready(view, cluster.namespace(), &inventory, left, progress).await
}

/// Creates the new secret and deletes all pods that use the old one.
async fn replace_and_restart(
    cluster: &Cluster,
    name: &ClusterName,
    deadline: Instant,
    timeout: Duration,
    progress: &Progress,
) -> Result<(), Error> {
    secret::replace(cluster, &name.auth()).await?;
    progress.done(&format!("Secret {} has a new secret", name.auth()));
    let knowing = KNOWING.map(Component::as_str).join(",");
    let selector = format!("{},{COMPONENT} in ({knowing})", cluster_selector(name));
    let old = cluster.list_of::<Pod>(&selector).await?;
    let deleted = old.iter().map(|pod| cluster.delete_pod(pod, Some(UNDRAINED_SECONDS)));
    try_join_all(deleted).await?;
    let remaining = deadline.saturating_duration_since(Instant::now());
    poll_until(LOOK_EVERY, remaining, async || {
        let now = cluster.list_of::<Pod>(&selector).await?;
        let left = now.iter().filter(|pod| old.iter().any(|old| old.uid() == pod.uid()));
        let left: Vec<_> = left.map(ResourceExt::name_any).collect();
        if left.is_empty() {
            return Ok(Break(()));
        }
        progress.part("Old pods", &format!("{} left", left.len()));
        Ok(Continue(Error::NotInTime {
            seconds: timeout.as_secs(),
            missing: left.into_iter().map(|pod| format!("pod {pod} still exists")).collect(),
        }))
    })
    .await
}

/// The same on the local platform: the supervisor restarts the processes with the new secret.
pub async fn rotate_local(dir: &ClusterDir, timeout: Duration, progress: &Progress) -> Result<ClusterState, Error> {
    if !dir.exists() {
        return Err(Error::no_cluster(&dir.name, &dir.namespace));
    }
    let _lock = dir.lock()?.map_err(|LockHolder(holder)| Error::Busy { holder })?;
    let (desired, inventory) = desired_of(dir)?;
    has_own_secret(&inventory, &dir.name)?;
    secret::replace_local(dir, &dir.name.auth())?;
    drivers::configure(&Store::open()?, dir, &desired)?;
    progress.done(&format!("Secret {} has a new secret", dir.name.auth()));
    let is_knowing =
        |record: &PodRecord| Component::of(record.pod.labels()).is_some_and(|component| KNOWING.contains(&component));
    let records = dir.observed()?.pods.into_iter().filter(is_knowing);
    let processes: Vec<_> = records.filter_map(|record| record.process).collect();
    let grace = Duration::from_secs(UNDRAINED_SECONDS.into());
    join_all(processes.iter().map(|process| terminate_process(process, grace))).await;
    wait::until_ready(LocalView::of(dir), &dir.namespace, &inventory, timeout, progress).await
}

fn has_own_secret(inventory: &Inventory, name: &ClusterName) -> Result<(), Error> {
    match inventory.entry(Kind::Secret, &name.auth()) {
        Some(_) => Ok(()),
        None => Err(Error::Usage {
            message: format!("cluster {name} has no secret that sparkha created; nothing was changed"),
            help:
                "a cluster without authentication has none; change a Secret of your own yourself, then restart the pods"
                    .into(),
        }),
    }
}
