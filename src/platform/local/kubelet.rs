//! The part of the kubelet: keeps each pod's process alive. Whatever it exits with, it is started again, at once the first time and
//! then with the kubelet's back-off; a failed liveness probe ends it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::ControlFlow::{Break, Continue};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::rc::Rc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    Pod, PodSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use rustix::process::Signal;
use tokio::process::{Child, Command};
use tokio::sync::Notify;

use super::cgroup::Groups;
use super::container::{self, Launch, Surroundings};
use super::pod::{container_of, grace_of};
use super::probe::{Series, Target, Verdict};
use super::process::{MARK, ProcessId, bearing, end_bearing};
use super::store::{ClusterDir, PodRecord, Store, Wanted};
use super::translate::Translation;
use super::{addresses, logs, volumes};
use crate::model::error_chain::with_sources;
use crate::platform::poll::poll_until;

/// The kubelet's back-off: none before the first restart, then this, doubled up to [`BACK_OFF_MAX`].
const BACK_OFF: Duration = Duration::from_secs(10);
const BACK_OFF_MAX: Duration = Duration::from_secs(300);
/// A container that ran so long has recovered.
const RECOVERED_AFTER: Duration = Duration::from_secs(600);
/// What a pod waits for whose ports are taken everywhere; no kubelet has a word for it.
const NO_ADDRESS: &str = "AddressNotAvailable";
/// How long a port may stay taken before it is another's, and how often to look. Of a killed process its environment goes first, by which
/// it is known, and its sockets long after: 100 ms and more with the memory of a JVM.
const PORTS_TIMEOUT: Duration = Duration::from_secs(2);
const LOOK_AT_PORTS: Duration = Duration::from_millis(10);
/// How often to look whether what a container waits for has come.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Keeps the pods of one cluster.
pub struct Kubelet {
    pub store: Store,
    pub dir: ClusterDir,
    wanted: RefCell<Rc<Wanted>>,
    members: RefCell<BTreeMap<String, Rc<Member>>>,
    /// As in [`super::store::Seen`].
    pub made: Cell<u32>,
    /// The address for drivers that run in the user's own shell.
    pub drivers: Cell<Option<IpAddr>>,
    /// Told whenever something of a pod has changed.
    pub changed: Notify,
}

struct Member {
    record: RefCell<PodRecord>,
    deletion: Notify,
}

/// A container's process.
enum Running {
    Child(Box<Child>, ProcessId),
    /// Started by a supervisor before this one.
    Adopted(ProcessId),
}

/// Why a container's run is over.
enum End {
    Exited(Option<i32>),
    Unhealthy(String),
    Deleted,
}

impl Kubelet {
    pub fn new(store: Store, dir: ClusterDir, wanted: Wanted) -> Rc<Self> {
        Rc::new(Self {
            store,
            dir,
            wanted: RefCell::new(Rc::new(wanted)),
            members: RefCell::default(),
            made: Cell::default(),
            drivers: Cell::default(),
            changed: Notify::new(),
        })
    }

    pub fn wanted(&self) -> Rc<Wanted> {
        self.wanted.borrow().clone()
    }

    pub fn set_wanted(&self, wanted: Wanted) {
        *self.wanted.borrow_mut() = Rc::new(wanted);
    }

    pub fn records(&self) -> Vec<PodRecord> {
        self.members
            .borrow()
            .values()
            .map(|member| member.record.borrow().clone())
            .collect()
    }

    pub fn pods(&self) -> Vec<Pod> {
        self.members
            .borrow()
            .values()
            .map(|member| member.record.borrow().pod.clone())
            .collect()
    }

    /// Takes pods into its care: new ones, or those of a supervisor before.
    pub fn care_for(self: &Rc<Self>, records: Vec<PodRecord>) {
        let members: Vec<_> = records
            .into_iter()
            .map(|record| {
                Rc::new(Member {
                    record: RefCell::new(record),
                    deletion: Notify::new(),
                })
            })
            .collect();
        for member in &members {
            let name = member.record.borrow().pod.name_any();
            self.members.borrow_mut().insert(name, member.clone());
        }
        for member in members {
            tokio::task::spawn_local(self.clone().live(member));
        }
    }

