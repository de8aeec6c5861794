//! Limits a pod's memory and CPU with cgroups of either version, if this user may create them.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use backon::{BlockingRetryable, ConstantBuilder};
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::spec::quantity::{Cpu, Memory};

const ROOT: &str = "/sys/fs/cgroup";
/// The period of CPU quotas in microseconds.
const PERIOD: u64 = 100_000;

/// The cgroups of one pod; empty if this user may not create any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups(Vec<PathBuf>);

impl Groups {
    /// Creates the cgroups that limit a pod. `name` must be unique on this machine.
    pub fn limit(name: &str, resources: Option<&ResourceRequirements>) -> Self {
        let limits = resources
            .and_then(|resources| resources.limits.clone())
            .unwrap_or_default();
        let text = |key: &str| limits.get(key).map(|Quantity(text)| text.as_str());
        let memory = text("memory").and_then(|text| Some(Memory::parse(text).ok()?.bytes()));
        let millis = text("cpu").and_then(|text| Some(Cpu::parse(text).ok()?.millis()));
        let quota = millis.map(|millis| u64::from(millis) * PERIOD / 1000);
        let groups = parents()
            .into_iter()
            .filter_map(|parent| parent.make(name, memory, quota));
        Self(groups.collect())
    }

    /// The `cgroup.procs` files. A process joins the groups by writing its PID to each.
    pub fn cgroup_procs(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.0.iter().map(|group| group.join("cgroup.procs"))
    }

    /// Removes the groups with this name prefix whose processes have ended.
    pub fn remove(prefix: &str) {
        for parent in parents() {
            let entries = fs::read_dir(&parent.folder).into_iter().flatten().flatten();
            let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
            for group in ours.map(|entry| entry.path()).filter(|path| path.is_dir()) {
                if let Err(error) = remove(&group) {
                    tracing::warn!("failed to remove control group {}: {error}", group.display());
                }
            }
        }
    }
}

/// Retries, because a process that has just ended keeps its group busy for a moment.
const RETRIES: ConstantBuilder = ConstantBuilder::new()
    .with_delay(Duration::from_millis(10))
    .with_max_times(50);

fn remove(group: &Path) -> std::io::Result<()> {
    let removed = (|| fs::remove_dir(group))
        .retry(RETRIES)
        .when(|error| error.kind() == ErrorKind::ResourceBusy)
        .call();
    removed.or_else(|error| match error.kind() {
        ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })
}

/// Whether this user can limit the memory of pods.
pub fn is_permitted() -> bool {
    let name = format!("sparkha-try-{}", std::process::id());
    let mut parents = parents().into_iter();
    let made = parents.any(|parent| parent.make(&name, Some(1 << 30), None).is_some());
    Groups::remove(&name);
    made
}

struct Parent {
    folder: PathBuf,
    version: Version,
}

enum Version {
    V1Memory,
    V1Cpu,
    V2,
}

/// The folders in which groups can be created: version 1's controllers, or version 2's root if it delegates the memory controller.
fn parents() -> Vec<Parent> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path_of = |controller: &str| {
        own.lines().find_map(|line| {
            let (names, path) = line.split_once(':')?.1.split_once(':')?;
            let is_its = names.split(',').any(|name| name == controller);
            is_its.then(|| path.trim_start_matches('/').to_owned())
        })
    };
    let root = Path::new(ROOT);
    if root.join("cgroup.controllers").exists() {
        let handed_down = fs::read_to_string(root.join("cgroup.subtree_control")).unwrap_or_default();
        let usable = handed_down.split_whitespace().any(|controller| controller == "memory");
        let (folder, version) = (root.to_owned(), Version::V2);
        return Vec::from_iter(usable.then_some(Parent { folder, version }));
    }
    let v1 = [("memory", Version::V1Memory), ("cpu", Version::V1Cpu)]
        .into_iter()
        .filter_map(|(controller, version)| {
            let folder = root.join(controller).join(path_of(controller)?);
            folder.exists().then_some(Parent { folder, version })
        });
    v1.collect()
}

impl Parent {
    /// Creates a group with these limits, in bytes and microseconds per `PERIOD`; `None` if that is not permitted.
    fn make(&self, name: &str, memory: Option<u64>, quota: Option<u64>) -> Option<PathBuf> {
        let group = self.folder.join(name);
        match fs::create_dir(&group) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return None,
            _ => {}
        }
        let settings = match self.version {
            Version::V1Memory => vec![("memory.limit_in_bytes", memory.map(|bytes| bytes.to_string()))],
            Version::V1Cpu => vec![
                ("cpu.cfs_period_us", Some(PERIOD.to_string())),
                ("cpu.cfs_quota_us", quota.map(|quota| quota.to_string())),
            ],
            Version::V2 => vec![
                ("memory.max", memory.map(|bytes| bytes.to_string())),
                ("cpu.max", quota.map(|quota| format!("{quota} {PERIOD}"))),
            ],
        };
        for (file, value) in settings {
            if let Some(value) = value
                && let Err(error) = fs::write(group.join(file), value)
            {
                tracing::debug!("failed to set {file} of {}: {error}", group.display());
            }
        }
        Some(group)
    }
}
