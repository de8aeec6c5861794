//! What drivers read that run in the user's own shell: the `spark-defaults.conf` that a driver's pod would mount, with the secret that such a
//! pod would add to it, and with event logs where they are on this machine. The cluster's folder is the user's alone.

use std::fs;
use std::path::PathBuf;

use super::Error;
use super::store::{ClusterDir, Store, Wanted, make_folder, write_file};
use super::translate::Translation;
use super::volumes::{event_logs, secret_folder};
use crate::render::auth::{AUTH_VOLUME, SPARK_SECRET};
use crate::render::config::{DRIVER_DEFAULTS, EVENTS_DIR};

/// Writes it into the cluster's folder.
pub fn configure(store: &Store, dir: &ClusterDir, wanted: &Wanted) -> Result<(), Error> {
    let config = wanted.config_map(&dir.name.conf()).and_then(|config| config.data);
    let text = config
        .and_then(|mut data| data.remove(DRIVER_DEFAULTS))
        .unwrap_or_default();
    // What is wrong with the volume is told of the history server's pod.
    let events = event_logs(store, dir, wanted).ok().flatten();
    let mounts = events.map(|folder| (EVENTS_DIR.to_owned(), folder.display().to_string()));
    let mut text = Translation::new(mounts).text(&text);
    if let Some(file) = secret_file(dir, wanted) {
        let secret = fs::read_to_string(&file).map_err(Error::file("read", &file))?;
        let escaped = secret.trim_end().replace('\\', "\\\\");
        text.push_str(&format!("{SPARK_SECRET}={escaped}\n"));
    }
    make_folder(&dir.drivers_conf())?;
    write_file(&dir.drivers_conf().join(DRIVER_DEFAULTS), text.as_bytes())
}

/// The file with Spark's secret, the cluster's own or the user's; `None` without authentication.
fn secret_file(dir: &ClusterDir, wanted: &Wanted) -> Option<PathBuf> {
    let sets = wanted.sets().into_iter();
    let volumes = sets.flat_map(|set| set.spec.template.spec.and_then(|spec| spec.volumes).unwrap_or_default());
    let secret = volumes
        .filter(|volume| volume.name == AUTH_VOLUME)
        .find_map(|volume| volume.secret?.secret_name);
    // One that is missing is told of the pods, which wait for it.
    let folder = secret.and_then(|name| secret_folder(dir, wanted, &name).ok());
    folder.map(|folder| folder.join(SPARK_SECRET))
}
