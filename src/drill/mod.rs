//! `sparkha failover`, a drill: takes the leader or a ZooKeeper server away and follows how the cluster gets over it. [`Timeline`] is pure; a
//! [`DrillPlatform`] is where the cluster runs.

pub mod probe_job;

use std::ops::ControlFlow::{Break, Continue};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde::Serialize;
use tokio::task::LocalSet;

use crate::console::progress::Progress;
use crate::drill::probe_job::{ProbeJob, ProbeResult, capacity_for_probe_job};
use crate::jobs::submit::capacity::ExecutorCapacity;
use crate::lifecycle::Error;
use crate::lifecycle::inventory::{inventory_object, read_inventory};
use crate::lifecycle::local::LocalView;
use crate::lifecycle::wait::{KubernetesView, View};
use crate::model::reports::{MasterStatus, ZooKeeperMode};
use crate::platform::kubernetes::Cluster;
use crate::platform::local::process::{MARK, end_bearing};
use crate::platform::local::store::{ClusterDir, PodRecord};
use crate::platform::poll::poll_until;
use crate::render::inventory::Inventory;
use crate::spec::names::ClusterName;
use crate::state::{ClusterState, Facts, ZooKeeperState, cluster_state};

/// What is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum DrillTarget {
    Leader,
    ZooKeeper,
}

/// How the drill goes about it.
#[derive(Clone, Debug)]
pub struct DrillOptions {
    pub target: DrillTarget,
    /// It gets no time to end.
    pub hard: bool,
    /// Whether a job is to run meanwhile.
    pub probe_job: bool,
    pub timeout: Duration,
}

/// What a cluster goes through, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// What was taken away does not answer any more.
    Lost,
    /// The latch is gone: another master has been elected, and recovers.
    Elected,
    /// A master is ALIVE, another one if it was the leader that went.
    Alive,
    /// All workers are registered there.
    Workers,
    /// What was taken away is back.
    Back,
    /// All ZooKeeper servers are in the quorum.
    Quorum,
    /// All is as it was asked for.
    Whole,
}

const MASTERS: &[Phase] = &[
    Phase::Lost,
    Phase::Elected,
    Phase::Alive,
    Phase::Workers,
    Phase::Back,
    Phase::Whole,
];
const ZOOKEEPERS: &[Phase] = &[
    Phase::Lost,
    Phase::Back,
    Phase::Quorum,
    Phase::Alive,
    Phase::Workers,
    Phase::Whole,
];

/// A phase, and when it was first seen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DrillStep {
    pub phase: Phase,
    /// After the loss; `None` if it was not seen.
    pub seconds: Option<f64>,
}

/// How it went.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DrillResult {
    pub namespace: String,
    pub name: String,
    pub target: DrillTarget,
    /// The pod that was taken away.
    pub victim: String,
    /// Who led before, and who leads now.
    pub leader_before: String,
    pub leader: Option<String>,
    /// The cluster is whole, and the job went on.
    pub recovered: bool,
    pub steps: Vec<DrillStep>,
    /// What the job saw that ran meanwhile; `None` if none was run.
    #[serde(rename = "canary")]
    pub probe_job: Option<ProbeResult>,
    /// What is still missing.
    pub missing: Vec<String>,
}

impl DrillResult {
    /// All phases were reached in time.
    pub fn is_whole(&self) -> bool {
        self.steps.iter().all(|step| step.seconds.is_some())
    }
}

/// Runs the drill on Kubernetes.
pub async fn on_kubernetes(
    cluster: &Cluster,
    name: &ClusterName,
    options: &DrillOptions,
    progress: &Arc<Progress>,
) -> Result<DrillResult, Error> {
    let inventory = read_inventory(&inventory_object(cluster, name).await?)?;
    let mut view = KubernetesView::of(cluster, name).await;
    // The job is submitted beside it.
    let drill = drill(
        cluster,
        &mut view,
        (cluster.namespace().as_str(), name),
        &inventory,
        options,
        progress,
    );
    LocalSet::new().run_until(drill).await
}

