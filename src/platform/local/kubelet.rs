//! The kubelet's logic: keeps each pod's process alive. A process that exits is restarted after every exit code, at once the first time and then
//! with the kubelet's back-off. A failed liveness probe terminates it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::ControlFlow::{Break, Continue};
use std::rc::Rc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, Pod,
    PodSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use tokio::process::Child;
use tokio::sync::Notify;

use super::cgroup::Groups;
use super::container::{self, Launch, LaunchContext};
use super::pod::{container_of, grace_of};
use super::probe::{ProbeTarget, Series, Verdict};
use super::process::{CONTAINER_ID, ProcessId, kill_with_env, with_env};
use super::store::{ClusterDir, DesiredState, ObservedState, PodRecord, Store};
use super::volumes::{self, Volumes};
use super::{addresses, logs};
use crate::platform::poll::poll_until;
use crate::platform::system::{Signal, exit_code};
use crate::state::address_of;

/// The kubelet's back-off: none before the first restart, then this, doubled each time up to [`BACK_OFF_MAX`].
const BACK_OFF: Duration = Duration::from_secs(10);
const BACK_OFF_MAX: Duration = Duration::from_secs(300);
/// A container that ran this long has recovered, and its back-off restarts.
const RECOVERED_AFTER: Duration = Duration::from_secs(600);
/// The waiting reason of a pod whose ports are taken everywhere. Kubernetes has no such reason.
const NO_ADDRESS: &str = "AddressNotAvailable";
/// How long a port may stay taken before it counts as another program's, and how often to check. A killed process loses the environment that
/// identifies it first, and its sockets long after: 100 ms and more with a JVM's memory.
const PORTS_TIMEOUT: Duration = Duration::from_secs(2);
const PORTS_POLL_INTERVAL: Duration = Duration::from_millis(10);
/// How often to retry a container that cannot start yet.
const WAITING_POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Runs the pods of one cluster.
pub struct Kubelet {
    pub store: Store,
    pub dir: ClusterDir,
    desired: RefCell<Rc<DesiredState>>,
    managed_pods: RefCell<BTreeMap<String, Rc<ManagedPod>>>,
    /// As in [`super::store::ObservedState`].
    pub pods_created: Cell<u32>,
    /// The address of drivers in the user's own shell.
    pub driver_address: Cell<Option<IpAddr>>,
    /// Notified when a pod has changed.
    pub changed: Notify,
}

struct ManagedPod {
    record: RefCell<PodRecord>,
    deletion: Notify,
}

/// A container's process.
enum ContainerProcess {
    Child(Box<Child>, ProcessId),
    /// Started by an earlier supervisor.
    Adopted(ProcessId),
}

/// Why a container's process ended.
enum Termination {
    Exited(Option<i32>),
    Unhealthy(String),
    Deleted,
}

impl Kubelet {
    pub fn new(store: Store, dir: ClusterDir, desired: DesiredState) -> Rc<Self> {
        Rc::new(Self {
            store,
            dir,
            desired: RefCell::new(Rc::new(desired)),
            managed_pods: RefCell::default(),
            pods_created: Cell::default(),
            driver_address: Cell::default(),
            changed: Notify::new(),
        })
    }

    pub fn desired(&self) -> Rc<DesiredState> {
        self.desired.borrow().clone()
    }

    pub fn set_desired(&self, desired: DesiredState) {
        *self.desired.borrow_mut() = Rc::new(desired);
    }

    pub fn pods(&self) -> Vec<Pod> {
        let managed_pods = self.managed_pods.borrow();
        let pods = managed_pods.values().map(|managed| managed.record.borrow().pod.clone());
        pods.collect()
    }

    /// The observed state, with these sets.
    pub fn observed(&self, sets: Vec<StatefulSet>) -> ObservedState {
        let managed_pods = self.managed_pods.borrow();
        let records = managed_pods.values().map(|managed| managed.record.borrow().clone());
        ObservedState {
            pods: records.collect(),
            sets,
            pods_created: self.pods_created.get(),
            driver_address: self.driver_address.get(),
        }
    }

    /// Starts to manage pods: new ones, or those of an earlier supervisor.
    pub fn manage(self: &Rc<Self>, records: Vec<PodRecord>) {
        for record in records {
            let managed = Rc::new(ManagedPod {
                record: RefCell::new(record),
                deletion: Notify::new(),
            });
            self.managed_pods.borrow_mut().insert(managed.name(), managed.clone());
            tokio::task::spawn_local(self.clone().run_pod(managed));
        }
    }

