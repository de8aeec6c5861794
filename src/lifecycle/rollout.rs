//! Replaces pods in order: ZooKeeper servers, then masters, then workers, then the others, each stage after the
//! previous one is done. Masters and workers never change at the same time: a leader elected meanwhile would take a
//! worker that is being decommissioned for a new one. The leading master is replaced last, so that leadership changes
//! once. If a rollout is interrupted, the StatefulSets of later stages are unchanged, and the next create continues.

use std::cmp::Reverse;
use std::ops::ControlFlow::{Break, Continue};
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::core::DynamicObject;
use serde_json::{Value, json};

use crate::console::progress::Progress;
use crate::lifecycle::differences::restarts;
use crate::lifecycle::plan::Plan;
use crate::lifecycle::wait::{Patience, with_logs};
use crate::lifecycle::{Error, longer};
use crate::model::kind::Kind;
use crate::model::labels::{COMPONENT, Component};
use crate::model::reports::MasterStatus;
use crate::platform::poll::poll_until;
use crate::platform::{LiveObjects, Observation, Platform};
use crate::render::Resource;
use crate::render::inventory::Inventory;
use crate::render::workloads::ON_DELETE;
use crate::spec::words::{are, counted};
use crate::state::readiness::NotReady;
use crate::state::{ClusterState, Facts, cluster_state, is_ready, pods_of};

/// The label with the revision of a pod's StatefulSet.
const REVISION: &str = "controller-revision-hash";
/// How long to wait for a leader, or for workers to register with a new one, before the next pod is replaced anyway:
/// the running version may be unable to do so, and waiting would not help. Above Spark's recovery (15 s) and the
/// workers' pause between attempts.
const STALLED_AFTER: Duration = Duration::from_secs(40);

/// How the pods of a stage are replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By the StatefulSet controller: one at a time, from the highest ordinal.
    Rolling,
    /// One at a time, the leading master last.
    LeaderLast,
    /// All at once: old and new pods cannot work together.
    AtOnce,
}

/// StatefulSets that are applied together.
#[derive(Debug, PartialEq)]
pub struct Stage<'a> {
    pub sets: Vec<&'a Resource>,
    /// The StatefulSet whose pods are replaced before the next stage, and how; `None` if there is nothing to wait for.
    pub replaced: Option<(String, Mode)>,
}

/// The StatefulSets of a plan in order.
pub fn stages<'a>(plan: &'a Plan, live: &LiveObjects) -> Vec<Stage<'a>> {
    let other_spark = plan.change.is_some();
    let mut stages: Vec<Stage<'a>> = Vec::new();
    let mut sets: Vec<_> = plan.apply.iter().filter(|set| set.kind == Kind::StatefulSet).collect();
    sets.sort_by_key(|set| rank(set));
    for set in sets {
        let there = live.get(&(set.kind, set.name.clone()));
        let replaced = there
            .filter(|there| restarts(set, there) || is_unfinished(there))
            .map(|there| (set.name.clone(), mode(set, there, other_spark)));
        match stages.last_mut() {
            // New and scaled StatefulSets disturb nothing.
            Some(stage) if stage.replaced.is_none() || rank(stage.sets[0]) == rank(set) => {
                stage.sets.push(set);
                stage.replaced = stage.replaced.take().or(replaced);
            }
            _ => stages.push(Stage {
                sets: vec![set],
                replaced,
            }),
        }
    }
    // The controller completes the last stage alone if it can.
    if let Some(stage) = stages.last_mut()
        && stage.replaced.as_ref().is_some_and(|(_, mode)| *mode == Mode::Rolling)
    {
        stage.replaced = None;
    }
    stages
}

fn component(set: &Value) -> Option<&str> {
    set["metadata"]["labels"][COMPONENT].as_str()
}

fn rank(set: &Resource) -> u8 {
    let component = component(&set.object);
    let is = |expected: Component| component == Some(expected.as_str());
    match () {
        () if is(Component::ZooKeeper) => 0,
        () if is(Component::Master) => 1,
        () if is(Component::Worker) => 2,
        () => 3,
    }
}

fn mode(set: &Resource, there: &DynamicObject, other_spark: bool) -> Mode {
    // The arguments of a master name its ensemble: masters of two ensembles would both lead. Those of a ZooKeeper
    // server say whether servers authenticate each other.
    let arguments = |set: &Value| set["spec"]["template"]["spec"]["containers"][0]["args"].clone();
    let is_apart = arguments(&set.object) != arguments(&there.data);
    match rank(set) {
        1 if other_spark || is_apart => Mode::AtOnce,
        1 => Mode::LeaderLast,
        // An interrupted run that replaced all at once held them.
        0 if is_apart || is_held(there) => Mode::AtOnce,
        2 if other_spark || is_held(there) => Mode::AtOnce,
        _ => Mode::Rolling,
    }
}

