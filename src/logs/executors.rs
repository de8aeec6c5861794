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
use crate::model::error_chain::with_sources;
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
    /// Whole lines that were read and not returned yet: reading the next part may fail.
    lines: Vec<LogLine>,
    /// The log existed when following began, and has not been read yet: `--tail` and `--since` limit what is shown of it.
    is_old: bool,
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
        loop {
            let mut part = ui.log(&self.application, self.executor, self.kind, self.end).await?;
            let mut text = part.text.as_str();
            let last;
            if part.length < self.end {
                // Its oldest file was deleted.
                let from = part.length.saturating_sub(LAST);
                last = ui.log(&self.application, self.executor, self.kind, from).await?;
                self.end = from;
                (part.end, part.length) = (last.end, last.length);
                text = match after(&self.tail, &last.text) {
                    Some(text) => text,
                    None => {
                        self.rest.clear();
                        self.push("sparkha: this log was rotated faster than it was read; lines are missing here");
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
                whole.lines().for_each(|text| self.push(text));
            }
            if is_all {
                return Ok(std::mem::take(&mut self.lines));
            }
        }
    }

    fn push(&mut self, text: &str) {
        self.time = sparks_time(text).unwrap_or(self.time);
        self.lines.push(LogLine {
            source: self.source.clone(),
            time: self.time,
            text: text.to_owned(),
        });
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
        match logs_of_worker(cluster, &name, application, options).await {
            Ok(mut lines) => found.append(&mut lines),
            Err(error) => tracing::warn!("{name}: {}", with_sources(&error)),
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

async fn logs_of_worker(
    cluster: &Cluster,
    worker: &str,
    application: &str,
    options: &LogOptions,
) -> Result<Vec<Lines>, Error> {
    let mut found: Vec<Lines> = Vec::new();
    let mut ui = ui(cluster, worker).await?;
    for executor in ui.executors(application).await? {
        for kind in KINDS {
            let mut log = ExecutorLog::of(worker, application, executor, kind);
            let mut lines = log.more(&mut ui).await?;
            if !log.rest.is_empty() {
                let rest = std::mem::take(&mut log.rest);
                log.push(&rest);
                lines.append(&mut log.lines);
            }
            found.push(stream::iter(trimmed(lines, oldest(options), options.tail)).boxed());
        }
    }
    Ok(found)
}

/// Sends what the application's executors write, on all current and future workers. `old` are the UIDs of those that exist now.
pub async fn follow(
    cluster: Cluster,
    workers: watch::Receiver<Vec<Pod>>,
    old: HashSet<String>,
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
            let (cluster, options, sender) = (cluster.clone(), options.clone(), sender.clone());
            let are_old = worker.uid().is_some_and(|uid| old.contains(&uid));
            let logs = WorkerLogs::of(&worker.name_any(), &application, are_old);
            let workers = workers.clone();
            tokio::spawn(async move {
                let is_there = || workers.borrow().iter().any(|other| other.uid() == worker.uid());
                follow_worker(&cluster, logs, is_there, &options, &sender).await;
            });
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// The logs of an application's executors on one worker.
struct WorkerLogs {
    worker: String,
    application: String,
    logs: Vec<ExecutorLog>,
    /// The executors that are listed next existed when following began.
    are_old: bool,
}

impl WorkerLogs {
    fn of(worker: &str, application: &str, are_old: bool) -> Self {
        Self {
            worker: worker.to_owned(),
            application: application.to_owned(),
            logs: Vec::new(),
            are_old,
        }
    }

    /// Adds the logs of executors that are not known yet.
    fn add(&mut self, executors: Vec<u32>) {
        for executor in executors {
            if !self.logs.iter().any(|log| log.executor == executor) {
                self.logs.extend(KINDS.map(|kind| ExecutorLog {
                    is_old: self.are_old,
                    ..ExecutorLog::of(&self.worker, &self.application, executor, kind)
                }));
            }
        }
        self.are_old = false;
    }

    /// Sends new lines; returns the connection for the next poll.
    async fn poll(
        &mut self,
        mut ui: WorkerUi,
        options: &LogOptions,
        sender: &mpsc::Sender<Result<LogLine, Error>>,
    ) -> Result<WorkerUi, Error> {
        let executors = ui.executors(&self.application).await?;
        self.add(executors);
        for log in &mut self.logs {
            let lines = log.more(&mut ui).await?;
            let lines = match std::mem::take(&mut log.is_old) {
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
}

async fn follow_worker(
    cluster: &Cluster,
    mut logs: WorkerLogs,
    is_there: impl Fn() -> bool,
    options: &LogOptions,
    sender: &mpsc::Sender<Result<LogLine, Error>>,
) {
    let mut connection = None;
    while is_there() && !sender.is_closed() {
        let polled = async {
            let ui = match connection.take() {
                Some(ui) => ui,
                None => ui(cluster, &logs.worker).await?,
            };
            logs.poll(ui, options, sender).await
        };
        match polled.await {
            Ok(ui) => connection = Some(ui),
            // The position is kept, so nothing is read twice.
            Err(error) => tracing::info!("{}: {error}; trying again", logs.worker),
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A worker with these logs of executor 0. It sends parts of `part` bytes, and closes the connection before response `until`.
    fn worker(logs: [&'static str; 2], part: usize, until: usize) -> WorkerUi {
        let (ours, mut its) = tokio::io::duplex(65536);
        tokio::spawn(async move {
            let mut request = vec![0; 4096];
            for _ in 0..until {
                let length = its.read(&mut request).await.unwrap();
                let request = String::from_utf8_lossy(&request[..length]);
                let body = match request.split_once("&logType=") {
                    None => r#"{"executors": [{"id": 0, "appid": "app-1"}], "finishedexecutors": []}"#.to_owned(),
                    Some((_, rest)) => {
                        let log = logs[usize::from(rest.starts_with("stderr"))];
                        let from = rest.split_once("&offset=").unwrap().1.split('&').next().unwrap();
                        let from: usize = from.parse().unwrap();
                        let to = log.len().min(from + part);
                        format!("==== Bytes {from}-{to} of {} of /x ====\n{}", log.len(), &log[from..to])
                    }
                };
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                its.write_all((head + &body).as_bytes()).await.unwrap();
            }
        });
        WorkerUi::over(ours)
    }

    /// The lines that the polls of a worker send.
    async fn polled(mut logs: WorkerLogs, tail: Option<usize>, polls: Vec<WorkerUi>) -> Vec<String> {
        let options = LogOptions {
            tail,
            ..LogOptions::default()
        };
        let (sender, mut lines) = mpsc::channel(100);
        for ui in polls {
            let _ = logs.poll(ui, &options, &sender).await;
        }
        drop(sender);
        std::iter::from_fn(|| lines.try_recv().ok())
            .map(|line| line.unwrap().text)
            .collect()
    }

    #[tokio::test]
    async fn lines_before_a_lost_connection_are_sent_later() {
        let of = |are_old| WorkerLogs::of("w", "app-1", are_old);
        let log = ["a\nb\nc\nd\n", ""];
        let polls = || vec![worker(log, 2, 3), worker(log, 2, 9)];
        assert_eq!(polled(of(false), None, polls()).await, ["a", "b", "c", "d"]);
        assert_eq!(polled(of(true), Some(3), polls()).await, ["b", "c", "d"]);
    }

    #[tokio::test]
    async fn only_what_was_there_at_the_start_is_limited() {
        let of = |are_old| WorkerLogs::of("w", "app-1", are_old);
        // Its standard error was empty at the start.
        let polls = vec![worker(["a\nb\n", ""], 99, 9), worker(["a\nb\nc\nd\n", "x\ny\n"], 99, 9)];
        assert_eq!(polled(of(true), Some(1), polls).await, ["b", "c", "d", "x", "y"]);
        assert_eq!(
            polled(of(false), Some(1), vec![worker(["a\nb\n", ""], 99, 9)]).await,
            ["a", "b"]
        );
    }

    #[test]
    fn a_rotated_log_is_resumed_where_reading_stopped() {
        let read: String = (0..200).map(|n| format!("line {n} ä\n")).collect();
        let left = format!("{}line 200\nline 201\n", &read[read.len() / 2..]);
        assert_eq!(after(tail(&read), &left), Some("line 200\nline 201\n"));
        assert_eq!(after(tail(&read), "line 300\n"), None);
        assert!(tail(&read).len() <= TAIL && read.ends_with(tail(&read)));
    }
}
