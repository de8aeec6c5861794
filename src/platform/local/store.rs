//! A cluster's folder: the desired state (`wanted.json`, written by commands), the observed state (`seen.json`, written by the supervisor), and
//! the pods' volumes and logs. Files are replaced atomically: an interrupted write leaves the old file.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use kube::ResourceExt;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::process::ProcessId;
use super::software::Software;
use super::{Error, paths};
use crate::model::kind::Kind;
use crate::platform::system::{file_id, private_folders, set_mode, user_name};
use crate::render::Resource;
use crate::render::digest::short_digest;
use crate::render::inventory::{Inventory, InventoryError, NewerFormat, is_claim_of};
use crate::spec::names::{ClusterName, Namespace};
use crate::state::address_of;

/// The suffix of previous logs.
pub(super) const PREVIOUS_LOG: &str = ".previous.log";

/// The path of the previous log of a pod or driver.
pub fn previous_log(log: &Path) -> PathBuf {
    log.with_extension(PREVIOUS_LOG.trim_start_matches('.'))
}

/// All clusters of this user on this machine.
pub struct Store {
    root: PathBuf,
}

/// One cluster's folder.
#[derive(Clone, Debug)]
pub struct ClusterDir {
    path: PathBuf,
    pub namespace: Namespace,
    pub name: ClusterName,
}

/// The cluster's desired state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DesiredState {
    pub software: Software,
    pub resources: Vec<Resource>,
}

/// The cluster's observed state.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ObservedState {
    pub pods: Vec<PodRecord>,
    pub sets: Vec<StatefulSet>,
    /// The number of pods created so far, counted from the cluster's own first number; 0 before the first pod.
    #[serde(rename = "made", default)]
    pub pods_created: u32,
    /// The address of drivers in the user's own shell.
    #[serde(rename = "drivers", default)]
    pub driver_address: Option<IpAddr>,
}

impl ObservedState {
    /// All addresses of the cluster.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let pods = self.pods.iter().filter_map(|record| address_of(&record.pod));
        pods.chain(self.driver_address)
    }
}

/// A pod, and the process of its container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PodRecord {
    pub pod: Pod,
    pub process: Option<ProcessId>,
    /// The value of `SPARKHA_CONTAINER_ID` in every process of the container.
    #[serde(rename = "mark")]
    pub container_id: String,
    /// The number of failures in quick succession.
    pub failures: u32,
}

/// The lock on a cluster's folder, held by one command at a time. It ends when this is dropped, or with the process.
#[derive(Debug)]
pub struct ClusterLock {
    _file: File,
}

/// The current holder of the lock.
pub struct LockHolder(pub String);

impl Store {
    pub fn open() -> Result<Self, Error> {
        Ok(Self { root: paths::state()? })
    }

    pub fn cluster(&self, namespace: &Namespace, name: &ClusterName) -> ClusterDir {
        ClusterDir {
            path: self.root.join("clusters").join(namespace.as_str()).join(name.as_str()),
            namespace: namespace.clone(),
            name: name.clone(),
        }
    }

    /// The clusters of one namespace, or of all.
    pub fn clusters(&self, namespace: Option<&Namespace>) -> Result<Vec<ClusterDir>, Error> {
        let mut found = Vec::new();
        for space in names(&self.root.join("clusters"))? {
            let Ok(space) = Namespace::parse(&space) else { continue };
            if namespace.is_some_and(|namespace| *namespace != space) {
                continue;
            }
            for name in names(&self.root.join("clusters").join(space.as_str()))? {
                let Ok(name) = ClusterName::parse(&name) else { continue };
                found.extend(Some(self.cluster(&space, &name)).filter(ClusterDir::exists));
            }
        }
        found.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        Ok(found)
    }

    /// The existing folders in which clusters' files change.
    pub fn folders(&self, namespace: Option<&Namespace>) -> Vec<PathBuf> {
        let clusters = self.clusters(namespace).unwrap_or_default();
        let of_clusters = clusters.iter().flat_map(|dir| dir.path.ancestors().take(2));
        let mut folders: Vec<_> = of_clusters.map(Path::to_owned).collect();
        folders.extend([self.root.clone(), self.root.join("clusters")]);
        folders.sort();
        folders.dedup();
        folders
    }

