//! Allows one sparkha process at a time to change a cluster. The lock is an annotation of the inventory. The write that
//! announces the changes takes it, and it is renewed until they are done. A process that dies leaves the lock behind.
//! Another process takes it over if the holder is known to have ended, or if the lock was not renewed for a while.
//!
//! The lock is a fence: a process that was paused for longer finds the lock taken over before its next write. Taking,
//! renewing and releasing the lock are conditional on the inventory version that was read. [`AnnotationLock::fenced`] returns a
//! [`Cluster`] whose writes check the lock first, and again if the process was paused before they were sent. A write
//! that the network delays after it was sent is not covered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::Api;
use kube::core::DynamicObject;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::{Cluster, FIELD_MANAGER, Fence, unless_paused};
use crate::model::kind::Kind;
use crate::model::managed_fields::owned;
use crate::platform::local::process::{ProcessId, pid_namespace};
use crate::platform::system::{host_name, user_name};
use crate::platform::{Error, Intent, kubernetes, random_id};
use crate::render::inventory::Inventory;
use crate::spec::names::ClusterName;

/// The annotation that holds the lock.
pub const LOCK: &str = "sparkha/at-work";
/// The annotation that a first create sets. While it is there, no other command has changed the cluster, and a failed
/// create may remove what it created.
const FIRST: &str = "sparkha/first-create";
/// A lock not renewed for this long is abandoned.
const EXPIRES_AFTER: Duration = Duration::from_secs(15);
const RENEW_EVERY: Duration = Duration::from_secs(5);
/// How long one check is valid for concurrent writes. Measured by the wall clock, which goes on while a machine sleeps.
const CHECK_LASTS: Duration = Duration::from_millis(100);
/// A response that takes longer does not prove that the lock is held.
const CHECK_WITHIN: Duration = Duration::from_secs(8);
/// How many times a conditional write is tried while others change the inventory.
const TRIES: u32 = 10;

/// A held lock. Renewed in the background until it is released or dropped.
pub(super) struct AnnotationLock {
    held: Arc<HeldLock>,
    renewal: tokio::task::AbortHandle,
}

struct HeldLock {
    cluster: Cluster,
    inventory: String,
    me: Holder,
    /// When the lock was last confirmed to be held.
    checked: Mutex<SystemTime>,
}

/// Takes the lock by writing the inventory. `observed` is the one that the plan is based on, read after [`wait_for_lock`]. Fails if it has changed
/// since. [`Intent::first`] marks the cluster as created by this run, see [`undoable`].
pub(super) async fn take(
    cluster: &Cluster,
    name: &ClusterName,
    observed: Option<&DynamicObject>,
    inventory: &Inventory,
    Intent { config_map, first, .. }: Intent<'_>,
) -> Result<AnnotationLock, Error> {
    let kept = || observed.map(|observed| owned(observed, FIELD_MANAGER));
    let mut object = config_map.cloned().or_else(kept).unwrap_or_default();
    let version = observed.and_then(ResourceExt::resource_version);
    let me = Holder::me(random_id()?);
    // The response may be read long after the lock was written.
    let began = SystemTime::now();
    object["data"] = json!(inventory.data());
    object["metadata"]["annotations"][LOCK] = json!(me.written());
    if first {
        object["metadata"]["annotations"][FIRST] = json!(me.id);
    }
    let inventory_name = name.inventory();
    let written = match observed {
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
            // A different version means that another process changed it. Only the UID is compared where there is none any more: applying
            // would make it anew.
            object["metadata"]["resourceVersion"] = json!(version);
            object["metadata"]["uid"] = json!(observed.and_then(ResourceExt::uid));
            let applied = cluster.apply(Kind::ConfigMap, &inventory_name, &object, true).await;
            applied.map(|_| ())
        }
    };
    match written {
        Ok(()) => Ok(AnnotationLock::held(cluster, name, me, began)),
        Err(kubernetes::Error::Rejected { code: 404 | 409, .. }) => {
            let current = cluster.get(Kind::ConfigMap, &inventory_name).await?;
            match current.as_ref().and_then(holder_of) {
                // The response to our write was lost, and the retry conflicts with it.
                Some(holder) if holder.id == me.id => Ok(AnnotationLock::held(cluster, name, me, began)),
                Some(holder) => Err(Error::Busy { holder: holder.who }),
                None => Err(Error::has_just_finished()),
            }
        }
        Err(error) => Err(error.into()),
    }
}

