//! `sparkha scale`: changes only the number of workers, in the StatefulSet and in the inventory. Kubernetes then
//! terminates the surplus workers, and they decommission themselves first (worker.sh). An interrupted scale leaves no
//! intermediate state: the workers still decommission, and the next run continues.

use std::time::Duration;

use kube::ResourceExt;
use kube::core::DynamicObject;
use serde_json::json;

use crate::console::progress::Progress;
use crate::lifecycle::inventory::baseline;
use crate::lifecycle::status::status;
use crate::lifecycle::{Error, create, preflight, wait};
use crate::model::kind::Kind;
use crate::platform::{Backend, Bounds, Intent, Platform};
use crate::render::inventory::Inventory;
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
    platform: &dyn Platform,
    options: &ScaleOptions,
    progress: &Progress,
) -> Result<Option<ClusterState>, Error> {
    let (baseline, old) = baseline(platform).await?;
    let set_name = platform.name().workers_set();
    let set = platform.object(Kind::StatefulSet, &set_name).await?;
    let set = set.ok_or_else(|| Error::Usage {
        message: format!("StatefulSet {set_name} does not exist"),
        help: "run `sparkha create` with the same arguments to create it".into(),
    })?;
    let new = old.with_workers(options.workers);
    check(platform, &old, &set, options.workers)?;
    // The lock is held until the cluster is in service, where it can be.
    let mut lock = None;
    if new == old && set.data["spec"]["replicas"] == json!(options.workers) {
        progress.done(create::nothing_to_change(platform).await?);
    } else {
        announce(&status(platform).await?, options.workers, progress);
        // The number is written to the inventory first, because other commands read it there.
        let lock = lock.insert(platform.lock(&baseline, Intent::change(&new)).await?);
        let scaled = lock
            .platform()
            .scale(&set, options.workers, options.force_conflicts)
            .await;
        create::finish(lock.as_mut(), scaled.map_err(Error::from), &new, &old, false).await?;
        progress.done(&format!("{set_name} scaled to {}", counted(options.workers, "worker")));
        remind(&new, progress);
    }
    if !options.wait {
        return Ok(None);
    }
    wait::until_ready(platform, &new, &Bounds::new(options.timeout, progress))
        .await
        .map(Some)
}

/// Refuses numbers of workers that the platform cannot have.
fn check(platform: &dyn Platform, old: &Inventory, set: &DynamicObject, workers: u32) -> Result<(), Error> {
    match platform.backend() {
        Backend::Kubernetes(_) if old.is_autoscaled() => Err(Error::Usage {
            message: "an autoscaler controls the number of this cluster's workers".into(),
            help: "change workers.autoscale in the cluster file and run `sparkha create`".into(),
        }),
        Backend::Kubernetes(_) => Ok(()),
        Backend::Local(local) => preflight::local::check_workers(local, &set.name_any(), workers),
    }
}

/// Reports which workers will be decommissioned and what they run now.
fn announce(state: &ClusterState, workers: u32, progress: &Progress) {
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
fn remind(new: &Inventory, progress: &Progress) {
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