/// Runs the drill on this machine.
pub async fn on_this_machine(
    dir: &ClusterDir,
    options: &DrillOptions,
    progress: &Arc<Progress>,
) -> Result<DrillResult, Error> {
    let mut view = LocalView::of(dir);
    let Some((inventory, _)) = view.observe().await? else {
        return Err(Error::no_cluster(&dir.name, &dir.namespace));
    };
    let place = (dir.namespace.as_str(), &dir.name);
    drill(dir, &mut view, place, &inventory, options, progress).await
}

/// Where a cluster runs, and how its pods are taken away there.
trait DrillPlatform {
    async fn kill(&self, pod: &Pod, hard: bool) -> Result<(), Error>;

    /// A job to run meanwhile, for so long at most.
    async fn probe_job(
        &self,
        name: &ClusterName,
        inventory: &Inventory,
        at_most: Duration,
        progress: &Arc<Progress>,
    ) -> Result<ProbeJob, Error>;
}

impl DrillPlatform for Cluster {
    async fn kill(&self, pod: &Pod, hard: bool) -> Result<(), Error> {
        Ok(self.delete_pod(pod, hard.then_some(0)).await?)
    }

    async fn probe_job(
        &self,
        name: &ClusterName,
        _: &Inventory,
        at_most: Duration,
        progress: &Arc<Progress>,
    ) -> Result<ProbeJob, Error> {
        Ok(ProbeJob::on_kubernetes(self, name, at_most, progress))
    }
}

impl DrillPlatform for ClusterDir {
    async fn kill(&self, pod: &Pod, hard: bool) -> Result<(), Error> {
        let is_it = |record: &&PodRecord| record.pod.uid() == pod.uid();
        let observed = self.seen()?;
        let Some(record) = observed.pods.iter().find(is_it) else {
            return Ok(());
        };
        if hard {
            end_bearing(MARK, &record.mark).await;
        } else if let Some(process) = &record.process {
            let ended = process.signal(rustix::process::Signal::TERM);
            ended.map_err(Error::io(format!("end {}", pod.name_any())))?;
        }
        Ok(())
    }

    async fn probe_job(
        &self,
        _: &ClusterName,
        inventory: &Inventory,
        _: Duration,
        _: &Arc<Progress>,
    ) -> Result<ProbeJob, Error> {
        // It ends with whoever began it.
        ProbeJob::on_this_machine(self, inventory).await
    }
}

/// How often to look.
const SAMPLE_EVERY: Duration = Duration::from_millis(50);
/// How long a kubelet may take to tell that a pod is ready which answers already: `status` says by then that the cluster is in service.
const READINESS_DELAY: Duration = Duration::from_secs(5);
/// How long the job may take to its first result, and to another one at the end: on a busy machine its JVMs start slowly.
const RESULT_TIMEOUT: Duration = Duration::from_secs(180);

/// Who is to go, once all is well; nothing has been changed before.
///
/// # Errors
/// If the cluster is not in service, or has nobody to take over.
fn choose<'a>(state: &ClusterState, facts: &'a Facts, target: DrillTarget) -> Result<&'a Pod, Error> {
    if !state.ready {
        return Err(Error::NotInService {
            missing: state.not_ready.iter().map(ToString::to_string).collect(),
        });
    }
    let refused = |message: &str, help: &str| Error::Usage {
        message: message.into(),
        help: help.into(),
    };
    let name = match target {
        DrillTarget::Leader if state.masters.len() < 2 => {
            return Err(refused(
                "the cluster has one master: nobody could take over",
                "`sparkha create --masters 3` makes it highly available",
            ));
        }
        DrillTarget::Leader => leader(state),
        DrillTarget::ZooKeeper => match &state.zookeeper {
            ZooKeeperState::Managed { servers } if servers.len() > 1 => {
                // The one that costs an election of their own.
                let leading = servers
                    .iter()
                    .find(|server| server.mode == Some(ZooKeeperMode::Leader))
                    .or(servers.first());
                leading.map(|server| server.pod.name.clone())
            }
            _ => {
                return Err(refused(
                    "the cluster has no ZooKeeper ensemble of its own to take a server from",
                    "leave out --zookeeper to take the leading master away",
                ));
            }
        },
    };
    let pod = facts.pods.iter().find(|pod| Some(pod.name_any()) == name);
    pod.ok_or_else(|| Error::NotInService {
        missing: vec!["its pod has gone".into()],
    })
}

