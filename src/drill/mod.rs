//! `sparkha failover`: stops the leader or a ZooKeeper server and measures the recovery. [`Timeline`] is pure.

pub mod probe_job;

use std::ops::ControlFlow::{Break, Continue};
use std::rc::Rc;
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
use crate::lifecycle::inventory::inventory;
use crate::model::reports::{MasterStatus, ZooKeeperMode};
use crate::platform::poll::poll_until;
use crate::platform::{Observation, Platform};
use crate::render::inventory::Inventory;
use crate::state::{ClusterState, Facts, ZooKeeperState, cluster_state};

/// The pod to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum DrillTarget {
    Leader,
    ZooKeeper,
}

/// Options of the drill.
#[derive(Clone, Debug)]
pub struct DrillOptions {
    pub target: DrillTarget,
    /// Kill without a grace period.
    pub hard: bool,
    /// Whether a job runs during the drill.
    pub probe_job: bool,
    pub timeout: Duration,
}

/// The phases of a recovery, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// The stopped server no longer responds.
    Lost,
    /// Another master has been elected and recovers.
    Elected,
    /// A master is ALIVE; another one if the leader was stopped.
    Alive,
    /// All workers are registered with it.
    Workers,
    /// The stopped server is back.
    Back,
    /// All ZooKeeper servers are in the quorum.
    Quorum,
    /// The cluster is in service as specified.
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

/// A phase and when it was first observed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DrillStep {
    pub phase: Phase,
    /// Seconds after the stop; `None` if it was not observed.
    pub seconds: Option<f64>,
}

/// Result of a drill.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DrillResult {
    pub namespace: String,
    pub name: String,
    pub target: DrillTarget,
    /// The stopped pod.
    pub victim: String,
    /// The leader before and after the drill.
    pub leader_before: String,
    pub leader: Option<String>,
    /// The cluster is in service and the job continued.
    pub recovered: bool,
    pub steps: Vec<DrillStep>,
    /// Result of the probe job; `None` if none ran.
    #[serde(rename = "canary")]
    pub probe_job: Option<ProbeResult>,
    /// What the cluster still lacks.
    pub missing: Vec<String>,
}

impl DrillResult {
    /// Whether all phases were reached in time.
    pub fn is_whole(&self) -> bool {
        self.steps.iter().all(|step| step.seconds.is_some())
    }
}

/// Runs the drill.
pub async fn drill(
    platform: &Rc<dyn Platform>,
    options: &DrillOptions,
    progress: &Arc<Progress>,
) -> Result<DrillResult, Error> {
    let inventory = inventory(platform.as_ref()).await?;
    // The job is submitted concurrently.
    let drill = drill_with(platform, &inventory, options, progress);
    LocalSet::new().run_until(drill).await
}

/// Interval of samples.
const SAMPLE_EVERY: Duration = Duration::from_millis(50);
/// How long a cluster may look as if it were not in service: a kubelet reports a pod as ready some time after it responds,
/// and on a busy machine masters and servers do not respond at once.
const READINESS_DELAY: Duration = Duration::from_secs(10);
/// How long the job may take for its first result and for another one at the end: its JVMs start slowly on a busy
/// machine.
const RESULT_TIMEOUT: Duration = Duration::from_secs(180);

/// Selects the pod to stop. Nothing has been changed before.
///
/// # Errors
/// Fails if the cluster is not in service or has no server that can take over.
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
                "the cluster has only one master: no other could take over",
                "`sparkha create --masters 3` makes it highly available",
            ));
        }
        DrillTarget::Leader => leader(state),
        DrillTarget::ZooKeeper => match &state.zookeeper {
            ZooKeeperState::Managed { servers } if servers.len() > 1 => {
                // The leading server, because stopping it causes an election.
                let mut leading = servers
                    .iter()
                    .filter(|server| server.mode == Some(ZooKeeperMode::Leader));
                leading.next().or(servers.first()).map(|server| server.pod.name.clone())
            }
            _ => {
                return Err(refused(
                    "the cluster has no ZooKeeper ensemble of its own with several servers",
                    "omit --zookeeper to stop the leading master",
                ));
            }
        },
    };
    let pod = facts.pods.iter().find(|pod| Some(pod.name_any()) == name);
    pod.ok_or_else(|| Error::NotInService {
        missing: vec!["its pod no longer exists".into()],
    })
}

/// The cluster, once it is in service, and the pod to stop.
async fn in_service(
    platform: &dyn Platform,
    inventory: &Inventory,
    target: DrillTarget,
) -> Result<(Facts, ClusterState, Pod), Error> {
    let namespace = platform.namespace().as_str();
    let look = async || {
        let facts = platform.facts(Observation::Repeated).await?;
        let state = cluster_state(namespace, inventory, &facts);
        match choose(&state, &facts, target).cloned() {
            Ok(victim) => Ok(Break((facts, state, victim))),
            Err(error @ Error::NotInService { .. }) => Ok(Continue(error)),
            Err(error) => Err(error),
        }
    };
    poll_until(SAMPLE_EVERY, READINESS_DELAY, look).await
}

