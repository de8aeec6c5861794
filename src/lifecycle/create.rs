//! `sparkha create`: preflight, namespace, inventory, objects, prune, wait. Every step can be cut off anywhere: the inventory is
//! written before anything else and lists all that may exist from then on, so the next create or teardown goes on from there.

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
use crate::lifecycle::plan::{Live, Plan, plan, to_apply};
use crate::lifecycle::preflight::{NamespaceState, Situation, preflight};
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

/// How create goes about it.
#[derive(Clone, Debug)]
pub struct Options {
    pub timeout: Duration,
    /// What the spec was resolved from, before flags.
    pub origin: Origin,
    /// Wait until the cluster is in service.
    pub wait: bool,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Leave a first create that failed as it is.
    pub retain: bool,
    pub skip_preflight: bool,
    /// Take fields from other field managers.
    pub force_conflicts: bool,
    pub running: Running,
}

/// What becomes of applications that another version of Spark would end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Running {
    /// The version stays while they run.
    Stay,
    /// They are lost.
    Lost,
    /// They end before: see [`super::upgrade`].
    Drained,
}

impl Options {
    /// Compares a change with what runs, and gives it up where it would end applications, unless that is accepted; a dry run only tells.
    pub fn weigh(
        &self,
        differences: &mut Differences,
        change: Option<&SparkChange>,
        applications: &Applications,
        progress: &Progress,
    ) -> Result<(), Error> {
        if self.running == Running::Drained && change.is_some() {
            differences.accept_image();
            return Ok(());
        }
        differences.disturb(applications);
        match change.and_then(|change| change.refused(applications)) {
            Some(error) if self.dry_run && self.running != Running::Lost => {
                progress.warn(&format!("this would be refused: {error}"));
                Ok(())
            }
            Some(error) if self.running != Running::Lost => Err(error),
            _ => Ok(()),
        }
    }
}

/// What create did.
#[derive(Debug, Default)]
pub struct Outcome {
    /// `None` if it did not wait.
    pub state: Option<ClusterState>,
    /// What a dry run would write, a line each.
    pub would: Vec<String>,
}

/// Requests of one kind that are under way at once.
const CONCURRENCY: usize = 16;

/// What create will do.
pub struct Prepared {
    situation: Situation,
    inventory: Inventory,
    plan: Plan,
    /// Of masters and workers.
    pub change: Option<SparkChange>,
    /// From the cluster as it is.
    pub differences: Differences,
}

/// Finds out what has to be done so that the cluster becomes what `spec` says. Changes nothing.
pub async fn prepare(
    cluster: &Cluster,
    spec: &ClusterSpec,
    options: &Options,
    progress: &Progress,
) -> Result<Prepared, Error> {
    progress.step("Checking beforehand");
    let mut situation = preflight(cluster, spec, options.skip_preflight).await?;
    if lock::wait_for_lock(cluster, &spec.name, inventory_object(&situation, spec)).await? {
        situation = preflight(cluster, spec, options.skip_preflight).await?;
    }
    for finding in &situation.findings {
        progress.warn(&finding.message);
    }
    let mut inventory = desired_inventory(spec, &situation);
    let mut plan = plan(
        &situation.resources,
        &situation.live,
        situation.inventory.as_ref(),
        &inventory,
    );
    let old = situation.inventory.as_ref();
    upgrade::takes_changes(old)?;
    if !options.origin.is_current(old) {
        return Err(Error::has_just_finished());
    }
    let mut differences = differences(old, &inventory, &plan, &situation.live, &options.origin);
    let mut change = None;
    if differences.are_disturbing() {
        let applications = running(cluster, &spec.name).await;
        change = spark_change(cluster, spec, &plan, &situation.live).await?;
        options.weigh(&mut differences, change.as_ref(), &applications, progress)?;
    }
    if change.is_none() && options.running != Running::Drained {
        inventory = inventory.keeping_drain_of(situation.inventory.as_ref());
        plan.inventory_changes = situation.inventory.as_ref() != Some(&inventory);
    }
    Ok(Prepared {
        situation,
        inventory,
        plan,
        change,
        differences,
    })
}

/// The applications that the cluster runs.
async fn running(cluster: &Cluster, name: &ClusterName) -> Applications {
    Applications::of(status::status(cluster, name, &mut Observer::new(cluster.clone())).await)
}

/// Whether masters or workers would run another Spark. The leader is asked only where the image does not say what runs.
async fn spark_change(
    cluster: &Cluster,
    spec: &ClusterSpec,
    plan: &Plan,
    live: &Live,
) -> Result<Option<SparkChange>, Error> {
    let Some(change) = SparkChange::between(live, &plan.apply) else {
        return Ok(None);
    };
    if change.is_known() {
        return Ok(Some(change));
    }
    let pods = cluster.list_of::<Pod>(&cluster_selector(&spec.name)).await?;
    let said = Leader::new(cluster.clone()).ask(pods).await;
    Ok(change.with_running(said.and_then(|said| said.page.version)))
}