/// Runs the drill.
async fn drill(
    platform: &impl DrillPlatform,
    view: &mut impl View,
    (namespace, name): (&str, &ClusterName),
    inventory: &Inventory,
    options: &DrillOptions,
    progress: &Arc<Progress>,
) -> Result<DrillResult, Error> {
    // Not even a job disturbs a cluster whose drill could not be run.
    let facts = poll_until(SAMPLE_EVERY, READINESS_DELAY, async || {
        let facts = view.facts().await?;
        match choose(&cluster_state(namespace, inventory, &facts), &facts, options.target).map(drop) {
            Ok(()) => Ok(Break(facts)),
            Err(error @ Error::NotInService { .. }) => Ok(Continue(error)),
            Err(error) => Err(error),
        }
    });
    let facts = facts.await?;
    let probe_job = match options.probe_job {
        true => Some(start_job(platform, name, inventory, &facts, options, progress).await?),
        false => None,
    };
    let disturbed = disturb(platform, view, namespace, inventory, options, progress).await;
    let result = match (probe_job, &disturbed) {
        (Some(probe_job), Ok(_)) => Some(probe_job.finish(RESULT_TIMEOUT).await),
        (Some(mut probe_job), Err(_)) => {
            // What it failed for is told, not this.
            let _ = probe_job.end().await;
            None
        }
        (None, _) => None,
    };
    let (timeline, state) = disturbed?;
    let went_on = result.as_ref().is_none_or(|result| result.went_on);
    Ok(DrillResult {
        namespace: namespace.to_owned(),
        name: state.name.clone(),
        target: options.target,
        leader: leader(&state),
        recovered: timeline.is_over() && went_on,
        victim: timeline.victim,
        leader_before: timeline.leader,
        steps: timeline.steps,
        probe_job: result,
        missing: state.not_ready.iter().map(ToString::to_string).collect(),
    })
}

/// Starts the job that is to go on, and waits for its first result.
async fn start_job(
    platform: &impl DrillPlatform,
    name: &ClusterName,
    inventory: &Inventory,
    facts: &Facts,
    options: &DrillOptions,
    progress: &Arc<Progress>,
) -> Result<ProbeJob, Error> {
    let mut reports = facts.masters.values().flatten();
    let leading = reports.find(|report| report.status == MasterStatus::Alive);
    match leading.map(|report| capacity_for_probe_job(&report.workers, inventory)) {
        Some(ExecutorCapacity::Never(reason)) => return Err(Error::NoResult { reason }),
        Some(ExecutorCapacity::Later(reason)) => progress.warn(&format!(
            "no room for the probe job at present: {reason}. `sparkha jobs` shows what runs; --no-canary runs the drill without a job"
        )),
        Some(ExecutorCapacity::Enough) | None => {}
    }
    let mut probe_job = platform
        .probe_job(name, inventory, options.timeout + 2 * RESULT_TIMEOUT, progress)
        .await?;
    probe_job.wait_for_first_result(RESULT_TIMEOUT, progress).await?;
    progress.done("A job runs");
    Ok(probe_job)
}

/// Takes the victim away, and follows what becomes of the cluster.
async fn disturb(
    platform: &impl DrillPlatform,
    view: &mut impl View,
    namespace: &str,
    inventory: &Inventory,
    options: &DrillOptions,
    progress: &Progress,
) -> Result<(Timeline, ClusterState), Error> {
    // Much may have changed while the job started. Connections that Spark closed meanwhile are opened before anything is measured.
    let facts = view.facts().await?;
    let before = cluster_state(namespace, inventory, &facts);
    let victim = choose(&before, &facts, options.target)?.clone();
    let mut timeline = Timeline::new(options.target, &victim, leader(&before).unwrap_or_default());
    let began = Instant::now();
    platform.kill(&victim, options.hard).await?;
    progress.done(&format!("{} taken away", victim.name_any()));
    loop {
        let facts = view.facts().await?;
        let state = cluster_state(namespace, inventory, &facts);
        for phase in timeline.observe(&state, &facts, began.elapsed()) {
            progress.done(&format!(
                "{} after {:.2} s",
                phase.as_str(options.target),
                began.elapsed().as_secs_f64()
            ));
        }
        if timeline.is_over() || began.elapsed() >= options.timeout {
            return Ok((timeline, state));
        }
        tokio::time::sleep(SAMPLE_EVERY).await;
    }
}

