//! A pod's volumes as folders of this machine, and the paths of its mounts.

use std::fs;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{ConfigMap, KeyToPath, Pod, Volume};
use kube::ResourceExt;

use super::pod::container_of;
use super::store::{ClusterDir, DesiredState, Store, make_folder, write_file};
use super::translate::Translation;
use super::{Error, paths, stateful_set};
use crate::platform::system::{set_mode, symlink};
use crate::render::pods::EVENTS;

/// A pod's prepared volumes.
#[derive(Default)]
pub struct Volumes {
    /// Maps mount paths to folders.
    pub translation: Translation,
    /// Folders of the cluster's own ConfigMaps, which are written before the container starts.
    files: Vec<(PathBuf, ConfigMap)>,
}

impl Volumes {
    /// Writes the files of the cluster's own ConfigMaps, with the container's paths translated. The user's files stay unchanged.
    pub fn fill(self) -> Result<(), String> {
        for (folder, config_map) in self.files {
            for (name, text) in config_map.data.unwrap_or_default() {
                let path = folder.join(name);
                write_file(&path, self.translation.text(&text).as_bytes())?;
            }
        }
        Ok(())
    }
}

/// Creates the folders of the pod's volumes, and returns the paths of its mounts. Existing folders keep their contents.
///
/// # Errors
/// The reason, as a kubelet would report it.
pub fn prepare(store: &Store, dir: &ClusterDir, desired: &DesiredState, pod: &Pod) -> Result<Volumes, String> {
    make_folder(&dir.pod(&pod.name_any()))?;
    let mut mounts = Vec::new();
    let mut files = Vec::new();
    let mounted = container_of(pod).and_then(|container| container.volume_mounts.as_ref());
    for mount in mounted.into_iter().flatten() {
        let mut volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        let volume = volumes.find(|volume| volume.name == mount.name);
        let volume = volume.ok_or_else(|| format!("the pod has no volume {} to mount", mount.name))?;
        let mut folder = folder(store, dir, desired, pod, volume)?;
        let source = volume.config_map.as_ref();
        let rendered = source.and_then(|source| desired.config_map(&source.name));
        files.extend(rendered.map(|rendered| (folder.clone(), rendered)));
        if let Some(sub_path) = &mount.sub_path {
            folder.push(sub_path);
            if !folder.exists() {
                make_folder(&folder)?;
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
    let made = |path: PathBuf| make_folder(&path).map(|()| path).map_err(String::from);
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
            // A link of an earlier container has the same target.
            if fs::symlink_metadata(&link).is_err() {
                let linked = symlink(folder.join(key), &link);
                linked.map_err(|error| format!("failed to create {}: {error}", link.display()))?;
            }
        }
        return Ok(links);
    }
    if volume.nfs.is_some() {
        return Err(format!(
            "volume {}: sparkha cannot mount NFS on this machine; mount it yourself and use hostPath",
            volume.name
        ));
    }
    made(dir.pod(&pod.name_any()).join(&volume.name))
}

/// The folder with the keys of a Secret, the cluster's own or the user's.
pub fn secret_folder(dir: &ClusterDir, desired: &DesiredState, name: &str) -> Result<PathBuf, String> {
    match desired.has_secret(name) {
        true => Ok(dir.secret_folder(name)),
        false => users("secrets", dir, name),
    }
}

/// The folder of the cluster's event logs, for drivers that are no pods; `None` if no volume holds them.
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
            let created = fs::create_dir_all(&folder).and_then(|()| set_mode(&folder, 0o755));
            created.map_err(|error| format!("failed to create hostPath {path}: {error}"))?;
        }
        _ if there.is_err() => return Err(format!("hostPath {path} does not exist")),
        "Directory" if there.is_ok_and(|there| !there.is_dir()) => {
            return Err(format!("hostPath {path} is not a directory"));
        }
        _ => {}
    }
    Ok(folder)
}

/// The path of a user's Secret or ConfigMap: a folder with a file for each key.
pub fn users_folder(kind: &str, dir: &ClusterDir, name: &str) -> Result<PathBuf, Error> {
    Ok(paths::config()?.join(kind).join(dir.namespace.as_str()).join(name))
}

/// The existing folder of a user's Secret or ConfigMap.
pub fn users(kind: &str, dir: &ClusterDir, name: &str) -> Result<PathBuf, String> {
    let folder = users_folder(kind, dir, name)?;
    match folder.is_dir() {
        true => Ok(folder),
        false => Err(missing(kind, name, &folder)),
    }
}

/// The message about a missing Secret or ConfigMap of the user.
pub fn missing(kind: &str, name: &str, folder: &std::path::Path) -> String {
    let what = if kind == "secrets" { "Secret" } else { "ConfigMap" };
    format!(
        "{what} {name} does not exist: create {}, with a file for each key",
        folder.display()
    )
}
