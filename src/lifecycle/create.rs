//! `sparkha create`: preflight, namespace, inventory, objects, prune, wait. Each step can be interrupted. The inventory
//! is written first and lists every object that may exist from then on, so the next create or teardown continues from
//! there.

use std::cell::Cell;
use std::time::Duration;

use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::core::DynamicObject;
use serde_json::{Value, json};

use crate::console::progress::Progress;
use crate::lifecycle::differences::{Applications, Differences, Origin, differences};
use crate::lifecycle::external_zookeeper::Znodes;
use crate::lifecycle::lock::Lock;
use crate::lifecycle::place::Place;
use crate::lifecycle::plan::{LiveObjects, Plan, plan, to_apply};
use crate::lifecycle::preflight::{NamespaceState, Snapshot, preflight};
use crate::lifecycle::rollout::{Mode, Roller};
use crate::lifecycle::spark_change::SparkChange;
use crate::lifecycle::{Error, external_zookeeper, lock, namespace, rollout, secret, status, teardown, upgrade, wait};
use crate::model::kind::Kind;
use crate::model::labels::cluster_selector;
use crate::platform::kubernetes::{self, Cluster};
use crate::platform::leader::Leader;
use crate::platform::observer::Observer;
use crate::render::Resource;
use crate::render::inventory::{Inventory, InventoryEntry, UpgradePhase};
use crate::render::workloads::ROLLING_UPDATE;
use crate::spec::ClusterSpec;
use crate::spec::names::ClusterName;
use crate::spec::words::counted;
use crate::state::ClusterState;

/// Options of create.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    pub timeout: Duration,
    /// The source that the spec was resolved from, before flags.
    pub origin: Origin,
    /// Wait until the cluster is in service.
    pub wait: bool,
    /// Only report the changes.
    pub dry_run: bool,
    /// Keep the objects of a failed first create.
    pub retain: bool,
    pub skip_preflight: bool,
    /// Take over fields from other field managers.
    pub force_conflicts: bool,
    pub running: RunningApplications,
}

/// What happens to running applications that a change of the Spark version would kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunningApplications {
    /// Refuse the change while they run.
    Stay,
    /// Kill them.
    Lost,
    /// Wait until they have ended, see [`super::upgrade`].
    Drained,
}

impl CreateOptions {
    /// Refuses a change that would kill running applications, unless `running` allows it. A dry run only warns.
    pub fn weigh(
        &self,
        differences: &mut Differences,
        change: Option<&SparkChange>,
        applications: &Applications,
        progress: &Progress,
    ) -> Result<(), Error> {
        if self.running == RunningApplications::Drained && change.is_some() {
            differences.accept_image();
            return Ok(());
        }
        differences.disturb(applications);
        match change.and_then(|change| change.refused(applications)) {
            Some(error) if self.dry_run && self.running != RunningApplications::Lost => {
                progress.warn(&format!("create would refuse this: {error}"));
                Ok(())
            }
            Some(error) if self.running != RunningApplications::Lost => Err(error),
            _ => Ok(()),
        }
    }
}

/// Result of create.
#[derive(Debug, Default)]
pub struct CreateResult {
    /// `None` if create did not wait.
    pub state: Option<ClusterState>,
    /// The changes that a dry run reports, one line each.
    pub would: Vec<String>,
}

/// Concurrent requests for objects of one kind.
const CONCURRENCY: usize = 16;

/// A create that is prepared.
pub struct KubernetesCreate {
    snapshot: Snapshot,
    inventory: Inventory,
    plan: Plan,
    /// Change of the Spark version of masters and workers.
    pub change: Option<SparkChange>,
    /// Differences from the live cluster.
    pub differences: Differences,
}

