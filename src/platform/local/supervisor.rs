//! The supervisor: one process per cluster, detached from the terminal that started it. It creates pods from the desired state and writes the
//! observed state. The pods' processes survive it, and the next supervisor adopts them.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::net::IpAddr;
use std::ops::ControlFlow::{Break, Continue};
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::task::LocalSet;

use super::external_names::{self, ExternalNames};
use super::kubelet::{Kubelet, ports};
use super::process::{CLUSTER_DIR, CONTAINER_ID, kill_with_env};
use super::stateful_set::{self, PodStep};
use super::store::{ClusterDir, PodRecord, Store, tail, write_file};
use super::{Error, addresses, hosts, logs};
use crate::model::error_chain::with_sources;
use crate::model::ports::DRIVER_UI_PORTS;
use crate::platform::poll::poll_until;
use crate::platform::system::processes::start_session;
use crate::platform::system::{Hangups, Signal, termination};

/// How long the first pods wait for external names.
const FIRST_LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);
/// How long to wait after a failed write.
const RETRY_DELAY: Duration = Duration::from_secs(2);
/// How often logs are truncated, external names resolved and the folder checked.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(30);
/// How long a new supervisor may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Ensures that a supervisor reconciles the current desired state: signals the running one, or starts one. True if it started one.
pub async fn ensure(dir: &ClusterDir) -> Result<bool, Error> {
    if let Some(supervisor) = dir.supervisor() {
        supervisor.signal(Signal::Hangup).map_err(failed)?;
        if supervisor.is_alive() {
            return Ok(false);
        }
    }
    let program = std::env::current_exe().map_err(failed)?;
    let (output, errors) = logs::append(&dir.supervisor_log())?;
    let mut child = Command::new(program)
        .args(["-v", "local", "supervise"])
        .arg(dir.path())
        // A supervisor started by a job of another cluster would otherwise be killed with that job's pod.
        .env_remove(CONTAINER_ID)
        .env_remove(CLUSTER_DIR)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .map_err(failed)?;
    poll_until(Duration::from_millis(5), START_TIMEOUT, async || {
        if dir.supervisor().is_some() {
            return Ok(Break(true));
        }
        if let Ok(Some(status)) = child.try_wait() {
            let last_lines = tail(&dir.supervisor_log(), 5);
            return Err(failed(format!("it exited with {status}: {last_lines}")));
        }
        let seconds = START_TIMEOUT.as_secs();
        Ok(Continue(failed(format!("it did not start within {seconds} s"))))
    })
    .await
}

fn failed(reason: impl ToString) -> Error {
    Error::Supervisor {
        reason: reason.to_string(),
    }
}

/// Terminates the supervisor. The pods' processes keep running.
pub async fn terminate(dir: &ClusterDir) {
    if let Some(supervisor) = dir.supervisor() {
        super::kubelet::terminate_process(&supervisor, Duration::from_secs(5)).await;
    }
}

/// Runs the supervisor of the cluster in this folder until it gets SIGTERM or the folder is removed.
pub async fn supervise(folder: &Path) -> Result<(), Error> {
    let dir = ClusterDir::at(folder);
    let dir = dir.ok_or_else(|| failed(format!("{} is not a cluster's folder", folder.display())))?;
    // In a session of its own: neither Ctrl-C in the terminal of a create nor the terminal's end must reach it.
    if let Err(error) = start_session() {
        tracing::warn!("failed to start a session, the supervisor stays in its parent's: {error}");
    }
    // Before the lock makes this process known: an unhandled signal would kill it.
    let signals = Hangups::listen().and_then(|hangups| Ok((hangups, termination()?)));
    let signals = signals.map_err(|error| failed(format!("failed to handle signals: {error}")))?;
    let Some(lock) = dir.lock_supervisor()? else {
        return Ok(());
    };
    let Some(desired) = dir.desired()? else { return Ok(()) };
    let kubelet = Kubelet::new(Store::open()?, dir, desired);
    // The end of the set ends the tasks that would restart the pods.
    let end = LocalSet::new().run_until(run(kubelet.clone(), &lock, signals)).await?;
    match end {
        SupervisorEnd::Terminated => tracing::info!("supervisor terminated; the pods' processes keep running"),
        // No command could terminate these processes later.
        SupervisorEnd::Removed => kill_with_env(CLUSTER_DIR, &kubelet.dir.path().display().to_string()).await,
        SupervisorEnd::Replaced => {
            let pods = kubelet.observed(vec![]).pods;
            let kills = pods
                .iter()
                .map(|record| kill_with_env(CONTAINER_ID, &record.container_id));
            join_all(kills).await;
        }
    }
    Ok(())
}

/// Why the supervisor ends.
#[derive(Debug, PartialEq, Eq)]
enum SupervisorEnd {
    Terminated,
    /// The folder was removed by hand.
    Removed,
    /// The folder was removed by hand, and another create made it again, with pods and a supervisor of its own.
    Replaced,
}

