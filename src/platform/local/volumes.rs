//! A pod's volumes as folders of this machine, and where its mounts are then.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{ConfigMap, KeyToPath, Pod, Volume};
use kube::ResourceExt;

use super::pod::container_of;
use super::store::{ClusterDir, DesiredState, Store, make_folder, write_file};
use super::translate::Translation;
use super::{Error, paths, stateful_set};
use crate::model::error_chain::with_sources;
use crate::render::pods::EVENTS;

/// A pod's volumes, made.
pub struct Volumes {
    /// Where its mounts are.
    pub translation: Translation,
    /// Our own ConfigMaps, to be written before the container starts.
    files: Vec<(PathBuf, ConfigMap)>,
}

impl Volumes {
    /// Writes our own files, which name paths of the container's; the user's are left as they are.
    pub fn fill(self) -> Result<(), String> {
        for (folder, config_map) in self.files {
            for (name, text) in config_map.data.unwrap_or_default() {
                let path = folder.join(name);
                write_file(&path, self.translation.text(&text).as_bytes()).map_err(|error| with_sources(&error))?;
            }
        }
        Ok(())
    }
}

/// Makes the folders that the pod's volumes need, and says where its mounts are. What is there already keeps what is in it.
///
/// # Errors
/// With the kubelet's word for what is missing.
pub fn prepare(store: &Store, dir: &ClusterDir, desired: &DesiredState, pod: &Pod) -> Result<Volumes, String> {
    let plain = |error: Error| with_sources(&error);
    make_folder(&dir.pod(&pod.name_any())).map_err(plain)?;
    let mut mounts = Vec::new();
    let mut files = Vec::new();
    let spec = pod.spec.as_ref();
    let container = container_of(pod);
    let volumes = spec.and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    for mount in container
        .and_then(|container| container.volume_mounts.as_deref())
        .unwrap_or_default()
    {
        let volume = volumes
            .iter()
            .find(|volume| volume.name == mount.name)
            .ok_or_else(|| format!("there is no volume {} to mount", mount.name))?;
        let mut folder = folder(store, dir, desired, pod, volume)?;
        if let Some(rendered) = volume
            .config_map
            .as_ref()
            .and_then(|source| desired.config_map(&source.name))
        {
            files.push((folder.clone(), rendered));
        }
        if let Some(sub_path) = &mount.sub_path {
            folder = folder.join(sub_path);
            if !folder.exists() {
                make_folder(&folder).map_err(plain)?;
            }
        }
        let path = mount.mount_path.trim_end_matches('/');
        mounts.push((path.to_owned(), folder.display().to_string()));
    }
    Ok(Volumes {
        translation: Translation::new(mounts),
        files,
    })
}

fn folder(
    store: &Store,
    dir: &ClusterDir,
    desired: &DesiredState,
    pod: &Pod,
    volume: &Volume,
) -> Result<PathBuf, String> {
    let made = |path: PathBuf| make_folder(&path).map(|()| path).map_err(|error| with_sources(&error));
    if let Some(host) = &volume.host_path {
        return host_path(&host.path, host.type_.as_deref().unwrap_or_default());
    }
    if let Some(claim) = &volume.persistent_volume_claim {
        return made(match desired.owns_claim(&claim.claim_name) {
            true => dir.claim(&claim.claim_name),
            false => store.shared_claim(&dir.namespace, &claim.claim_name),
        });
    }
    if let Some(source) = &volume.config_map
        && desired.config_map(&source.name).is_none()
    {
        return users("configmaps", dir, &source.name);
    }
    if let Some(source) = &volume.secret {
        let folder = secret_folder(dir, desired, source.secret_name.as_deref().unwrap_or_default())?;
        let Some(items) = &source.items else {
            return Ok(folder);
        };
        let links = made(dir.pod(&pod.name_any()).join(&volume.name))?;
        for KeyToPath { key, path, .. } in items {
            let link = links.join(path);
            // One of a former container leads to the same place.
            if fs::symlink_metadata(&link).is_err() {
                let linked = symlink(folder.join(key), &link);
                linked.map_err(|error| format!("{} cannot be made: {error}", link.display()))?;
            }
        }
        return Ok(links);
    }
    if volume.nfs.is_some() {
        return Err(format!(
            "volume {}: NFS cannot be mounted here; mount it yourself and use hostPath",
            volume.name
        ));
    }
    made(dir.pod(&pod.name_any()).join(&volume.name))
}

/// Where the keys of a Secret are: the cluster's own, or one that the user put there.
pub fn secret_folder(dir: &ClusterDir, desired: &DesiredState, name: &str) -> Result<PathBuf, String> {
    match desired.has_secret(name) {
        true => Ok(dir.secret_folder(name)),
        false => users("secrets", dir, name),
    }
}

/// Where the folder is that the cluster's event logs are in, for drivers that are no pods; `None` where they are in no volume.
///
/// # Errors
/// As [`prepare`].
pub fn event_logs(store: &Store, dir: &ClusterDir, desired: &DesiredState) -> Result<Option<PathBuf>, String> {
    let sets = desired.sets();
    let pods = sets
        .iter()
        .map(|set| stateful_set::pod(set, 0, dir.namespace.as_str(), "", String::new()));
    for pod in pods {
        let mut volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        if let Some(volume) = volumes.find(|volume| volume.name == EVENTS) {
            return folder(store, dir, desired, &pod, volume).map(Some);
        }
    }
    Ok(None)
}

fn host_path(path: &str, kind: &str) -> Result<PathBuf, String> {
    let folder = PathBuf::from(path);
    let there = fs::metadata(&folder);
    match kind {
        "DirectoryOrCreate" if there.is_err() => {
            let created = fs::create_dir_all(&folder)
                .and_then(|()| fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)));
            created.map_err(|error| format!("hostPath {path} cannot be made: {error}"))?;
        }
        _ if there.is_err() => return Err(format!("hostPath {path} is not there")),
        "Directory" if there.is_ok_and(|there| !there.is_dir()) => {
            return Err(format!("hostPath {path} is no directory"));
        }
        _ => {}
    }
    Ok(folder)
}

/// Where a user keeps a Secret or ConfigMap: one file for each key.
pub fn users_folder(kind: &str, dir: &ClusterDir, name: &str) -> Result<PathBuf, Error> {
    Ok(paths::config()?.join(kind).join(dir.namespace.as_str()).join(name))
}

/// The folder of a ConfigMap or Secret that the user has put there.
pub fn users(kind: &str, dir: &ClusterDir, name: &str) -> Result<PathBuf, String> {
    let folder = users_folder(kind, dir, name).map_err(|error| error.to_string())?;
    match folder.is_dir() {
        true => Ok(folder),
        false => Err(missing(kind, name, &folder)),
    }
}

/// What to say of a Secret or ConfigMap that the user has not put there.
pub fn missing(kind: &str, name: &str, folder: &std::path::Path) -> String {
    let what = if kind == "secrets" { "Secret" } else { "ConfigMap" };
    format!(
        "{what} {name} is not there: make {}, with a file for each key",
        folder.display()
    )
}