/// Plans the changes that turn the live cluster into `spec`. Changes nothing.
pub async fn prepare(
    cluster: &Cluster,
    spec: &ClusterSpec,
    options: &CreateOptions,
    progress: &Progress,
) -> Result<KubernetesCreate, Error> {
    progress.step("Running preflight checks");
    let mut snapshot = preflight(cluster, spec, options.skip_preflight).await?;
    if lock::wait_for_lock(cluster, &spec.name, inventory_object(&snapshot, spec)).await? {
        snapshot = preflight(cluster, spec, options.skip_preflight).await?;
    }
    for finding in &snapshot.findings {
        progress.warn(&finding.message);
    }
    let mut inventory = desired_inventory(spec, &snapshot);
    let mut plan = plan(
        &snapshot.resources,
        &snapshot.live,
        snapshot.inventory.as_ref(),
        &inventory,
    );
    let old = snapshot.inventory.as_ref();
    upgrade::takes_changes(old)?;
    if !options.origin.is_current(old) {
        return Err(Error::has_just_finished());
    }
    let mut differences = differences(old, &inventory, &plan, &snapshot.live, &options.origin);
    let mut change = None;
    if differences.are_disturbing() {
        let applications = running(cluster, &spec.name).await;
        change = spark_change(cluster, spec, &plan, &snapshot.live).await?;
        options.weigh(&mut differences, change.as_ref(), &applications, progress)?;
    }
    if change.is_none() && options.running != RunningApplications::Drained {
        inventory = inventory.keeping_drain_of(snapshot.inventory.as_ref());
        plan.inventory_changes = snapshot.inventory.as_ref() != Some(&inventory);
    }
    Ok(KubernetesCreate {
        snapshot,
        inventory,
        plan,
        change,
        differences,
    })
}

/// The running applications.
async fn running(cluster: &Cluster, name: &ClusterName) -> Applications {
    Applications::of(status::status(cluster, name, &mut Observer::new(cluster.clone())).await)
}

/// The change of the Spark version of masters and workers. Queries the leader only if the image does not tell the
/// running version.
async fn spark_change(
    cluster: &Cluster,
    spec: &ClusterSpec,
    plan: &Plan,
    live: &LiveObjects,
) -> Result<Option<SparkChange>, Error> {
    let Some(change) = SparkChange::between(live, &plan.apply) else {
        return Ok(None);
    };
    if change.is_known() {
        return Ok(Some(change));
    }
    let pods = cluster.list_of::<Pod>(&cluster_selector(&spec.name)).await?;
    let reply = Leader::new(cluster.clone()).query(pods).await;
    Ok(change.with_running(reply.and_then(|reply| reply.page.version)))
}

/// Executes the plan. Fails if the inventory has changed since.
pub async fn create(
    cluster: &Cluster,
    spec: &ClusterSpec,
    prepared: KubernetesCreate,
    options: &CreateOptions,
    progress: &Progress,
) -> Result<CreateResult, Error> {
    let KubernetesCreate {
        snapshot, inventory, ..
    } = &prepared;
    if options.dry_run {
        return Ok(CreateResult {
            state: None,
            would: describe(&prepared.plan, &snapshot.live),
        });
    }
    if snapshot.has_lost_inventory() {
        progress.warn(&lost_inventory(spec, snapshot, inventory));
    }
    let first = snapshot.is_first();
    let has_claims = inventory.objects.iter().any(|entry| !entry.claims.is_empty());
    let kept = match snapshot.namespace {
        NamespaceState::Missing => vec![],
        _ if first && has_claims => teardown::claims(cluster, &spec.name).await?,
        _ => vec![],
    };
    let mut undo = Undo::default();
    let made = async {
        write(cluster, spec, &prepared, options, &mut undo, progress).await?;
        if !options.wait {
            return Ok(None);
        }
        let view = wait::KubernetesView::of(cluster, &spec.name).await;
        let waiting = wait::until_ready(view, cluster.namespace(), inventory, options.timeout, progress);
        waiting.await.map(Some)
    };
    let error = match made.await {
        Ok(state) => {
            if undo.first_create.is_some()
                && let Err(error) = lock::confirm_first(cluster, &spec.name).await
            {
                tracing::info!("failed to remove the mark of a first create: {error}");
            }
            return Ok(CreateResult { state, would: vec![] });
        }
        Err(error) => error,
    };
    if let Some(id) = undo.first_create.filter(|_| is_worth_cleaning(&error)) {
        progress.warn("The first create of this cluster failed, so its objects are removed (--retain keeps them)");
        match teardown::undo(cluster, &spec.name, &id, &kept, undo.znodes, progress).await {
            Ok(true) => {}
            Ok(false) => progress.warn("Another command has changed the cluster: nothing is removed"),
            Err(cleaning) => progress.warn(&format!("Failed to clean up: {cleaning}; run `sparkha teardown`")),
        }
    }
    Err(error)
}