/// Whether an interrupted run left the replacement of this set's pods unfinished.
fn is_unfinished(there: &DynamicObject) -> bool {
    let status = &there.data["status"];
    let (current, update) = (&status["currentRevision"], &status["updateRevision"]);
    is_held(there) || (update.is_string() && current != update)
}

/// Whether pods are replaced only when they are deleted.
pub fn is_held(there: &DynamicObject) -> bool {
    there.data["spec"]["updateStrategy"]["type"] == ON_DELETE
}

/// The StatefulSet with update strategy `OnDelete`: pods are replaced only when they are deleted.
pub fn held(set: &Value) -> Value {
    let mut set = set.clone();
    set["spec"]["updateStrategy"] = json!({"type": ON_DELETE});
    set
}

/// The next action.
#[derive(Debug, PartialEq)]
enum Next {
    Done,
    /// Wait for this without a limit.
    Wait(String),
    /// Wait for this up to [`STALLED_AFTER`].
    WaitAtMost(String),
    Replace(Vec<Pod>),
}

/// Whether pods must be replaced in order: while a master runs, ready or not, because it may be slow or restarting.
/// Without a running master there is nothing to protect or to wait for, unless old and new pods of a set cannot work
/// together: then a rolling update would never complete.
pub async fn needs_order(stages: &[Stage<'_>], platform: &dyn Platform) -> Result<bool, Error> {
    let mut replaced = stages.iter().filter_map(|stage| stage.replaced.as_ref()).peekable();
    if replaced.peek().is_none() {
        return Ok(false);
    }
    // A watch would have no pods yet where the API server is slow.
    let pods = platform.pods().await?;
    let at_once = replaced.filter(|(_, mode)| *mode == Mode::AtOnce);
    let mut apart = at_once.flat_map(|(set, _)| pods.iter().filter(|pod| is_of(pod, set)));
    Ok(pods_of(&pods, Component::Master).any(runs) || apart.any(runs))
}

/// Whether a container of the pod runs or is about to restart.
fn runs(pod: &Pod) -> bool {
    let mut statuses = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten());
    statuses.any(|container| {
        let state = container.state.as_ref();
        container.ready || state.is_some_and(|state| state.running.is_some() || state.terminated.is_some())
    })
}

/// Replaces the pods of an applied set, and returns when all of them work.
pub async fn replace(
    platform: &dyn Platform,
    (set, mode): (&str, Mode),
    inventory: &Inventory,
    timeout: Duration,
    progress: &Progress,
) -> Result<(), Error> {
    let mut patience = Patience::default();
    let mut stalled_since: Option<Instant> = None;
    poll_until(platform.poll_interval(), timeout, async || {
        let facts = platform.facts(Observation::Repeated).await?;
        let state = cluster_state(platform.namespace().as_str(), inventory, &facts);
        let is_stalled = stalled_since.is_some_and(|since| since.elapsed() >= STALLED_AFTER);
        let missing = match next(&facts, &state, set, mode, is_stalled) {
            Next::Done => return Ok(Break(())),
            Next::Replace(pods) => {
                stalled_since = None;
                let names: Vec<_> = pods.iter().map(ResourceExt::name_any).collect();
                progress.part("Replacing", &names.join(", "));
                platform.replace_pods(set, &pods).await?;
                "the new pods".to_owned()
            }
            Next::Wait(missing) => {
                stalled_since = None;
                missing
            }
            Next::WaitAtMost(missing) => {
                stalled_since.get_or_insert_with(Instant::now);
                missing
            }
        };
        // Other pods may fail because of the replacement, such as masters while their ZooKeeper server restarts, or for
        // a reason that the change fixes.
        let mut hopeless = patience.observe(platform, &facts, progress).await;
        hopeless.retain(|trouble| trouble.subject == set || is_new_pod(&facts, set, &trouble.subject));
        if !hopeless.is_empty() {
            return Err(Error::DoesNotComeUp {
                troubles: with_logs(platform, &facts, hopeless).await,
            });
        }
        Ok(Continue(Error::NotInTime {
            subject: format!("not all pods of {set} are replaced"),
            waited: timeout,
            missing: vec![missing],
            help: format!(
                "the StatefulSets after {set} are unchanged: run the same command again to continue; {}",
                longer(timeout)
            ),
        }))
    })
    .await
}

