//! Archives of the classes of Spark's servers (AppCDS). A JVM maps them instead of reading classes from hundreds of jars and verifying them,
//! so that masters, workers and ZooKeeper servers start with half of the work.
//!
//! They are made once for a fetched Spark and a Java, by servers that start, register and end. A `java` of our own, java.sh, passes them to the
//! JVM. The JVM ignores an archive that does not fit, for example after an update of Java.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::process::{CONTAINER_ID, ProcessId, kill_with_env};
use super::software::Software;
use super::{Error, addresses, paths};
use crate::clients::spark::MasterUi;
use crate::model::reports::{MasterReport, MasterStatus};
use crate::platform::system::processes::in_own_group;
use crate::platform::system::{Signal, set_mode};
use crate::render::digest::short_digest;

const JAVA: &str = include_str!("java.sh");
const ZOOKEEPER: &str = "org.apache.zookeeper.server.quorum.QuorumPeerMain";
const MASTER: &str = "org.apache.spark.deploy.master.Master";
const WORKER: &str = "org.apache.spark.deploy.worker.Worker";
/// How long the servers may take to start and register, and then to write the archives.
const TIMEOUT: Duration = Duration::from_secs(120);
/// ZooKeeper's, the master's, and those of both web UIs.
const PORTS: [u16; 4] = [2181, 7077, 8080, 8081];
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// The JVM for which archives were made, as it describes itself, and the script that passes them.
const MADE_FOR: &str = "jvm";

/// The JAVA_HOME that passes the archives to the JVM, if there are any for this Spark and Java.
pub fn java_home(software: &Software) -> Option<PathBuf> {
    home(software).filter(|home| home.join("bin/java").exists())
}

/// Where its archives are: beside a fetched Spark. Others have none, for their folders may belong to somebody else.
fn home(software: &Software) -> Option<PathBuf> {
    let spark = &software.spark_home;
    let java = software.java()?;
    let digest = short_digest([java.to_str()?]);
    let name = format!("java-{}-{}", software.spark_version, &digest[..8]);
    (spark.parent()? == paths::cache().ok()?).then(|| spark.with_file_name(name))
}

/// Makes the archives, unless they are there for this very Java. Returns whether they were made.
///
/// # Errors
/// The reason why there are none.
pub async fn make(software: &Software, spark_has_changed: bool, begin: impl FnOnce()) -> Result<bool, String> {
    let (Some(home), Some(java)) = (home(software), software.java()) else {
        return Err("this Spark was not fetched by sparkha".into());
    };
    let version = Command::new(&java).arg("-Xinternalversion").output().await;
    let version = version.map_err(|error| format!("failed to run {}: {error}", java.display()))?;
    let made_for = [&*version.stdout, JAVA.as_bytes()].concat();
    let is_made = fs::read(home.join(MADE_FOR)).is_ok_and(|there| there == made_for);
    if !spark_has_changed && is_made && java_home(software).is_some() {
        return Ok(false);
    }
    begin();
    let name = home.file_name().unwrap_or_default().to_string_lossy();
    let scratch = home.with_file_name(format!(".making-{name}"));
    let made = async {
        // The remains of one that was killed.
        clear(&scratch).await;
        fs::create_dir(&scratch).map_err(Error::file("write", &scratch))?;
        let training = Training {
            software,
            java: &java,
            folder: &scratch,
        };
        let trained = timeout(TIMEOUT, training.run()).await;
        trained.map_err(|_| format!("not within {} s", TIMEOUT.as_secs()))??;
        let written = write(&scratch, &java, &software.spark_home, &made_for);
        written.map_err(Error::file("write", &scratch))?;
        let _ = fs::remove_dir_all(&home);
        fs::rename(&scratch, &home).map_err(Error::file("write", &home))?;
        Ok(true)
    };
    let made = made.await;
    if made.is_err() {
        clear(&scratch).await;
    }
    made
}

/// Kills the servers that write to a folder, and removes it.
async fn clear(folder: &Path) {
    kill_with_env(CONTAINER_ID, &container_id(folder)).await;
    let _ = fs::remove_dir_all(folder);
}

/// The ID of the servers that write to this folder, in their environment.
fn container_id(folder: &Path) -> String {
    format!("sparkha-archives-{}", short_digest([folder.to_string_lossy().as_ref()]))
}

/// Writes what goes with the archives.
fn write(folder: &Path, java: &Path, spark: &Path, made_for: &[u8]) -> std::io::Result<()> {
    let quoted = |path: &Path| format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"));
    let script = JAVA.replace("@JAVA@", &quoted(java)).replace("@SPARK@", &quoted(spark));
    let bin = folder.join("bin");
    fs::create_dir(&bin)?;
    fs::write(bin.join("java"), script)?;
    set_mode(&bin.join("java"), 0o755)?;
    fs::write(folder.join(MADE_FOR), made_for)
}

