//! Settings that all components share in the cluster file: resources, volumes, placement.

use std::collections::BTreeSet;
use std::fmt::Display;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Resolver, rules};
use crate::spec::file::tree::join;
use crate::spec::file::{Amount, Medium, PodFile, ResourcesFile, SourceFile, VolumeFile};
use crate::spec::names::is_dns_label;
use crate::spec::quantity::{Cpu, Memory};
use crate::spec::{PodSettings, Resources, Volume, VolumeSource};

/// Names of sparkha's own volumes.
pub const RESERVED_VOLUMES: [&str; 10] = [
    "auth",
    "conf",
    "data",
    "events",
    "s3-keys",
    "shuffle",
    "tls",
    "tmp",
    "work",
    "zookeeper-auth",
];
/// Folders with sparkha's or Spark's own files.
const RESERVED_PATHS: [&str; 9] = [
    "/etc/s3-keys",
    "/etc/spark",
    "/etc/spark-auth",
    "/etc/spark-tls",
    "/etc/zookeeper-auth",
    "/opt/spark",
    "/proc",
    "/tmp",
    "/var/spark",
];

/// The argument of `kubectl explain` for tolerations and affinity.
const POD: &str = "pod.spec";

/// Default resources of a component.
#[derive(Clone, Copy)]
pub struct Defaults {
    pub cpu_limit: Cpu,
    pub cpu_request: Cpu,
    /// Limit and request. They are equal because memory is not compressible.
    pub memory: Memory,
}

impl Resolver {
    pub(super) fn pod(&mut self, part: &str, file: PodFile, defaults: Defaults) -> PodSettings {
        for (key, value) in file.node_selector.iter().flatten() {
            self.obey(&format!("{part}.nodeSelector.{key}"), rules::label(key, value));
        }
        if let Some(class) = &file.priority_class_name {
            self.object_name(&join(part, "priorityClassName"), class);
        }
        let tolerations = file.tolerations.unwrap_or_default();
        let constraints = file.topology_spread_constraints.unwrap_or_default();
        if file.affinity.is_some() && file.pod_anti_affinity.is_some() {
            self.problem(
                &join(part, "podAntiAffinity"),
                "`affinity` replaces the anti-affinity that this key configures",
                "remove one of them",
            );
        }
        PodSettings {
            resources: self.resources(part, file.resources.unwrap_or_default(), defaults),
            env: self.env(&join(part, "env"), file.env.unwrap_or_default()),
            volumes: self.volumes(part, file.volumes.unwrap_or_default()),
            node_selector: file.node_selector.unwrap_or_default(),
            tolerations: self.all_passed_through(&join(part, "tolerations"), &tolerations, POD),
            affinity: file
                .affinity
                .and_then(|value| self.passed_through(&join(part, "affinity"), &value, POD)),
            anti_affinity: file.pod_anti_affinity.unwrap_or_default(),
            topology_spread: self.all_passed_through(&join(part, "topologySpreadConstraints"), &constraints, POD),
            priority_class: file.priority_class_name,
            labels: self.labels(&join(part, "labels"), file.labels.unwrap_or_default()),
            annotations: self.annotations(&join(part, "annotations"), file.annotations.unwrap_or_default()),
        }
    }

    fn resources(&mut self, part: &str, file: ResourcesFile, defaults: Defaults) -> Resources {
        let path = join(part, "resources");
        let limits = file.limits.unwrap_or_default();
        let requests = file.requests.unwrap_or_default();
        let cpu_limit = self.cpu_or(&format!("{path}.limits.cpu"), &limits.cpu, defaults.cpu_limit);
        let memory_limit = self.memory(&format!("{path}.limits.memory"), &limits.memory, defaults.memory);
        let cpu_path = format!("{path}.requests.cpu");
        let cpu_request = self.cpu_or(&cpu_path, &requests.cpu, defaults.cpu_request.min(cpu_limit));
        let memory_path = format!("{path}.requests.memory");
        let memory_request = self.memory(&memory_path, &requests.memory, memory_limit);
        self.request_fits(&cpu_path, cpu_request, cpu_limit);
        self.request_fits(&memory_path, memory_request, memory_limit);
        let disk_limit = limits.ephemeral_storage;
        let disk_limit = disk_limit.and_then(|disk| self.memory_of(&format!("{path}.limits.ephemeral-storage"), &disk));
        let disk_path = format!("{path}.requests.ephemeral-storage");
        let disk_request = requests.ephemeral_storage;
        let disk_request = disk_request.and_then(|disk| self.memory_of(&disk_path, &disk));
        // As in Kubernetes.
        let disk_request = disk_request.or(disk_limit);
        if let (Some(request), Some(limit)) = (disk_request, disk_limit) {
            self.request_fits(&disk_path, request, limit);
        }
        Resources {
            cpu_request,
            cpu_limit,
            memory_request,
            memory_limit,
            disk_request,
            disk_limit,
        }
    }