/// What a failed first create may remove. Excludes what existed before.
#[derive(Debug, Default)]
struct Undo {
    /// The id that marks the inventory as created by this run, once it is written.
    first_create: Option<String>,
    znodes: Znodes,
}

/// Errors caused by another sparkha process or by an interruption keep the objects: the user may want to continue.
pub fn is_worth_cleaning(error: &Error) -> bool {
    !matches!(
        error,
        Error::Busy { .. } | Error::Interrupted { .. } | Error::Kubernetes(kubernetes::Error::LockLost { .. })
    )
}

/// The live ConfigMap of the inventory.
fn inventory_object<'a>(snapshot: &'a Snapshot, spec: &ClusterSpec) -> Option<&'a DynamicObject> {
    snapshot.live.get(&(Kind::ConfigMap, spec.name.inventory()))
}

fn desired_inventory(spec: &ClusterSpec, snapshot: &Snapshot) -> Inventory {
    let inventory = Inventory::of(spec, snapshot.resources.get(1..).unwrap_or_default());
    let owner = snapshot.znodes.as_ref().and_then(|znodes| znodes.owner.clone());
    let inventory = inventory.with_znode_owner(owner);
    match snapshot.has_lost_inventory() {
        true => inventory.adopting(&snapshot.live),
        false => inventory,
    }
}

/// The warning for a cluster whose inventory is missing.
fn lost_inventory(spec: &ClusterSpec, snapshot: &Snapshot, inventory: &Inventory) -> String {
    let desired = Inventory::of(spec, &snapshot.resources);
    let objects = inventory.objects.iter();
    let extra = objects.filter(|entry| desired.entry(entry.kind, &entry.name).is_none());
    let extra: Vec<_> = extra.map(|entry| format!("{} {}", entry.kind, entry.name)).collect();
    let mut message = format!(
        "The inventory (ConfigMap {}) is missing, but {} of cluster {} exist: create adopts them and keeps them if it fails",
        spec.name.inventory(),
        counted(snapshot.live.len(), "object"),
        spec.name
    );
    if !extra.is_empty() {
        message.push_str(&format!(
            "; kept although not requested: {} (the next create removes them)",
            extra.join(", ")
        ));
    }
    message
}

async fn write(
    cluster: &Cluster,
    spec: &ClusterSpec,
    prepared: &KubernetesCreate,
    options: &CreateOptions,
    undo: &mut Undo,
    progress: &Progress,
) -> Result<(), Error> {
    let KubernetesCreate {
        snapshot,
        inventory,
        plan,
        ..
    } = prepared;
    if snapshot.namespace == NamespaceState::Missing {
        namespace::create(cluster).await?;
        progress.done(&format!("Namespace {} made", cluster.namespace()));
    }
    let observed = inventory_object(snapshot, spec);
    if plan.is_empty() {
        // From now on this run relies on objects that a failed first create would still remove.
        if observed.is_some_and(lock::is_first) {
            lock::confirm_first(cluster, &spec.name).await?;
        }
        progress.done("Nothing to change");
        return Ok(());
    }
    let object = snapshot.resources.first().map(|resource| resource.object.clone());
    let between = between(inventory, snapshot.inventory.as_ref(), prepared.change.as_ref());
    let first = snapshot.is_first() && !options.retain;
    let lock = lock::take(
        cluster,
        &spec.name,
        observed,
        object.unwrap_or_default(),
        &between,
        first,
    )
    .await?;
    undo.first_create = first.then(|| lock.id().to_owned());
    let work = async {
        claim_znodes(&lock, cluster, spec, snapshot, undo).await?;
        apply_and_prune(&lock.fenced(), spec, prepared, options, progress).await
    };
    match work.await {
        Ok(()) => lock.release(inventory, first && options.wait).await,
        Err(error) => {
            abort(lock, &between, first).await;
            Err(error)
        }
    }
}

/// The inventory of all objects that may exist during the changes.
pub fn between(inventory: &Inventory, old: Option<&Inventory>, change: Option<&SparkChange>) -> Inventory {
    let between = match old {
        Some(old) => inventory.united_with(old),
        None => inventory.without_digests(),
    };
    match change {
        Some(change) => between.with_upgrade(Some(change.upgrade(UpgradePhase::Changing))),
        None => between,
    }
}