async fn run(
    kubelet: Rc<Kubelet>,
    lock: &File,
    (mut reload, stop): (Hangups, impl Future<Output = ()>),
) -> Result<SupervisorEnd, Error> {
    tokio::pin!(stop);
    let mut external_names = ExternalNames::default();
    // Masters resolve an external ZooKeeper at once. Names that take longer are added later.
    let first = tokio::time::timeout(FIRST_LOOKUP_TIMEOUT, external_names.refresh(&kubelet.desired())).await;
    tracing::debug!("external names resolved in time: {}", first.is_ok());
    let lines = Rc::new(RefCell::new(external_names.lines()));
    tokio::task::spawn_local(housekeeping(kubelet.clone(), external_names, lines.clone()));
    let observed = kubelet.dir.observed()?;
    tracing::info!("supervisor started with {} existing pods", observed.pods.len());
    kubelet.pods_created.set(match observed.pods_created {
        0 => first_number(),
        created => created,
    });
    kubelet.driver_address.set(observed.driver_address);
    kubelet.manage(observed.pods);
    let mut last_written = String::new();
    loop {
        let reconciled = reconcile(&kubelet, &lines.borrow(), &mut last_written);
        let again = async {
            match &reconciled {
                Ok(()) => std::future::pending().await,
                // A full disk must not stop the supervisor: it keeps the cluster alive.
                Err(error) => {
                    tracing::warn!("{}; retrying", with_sources(error));
                    tokio::time::sleep(RETRY_DELAY).await;
                }
            }
        };
        tokio::select! {
            () = &mut stop => return Ok(SupervisorEnd::Terminated),
            () = reload.next() => {}
            () = kubelet.changed.notified() => {}
            () = again => {}
        }
        match kubelet.dir.desired() {
            Ok(None) => return Ok(SupervisorEnd::Removed),
            _ if !kubelet.dir.has_supervisor_lock(lock) => {
                // The files of a folder that is being removed go one by one.
                tokio::time::sleep(RETRY_DELAY).await;
                return Ok(match kubelet.dir.desired() {
                    Ok(None) => SupervisorEnd::Removed,
                    _ => SupervisorEnd::Replaced,
                });
            }
            Ok(Some(desired)) => kubelet.set_desired(desired),
            Err(error) => tracing::warn!("{error}"),
        }
    }
}

/// Reconciles the desired and the observed state once.
fn reconcile(kubelet: &Rc<Kubelet>, external_lines: &str, last_written: &mut String) -> Result<(), Error> {
    create_and_delete(kubelet, external_lines, last_written)?;
    write_hosts(kubelet, &kubelet.pods(), external_lines)?;
    write_observed(kubelet, last_written)
}

/// Truncates logs, resolves external names and has the folder checked, periodically.
async fn housekeeping(kubelet: Rc<Kubelet>, mut external_names: ExternalNames, lines: Rc<RefCell<String>>) {
    loop {
        tokio::time::sleep(HOUSEKEEPING_INTERVAL).await;
        logs::cut(&kubelet.dir);
        external_names.refresh(&kubelet.desired()).await;
        lines.replace(external_names.lines());
        kubelet.changed.notify_one();
    }
}

fn create_and_delete(kubelet: &Rc<Kubelet>, external_lines: &str, last_written: &mut String) -> Result<(), Error> {
    let sets = kubelet.desired().sets();
    let steps = stateful_set::steps(&sets, &kubelet.pods());
    let mut new = Vec::new();
    if steps.iter().any(|step| matches!(step, PodStep::Create { .. })) {
        // No other cluster may choose addresses until the new ones are written.
        let _turn = kubelet.store.lock_addresses()?;
        let mut taken = taken(&kubelet.store)?;
        choose_driver_address(kubelet, &mut taken);
        for step in &steps {
            if let PodStep::Create { set, ordinal } = step
                && let Some(set) = sets.iter().find(|candidate| candidate.name_any() == *set)
            {
                new.push(new_pod(kubelet, set, *ordinal, &mut taken));
            }
        }
        let mut observed = kubelet.observed(vec![]);
        observed.pods.extend(new.iter().cloned());
        last_written.clear();
        kubelet.dir.write_observed(&observed)?;
        // The names must be in the hosts file before the first process resolves them.
        let pods: Vec<_> = observed.pods.into_iter().map(|record| record.pod).collect();
        write_hosts(kubelet, &pods, external_lines)?;
    }
    kubelet.manage(new);
    for step in steps {
        if let PodStep::Delete { pod } = step {
            kubelet.delete(&pod);
        }
    }
    Ok(())
}

/// The number from which a new cluster counts its pods. It differs from that of an earlier cluster of the same name: if that cluster's data
/// were kept, its masters remember workers by address, and a worker that a recovering master contacts there considers itself registered.
fn first_number() -> u32 {
    // It grows faster in a second than a cluster's initial number of pods.
    (Timestamp::now().as_millisecond() as u32).wrapping_mul(16).max(1)
}

