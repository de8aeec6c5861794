//! `sparkha teardown --local`: stops the supervisor, then the processes of the pods, workers first, and removes the
//! cluster's folder.

use std::time::Instant;

use futures::future::join_all;
use kube::ResourceExt;
use rustix::process::Signal;

use crate::console::progress::Progress;
use crate::lifecycle::Error;
use crate::lifecycle::external_zookeeper::{Znodes, removable, remove_znodes};
use crate::lifecycle::local::inventory_of;
use crate::lifecycle::place::Place;
use crate::model::labels::Component;
use crate::platform::local::cgroup::Groups;
use crate::platform::local::kubelet::terminate_process;
use crate::platform::local::pod::grace_of;
use crate::platform::local::process::{CLUSTER_DIR, CONTAINER_ID, kill_with_env, with_env};
use crate::platform::local::store::{ClusterDir, ClusterLock, LockHolder, PodRecord};
use crate::platform::local::{submitted, supervisor};
use crate::spec::words::counted;

/// A local cluster whose lock is held.
pub struct LocalResources {
    dir: ClusterDir,
    _lock: ClusterLock,
    /// Names of the volume claims that hold data.
    pub claims: Vec<String>,
    /// Description of the znodes in an external ZooKeeper.
    pub znodes: Option<String>,
}

/// The cluster's resources; `None` if there is no such cluster.
pub fn owned_resources(dir: &ClusterDir) -> Result<Option<LocalResources>, Error> {
    if !dir.exists() {
        return Ok(None);
    }
    let lock = dir.lock()?.map_err(|LockHolder(holder)| Error::Busy { holder })?;
    if !dir.exists() {
        // Another teardown removed the cluster first; only the lock is left.
        dir.remove(false)?;
        return Ok(None);
    }
    // Damaged files must not prevent a teardown.
    let desired = dir.desired().ok().flatten();
    let inventory = desired.and_then(|desired| inventory_of(&desired, dir).ok().flatten());
    Ok(Some(LocalResources {
        dir: dir.clone(),
        _lock: lock,
        claims: dir.claims()?,
        znodes: inventory.and_then(|inventory| removable(&dir.name, &dir.namespace, &inventory)),
    }))
}

/// Removes the cluster.
pub async fn teardown(
    owned: LocalResources,
    keep_claims: bool,
    znodes: Znodes,
    progress: &Progress,
) -> Result<(), Error> {
    let claims = owned.claims.len();
    if keep_claims && claims > 0 {
        progress.done(&format!("{} kept", counted(claims, "volume claim")));
    }
    remove(&owned.dir, keep_claims, znodes, progress).await
}

/// Removes the cluster of a folder whose lock is held.
pub async fn remove(dir: &ClusterDir, keep_claims: bool, znodes: Znodes, progress: &Progress) -> Result<(), Error> {
    let started = Instant::now();
    supervisor::terminate(dir).await;
    // Damaged files must not prevent a teardown: unrecorded processes are found by their environment.
    let observed = dir.observed().unwrap_or_else(|error| {
        progress.warn(&format!("{error}"));
        Default::default()
    });
    // Drivers end while a master runs that they can notify.
    let drivers = submitted::records(dir).unwrap_or_default();
    join_all(drivers.iter().map(submitted::terminate)).await;
    for component in [
        Component::Connect,
        Component::History,
        Component::Worker,
        Component::Master,
        Component::ZooKeeper,
    ] {
        if component == Component::ZooKeeper
            && let Ok(Some(desired)) = dir.desired()
            && let Some(inventory) = inventory_of(&desired, dir)?
        {
            remove_znodes(&Place::Local(dir.clone()), &inventory, znodes, progress).await?;
        }
        let of_part = |record: &&PodRecord| Component::of(record.pod.labels()) == Some(component);
        let records: Vec<_> = observed.pods.iter().filter(of_part).collect();
        if !records.is_empty() {
            progress.part(
                "Teardown",
                &format!(
                    "{} left",
                    counted(records.len(), &format!("{} pod", component.as_str()))
                ),
            );
        }
        join_all(records.into_iter().map(end)).await;
    }
    kill_with_env(CLUSTER_DIR, &dir.path().display().to_string()).await;
    Groups::remove(&dir.container_id_prefix());
    dir.remove(!keep_claims)?;
    progress.clear_parts();
    progress.done(&format!("Gone after {:.1} s", started.elapsed().as_secs_f64()));
    Ok(())
}

async fn end(record: &PodRecord) {
    let Some(process) = &record.process else { return };
    // Signals all processes of the pod, not only the first: if all workers stop, executors have no peer to migrate data
    // to.
    for each in with_env(CONTAINER_ID, &record.container_id) {
        if let Err(error) = each.signal(Signal::TERM) {
            tracing::warn!("failed to signal process {}: {error}", each.pid);
        }
    }
    terminate_process(process, grace_of(&record.pod)).await;
}
