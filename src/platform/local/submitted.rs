//! Drivers as processes of this machine. `sparkha submit` starts the rendered pod as a kubelet would, but never restarts it.

use std::path::PathBuf;
use std::process::Stdio;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::ResourceExt;
use serde::{Deserialize, Serialize};
use tokio::process::Child;

use super::cgroup::Groups;
use super::container::{LaunchContext, launch};
use super::kubelet::terminate_process;
use super::process::{CONTAINER_ID, ProcessId, kill_with_env};
use super::store::{ClusterDir, DesiredState, Store, make_folder, read, write, write_file};
use super::{Error, logs, volumes};
use crate::model::error_chain::with_sources;

/// The record of a driver's process, kept until the driver is removed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DriverRecord {
    pub name: String,
    pub process: ProcessId,
    /// The configured port of its web UI.
    pub ui_port: u16,
    /// Whether the driver's files stay after it has ended.
    pub keep: bool,
    /// The working directory of its script, which writes application IDs and exit code there.
    #[serde(default)]
    folder: PathBuf,
    #[serde(rename = "mark")]
    container_id: String,
}

impl DriverRecord {
    /// IDs of its applications, oldest first.
    pub fn applications(&self) -> Vec<String> {
        let text = self.recorded("applications").unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Its exit code; `None` while it runs, or if its script was also killed.
    pub fn exit_code(&self) -> Option<i32> {
        self.recorded("exit-code")?.trim().parse().ok()
    }

    /// A file that its script wrote. Scripts of older versions of sparkha wrote none.
    fn recorded(&self, file: &str) -> Option<String> {
        let folder = Some(&self.folder).filter(|folder| folder.is_absolute())?;
        std::fs::read_to_string(folder.join(file)).ok()
    }
}

/// Where a driver's output goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum DriverOutput {
    /// To the output of this command.
    Inherited,
    /// To a log in the cluster's folder.
    Log,
}

/// The parameters of a driver's start.
pub struct DriverStart<'a> {
    pub dir: &'a ClusterDir,
    pub desired: &'a DesiredState,
    pub pod: Pod,
    pub address: std::net::IpAddr,
    /// Names and contents of files to write for the driver. The user's own files are already on this machine.
    pub texts: Vec<(String, Vec<u8>)>,
    pub ui_port: u16,
    pub keep: bool,
    pub output: DriverOutput,
}

/// Starts a driver and writes its record.
///
/// # Errors
/// The reason as a kubelet would report it.
pub async fn start(start: DriverStart<'_>) -> Result<(Child, DriverRecord), String> {
    let (dir, name) = (start.dir, start.pod.name_any());
    let container_id = format!("{}{name}", dir.container_id_prefix());
    let started = start_recorded(start, &container_id);
    if started.is_err() {
        // No command would know of its process and files.
        kill_with_env(CONTAINER_ID, &container_id).await;
        if let Err(error) = remove(dir, &name) {
            tracing::warn!("{}", with_sources(&error));
        }
    }
    started
}

fn start_recorded(start: DriverStart<'_>, container_id: &str) -> Result<(Child, DriverRecord), String> {
    let DriverStart {
        dir, desired, mut pod, ..
    } = start;
    let name = pod.name_any();
    pod.metadata.namespace = Some(dir.namespace.to_string());
    pod.status = Some(PodStatus {
        pod_ip: Some(start.address.to_string()),
        ..PodStatus::default()
    });
    let volumes = volumes::prepare(&Store::open()?, dir, desired, &pod)?;
    let context = LaunchContext {
        dir,
        desired,
        translation: &volumes.translation,
        container_id,
    };
    let launch = launch(&pod, &context)?;
    volumes.fill()?;
    let driver_dir = launch.environment.get("SPARKHA_DRIVER_DIR").map(PathBuf::from);
    let driver_dir = driver_dir.unwrap_or_default();
    let sent = driver_dir.join("sent");
    make_folder(&sent)?;
    for (name, text) in &start.texts {
        write_file(&sent.join(name), text)?;
    }
    let (output, errors) = match start.output {
        DriverOutput::Inherited => (Stdio::inherit(), Stdio::inherit()),
        DriverOutput::Log => {
            let (output, errors) = logs::open(dir, &name)?;
            (output.into(), errors.into())
        }
    };
    // Ctrl-C must reach only sparkha, which terminates the driver gracefully.
    let (child, process) = launch.start(&Groups::default(), &driver_dir, output, errors)?;
    let record = DriverRecord {
        process,
        ui_port: start.ui_port,
        keep: start.keep,
        folder: driver_dir,
        container_id: container_id.to_owned(),
        name,
    };
    let path = record_file(dir, &record.name);
    path.parent().map_or(Ok(()), make_folder)?;
    write(&path, &record)?;
    Ok((child, record))
}

fn record_file(dir: &ClusterDir, name: &str) -> PathBuf {
    dir.path().join("submitted").join(format!("{name}.json"))
}

/// The records of all drivers that have not been removed.
pub fn records(dir: &ClusterDir) -> Result<Vec<DriverRecord>, Error> {
    let mut records = Vec::new();
    for name in super::store::names(&dir.path().join("submitted"))? {
        if let Some(name) = name.strip_suffix(".json") {
            records.extend(read::<DriverRecord>(&record_file(dir, name))?);
        }
    }
    Ok(records)
}

/// Terminates a driver and kills every process that it started.
pub async fn terminate(record: &DriverRecord) {
    terminate_process(&record.process, std::time::Duration::from_secs(30)).await;
    kill_with_env(CONTAINER_ID, &record.container_id).await;
}

/// Removes the files of a driver that has ended.
pub fn remove(dir: &ClusterDir, name: &str) -> Result<(), Error> {
    for path in [
        dir.pod(name),
        dir.log(name),
        dir.previous_log(name),
        record_file(dir, name),
    ] {
        let removed = match path.is_dir() {
            true => std::fs::remove_dir_all(&path),
            false => std::fs::remove_file(&path),
        };
        match removed {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            removed => removed.map_err(Error::file("remove", &path))?,
        }
    }
    Ok(())
}

/// Removes the files of ended drivers whose submit was interrupted.
pub fn clean(dir: &ClusterDir) -> Result<(), Error> {
    for record in records(dir)? {
        if !record.keep && !record.process.is_alive() {
            remove(dir, &record.name)?;
        }
    }
    Ok(())
}
