//! What create reads and checks on this machine: that it has the software, the memory and the ports.

use serde_json::json;

use crate::console::progress::Progress;
use crate::lifecycle::Error;
use crate::lifecycle::external_zookeeper;
use crate::lifecycle::preflight::{Environment, Snapshot};
use crate::model::finding::{Finding, Severity};
use crate::model::kind::Kind;
use crate::platform::Platform;
use crate::platform::local::limits::{ANOTHER_VERSION, limits, subjects};
use crate::platform::local::pod::container_of;
use crate::platform::local::process::ProcessId;
use crate::platform::local::software::{self, MissingDependency, SPARK, Software};
use crate::platform::local::store::{ClusterDir, DesiredState};
use crate::platform::local::{LocalPlatform, addresses, cgroup, kubelet, machine};
use crate::render::{Rendered, Resource, render};
use crate::spec::quantity::Memory;
use crate::spec::{ClusterSpec, EventLogs};

/// Reads the cluster in its folder, and finds the software.
pub async fn discover(platform: &LocalPlatform, spec: &ClusterSpec) -> Result<Snapshot, Error> {
    let mut baseline = platform.baseline().await?;
    if let Some(damage) = baseline.damage.take() {
        return Err(damage.into());
    }
    let software = software::find(platform.spark_home.as_deref(), spec.image.name.version());
    let live = platform.live()?;
    Ok(Snapshot {
        znodes: external_zookeeper::check(platform, spec, baseline.inventory.as_ref()).await?,
        is_first: live.is_empty() && platform.dir.observed()?.pods.is_empty(),
        baseline,
        live,
        environment: Environment::Local(software),
    })
}

/// The objects, with the Spark installation in each pod. This platform has no autoscaler: the number of workers stays at the minimum.
pub fn render_for(spec: &ClusterSpec, software: Option<&Software>) -> Rendered {
    let spec = &ClusterSpec {
        spark_version: software
            .map(|software| software.spark_version.clone())
            .or(spec.spark_version.clone()),
        ..spec.clone()
    };
    // The digests in the inventory are those of the objects without the software.
    let mut rendered = render(spec);
    for resource in rendered
        .objects
        .iter_mut()
        .filter(|resource| resource.kind == Kind::StatefulSet)
    {
        if let Some(software) = software {
            resource.object["spec"]["template"]["metadata"]["annotations"][SPARK] = json!(software.label());
        }
        let replicas = &mut resource.object["spec"]["replicas"];
        if replicas.is_null() {
            *replicas = json!(spec.workers.count);
        }
    }
    rendered
}

/// Findings that --skip-preflight turns into warnings.
pub fn findings(
    platform: &LocalPlatform,
    spec: &ClusterSpec,
    rendered: &Rendered,
    software: Option<&Software>,
) -> Result<Vec<Finding>, Error> {
    let needed = requested_memory(&rendered.objects);
    let memory = check_memory(needed, memory_in_use(&platform.dir)?).err();
    let sets = rendered
        .objects
        .iter()
        .filter(|resource| resource.kind == Kind::StatefulSet);
    let sets = sets.filter_map(|set| serde_json::from_value(set.object.clone()).ok());
    let ports = sets.flat_map(|set| kubelet::ports_of_set(&set)).collect();
    let taken = addresses::taken_everywhere(&ports).into_iter();
    let taken = taken.map(|port| failure(addresses::taken_message(port), addresses::TAKEN_HELP.into()));
    // Jobs may bring it with --packages, the history server cannot.
    let s3 = software.filter(|_| has_event_logs_in_s3(spec));
    let s3 = s3.and_then(|software| software.hadoop_aws().err());
    let s3 = s3.as_ref().map(failure_of);
    Ok(memory.into_iter().chain(taken).chain(s3).collect())
}

/// Whether the history server reads event logs with `s3a://`.
pub fn has_event_logs_in_s3(spec: &ClusterSpec) -> bool {
    let history = spec.history.as_ref();
    history.is_some_and(|history| matches!(history.event_logs, EventLogs::S3(_)))
}

/// The finding about missing software.
pub fn failure_of(missing: &MissingDependency) -> Finding {
    failure(missing.message.clone(), missing.help.clone())
}

fn failure(message: String, help: String) -> Finding {
    Finding {
        severity: Severity::Failure,
        message,
        help,
    }
}

/// Whether the machine's memory holds all pods. Running pods of this cluster have theirs already.
fn check_memory(all: Memory, running: Memory) -> Result<(), Finding> {
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

/// Warns about settings that this machine does not support and that the cluster did not have before, and prepares the software of the first write.
pub async fn announce(
    platform: &LocalPlatform,
    rendered: &Rendered,
    snapshot: &Snapshot,
    progress: &Progress,
) -> Result<(), Error> {
    let Environment::Local(Ok(software)) = &snapshot.environment else {
        return Ok(());
    };
    let cgroups = cgroup::is_permitted();
    let known = platform
        .dir
        .desired()?
        .map(|old| limits(&old, cgroups))
        .unwrap_or_default();
    let desired = DesiredState {
        software: software.clone(),
        resources: rendered.objects.clone(),
    };
    let mut new = limits(&desired, cgroups);
    new.retain(|line| !known.contains(line));
    if !new.is_empty() {
        progress.warn(&format!(
            "Not supported on this machine: {}; `sparkha doctor` explains what happens instead",
            subjects(&new)
        ));
        for line in new.iter().filter(|line| line.contains(ANOTHER_VERSION)) {
            progress.warn(line);
        }
    }
    platform.use_software(software.clone()).await;
    Ok(())
}

/// Whether the machine's memory holds the pods of a cluster with this number of workers.
pub fn check_workers(platform: &LocalPlatform, set: &str, workers: u32) -> Result<(), Error> {
    let mut desired = platform.desired()?;
    for resource in desired.resources.iter_mut().filter(|resource| resource.name == set) {
        if resource.kind == Kind::StatefulSet {
            resource.object["spec"]["replicas"] = json!(workers);
        }
    }
    let checked = check_memory(requested_memory(&desired.resources), memory_in_use(&platform.dir)?);
    checked.map_err(|finding| Error::Preflight {
        findings: vec![finding],
    })
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
pub fn requested_memory(resources: &[Resource]) -> Memory {
    let sets = resources.iter().filter(|resource| resource.kind == Kind::StatefulSet);
    sets.map(|set| {
        let replicas = set.object["spec"]["replicas"].as_u64().unwrap_or(1);
        let request = &set.object["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["memory"];
        let each = Memory::parse(request.as_str().unwrap_or_default()).unwrap_or_default();
        Memory::from_mib(each.mib() * replicas)
    })
    .fold(Memory::default(), |sum, memory| sum + memory)
}