    fn request_fits<T: PartialOrd + Display>(&mut self, path: &str, request: T, limit: T) {
        if request > limit {
            self.problem(
                path,
                format!("the request of {request} exceeds the limit of {limit}"),
                "lower the request or raise the limit",
            );
        }
    }

    fn cpu_or(&mut self, path: &str, value: &Option<Amount>, default: Cpu) -> Cpu {
        let read = value.as_ref().and_then(|value| self.cpu(path, value));
        read.unwrap_or(default)
    }

    fn volumes(&mut self, part: &str, files: Vec<VolumeFile>) -> Vec<Volume> {
        let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
        let mut volumes = Vec::new();
        for (at, file) in files.into_iter().enumerate() {
            let path = format!("{part}.volumes[{at}]");
            let name_path = join(&path, "name");
            if !is_dns_label(&file.name) {
                self.problem(
                    &name_path,
                    format!("`{}` is not a valid name of a volume", file.name),
                    "use lower-case letters, digits and `-`",
                );
            } else if RESERVED_VOLUMES.contains(&file.name.as_str()) {
                self.problem(
                    &name_path,
                    format!("sparkha itself uses the volume name `{}`", file.name),
                    "choose another name",
                );
            } else if !names.insert(file.name.clone()) {
                self.problem(
                    &name_path,
                    format!("two volumes are named `{}`", file.name),
                    "use different names",
                );
            }
            let mount_path = join(&path, "mountPath");
            if let Err(reason) = mountable(&file.mount_path) {
                self.problem(
                    &mount_path,
                    format!("`{}` cannot be mounted at: {reason}", file.mount_path),
                    "choose a folder like /data",
                );
            } else if !paths.insert(clean(&file.mount_path)) {
                self.problem(
                    &mount_path,
                    format!("two volumes are mounted at `{}`", file.mount_path),
                    "use different folders",
                );
            }
            if let Some(sub_path) = &file.sub_path
                && (sub_path.starts_with('/') || leaves(sub_path))
            {
                self.problem(
                    &join(&path, "subPath"),
                    format!("`{sub_path}` is not a path inside the volume"),
                    "write it like data/input, without `..`",
                );
            }
            if let Some(source) = self.one_source(&path, file.source) {
                volumes.push(Volume {
                    name: file.name,
                    mount_path: file.mount_path,
                    sub_path: file.sub_path,
                    read_only: file.read_only.unwrap_or(false),
                    source,
                });
            }
        }
        volumes
    }

    /// The only source.
    pub(super) fn one_source(&mut self, path: &str, sources: SourceFile) -> Option<VolumeSource> {
        let given = [
            sources.host_path.map(|file| VolumeSource::HostPath {
                path: file.path,
                kind: file.kind.map(|kind| format!("{kind:?}")),
            }),
            sources
                .persistent_volume_claim
                .map(|file| VolumeSource::ExistingClaim { name: file.claim_name }),
            sources
                .config_map
                .map(|file| VolumeSource::ConfigMap { name: file.name }),
            sources
                .secret
                .map(|file| VolumeSource::Secret { name: file.secret_name }),
            sources.nfs.map(|file| VolumeSource::Nfs {
                server: file.server,
                path: file.path,
            }),
            sources.empty_dir.map(|file| VolumeSource::EmptyDir {
                size_limit: file
                    .size_limit
                    .and_then(|limit| self.memory_of(&format!("{path}.emptyDir.sizeLimit"), &limit)),
                in_memory: file.medium == Some(Medium::Memory),
            }),
        ];
        let mut given: Vec<_> = given.into_iter().flatten().collect();
        let new_claim = sources
            .new_claim
            .map(|claim| self.claim(&join(path, "newClaim"), claim));
        let count = given.len() + usize::from(new_claim.is_some());
        if count != 1 {
            self.problem(
                path,
                format!("a volume needs exactly one source, found {count}"),
                "set one of emptyDir, newClaim, persistentVolumeClaim, hostPath, configMap, secret, nfs",
            );
            return None;
        }
        match given.pop() {
            Some(source) => {
                self.check_source(path, &source);
                Some(source)
            }
            None => new_claim.flatten().map(VolumeSource::NewClaim),
        }
    }

