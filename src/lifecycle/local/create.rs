//! `sparkha create --local`: writes the desired resources to the cluster's folder, and starts or notifies a supervisor.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::core::DynamicObject;
use serde_json::{Value, json};

use crate::console::progress::Progress;
use crate::lifecycle::create::{
    CreateOptions, CreateResult, RunningApplications, between, describe, is_worth_cleaning,
};
use crate::lifecycle::differences::{Applications, Differences, differences};
use crate::lifecycle::external_zookeeper::{ZnodeCheck, Znodes};
use crate::lifecycle::local::{LocalView, inventory_of, teardown};
use crate::lifecycle::place::Place;
use crate::lifecycle::plan::{LiveObjects, Plan, plan};
use crate::lifecycle::rollout::{Mode, Roller, Stage};
use crate::lifecycle::spark_change::SparkChange;
use crate::lifecycle::{Error, external_zookeeper, rollout, secret, upgrade, wait};
use crate::model::finding::{Finding, Severity};
use crate::model::kind::Kind;
use crate::platform::local::limits::{ANOTHER_VERSION, limits, subjects};
use crate::platform::local::pod::container_of;
use crate::platform::local::process::ProcessId;
use crate::platform::local::software::{self, MissingDependency, SPARK, Software};
use crate::platform::local::stateful_set::REPLACE;
use crate::platform::local::store::{ClusterDir, ClusterLock, DesiredState, LockHolder, Store};
use crate::platform::local::{addresses, cgroup, drivers, kubelet, machine, supervisor};
use crate::render::inventory::Inventory;
use crate::render::{Resource, render};
use crate::spec::ClusterSpec;
use crate::spec::quantity::Memory;
use crate::spec::words::counted;

/// A prepared create. The lock is held from before planning.
pub struct LocalCreate {
    dir: ClusterDir,
    /// `None` in a dry run.
    _lock: Option<ClusterLock>,
    desired: DesiredState,
    inventory: Inventory,
    old: Option<DesiredState>,
    live: LiveObjects,
    plan: Plan,
    /// Change of the Spark version of masters and workers.
    pub change: Option<SparkChange>,
    /// The owner id to claim the znodes with.
    claim: Option<String>,
    /// Differences from the live cluster.
    pub differences: Differences,
}

/// Plans the changes that turn the cluster on this machine into `spec`. Changes nothing.
pub async fn prepare(
    dir: &ClusterDir,
    spec: &ClusterSpec,
    spark_home: Option<&PathBuf>,
    options: &CreateOptions,
    progress: &Progress,
) -> Result<LocalCreate, Error> {
    progress.step("Running preflight checks");
    let (_, known) = known(dir)?;
    let (software, znodes) = preflight(spec, dir, known.as_ref(), spark_home, options.skip_preflight, progress).await?;
    let lock = match options.dry_run {
        true => None,
        false => Some(dir.lock()?.map_err(|LockHolder(holder)| Error::Busy { holder })?),
    };
    let (old, old_inventory) = self::known(dir)?;
    upgrade::takes_changes(old_inventory.as_ref())?;
    // Another command may have changed the cluster first.
    let owner = old_inventory.as_ref().and_then(|old| old.cluster.zookeeper.owner());
    let owner = owner.or_else(|| znodes.as_ref()?.owner.as_deref());
    let claim = owner.filter(|_| znodes.as_ref().is_some_and(|znodes| znodes.reached));
    let claim = claim.map(str::to_owned);
    let mut desired = desired(spec, software, owner);
    let mut inventory = inventory_of(&desired, dir)?.ok_or_else(|| Error::no_cluster(&dir.name, &dir.namespace))?;
    if !options.origin.is_current(old_inventory.as_ref()) {
        return Err(Error::has_just_finished());
    }
    let live = old.as_ref().map(|old| live(old, dir)).unwrap_or_default();
    let mut plan = plan(&desired.resources, &live, old_inventory.as_ref(), &inventory);
    let mut differences = differences(old_inventory.as_ref(), &inventory, &plan, &live, &options.origin);
    let mut change = None;
    if differences.are_disturbing() {
        let applications = Applications::of(LocalView::of(dir).state().await);
        change = SparkChange::between(&live, &plan.apply);
        options.weigh(&mut differences, change.as_ref(), &applications, progress)?;
    }
    if change.is_none() && options.running != RunningApplications::Drained {
        inventory = inventory.keeping_drain_of(old_inventory.as_ref());
        plan.inventory_changes = old_inventory.as_ref() != Some(&inventory);
        desired.set_inventory(&dir.name, &inventory);
    }
    Ok(LocalCreate {
        dir: dir.clone(),
        _lock: lock,
        desired,
        inventory,
        old,
        live,
        plan,
        change,
        claim,
        differences,
    })
}

