//! Logs of pods, through the API server. While they are followed, pods that appear and containers that start again are followed too, and a
//! stream that is lost is taken up where it was.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::io::AsyncBufReadExt;
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::LogParams;
use kube::runtime::{WatchStreamExt, watcher};
use tokio::sync::{mpsc, watch};

use super::{Error, Lines, Options, Write, executors, in_order};
use crate::logs::{Line, Seen, Time, Wanted, stamped};
use crate::observe::Facts;
use crate::platform::kubernetes::{self, Cluster};
use crate::platform::observer::{Ask, Observer};
use crate::render::labels::{Component, INSTANCE};
use crate::routing::Member;
use crate::spark::MasterStatus;
use crate::spec::names::ClusterName;
use crate::steps::preflight::inventory_object;

/// Before a lost stream is asked for again.
const PAUSE: Duration = Duration::from_millis(500);
/// Lines that wait for a slow reader.
const WAITING: usize = 1024;

/// The pods of one cluster, its drivers among them.
pub struct Pods {
    pub cluster: Cluster,
    pub name: ClusterName,
    pub wanted: Wanted,
    pub options: Options,
}

impl Pods {
    /// Writes the lines. Following never ends by itself.
    pub async fn write(mut self, write: Write<'_>) -> Result<(), Error> {
        let found = self.cluster.list_of::<Pod>(&self.selector()).await?;
        let mut pods: Vec<_> = found.into_iter().filter(|pod| self.is_of_cluster(pod)).collect();
        if pods.is_empty() {
            inventory_object(&self.cluster, &self.name).await?;
        }
        if self.options.leader {
            self.only_the_leader(&pods).await?;
        }
        let workers: Vec<_> = pods
            .iter()
            .filter(|pod| Component::of(pod.labels()) == Some(Component::Worker))
            .cloned()
            .collect();
        pods.retain(|pod| self.is_wanted(pod));
        let applications: Vec<_> = self.wanted.applications().map(str::to_owned).collect();
        if pods.is_empty() && applications.is_empty() && !self.options.follow {
            return Err(Error::Usage {
                message: format!("{} has no such pod now", self.name),
                help: format!(
                    "`sparkha status {}` shows its parts; `--follow` waits for pods",
                    self.name
                ),
            });
        }
        if self.options.follow {
            return self.follow(applications, write).await;
        }
        let mut logs: Vec<Lines> = Vec::new();
        let opened = futures::future::join_all(pods.iter().map(|pod| self.open(pod))).await;
        for (pod, opened) in pods.iter().zip(opened) {
            match opened {
                Ok(lines) => logs.push(lines),
                // It has not started yet, or was never restarted.
                Err(kubernetes::Error::Rejected { code: 400, message, .. }) => {
                    tracing::warn!("{}: {message}", pod.name_any());
                }
                Err(error) => return Err(error.into()),
            }
        }
        for application in &applications {
            logs.extend(executors::logs(&self.cluster, &workers, application, &self.options).await?);
        }
        in_order(logs, write).await
    }

    fn selector(&self) -> String {
        format!("{INSTANCE}={}", self.name)
    }

    fn is_of_cluster(&self, pod: &Pod) -> bool {
        // Any address will do: it may have none yet.
        let address = Some("0.0.0.0");
        let namespace = self.cluster.namespace().as_str();
        let mut metadata = pod.metadata.clone();
        metadata.deletion_timestamp = None;
        Member::of(&metadata, address, namespace, self.name.as_str()).is_some()
    }

    fn is_wanted(&self, pod: &Pod) -> bool {
        self.wanted.has(Component::of(pod.labels()), &pod.name_any())
    }

    async fn only_the_leader(&mut self, pods: &[Pod]) -> Result<(), Error> {
        let masters = pods
            .iter()
            .filter(|pod| Component::of(pod.labels()) == Some(Component::Master));
        let mut observer = Observer::new(self.cluster.clone());
        let facts: Facts = observer.ask(masters.cloned().collect(), vec![], Ask::Running).await;
        let alive = facts
            .masters
            .iter()
            .find(|(_, report)| report.as_ref().is_ok_and(|report| report.status == MasterStatus::Alive));
        match alive {
            Some((leader, _)) => {
                self.wanted.parts = vec![crate::logs::Part::Pod(leader.clone())];
                Ok(())
            }
            None => Err(Error::Usage {
                message: "no master leads now".into(),
                help: "leave --leader out: `sparkha logs masters`".into(),
            }),
        }
    }

