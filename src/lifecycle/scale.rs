//! `sparkha scale`: another number of workers, and nothing else. It is written to the StatefulSet and to the inventory; workers that are too
//! many are then asked by Kubernetes itself to go, and decommission themselves before they do (worker.sh). So nothing depends on whoever
//! runs this: cut off anywhere, those that were asked go all the same, and the next run goes on.

use std::time::Duration;

use kube::core::DynamicObject;
use serde_json::json;

use crate::console::progress::Progress;
use crate::lifecycle::inventory::{inventory_object, read_inventory};
use crate::lifecycle::{Error, create, lock, status, wait};
use crate::model::kind::Kind;
use crate::model::managed_fields::owned;
use crate::platform::kubernetes::{Cluster, FIELD_MANAGER};
use crate::platform::observer::Observer;
use crate::render::inventory::Inventory;
use crate::spec::names::ClusterName;
use crate::spec::resolve::{Overrides, Source, resolve};
use crate::spec::words::counted;
use crate::state::ClusterState;
use crate::state::decommissioning::decommissioning;

/// How scale goes about it.
#[derive(Clone, Debug)]
pub struct Options {
    pub workers: u32,
    pub timeout: Duration,
    /// Wait until all workers are registered, and those that are too many gone.
    pub wait: bool,
    /// Take the number from another field manager.
    pub force_conflicts: bool,
}

/// Gives the cluster another number of workers. The state is `None` if it was not waited for.
pub async fn scale(
    cluster: &Cluster,
    name: &ClusterName,
    options: &Options,
    progress: &Progress,
) -> Result<Option<ClusterState>, Error> {
    let mut object = inventory_object(cluster, name).await?;
    if lock::wait_for_lock(cluster, name, Some(&object)).await? {
        object = inventory_object(cluster, name).await?;
    }
    let old = read_inventory(&object)?;
    if old.is_autoscaled() {
        return Err(Error::Usage {
            message: "the number of this cluster's workers is its autoscaler's".into(),
            help: "change workers.autoscale in the cluster file and run `sparkha create`".into(),
        });
    }
    let set_name = name.workers_set();
    let set = cluster.get(Kind::StatefulSet, &set_name).await?;
    let set = set.ok_or_else(|| Error::Usage {
        message: format!("StatefulSet {set_name} is not there"),
        help: "`sparkha create`, with the same arguments, makes what is missing".into(),
    })?;
    let new = old.with_workers(options.workers);
    if new == old && set.data["spec"]["replicas"] == json!(options.workers) {
        progress.done("Nothing to change");
    } else {
        let state = status::status(cluster, name, &mut Observer::new(cluster.clone())).await?;
        announce(&state, options.workers, progress);
        write(cluster, name, (&object, &old), (&set, &new), options).await?;
        progress.done(&format!("{set_name} scaled to {}", counted(options.workers, "worker")));
        remind(&new, progress);
    }
    if !options.wait {
        return Ok(None);
    }
    let view = wait::KubernetesView::of(cluster, name).await;
    let waiting = wait::until_ready(view, cluster.namespace(), &new, options.timeout, progress);
    waiting.await.map(Some)
}

/// Says who will go, and what they do now.
pub fn announce(state: &ClusterState, workers: u32, progress: &Progress) {
    let decommissioning = decommissioning(state, workers);
    if decommissioning.is_empty() {
        return;
    }
    progress.part("Removing", &decommissioning.before());
    if let Some(surprise) = decommissioning.surprise(state) {
        progress.warn(&surprise);
    }
}

/// What an application gets unless it says otherwise follows the number of workers at the next create only: scale changes nothing but the number.
pub fn remind(new: &Inventory, progress: &Progress) {
    let of_file = |text: &str| {
        let source = Source { name: "", text };
        resolve(Some(source), &Overrides::default()).ok()?.default_cores
    };
    let now = new.cluster.executors.and_then(|executors| executors.default_cores);
    let then = new.cluster_file.as_deref().and_then(of_file);
    if let (Some(now), Some(then)) = (now, then)
        && now != then
    {
        progress.warn(&format!(
            "applications still get {} by default; `sparkha create` changes that to {then}, and restarts nothing",
            counted(now, "core")
        ));
    }
}

/// The number, in both places: first where everybody looks up what should be.
async fn write(
    cluster: &Cluster,
    name: &ClusterName,
    (object, old): (&DynamicObject, &Inventory),
    (set, new): (&DynamicObject, &Inventory),
    options: &Options,
) -> Result<(), Error> {
    let mut applied = owned(set, FIELD_MANAGER);
    applied["spec"]["replicas"] = json!(options.workers);
    let lock = lock::take(cluster, name, Some(object), owned(object, FIELD_MANAGER), new, false).await?;
    let force = options.force_conflicts;
    match lock
        .fenced()
        .apply(Kind::StatefulSet, &name.workers_set(), &applied, force)
        .await
    {
        Ok(_) => lock.release(new, false).await,
        Err(error) => {
            create::give_up(lock, old, false).await;
            Err(error.into())
        }
    }
}
