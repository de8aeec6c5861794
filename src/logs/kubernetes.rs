//! Logs of pods, through the API server. Following includes pods that appear and containers that restart, and resumes a lost stream where it ended.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow::{self, Break, Continue};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::io::AsyncBufReadExt;
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt;
use kube::api::LogParams;
use kube::runtime::{WatchStreamExt, watcher};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::lifecycle::inventory::to_read;
use crate::logs::reader::{LogReader, Logs, NewLine, Unread};
use crate::logs::selection::{LogLine, LogSelection};
use crate::logs::streams::unmarked;
use crate::logs::{Error, LineWriter, Lines, LogOptions, executors, in_order, leading_master};
use crate::model::labels::{Component, INSTANCE};
use crate::model::log_line::{Time, TimestampedLine};
use crate::platform::Platform;
use crate::platform::kubernetes::{self, Cluster};
use crate::routing::RoutedPod;
use crate::spec::names::ClusterName;

/// Pause before a lost stream is requested again.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a pod's status may take to tell that a container has restarted. Until then its log may be that of its next run.
const STATUS_DELAY: Duration = Duration::from_secs(10);
/// The longest silence after which a stream is checked: most of a cluster's logs are silent.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);
/// Lines that wait for a slow reader at most.
const WAITING: usize = 1024;

/// The pods of one cluster, its drivers among them.
pub struct PodLogs {
    pub cluster: Cluster,
    pub name: ClusterName,
    pub selection: LogSelection,
    pub options: LogOptions,
}

impl PodLogs {
    /// Writes the lines. Following never ends by itself.
    pub async fn write(mut self, platform: &dyn Platform, write: LineWriter<'_>) -> Result<(), Error> {
        let found = self.cluster.list_of::<Pod>(&self.selector()).await?;
        let mut pods: Vec<_> = found.into_iter().filter(|pod| self.is_of_cluster(pod)).collect();
        if pods.is_empty() {
            to_read(platform).await?;
        }
        if self.options.leader {
            self.selection.sources = vec![leading_master(platform, pods.clone()).await?];
        }
        let workers: Vec<_> = pods
            .iter()
            .filter(|pod| Component::of(pod.labels()) == Some(Component::Worker))
            .cloned()
            .collect();
        pods.retain(|pod| self.is_selected(pod));
        let applications: Vec<_> = self.selection.applications().map(str::to_owned).collect();
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
            let workers = workers.iter().filter_map(ResourceExt::uid).collect();
            return self.follow(applications, workers, write).await;
        }
        let mut logs: Vec<Lines> = Vec::new();
        let params = LogParams {
            previous: self.options.previous,
            ..self.first()
        };
        let opened = futures::future::join_all(pods.iter().map(|pod| open(&self.cluster, pod, &params))).await;
        let mut failure = None;
        for (pod, opened) in pods.iter().zip(opened) {
            match opened {
                Ok(lines) => logs.push(lines),
                // It has not started yet, or was never restarted.
                Err(kubernetes::Error::Rejected { code: 400, message, .. }) => {
                    tracing::warn!("{}: {message}", pod.name_any());
                }
                Err(error @ (kubernetes::Error::Forbidden { .. } | kubernetes::Error::Unauthorized { .. })) => {
                    return Err(error.into());
                }
                // A lost node must not hide the logs of the others.
                Err(error) => {
                    tracing::warn!("{}: {error}", pod.name_any());
                    failure = Some(error);
                }
            }
        }
        if let Some(error) = failure.filter(|_| logs.is_empty()) {
            return Err(error.into());
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
        // Any phase and address will do: the pod may have none yet, or have ended.
        let (phase, address) = (None, Some("0.0.0.0"));
        let namespace = self.cluster.namespace().as_str();
        let mut metadata = pod.metadata.clone();
        metadata.deletion_timestamp = None;
        RoutedPod::of(&metadata, phase, address, namespace, self.name.as_str()).is_some()
    }