    /// The folder of a volume claim that belongs to no single cluster.
    pub fn shared_claim(&self, namespace: &Namespace, claim: &str) -> PathBuf {
        self.root.join("claims").join(namespace.as_str()).join(claim)
    }

    /// Locks the allocation of addresses, so that two clusters do not choose the same.
    pub fn lock_addresses(&self) -> Result<File, Error> {
        make_folder(&self.root)?;
        let folder = File::open(&self.root).map_err(Error::file("open", &self.root))?;
        folder.lock().map_err(Error::file("lock", &self.root))?;
        Ok(folder)
    }
}

impl ClusterDir {
    /// The cluster in a folder, which the supervisor gets as its argument. `None` if the path is not a cluster's.
    pub fn at(path: &Path) -> Option<Self> {
        let mut names = path.iter().rev().filter_map(|part| part.to_str());
        let (name, namespace) = (names.next()?, names.next()?);
        Some(Self {
            path: path.to_owned(),
            namespace: Namespace::parse(namespace).ok()?,
            name: ClusterName::parse(name).ok()?,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Another cluster of the same namespace.
    pub fn sibling(&self, name: &ClusterName) -> Self {
        Self {
            path: self.path.with_file_name(name.as_str()),
            namespace: self.namespace.clone(),
            name: name.clone(),
        }
    }

    /// The prefix of the IDs of the cluster's containers, unique on this machine.
    pub fn container_id_prefix(&self) -> String {
        format!("sparkha-{}-", short_digest([self.path.to_string_lossy().as_ref()]))
    }

    /// Whether the cluster exists. The data of a former cluster do not count.
    pub fn exists(&self) -> bool {
        self.desired_file().exists()
    }

    fn desired_file(&self) -> PathBuf {
        self.path.join("wanted.json")
    }

    pub fn hosts_file(&self) -> PathBuf {
        self.path.join("hosts")
    }

    /// `SPARK_CONF_DIR` of drivers in the user's own shell.
    pub fn drivers_conf(&self) -> PathBuf {
        self.path.join("drivers")
    }

    /// The keys of the S3-compatible store for these drivers.
    pub fn s3_credentials(&self) -> PathBuf {
        self.drivers_conf().join("s3-credentials")
    }

    pub fn supervisor_log(&self) -> PathBuf {
        self.path.join("supervisor.log")
    }

    /// The folder of a pod's volumes.
    pub fn pod(&self, pod: &str) -> PathBuf {
        self.path.join("pods").join(pod)
    }

    /// The folder of the logs of pods and drivers.
    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    pub fn log(&self, pod: &str) -> PathBuf {
        self.logs().join(format!("{pod}.log"))
    }

    /// The log of the container's previous run.
    pub fn previous_log(&self, pod: &str) -> PathBuf {
        previous_log(&self.log(pod))
    }

    /// The folder of one of the cluster's own volume claims.
    pub fn claim(&self, claim: &str) -> PathBuf {
        self.path.join("claims").join(claim)
    }

    /// The names of the cluster's own volume claims with data.
    pub fn claims(&self) -> Result<Vec<String>, Error> {
        names(&self.path.join("claims"))
    }

    /// The folder of one of the cluster's own Secrets, with a file for each key.
    pub fn secret_folder(&self, secret: &str) -> PathBuf {
        self.path.join("secrets").join(secret)
    }

    pub fn write_secret(&self, secret: &str, key: &str, value: &[u8]) -> Result<(), Error> {
        let folder = self.secret_folder(secret);
        make_folder(&folder)?;
        write_file(&folder.join(key), value)
    }

    pub fn desired(&self) -> Result<Option<DesiredState>, Error> {
        let path = self.desired_file();
        let desired = read(&path).and_then(|desired: Option<DesiredState>| {
            // If an unreadable set were skipped, its pods would be deleted.
            match desired.as_ref().map(DesiredState::check) {
                Some(Err(reason)) => Err(Error::Unreadable { path, reason }),
                _ => Ok(desired),
            }
        });
        match desired {
            // The file of a later sparkha is not damaged.
            Err(error @ Error::Unreadable { .. }) => Err(self.newer_format().map_or(error, Error::Newer)),
            desired => desired,
        }
    }

    /// The format of the inventory in a file that cannot be read otherwise, if it is later than this sparkha knows.
    fn newer_format(&self) -> Option<NewerFormat> {
        let desired: Value = read(&self.desired_file()).ok()??;
        let name = self.name.inventory();
        let mut resources = desired["resources"].as_array()?.iter();
        let inventory = resources.find(|resource| resource["kind"] == "ConfigMap" && resource["name"] == *name)?;
        NewerFormat::of_data(&name, &inventory["object"]["data"])
    }

    pub fn write_desired(&self, desired: &DesiredState) -> Result<(), Error> {
        write(&self.desired_file(), desired)
    }

    pub fn observed(&self) -> Result<ObservedState, Error> {
        Ok(read(&self.path.join("seen.json"))?.unwrap_or_default())
    }

    pub fn write_observed(&self, observed: &ObservedState) -> Result<(), Error> {
        write(&self.path.join("seen.json"), observed)
    }

    /// Creates the folder and locks it.
    pub fn lock(&self) -> Result<Result<ClusterLock, LockHolder>, Error> {
        let path = self.path.join("lock");
        loop {
            make_folder(&self.path)?;
            let Some(mut file) = try_lock(&path)? else {
                let holder = fs::read_to_string(&path).unwrap_or_default();
                return Ok(Err(LockHolder(holder.trim().to_owned())));
            };
            // A teardown may have removed the folder since the file was opened: then the lock is on a deleted file.
            if is_still(&file, &path) {
                let user = user_name();
                let holder = format!("{user}, process {}\n", std::process::id());
                // The holder is for messages only: a full disk must not prevent a teardown.
                if let Err(error) = file.set_len(0).and_then(|()| file.write_all(holder.as_bytes())) {
                    tracing::warn!("failed to write {}: {error}", path.display());
                }
                return Ok(Ok(ClusterLock { _file: file }));
            }
        }
    }

    fn supervisor_lock(&self) -> PathBuf {
        self.path.join("supervisor.lock")
    }

    /// Takes the supervisor's lock; `None` if another process holds it.
    pub fn lock_supervisor(&self) -> Result<Option<File>, Error> {
        let path = self.supervisor_lock();
        let Some(mut file) = try_lock(&path)? else {
            return Ok(None);
        };
        let me = ProcessId::of(std::process::id() as i32);
        let text = serde_json::to_string(&me).unwrap_or_default();
        file.set_len(0)
            .and_then(|()| file.write_all(text.as_bytes()))
            .map_err(Error::file("write", &path))?;
        Ok(Some(file))
    }

    /// Whether this lock is still that of the folder's supervisor: not if the folder was removed since.
    pub fn has_supervisor_lock(&self, lock: &File) -> bool {
        let path = self.supervisor_lock();
        // A network file system that fails for a moment has removed nothing.
        let is_unknown = || fs::metadata(&path).is_err_and(|error| error.kind() != std::io::ErrorKind::NotFound);
        is_still(lock, &path) || is_unknown()
    }

    /// The running supervisor, if there is one.
    pub fn supervisor(&self) -> Option<ProcessId> {
        let text = fs::read_to_string(self.supervisor_lock()).ok()?;
        let process: ProcessId = serde_json::from_str(&text).ok()?;
        process.is_alive().then_some(process)
    }

    /// Removes the folder's contents, and the data of these volume claims.
    pub fn remove(&self, claims: &[String]) -> Result<(), Error> {
        // The desired state goes last, so that an interrupted teardown can be repeated. After it goes the lock: without it, another command could
        // start during this one.
        let last = ["wanted.json", "lock"].map(|name| self.path.join(name));
        let claims = claims.iter().map(|claim| self.claim(claim));
        let there = names(&self.path)?.into_iter().filter(|name| name != "claims");
        let first = there
            .map(|name| self.path.join(name))
            .filter(|path| !last.contains(path));
        for path in claims.chain(first).chain(last.clone()) {
            let removed = if path.is_dir() && !path.is_symlink() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            match removed {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                removed => removed.map_err(Error::file("remove", &path))?,
            }
        }
        // Removes folders that are now empty.
        let _ = fs::remove_dir(self.path.join("claims"));
        for folder in self.path.ancestors().take(4) {
            if fs::remove_dir(folder).is_err() {
                break;
            }
        }
        Ok(())
    }
}

impl DesiredState {
    pub fn sets(&self) -> Vec<StatefulSet> {
        self.of_kind(Kind::StatefulSet)
    }

    pub fn services(&self) -> Vec<Service> {
        self.of_kind(Kind::Service)
    }

    pub fn config_map(&self, name: &str) -> Option<ConfigMap> {
        self.of_kind::<ConfigMap>(Kind::ConfigMap)
            .into_iter()
            .find(|config_map| config_map.name_any() == name)
    }

    /// Adds an object, or replaces it.
    pub fn put(&mut self, new: Resource) {
        let is_it = |resource: &&mut Resource| (resource.kind, &resource.name) == (new.kind, &new.name);
        match self.resources.iter_mut().find(is_it) {
            Some(resource) => *resource = new,
            None => self.resources.push(new),
        }
    }

    /// The inventory in its ConfigMap, if there is one.
    pub fn inventory(&self, name: &ClusterName) -> Result<Option<Inventory>, InventoryError> {
        let config_map = self.config_map(&name.inventory());
        config_map.as_ref().map(Inventory::read).transpose()
    }

    /// Replaces the inventory.
    pub fn set_inventory(&mut self, name: &ClusterName, inventory: &Inventory) {
        let is_it = |resource: &&mut Resource| resource.kind == Kind::ConfigMap && resource.name == name.inventory();
        if let Some(resource) = self.resources.iter_mut().find(is_it) {
            resource.object["data"] = json!(inventory.data());
        }
    }

    /// Whether the cluster has its own Secret of this name.
    pub fn has_secret(&self, name: &str) -> bool {
        let is_it = |resource: &Resource| resource.kind == Kind::Secret && resource.name == name;
        self.resources.iter().any(is_it)
    }

    /// Whether a claim comes from one of the cluster's volume claim templates.
    pub fn owns_claim(&self, claim: &str) -> bool {
        self.sets().iter().any(|set| {
            let mut templates = set.spec.volume_claim_templates.iter().flatten();
            templates.any(|template| is_claim_of(claim, &template.name_any(), &set.name_any()))
        })
    }

    /// Checks that all objects that the supervisor uses can be parsed.
    fn check(&self) -> Result<(), String> {
        for resource in &self.resources {
            let object = resource.object.clone();
            let read = match resource.kind {
                Kind::StatefulSet => serde_json::from_value::<StatefulSet>(object).map(|_| ()),
                Kind::Service => serde_json::from_value::<Service>(object).map(|_| ()),
                Kind::ConfigMap => serde_json::from_value::<ConfigMap>(object).map(|_| ()),
                Kind::Secret
                | Kind::ServiceAccount
                | Kind::NetworkPolicy
                | Kind::PodMonitor
                | Kind::PodDisruptionBudget
                | Kind::HorizontalPodAutoscaler => Ok(()),
            };
            read.map_err(|error| format!("{} {}: {error}", resource.kind, resource.name))?;
        }
        Ok(())
    }

    fn of_kind<T: DeserializeOwned>(&self, kind: Kind) -> Vec<T> {
        let objects = self.resources.iter().filter(|resource| resource.kind == kind);
        objects
            .filter_map(|resource| serde_json::from_value(resource.object.clone()).ok())
            .collect()
    }
}

/// Creates a folder with mode 0700, as files have 0600: volumes may hold secrets.
pub fn make_folder(path: &Path) -> Result<(), Error> {
    private_folders()
        .create(path)
        .map_err(Error::file("create folder", path))
}

/// Locks a file; `None` if another process holds the lock.
pub(super) fn try_lock(path: &Path) -> Result<Option<File>, Error> {
    let open = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path);
    let file = open.map_err(Error::file("open", path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(Error::file("lock", path)(source)),
    }
}

/// Whether the open file is still the one at this path.
pub(super) fn is_still(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(there)) => file_id(&open) == file_id(&there),
        _ => false,
    }
}

/// The files in a folder with a Secret's values, by key.
pub(super) fn keys_in(folder: &Path) -> Result<BTreeMap<String, ByteString>, Error> {
    let mut keys = BTreeMap::new();
    for key in names(folder)? {
        let path = folder.join(&key);
        if path.is_file() {
            keys.insert(key, ByteString(fs::read(&path).map_err(Error::file("read", &path))?));
        }
    }
    Ok(keys)
}

pub(super) fn names(folder: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        entries => entries.map_err(Error::file("list", folder))?,
    };
    let mut names: Vec<_> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    Ok(names)
}

pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| Error::Unreadable {
                path: path.to_owned(),
                reason: error.to_string(),
            }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::file("read", path)(error)),
    }
}

/// Replaces a file atomically, with mode 0600.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let new = path.with_extension("new");
    let written = File::create(&new).and_then(|mut file| {
        set_mode(&new, 0o600)?;
        file.write_all(bytes)?;
        file.sync_all()
    });
    if let Err(error) = written.and_then(|()| fs::rename(&new, path)) {
        let _ = fs::remove_file(&new);
        return Err(Error::file("write", path)(error));
    }
    Ok(())
}

pub(super) fn write(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    // JSON cannot represent a path that is not UTF-8.
    let text = serde_json::to_vec_pretty(value).map_err(|error| Error::file("write", path)(error.into()))?;
    write_file(path, &text)
}

/// The last lines of a log.
pub fn tail(path: &Path, lines: usize) -> String {
    const ENOUGH: u64 = 64 * 1024;
    let read = || {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(std::io::SeekFrom::Start(length.saturating_sub(ENOUGH)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::system::symlink;

    #[test]
    fn the_observed_state_keeps_the_json_keys_of_running_clusters() {
        let text = json!({
            "pods": [{"pod": {"metadata": {"name": "p"}}, "process": null, "mark": "sparkha-1-u", "failures": 2}],
            "sets": [], "made": 7, "drivers": "127.64.0.9",
        });
        let observed: ObservedState = serde_json::from_value(text.clone()).unwrap();
        assert_eq!(observed.pods[0].container_id, "sparkha-1-u");
        assert_eq!(observed.pods_created, 7);
        let mut written = serde_json::to_value(&observed).unwrap();
        written["pods"][0]["pod"] = text["pods"][0]["pod"].clone();
        assert_eq!(written, text);
    }

    #[test]
    fn a_full_disk_does_not_prevent_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let dir = ClusterDir::at(&folder.path().join("default/spark")).unwrap();
        make_folder(dir.path()).unwrap();
        symlink(Path::new("/dev/full"), dir.path().join("lock")).unwrap();
        assert!(dir.lock().unwrap().is_ok());
    }

    #[test]
    fn a_supervisor_keeps_its_lock_while_nobody_can_tell() {
        let folder = tempfile::tempdir().unwrap();
        let dir = ClusterDir::at(&folder.path().join("default/spark")).unwrap();
        make_folder(dir.path()).unwrap();
        let lock = dir.lock_supervisor().unwrap().unwrap();
        assert!(dir.has_supervisor_lock(&lock));
        let path = dir.supervisor_lock();
        fs::remove_file(&path).unwrap();
        assert!(!dir.has_supervisor_lock(&lock), "it is gone");
        // A link to itself: too many links, an error that says nothing about the file.
        symlink(&path, &path).unwrap();
        assert!(dir.has_supervisor_lock(&lock));
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert!(!dir.has_supervisor_lock(&lock), "it is another");
    }

    #[test]
    fn what_json_cannot_represent_leaves_the_file_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wanted.json");
        write(&path, &1).unwrap();
        assert!(write(&path, &BTreeMap::from([((), 2)])).is_err());
        assert_eq!(read(&path).unwrap(), Some(1));
    }
}
