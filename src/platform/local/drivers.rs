//! Writes the configuration of drivers in the user's own shell: the `spark-defaults.conf` that a driver's pod would mount, with the secret that
//! such a pod would add, and with this machine's path of the event logs. Only the user can read the cluster's folder.

use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::SecretVolumeSource;

use super::Error;
use super::store::{ClusterDir, DesiredState, Store, make_folder, write_file};
use super::translate::Translation;
use super::volumes::{event_logs, secret_folder};
use crate::model::properties;
use crate::render::auth::{AUTH_VOLUME, CERTIFICATES, S3_VOLUME, SPARK_SECRET, TLS_DIR, TLS_VOLUME};
use crate::render::paths::{DRIVER_DEFAULTS, EVENTS_DIR};

/// Writes the configuration to the cluster's folder.
pub fn configure(store: &Store, dir: &ClusterDir, desired: &DesiredState) -> Result<(), Error> {
    let config = desired.config_map(&dir.name.conf()).and_then(|config| config.data);
    let text = config
        .and_then(|mut data| data.remove(DRIVER_DEFAULTS))
        .unwrap_or_default();
    make_folder(&dir.drivers_conf())?;
    // An error of the volume is reported for the history server's pod.
    let events = event_logs(store, dir, desired).ok().flatten();
    let mut mounts: Vec<_> = events.into_iter().map(|folder| (EVENTS_DIR, folder)).collect();
    if let Some(folder) = mounted(dir, desired, TLS_VOLUME) {
        let both = ["tls.crt", "ca.crt"].map(|key| read(&folder.join(key)));
        let both = both.into_iter().collect::<Result<Vec<_>, _>>()?.join("\n");
        let certificates = dir.drivers_conf().join("certificates.pem");
        write_file(&certificates, both.as_bytes())?;
        mounts.extend([(TLS_DIR, folder), (CERTIFICATES, certificates)]);
    }
    let mounts = mounts
        .into_iter()
        .map(|(path, real)| (path.to_owned(), real.display().to_string()));
    let mut text = Translation::new(mounts).text(&text);
    if let Some(folder) = mounted(dir, desired, AUTH_VOLUME) {
        let secret = read(&folder.join(SPARK_SECRET))?;
        let secret = [(SPARK_SECRET.to_owned(), secret.trim_end().to_owned())];
        text.push_str(&properties::write(&secret.into()));
    }
    write_file(&dir.drivers_conf().join(DRIVER_DEFAULTS), text.as_bytes())?;
    let file = dir.s3_credentials();
    match s3_credentials(dir, desired)? {
        Some(credentials) => write_file(&file, credentials.as_bytes()),
        None if file.exists() => fs::remove_file(&file).map_err(Error::file("remove", &file)),
        None => Ok(()),
    }
}

/// The keys of the S3-compatible store as s3.sh writes them; `None` without such keys.
fn s3_credentials(dir: &ClusterDir, desired: &DesiredState) -> Result<Option<String>, Error> {
    let Some(secret) = volume(desired, S3_VOLUME) else {
        return Ok(None);
    };
    // A missing Secret is reported for the pods, which wait for it.
    let Ok(folder) = secret_folder(dir, desired, secret.secret_name.as_deref().unwrap_or_default()) else {
        return Ok(None);
    };
    let mut text = "[default]\n".to_owned();
    for item in secret.items.into_iter().flatten() {
        let value = read(&folder.join(item.key))?;
        text.push_str(&format!("{}={}\n", item.path, value.trim_end()));
    }
    Ok(Some(text))
}

fn read(file: &Path) -> Result<String, Error> {
    fs::read_to_string(file).map_err(Error::file("read", file))
}

/// The folder of the Secret in this volume of the pods, the cluster's own or the user's; `None` if the pods have no such volume.
fn mounted(dir: &ClusterDir, desired: &DesiredState, volume: &str) -> Option<PathBuf> {
    let name = self::volume(desired, volume)?.secret_name;
    // A missing Secret is reported for the pods, which wait for it.
    name.and_then(|name| secret_folder(dir, desired, &name).ok())
}

/// The Secret in this volume of the pods; `None` if the pods have no such volume.
fn volume(desired: &DesiredState, volume: &str) -> Option<SecretVolumeSource> {
    let sets = desired.sets().into_iter();
    let mut volumes = sets.flat_map(|set| set.spec.template.spec.and_then(|spec| spec.volumes).unwrap_or_default());
    volumes.find_map(|found| found.secret.filter(|_| found.name == volume))
}
