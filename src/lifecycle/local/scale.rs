//! `sparkha scale --local`: changes the number of workers in the desired resources. The supervisor decommissions the
//! surplus workers.

use serde_json::json;

use crate::console::progress::Progress;
use crate::lifecycle::local::create::{check_memory, memory_in_use, requested_memory};
use crate::lifecycle::local::{LocalView, desired_of};
use crate::lifecycle::scale::{ScaleOptions, announce, remind};
use crate::lifecycle::{Error, wait};
use crate::model::kind::Kind;
use crate::platform::local::store::{ClusterDir, DesiredState, LockHolder};
use crate::platform::local::supervisor;
use crate::render::inventory::Inventory;
use crate::spec::words::counted;
use crate::state::ClusterState;

/// Scales the workers. The state is `None` if it did not wait.
pub async fn scale(
    dir: &ClusterDir,
    options: &ScaleOptions,
    progress: &Progress,
) -> Result<Option<ClusterState>, Error> {
    if !dir.exists() {
        return Err(Error::no_cluster(&dir.name, &dir.namespace));
    }
    let _lock = dir.lock()?.map_err(|LockHolder(holder)| Error::Busy { holder })?;
    let (old, inventory) = desired_of(dir)?;
    let inventory = inventory.with_workers(options.workers);
    let new = with_workers(&old, dir, &inventory);
    if new == old {
        progress.done(match supervisor::ensure(dir).await? {
            true => "Supervisor restarted",
            false => "Nothing to change",
        });
    } else {
        check_memory(requested_memory(&new.resources), memory_in_use(dir)?).map_err(|finding| Error::Preflight {
            findings: vec![finding],
        })?;
        announce(&LocalView::of(dir).state().await?, options.workers, progress);
        dir.write_desired(&new)?;
        supervisor::ensure(dir).await?;
        progress.done(&format!(
            "{} scaled to {}",
            dir.name.workers_set(),
            counted(options.workers, "worker")
        ));
        remind(&inventory, progress);
    }
    if !options.wait {
        return Ok(None);
    }
    let view = LocalView::of(dir);
    let waiting = wait::until_ready(view, &dir.namespace, &inventory, options.timeout, progress);
    waiting.await.map(Some)
}

fn with_workers(old: &DesiredState, dir: &ClusterDir, inventory: &Inventory) -> DesiredState {
    let mut new = old.clone();
    for resource in &mut new.resources {
        if resource.kind == Kind::StatefulSet && resource.name == dir.name.workers_set() {
            resource.object["spec"]["replicas"] = json!(inventory.cluster.workers.count);
        }
    }
    new.set_inventory(&dir.name, inventory);
    new
}
