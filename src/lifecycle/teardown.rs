//! `sparkha teardown`: stops the components in order, workers before masters, so that masters and ZooKeeper are left clean. Then removes everything
//! that sparkha created, the inventory last.

use std::time::{Duration, Instant};

use crate::console::progress::Progress;
use crate::lifecycle::external_zookeeper::{Znodes, removable, remove_znodes};
use crate::lifecycle::{Error, upgrade};
use crate::model::labels::Component;
use crate::platform::{Backend, Baseline, Bounds, Claim, Intent, Lock, Platform, guard};
use crate::render::inventory::Upgrade;
use crate::spec::words::counted;

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
pub struct OwnedResources {
    baseline: Baseline,
    /// Volume claims with data.
    pub claims: Vec<Claim>,
    /// Description of the znodes in an external ZooKeeper.
    pub znodes: Option<String>,
}

impl OwnedResources {
    /// Names of the volume claims.
    pub fn claim_names(&self) -> Vec<String> {
        self.claims.iter().map(|claim| claim.name.clone()).collect()
    }

    async fn lock(&self, platform: &dyn Platform) -> Result<Box<dyn Lock>, Error> {
        let intent = Intent {
            inventory: self.baseline.inventory.as_ref(),
            config_map: None,
            first: false,
        };
        Ok(platform.lock(&self.baseline, intent).await?)
    }
}

/// Timeout of the cleanup after a failed create.
const UNDO_TIMEOUT: Duration = Duration::from_secs(120);

/// Drivers end first, so that the masters can unregister them.
const ORDER: [Component; 6] = [
    Component::Driver,
    Component::Connect,
    Component::History,
    Component::Worker,
    Component::Master,
    Component::ZooKeeper,
];

/// The cluster's resources, once no other command holds the lock. `None` if there is no such cluster.
pub async fn owned_resources(platform: &dyn Platform) -> Result<Option<OwnedResources>, Error> {
    of_baseline(platform, platform.baseline().await?).await
}

async fn of_baseline(platform: &dyn Platform, mut baseline: Baseline) -> Result<Option<OwnedResources>, Error> {
    let inventory = baseline.inventory.as_ref();
    // On this machine, damaged files must not prevent a teardown.
    let exists = match platform.backend() {
        Backend::Kubernetes(_) => inventory.is_some(),
        Backend::Local(local) => local.dir.exists(),
    };
    if !exists {
        return match baseline.damage.take() {
            Some(damage) => Err(damage.into()),
            None => Ok(None),
        };
    }
    Ok(Some(OwnedResources {
        claims: platform.claims(inventory).await?,
        znodes: inventory.and_then(|inventory| removable(platform.name(), platform.namespace(), inventory)),
        baseline,
    }))
}

/// Removes a cluster that has a successor with all its resources, while this upgrade is in progress.
pub async fn remove_replaced(
    platform: &dyn Platform,
    upgrade: &Upgrade,
    timeout: Duration,
    progress: &Progress,
) -> Result<(), Error> {
    let options = TeardownOptions {
        timeout,
        keep_claims: false,
        znodes: Znodes::Remove,
        force: false,
    };
    let Some(owned) = owned_resources(platform).await? else {
        return Ok(());
    };
    upgrade::is_in_progress(owned.baseline.inventory.as_ref(), upgrade)?;
    remove(platform, owned, &options, progress).await
}

/// Removes the cluster.
pub async fn remove(
    platform: &dyn Platform,
    owned: OwnedResources,
    options: &TeardownOptions,
    progress: &Progress,
) -> Result<(), Error> {
    let lock = owned.lock(platform).await?;
    remove_locked(lock, owned, options, progress).await
}

async fn remove_locked(
    lock: Box<dyn Lock>,
    owned: OwnedResources,
    options: &TeardownOptions,
    progress: &Progress,
) -> Result<(), Error> {
    let started = Instant::now();
    let bounds = Bounds {
        force: options.force,
        ..Bounds::new(options.timeout, progress)
    };
    let OwnedResources { baseline, claims, .. } = owned;
    for component in ORDER {
        // No master runs any more that could write there.
        if component == Component::ZooKeeper
            && let Some(inventory) = &baseline.inventory
        {
            let remove = || remove_znodes(lock.platform(), inventory, options.znodes, progress);
            guard(lock.as_ref(), "remove znodes", remove).await?;
        }
        lock.stop(component, &bounds).await?;
    }
    let removed = match options.keep_claims {
        true => &[],
        false => &claims[..],
    };
    lock.remove(removed, &bounds).await?;
    progress.clear_parts();
    if options.keep_claims && !claims.is_empty() {
        progress.done(&format!("{} kept", counted(claims.len(), "volume claim")));
    }
    progress.done(&format!("Gone after {:.1} s", started.elapsed().as_secs_f64()));
    Ok(())
}

/// What became of a failed first create.
pub enum Undone {
    Removed,
    /// Another command has changed the cluster.
    Changed,
    /// These jobs have begun meanwhile.
    Used(Vec<String>),
}

/// Cleans up after a failed first create, unless another command has changed the cluster or started a job since. `id` is the id of its
/// lock. New claims hold no data yet; claims that existed before are kept, and all of them if `before` is not known.
pub async fn undo(
    platform: &dyn Platform,
    id: &str,
    before: Option<&[Claim]>,
    znodes: Znodes,
    progress: &Progress,
) -> Result<Undone, Error> {
    let options = TeardownOptions {
        timeout: UNDO_TIMEOUT,
        keep_claims: before.is_none(),
        znodes,
        force: false,
    };
    let Some(baseline) = platform.undoable(id).await? else {
        return Ok(Undone::Changed);
    };
    let Some(mut owned) = of_baseline(platform, baseline).await? else {
        return Ok(Undone::Changed);
    };
    owned.claims.retain(|claim| !before.unwrap_or_default().contains(claim));
    let mut lock = owned.lock(platform).await?;
    if let Some(inventory) = &owned.baseline.inventory {
        let jobs = upgrade::active(lock.platform(), inventory).await?.known();
        if !jobs.is_empty() {
            // They rely on it.
            lock.release(inventory, false).await?;
            return Ok(Undone::Used(jobs));
        }
    }
    remove_locked(lock, owned, &options, progress).await?;
    Ok(Undone::Removed)
}