    fn is_selected(&self, pod: &Pod) -> bool {
        self.selection.has(Component::of(pod.labels()), &pod.name_any())
    }

    /// What to read of a log at first.
    fn first(&self) -> LogParams {
        LogParams {
            since_seconds: self.options.since.map(|since| since.as_secs().max(1) as i64),
            tail_lines: self.options.tail.map(|tail| tail as i64),
            timestamps: true,
            ..LogParams::default()
        }
    }

    /// `old_workers` are the UIDs of those that exist now.
    async fn follow(
        self,
        applications: Vec<String>,
        old_workers: HashSet<String>,
        write: LineWriter<'_>,
    ) -> Result<(), Error> {
        let (sender, mut lines) = mpsc::channel(WAITING);
        let (workers, worker_pods) = watch::channel(Vec::new());
        for application in applications {
            let (cluster, pods, old, options) = (
                self.cluster.clone(),
                worker_pods.clone(),
                old_workers.clone(),
                self.options.clone(),
            );
            tokio::spawn(executors::follow(
                cluster,
                pods,
                old,
                application,
                options,
                sender.clone(),
            ));
        }
        tokio::spawn(self.watch(sender, workers));
        while let Some(line) = lines.recv().await {
            write(&line?)?;
        }
        Ok(())
    }

    /// Follows every container of the selected pods, current and future.
    async fn watch(self, sender: mpsc::Sender<Result<LogLine, Error>>, workers: watch::Sender<Vec<Pod>>) {
        let config = watcher::Config::default().labels(&self.selector());
        self.cluster.count_request();
        let mut events = pin!(watcher(self.cluster.api::<Pod>(), config).default_backoff());
        let mut known = KnownPods::default();
        let mut begun = HashSet::new();
        // Of existing logs, only the end may be selected; new logs are read whole.
        let mut is_first = true;
        while let Some(event) = events.next().await {
            let interrupted = "the watch of pods was interrupted and is restarted";
            let Ok(event) = event.inspect_err(|error| tracing::info!("{interrupted}: {error}")) else {
                continue;
            };
            let was_listed = matches!(event, watcher::Event::InitDone);
            let (pod, gone) = known.take(event);
            if !gone.is_empty() {
                let is_gone = |worker: &Pod| gone.contains(&worker.uid().unwrap_or_default());
                workers.send_modify(|workers| workers.retain(|worker| !is_gone(worker)));
            }
            is_first &= !was_listed;
            let Some(pod) = pod.filter(|pod| self.is_of_cluster(pod)) else {
                continue;
            };
            if Component::of(pod.labels()) == Some(Component::Worker) {
                workers.send_modify(|workers| {
                    workers.retain(|worker| worker.uid() != pod.uid());
                    workers.push(pod.clone());
                });
            }
            if !self.is_selected(&pod) {
                continue;
            }
            if let Some(id) = container(&pod).and_then(|container| container.container_id.clone())
                && begun.insert(id.clone())
                && let Some(latest) = known.latest(&pod)
            {
                let first = match is_first {
                    true => self.first(),
                    false => LogParams::default(),
                };
                let cluster = self.cluster.clone();
                tokio::spawn(follow_container(cluster, latest, id, first, sender.clone()));
            }
        }
    }
}

/// The pods that the watch has shown, as they are now, by UID. A pod missing from a new list was deleted while the watch was down.
#[derive(Default)]
struct KnownPods {
    pods: HashMap<String, watch::Sender<Option<Pod>>>,
    /// UIDs of the current list.
    listed: HashSet<String>,
}

