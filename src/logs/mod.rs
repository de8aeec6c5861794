//! Logs of all parts of a cluster as one stream of lines: by time, or as they arrive if they are followed.

mod executors;
mod kubernetes;
mod local;
pub mod position;
pub mod reader;
pub mod selection;
pub mod streams;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use self::kubernetes::PodLogs;
use self::local::LocalLogs;
use self::selection::{LogLine, LogSelection, LogSource};
use crate::lifecycle::Error;
use crate::model::log_line::Time;
use crate::platform::leader::Leader;
use crate::platform::{Backend, Platform};

/// Which part of the logs to show.
#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    pub follow: bool,
    /// Only lines that are not older.
    pub since: Option<Duration>,
    /// Only the last lines of each log.
    pub tail: Option<usize>,
    /// The container's previous run.
    pub previous: bool,
    /// Of the masters, only the leader.
    pub leader: bool,
}

/// Lines of one log, in their order.
type Lines = BoxStream<'static, LogLine>;

/// Receives the lines; an error ends everything.
pub type LineWriter<'a> = &'a mut dyn FnMut(&LogLine) -> Result<(), Error>;

/// Writes the selected lines of a cluster's logs.
pub async fn write_logs(
    platform: &dyn Platform,
    selection: LogSelection,
    options: LogOptions,
    write: LineWriter<'_>,
) -> Result<(), Error> {
    match platform.backend() {
        Backend::Kubernetes(cluster) => {
            let pods = PodLogs {
                cluster: cluster.clone(),
                name: platform.name().clone(),
                selection,
                options,
            };
            pods.write(platform, write).await
        }
        Backend::Local(local) => {
            let files = LocalLogs {
                dir: local.dir.clone(),
                selection,
                options,
            };
            files.write(platform, write).await
        }
    }
}

async fn leading_master(platform: &dyn Platform, pods: Vec<Pod>) -> Result<LogSource, Error> {
    let leading = Leader::new(platform.transport()).report(pods).await;
    let leader = leading.map(|(pod, _)| LogSource::Pod(pod.name_any()));
    leader.ok_or_else(|| Error::Usage {
        message: "no master leads now".into(),
        help: "leave --leader out: `sparkha logs masters`".into(),
    })
}

/// Writes the lines of all logs, the oldest first. Holds only the next line of each log.
async fn in_order(mut logs: Vec<Lines>, write: LineWriter<'_>) -> Result<(), Error> {
    let mut heads = Vec::new();
    for log in &mut logs {
        heads.push(log.next().await);
    }
    let next = |heads: &[Option<LogLine>], at: usize| heads[at].as_ref().map(|line| Reverse((line.time, at)));
    let mut queue: BinaryHeap<Reverse<(Time, usize)>> = (0..heads.len()).filter_map(|at| next(&heads, at)).collect();
    while let Some(Reverse((_, at))) = queue.pop() {
        if let Some(line) = heads[at].take() {
            write(&line)?;
        }
        heads[at] = logs[at].next().await;
        queue.extend(next(&heads, at));
    }
    Ok(())
}

/// The last lines of those that are new enough. A line without a time has that of the line before; lines at the beginning have that of the first line
/// with a time. If no line has a time, all are new enough.
fn trimmed(mut lines: Vec<LogLine>, since: Option<Time>, tail: Option<usize>) -> Vec<LogLine> {
    if let Some(first) = lines.iter().map(|line| line.time).find(|&time| time != 0) {
        let untimed = lines.iter_mut().take_while(|line| line.time == 0);
        untimed.for_each(|line| line.time = first);
    }
    let is_new = |line: &LogLine| since.is_none_or(|since| line.time == 0 || line.time >= since);
    lines.retain(is_new);
    let first = tail.map_or(0, |tail| lines.len().saturating_sub(tail));
    lines.split_off(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(source: &str, times: &[Time]) -> Vec<LogLine> {
        let line = |&time: &Time| LogLine {
            source: source.into(),
            time,
            text: format!("{source}{time}"),
        };
        times.iter().map(line).collect()
    }

    #[tokio::test]
    async fn lines_of_several_logs_are_ordered_by_time() {
        let logs = [log("a", &[1, 4, 4]), log("b", &[2, 3, 5]), log("c", &[])];
        let logs = logs.map(|log| futures::stream::iter(log).boxed()).into();
        let mut written = Vec::new();
        let mut write = |line: &LogLine| {
            written.push(line.text.clone());
            Ok(())
        };
        in_order(logs, &mut write).await.unwrap();
        assert_eq!(written, ["a1", "b2", "b3", "a4", "a4", "b5"]);
    }

    #[test]
    fn since_and_tail_limit_the_lines() {
        let times = |since, tail| {
            let kept = trimmed(log("a", &[1, 2, 3, 4]), since, tail);
            kept.iter().map(|line| line.time).collect::<Vec<_>>()
        };
        assert_eq!(times(None, None), [1, 2, 3, 4]);
        assert_eq!(times(None, Some(2)), [3, 4]);
        assert_eq!(times(Some(2), Some(9)), [2, 3, 4]);
        assert_eq!(times(None, Some(0)), Vec::<Time>::new());
        let begun = trimmed(log("a", &[0, 0, 3, 4]), Some(3), None);
        assert_eq!(begun.len(), 4);
        assert_eq!(trimmed(log("a", &[0, 0]), Some(3), None).len(), 2);
    }
}