fn leader(state: &ClusterState) -> Option<String> {
    let leads = state
        .masters
        .iter()
        .find(|master| master.status == Some(MasterStatus::Alive));
    leads.map(|master| master.pod.name.clone())
}

impl Phase {
    pub fn as_str(self, target: DrillTarget) -> &'static str {
        match (self, target) {
            (Phase::Lost, _) => "gone",
            (Phase::Elected, _) => "another master elected",
            (Phase::Alive, DrillTarget::Leader) => "another master ALIVE",
            (Phase::Alive, DrillTarget::ZooKeeper) => "a master ALIVE",
            (Phase::Workers, _) => "all workers registered there",
            (Phase::Back, DrillTarget::Leader) => "back as a standby",
            (Phase::Back, DrillTarget::ZooKeeper) => "back",
            (Phase::Quorum, _) => "ZooKeeper whole",
            (Phase::Whole, _) => "in service",
        }
    }
}

/// What has been seen since the loss. Pure.
struct Timeline {
    target: DrillTarget,
    victim: String,
    /// The victim's pod and how often its container had been restarted: what is back is another.
    identity: (Option<String>, i32),
    /// Who led before.
    leader: String,
    steps: Vec<DrillStep>,
}

impl Timeline {
    fn new(target: DrillTarget, victim: &Pod, leader: String) -> Self {
        let phases = match target {
            DrillTarget::Leader => MASTERS,
            DrillTarget::ZooKeeper => ZOOKEEPERS,
        };
        Self {
            target,
            victim: victim.name_any(),
            identity: identity(victim),
            leader,
            steps: phases.iter().map(|&phase| DrillStep { phase, seconds: None }).collect(),
        }
    }

    /// Takes in what is seen; which phases that reaches. What is seen of a later phase proves the earlier ones that this depends on: between
    /// two looks more than one may pass.
    fn observe(&mut self, state: &ClusterState, facts: &Facts, at: Duration) -> Vec<Phase> {
        let victim = facts.pods.iter().find(|pod| pod.name_any() == self.victim);
        let replaced = victim.is_some_and(|pod| identity(pod) != self.identity);
        let status = |name: &str| state.masters.iter().find(|master| master.pod.name == name)?.status;
        let others = |statuses: &[MasterStatus]| {
            let mut others = state.masters.iter().filter(|master| {
                // A leader that was revoked may lead again.
                self.target == DrillTarget::ZooKeeper || master.pod.name != self.victim || replaced
            });
            others.any(|master| master.status.is_some_and(|status| statuses.contains(&status)))
        };
        let servers = match &state.zookeeper {
            ZooKeeperState::Managed { servers } => servers.as_slice(),
            _ => &[],
        };
        let mode = |name: &str| servers.iter().find(|server| server.pod.name == name)?.mode;
        let alive = others(&[MasterStatus::Alive]);
        let answers = match self.target {
            DrillTarget::Leader => status(&self.victim).is_some(),
            DrillTarget::ZooKeeper => mode(&self.victim).is_some(),
        };
        let lost = replaced || !answers || victim.is_none();
        let reached = |phase| match phase {
            Phase::Lost => lost || (self.target == DrillTarget::Leader && alive),
            Phase::Elected => alive || others(&[MasterStatus::Recovering, MasterStatus::CompletingRecovery]),
            Phase::Alive => alive,
            Phase::Workers => alive && state.workers.registered >= state.workers.expected,
            Phase::Back => replaced && answers,
            Phase::Quorum => replaced && servers.iter().all(|server| server.mode.is_some()),
            Phase::Whole => replaced && state.ready,
        };
        let gone = self.steps.first().is_some_and(|step| step.seconds.is_some()) || reached(Phase::Lost);
        let mut news = Vec::new();
        for step in &mut self.steps {
            // Before anything is seen to be lost, all is as it was.
            if step.seconds.is_none() && gone && reached(step.phase) {
                step.seconds = Some((at.as_secs_f64() * 100.0).round() / 100.0);
                news.push(step.phase);
            }
        }
        news
    }

    fn is_over(&self) -> bool {
        self.steps.iter().all(|step| step.seconds.is_some())
    }
}