    fn check_source(&mut self, path: &str, source: &VolumeSource) {
        match source {
            VolumeSource::HostPath { path: folder, .. } if !folder.starts_with('/') || leaves(folder) => self.problem(
                &format!("{path}.hostPath.path"),
                format!("`{folder}` is not an absolute path without `..`"),
                "write it like /srv/data",
            ),
            VolumeSource::Nfs { path: folder, .. } if !folder.starts_with('/') => self.problem(
                &format!("{path}.nfs.path"),
                format!("`{folder}` is not an absolute path"),
                "begin it with `/`",
            ),
            VolumeSource::ExistingClaim { name } => {
                self.object_name(&format!("{path}.persistentVolumeClaim.claimName"), name);
            }
            VolumeSource::ConfigMap { name } => self.object_name(&format!("{path}.configMap.name"), name),
            VolumeSource::Secret { name } => self.object_name(&format!("{path}.secret.secretName"), name),
            _ => {}
        }
    }

    fn all_passed_through<T: DeserializeOwned + Serialize>(
        &mut self,
        path: &str,
        values: &[Value],
        field: &str,
    ) -> Vec<T> {
        let item = |(at, value)| self.passed_through(&format!("{path}[{at}]"), value, field);
        values.iter().enumerate().filter_map(item).collect()
    }

    /// A value in Kubernetes' format, which `kubectl explain FIELD` documents. Kubernetes' types ignore unknown keys, so keys missing
    /// after a round trip are mistakes.
    pub(super) fn passed_through<T: DeserializeOwned + Serialize>(
        &mut self,
        path: &str,
        value: &Value,
        field: &str,
    ) -> Option<T> {
        let help = format!("see kubectl explain {field}");
        let typed: T = match serde_json::from_value(value.clone()) {
            Ok(typed) => typed,
            Err(error) => {
                self.problem(path, format!("Kubernetes does not accept this: {error}"), help);
                return None;
            }
        };
        let understood = serde_json::to_value(&typed).unwrap_or_default();
        for unknown in missing_paths(value, &understood, path) {
            self.problem(&unknown, "unknown key", help.clone());
        }
        Some(typed)
    }
}

/// Paths of `given` that are missing in `understood`.
fn missing_paths(given: &Value, understood: &Value, path: &str) -> Vec<String> {
    match (given, understood) {
        (Value::Object(given), Value::Object(understood)) => given
            .iter()
            .flat_map(|(key, value)| {
                let path = join(path, key);
                match understood.get(key) {
                    Some(understood) => missing_paths(value, understood, &path),
                    None => vec![path],
                }
            })
            .collect(),
        (Value::Array(given), Value::Array(understood)) => given
            .iter()
            .zip(understood)
            .enumerate()
            .flat_map(|(at, (given, understood))| missing_paths(given, understood, &format!("{path}[{at}]")))
            .collect(),
        _ => vec![],
    }
}

fn mountable(path: &str) -> Result<(), String> {
    if !path.starts_with('/') {
        return Err("it is not an absolute path".into());
    }
    if path.contains(':') || leaves(path) {
        return Err("it contains `:` or `..`".into());
    }
    let clean = clean(path);
    if clean == "/" {
        return Err("it is the root".into());
    }
    // A mount also hides the folders inside of it.
    let is_inside = |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
    let taken = RESERVED_PATHS
        .into_iter()
        .find(|taken| clean == *taken || is_inside(&clean, taken) || is_inside(taken, &clean));
    match taken {
        Some(taken) => Err(format!("{taken} is used by sparkha or the image")),
        None => Ok(()),
    }
}

/// Whether a path has a part `..`, which Kubernetes refuses.
fn leaves(path: &str) -> bool {
    path.split('/').any(|part| part == "..")
}

/// An absolute path without empty parts and `.`.
fn clean(path: &str) -> String {
    let parts: Vec<_> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    format!("/{}", parts.join("/"))
}