async fn drill_with(
    platform: &Rc<dyn Platform>,
    inventory: &Inventory,
    options: &DrillOptions,
    progress: &Arc<Progress>,
) -> Result<DrillResult, Error> {
    // No job is started on a cluster that cannot run the drill.
    let (facts, ..) = in_service(platform.as_ref(), inventory, options.target).await?;
    let probe_job = match options.probe_job {
        true => Some(start_job(platform, inventory, &facts, options, progress).await?),
        false => None,
    };
    let disturbed = disturb(platform.as_ref(), inventory, options, progress).await;
    let result = match (probe_job, &disturbed) {
        (Some(probe_job), Ok(_)) => Some(probe_job.finish(RESULT_TIMEOUT).await),
        (Some(mut probe_job), Err(_)) => {
            // The cause of the failure is reported instead.
            let _ = probe_job.end().await;
            None
        }
        (None, _) => None,
    };
    let (timeline, state) = disturbed?;
    let went_on = result.as_ref().is_none_or(|result| result.went_on);
    Ok(DrillResult {
        namespace: platform.namespace().as_str().to_owned(),
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

/// Starts the job that must continue, and waits for its first result.
async fn start_job(
    platform: &Rc<dyn Platform>,
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
            "no capacity for the probe job at the moment: {reason}. `sparkha jobs` lists the running jobs; pass --no-canary to run the drill without a job"
        )),
        Some(ExecutorCapacity::Enough) | None => {}
    }
    let at_most = options.timeout + 2 * RESULT_TIMEOUT;
    let mut probe_job = ProbeJob::start(platform, inventory, at_most, progress).await?;
    probe_job.wait_for_first_result(RESULT_TIMEOUT, progress).await?;
    progress.done("Probe job running");
    Ok(probe_job)
}

/// Stops the victim and observes the cluster.
async fn disturb(
    platform: &dyn Platform,
    inventory: &Inventory,
    options: &DrillOptions,
    progress: &Progress,
) -> Result<(Timeline, ClusterState), Error> {
    let namespace = platform.namespace().as_str();
    // The cluster may have changed while the job started. This also reopens connections that Spark closed meanwhile,
    // before anything is measured.
    let (_, before, victim) = in_service(platform, inventory, options.target).await?;
    let mut timeline = Timeline::new(options.target, &victim, leader(&before).unwrap_or_default());
    let began = Instant::now();
    platform.kill_pod(&victim, options.hard).await?;
    progress.done(&format!("{} stopped", victim.name_any()));
    loop {
        let facts = platform.facts(Observation::Repeated).await?;
        let state = cluster_state(namespace, inventory, &facts);
        for phase in timeline.observe(&state, &facts, began.elapsed()) {
            let seconds = began.elapsed().as_secs_f64();
            progress.done(&format!("{} after {seconds:.2} s", phase.as_str(options.target)));
        }
        if timeline.is_over() || began.elapsed() >= options.timeout {
            return Ok((timeline, state));
        }
        tokio::time::sleep(SAMPLE_EVERY).await;
    }
}

fn leader(state: &ClusterState) -> Option<String> {
    state.leader().map(|master| master.pod.name.clone())
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

/// The phases observed since the stop. Pure.
struct Timeline {
    target: DrillTarget,
    victim: String,
    /// UID and restart count of the victim, which differ once it is back.
    identity: (Option<String>, i32),
    /// The leader before the drill.
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

    /// Adds a sample and returns the phases that it reaches. A later phase proves the earlier ones that it depends on,
    /// because more than one may pass between two samples.
    fn observe(&mut self, state: &ClusterState, facts: &Facts, at: Duration) -> Vec<Phase> {
        let victim = facts.pods.iter().find(|pod| pod.name_any() == self.victim);
        let replaced = victim.is_some_and(|pod| identity(pod) != self.identity);
        let status = |name: &str| state.masters.iter().find(|master| master.pod.name == name)?.status;
        let others = |statuses: &[MasterStatus]| {
            let mut others = state.masters.iter().filter(|master| {
                // A leader whose leadership was revoked may lead again.
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
            // Until the loss is observed, the state is the one from before.
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
    let mut statuses = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten());
    let restarts = statuses.next().map(|container| container.restart_count);
    (pod.uid(), restarts.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::spec::resolve::{Overrides, resolve};

    /// Three masters in these states; the UID of the first pod tells whether it is the old one.
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
    fn phases_are_observed_in_order_and_only_after_the_loss() {
        let (_, facts) = sample("a", [Some("ALIVE"), Some("STANDBY"), Some("STANDBY")], 1);
        let mut timeline = Timeline::new(DrillTarget::Leader, &facts.pods[0], "spark-master-0".into());
        let mut see = |first, states, workers| {
            let (state, facts) = sample(first, states, workers);
            timeline.observe(&state, &facts, Duration::from_millis(1234))
        };
        // It is terminating but still responds.
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
        assert!(!timeline.is_over(), "the state of ZooKeeper is not known yet");
        assert_eq!(timeline.steps[0].seconds, Some(1.23));
    }

    #[test]
    fn more_than_one_phase_may_pass_between_two_samples() {
        let (_, facts) = sample("a", [Some("ALIVE"), Some("STANDBY"), Some("STANDBY")], 1);
        let mut timeline = Timeline::new(DrillTarget::Leader, &facts.pods[0], "spark-master-0".into());
        let (state, facts) = sample("a", [None, Some("ALIVE"), Some("STANDBY")], 1);
        assert_eq!(
            timeline.observe(&state, &facts, Duration::ZERO),
            [Phase::Lost, Phase::Elected, Phase::Alive, Phase::Workers]
        );
    }

    #[test]
    fn a_cluster_that_is_not_in_service_is_not_disturbed() {
        let (state, facts) = sample("a", [Some("ALIVE"), Some("STANDBY"), None], 1);
        assert!(matches!(
            choose(&state, &facts, DrillTarget::Leader),
            Err(Error::NotInService { .. })
        ));
    }
}