impl AnnotationLock {
    fn held(cluster: &Cluster, name: &ClusterName, me: Holder, since: SystemTime) -> Self {
        let held = Arc::new(HeldLock {
            cluster: cluster.clone(),
            inventory: name.inventory(),
            me,
            checked: Mutex::new(since),
        });
        let renewing = held.clone();
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(RENEW_EVERY).await;
                let renewed = json!({"metadata": {"annotations": {LOCK: renewing.me.renewed().written()}}});
                match renewing.change("renew the lock", &renewed).await {
                    Err(kubernetes::Error::LockLost { reason, .. }) => {
                        tracing::info!("the lock is lost: {reason}");
                        return;
                    }
                    Err(error) => tracing::debug!("the lock was not renewed: {error}"),
                    Ok(()) => {}
                }
            }
        });
        Self {
            held,
            renewal: task.abort_handle(),
        }
    }

    /// Unique id of this lock.
    pub fn id(&self) -> &str {
        &self.held.me.id
    }

    /// The cluster; its writes are sent only while the lock is held.
    pub fn fenced(&self) -> Cluster {
        self.held.cluster.with_fence(self.held.clone())
    }

    pub async fn check(&self, action: &str) -> Result<SystemTime, kubernetes::Error> {
        self.held.check(action).await
    }

    /// Releases the lock and writes the final inventory. `undoable` keeps the right of a first create to undo itself.
    pub async fn release(&self, inventory: &Inventory, undoable: bool) -> Result<(), Error> {
        self.renewal.abort();
        let mut patch = json!({
            "metadata": {"annotations": {LOCK: null}},
            "data": inventory.data(),
        });
        if !undoable {
            patch["metadata"]["annotations"][FIRST] = Value::Null;
        }
        Ok(self.held.change("release the lock", &patch).await?)
    }

    /// Removes the inventory and with it the lock.
    pub async fn remove_inventory(&self) -> Result<(), Error> {
        self.renewal.abort();
        Ok(self.held.remove("remove the inventory").await?)
    }
}

impl Drop for AnnotationLock {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

impl HeldLock {
    /// The inventory. Fails if it does not hold our lock.
    async fn read(&self, action: &str) -> Result<DynamicObject, kubernetes::Error> {
        let lost = |reason: String| kubernetes::Error::LockLost {
            action: action.to_owned(),
            reason,
        };
        let Some(current) = self.cluster.get(Kind::ConfigMap, &self.inventory).await? else {
            return Err(lost("another command has removed the cluster".into()));
        };
        match holder_of(&current) {
            Some(holder) if holder.id == self.me.id => Ok(current),
            Some(holder) => Err(lost(format!(
                "another sparkha process ({}) has taken over the cluster",
                holder.who
            ))),
            None => Err(lost("another sparkha process has changed the cluster".into())),
        }
    }

    /// Changes the inventory if it holds our lock.
    async fn change(&self, action: &str, patch: &Value) -> Result<(), kubernetes::Error> {
        let mut tries = 0;
        let mut sent = false;
        loop {
            let current = match self.read(action).await {
                // The response to our release was lost; the inventory is already as the release leaves it.
                Err(kubernetes::Error::LockLost { .. }) if sent && self.is_released(patch).await? => return Ok(()),
                current => current?,
            };
            sent = true;
            tries += 1;
            match self
                .cluster
                .merge_if_unchanged(Kind::ConfigMap, &current, patch.clone())
                .await
            {
                Err(kubernetes::Error::Rejected { code: 409, .. }) if tries < TRIES => {}
                changed => return changed.map(|_| ()),
            }
        }
    }

    /// Whether the inventory is as the release leaves it.
    async fn is_released(&self, patch: &Value) -> Result<bool, kubernetes::Error> {
        let current = self.cluster.get(Kind::ConfigMap, &self.inventory).await?;
        Ok(current.is_some_and(|current| {
            !current.annotations().contains_key(LOCK)
                && !patch["data"].is_null()
                && current.data["data"] == patch["data"]
        }))
    }

