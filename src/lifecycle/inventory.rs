//! Reads the inventory of a cluster.

use crate::lifecycle::Error;
use crate::platform::{Baseline, Platform, kubernetes};
use crate::render::inventory::Inventory;

/// The inventory. Fails if there is no such cluster.
pub async fn inventory(platform: &dyn Platform) -> Result<Inventory, Error> {
    let inventory = platform.inventory().await?;
    inventory.ok_or_else(|| Error::no_cluster(platform))
}

/// The inventory. `None` if there is none or it may not be read.
pub async fn existing(platform: &dyn Platform) -> Result<Option<Inventory>, Error> {
    match platform.inventory().await {
        Err(crate::platform::Error::Kubernetes(kubernetes::Error::Forbidden { .. })) => Ok(None),
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