/// Does what was prepared, unless the inventory has changed since.
pub async fn create(
    cluster: &Cluster,
    spec: &ClusterSpec,
    prepared: Prepared,
    options: &Options,
    progress: &Progress,
) -> Result<Outcome, Error> {
    let Prepared {
        situation, inventory, ..
    } = &prepared;
    if options.dry_run {
        return Ok(Outcome {
            state: None,
            would: describe(&prepared.plan, &situation.live),
        });
    }
    if situation.has_lost_inventory() {
        progress.warn(&lost_inventory(spec, situation, inventory));
    }
    let first = situation.is_first();
    let has_claims = inventory.objects.iter().any(|entry| !entry.claims.is_empty());
    let kept = match situation.namespace {
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
                tracing::info!("the mark of a first create was not removed: {error}");
            }
            return Ok(Outcome { state, would: vec![] });
        }
        Err(error) => error,
    };
    if let Some(id) = undo.first_create.filter(|_| is_worth_cleaning(&error)) {
        progress.warn("This was the first create of this cluster, so what it made is removed (--retain keeps it)");
        match teardown::undo(cluster, &spec.name, &id, &kept, undo.znodes, progress).await {
            Ok(true) => {}
            Ok(false) => {
                progress.warn("Another command has worked on the cluster meanwhile: everything stays as it is")
            }
            Err(cleaning) => progress.warn(&format!("Cleaning up failed: {cleaning}; run `sparkha teardown`")),
        }
    }
    Err(error)
}

/// What a first create may remove again if it fails. What was there before is not its to remove.
#[derive(Debug, Default)]
struct Undo {
    /// The id with which the inventory is marked as a first create's own, as soon as it is.
    first_create: Option<String>,
    znodes: Znodes,
}

/// Another sparkha at work is no failure of ours, and who interrupts may want to go on.
pub fn is_worth_cleaning(error: &Error) -> bool {
    !matches!(
        error,
        Error::Busy { .. } | Error::Interrupted { .. } | Error::Kubernetes(kubernetes::Error::LockLost { .. })
    )
}

/// The inventory's ConfigMap as it was found.
fn inventory_object<'a>(situation: &'a Situation, spec: &ClusterSpec) -> Option<&'a DynamicObject> {
    situation.live.get(&(Kind::ConfigMap, spec.name.inventory()))
}

fn desired_inventory(spec: &ClusterSpec, situation: &Situation) -> Inventory {
    let inventory = Inventory::of(spec, situation.resources.get(1..).unwrap_or_default());
    let owner = situation.znodes.as_ref().and_then(|znodes| znodes.owner.clone());
    let inventory = inventory.with_znode_owner(owner);
    match situation.has_lost_inventory() {
        true => inventory.adopting(&situation.live),
        false => inventory,
    }
}

/// What to say where objects of the cluster are there, and its inventory is not.
fn lost_inventory(spec: &ClusterSpec, situation: &Situation, inventory: &Inventory) -> String {
    let desired = Inventory::of(spec, &situation.resources);
    let objects = inventory.objects.iter();
    let extra = objects.filter(|entry| desired.entry(entry.kind, &entry.name).is_none());
    let extra: Vec<_> = extra.map(|entry| format!("{} {}", entry.kind, entry.name)).collect();
    let mut message = format!(
        "The inventory (ConfigMap {}) is missing, but {} of cluster {} exist: create adopts them, and keeps them if it fails",
        spec.name.inventory(),
        counted(situation.live.len(), "object"),
        spec.name
    );
    if !extra.is_empty() {
        message.push_str(&format!(
            "; kept though not asked for: {} (the next create removes them)",
            extra.join(", ")
        ));
    }
    message
}

async fn write(
    cluster: &Cluster,
    spec: &ClusterSpec,
    prepared: &Prepared,
    options: &Options,
    undo: &mut Undo,
    progress: &Progress,
) -> Result<(), Error> {
    let Prepared {
        situation,
        inventory,
        plan,
        ..
    } = prepared;
    if situation.namespace == NamespaceState::Missing {
        namespace::create(cluster).await?;
        progress.done(&format!("Namespace {} made", cluster.namespace()));
    }
    let seen = inventory_object(situation, spec);
    if plan.is_empty() {
        // From now on this run relies on what another may still undo.
        if seen.is_some_and(lock::is_first) {
            lock::confirm_first(cluster, &spec.name).await?;
        }
        progress.done("Nothing to change");
        return Ok(());
    }
    let object = situation.resources.first().map(|resource| resource.object.clone());
    let between = between(inventory, situation.inventory.as_ref(), prepared.change.as_ref());
    let first = situation.is_first() && !options.retain;
    let lock = lock::take(cluster, &spec.name, seen, object.unwrap_or_default(), &between, first).await?;
    undo.first_create = first.then(|| lock.id().to_owned());
    let work = async {
        claim_znodes(&lock, cluster, spec, situation, undo).await?;
        apply_and_prune(&lock.fenced(), spec, prepared, options, progress).await
    };
    match work.await {
        Ok(()) => lock.release(inventory, first && options.wait).await,
        Err(error) => {
            give_up(lock, &between, first).await;
            Err(error)
        }
    }
}