    /// Asks a pod to end; it is gone when its process and its folder are.
    pub fn delete(&self, name: &str) {
        if let Some(member) = self.members.borrow().get(name) {
            member.record.borrow_mut().pod.metadata.deletion_timestamp = Some(Time(Timestamp::now()));
            member.deletion.notify_one();
            self.changed.notify_one();
        }
    }

    async fn live(self: Rc<Self>, member: Rc<Member>) {
        loop {
            if member.is_deleting() {
                // A supervisor before this one asked it to go: it has its grace all the same.
                member.let_go().await;
                break;
            }
            match self.run_container(&member).await {
                Ok((running, target)) => {
                    let began = Instant::now();
                    let end = member.until_end(running, &target, &self.changed).await;
                    if matches!(end, End::Deleted) {
                        break;
                    }
                    self.note_end(&member, end, began.elapsed()).await;
                }
                Err((kind, reason)) => {
                    self.set_waiting(&member, kind, &reason);
                    tokio::select! {
                        () = tokio::time::sleep(LOOK_AGAIN) => {}
                        () = member.deletion.notified() => break,
                    }
                    if kind == NO_ADDRESS {
                        // The pod after this one looks for an address anew.
                        break;
                    }
                    continue;
                }
            }
            if !member.gets_its_ports().await {
                tracing::info!("{} gets another address: a port of its is taken", member.name());
                break;
            }
            let pause = member.back_off();
            if !pause.is_zero() {
                let message = format!("back-off {} s restarting failed container", pause.as_secs());
                self.set_waiting(&member, "CrashLoopBackOff", &message);
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = member.deletion.notified() => break,
            }
            let mut record = member.record.borrow_mut();
            record.failures += 1;
            member.status(&mut record, |status| status.restart_count += 1);
        }
        self.bury(&member).await;
    }

