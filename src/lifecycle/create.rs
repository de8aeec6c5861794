//! `sparkha create`: discover → render → check → plan → apply → wait. Each step can be interrupted. The inventory is written first and lists every
//! object that may exist from then on, so the next create or teardown continues from there.

use std::cell::Cell;
use std::time::Duration;

use crate::console::progress::Progress;
use crate::lifecycle::applications::Applications;
use crate::lifecycle::differences::{Differences, Origin, differences};
use crate::lifecycle::external_zookeeper::Znodes;
use crate::lifecycle::plan::{Plan, plan};
use crate::lifecycle::preflight::{Snapshot, check, discover, render_for};
use crate::lifecycle::rollout::{self, Mode};
use crate::lifecycle::spark_change::SparkChange;
use crate::lifecycle::teardown::Undone;
use crate::lifecycle::{Error, external_zookeeper, preflight, secret, status, teardown, upgrade, wait};
use crate::model::kind::Kind;
use crate::platform::leader::Leader;
use crate::platform::{self, Backend, Bounds, Claim, Intent, LiveObjects, Lock, Platform, guard, kubernetes};
use crate::render::inventory::{Inventory, InventoryEntry, Upgrade};
use crate::render::workloads::{ON_DELETE, ROLLING_UPDATE};
use crate::render::{Rendered, Resource};
use crate::spec::ClusterSpec;
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
    /// The upgrade that has waited for the end of all applications. It must still be in progress.
    pub drained: Option<Upgrade>,
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

/// A planned create.
pub struct Prepared {
    spec: ClusterSpec,
    snapshot: Snapshot,
    rendered: Rendered,
    plan: Plan,
    /// Differences from the live cluster.
    pub differences: Differences,
}

impl Prepared {
    /// Change of the Spark version of masters and workers.
    pub fn change(&self) -> Option<&SparkChange> {
        self.plan.change.as_ref()
    }
}

/// Plans the changes that turn the live cluster into `spec`. Changes nothing.
pub async fn prepare(
    platform: &dyn Platform,
    spec: ClusterSpec,
    options: &CreateOptions,
    progress: &Progress,
) -> Result<Prepared, Error> {
    progress.step("Running preflight checks");
    let snapshot = discover(platform, &spec).await?;
    let rendered = render_for(&spec, &snapshot);
    for finding in check(platform, &spec, &snapshot, &rendered, options.skip_preflight).await? {
        progress.warn(&finding.message);
    }
    let old = snapshot.baseline.inventory.as_ref();
    upgrade::takes_changes(old)?;
    if let Some(upgrade) = &options.drained {
        upgrade::is_in_progress(old, upgrade)?;
    }
    if !options.origin.is_current(old) {
        return Err(platform::Error::has_just_finished().into());
    }
    let change = spark_change(platform, &rendered, &snapshot.live).await?;
    let plan = plan(&rendered, &snapshot.live, old, change, options.drained.is_some());
    let mut differences = differences(old, &plan.inventory, &plan, &snapshot.live, &options.origin);
    if differences.are_disturbing() {
        let applications = Applications::of(status::status(platform).await);
        options.weigh(&mut differences, plan.change.as_ref(), &applications, progress)?;
    }
    Ok(Prepared {
        spec,
        snapshot,
        rendered,
        plan,
        differences,
    })
}

/// The change of the Spark version of masters and workers. Queries the leader only if the image does not tell the
/// running version.
async fn spark_change(
    platform: &dyn Platform,
    rendered: &Rendered,
    live: &LiveObjects,
) -> Result<Option<SparkChange>, Error> {
    let Some(change) = SparkChange::between(live, &rendered.objects) else {
        return Ok(None);
    };
    if change.is_known() {
        return Ok(Some(change));
    }
    let reply = Leader::new(platform.transport()).query(platform.pods().await?).await;
    Ok(change.with_running(reply.and_then(|reply| reply.page.version)))
}

