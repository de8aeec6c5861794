//! Logs of an application's executors. They are in the workers' folders, and the workers' web UIs serve them: reading them needs no permission to run
//! commands in pods.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::sync::{mpsc, watch};

use crate::clients::spark::WorkerUi;
use crate::logs::selection::{LogLine, sparks_time};
use crate::logs::{Error, Lines, LogOptions, trimmed};
use crate::model::log_line::Time;
use crate::model::ports::WORKER_UI_PORT;
use crate::platform::kubernetes::Cluster;

/// How often a followed log and the list of executors are polled.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

const KINDS: [&str; 2] = ["stdout", "stderr"];

/// One of an executor's two logs.
#[derive(Default)]
struct ExecutorLog {
    application: String,
    executor: u32,
    kind: &'static str,
    source: Arc<str>,
    /// The position up to which it was read.
    end: u64,
    /// The last bytes read: a rotated log is shorter, and nothing says by how much.
    tail: String,
    /// The beginning of a line whose end is not written yet.
    rest: String,
    /// Of the previous line: most lines of a stack trace have none.
    time: Time,
}

impl ExecutorLog {
    fn of(pod: &str, application: &str, executor: u32, kind: &'static str) -> Self {
        Self {
            application: application.to_owned(),
            executor,
            kind,
            source: format!("{pod}/{executor} {kind}").into(),
            ..Self::default()
        }
    }

    /// The whole lines written since the last call.
    async fn more(&mut self, ui: &mut WorkerUi) -> Result<Vec<LogLine>, crate::clients::spark::Error> {
        let mut lines = Vec::new();
        loop {
            let mut part = ui.log(&self.application, self.executor, self.kind, self.end).await?;
            let mut text = part.text.as_str();
            let last;
            if part.length < self.end {
                // Its oldest file was deleted.
                self.end = part.length.saturating_sub(LAST);
                last = ui.log(&self.application, self.executor, self.kind, self.end).await?;
                (part.end, part.length) = (last.end, last.length);
                text = match after(&self.tail, &last.text) {
                    Some(text) => text,
                    None => {
                        self.rest.clear();
                        lines.push(self.line(
                            "sparkha: this log was rotated faster than it was read; lines are missing here".into(),
                        ));
                        &last.text
                    }
                };
            }
            let is_all = part.end >= part.length || part.end <= self.end;
            self.end = part.end.max(self.end);
            self.tail.push_str(text);
            self.tail = tail(&self.tail).to_owned();
            self.rest.push_str(text);
            if let Some(end) = self.rest.rfind('\n') {
                let rest = self.rest.split_off(end + 1);
                let whole = std::mem::replace(&mut self.rest, rest);
                lines.extend(whole.lines().map(|text| self.line(text.to_owned())));
            }
            if is_all {
                return Ok(lines);
            }
        }
    }

    fn line(&mut self, text: String) -> LogLine {
        self.time = sparks_time(&text).unwrap_or(self.time);
        LogLine {
            source: self.source.clone(),
            time: self.time,
            text,
        }
    }
}

/// How much of a rotated log is searched for the last bytes read.
const LAST: u64 = 1024 * 1024;
/// How many of these bytes are kept.
const TAIL: usize = 512;

/// The last bytes of a text.
fn tail(text: &str) -> &str {
    let mut from = text.len().saturating_sub(TAIL);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

/// The text after the last bytes read, if it has them.
fn after<'a>(tail: &str, text: &'a str) -> Option<&'a str> {
    let at = text.rfind(tail).filter(|_| !tail.is_empty())?;
    Some(&text[at + tail.len()..])
}

/// The time of the oldest line to show, in nanoseconds since the epoch.
fn oldest(options: &LogOptions) -> Option<Time> {
    let since = Timestamp::now().saturating_sub(options.since?).ok()?;
    Some(since.as_nanosecond())
}

async fn ui(cluster: &Cluster, worker: &str) -> Result<WorkerUi, Error> {
    Ok(WorkerUi::over(cluster.forward(worker, WORKER_UI_PORT).await?))
}