    /// Removes what is left of a pod.
    async fn bury(&self, member: &Member) {
        let (name, mark) = (member.name(), member.record.borrow().mark.clone());
        end_bearing(MARK, &mark).await;
        Groups::remove(&mark);
        let folder = self.dir.pod(&name);
        if let Err(error) = std::fs::remove_dir_all(&folder)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!("failed to remove {}: {error}", folder.display());
        }
        self.members.borrow_mut().remove(&name);
        self.changed.notify_one();
    }

    /// The container's process: the one that runs already, or a new one.
    ///
    /// # Errors
    /// With a kubelet's word for what it waits for, and the reason.
    async fn run_container(&self, member: &Rc<Member>) -> Result<(Running, Target), (&'static str, String)> {
        const CONFIG: &str = "CreateContainerConfigError";
        let wanted = self.wanted();
        let (pod, process, mark) = {
            let record = member.record.borrow();
            (record.pod.clone(), record.process.clone(), record.mark.clone())
        };
        let adopted = process.filter(|process| process.is_alive() && bearing(MARK, &mark).contains(process));
        if adopted.is_none() {
            // A run of which only strays are left.
            end_bearing(MARK, &mark).await;
        }
        let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
        let address = address.ok_or_else(|| {
            let ports: Vec<_> = ports(&pod).iter().map(u16::to_string).collect();
            (
                NO_ADDRESS,
                format!("no loopback address has its ports {} free", ports.join(", ")),
            )
        })?;
        let volumes = volumes::prepare(&self.store, &self.dir, &wanted, &pod).map_err(|reason| (CONFIG, reason));
        let translation = match &volumes {
            Ok(volumes) => volumes.translation.clone(),
            // What runs goes on, whatever became of its volumes.
            Err(_) if adopted.is_some() => Translation::default(),
            Err(waiting) => return Err(waiting.clone()),
        };
        let around = Surroundings {
            dir: &self.dir,
            wanted: &wanted,
            translation: &translation,
            mark: &mark,
        };
        let launch = match container::launch(&pod, &around) {
            Err(_) if adopted.is_some() => Launch::default(),
            launch => launch.map_err(|reason| (CONFIG, reason))?,
        };
        let running = match adopted {
            Some(process) => Running::Adopted(process),
            None => {
                volumes?.fill().map_err(|reason| (CONFIG, reason))?;
                let mut record = member.record.borrow_mut();
                if record.process.take().is_some() {
                    // It ended while nobody was looking.
                    member.status(&mut record, |status| status.restart_count += 1);
                }
                drop(record);
                self.spawn(&pod, &launch, &mark)
                    .map_err(|reason| ("RunContainerError", reason))?
            }
        };
        member.record.borrow_mut().process = Some(running.process().clone());
        self.set_running(member);
        Ok((
            running,
            Target {
                address,
                launch,
                translation,
            },
        ))
    }

    fn spawn(&self, pod: &Pod, launch: &Launch, mark: &str) -> Result<Running, String> {
        let name = pod.name_any();
        let (output, errors) = logs::open(&self.dir, &name).map_err(|error| with_sources(&error))?;
        let groups = Groups::limit(
            mark,
            container_of(pod).and_then(|container| container.resources.as_ref()),
        );
        let child = command(launch, &groups)
            .current_dir(self.dir.pod(&name))
            .env_clear()
            .envs(&launch.environment)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(|error| format!("failed to start {}: {error}", launch.program))?;
        let process = child.id().and_then(|pid| ProcessId::of(pid as i32));
        let process = process.ok_or_else(|| format!("{} ended at once", launch.program))?;
        Ok(Running::Child(Box::new(child), process))
    }

    async fn note_end(&self, member: &Member, end: End, ran: Duration) {
        let (code, reason) = match end {
            End::Exited(code) => (
                code.unwrap_or(137),
                if code == Some(0) { "Completed" } else { "Error" }.to_owned(),
            ),
            End::Unhealthy(reason) => (137, format!("Unhealthy: {reason}")),
            End::Deleted => return,
        };
        tracing::info!(
            "{} ended: exit code {code} ({reason}) after {} s",
            member.name(),
            ran.as_secs()
        );
        let mark = member.record.borrow().mark.clone();
        end_bearing(MARK, &mark).await;
        let mut record = member.record.borrow_mut();
        record.process = None;
        if ran >= RECOVERED_AFTER {
            record.failures = 0;
        }
        let ended = ContainerState {
            terminated: Some(ContainerStateTerminated {
                exit_code: code,
                reason: Some(reason),
                ..Default::default()
            }),
            ..Default::default()
        };
        member.status(&mut record, |status| {
            status.ready = false;
            status.state = Some(ended.clone());
            status.last_state = Some(ended);
        });
        self.changed.notify_one();
    }

    fn set_running(&self, member: &Member) {
        let mut record = member.record.borrow_mut();
        member.status(&mut record, |status| {
            status.state = Some(ContainerState {
                running: Some(ContainerStateRunning {
                    started_at: Some(Time(Timestamp::now())),
                }),
                ..Default::default()
            });
        });
        if let Some(status) = &mut record.pod.status {
            status.phase = Some("Running".into());
        }
        self.changed.notify_one();
    }

    fn set_waiting(&self, member: &Member, reason: &str, message: &str) {
        let mut record = member.record.borrow_mut();
        member.status(&mut record, |status| {
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

impl Member {
    fn name(&self) -> String {
        self.record.borrow().pod.name_any()
    }

    fn is_deleting(&self) -> bool {
        self.record.borrow().pod.metadata.deletion_timestamp.is_some()
    }

    /// Changes the status of the only container.
    fn status(&self, record: &mut PodRecord, change: impl FnOnce(&mut ContainerStatus)) {
        let container = container_of(&record.pod).cloned().unwrap_or_default();
        let statuses = record
            .pod
            .status
            .get_or_insert_default()
            .container_statuses
            .get_or_insert_default();
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

    /// Waits until all ports of a container that has ended can be had again; false if they are another's.
    async fn gets_its_ports(&self) -> bool {
        let free = poll_until(LOOK_AT_PORTS, PORTS_TIMEOUT, async || match self.has_its_ports() {
            true => Ok(Break(())),
            false => Ok(Continue(())),
        });
        free.await.is_ok()
    }

    fn has_its_ports(&self) -> bool {
        let record = self.record.borrow();
        let ip = record
            .pod
            .status
            .as_ref()
            .and_then(|status| status.pod_ip.as_ref()?.parse::<IpAddr>().ok());
        ip.is_some_and(|ip| ports(&record.pod).iter().all(|&port| addresses::is_free(ip, port)))
    }

    async fn until_end(&self, mut running: Running, target: &Target, changed: &Notify) -> End {
        let end = tokio::select! {
            code = running.ended() => return End::Exited(code),
            reason = self.probes(target, changed) => End::Unhealthy(reason),
            () = self.deletion.notified() => End::Deleted,
        };
        let process = running.process().clone();
        let grace = grace_of(&self.record.borrow().pod);
        let ending = async {
            let reaped = running.ended();
            futures::join!(end_process(&process, grace), reaped);
        };
        ending.await;
        end
    }

    /// Ends a process of which somebody else was the parent.
    async fn let_go(&self) {
        let (process, grace) = {
            let record = self.record.borrow();
            (record.process.clone(), grace_of(&record.pod))
        };
        if let Some(process) = process {
            end_process(&process, grace).await;
        }
    }

    /// Runs the probes, that of the start alone before the others; ends with a reason when the container is to be ended.
    async fn probes(&self, target: &Target, changed: &Notify) -> String {
        let container = self.container();
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

    fn container(&self) -> Container {
        container_of(&self.record.borrow().pod).cloned().unwrap_or_default()
    }
}

impl Running {
    fn process(&self) -> &ProcessId {
        match self {
            Running::Child(_, process) | Running::Adopted(process) => process,
        }
    }

    /// Waits for its end; the exit code is known of one's own children only.
    async fn ended(&mut self) -> Option<i32> {
        match self {
            Running::Child(child, _) => {
                let status = child.wait().await.ok()?;
                status.code().or_else(|| Some(128 + status.signal()?))
            }
            Running::Adopted(process) => {
                if let Err(error) = process.ended().await {
                    tracing::warn!("failed to watch process {}: {error}", process.pid);
                }
                None
            }
        }
    }
}

/// Ends a process as a kubelet does: asks, and after the grace period does not ask.
pub async fn end_process(process: &ProcessId, grace: Duration) {
    for (signal, patience) in [(Signal::TERM, grace), (Signal::KILL, Duration::from_secs(10))] {
        if let Err(error) = process.signal(signal) {
            tracing::warn!("failed to end process {}: {error}", process.pid);
        }
        if tokio::time::timeout(patience, process.ended()).await.is_ok() {
            return;
        }
    }
}

/// Ports that a pod listens on.
pub fn ports(pod: &Pod) -> Vec<u16> {
    ports_of(pod.spec.as_ref())
}

/// Ports that the pods of a set listen on.
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

/// The process enters its control groups by itself, before it becomes the container's.
fn command(launch: &Launch, groups: &Groups) -> Command {
    let doors: Vec<_> = groups.doors().collect();
    if doors.is_empty() {
        let mut command = Command::new(&launch.program);
        command.args(&launch.arguments);
        return command;
    }
    let mut command = Command::new("/bin/sh");
    let enter = "until [ \"$1\" = -- ]; do echo $$ >\"$1\" || true; shift; done; shift; exec \"$@\"";
    command
        .args(["-c", enter, "sh"])
        .args(doors)
        .arg("--")
        .arg(&launch.program)
        .args(&launch.arguments);
    command
}