/// Claims the znodes in an external ensemble if it is reachable from here.
async fn claim_znodes(
    lock: &Lock,
    cluster: &Cluster,
    spec: &ClusterSpec,
    snapshot: &Snapshot,
    undo: &mut Undo,
) -> Result<(), Error> {
    let znodes = snapshot.znodes.as_ref().filter(|znodes| znodes.reached);
    let Some(owner) = znodes.and_then(|znodes| znodes.owner.as_ref()) else {
        return Ok(());
    };
    let is_made = Cell::new(false);
    let claim = async || {
        if external_zookeeper::claim(&Place::Kubernetes(cluster.clone(), spec.name.clone()), spec, owner).await? {
            is_made.set(true);
        }
        Ok(())
    };
    lock.guard("claim the znodes", claim).await?;
    if is_made.get() {
        undo.znodes = Znodes::Remove;
    }
    Ok(())
}

/// Keeps the inventory of all objects that may exist and releases the lock, so that the next run need not wait for it.
/// `undoable` as in [`Lock::release`].
pub async fn abort(lock: Lock, between: &Inventory, undoable: bool) {
    if let Err(error) = lock.release(between, undoable).await {
        tracing::info!("failed to release the lock: {error}");
    }
}

async fn apply_and_prune(
    cluster: &Cluster,
    spec: &ClusterSpec,
    prepared: &KubernetesCreate,
    options: &CreateOptions,
    progress: &Progress,
) -> Result<(), Error> {
    let KubernetesCreate { snapshot, plan, .. } = prepared;
    let is_autoscaler = |entry: &&InventoryEntry| entry.kind == Kind::HorizontalPodAutoscaler;
    // An autoscaler that is to be removed would override the replicas that are applied now.
    prune(cluster, plan.prune.iter().filter(is_autoscaler), snapshot, progress).await?;
    let was_autoscaled = plan.prune.iter().any(|entry| is_autoscaler(&entry));
    // Kinds are applied in order, because later kinds need earlier ones (see Kind). Objects of one kind are applied
    // concurrently, except StatefulSets.
    let mut applied = 0;
    for kind in Kind::ALL {
        if kind == Kind::StatefulSet {
            // The deleted autoscaler still owns the field that it set.
            let force = options.force_conflicts || was_autoscaled;
            applied += apply_sets(cluster, spec, prepared, options, force, progress).await?;
            continue;
        }
        let resources = plan.apply.iter().filter(|resource| resource.kind == kind);
        let count = apply_all(cluster, resources, prepared, options.force_conflicts).await?;
        applied += count;
        if count > 0 {
            progress.step(&format!(
                "Applying: {applied} of {}",
                counted(plan.apply.len(), "object")
            ));
        }
    }
    progress.done(&format!("{} applied", counted(applied, "object")));
    prune(
        cluster,
        plan.prune.iter().filter(|entry| !is_autoscaler(entry)),
        snapshot,
        progress,
    )
    .await
}

/// Applies these resources concurrently and returns their number.
async fn apply_all<'a>(
    cluster: &Cluster,
    resources: impl IntoIterator<Item = &'a Resource>,
    prepared: &KubernetesCreate,
    force: bool,
) -> Result<usize, Error> {
    let least = prepared.inventory.cluster.workers.count;
    stream::iter(resources)
        .map(|resource| apply(cluster, resource, &prepared.snapshot, least, force))
        .buffer_unordered(CONCURRENCY)
        .try_fold(0, |count, ()| async move { Ok(count + 1) })
        .await
}

