//! `sparkha create`: preflight, namespace, inventory, objects, prune, wait. Every step can be cut off anywhere: the inventory is
//! written before anything else and lists all that may exist from then on, so the next create or teardown goes on from there.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use kube::core::DynamicObject;

use super::lock::{self, Lock};
use super::plan::{Live, Plan, plan, to_apply};
use super::preflight::{NamespaceState, Situation, preflight};
use super::{Error, namespace, secret, teardown, wait};
use crate::observe::ClusterState;
use crate::platform::kubernetes::Cluster;
use crate::render::Resource;
use crate::render::inventory::{Entry, Inventory};
use crate::render::kind::Kind;
use crate::report::progress::Progress;
use crate::spec::ClusterSpec;

/// How create goes about it.
#[derive(Clone, Debug)]
pub struct Options {
    pub timeout: Duration,
    /// Wait until the cluster is in service.
    pub wait: bool,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Leave a first create that failed as it is.
    pub retain: bool,
    pub skip_preflight: bool,
    /// Take fields from other field managers.
    pub force_conflicts: bool,
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

/// Makes the cluster what `spec` says.
pub async fn create(
    cluster: &Cluster,
    spec: &ClusterSpec,
    options: &Options,
    progress: &Progress,
) -> Result<Outcome, Error> {
    progress.step("Checking beforehand");
    let mut situation = preflight(cluster, spec, options.skip_preflight).await?;
    if lock::settle(cluster, &spec.name, inventory_object(&situation, spec)).await? {
        situation = preflight(cluster, spec, options.skip_preflight).await?;
    }
    for finding in &situation.findings {
        progress.warn(&finding.message);
    }
    let inventory = wanted_inventory(spec, &situation.resources);
    let plan = plan(
        &situation.resources,
        &situation.live,
        situation.inventory.as_ref(),
        &inventory,
    );
    if options.dry_run {
        return Ok(Outcome {
            state: None,
            would: describe(&plan, &situation.live),
        });
    }
    let first = situation.is_first();
    let has_claims = inventory.objects.iter().any(|entry| !entry.claims.is_empty());
    let kept = match situation.namespace {
        NamespaceState::Missing => vec![],
        _ if first && has_claims => teardown::claims(cluster, &spec.name).await?,
        _ => vec![],
    };
    let made = async {
        write(cluster, spec, &situation, &plan, &inventory, options, progress).await?;
        if !options.wait {
            return Ok(None);
        }
        let view = wait::KubernetesView::of(cluster, &spec.name).await;
        let waiting = wait::until_ready(view, cluster.namespace(), &inventory, options.timeout, progress);
        waiting.await.map(Some)
    };
    match made.await {
        Ok(state) => Ok(Outcome { state, would: vec![] }),
        Err(error) if first && !options.retain && is_worth_cleaning(&error) => {
            progress.warn("This was the first create of this cluster, so what it made is removed (--retain keeps it)");
            if let Err(cleaning) = teardown::undo(cluster, &spec.name, &kept, progress).await {
                progress.warn(&format!("Cleaning up failed: {cleaning}; run sparkha teardown"));
            }
            Err(error)
        }
        Err(error) => Err(error),
    }
}

/// Another sparkha at work is no failure of ours, and whoever interrupts may want to go on.
pub fn is_worth_cleaning(error: &Error) -> bool {
    !matches!(error, Error::Busy { .. } | Error::Interrupted { .. })
}

/// The inventory's ConfigMap as it was found.
fn inventory_object<'a>(situation: &'a Situation, spec: &ClusterSpec) -> Option<&'a DynamicObject> {
    situation.live.get(&(Kind::ConfigMap, spec.name.inventory()))
}

fn wanted_inventory(spec: &ClusterSpec, resources: &[Resource]) -> Inventory {
    Inventory::of(spec, resources.get(1..).unwrap_or_default())
}

async fn write(
    cluster: &Cluster,
    spec: &ClusterSpec,
    situation: &Situation,
    plan: &Plan,
    inventory: &Inventory,
    options: &Options,
    progress: &Progress,
) -> Result<(), Error> {
    if situation.namespace == NamespaceState::Missing {
        namespace::create(cluster).await?;
        progress.done(&format!("Namespace {} made", cluster.namespace()));
    }
    if plan.is_empty() {
        progress.done("Nothing to change");
        return Ok(());
    }
    let seen = inventory_object(situation, spec);
    let object = situation.resources.first().map(|resource| resource.object.clone());
    let between = match &situation.inventory {
        Some(old) => inventory.united_with(old),
        None => inventory.without_digests(),
    };
    let lock = lock::take(cluster, &spec.name, seen, object.unwrap_or_default(), &between).await?;
    match apply_and_prune(cluster, plan, situation, inventory, options, progress).await {
        Ok(()) => lock.release(inventory).await,
        Err(error) => {
            give_up(lock, &between).await;
            Err(error)
        }
    }
}

/// Leaves the inventory of what may exist, and lets go of the lock so that the next run need not wait for it.
pub async fn give_up(lock: Lock, between: &Inventory) {
    if let Err(error) = lock.release(between).await {
        tracing::info!("the lock was not released: {error}");
    }
}

async fn apply_and_prune(
    cluster: &Cluster,
    plan: &Plan,
    situation: &Situation,
    inventory: &Inventory,
    options: &Options,
    progress: &Progress,
) -> Result<(), Error> {
    let is_autoscaler = |entry: &&Entry| entry.kind == Kind::HorizontalPodAutoscaler;
    // An autoscaler that is no longer wanted would change the number again that is applied now.
    prune(cluster, plan.prune.iter().filter(is_autoscaler), situation, progress).await?;
    let was_autoscaled = plan.prune.iter().any(|entry| is_autoscaler(&entry));
    // Kind after kind, for a later kind needs the earlier ones (see Kind); all of one kind at once.
    let mut applied = 0;
    for kind in Kind::ALL {
        let resources = plan.apply.iter().filter(|resource| resource.kind == kind);
        // The number that an autoscaler chose belongs to it, though it is gone.
        let force = options.force_conflicts || was_autoscaled && kind == Kind::StatefulSet;
        let count = stream::iter(resources)
            .map(|resource| apply(cluster, resource, situation, inventory.cluster.workers.count, force))
            .buffer_unordered(CONCURRENCY)
            .try_fold(0, |count, _| async move { Ok(count + 1) })
            .await?;
        applied += count;
        if count > 0 {
            progress.step(&format!("Applying: {applied} of {} objects", plan.apply.len()));
        }
    }
    progress.done(&format!("{applied} objects applied"));
    prune(
        cluster,
        plan.prune.iter().filter(|entry| !is_autoscaler(entry)),
        situation,
        progress,
    )
    .await
}

async fn prune(
    cluster: &Cluster,
    entries: impl Iterator<Item = &Entry>,
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