    async fn open(&self, pod: &Pod) -> Result<Lines, kubernetes::Error> {
        let params = LogParams {
            previous: self.options.previous,
            ..self.first()
        };
        open(&self.cluster, &pod.name_any(), &params).await
    }

    /// What of a log that is there already is wanted.
    fn first(&self) -> LogParams {
        LogParams {
            since_seconds: self.options.since.map(|since| since.as_secs().max(1) as i64),
            tail_lines: self.options.tail.map(|tail| tail as i64),
            timestamps: true,
            ..LogParams::default()
        }
    }

    async fn follow(self, applications: Vec<String>, write: Write<'_>) -> Result<(), Error> {
        let (sender, mut lines) = mpsc::channel(WAITING);
        let (workers, worker_pods) = watch::channel(Vec::new());
        for application in applications {
            let (cluster, pods, options) = (self.cluster.clone(), worker_pods.clone(), self.options.clone());
            tokio::spawn(executors::follow(cluster, pods, application, options, sender.clone()));
        }
        tokio::spawn(self.watch(sender, workers));
        while let Some(line) = lines.recv().await {
            write(&line?)?;
        }
        Ok(())
    }

    /// Follows every container of the wanted pods, now and later.
    async fn watch(self, sender: mpsc::Sender<Result<Line, Error>>, workers: watch::Sender<Vec<Pod>>) {
        let config = watcher::Config::default().labels(&self.selector());
        self.cluster.count_request();
        let mut events = pin!(watcher(self.cluster.api::<Pod>(), config).default_backoff());
        let mut known: HashMap<String, watch::Sender<Option<Pod>>> = HashMap::new();
        let mut begun = std::collections::HashSet::new();
        // Of what is there when it begins, only the end may be wanted; of what comes later, everything.
        let mut is_first = true;
        while let Some(event) = events.next().await {
            let pod = match event {
                Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => pod,
                Ok(watcher::Event::InitDone) => {
                    is_first = false;
                    continue;
                }
                Ok(watcher::Event::Delete(pod)) => {
                    workers.send_modify(|workers| workers.retain(|worker| worker.uid() != pod.uid()));
                    if let Some(pod) = known.remove(&pod.uid().unwrap_or_default()) {
                        pod.send_replace(None);
                    }
                    continue;
                }
                Ok(watcher::Event::Init) => continue,
                Err(error) => {
                    tracing::info!("the watch of pods was cut off and is taken up again: {error}");
                    continue;
                }
            };
            if !self.is_of_cluster(&pod) {
                continue;
            }
            if Component::of(pod.labels()) == Some(Component::Worker) {
                workers.send_modify(|workers| {
                    workers.retain(|worker| worker.uid() != pod.uid());
                    workers.push(pod.clone());
                });
            }
            if !self.is_wanted(&pod) {
                continue;
            }
            let uid = pod.uid().unwrap_or_default();
            let id = container(&pod).and_then(|container| container.container_id.clone());
            let latest = known.entry(uid).or_insert_with(|| watch::channel(None).0);
            latest.send_replace(Some(pod));
            if let Some(id) = id
                && begun.insert(id.clone())
            {
                let first = match is_first {
                    true => self.first(),
                    false => LogParams {
                        timestamps: true,
                        ..LogParams::default()
                    },
                };
                let (cluster, latest) = (self.cluster.clone(), latest.subscribe());
                tokio::spawn(follow_container(cluster, latest, id, first, sender.clone()));
            }
        }
    }
}

/// A pod of ours has one container.
fn container(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()
}

/// Where the log of one run of a container is to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// It runs.
    Running,
    /// It has ended, and no other has begun.
    Ended,
    /// Another has begun.
    Previous,
    Gone,
}