/// Applies the StatefulSets stage by stage and returns their number.
async fn apply_sets(
    cluster: &Cluster,
    spec: &ClusterSpec,
    prepared: &KubernetesCreate,
    options: &CreateOptions,
    force: bool,
    progress: &Progress,
) -> Result<usize, Error> {
    let KubernetesCreate { snapshot, plan, .. } = prepared;
    let stages = rollout::stages(plan, &snapshot.live, prepared.change.is_some());
    let mut roller = None;
    if stages.iter().any(|stage| stage.replaced.is_some()) {
        let mut view = wait::KubernetesView::of(cluster, &spec.name).await;
        if rollout::needs_order(&stages, &mut view).await? {
            roller = Some(KubernetesRoller {
                cluster: cluster.clone(),
                view,
            });
        }
    }
    let mut applied = 0;
    for stage in &stages {
        let (Some((set, mode)), Some(roller)) = (&stage.replaced, &mut roller) else {
            let there = |set: &&&Resource| snapshot.live.get(&(set.kind, set.name.clone()));
            for set in stage.sets.iter().filter(|set| there(set).is_some_and(rollout::is_held)) {
                set_strategy(cluster, &set.name, ROLLING_UPDATE).await?;
            }
            applied += apply_all(cluster, stage.sets.iter().copied(), prepared, force).await?;
            continue;
        };
        let held = stage.sets.iter().map(|resource| match *mode {
            Mode::LeaderLast | Mode::AtOnce if resource.name == *set => Resource {
                object: rollout::held(&resource.object),
                ..(*resource).clone()
            },
            _ => (*resource).clone(),
        });
        let held: Vec<_> = held.collect();
        if *mode != Mode::Rolling {
            set_strategy(cluster, set, rollout::ON_DELETE).await?;
        }
        applied += apply_all(cluster, &held, prepared, force).await?;
        let (namespace, inventory) = (cluster.namespace(), &prepared.inventory);
        rollout::replace(roller, (set, *mode), namespace, inventory, options.timeout, progress).await?;
        if *mode != Mode::Rolling {
            set_strategy(cluster, set, ROLLING_UPDATE).await?;
            let desired = stage.sets.iter().copied().filter(|resource| resource.name == *set);
            apply_all(cluster, desired, prepared, force).await?;
        }
        progress.done(&format!("Pods of {set} replaced"));
    }
    Ok(applied)
}

/// Sets the update strategy. This needs a merge patch: the server defaults `rollingUpdate`, which `OnDelete` does not
/// allow.
async fn set_strategy(cluster: &Cluster, set: &str, strategy: &str) -> Result<(), Error> {
    let mut patch = json!({"spec": {"updateStrategy": {"type": strategy}}});
    if strategy == rollout::ON_DELETE {
        patch["spec"]["updateStrategy"]["rollingUpdate"] = Value::Null;
    }
    cluster.merge(Kind::StatefulSet, set, &patch).await?;
    Ok(())
}

struct KubernetesRoller {
    cluster: Cluster,
    view: wait::KubernetesView,
}

impl Roller for KubernetesRoller {
    type View = wait::KubernetesView;

    fn view(&mut self) -> &mut Self::View {
        &mut self.view
    }

    async fn replace(&mut self, _: &str, pods: &[Pod]) -> Result<(), Error> {
        try_join_all(pods.iter().map(|pod| self.cluster.delete_pod(pod, None))).await?;
        Ok(())
    }
}

async fn prune(
    cluster: &Cluster,
    entries: impl Iterator<Item = &InventoryEntry>,
    snapshot: &Snapshot,
    progress: &Progress,
) -> Result<(), Error> {
    for entry in entries {
        let live = snapshot.live.get(&(entry.kind, entry.name.clone()));
        let uid = live.and_then(|object| object.metadata.uid.clone());
        cluster.delete(entry.kind, &entry.name, uid).await?;
        progress.done(&format!("{} {} removed: no longer needed", entry.kind, entry.name));
    }
    Ok(())
}

async fn apply(
    cluster: &Cluster,
    resource: &Resource,
    snapshot: &Snapshot,
    least: u32,
    force: bool,
) -> Result<(), Error> {
    let Resource { kind, name, .. } = resource;
    match kind {
        Kind::Secret => secret::make(cluster, resource, snapshot.live.get(&(*kind, name.clone()))).await,
        _ => {
            let object = to_apply(resource, &snapshot.live, least);
            Ok(cluster.apply(*kind, name, &object, force).await.map(drop)?)
        }
    }
}

/// The lines of a dry run.
pub fn describe(plan: &Plan, live: &LiveObjects) -> Vec<String> {
    let applied = plan.apply.iter().map(|resource| {
        let known = live.contains_key(&(resource.kind, resource.name.clone()));
        let verb = if known { "change" } else { "create" };
        format!("{verb} {}/{}", resource.kind.plural(), resource.name)
    });
    let pruned = plan
        .prune
        .iter()
        .map(|entry| format!("delete {}/{}", entry.kind.plural(), entry.name));
    applied.chain(pruned).collect()
}