/// Executes the plan, and waits until the cluster is in service. Fails if the inventory has changed since.
pub async fn create(
    platform: &dyn Platform,
    prepared: Prepared,
    options: &CreateOptions,
    progress: &Progress,
) -> Result<CreateResult, Error> {
    let Prepared {
        spec, snapshot, plan, ..
    } = &prepared;
    if options.dry_run {
        return Ok(CreateResult {
            state: None,
            would: describe(plan, &snapshot.live),
        });
    }
    if let Backend::Local(local) = platform.backend() {
        preflight::local::announce(local, &prepared.rendered, snapshot, progress).await?;
    }
    if snapshot.has_lost_inventory() {
        progress.warn(&lost_inventory(spec, &prepared));
    }
    let mut undo = Undo::default();
    let made = async {
        // Held until the cluster is in service, where it can be.
        let _lock = apply(platform, &prepared, options, &mut undo, progress).await?;
        match options.wait {
            true => {
                let bounds = Bounds::new(options.timeout, progress);
                let waiting = wait::until_ready(platform, &plan.inventory, &bounds);
                waiting.await.map(Some)
            }
            false => Ok(None),
        }
    };
    let error = match made.await {
        Ok(state) => {
            if options.wait
                && undo.first_create.is_some()
                && let Err(error) = platform.confirm_first().await
            {
                tracing::info!("failed to remove the mark of a first create: {error}");
            }
            return Ok(CreateResult { state, would: vec![] });
        }
        Err(error) => error,
    };
    if let Some(id) = undo.first_create.filter(|_| is_worth_cleaning(&error)) {
        progress.warn("The first create of this cluster failed, so its objects are removed (--retain keeps them)");
        match teardown::undo(platform, &id, undo.kept.as_deref(), undo.znodes, progress).await {
            Ok(Undone::Removed) => {}
            Ok(Undone::Changed) => progress.warn("Another command has changed the cluster: nothing is removed"),
            Ok(Undone::Used(jobs)) => progress.warn(&format!(
                "Nothing is removed, because jobs have begun: {}; `sparkha teardown` ends and removes all",
                jobs.join("; ")
            )),
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
    /// The volume claims that existed before, as read while the lock is held.
    kept: Option<Vec<Claim>>,
}

/// Errors caused by another sparkha process or by an interruption keep the objects: the user may want to continue.
fn is_worth_cleaning(error: &Error) -> bool {
    !matches!(
        error,
        Error::Interrupted { .. }
            | Error::Platform(
                platform::Error::Busy { .. } | platform::Error::Kubernetes(kubernetes::Error::LockLost { .. })
            )
    )
}

/// The warning for a cluster whose inventory is missing.
fn lost_inventory(spec: &ClusterSpec, prepared: &Prepared) -> String {
    let desired = Inventory::of(spec, &prepared.rendered.objects);
    let objects = prepared.plan.inventory.objects.iter();
    let extra = objects.filter(|entry| desired.entry(entry.kind, &entry.name).is_none());
    let extra: Vec<_> = extra.map(|entry| format!("{} {}", entry.kind, entry.name)).collect();
    let mut message = format!(
        "The inventory (ConfigMap {}) is missing, but {} of cluster {} exist: create adopts them and keeps them if it fails",
        spec.name.inventory(),
        counted(prepared.snapshot.live.len(), "object"),
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

/// Executes the plan. Returns the lock, if something was changed.
async fn apply(
    platform: &dyn Platform,
    prepared: &Prepared,
    options: &CreateOptions,
    undo: &mut Undo,
    progress: &Progress,
) -> Result<Option<Box<dyn Lock>>, Error> {
    let Prepared {
        spec,
        snapshot,
        rendered,
        plan,
        ..
    } = prepared;
    if snapshot.lacks_namespace()
        && let Backend::Kubernetes(cluster) = platform.backend()
    {
        kubernetes::namespace::create(cluster).await?;
        progress.done(&format!("Namespace {} made", platform.namespace()));
    }
    if plan.is_empty() {
        // From now on this run relies on objects that a failed first create would still remove.
        if snapshot.baseline.is_first {
            platform.confirm_first().await?;
        }
        progress.done(nothing_to_change(platform).await?);
        return Ok(None);
    }
    let first = snapshot.is_first && !options.retain;
    let intent = Intent {
        inventory: Some(&plan.during),
        config_map: Some(&rendered.config_map(spec).object),
        first,
    };
    let mut lock = platform.lock(&snapshot.baseline, intent).await?;
    undo.first_create = first.then(|| lock.id().to_owned());
    let work = async {
        let has_claims = plan.inventory.objects.iter().any(|entry| !entry.claims.is_empty());
        if first && has_claims {
            undo.kept = Some(platform.claims(None).await?);
        }
        claim_znodes(lock.as_ref(), spec, snapshot, undo).await?;
        write(lock.platform(), prepared, options, progress).await
    };
    let done = work.await;
    let undoable = first && (options.wait || done.is_err());
    finish(lock.as_mut(), done, &plan.inventory, &plan.during, undoable).await?;
    lock.platform().ensure_running().await?;
    Ok(Some(lock))
}

/// Starts what must run even if nothing changes, and says so.
pub async fn nothing_to_change(platform: &dyn Platform) -> Result<&'static str, Error> {
    Ok(match platform.ensure_running().await? {
        true => "Supervisor restarted",
        false => "Nothing to change",
    })
}

/// Releases the lock with the inventory after the work, or with `before` if the work failed, so that the next run need not wait for it.
pub async fn finish(
    lock: &mut dyn Lock,
    done: Result<(), Error>,
    after: &Inventory,
    before: &Inventory,
    undoable: bool,
) -> Result<(), Error> {
    let Err(error) = done else {
        return Ok(lock.release(after, undoable).await?);
    };
    if let Err(error) = lock.release(before, undoable).await {
        tracing::info!("failed to release the lock: {error}");
    }
    Err(error)
}

/// Claims the znodes in an external ensemble if it is reachable from here.
async fn claim_znodes(lock: &dyn Lock, spec: &ClusterSpec, snapshot: &Snapshot, undo: &mut Undo) -> Result<(), Error> {
    let znodes = snapshot.znodes.as_ref().filter(|znodes| znodes.reached);
    let Some(owner) = znodes.and_then(|znodes| znodes.owner.as_ref()) else {
        return Ok(());
    };
    let is_made = Cell::new(false);
    let claim = async || {
        if external_zookeeper::claim(lock.platform(), spec, owner).await? {
            is_made.set(true);
        }
        Ok::<_, Error>(())
    };
    guard(lock, "claim the znodes", claim).await?;
    if is_made.get() {
        undo.znodes = Znodes::Remove;
    }
    Ok(())
}

/// Applies and removes objects.
async fn write(
    platform: &dyn Platform,
    prepared: &Prepared,
    options: &CreateOptions,
    progress: &Progress,
) -> Result<(), Error> {
    let Prepared { snapshot, plan, .. } = prepared;
    let is_autoscaler = |entry: &&InventoryEntry| entry.kind == Kind::HorizontalPodAutoscaler;
    // An autoscaler that is to be removed would override the replicas that are applied now.
    prune(platform, plan.prune.iter().filter(is_autoscaler), snapshot, progress).await?;
    let was_autoscaled = plan.prune.iter().any(|entry| is_autoscaler(&entry));
    // Kinds are applied in order, because later kinds need earlier ones (see Kind).
    let mut applied = 0;
    for kind in Kind::ALL {
        let objects: Vec<_> = plan
            .apply
            .iter()
            .filter(|object| object.kind == kind)
            .cloned()
            .collect();
        match kind {
            // The deleted autoscaler still owns the field that it set.
            Kind::StatefulSet => {
                apply_sets(
                    platform,
                    prepared,
                    options,
                    options.force_conflicts || was_autoscaled,
                    progress,
                )
                .await?;
            }
            Kind::Secret => {
                for object in &objects {
                    let exists = snapshot.live.contains_key(&(kind, object.name.clone()));
                    secret::make(platform, object, exists).await?;
                }
            }
            _ => platform.apply(&objects, options.force_conflicts).await?,
        }
        applied += objects.len();
        if !objects.is_empty() {
            progress.step(&format!(
                "Applying: {applied} of {}",
                counted(plan.apply.len(), "object")
            ));
        }
    }
    progress.done(&format!("{} applied", counted(applied, "object")));
    let others = plan.prune.iter().filter(|entry| !is_autoscaler(entry));
    prune(platform, others, snapshot, progress).await
}

/// Applies the StatefulSets stage by stage.
async fn apply_sets(
    platform: &dyn Platform,
    prepared: &Prepared,
    options: &CreateOptions,
    force: bool,
    progress: &Progress,
) -> Result<(), Error> {
    let Prepared { snapshot, plan, .. } = prepared;
    let stages = rollout::stages(plan, &snapshot.live);
    let is_ordered = rollout::needs_order(&stages, platform).await?;
    for stage in &stages {
        let sets: Vec<Resource> = stage.sets.iter().copied().cloned().collect();
        let Some((set, mode)) = stage.replaced.as_ref().filter(|_| is_ordered) else {
            for set in &sets {
                let there = snapshot.live.get(&(set.kind, set.name.clone()));
                if there.is_some_and(rollout::is_held) {
                    platform.set_strategy(&set.name, ROLLING_UPDATE).await?;
                }
            }
            platform.apply(&sets, force).await?;
            continue;
        };
        let is_held = |resource: &Resource| *mode != Mode::Rolling && resource.name == *set;
        let mut held = sets.clone();
        for resource in held.iter_mut().filter(|resource| is_held(resource)) {
            resource.object = rollout::held(&resource.object);
        }
        if *mode != Mode::Rolling {
            platform.set_strategy(set, ON_DELETE).await?;
        }
        platform.apply(&held, force).await?;
        rollout::replace(platform, (set, *mode), &plan.inventory, options.timeout, progress).await?;
        if *mode != Mode::Rolling {
            platform.set_strategy(set, ROLLING_UPDATE).await?;
            let released: Vec<_> = sets.into_iter().filter(is_held).collect();
            platform.apply(&released, force).await?;
        }
        progress.done(&format!("Pods of {set} replaced"));
    }
    Ok(())
}

async fn prune(
    platform: &dyn Platform,
    entries: impl Iterator<Item = &InventoryEntry>,
    snapshot: &Snapshot,
    progress: &Progress,
) -> Result<(), Error> {
    for entry in entries {
        let live = snapshot.live.get(&(entry.kind, entry.name.clone()));
        let uid = live.and_then(|object| object.metadata.uid.clone());
        platform.delete(entry.kind, &entry.name, uid).await?;
        progress.done(&format!("{} {} removed: no longer needed", entry.kind, entry.name));
    }
    Ok(())
}

/// The lines of a dry run.
fn describe(plan: &Plan, live: &LiveObjects) -> Vec<String> {
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