impl KnownPods {
    /// The pod that the event shows, and the UIDs of deleted pods.
    fn take(&mut self, event: watcher::Event<Pod>) -> (Option<Pod>, Vec<String>) {
        let uid = |pod: &Pod| pod.uid().unwrap_or_default();
        let (pod, gone) = match event {
            watcher::Event::Init => {
                self.listed.clear();
                (None, vec![])
            }
            watcher::Event::InitApply(pod) => {
                self.listed.insert(uid(&pod));
                (Some(pod), vec![])
            }
            watcher::Event::Apply(pod) => (Some(pod), vec![]),
            watcher::Event::Delete(pod) => (None, vec![uid(&pod)]),
            watcher::Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                let unlisted = self.pods.keys().filter(|uid| !listed.contains(*uid));
                (None, unlisted.cloned().collect())
            }
        };
        if let Some(pod) = &pod {
            let latest = self.pods.entry(uid(pod)).or_insert_with(|| watch::channel(None).0);
            latest.send_replace(Some(pod.clone()));
        }
        for pod in gone.iter().filter_map(|uid| self.pods.remove(uid)) {
            pod.send_replace(None);
        }
        (pod, gone)
    }

    fn latest(&self, pod: &Pod) -> Option<watch::Receiver<Option<Pod>>> {
        Some(self.pods.get(&pod.uid()?)?.subscribe())
    }
}

/// Pods of sparkha have one container.
fn container(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()
}

/// Where the log of one run of a container can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LogLocation {
    /// The container runs.
    Running,
    /// It has ended, and has not restarted.
    Ended,
    /// It has restarted.
    Previous,
    Gone,
}

fn log_location(pod: Option<&Pod>, id: &str) -> LogLocation {
    let Some(container) = pod.and_then(container) else {
        return LogLocation::Gone;
    };
    let last = container
        .last_state
        .as_ref()
        .and_then(|state| state.terminated.as_ref());
    if container.container_id.as_deref() == Some(id) {
        match container.state.as_ref().is_some_and(|state| state.running.is_some()) {
            true => LogLocation::Running,
            false => LogLocation::Ended,
        }
    } else if last.and_then(|last| last.container_id.as_deref()) == Some(id) {
        LogLocation::Previous
    } else {
        LogLocation::Gone
    }
}

