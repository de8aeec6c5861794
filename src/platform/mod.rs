//! Where a cluster runs. [`Platform`] has two implementations, Kubernetes and this machine; everything above this folder is written once against it.

mod error;
pub mod kubernetes;
pub mod leader;
pub mod local;
pub mod observer;
pub mod poll;
mod random;
pub mod system;
pub mod transport;

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::core::DynamicObject;
use serde_json::Value;

pub use error::Error;
pub use random::{random_id, random_secret};

use self::local::store::DesiredState;
use self::transport::Transport;
use crate::console::progress::Progress;
use crate::model::kind::Kind;
use crate::model::labels::Component;
use crate::render::Resource;
use crate::render::inventory::{Inventory, Summary};
use crate::spec::names::{ClusterName, Namespace};
use crate::state::Facts;

/// Grace period of pods that are not decommissioned.
const UNDRAINED_SECONDS: u32 = 10;

/// Objects that exist, by kind and name.
pub type LiveObjects = HashMap<(Kind, String), DynamicObject>;

/// One cluster, which need not exist yet, and where it runs.
///
/// Methods that change the cluster are called on [`Lock::platform`], while no other command changes it.
#[async_trait(?Send)]
pub trait Platform {
    fn name(&self) -> &ClusterName;

    fn namespace(&self) -> &Namespace;

    /// Another cluster in the same namespace.
    fn sibling(&self, name: &ClusterName) -> Rc<dyn Platform>;

    /// The platform itself, for what differs: preflight checks, the transport of logs and files, and the sources of routes.
    fn backend(&self) -> Backend<'_>;

    /// Names this cluster among all that may use the same ZooKeeper ensemble.
    fn description(&self) -> String;

    /// The inventory; `None` if there is no cluster. To read only: it may have a later format, of which a part is not understood.
    async fn inventory(&self) -> Result<Option<Inventory>, Error>;

    /// The clusters in the same namespace with this alias.
    async fn known_as(&self, alias: &ClusterName) -> Result<Vec<Summary>, Error>;

    /// An object by name; `None` if it does not exist.
    async fn object(&self, kind: Kind, name: &str) -> Result<Option<DynamicObject>, Error>;

    /// The keys of a Secret, the cluster's own or the user's.
    ///
    /// # Errors
    /// Fails with [`Error::NoSecret`] if there is no such Secret.
    async fn secret(&self, name: &str) -> Result<BTreeMap<String, ByteString>, Error>;

    /// The current pods, drivers among them.
    async fn pods(&self) -> Result<Vec<Pod>, Error>;

    /// Pods and StatefulSets, and what masters and ZooKeeper servers report about themselves.
    async fn facts(&self, observation: Observation) -> Result<Facts, Error>;

    /// Warning events of the cluster's objects, as [`Observation::Repeated`] has found them.
    async fn events(&self) -> Vec<Event>;

    /// The last log lines of the run that ended last, at most this many.
    async fn last_log(&self, pod: &Pod, lines: usize) -> String;

    /// How to connect to the pods.
    fn transport(&self) -> Transport;

    /// How often to observe a cluster that changes.
    fn poll_interval(&self) -> Duration;

    /// The drivers that sparkha started.
    async fn drivers(&self) -> Result<Vec<DriverState>, Error>;

    /// Terminates a driver and removes it. With `wait`, returns once it has ended.
    async fn end_driver(&self, driver: &str, wait: bool) -> Result<(), Error>;

    /// Stops a pod, without a grace period if `hard`. Its StatefulSet replaces it.
    async fn kill_pod(&self, pod: &Pod, hard: bool) -> Result<(), Error>;

    /// The inventory for a change to start from. Waits while another command holds the lock, or fails with [`Error::Busy`].
    ///
    /// # Errors
    /// If the inventory has a later format than this sparkha knows.
    async fn baseline(&self) -> Result<Baseline, Error>;