/// Both logs of all of the application's executors, up to now.
pub async fn logs(
    cluster: &Cluster,
    workers: &[Pod],
    application: &str,
    options: &LogOptions,
) -> Result<Vec<Lines>, Error> {
    let mut found: Vec<Lines> = Vec::new();
    for worker in workers {
        let name = worker.name_any();
        let opened = ui(cluster, &name).await;
        let Ok(mut ui) = opened.inspect_err(|error| tracing::warn!("{name}: {error}")) else {
            continue;
        };
        for executor in ui.executors(application).await? {
            for kind in KINDS {
                let mut log = ExecutorLog::of(&name, application, executor, kind);
                let mut lines = log.more(&mut ui).await?;
                if !log.rest.is_empty() {
                    let rest = std::mem::take(&mut log.rest);
                    lines.push(log.line(rest));
                }
                found.push(stream::iter(trimmed(lines, oldest(options), options.tail)).boxed());
            }
        }
    }
    match found.is_empty() {
        false => Ok(found),
        true => Err(Error::Usage {
            message: format!("no running worker has executors of {application}"),
            help: "`sparkha status` lists applications; an executor's logs are deleted with its worker's pod".into(),
        }),
    }
}

/// Sends what the application's executors write, on all current and future workers.
pub async fn follow(
    cluster: Cluster,
    workers: watch::Receiver<Vec<Pod>>,
    application: String,
    options: LogOptions,
    sender: mpsc::Sender<Result<LogLine, Error>>,
) {
    let mut begun = HashSet::new();
    while !sender.is_closed() {
        let new: Vec<_> = workers
            .borrow()
            .iter()
            .filter(|worker| worker.status.as_ref().is_some_and(|status| status.pod_ip.is_some()))
            .filter(|worker| begun.insert(worker.uid()))
            .cloned()
            .collect();
        for worker in new {
            let (cluster, application, options, sender) =
                (cluster.clone(), application.clone(), options.clone(), sender.clone());
            let workers = workers.clone();
            tokio::spawn(async move {
                let is_there = || workers.borrow().iter().any(|other| other.uid() == worker.uid());
                follow_worker(&cluster, &worker.name_any(), is_there, &application, &options, &sender).await;
            });
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

async fn follow_worker(
    cluster: &Cluster,
    worker: &str,
    is_there: impl Fn() -> bool,
    application: &str,
    options: &LogOptions,
    sender: &mpsc::Sender<Result<LogLine, Error>>,
) {
    let mut logs: Vec<ExecutorLog> = Vec::new();
    let mut connection = None;
    while is_there() && !sender.is_closed() {
        let polled = async {
            let ui = match connection.take() {
                Some(ui) => ui,
                None => ui(cluster, worker).await?,
            };
            poll(ui, worker, application, options, &mut logs, sender).await
        };
        match polled.await {
            Ok(ui) => connection = Some(ui),
            // The position is kept, so nothing is read twice.
            Err(error) => tracing::info!("{worker}: {error}; trying again"),
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Sends new lines; returns the connection for the next poll.
async fn poll(
    mut ui: WorkerUi,
    worker: &str,
    application: &str,
    options: &LogOptions,
    logs: &mut Vec<ExecutorLog>,
    sender: &mpsc::Sender<Result<LogLine, Error>>,
) -> Result<WorkerUi, Error> {
    for executor in ui.executors(application).await? {
        if !logs.iter().any(|log| log.executor == executor) {
            logs.extend(KINDS.map(|kind| ExecutorLog::of(worker, application, executor, kind)));
        }
    }
    for log in logs {
        let is_first = log.end == 0;
        let lines = log.more(&mut ui).await?;
        let lines = match is_first {
            true => trimmed(lines, oldest(options), options.tail),
            false => lines,
        };
        for line in lines {
            if sender.send(Ok(line)).await.is_err() {
                break;
            }
        }
    }
    Ok(ui)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotated_log_is_resumed_where_reading_stopped() {
        let read: String = (0..200).map(|n| format!("line {n} ä\n")).collect();
        let left = format!("{}line 200\nline 201\n", &read[read.len() / 2..]);
        assert_eq!(after(tail(&read), &left), Some("line 200\nline 201\n"));
        assert_eq!(after(tail(&read), "line 300\n"), None);
        assert!(tail(&read).len() <= TAIL && read.ends_with(tail(&read)));
    }
}