/// Executes the plan.
pub async fn create(
    store: &Store,
    spec: &ClusterSpec,
    prepared: LocalCreate,
    options: &CreateOptions,
    progress: &Progress,
) -> Result<CreateResult, Error> {
    let LocalCreate {
        dir,
        _lock,
        desired,
        inventory,
        old,
        live,
        plan,
        change,
        claim,
        ..
    } = prepared;
    if options.dry_run {
        return Ok(CreateResult {
            state: None,
            would: describe(&plan, &live),
        });
    }
    let cgroups = cgroup::is_permitted();
    let known_limits = old.as_ref().map(|old| limits(old, cgroups)).unwrap_or_default();
    let new_limits: Vec<_> = limits(&desired, cgroups)
        .into_iter()
        .filter(|line| !known_limits.contains(line))
        .collect();
    if !new_limits.is_empty() {
        progress.warn(&format!(
            "Not supported on this machine: {}; `sparkha doctor` explains what happens instead",
            subjects(&new_limits)
        ));
        for line in new_limits.iter().filter(|line| line.contains(ANOTHER_VERSION)) {
            progress.warn(line);
        }
    }
    // Claims of an earlier cluster.
    let has_data = !dir.claims()?.is_empty();
    let first = old.is_none() && dir.observed()?.pods.is_empty();
    // Znodes that existed before are kept.
    let mut undo_znodes = Znodes::Keep;
    let made = async {
        for secret in desired
            .resources
            .iter()
            .filter(|resource| resource.kind == Kind::Secret)
        {
            secret::make_local(&dir, secret, live.get(&(Kind::Secret, secret.name.clone())))?;
        }
        let stages = rollout::stages(&plan, &live, change.is_some());
        let is_ordered = rollout::needs_order(&stages, &mut LocalView::of(&dir)).await?;
        let mut roller = match &old {
            Some(old) if is_ordered => {
                let between = between(&inventory, inventory_of(old, &dir)?.as_ref(), change.as_ref());
                Some(LocalRoller::new(&dir, old, &desired, &between, &stages))
            }
            _ => None,
        };
        match &roller {
            Some(roller) => dir.write_desired(&roller.now)?,
            None if old.as_ref() != Some(&desired) => dir.write_desired(&desired)?,
            None => {}
        }
        if let Some(owner) = &claim
            && external_zookeeper::claim(&Place::Local(dir.clone()), spec, owner).await?
        {
            undo_znodes = Znodes::Remove;
        }
        drivers::configure(store, &dir, &desired)?;
        if let Some(roller) = &mut roller {
            for stage in &stages {
                roller.stage(stage, &inventory, options, progress).await?;
            }
            dir.write_desired(&desired)?;
        }
        let started = supervisor::ensure(&dir).await?;
        if plan.is_empty() {
            progress.done(if started {
                "Supervisor restarted"
            } else {
                "Nothing to change"
            });
        } else {
            progress.done(&format!("{} applied", counted(plan.apply.len(), "object")));
            for entry in &plan.prune {
                progress.done(&format!("{} {} removed: no longer needed", entry.kind, entry.name));
            }
        }
        if !options.wait {
            return Ok(None);
        }
        let waiting = wait::until_ready(
            LocalView::of(&dir),
            &dir.namespace,
            &inventory,
            options.timeout,
            progress,
        );
        waiting.await.map(Some)
    };
    match made.await {
        Ok(state) => Ok(CreateResult { state, would: vec![] }),
        Err(error) if first && !options.retain && is_worth_cleaning(&error) => {
            progress.warn("The first create of this cluster failed, so its objects are removed (--retain keeps them)");
            if let Err(cleaning) = teardown::remove(&dir, has_data, undo_znodes, progress).await {
                progress.warn(&format!("Failed to clean up: {cleaning}; run `sparkha teardown`"));
            }
            Err(error)
        }
        Err(error) => Err(error),
    }
}

/// Replaces pods by writing the desired resources stage by stage.
struct LocalRoller<'a> {
    dir: &'a ClusterDir,
    view: LocalView,
    /// The resources of now: StatefulSets of later stages are unchanged.
    now: DesiredState,
}