fn identity(pod: &Pod) -> (Option<String>, i32) {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref());
    let restarts = statuses.and_then(|statuses| Some(statuses.first()?.restart_count));
    (pod.uid(), restarts.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::spec::resolve::{Overrides, resolve};

    /// What three masters in these states look like; the first pod's UID tells whether it is the old one.
    fn sample(first: &str, states: [Option<&str>; 3], workers: usize) -> (ClusterState, Facts) {
        let spec = resolve(None, &Overrides::default()).unwrap();
        let mut inventory = Inventory::of(&spec, &[]);
        inventory.cluster.workers.count = 1;
        let pod = |name: &str, uid: &str| -> Pod {
            serde_json::from_value(json!({"metadata": {"name": name, "uid": uid}})).unwrap()
        };
        let worker = json!({"id": "worker", "host": "10.0.0.9", "webuiaddress": "", "state": "ALIVE", "cores": 1, "coresused": 0, "memory": 1282, "memoryused": 0});
        let masters: BTreeMap<_, _> = states
            .iter()
            .enumerate()
            .filter_map(|(ordinal, state)| {
                let listed = if *state == Some("ALIVE") {
                    vec![worker.clone(); workers]
                } else {
                    vec![]
                };
                let report = json!({"status": (*state)?, "url": "", "workers": listed, "activeapps": []});
                Some((
                    format!("spark-master-{ordinal}"),
                    Ok(serde_json::from_value(report).unwrap()),
                ))
            })
            .collect();
        let facts = Facts {
            pods: vec![
                pod("spark-master-0", first),
                pod("spark-master-1", "b"),
                pod("spark-master-2", "c"),
            ],
            masters,
            ..Facts::default()
        };
        (cluster_state("default", &inventory, &facts), facts)
    }

    #[test]
    fn phases_are_seen_in_order_and_only_after_the_loss() {
        let (_, facts) = sample("a", [Some("ALIVE"), Some("STANDBY"), Some("STANDBY")], 1);
        let mut timeline = Timeline::new(DrillTarget::Leader, &facts.pods[0], "spark-master-0".into());
        let mut see = |first, states, workers| {
            let (state, facts) = sample(first, states, workers);
            timeline.observe(&state, &facts, Duration::from_millis(1234))
        };
        // It was told to end and has not yet: nothing has happened.
        assert_eq!(see("a", [Some("ALIVE"), Some("STANDBY"), Some("STANDBY")], 1), []);
        assert_eq!(see("a", [None, Some("STANDBY"), Some("STANDBY")], 1), [Phase::Lost]);
        assert_eq!(
            see("a", [None, Some("RECOVERING"), Some("STANDBY")], 1),
            [Phase::Elected]
        );
        assert_eq!(see("a", [None, Some("ALIVE"), Some("STANDBY")], 0), [Phase::Alive]);
        assert_eq!(see("a", [None, Some("ALIVE"), Some("STANDBY")], 1), [Phase::Workers]);
        assert_eq!(see("a2", [None, Some("ALIVE"), Some("STANDBY")], 1), []);
        assert_eq!(
            see("a2", [Some("STANDBY"), Some("ALIVE"), Some("STANDBY")], 1),
            [Phase::Back]
        );
        assert!(!timeline.is_over(), "nothing is known of ZooKeeper yet");
        assert_eq!(timeline.steps[0].seconds, Some(1.23));
    }

    #[test]
    fn more_than_one_phase_may_pass_between_two_looks() {
        let (_, facts) = sample("a", [Some("ALIVE"), Some("STANDBY"), Some("STANDBY")], 1);
        let mut timeline = Timeline::new(DrillTarget::Leader, &facts.pods[0], "spark-master-0".into());
        let (state, facts) = sample("a", [None, Some("ALIVE"), Some("STANDBY")], 1);
        assert_eq!(
            timeline.observe(&state, &facts, Duration::ZERO),
            [Phase::Lost, Phase::Elected, Phase::Alive, Phase::Workers]
        );
    }

    #[test]
    fn a_cluster_that_is_not_in_service_is_left_alone() {
        let (state, facts) = sample("a", [Some("ALIVE"), Some("STANDBY"), None], 1);
        assert!(matches!(
            choose(&state, &facts, DrillTarget::Leader),
            Err(Error::NotInService { .. })
        ));
    }
}