fn next(facts: &Facts, state: &ClusterState, name: &str, mode: Mode, is_stalled: bool) -> Next {
    let unknown = || Next::Wait(format!("the controller of {name}"));
    let Some(set) = facts.sets.iter().find(|set| set.name_any() == name) else {
        return unknown();
    };
    let Some(revision) = revision(set) else {
        return unknown();
    };
    let pods: Vec<_> = facts.pods.iter().filter(|pod| is_of(pod, name)).collect();
    let is_going = |pod: &Pod| pod.metadata.deletion_timestamp.is_some();
    let is_new = |pod: &Pod| pod.labels().get(REVISION).map(String::as_str) == Some(revision);
    let outdated: Vec<_> = pods
        .iter()
        .copied()
        .filter(|pod| !is_new(pod) && !is_going(pod))
        .collect();
    let replicas = usize::try_from(set.spec.replicas.unwrap_or(1)).unwrap_or_default();
    let of_all = format!(
        "{} of {} of {name} {} up to date",
        replicas.saturating_sub(outdated.len()),
        counted(replicas, "pod"),
        are(replicas)
    );
    if mode == Mode::AtOnce && !outdated.is_empty() {
        return Next::Replace(outdated.into_iter().cloned().collect());
    }
    // One at a time: wait while another pod is missing or not ready.
    let is_away = pods.len() < replicas || pods.iter().any(|pod| is_going(pod));
    let fresh = pods.iter().find(|pod| is_new(pod) && !works(facts, pod));
    if let Some(fresh) = fresh {
        return Next::Wait(format!("{} is not ready; {of_all}", fresh.name_any()));
    }
    if is_away || (mode == Mode::Rolling && !outdated.is_empty()) {
        return Next::Wait(of_all);
    }
    // A broken pod does no work, and replacing it may fix it.
    if let Some(broken) = outdated.iter().find(|pod| !is_ready(pod)) {
        return Next::Replace(vec![(*broken).clone()]);
    }
    let unsettled = unsettled(facts, state);
    if !unsettled.is_empty() && !is_stalled {
        return Next::WaitAtMost(unsettled.join("; "));
    }
    let leader = state.leader().map(|leader| leader.pod.name.as_str());
    let order = |pod: &&&Pod| (Some(pod.name_any().as_str()) == leader, Reverse(ordinal(pod)));
    match outdated.iter().min_by_key(order) {
        Some(pod) => Next::Replace(vec![(*pod).clone()]),
        None => Next::Done,
    }
}

/// The update revision, once the controller has observed the latest generation.
fn revision(set: &StatefulSet) -> Option<&str> {
    let status = set.status.as_ref()?;
    let is_observed = status.observed_generation >= set.metadata.generation;
    status.update_revision.as_deref().filter(|_| is_observed)
}

/// Whether a pod has the set's update revision.
fn is_new_pod(facts: &Facts, set: &str, name: &str) -> bool {
    let known = facts.sets.iter().find(|candidate| candidate.name_any() == set);
    let revision = known.and_then(revision);
    let mut pods = facts
        .pods
        .iter()
        .filter(|pod| pod.name_any() == name && is_of(pod, set));
    pods.any(|pod| revision.is_some() && pod.labels().get(REVISION).map(String::as_str) == revision)
}

fn is_of(pod: &Pod, set: &str) -> bool {
    let mut owners = pod.owner_references().iter();
    owners.any(|owner| owner.kind == "StatefulSet" && owner.name == set)
}

fn ordinal(pod: &Pod) -> Option<u32> {
    pod.name_any().rsplit('-').next()?.parse().ok()
}

/// Whether a pod is ready. A master must also report ALIVE or STANDBY.
fn works(facts: &Facts, pod: &Pod) -> bool {
    let is_master = Component::of(pod.labels()) == Some(Component::Master);
    let status = facts.masters.get(&pod.name_any());
    let status = status.and_then(|report| Some(report.as_ref().ok()?.status));
    let takes_part = matches!(status, Some(MasterStatus::Alive | MasterStatus::Standby));
    is_ready(pod) && (!is_master || takes_part)
}