impl<'a> LocalRoller<'a> {
    fn new(
        dir: &'a ClusterDir,
        old: &DesiredState,
        desired: &DesiredState,
        between: &Inventory,
        stages: &[Stage<'_>],
    ) -> Self {
        let mut now = desired.clone();
        let is_staged = |resource: &Resource| {
            let mut sets = stages.iter().flat_map(|stage| &stage.sets);
            sets.any(|set| (set.kind, &set.name) == (resource.kind, &resource.name))
        };
        now.resources.retain(|resource| !is_staged(resource));
        now.resources
            .extend(old.resources.iter().filter(|resource| is_staged(resource)).cloned());
        now.set_inventory(&dir.name, between);
        let view = LocalView::of(dir);
        Self { dir, view, now }
    }

    async fn stage(
        &mut self,
        stage: &Stage<'_>,
        inventory: &Inventory,
        options: &CreateOptions,
        progress: &Progress,
    ) -> Result<(), Error> {
        let replaced = stage.replaced.as_ref();
        let is_held = |name: &str| replaced.is_some_and(|(set, mode)| set == name && *mode != Mode::Rolling);
        for set in &stage.sets {
            let object = match is_held(&set.name) {
                true => rollout::held(&set.object),
                false => set.object.clone(),
            };
            self.put(set, object);
        }
        self.write().await?;
        let Some((set, mode)) = replaced else { return Ok(()) };
        let namespace = &self.dir.namespace;
        rollout::replace(self, (set, *mode), namespace, inventory, options.timeout, progress).await?;
        for set in &stage.sets {
            self.put(set, set.object.clone());
        }
        self.write().await?;
        progress.done(&format!("Pods of {set} replaced"));
        Ok(())
    }

    fn put(&mut self, set: &Resource, object: Value) {
        let resources = &mut self.now.resources;
        let is_it = |resource: &Resource| (resource.kind, &resource.name) == (set.kind, &set.name);
        resources.retain(|resource| !is_it(resource));
        resources.push(Resource { object, ..set.clone() });
    }

    async fn write(&self) -> Result<(), Error> {
        self.dir.write_desired(&self.now)?;
        supervisor::ensure(self.dir).await?;
        Ok(())
    }
}

impl Roller for LocalRoller<'_> {
    type View = LocalView;

    fn view(&mut self) -> &mut LocalView {
        &mut self.view
    }

    async fn replace(&mut self, set: &str, pods: &[Pod]) -> Result<(), Error> {
        let uids: Vec<_> = pods.iter().filter_map(ResourceExt::uid).collect();
        let resources = self.now.resources.iter_mut();
        for resource in resources.filter(|resource| resource.kind == Kind::StatefulSet && resource.name == set) {
            resource.object["metadata"]["annotations"][REPLACE] = json!(uids.join(","));
        }
        self.write().await
    }
}

/// The existing resources and their inventory.
fn known(dir: &ClusterDir) -> Result<(Option<DesiredState>, Option<Inventory>), Error> {
    let old = dir.desired()?;
    let inventory = old.as_ref().map(|old| inventory_of(old, dir)).transpose()?.flatten();
    Ok((old, inventory))
}

/// The desired resources, with the Spark installation in each pod and the znodes' owner in the inventory.
fn desired(spec: &ClusterSpec, software: Software, owner: Option<&str>) -> DesiredState {
    let spec = ClusterSpec {
        spark_version: Some(software.spark_version.clone()),
        ..spec.clone()
    };
    let mut resources = render(&spec);
    if let Some((first, others)) = resources.split_first_mut() {
        let inventory = Inventory::of(&spec, others).with_znode_owner(owner.map(str::to_owned));
        first.object["data"] = json!(inventory.data());
    }
    // The local platform has no autoscaler: the number stays at the minimum.
    let least = json!(spec.workers.count);
    let spark = software.label();
    for resource in resources
        .iter_mut()
        .filter(|resource| resource.kind == Kind::StatefulSet)
    {
        resource.object["spec"]["template"]["metadata"]["annotations"][SPARK] = json!(spark);
        let replicas = &mut resource.object["spec"]["replicas"];
        if replicas.is_null() {
            *replicas = least.clone();
        }
    }
    DesiredState { software, resources }
}

