//! One sparkha at a time on one cluster. The lock is an annotation of the inventory, taken by the same write that announces
//! what will be done, and renewed while it lasts. Whoever dies leaves it behind; it is taken over when its process is
//! known to be gone, or when it has not been renewed for a while.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::Api;
use kube::core::DynamicObject;
use serde_json::json;

use super::Error;
use crate::platform::kubernetes::{self, Cluster};
use crate::render::inventory::Inventory;
use crate::render::kind::Kind;
use crate::spec::names::ClusterName;

/// The annotation that is the lock.
pub const LOCK: &str = "sparkha/at-work";
/// A lock that was not renewed for so long belongs to nobody.
const EXPIRES_AFTER: Duration = Duration::from_secs(15);
const RENEW_EVERY: Duration = Duration::from_secs(5);

/// A lock that is held. Renewed in the background until it is released or dropped.
pub struct Lock {
    cluster: Cluster,
    name: String,
    renewal: tokio::task::AbortHandle,
}

/// Takes the lock by writing `inventory`, with `labels` and `annotations` for its ConfigMap.
///
/// `seen` is the inventory as it was read when the plan was made, after [`settle`]: if another has changed it since, this fails.
pub async fn take(
    cluster: &Cluster,
    name: &ClusterName,
    seen: Option<&DynamicObject>,
    mut object: serde_json::Value,
    inventory: &Inventory,
) -> Result<Lock, Error> {
    let version = seen.and_then(ResourceExt::resource_version);
    let me = Holder::me();
    object["data"] = json!(inventory.data());
    object["metadata"]["annotations"][LOCK] = json!(me.written());
    let inventory_name = name.inventory();
    let written = match seen {
        None => {
            let api: Api<ConfigMap> = cluster.api();
            let config_map: ConfigMap =
                serde_json::from_value(object).map_err(|error| kubernetes::Error::Protocol {
                    action: format!("write ConfigMap {inventory_name}"),
                    message: error.to_string(),
                })?;
            let action = format!("create ConfigMap {inventory_name}");
            cluster.create(&api, &config_map, &action).await.map(|_| ())
        }
        Some(_) => {
            // Another version than the one that was seen is somebody else's work.
            object["metadata"]["resourceVersion"] = json!(version);
            let applied = cluster.apply(Kind::ConfigMap, &inventory_name, &object, true).await;
            applied.map(|_| ())
        }
    };
    match written {
        Ok(()) => Ok(Lock::held(cluster, name, me)),
        Err(kubernetes::Error::Rejected { code: 404 | 409, .. }) => {
            let current = cluster.get(Kind::ConfigMap, &inventory_name).await?;
            match current.as_ref().and_then(holder_of) {
                // The answer to our own write was lost, and the second try met the first.
                Some(holder) if holder == me => Ok(Lock::held(cluster, name, me)),
                Some(holder) => Err(Error::Busy { holder: holder.who }),
                None => Err(Error::Busy {
                    holder: "it has just finished".into(),
                }),
            }
        }
        Err(error) => Err(error.into()),
    }
}

impl Lock {
    fn held(cluster: &Cluster, name: &ClusterName, me: Holder) -> Self {
        let (renewing, inventory) = (cluster.clone(), name.inventory());
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(RENEW_EVERY).await;
                let patch = json!({"metadata": {"annotations": {LOCK: Holder::me_again(&me).written()}}});
                if let Err(error) = renewing.merge(Kind::ConfigMap, &inventory, &patch).await {
                    tracing::debug!("the lock was not renewed: {error}");
                }
            }
        });
        Self {
            cluster: cluster.clone(),
            name: name.inventory(),
            renewal: task.abort_handle(),
        }
    }

    /// Lets go, and writes what is now true.
    pub async fn release(self, inventory: &Inventory) -> Result<(), Error> {
        self.renewal.abort();
        let patch = json!({
            "metadata": {"annotations": {LOCK: null}},
            "data": inventory.data(),
        });
        self.cluster.merge(Kind::ConfigMap, &self.name, &patch).await?;
        Ok(())
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq)]
struct Holder {
    /// `user@host, process 123`.
    who: String,
    host: String,
    pid: u32,
    /// Changes with every renewal.
    renewed: u64,
}

impl Holder {
    fn me() -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
            .map(|name| name.trim().to_owned())
            .unwrap_or_else(|_| "unknown-host".into());
        let user = std::env::var("USER").unwrap_or_else(|_| "someone".into());
        let pid = std::process::id();
        let holder = Self {
            who: format!("{user}@{host}, process {pid}"),
            host,
            pid,
            renewed: 0,
        };
        Self::me_again(&holder)
    }

    fn me_again(holder: &Self) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            renewed: now.as_millis() as u64,
            ..holder.clone()
        }
    }

    fn written(&self) -> String {
        json!({"who": self.who, "host": self.host, "pid": self.pid, "renewed": self.renewed}).to_string()
    }

    fn read(text: &str) -> Option<Self> {
        let value: serde_json::Value = serde_json::from_str(text).ok()?;
        Some(Self {
            who: value["who"].as_str()?.to_owned(),
            host: value["host"].as_str()?.to_owned(),
            pid: value["pid"].as_u64()? as u32,
            renewed: value["renewed"].as_u64()?,
        })
    }

    /// Whether its process is known to have ended.
    fn is_gone(&self) -> bool {
        let here = Self::me();
        here.host == self.host && !std::path::Path::new(&format!("/proc/{}", self.pid)).exists()
    }
}

fn holder_of(inventory: &DynamicObject) -> Option<Holder> {
    let annotations: &BTreeMap<String, String> = inventory.annotations();
    Holder::read(annotations.get(LOCK)?)
}

/// Waits until the lock of an inventory, if there is one, is gone or belongs to nobody; one that is being renewed is
/// somebody's. True if there was one: then things may have changed, and the caller has to look again.
pub async fn settle(cluster: &Cluster, name: &ClusterName, seen: Option<&DynamicObject>) -> Result<bool, Error> {
    let Some(holder) = seen.and_then(holder_of) else {
        return Ok(false);
    };
    let deadline = Instant::now() + EXPIRES_AFTER;
    while Instant::now() < deadline && !holder.is_gone() {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let current = cluster.get(Kind::ConfigMap, &name.inventory()).await?;
        match current.as_ref().and_then(holder_of) {
            None => return Ok(true),
            Some(now) if now != holder => return Err(Error::Busy { holder: now.who }),
            Some(_) => {}
        }
    }
    tracing::info!("taking over the lock of {}, who has not renewed it", holder.who);
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_reads_back_and_is_alive() {
        let me = Holder::me();
        assert_eq!(Holder::read(&me.written()), Some(me.clone()));
        assert!(!me.is_gone());
        let dead = Holder { pid: u32::MAX, ..me };
        assert!(dead.is_gone());
    }
}