/// What the cluster lacks before the next pod may be replaced.
fn unsettled(facts: &Facts, state: &ClusterState) -> Vec<String> {
    let blocks = |missing: &&NotReady| {
        matches!(
            missing,
            NotReady::ZooKeeper { .. }
                | NotReady::MastersSilent { .. }
                | NotReady::NoLeader { .. }
                | NotReady::SeveralLeaders { .. }
        )
    };
    let mut missing: Vec<_> = state.not_ready.iter().filter(blocks).map(ToString::to_string).collect();
    // All ready workers must be registered with the leader. The others do not count.
    let running = pods_of(&facts.pods, Component::Worker)
        .filter(|pod| is_ready(pod))
        .count();
    let registered = state.workers.registered as usize;
    if registered < running {
        let workers = counted(running, "running worker");
        missing.push(format!("{registered} of {workers} {} registered", are(running)));
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::plan::plan;
    use crate::lifecycle::spark_change::SparkChange;
    use crate::model::reports::MasterReport;
    use crate::render::render;
    use crate::spec::ClusterSpec;
    use crate::spec::resolve::{Source, resolve};

    fn spec(text: &str) -> ClusterSpec {
        let source = Source {
            name: "sparkha.yaml",
            text,
        };
        resolve(Some(source), &Default::default()).unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn live(text: &str) -> LiveObjects {
        let there = render(&spec(text)).objects.into_iter().map(|resource| {
            let object = serde_json::from_value(resource.object).unwrap();
            ((resource.kind, resource.name), object)
        });
        there.collect()
    }

    /// The sets of each stage, without the cluster's name, and what is waited for.
    fn staged(live: &LiveObjects, after: &str) -> Vec<String> {
        let after = spec(after);
        let rendered = render(&after);
        let change = SparkChange::between(live, &rendered.objects);
        let plan = plan(&rendered, live, None, change, false);
        let stages = stages(&plan, live).into_iter().map(|stage| {
            let sets: Vec<_> = stage
                .sets
                .iter()
                .map(|set| set.name.trim_start_matches("spark-"))
                .collect();
            let replaced = stage.replaced.map(|(set, mode)| format!(": {set} {mode:?}"));
            sets.join(" ") + &replaced.unwrap_or_default()
        });
        stages.collect()
    }

    #[test]
    fn masters_are_replaced_before_workers_and_workers_before_the_rest() {
        let base = "connect: true\nhistory: {eventLogs: 's3a://b/e'}\ns3: {}\n";
        assert_eq!(
            staged(&LiveObjects::new(), base),
            ["zookeeper master worker history connect"]
        );
        assert_eq!(
            staged(&live(base), &format!("{base}sparkConf: {{spark.worker.timeout: 30}}\n")),
            [
                "zookeeper master: spark-master LeaderLast",
                "worker: spark-worker Rolling",
                "history connect"
            ]
        );
        assert_eq!(
            staged(&live(base), &format!("{base}image: spark:4.2.1\n")),
            [
                "zookeeper: spark-zookeeper Rolling",
                "master: spark-master AtOnce",
                "worker: spark-worker AtOnce",
                "history connect"
            ]
        );
    }

    #[test]
    fn masters_of_two_ensembles_are_replaced_at_once() {
        assert_eq!(
            staged(&live("masters: {count: 1}\n"), ""),
            ["zookeeper master: spark-master AtOnce", "worker"]
        );
    }

    #[test]
    fn a_change_of_quorum_authentication_replaces_all_servers_at_once() {
        let without = "authentication: {enabled: false}\n";
        assert_eq!(staged(&live(without), "")[0], "zookeeper: spark-zookeeper AtOnce");
        assert_eq!(
            staged(&live(""), "sparkConf: {spark.worker.timeout: 30}\n")[0],
            "zookeeper master: spark-master LeaderLast"
        );
    }

    #[test]
    fn an_interrupted_rollout_is_continued() {
        let mut there = live("");
        let masters = there.get_mut(&(Kind::StatefulSet, "spark-master".into())).unwrap();
        masters.data["spec"]["updateStrategy"]["type"] = json!(ON_DELETE);
        assert_eq!(
            staged(&there, ""),
            ["zookeeper master: spark-master LeaderLast", "worker"]
        );
        // Those that were to be replaced at once still are, although only the strategy differs by now.
        let with_history = "history: {eventLogs: 's3a://b/e'}\ns3: {}\n";
        let mut there = live(with_history);
        for set in ["spark-zookeeper", "spark-worker"] {
            let set = there.get_mut(&(Kind::StatefulSet, set.into())).unwrap();
            set.data["spec"]["updateStrategy"]["type"] = json!(ON_DELETE);
        }
        assert_eq!(
            staged(&there, with_history),
            [
                "zookeeper: spark-zookeeper AtOnce",
                "master worker: spark-worker AtOnce",
                "history"
            ]
        );
    }

    fn facts(masters: &[(&str, bool, Option<MasterStatus>)]) -> Facts {
        let set = json!({
            "metadata": {"name": "spark-master", "generation": 2},
            "spec": {"replicas": 3, "serviceName": "", "selector": {}, "template": {}},
            "status": {"observedGeneration": 2, "replicas": 3, "updateRevision": "new"},
        });
        let pods = masters.iter().enumerate().map(|(ordinal, (revision, ready, _))| {
            let container = json!({"name": "m", "image": "", "imageID": "", "ready": ready, "restartCount": 0});
            let owner = json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "spark-master", "uid": "u"}]);
            let labels = json!({COMPONENT: "master", REVISION: revision});
            let metadata =
                json!({"name": format!("spark-master-{ordinal}"), "labels": labels, "ownerReferences": owner});
            serde_json::from_value(json!({"metadata": metadata, "status": {"containerStatuses": [container]}})).unwrap()
        });
        let reports = masters.iter().enumerate().map(|(ordinal, (_, _, status))| {
            let report = status.map(|status| MasterReport {
                status,
                url: String::new(),
                workers: vec![],
                activeapps: vec![],
                completedapps: vec![],
            });
            (format!("spark-master-{ordinal}"), report.ok_or_else(String::new))
        });
        Facts {
            pods: pods.collect(),
            sets: vec![serde_json::from_value(set).unwrap()],
            masters: reports.collect(),
            ..Facts::default()
        }
    }

    /// The pods that are replaced next; `None` while waiting.
    fn replaced(masters: &[(&str, bool, Option<MasterStatus>)], mode: Mode, is_stalled: bool) -> Option<Vec<String>> {
        let facts = facts(masters);
        let external = "zookeeper: {external: {servers: ['z:2181']}}\n";
        let inventory = Inventory::of(&spec(external), &[]);
        let state = cluster_state("n", &inventory, &facts);
        match next(&facts, &state, "spark-master", mode, is_stalled) {
            Next::Replace(pods) => Some(pods.iter().map(ResourceExt::name_any).collect()),
            Next::Done => Some(vec![]),
            Next::Wait(_) | Next::WaitAtMost(_) => None,
        }
    }

    #[test]
    fn the_leader_is_replaced_last_and_each_pod_is_awaited() {
        use MasterStatus::{Alive, Recovering, Standby};
        let of = |masters: &[_]| replaced(masters, Mode::LeaderLast, false);
        let is = |names: &[&str]| Some(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        let (alive, standby, silent) = (Some(Alive), Some(Standby), None);
        assert_eq!(
            of(&[("old", true, standby), ("old", true, standby), ("old", true, alive)]),
            is(&["spark-master-1"])
        );
        assert_eq!(
            of(&[("old", true, standby), ("new", false, silent), ("old", true, alive)]),
            None
        );
        assert_eq!(
            of(&[("old", true, standby), ("new", true, silent), ("old", true, alive)]),
            None
        );
        assert_eq!(
            of(&[("old", true, standby), ("new", true, standby), ("old", true, alive)]),
            is(&["spark-master-0"])
        );
        assert_eq!(
            of(&[("new", true, standby), ("old", true, alive)]),
            None,
            "one is missing"
        );
        assert_eq!(
            of(&[("new", true, standby), ("new", true, standby), ("old", true, alive)]),
            is(&["spark-master-2"])
        );
        // The new leader recovers first.
        assert_eq!(
            of(&[
                ("new", true, Some(Recovering)),
                ("new", true, standby),
                ("new", true, standby)
            ]),
            None
        );
        assert_eq!(
            of(&[("new", true, alive), ("new", true, standby), ("new", true, standby)]),
            is(&[])
        );
    }

    #[test]
    fn broken_old_pods_are_replaced_and_a_broken_new_pod_stops_the_rollout() {
        use MasterStatus::{Alive, Standby};
        let of = |masters: &[_], stalled| replaced(masters, Mode::LeaderLast, stalled);
        let is = |names: &[&str]| Some(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        let (alive, standby) = (Some(Alive), Some(Standby));
        let broken = [("old", false, None), ("old", true, alive), ("old", true, standby)];
        assert_eq!(of(&broken, false), is(&["spark-master-0"]));
        assert_eq!(
            of(
                &[("new", false, None), ("old", true, alive), ("old", true, standby)],
                true
            ),
            None
        );
        // No master leads with the running version.
        let leaderless = [("old", true, standby), ("old", true, standby), ("new", true, standby)];
        assert_eq!(of(&leaderless, false), None);
        assert_eq!(of(&leaderless, true), is(&["spark-master-1"]));
        assert_eq!(
            replaced(&leaderless, Mode::AtOnce, false),
            is(&["spark-master-0", "spark-master-1"])
        );
        assert_eq!(
            replaced(&leaderless, Mode::Rolling, true),
            None,
            "left to the controller"
        );
    }
}