    /// Marks a pod for deletion. It is gone once its process and folder are.
    pub fn delete(&self, name: &str) {
        if let Some(managed) = self.managed_pods.borrow().get(name) {
            managed.record.borrow_mut().pod.metadata.deletion_timestamp = Some(Time(Timestamp::now()));
            managed.deletion.notify_one();
            self.changed.notify_one();
        }
    }

    async fn run_pod(self: Rc<Self>, managed: Rc<ManagedPod>) {
        loop {
            let PodRecord { pod, process, .. } = managed.record.borrow().clone();
            if pod.metadata.deletion_timestamp.is_some() {
                // An earlier supervisor began the deletion: the grace period applies all the same.
                if let Some(process) = process {
                    terminate_process(&process, grace_of(&pod)).await;
                }
                break;
            }
            match self.run_container(&managed).await {
                Ok((running, target)) => {
                    let began = Instant::now();
                    let end = managed.wait_for_end(running, &target, &self.changed).await;
                    if matches!(end, Termination::Deleted) {
                        break;
                    }
                    self.record_termination(&managed, end, began.elapsed()).await;
                }
                Err((kind, reason)) => {
                    self.set_waiting(&managed, kind, &reason);
                    tokio::select! {
                        () = tokio::time::sleep(WAITING_POLL_INTERVAL) => {}
                        () = managed.deletion.notified() => break,
                    }
                    if kind == NO_ADDRESS {
                        // The pod's successor searches for an address again.
                        break;
                    }
                    continue;
                }
            }
            if !managed.wait_for_ports().await {
                tracing::info!("{} gets another address: one of its ports is taken", managed.name());
                break;
            }
            let pause = managed.back_off();
            if !pause.is_zero() {
                let message = format!("back-off {} s restarting failed container", pause.as_secs());
                self.set_waiting(&managed, "CrashLoopBackOff", &message);
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = managed.deletion.notified() => break,
            }
            let mut record = managed.record.borrow_mut();
            record.failures += 1;
            managed.status(&mut record, |status| status.restart_count += 1);
        }
        self.remove_pod(&managed).await;
    }