/// What may exist from the first write on.
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

/// Claims the znodes in an external ensemble, if it can be reached from here.
async fn claim_znodes(
    lock: &Lock,
    cluster: &Cluster,
    spec: &ClusterSpec,
    situation: &Situation,
    undo: &mut Undo,
) -> Result<(), Error> {
    let znodes = situation.znodes.as_ref().filter(|znodes| znodes.reached);
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

/// Leaves the inventory of what may exist, and releases the lock so that the next run need not wait for it. `undoable` as in
/// [`Lock::release`].
pub async fn give_up(lock: Lock, between: &Inventory, undoable: bool) {
    if let Err(error) = lock.release(between, undoable).await {
        tracing::info!("the lock was not released: {error}");
    }
}

async fn apply_and_prune(
    cluster: &Cluster,
    spec: &ClusterSpec,
    prepared: &Prepared,
    options: &Options,
    progress: &Progress,
) -> Result<(), Error> {
    let Prepared { situation, plan, .. } = prepared;
    let is_autoscaler = |entry: &&InventoryEntry| entry.kind == Kind::HorizontalPodAutoscaler;
    // An autoscaler that is no longer wanted would change the number again that is applied now.
    prune(cluster, plan.prune.iter().filter(is_autoscaler), situation, progress).await?;
    let was_autoscaled = plan.prune.iter().any(|entry| is_autoscaler(&entry));
    // Kind after kind, for a later kind needs the earlier ones (see Kind); all of one kind at once, but for StatefulSets.
    let mut applied = 0;
    for kind in Kind::ALL {
        if kind == Kind::StatefulSet {
            // The number that an autoscaler chose belongs to it, though it is gone.
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
        situation,
        progress,
    )
    .await
}

/// Applies all of these at once; returns how many they were.
async fn apply_all<'a>(
    cluster: &Cluster,
    resources: impl IntoIterator<Item = &'a Resource>,
    prepared: &Prepared,
    force: bool,
) -> Result<usize, Error> {
    let least = prepared.inventory.cluster.workers.count;
    stream::iter(resources)
        .map(|resource| apply(cluster, resource, &prepared.situation, least, force))
        .buffer_unordered(CONCURRENCY)
        .try_fold(0, |count, ()| async move { Ok(count + 1) })
        .await
}

/// Applies the StatefulSets stage after stage; returns how many they were.
async fn apply_sets(
    cluster: &Cluster,
    spec: &ClusterSpec,
    prepared: &Prepared,
    options: &Options,
    force: bool,
    progress: &Progress,
) -> Result<usize, Error> {
    let Prepared { situation, plan, .. } = prepared;
    let stages = rollout::stages(plan, &situation.live, prepared.change.is_some());
    let mut roller = None;
    if stages.iter().any(|stage| stage.replaced.is_some()) {
        let mut view = wait::KubernetesView::of(cluster, &spec.name).await;
        if rollout::is_worth_an_order(&stages, &mut view).await? {
            roller = Some(KubernetesRoller {
                cluster: cluster.clone(),
                view,
            });
        }
    }
    let mut applied = 0;
    for stage in &stages {
        let (Some((set, mode)), Some(roller)) = (&stage.replaced, &mut roller) else {
            let there = |set: &&&Resource| situation.live.get(&(set.kind, set.name.clone()));
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
            let wanted = stage.sets.iter().copied().filter(|resource| resource.name == *set);
            apply_all(cluster, wanted, prepared, force).await?;
        }
        progress.done(&format!("Pods of {set} replaced"));
    }
    Ok(applied)
}

/// Says how a set replaces its pods. An apply cannot: the server has set a default of the one strategy that the other does not allow.
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
    situation: &Situation,
    progress: &Progress,
) -> Result<(), Error> {
    for entry in entries {
        let live = situation.live.get(&(entry.kind, entry.name.clone()));
        let uid = live.and_then(|object| object.metadata.uid.clone());
        cluster.delete(entry.kind, &entry.name, uid).await?;
        progress.done(&format!("{} {} removed: no longer wanted", entry.kind, entry.name));
    }
    Ok(())
}

async fn apply(
    cluster: &Cluster,
    resource: &Resource,
    situation: &Situation,
    least: u32,
    force: bool,
) -> Result<(), Error> {
    let Resource { kind, name, .. } = resource;
    match kind {
        Kind::Secret => secret::make(cluster, resource, situation.live.get(&(*kind, name.clone()))).await,
        _ => {
            let object = to_apply(resource, &situation.live, least);
            Ok(cluster.apply(*kind, name, &object, force).await.map(drop)?)
        }
    }
}

/// A dry run's lines.
pub fn describe(plan: &Plan, live: &Live) -> Vec<String> {
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