/// Sends all lines of one run of a container, each once, however often the stream is lost.
async fn follow_container(
    logs: impl Logs,
    mut latest: watch::Receiver<Option<Pod>>,
    id: String,
    first: LogParams,
    sender: mpsc::Sender<Result<LogLine, Error>>,
) {
    let Some((name, is_driver)) = latest.borrow().as_ref().map(|pod| (pod.name_any(), is_driver(pod))) else {
        return;
    };
    let log_sender = LogSender {
        source: name.as_str().into(),
        is_driver,
        sender,
    };
    let mut reader = LogReader::new(logs, name, first, LONGEST_SILENCE);
    loop {
        let location = log_location(latest.borrow().as_ref(), &id);
        if location == LogLocation::Gone {
            return;
        }
        match read(&mut reader, location, &log_sender).await {
            Ok(Break(())) => return,
            Ok(Continue(())) if location != LogLocation::Previous && reader.may_be_another() => {
                let has_moved = |pod: &Option<Pod>| log_location(pod.as_ref(), &id) != location;
                let _ = timeout(STATUS_DELAY, latest.wait_for(has_moved)).await;
            }
            Ok(Continue(())) => {}
            Err(error @ kubernetes::Error::Forbidden { .. }) => {
                let _ = log_sender.sender.send(Err(error.into())).await;
                return;
            }
            Err(error) => tracing::info!("{error}; trying again"),
        }
        if log_sender.sender.is_closed() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Sends the lines of one container.
struct LogSender {
    source: Arc<str>,
    is_driver: bool,
    sender: mpsc::Sender<Result<LogLine, Error>>,
}

impl LogSender {
    /// Whether the receiver wants more.
    async fn send(&self, new: NewLine) -> bool {
        if let Some(gap) = &new.gap {
            tracing::warn!(
                "lines of {} are missing {gap}: its node has rotated the log",
                self.source
            );
        }
        match line(&self.source, self.is_driver, new.time, &new.text) {
            Some(line) => self.sender.send(Ok(line)).await.is_ok(),
            None => true,
        }
    }
}

/// Reads a stream to its end. Breaks if nothing more is to be read.
async fn read(
    reader: &mut LogReader<impl Logs>,
    log_location: LogLocation,
    log_sender: &LogSender,
) -> Result<ControlFlow<()>, kubernetes::Error> {
    let previous = log_location == LogLocation::Previous;
    reader.open(log_location == LogLocation::Running, previous).await?;
    while let Some(new) = reader.next().await? {
        if !log_sender.send(new).await {
            return Ok(Break(()));
        }
    }
    if log_location == LogLocation::Running {
        return Ok(Continue(()));
    }
    match reader.unread(previous).await? {
        Unread::More => return Ok(Continue(())),
        Unread::Half(new) => drop(log_sender.send(new).await),
        Unread::Nothing | Unread::Unknown => {}
    }
    Ok(Break(()))
}

fn is_driver(pod: &Pod) -> bool {
    Component::of(pod.labels()) == Some(Component::Driver)
}

/// A line without newline and marks; `None` if it was only a mark.
fn line(source: &Arc<str>, is_driver: bool, time: Time, text: &[u8]) -> Option<LogLine> {
    let text = match unmarked(text) {
        _ if !is_driver => text,
        line if line.is_last && line.text.is_empty() => return None,
        line => line.text,
    };
    Some(LogLine {
        source: source.clone(),
        time,
        text: String::from_utf8_lossy(text).trim_end_matches(['\n', '\r']).to_owned(),
    })
}

/// Opens the existing log. A read error ends it.
async fn open(cluster: &Cluster, pod: &Pod, params: &LogParams) -> Result<Lines, kubernetes::Error> {
    let (name, is_driver) = (pod.name_any(), is_driver(pod));
    let api = cluster.api::<Pod>();
    let action = format!("read the log of {name}");
    let reader = cluster.call(&action, || api.log_stream(&name, params)).await?;
    let source: Arc<str> = name.into();
    let lines = stream::unfold((Box::pin(reader), 0 as Time), move |(mut reader, before)| {
        let source = source.clone();
        async move {
            loop {
                let mut bytes = Vec::new();
                if let Err(error) = reader.read_until(b'\n', &mut bytes).await {
                    tracing::warn!("{source}: reading its log failed here ({error}); run this again to read all of it");
                    return None;
                }
                if bytes.is_empty() {
                    return None;
                }
                let (time, text) = match TimestampedLine::parse(&bytes) {
                    Some(stamped) => (stamped.time, stamped.text),
                    None => (before, bytes.as_slice().into()),
                };
                if let Some(line) = line(&source, is_driver, time, &text) {
                    return Some((line, (reader, time)));
                }
            }
        }
    });
    Ok(lines.boxed())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::json;

    use super::*;
    use crate::logs::reader::Bytes;

    #[test]
    fn pods_missing_from_a_new_list_are_gone() {
        let pod =
            |uid: &str| -> Pod { serde_json::from_value(json!({"metadata": {"name": uid, "uid": uid}})).unwrap() };
        let mut known = KnownPods::default();
        for event in [
            watcher::Event::Init,
            watcher::Event::InitApply(pod("a")),
            watcher::Event::InitApply(pod("b")),
            watcher::Event::InitDone,
            watcher::Event::Apply(pod("c")),
        ] {
            assert_eq!(known.take(event).1, Vec::<String>::new());
        }
        let (a, b) = (known.latest(&pod("a")).unwrap(), known.latest(&pod("b")).unwrap());
        // The watch was interrupted, and meanwhile b and c were deleted.
        known.take(watcher::Event::Init);
        known.take(watcher::Event::InitApply(pod("a")));
        let mut gone = known.take(watcher::Event::InitDone).1;
        gone.sort();
        assert_eq!(gone, ["b", "c"]);
        assert!(a.borrow().is_some() && b.borrow().is_none());
        assert_eq!(known.take(watcher::Event::Delete(pod("a"))).1, ["a"]);
        assert!(a.borrow().is_none());
    }

    /// A pod whose container is `id`; its run before was `last`.
    fn pod(id: &str, state: &str, last: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p"},
            "status": {"containerStatuses": [{
                "name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 1, "containerID": id,
                "state": {state: {"exitCode": 0}}, "lastState": {"terminated": {"exitCode": 1, "containerID": last}},
            }]},
        }))
        .unwrap()
    }

    #[test]
    fn the_log_of_a_run_moves_when_the_container_restarts() {
        assert_eq!(log_location(Some(&pod("b", "running", "a")), "b"), LogLocation::Running);
        assert_eq!(
            log_location(Some(&pod("b", "terminated", "a")), "b"),
            LogLocation::Ended
        );
        assert_eq!(
            log_location(Some(&pod("b", "running", "a")), "a"),
            LogLocation::Previous
        );
        assert_eq!(log_location(Some(&pod("c", "running", "b")), "a"), LogLocation::Gone);
        assert_eq!(log_location(None, "a"), LogLocation::Gone);
    }

    /// What a kubelet has of the container's runs, the last one at the end. Followed streams end where the log does.
    #[derive(Clone, Default)]
    struct Runs(Arc<Mutex<Vec<String>>>);

    impl Logs for Runs {
        async fn log(&self, _: &str, params: &LogParams, _: Duration) -> Result<Bytes, kubernetes::Error> {
            let runs = self.0.lock().unwrap();
            let run = runs[runs.len() - 1 - usize::from(params.previous)].clone();
            Ok(Box::new(futures::io::Cursor::new(run.into_bytes())))
        }
    }

    /// What is sent as the lines of run a, when the log that begins with `first` is soon replaced by `runs`, and `delay` later the pod by `changed`.
    async fn followed(first: &str, runs: &[&str], delay: Duration, changed: Option<Pod>) -> String {
        let shared = Runs::default();
        shared.0.lock().unwrap().push(first.into());
        let (status, latest) = watch::channel(Some(pod("a", "running", "")));
        let (sender, mut lines) = mpsc::channel(WAITING);
        let first = LogParams::default();
        tokio::spawn(follow_container(shared.clone(), latest, "a".into(), first, sender));
        let mut seen = Vec::new();
        let change = async {
            tokio::time::sleep(PAUSE / 2).await;
            *shared.0.lock().unwrap() = runs.iter().map(|&run| run.into()).collect();
            tokio::time::sleep(delay).await;
            status.send_replace(changed);
        };
        let read = async {
            while let Some(line) = lines.recv().await {
                seen.push(line.unwrap().text);
            }
        };
        tokio::join!(change, read);
        seen.join(" ")
    }

    const A1: &str = "2026-11-21T10:00:01Z a1\n";
    const A2: &str = "2026-11-21T10:00:02Z a2\n";
    const B1: &str = "2026-11-21T10:00:09Z b1\n";

    #[tokio::test(start_paused = true)]
    async fn lines_of_the_next_run_are_not_taken_for_those_of_the_run_before() {
        let restarted = || Some(pod("b", "running", "a"));
        for delay in [0, 3, 9].map(Duration::from_secs) {
            let whole = [A1, A2].concat();
            assert_eq!(
                followed(A1, &[&whole, B1], delay, restarted()).await,
                "a1 a2",
                "{delay:?}"
            );
            assert_eq!(followed("", &["", B1], delay, restarted()).await, "", "{delay:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn last_lines_are_read_before_the_pod_is_gone() {
        let whole = [A1, A2].concat();
        assert_eq!(followed(A1, &[&whole], PAUSE * 2, None).await, "a1 a2");
    }
}