fn place(pod: Option<&Pod>, id: &str) -> Place {
    let Some(container) = pod.and_then(container) else {
        return Place::Gone;
    };
    let last = container
        .last_state
        .as_ref()
        .and_then(|state| state.terminated.as_ref());
    if container.container_id.as_deref() == Some(id) {
        match container.state.as_ref().is_some_and(|state| state.running.is_some()) {
            true => Place::Running,
            false => Place::Ended,
        }
    } else if last.and_then(|last| last.container_id.as_deref()) == Some(id) {
        Place::Previous
    } else {
        Place::Gone
    }
}

/// Sends all lines of one run of a container, each once, however often the stream is lost.
async fn follow_container(
    cluster: Cluster,
    latest: watch::Receiver<Option<Pod>>,
    id: String,
    first: LogParams,
    sender: mpsc::Sender<Result<Line, Error>>,
) {
    let mut seen = Seen::default();
    loop {
        let (name, place) = {
            let pod = latest.borrow();
            (pod.as_ref().map(ResourceExt::name_any), place(pod.as_ref(), &id))
        };
        let (Some(name), false) = (name, place == Place::Gone) else {
            return;
        };
        let mut params = first.clone();
        params.follow = place == Place::Running;
        params.previous = place == Place::Previous;
        if let Some(last) = seen.last {
            params.since_seconds = None;
            params.tail_lines = None;
            params.since_time = Timestamp::from_nanosecond(last).ok();
        }
        seen.again();
        match open(&cluster, &name, &params).await {
            Ok(mut lines) => {
                while let Some(line) = lines.next().await {
                    if seen.is_new(line.time) && sender.send(Ok(line)).await.is_err() {
                        return;
                    }
                }
                if place != Place::Running {
                    return;
                }
            }
            Err(error @ kubernetes::Error::Forbidden { .. }) => {
                let _ = sender.send(Err(error.into())).await;
                return;
            }
            Err(error) => tracing::info!("{error}; trying again"),
        }
        if sender.is_closed() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Opens a log. What cannot be read ends it: whoever follows opens it again.
async fn open(cluster: &Cluster, pod: &str, params: &LogParams) -> Result<Lines, kubernetes::Error> {
    let api = cluster.api::<Pod>();
    let action = format!("read the log of {pod}");
    let reader = cluster.call(&action, || api.log_stream(pod, params)).await?;
    let source: Arc<str> = pod.into();
    let follow = params.follow;
    let lines = stream::unfold((Box::pin(reader), 0 as Time), move |(mut reader, before)| {
        let source = source.clone();
        async move {
            let mut bytes = Vec::new();
            let read = reader.read_until(b'\n', &mut bytes).await;
            // Half a line will come again, whole.
            let is_half = follow && !bytes.ends_with(b"\n");
            if read.is_err() || bytes.is_empty() || is_half {
                return None;
            }
            let text = String::from_utf8_lossy(&bytes);
            let (time, text) = stamped(text.trim_end_matches(['\n', '\r']));
            let time = time.unwrap_or(before);
            let text = text.to_owned();
            Some((Line { source, time, text }, (reader, time)))
        }
    });
    Ok(lines.boxed())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_log_of_a_run_moves_when_the_container_starts_again() {
        let pod = |id: &str, state: &str, last: &str| -> Pod {
            serde_json::from_value(json!({
                "metadata": {"name": "p"},
                "status": {"containerStatuses": [{
                    "name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 1, "containerID": id,
                    "state": {state: {"exitCode": 0}}, "lastState": {"terminated": {"exitCode": 1, "containerID": last}},
                }]},
            }))
            .unwrap()
        };
        assert_eq!(place(Some(&pod("b", "running", "a")), "b"), Place::Running);
        assert_eq!(place(Some(&pod("b", "terminated", "a")), "b"), Place::Ended);
        assert_eq!(place(Some(&pod("b", "running", "a")), "a"), Place::Previous);
        assert_eq!(place(Some(&pod("c", "running", "b")), "a"), Place::Gone);
        assert_eq!(place(None, "a"), Place::Gone);
    }
}