fn new_pod(kubelet: &Kubelet, set: &StatefulSet, ordinal: i32, taken: &mut BTreeSet<IpAddr>) -> PodRecord {
    let namespace = kubelet.dir.namespace.as_str();
    let uid = std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
    let uid = uid.trim().to_owned();
    let mut pod = stateful_set::pod(set, ordinal, namespace, "", uid.clone());
    // The path differs per user: the addresses of another user's cluster of the same name are not among the known ones.
    let seed = kubelet.dir.path().display().to_string();
    let number = kubelet.pods_created.get();
    let address = choose_address(&pod.name_any(), &seed, number, &ports(&pod), taken);
    pod.status.get_or_insert_default().pod_ip = address.map(|address| address.to_string());
    kubelet.pods_created.set(number + 1);
    PodRecord {
        pod,
        process: None,
        container_id: format!("{}{uid}", kubelet.dir.container_id_prefix()),
        failures: 0,
    }
}

/// Chooses the one address of all drivers in the user's shell. It is part of the observed state, so that their web UIs can be routed.
fn choose_driver_address(kubelet: &Kubelet, taken: &mut BTreeSet<IpAddr>) {
    if kubelet.driver_address.get().is_some() {
        return;
    }
    let seed = format!("{} drivers", kubelet.dir.path().display());
    let ports: Vec<_> = DRIVER_UI_PORTS.collect();
    kubelet
        .driver_address
        .set(choose_address("drivers", &seed, 0, &ports, taken));
}

/// An address on which these ports are free, as in [`addresses::free`]. It counts as taken from now on.
fn choose_address(
    subject: &str,
    seed: &str,
    further: u32,
    ports: &[u16],
    taken: &mut BTreeSet<IpAddr>,
) -> Option<IpAddr> {
    let free = addresses::free(seed, further, ports, taken);
    let reported = free.inspect_err(|&port| tracing::warn!("{subject}: {}", addresses::taken_message(port)));
    let address = reported.ok()?;
    taken.insert(address);
    Some(address)
}

/// Addresses of all clusters' pods and drivers.
fn taken(store: &Store) -> Result<BTreeSet<IpAddr>, Error> {
    let mut taken = BTreeSet::new();
    for dir in store.clusters(None)? {
        // The addresses of an unreadable cluster are found by probing their ports.
        taken.extend(dir.observed().unwrap_or_default().addresses());
    }
    Ok(taken)
}

fn write_hosts(kubelet: &Kubelet, pods: &[Pod], external_lines: &str) -> Result<(), Error> {
    let external_names = format!("{}{external_lines}", external_names::of_this_machine());
    let services = kubelet.desired().services();
    let text = hosts::hosts(kubelet.dir.namespace.as_str(), &services, pods, &external_names);
    let path = kubelet.dir.hosts_file();
    if std::fs::read_to_string(&path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    write_file(&path, text.as_bytes())
}

fn write_observed(kubelet: &Kubelet, last_written: &mut String) -> Result<(), Error> {
    let pods = kubelet.pods();
    let sets = kubelet.desired().sets();
    let sets = sets.iter().map(|set| stateful_set::with_status(set, &pods));
    let observed = kubelet.observed(sets.collect());
    let text = serde_json::to_string(&observed).unwrap_or_default();
    if *last_written == text {
        return Ok(());
    }
    kubelet.dir.write_observed(&observed)?;
    *last_written = text;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::local::store::DesiredState;

    #[tokio::test(start_paused = true)]
    async fn the_loss_of_the_folder_ends_the_supervisor() {
        for (is_replaced, end) in [(false, SupervisorEnd::Removed), (true, SupervisorEnd::Replaced)] {
            let folder = tempfile::tempdir().unwrap();
            let dir = ClusterDir::at(&folder.path().join("default/spark")).unwrap();
            let create = || {
                std::fs::create_dir_all(dir.path()).unwrap();
                dir.write_desired(&DesiredState::default()).unwrap();
                dir.lock_supervisor().unwrap().unwrap()
            };
            let lock = create();
            let kubelet = Kubelet::new(Store::open().unwrap(), dir.clone(), DesiredState::default());
            let supervisor = run(kubelet, &lock, (Hangups::listen().unwrap(), std::future::pending()));
            let removal = async {
                tokio::time::sleep(HOUSEKEEPING_INTERVAL / 2).await;
                std::fs::remove_dir_all(dir.path()).unwrap();
                let successor = is_replaced.then(create);
                tokio::time::sleep(HOUSEKEEPING_INTERVAL).await;
                drop(successor);
            };
            let work = async {
                tokio::select! {
                    ended = supervisor => ended.unwrap(),
                    () = removal => panic!("the supervisor goes on"),
                }
            };
            assert_eq!(LocalSet::new().run_until(work).await, end);
        }
    }
}