    async fn remove(&self, action: &str) -> Result<(), kubernetes::Error> {
        let mut tries = 0;
        loop {
            let current = self.read(action).await?;
            tries += 1;
            match self.cluster.delete_if_unchanged(Kind::ConfigMap, &current).await {
                Err(kubernetes::Error::Rejected { code: 409, .. }) if tries < TRIES => {}
                removed => return removed,
            }
        }
    }
}

impl Fence for HeldLock {
    fn check<'a>(&'a self, action: &'a str) -> BoxFuture<'a, Result<SystemTime, kubernetes::Error>> {
        async move {
            let arrived = SystemTime::now();
            let mut checked = self.checked.lock().await;
            // Another write may have checked while this one waited for the mutex.
            if *checked >= arrived || checked.elapsed().is_ok_and(|ago| ago < CHECK_LASTS) {
                return Ok(*checked);
            }
            for _ in 0..TRIES {
                let began = SystemTime::now();
                let Some(read) = unless_paused(began, self.read(action)).await else {
                    continue;
                };
                read?;
                if began.elapsed().is_ok_and(|took| took < CHECK_WITHIN) {
                    *checked = SystemTime::now();
                    return Ok(*checked);
                }
            }
            Err(kubernetes::Error::LockLost {
                action: action.to_owned(),
                reason: "the API server responds too slowly to confirm that the lock is still held".into(),
            })
        }
        .boxed()
    }
}

/// The inventory of a first create that failed, if no other command has changed the cluster since. `id` is the id of
/// its lock.
pub async fn undoable(cluster: &Cluster, name: &ClusterName, id: &str) -> Result<Option<DynamicObject>, Error> {
    let found = cluster.get(Kind::ConfigMap, &name.inventory()).await?;
    Ok(found.filter(|found| {
        let is_first = found.annotations().get(FIRST).is_some_and(|first| first == id);
        is_first && holder_of(found).is_none_or(|holder| holder.id == id)
    }))
}

/// Ends the right of a first create to undo itself, because its cluster is in service or another command relies on its
/// objects.
pub async fn confirm_first(cluster: &Cluster, name: &ClusterName) -> Result<(), Error> {
    for _ in 0..TRIES {
        let found = cluster.get(Kind::ConfigMap, &name.inventory()).await?;
        let Some(found) = found.filter(|found| found.annotations().contains_key(FIRST)) else {
            return Ok(());
        };
        let patch = json!({"metadata": {"annotations": {FIRST: null}}});
        match cluster.merge_if_unchanged(Kind::ConfigMap, &found, patch).await {
            Err(kubernetes::Error::Rejected { code: 404 | 409, .. }) => {}
            changed => return Ok(changed.map(|_| ())?),
        }
    }
    Ok(())
}

/// Whether a first create may still undo itself, according to this inventory.
pub fn is_first(observed: &DynamicObject) -> bool {
    observed.annotations().contains_key(FIRST)
}

/// The holder of a lock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Holder {
    /// `user@host, process 123`.
    who: String,
    host: String,
    pid: u32,
    /// Time of the last renewal, in milliseconds.
    renewed: u64,
    /// Unique id of this holding; empty in locks of older sparkha versions.
    #[serde(default)]
    id: String,
    /// Identifies the process, together with the PID namespace that its number belongs to.
    #[serde(default)]
    process: Option<ProcessId>,
    #[serde(default)]
    pid_namespace: Option<String>,
}

impl Holder {
    fn me(id: String) -> Self {
        let host = host_name();
        let user = user_name();
        let pid = std::process::id();
        let holder = Self {
            who: format!("{user}@{host}, process {pid}"),
            host,
            pid,
            renewed: 0,
            id,
            process: ProcessId::of(pid as i32),
            pid_namespace: pid_namespace(),
        };
        holder.renewed()
    }

    fn renewed(&self) -> Self {
        Self {
            renewed: Timestamp::now().as_millisecond().unsigned_abs(),
            ..self.clone()
        }
    }

    fn written(&self) -> String {
        // Strings and numbers only: it serialises.
        serde_json::to_string(self).unwrap_or_default()
    }

    fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// Whether its process is known to have ended. The process can be looked up only in its own PID namespace.
    fn is_gone(&self) -> bool {
        let (Some(process), Some(namespace)) = (&self.process, &self.pid_namespace) else {
            return false;
        };
        pid_namespace().as_ref() == Some(namespace) && process.has_ended()
    }
}

fn holder_of(inventory: &DynamicObject) -> Option<Holder> {
    let annotations: &BTreeMap<String, String> = inventory.annotations();
    Holder::read(annotations.get(LOCK)?)
}

/// Waits until the lock of an inventory is released or abandoned. Fails if the holder renews it. Returns true if there
/// was a lock: then the cluster may have changed, and the caller must read it again.
pub async fn wait_for_lock(
    cluster: &Cluster,
    name: &ClusterName,
    observed: Option<&DynamicObject>,
) -> Result<bool, Error> {
    let Some(holder) = observed.and_then(holder_of) else {
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
    tracing::info!("taking over the lock of {}, which was not renewed", holder.who);
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> Holder {
        Holder::me("1".into())
    }

    #[test]
    fn a_written_holder_reads_back_and_is_alive() {
        let me = me();
        assert_eq!(Holder::read(&me.written()), Some(me.clone()));
        assert!(!me.is_gone());
    }

    #[test]
    fn a_lock_of_an_older_sparkha_is_read_and_expires_by_time_alone() {
        let old = r#"{"who": "a@b, process 1", "host": "b", "pid": 4194305, "renewed": 5}"#;
        let old = Holder::read(old).unwrap();
        assert_eq!((old.pid, old.renewed), (4_194_305, 5));
        assert!(!old.is_gone());
    }

    #[test]
    fn a_process_is_known_to_have_ended_only_on_the_same_machine() {
        let me = me();
        let process = serde_json::to_value(me.process.as_ref().unwrap()).unwrap();
        let with = |field: &str, value: Value| {
            let mut process = process.clone();
            process[field] = value;
            Holder {
                process: serde_json::from_value(process).ok(),
                ..me.clone()
            }
        };
        // The PID is free or belongs to another process.
        assert!(with("started", json!(1)).is_gone());
        assert!(with("pid", json!(i32::MAX)).is_gone());
        // A machine with the same name, and a container with its own PID namespace.
        let elsewhere = with("boot", json!("another"));
        assert!(!elsewhere.is_gone());
        let mut container = with("pid", json!(i32::MAX));
        container.pid_namespace = Some("pid:[1]".into());
        assert!(!container.is_gone());
    }
}