/// The existing resources as live objects.
fn live(old: &DesiredState, dir: &ClusterDir) -> LiveObjects {
    let objects = old.resources.iter().filter_map(|resource| {
        let mut object: DynamicObject = serde_json::from_value(resource.object.clone()).ok()?;
        if resource.kind == Kind::Secret {
            object.data = json!({"data": dir.secret(&resource.name).ok()?});
        }
        Some(((resource.kind, resource.name.clone()), object))
    });
    objects.collect()
}

/// Checks that this machine can run the cluster. Reports all findings at once.
async fn preflight(
    spec: &ClusterSpec,
    dir: &ClusterDir,
    old: Option<&Inventory>,
    spark_home: Option<&PathBuf>,
    skip: bool,
    progress: &Progress,
) -> Result<(Software, Option<ZnodeCheck>), Error> {
    let found = software::find(spark_home.map(PathBuf::as_path), spec.image.name.version());
    let mut findings: Vec<_> = check_memory(requested_memory(&render(spec)), memory_in_use(dir)?)
        .err()
        .into_iter()
        .collect();
    findings.extend(ports(spec));
    let znodes = external_zookeeper::check(&Place::Local(dir.clone()), spec, old).await?;
    let of_znodes = znodes.iter().flat_map(|znodes| znodes.findings.iter().cloned());
    findings.extend(of_znodes);
    if skip {
        // Clashes are never skipped: objects of others are not taken over.
        let is_skipped = |finding: &mut Finding| finding.severity < Severity::Clash;
        let skipped: Vec<_> = findings.extract_if(.., is_skipped).collect();
        skipped.iter().for_each(|finding| progress.warn(&finding.message));
    }
    match found {
        Ok(software) if findings.is_empty() => return Ok((software, znodes)),
        Ok(_) => {}
        // Nothing runs without the software, so this is not skipped.
        Err(lacks) => findings.extend(
            lacks
                .into_iter()
                .map(|MissingDependency { message, help }| failure(message, help)),
        ),
    }
    Err(Error::Preflight { findings })
}

fn failure(message: String, help: String) -> Finding {
    Finding {
        severity: Severity::Failure,
        message,
        help,
    }
}

/// Whether the machine's memory holds all pods. Running pods of this cluster have theirs already.
pub fn check_memory(all: Memory, running: Memory) -> Result<(), Finding> {
    let Some((total, available)) = machine::memory() else {
        return Ok(());
    };
    if all.saturating_sub(running) <= available {
        return Ok(());
    }
    let gib = |memory: Memory| format!("{:.1} GiB", memory.mib() as f64 / 1024.0);
    Err(failure(
        format!(
            "the pods' memory adds up to {}, and this machine has {} available of {}",
            gib(all),
            gib(available),
            gib(total)
        ),
        "reduce workers.memory or the number of workers, or pass --skip-preflight to create to try anyway".into(),
    ))
}

/// Reports ports that are in use on all addresses.
fn ports(spec: &ClusterSpec) -> Vec<Finding> {
    let sets = render(spec)
        .into_iter()
        .filter(|resource| resource.kind == Kind::StatefulSet);
    let sets = sets.filter_map(|set| serde_json::from_value(set.object).ok());
    let ports = sets.flat_map(|set| kubelet::ports_of_set(&set)).collect();
    let taken = addresses::taken_everywhere(&ports).into_iter();
    taken
        .map(|port| failure(addresses::taken_message(port), addresses::TAKEN_HELP.into()))
        .collect()
}

/// The memory that the cluster's running pods requested.
pub fn memory_in_use(dir: &ClusterDir) -> Result<Memory, Error> {
    let records = dir.observed()?.pods.into_iter();
    let alive = records.filter(|record| record.process.as_ref().is_some_and(ProcessId::is_alive));
    let requests = alive.filter_map(|record| {
        let requests = container_of(&record.pod)?.resources.as_ref()?.requests.as_ref()?;
        Memory::parse(&requests.get("memory")?.0).ok()
    });
    Ok(requests.fold(Memory::default(), |sum, memory| sum + memory))
}

/// The memory that all pods request.
pub fn requested_memory(resources: &[crate::render::Resource]) -> Memory {
    let sets = resources.iter().filter(|resource| resource.kind == Kind::StatefulSet);
    sets.map(|set| {
        let replicas = set.object["spec"]["replicas"].as_u64().unwrap_or(1);
        let request = &set.object["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["memory"];
        let each = Memory::parse(request.as_str().unwrap_or_default()).unwrap_or_default();
        Memory::from_mib(each.mib() * replicas)
    })
    .fold(Memory::default(), |sum, memory| sum + memory)
}
