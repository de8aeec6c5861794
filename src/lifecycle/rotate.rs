//! `sparkha rotate-secret`: creates a new secret and restarts all pods that use it at once. Masters and workers with
//! different secrets cannot communicate, so a rolling restart would gain nothing. If it is interrupted, the next run
//! creates yet another secret.

use std::time::Duration;

use crate::console::progress::Progress;
use crate::lifecycle::inventory::baseline;
use crate::lifecycle::{Error, create, secret, wait};
use crate::model::kind::Kind;
use crate::model::labels::Component;
use crate::platform::{Bounds, Intent, Platform};
use crate::state::ClusterState;

/// The components whose pods use the secret.
const KNOWING: [Component; 4] = [
    Component::Master,
    Component::Worker,
    Component::Connect,
    Component::ZooKeeper,
];

/// Rotates the secret of a cluster and waits until it is in service again.
pub async fn rotate(platform: &dyn Platform, timeout: Duration, progress: &Progress) -> Result<ClusterState, Error> {
    let (baseline, inventory) = baseline(platform).await?;
    let name = platform.name().auth();
    if inventory.entry(Kind::Secret, &name).is_none() {
        return Err(Error::Usage {
            message: format!(
                "cluster {} has no secret that sparkha created; nothing was changed",
                platform.name()
            ),
            help:
                "a cluster without authentication has none; change a Secret of your own yourself, then restart the pods"
                    .into(),
        });
    }
    let bounds = Bounds::new(timeout, progress);
    let mut lock = platform.lock(&baseline, Intent::change(&inventory)).await?;
    let work = async {
        let platform = lock.platform();
        secret::replace(platform, &name).await?;
        platform.ensure_running().await?;
        progress.done(&format!("Secret {name} has a new secret"));
        Ok(platform.restart(&KNOWING, &bounds).await?)
    };
    let done = work.await;
    create::finish(lock.as_mut(), done, &inventory, &inventory, false).await?;
    wait::until_ready(platform, &inventory, &bounds).await
}
