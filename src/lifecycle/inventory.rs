//! Reads the inventory of a cluster.

use crate::lifecycle::Error;
use crate::platform::{self, Baseline, Platform, kubernetes};
use crate::render::inventory::Inventory;

/// The inventory. Fails if there is no such cluster, and if a newer sparkha wrote it in a format that this one does not know.
pub async fn inventory(platform: &dyn Platform) -> Result<Inventory, Error> {
    let inventory = to_read(platform).await?.writable();
    Ok(inventory.map_err(platform::Error::from)?)
}

/// The inventory, for commands that only show the cluster: also of a later format, whose reader says so. Fails if there is no such cluster.
pub async fn to_read(platform: &dyn Platform) -> Result<Inventory, Error> {
    let inventory = platform.inventory().await?;
    inventory.ok_or_else(|| Error::no_cluster(platform))
}

/// Fails if a newer sparkha wrote the inventory in a format that this one does not know. A cluster without a readable inventory passes.
pub async fn takes_writes(platform: &dyn Platform) -> Result<(), Error> {
    match inventory(platform).await {
        Err(Error::Platform(error)) if error.newer_format().is_some() => Err(error.into()),
        _ => Ok(()),
    }
}

/// Says that what a command shows of the cluster may be incomplete.
pub fn warn_if_newer(inventory: &Inventory) {
    if let Some(newer) = inventory.newer() {
        tracing::warn!("{newer}: what it shows may be incomplete");
    }
}

/// The inventory, also of a later format. `None` if there is none or it may not be read.
pub async fn existing(platform: &dyn Platform) -> Result<Option<Inventory>, Error> {
    match platform.inventory().await {
        Err(platform::Error::Kubernetes(kubernetes::Error::Forbidden { .. })) => Ok(None),
        found => Ok(found?),
    }
}

/// The inventory to change. Fails if there is no such cluster.
pub async fn baseline(platform: &dyn Platform) -> Result<(Baseline, Inventory), Error> {
    let mut baseline = platform.baseline().await?;
    if let Some(damage) = baseline.damage.take() {
        return Err(damage.into());
    }
    let inventory = baseline.inventory.clone();
    Ok((baseline, inventory.ok_or_else(|| Error::no_cluster(platform))?))
}