    /// Takes the lock and records the objects that may exist from now on.
    ///
    /// # Errors
    /// Fails with [`Error::Busy`] if the cluster is no longer as in `baseline`.
    async fn lock(&self, baseline: &Baseline, intent: Intent<'_>) -> Result<Box<dyn Lock>, Error>;

    /// The inventory of a first create that failed, if no other command has changed the cluster since. `id` is the id of its lock.
    async fn undoable(&self, id: &str) -> Result<Option<Baseline>, Error>;

    /// Ends the right of a first create to undo itself.
    async fn confirm_first(&self) -> Result<(), Error>;

    /// Writes objects of one kind. `force` takes fields from other field managers.
    async fn apply(&self, resources: &[Resource], force: bool) -> Result<(), Error>;

    /// Sets values of a Secret. `new` is the Secret if it does not exist yet.
    async fn put_secret(
        &self,
        name: &str,
        values: BTreeMap<String, String>,
        new: Option<&Resource>,
    ) -> Result<(), Error>;

    /// Sets the replicas of an existing StatefulSet. `force` takes the field from other field managers.
    async fn scale(&self, set: &DynamicObject, replicas: u32, force: bool) -> Result<(), Error>;

    /// Sets the update strategy of an existing StatefulSet.
    async fn set_strategy(&self, set: &str, strategy: &str) -> Result<(), Error>;

    /// Deletes pods of a StatefulSet with update strategy `OnDelete`, so that it creates them from the new template.
    async fn replace_pods(&self, set: &str, pods: &[Pod]) -> Result<(), Error>;

    /// Deletes an object if it still has this UID.
    async fn delete(&self, kind: Kind, name: &str, uid: Option<String>) -> Result<(), Error>;

    /// Restarts all pods of these components at once, and returns when the old ones have ended.
    async fn restart(&self, components: &[Component], bounds: &Bounds<'_>) -> Result<(), Error>;

    /// Starts what must run so that written objects take effect. True if something was started.
    async fn ensure_running(&self) -> Result<bool, Error>;

    /// The volume claims that hold data.
    async fn claims(&self, inventory: Option<&Inventory>) -> Result<Vec<Claim>, Error>;
}

/// The platform of a cluster, for what differs.
#[derive(Clone, Copy)]
pub enum Backend<'a> {
    Kubernetes(&'a kubernetes::Cluster),
    Local(&'a local::LocalPlatform),
}

/// How facts are gathered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observation {
    /// Once, for a user who waits: every running pod is queried.
    Once,
    /// Repeatedly, until something happens: from a watch, and only ready pods are queried.
    Repeated,
}

/// A held lock. Freed when it is dropped.
#[async_trait(?Send)]
pub trait Lock {
    /// The unique id of this holding.
    fn id(&self) -> &str;

    /// The cluster; its writes are sent only while the lock is held.
    fn platform(&self) -> &dyn Platform;

    /// The time at which the lock was still held.
    ///
    /// # Errors
    /// If it no longer is.
    async fn check(&self, action: &str) -> Result<SystemTime, Error>;

    /// Writes the final inventory and releases the lock. `undoable` keeps the right of a first create to undo itself.
    async fn release(&mut self, inventory: &Inventory, undoable: bool) -> Result<(), Error>;

    /// Stops the pods of a component for good, and returns when they have ended.
    async fn stop(&self, component: Component, bounds: &Bounds<'_>) -> Result<(), Error>;

    /// Removes what is left when all pods have ended, these claims with their data among it, and the inventory last.
    async fn remove(self: Box<Self>, claims: &[Claim], bounds: &Bounds<'_>) -> Result<(), Error>;
}

/// Does `work` while the lock is held. Repeats it if the process was paused meanwhile and the lock is still held.
pub async fn guard<T, E: From<Error>, F>(lock: &dyn Lock, action: &str, mut work: impl FnMut() -> F) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    loop {
        let checked = lock.check(action).await?;
        if let Some(done) = kubernetes::unless_paused(checked, work()).await {
            return done;
        }
    }
}

/// A cluster's inventory before a change.
pub struct Baseline {
    /// `None` if there is no cluster, or if its files on this machine are damaged.
    pub inventory: Option<Inventory>,
    /// Why files of the cluster on this machine cannot be read.
    pub damage: Option<Error>,
    /// Whether the first create may still undo itself.
    pub is_first: bool,
    read: Read,
}

/// What was read, to detect that another command has changed it.
enum Read {
    Kubernetes(Option<Box<DynamicObject>>),
    Local(Option<DesiredState>),
}

/// What a command announces before its first write.
pub struct Intent<'a> {
    /// All objects that may exist during the change; `None` to remove a cluster whose files are damaged.
    pub inventory: Option<&'a Inventory>,
    /// The rendered ConfigMap of the inventory; `None` keeps labels and annotations.
    pub config_map: Option<&'a Value>,
    /// The command creates the cluster, and may undo that.
    pub first: bool,
}

impl<'a> Intent<'a> {
    /// To change an existing cluster.
    pub fn change(inventory: &'a Inventory) -> Self {
        Self {
            inventory: Some(inventory),
            config_map: None,
            first: false,
        }
    }
}

/// The limits of a long operation.
pub struct Bounds<'a> {
    pub deadline: Instant,
    /// The time from the begin to the deadline, for messages.
    pub timeout: Duration,
    /// Delete pods of lost nodes without confirmation from these nodes.
    pub force: bool,
    pub progress: &'a Progress,
}

impl<'a> Bounds<'a> {
    pub fn new(timeout: Duration, progress: &'a Progress) -> Self {
        Self {
            deadline: Instant::now() + timeout,
            timeout,
            force: false,
            progress,
        }
    }

    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

impl Baseline {
    /// Of a cluster whose inventory the user may not read.
    pub fn unknown() -> Self {
        Self {
            inventory: None,
            damage: None,
            is_first: false,
            read: Read::Kubernetes(None),
        }
    }
}

/// A volume claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub name: String,
    /// Empty on this machine.
    pub uid: Option<String>,
}

/// A driver that sparkha started.
#[derive(Clone, Debug, PartialEq)]
pub struct DriverState {
    /// Its pod; on this machine only its name and address.
    pub pod: Pod,
    /// The port of its web UI, if drivers share an address.
    pub ui_port: Option<u16>,
    /// The IDs of its applications, the latest last. For a pod they are known once it has ended.
    pub applications: Vec<String>,
    pub ended: bool,
    pub exit_code: Option<i32>,
}