    /// Removes a pod: its processes, cgroups and folder.
    async fn remove_pod(&self, managed: &ManagedPod) {
        let (name, container_id) = (managed.name(), managed.record.borrow().container_id.clone());
        kill_with_env(CONTAINER_ID, &container_id).await;
        Groups::remove(&container_id);
        let folder = self.dir.pod(&name);
        if let Err(error) = std::fs::remove_dir_all(&folder)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!("failed to remove {}: {error}", folder.display());
        }
        self.managed_pods.borrow_mut().remove(&name);
        self.changed.notify_one();
    }

    /// The container's process: the one that already runs, or a new one.
    ///
    /// # Errors
    /// The kubelet's waiting reason, and a message.
    async fn run_container(
        &self,
        managed: &Rc<ManagedPod>,
    ) -> Result<(ContainerProcess, ProbeTarget), (&'static str, String)> {
        const CONFIG: &str = "CreateContainerConfigError";
        let desired = self.desired();
        let PodRecord {
            pod,
            process,
            container_id,
            ..
        } = managed.record.borrow().clone();
        let adopted =
            process.filter(|process| process.is_alive() && with_env(CONTAINER_ID, &container_id).contains(process));
        if adopted.is_none() {
            // Only stray children of the last run are left.
            kill_with_env(CONTAINER_ID, &container_id).await;
        }
        let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
        let address = address.ok_or_else(|| {
            let ports: Vec<_> = ports(&pod).iter().map(u16::to_string).collect();
            (
                NO_ADDRESS,
                format!("its ports {} are not free on any loopback address", ports.join(", ")),
            )
        })?;
        let volumes = match volumes::prepare(&self.store, &self.dir, &desired, &pod) {
            // A running process stays, even if its volumes have an error now.
            Err(_) if adopted.is_some() => Volumes::default(),
            volumes => volumes.map_err(|reason| (CONFIG, reason))?,
        };
        let translation = volumes.translation.clone();
        let context = LaunchContext {
            dir: &self.dir,
            desired: &desired,
            translation: &translation,
            container_id: &container_id,
        };
        let launch = match container::launch(&pod, &context) {
            Err(_) if adopted.is_some() => Launch::default(),
            launch => launch.map_err(|reason| (CONFIG, reason))?,
        };
        let running = match adopted {
            Some(process) => ContainerProcess::Adopted(process),
            None => {
                volumes.fill().map_err(|reason| (CONFIG, reason))?;
                let mut record = managed.record.borrow_mut();
                if record.process.take().is_some() {
                    // It ended while no supervisor ran.
                    managed.status(&mut record, |status| status.restart_count += 1);
                }
                drop(record);
                let (child, process) = self
                    .start(&pod, &launch, &container_id)
                    .map_err(|reason| ("RunContainerError", reason))?;
                ContainerProcess::Child(Box::new(child), process)
            }
        };
        managed.record.borrow_mut().process = Some(running.process().clone());
        self.set_running(managed);
        Ok((
            running,
            ProbeTarget {
                address,
                launch,
                translation,
            },
        ))
    }

    fn start(&self, pod: &Pod, launch: &Launch, container_id: &str) -> Result<(Child, ProcessId), String> {
        let name = pod.name_any();
        let (output, errors) = logs::open(&self.dir, &name)?;
        let resources = container_of(pod).and_then(|container| container.resources.as_ref());
        let groups = Groups::limit(container_id, resources);
        launch.start(&groups, &self.dir.pod(&name), output.into(), errors.into())
    }

    async fn record_termination(&self, managed: &ManagedPod, end: Termination, ran: Duration) {
        let (code, reason) = match end {
            Termination::Exited(code) => (
                code.unwrap_or(137),
                if code == Some(0) { "Completed" } else { "Error" }.to_owned(),
            ),
            Termination::Unhealthy(reason) => (137, format!("Unhealthy: {reason}")),
            Termination::Deleted => return,
        };
        tracing::info!(
            "{} exited with code {code} ({reason}) after {} s",
            managed.name(),
            ran.as_secs()
        );
        let container_id = managed.record.borrow().container_id.clone();
        kill_with_env(CONTAINER_ID, &container_id).await;
        let mut record = managed.record.borrow_mut();
        record.process = None;
        if ran >= RECOVERED_AFTER {
            record.failures = 0;
        }
        let ended = ContainerState {
            terminated: Some(ContainerStateTerminated {
                exit_code: code,
                reason: Some(reason),
                finished_at: Some(Time(Timestamp::now())),
                ..Default::default()
            }),
            ..Default::default()
        };
        managed.status(&mut record, |status| {
            status.ready = false;
            status.state = Some(ended.clone());
            status.last_state = Some(ended);
        });
        self.changed.notify_one();
    }

    fn set_running(&self, managed: &ManagedPod) {
        let mut record = managed.record.borrow_mut();
        let started_at = Some(Time(Timestamp::now()));
        managed.status(&mut record, |status| {
            status.state = Some(ContainerState {
                running: Some(ContainerStateRunning { started_at }),
                ..Default::default()
            });
        });
        record.pod.status.get_or_insert_default().phase = Some("Running".into());
        self.changed.notify_one();
    }

    fn set_waiting(&self, managed: &ManagedPod, reason: &str, message: &str) {
        let mut record = managed.record.borrow_mut();
        managed.status(&mut record, |status| {
            status.ready = false;
            status.state = Some(ContainerState {
                waiting: Some(ContainerStateWaiting {
                    reason: Some(reason.to_owned()),
                    message: Some(message.to_owned()),
                }),
                ..Default::default()
            });
        });
        self.changed.notify_one();
    }
}

impl ManagedPod {
    fn name(&self) -> String {
        self.record.borrow().pod.name_any()
    }

    /// Updates the status of the only container.
    fn status(&self, record: &mut PodRecord, change: impl FnOnce(&mut ContainerStatus)) {
        let container = container_of(&record.pod).cloned().unwrap_or_default();
        let status = record.pod.status.get_or_insert_default();
        let statuses = status.container_statuses.get_or_insert_default();
        if statuses.is_empty() {
            statuses.push(ContainerStatus {
                name: container.name,
                image: container.image.unwrap_or_default(),
                ..Default::default()
            });
        }
        change(&mut statuses[0]);
    }

