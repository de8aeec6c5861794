//! `sparkha scale`: changes only the number of workers, in the StatefulSet and in the inventory. Kubernetes then
//! terminates the surplus workers, and they decommission themselves first (worker.sh). An interrupted scale leaves no
//! intermediate state: the workers still decommission, and the next run continues.

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

/// Options of scale.
#[derive(Clone, Debug)]
pub struct ScaleOptions {
    pub workers: u32,
    pub timeout: Duration,
    /// Wait until all workers are registered and the surplus ones are gone.
    pub wait: bool,
    /// Take over the replicas from another field manager.
    pub force_conflicts: bool,
}

/// Scales the workers. The state is `None` if it did not wait.
pub async fn scale(
    cluster: &Cluster,
    name: &ClusterName,
    options: &ScaleOptions,
    progress: &Progress,
) -> Result<Option<ClusterState>, Error> {
    let mut object = inventory_object(cluster, name).await?;
    if lock::wait_for_lock(cluster, name, Some(&object)).await? {
        object = inventory_object(cluster, name).await?;
    }
    let old = read_inventory(&object)?;
    if old.is_autoscaled() {
        return Err(Error::Usage {
            message: "an autoscaler controls the number of this cluster's workers".into(),
            help: "change workers.autoscale in the cluster file and run `sparkha create`".into(),
        });
    }
    let set_name = name.workers_set();
    let set = cluster.get(Kind::StatefulSet, &set_name).await?;
    let set = set.ok_or_else(|| Error::Usage {
        message: format!("StatefulSet {set_name} does not exist"),
        help: "run `sparkha create` with the same arguments to create it".into(),
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

/// Reports which workers will be decommissioned and what they run now.
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

/// The default cores of an application depend on the number of workers, but only create updates them: scale changes
/// nothing but the number.
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
            "applications still get {} by default; `sparkha create` changes that to {then} without restarting pods",
            counted(now, "core")
        ));
    }
}

/// Writes the number to the inventory first, because other commands read it there, then to the StatefulSet.
async fn write(
    cluster: &Cluster,
    name: &ClusterName,
    (object, old): (&DynamicObject, &Inventory),
    (set, new): (&DynamicObject, &Inventory),
    options: &ScaleOptions,
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
            create::abort(lock, old, false).await;
            Err(error.into())
        }
    }
}