/// A cluster of one server of each kind, each of which writes its archive when it ends.
struct Training<'a> {
    software: &'a Software,
    java: &'a Path,
    folder: &'a Path,
}

impl Training<'_> {
    async fn run(&self) -> Result<(), String> {
        let address = addresses::free("class archives", std::process::id(), &PORTS, &BTreeSet::new());
        let address = address.map_err(addresses::taken_message)?;
        // Removed with what the servers write there.
        let work = tempfile::tempdir_in(self.folder).map_err(Error::file("write", self.folder))?;
        let path = |name: &str| work.path().join(name).display().to_string();
        let settings = format!(
            "clientPort=2181\nclientPortAddress={address}\ndataDir={}\nadmin.enableServer=false\n",
            path("data")
        );
        fs::write(path("zoo.cfg"), settings).map_err(Error::file("write", work.path()))?;
        let jars = format!("{}/jars/*", self.software.spark_home.display());
        let all = match self.software.logging_api() {
            Some(api) => format!("{}:{jars}", api.display()),
            None => jars.clone(),
        };
        let ensemble = format!("-Dspark.deploy.zookeeper.url={address}:2181");
        let (host, url) = (address.to_string(), format!("spark://{address}:7077"));

        let mut servers = Servers::default();
        servers.start(self.command("zookeeper", address, &["-cp", &jars, ZOOKEEPER, &path("zoo.cfg")]))?;
        let master = [
            "-cp",
            &all,
            "-Dspark.deploy.recoveryMode=ZOOKEEPER",
            &ensemble,
            MASTER,
            "--host",
            &host,
        ];
        servers.start(self.command("master", address, &master))?;
        servers
            .until(address, |report| report.status == MasterStatus::Alive)
            .await?;
        let worker = [
            "-cp",
            &all,
            WORKER,
            "--host",
            &host,
            "--webui-port",
            "8081",
            "--work-dir",
            &path("work"),
            &url,
        ];
        servers.start(self.command("worker", address, &worker))?;
        servers.until(address, |report| !report.workers.is_empty()).await?;
        servers.end().await?;
        let mut files = ["zookeeper", "master", "worker"]
            .map(|name| format!("{name}.jsa"))
            .into_iter();
        match files.find(|file| !self.folder.join(file).exists()) {
            Some(file) => Err(format!("this Java wrote no {file}")),
            None => Ok(()),
        }
    }

    /// A JVM that writes its archive when it ends.
    fn command(&self, name: &str, address: IpAddr, arguments: &[&str]) -> Command {
        let archive = self.folder.join(name).with_extension("jsa");
        let mut command = Command::new(self.java);
        command
            .arg(format!("-XX:ArchiveClassesAtExit={}", archive.display()))
            .args(arguments)
            .env_clear()
            .env("PATH", &self.software.path)
            .env("SPARK_HOME", &self.software.spark_home)
            .env("SPARK_LOCAL_IP", address.to_string())
            .env(CONTAINER_ID, container_id(self.folder))
            .current_dir(self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        in_own_group(&mut command);
        command
    }
}

/// The servers that run.
#[derive(Default)]
struct Servers(Vec<Child>);

impl Servers {
    fn start(&mut self, mut command: Command) -> Result<(), String> {
        let child = command.spawn();
        self.0
            .push(child.map_err(|error| format!("failed to start Java: {error}"))?);
        Ok(())
    }

    /// Waits until the master reports this.
    async fn until(&mut self, address: IpAddr, is_so: impl Fn(&MasterReport) -> bool) -> Result<(), String> {
        let mut ui = MasterUi::default();
        loop {
            if ui
                .report(TcpStream::connect((address, 8080)))
                .await
                .is_ok_and(|report| is_so(&report))
            {
                return Ok(());
            }
            for server in &mut self.0 {
                if let Ok(Some(status)) = server.try_wait() {
                    return Err(format!("one of the servers ended: {status}"));
                }
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    async fn end(mut self) -> Result<(), String> {
        for server in &mut self.0 {
            if let Some(process) = server.id().and_then(|pid| ProcessId::of(pid as i32)) {
                process.signal(Signal::Terminate).map_err(|error| error.to_string())?;
            }
        }
        for server in &mut self.0 {
            server.wait().await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn servers_that_a_killed_command_left_are_killed() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = folder.path().join(".making");
        fs::create_dir(&scratch).unwrap();
        let java = folder.path().join("java");
        fs::write(&java, "#!/bin/sh\nexec /bin/sleep 600\n").unwrap();
        set_mode(&java, 0o755).unwrap();
        let training = Training {
            software: &Software::default(),
            java: &java,
            folder: &scratch,
        };
        let mut left = training.command("master", [127, 0, 0, 1].into(), &[]).spawn().unwrap();
        clear(&scratch).await;
        assert!(left.try_wait().unwrap().is_some());
        assert!(!scratch.exists());
    }
}