    fn back_off(&self) -> Duration {
        match self.record.borrow().failures {
            0 => Duration::ZERO,
            failures => BACK_OFF.saturating_mul(1 << (failures - 1).min(5)).min(BACK_OFF_MAX),
        }
    }

    /// Waits until all ports of an ended container are free again. False if another program took one.
    async fn wait_for_ports(&self) -> bool {
        let (address, ports) = {
            let record = self.record.borrow();
            (address_of(&record.pod), ports(&record.pod))
        };
        let free = poll_until(PORTS_POLL_INTERVAL, PORTS_TIMEOUT, async || {
            match address.is_some_and(|address| ports.iter().all(|&port| addresses::is_free(address, port))) {
                true => Ok(Break(())),
                false => Ok(Continue(())),
            }
        });
        free.await.is_ok()
    }

    async fn wait_for_end(&self, mut running: ContainerProcess, target: &ProbeTarget, changed: &Notify) -> Termination {
        let end = tokio::select! {
            code = running.ended() => return Termination::Exited(code),
            reason = self.probes(target, changed) => Termination::Unhealthy(reason),
            () = self.deletion.notified() => Termination::Deleted,
        };
        let process = running.process().clone();
        let grace = grace_of(&self.record.borrow().pod);
        futures::join!(terminate_process(&process, grace), running.ended());
        end
    }

    /// Runs the probes, the startup probe before the others. Returns the reason once the container must be terminated.
    async fn probes(&self, target: &ProbeTarget, changed: &Notify) -> String {
        let container = container_of(&self.record.borrow().pod).cloned().unwrap_or_default();
        let set_ready = |ready: bool| {
            let mut record = self.record.borrow_mut();
            self.status(&mut record, |status| {
                if status.ready != ready {
                    status.ready = ready;
                    changed.notify_one();
                }
            });
        };
        if let Some(probe) = &container.startup_probe
            && let Verdict::Unhealthy(reason) = Series::new(probe, target).next().await
        {
            return reason;
        }
        let readiness = async {
            let Some(probe) = &container.readiness_probe else {
                set_ready(true);
                return std::future::pending().await;
            };
            let mut series = Series::new(probe, target);
            loop {
                set_ready(matches!(series.next().await, Verdict::Healthy));
            }
        };
        let liveness = async {
            let Some(probe) = &container.liveness_probe else {
                return std::future::pending().await;
            };
            let mut series = Series::new(probe, target);
            loop {
                if let Verdict::Unhealthy(reason) = series.next().await {
                    return reason;
                }
            }
        };
        tokio::select! {
            never = readiness => never,
            reason = liveness => reason,
        }
    }
}

impl ContainerProcess {
    fn process(&self) -> &ProcessId {
        match self {
            ContainerProcess::Child(_, process) | ContainerProcess::Adopted(process) => process,
        }
    }

    /// Waits until the process ends. Only this supervisor's own children have a known exit code.
    async fn ended(&mut self) -> Option<i32> {
        match self {
            ContainerProcess::Child(child, _) => {
                let status = child.wait().await.ok()?;
                exit_code(status)
            }
            ContainerProcess::Adopted(process) => {
                if let Err(error) = process.ended().await {
                    tracing::warn!("failed to watch process {}: {error}", process.pid);
                }
                None
            }
        }
    }
}

/// Terminates a process as a kubelet does: with SIGTERM, and after the grace period with SIGKILL.
pub async fn terminate_process(process: &ProcessId, grace: Duration) {
    for (signal, patience) in [(Signal::Terminate, grace), (Signal::Kill, Duration::from_secs(10))] {
        if let Err(error) = process.signal(signal) {
            tracing::warn!("failed to terminate process {}: {error}", process.pid);
        }
        if tokio::time::timeout(patience, process.ended()).await.is_ok() {
            return;
        }
    }
}

/// The ports that a pod listens on.
pub fn ports(pod: &Pod) -> Vec<u16> {
    ports_of(pod.spec.as_ref())
}

/// The ports that the pods of a set listen on.
pub fn ports_of_set(set: &StatefulSet) -> Vec<u16> {
    ports_of(set.spec.template.spec.as_ref())
}

fn ports_of(spec: Option<&PodSpec>) -> Vec<u16> {
    let containers = spec.iter().flat_map(|spec| &spec.containers);
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| u16::try_from(port.container_port).ok())
        .collect()
}
