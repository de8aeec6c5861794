//! A driver's log, followed to its end. A stream that is lost or dead is resumed where it was, and lines that cannot be read are reported.

use std::fmt;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use tokio::time::Instant;

use crate::console::progress::Progress;
use crate::jobs::submit::Sink;
use crate::jobs::submit::driver_pod::TERMINATED;
use crate::lifecycle::Error;
use crate::logs::position::Gap;
use crate::logs::reader::{LogReader, Logs, NewLine, Unread};
use crate::logs::streams::{OutputStream, unmarked};
use crate::platform::kubernetes;
use crate::platform::kubernetes::drivers;
use crate::render::driver::CONTAINER;

/// How long reading is retried after the driver's end.
const READ_TIMEOUT: Duration = Duration::from_secs(600);

/// The longest silence after which a stream is checked.
const LONGEST_SILENCE: Duration = Duration::from_secs(5);
const AGAIN_AFTER: Duration = Duration::from_millis(300);
/// An outage shorter than this is not reported.
const TELL_AFTER: Duration = Duration::from_secs(3);
/// How long after the driver's end the last of its log may take to appear on a node that can be reached.
const END_TIMEOUT: Duration = Duration::from_secs(30);

/// The driver whose log is followed.
pub struct Followed<'a, L> {
    pub logs: &'a L,
    pub driver: &'a str,
    /// Its script marks the end of its log.
    pub marks_its_end: bool,
    pub progress: &'a Progress,
}

/// Lines of a log that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    pub lines: Gap,
    pub reason: String,
}

/// Follows until the driver has ended and everything of its log was read, or what could be. `look` gives the pod as it is now; `keep` is called while
/// the log of a driver that has ended cannot be read.
pub async fn follow<L: Logs + Clone>(
    followed: &Followed<'_, L>,
    sink: Sink<'_>,
    look: impl Fn() -> Option<Pod>,
    mut keep: impl AsyncFnMut(),
) -> Result<Option<Missing>, Error> {
    let mut log = Log::of(followed, sink);
    // Since when it fails for the same kind of reason after the driver's end.
    let mut over: Option<(Duration, Instant)> = None;
    loop {
        let Some(pod) = look() else {
            return Ok(match log.is_whole() {
                true => log.missing,
                false => Some(log.missing("its pod has been removed")),
            });
        };
        let stage = Stage::of(&pod, followed.marks_its_end);
        let outcome = log.read(stage).await;
        let (reason, patience) = match outcome {
            _ if log.is_whole() => return Ok(log.missing),
            Ok(Left::Nothing) => return Ok(log.missing),
            Ok(Left::More) => (None, END_TIMEOUT),
            Ok(Left::NoEnd) => (Some("its end is not in the log".to_owned()), END_TIMEOUT),
            Err(error @ kubernetes::Error::Forbidden { .. }) => return Err(error.into()),
            Err(error) => (Some(error.to_string()), READ_TIMEOUT),
        };
        if let Some(reason) = reason {
            log.outage.goes_on(followed, &reason);
            if stage != Stage::Runs {
                keep().await;
                let since = match over {
                    Some((before, since)) if before == patience => since,
                    _ => over.insert((patience, Instant::now())).1,
                };
                if since.elapsed() > patience {
                    return Ok(Some(log.missing(&reason)));
                }
            }
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

/// How far a driver is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Runs,
    /// Its pod is being deleted. Its node may be lost.
    Ending,
    /// Whether the marks of its log's end must be there.
    Ended {
        marked: bool,
    },
}

impl Stage {
    fn of(pod: &Pod, marks_its_end: bool) -> Self {
        match drivers::ended(pod) {
            // A killed script writes no marks.
            Some(ended) => Stage::Ended {
                marked: marks_its_end && (ended.exit_code <= 128 || ended.exit_code == i32::from(TERMINATED)),
            },
            // An old kubelet that evicts a pod says nothing of its container.
            None if has_failed(pod) => Stage::Ended { marked: false },
            None if pod.metadata.deletion_timestamp.is_some() => Stage::Ending,
            None => Stage::Runs,
        }
    }
}

fn has_failed(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    phase == Some("Failed")
}

/// What there is to read after a stream's end.
enum Left {
    Nothing,
    More,
    /// Nothing, but the marks of the end are missing.
    NoEnd,
}

/// A driver's log, as far as it was read.
struct Log<'a, L> {
    followed: &'a Followed<'a, L>,
    reader: LogReader<L>,
    sink: Sink<'a>,
    has_all_output: bool,
    has_all_errors: bool,
    /// The first that could not be read.
    missing: Option<Missing>,
    outage: Outage,
}

impl<'a, L: Logs + Clone> Log<'a, L> {
    fn of(followed: &'a Followed<'a, L>, sink: Sink<'a>) -> Self {
        let first = LogParams {
            container: Some(CONTAINER.into()),
            ..LogParams::default()
        };
        let (logs, driver) = (followed.logs.clone(), followed.driver.to_owned());
        Self {
            followed,
            reader: LogReader::new(logs, driver, first, LONGEST_SILENCE),
            sink,
            has_all_output: false,
            has_all_errors: false,
            missing: None,
            outage: Outage::default(),
        }
    }

    fn is_whole(&self) -> bool {
        self.has_all_output && self.has_all_errors
    }

    /// Reads on until the stream ends.
    async fn read(&mut self, stage: Stage) -> Result<Left, kubernetes::Error> {
        let marked = match stage {
            Stage::Ended { marked } => Some(marked),
            Stage::Runs | Stage::Ending => None,
        };
        self.reader.open(marked.is_none(), false).await?;
        self.outage.ends(self.followed);
        while let Some(line) = self.reader.next().await? {
            self.pass_on(line);
        }
        let Some(marked) = marked.filter(|_| !self.is_whole()) else {
            return Ok(Left::More);
        };
        let rest = self.reader.unread(false).await?;
        let is_known = rest != Unread::Unknown;
        match rest {
            Unread::More => return Ok(Left::More),
            Unread::Half(line) => self.pass_on(line),
            Unread::Nothing | Unread::Unknown => {}
        }
        Ok(match is_known && !marked {
            true => Left::Nothing,
            false => Left::NoEnd,
        })
    }

    fn pass_on(&mut self, line: NewLine) {
        if let Some(gap) = line.gap {
            let missing = Missing {
                lines: gap,
                reason: "its node has rotated the log meanwhile".into(),
            };
            self.followed.progress.warn(&missing.to_string());
            self.missing.get_or_insert(missing);
        }
        let line = unmarked(&line.text);
        match line.stream {
            OutputStream::Output => self.has_all_output |= line.is_last,
            OutputStream::Errors => self.has_all_errors |= line.is_last,
        }
        if !line.text.is_empty() {
            (self.sink)(line.stream, line.text);
        }
    }

    /// What is missing now that nothing more can be read.
    fn missing(self, reason: &str) -> Missing {
        let to_the_end = Missing {
            lines: self.reader.gap(),
            reason: reason.to_owned(),
        };
        self.missing.unwrap_or(to_the_end)
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lines of the job's log are missing {}: {}", self.lines, self.reason)
    }
}

/// A time in which the log cannot be read.
#[derive(Default)]
struct Outage {
    since: Option<Instant>,
    was_told: bool,
}

impl Outage {
    fn goes_on<L>(&mut self, followed: &Followed<'_, L>, reason: &str) {
        tracing::info!("the log of {} cannot be read at present: {reason}", followed.driver);
        let since = *self.since.get_or_insert_with(Instant::now);
        if !self.was_told && since.elapsed() > TELL_AFTER {
            self.was_told = true;
            followed.progress.warn(&format!(
                "the log of {} cannot be read at present: {reason}; trying again",
                followed.driver
            ));
        }
    }

    fn ends<L>(&mut self, followed: &Followed<'_, L>) {
        if std::mem::take(self).was_told {
            followed.progress.done("The log can be read again");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::sync::{Arc, Mutex};

    use futures::{StreamExt, TryStreamExt, stream};
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::logs::reader::Bytes;

    /// A driver on a node whose way to the API server is cut for a while. Times are milliseconds since the driver's begin.
    #[derive(Clone, Debug)]
    struct Plan {
        began: Instant,
        lines: Vec<(u64, String)>,
        ends: u64,
        exit_code: i32,
        cut: Range<u64>,
        /// What becomes of a stream that is cut: it is silent for ever, or ends as if that were all.
        hangs: bool,
        /// What was written before is no longer in the log then.
        rotated: u64,
        removed: u64,
    }

    impl Plan {
        /// Two lines a second, and the marks of the end.
        fn of(seconds: u64, cut: Range<u64>) -> Self {
            let ends = seconds * 1000;
            let mut lines: Vec<_> = (0..seconds * 2).map(|n| (n * 500, format!("line {n}"))).collect();
            lines.extend([(ends, "\x1d\x04".into()), (ends, "\x1d\x1e\x04".into())]);
            Self {
                began: Instant::now(),
                lines,
                ends,
                exit_code: 7,
                cut: cut.start * 1000..cut.end * 1000,
                hangs: true,
                rotated: u64::MAX,
                removed: u64::MAX,
            }
        }

        fn texts(&self) -> Vec<&str> {
            let lines = self.lines.iter().map(|(_, text)| text.as_str());
            lines.filter(|line| line.starts_with("line")).collect()
        }

        fn now(&self) -> u64 {
            self.began.elapsed().as_millis() as u64
        }

        fn stamped(&(at, ref text): &(u64, String)) -> Vec<u8> {
            let time = Timestamp::from_millisecond(1_800_000_000_000 + at as i64).unwrap();
            format!("{time} {text}\n").into_bytes()
        }

        fn pod(&self) -> Option<Pod> {
            let state = match self.now() >= self.ends {
                true => json!({"terminated": {"exitCode": self.exit_code}}),
                false => json!({"running": {}}),
            };
            let pod = json!({
                "metadata": {"name": "d"},
                "status": {"containerStatuses": [{
                    "name": "driver", "ready": false, "restartCount": 0, "image": "i", "imageID": "", "state": state,
                }]},
            });
            (self.now() < self.removed).then(|| serde_json::from_value(pod).unwrap())
        }
    }

    #[derive(Clone)]
    struct Node(Arc<Plan>);

    impl Logs for Node {
        async fn log(&self, _: &str, params: &LogParams, within: Duration) -> Result<Bytes, kubernetes::Error> {
            let (plan, opened) = (self.0.clone(), self.0.now());
            if plan.cut.contains(&opened) {
                tokio::time::sleep(within).await;
                return Err(kubernetes::Error::TimedOut {
                    action: "read".into(),
                    server: "s".into(),
                    after: within,
                });
            }
            let since = params
                .since_time
                .map_or(i64::MIN, |since| since.as_millisecond() - 1_800_000_000_000);
            let kept = if opened >= plan.rotated { plan.rotated } else { 0 };
            let there = |line: &&(u64, String)| line.0 >= kept && line.0 as i64 >= since;
            let mut lines: Vec<_> = plan.lines.iter().filter(there).cloned().collect();
            if !params.follow {
                lines.retain(|(at, _)| *at <= opened);
                let tail = params.tail_lines.map_or(usize::MAX, |lines| lines as usize);
                lines.drain(..lines.len().saturating_sub(tail));
                let whole: Vec<u8> = lines.iter().flat_map(Plan::stamped).collect();
                return Ok(Box::new(futures::io::Cursor::new(whole)));
            }
            lines.push((plan.ends, String::new()));
            let coming = stream::iter(lines).then(move |line| {
                let plan = plan.clone();
                async move {
                    tokio::time::sleep_until(plan.began + Duration::from_millis(line.0)).await;
                    let is_cut = opened < plan.cut.start && plan.cut.start <= line.0;
                    if is_cut && plan.hangs {
                        return std::future::pending().await;
                    }
                    (!is_cut && !line.1.is_empty()).then(|| Ok::<_, std::io::Error>(Plan::stamped(&line)))
                }
            });
            let whole = coming
                .take_while(|line| std::future::ready(line.is_some()))
                .filter_map(std::future::ready);
            Ok(Box::new(whole.boxed().into_async_read()))
        }
    }

    #[derive(Debug)]
    struct Outcome {
        /// Each with the time when it came.
        lines: Vec<(u64, String)>,
        missing: Option<Missing>,
        kept: bool,
        took: u64,
    }

    impl Outcome {
        fn texts(&self) -> Vec<&str> {
            self.lines.iter().map(|(_, text)| text.trim_end()).collect()
        }
    }

    async fn followed(plan: &Plan) -> Outcome {
        let plan = &Plan {
            began: Instant::now(),
            ..plan.clone()
        };
        let (lines, mut kept) = (Mutex::new(Vec::new()), false);
        let sink = |_, line: &[u8]| {
            lines
                .lock()
                .unwrap()
                .push((plan.now(), String::from_utf8_lossy(line).into_owned()))
        };
        let followed = Followed {
            logs: &Node(Arc::new(plan.clone())),
            driver: "d",
            marks_its_end: true,
            progress: &Progress::new(true),
        };
        let missing = follow(&followed, &sink, || plan.pod(), async || kept = true)
            .await
            .unwrap();
        Outcome {
            missing,
            kept,
            took: plan.now(),
            lines: lines.into_inner().unwrap(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn every_line_comes_once_however_long_the_node_cannot_be_reached() {
        for seconds in [5, 12, 75, 300] {
            let moments = [
                ("begin", Plan::of(seconds + 60, 0..seconds)),
                ("midst", Plan::of(seconds + 60, 10..10 + seconds)),
                ("end", Plan::of(20, 18..18 + seconds)),
                ("after the end", Plan::of(20, 20..20 + seconds)),
            ];
            for (moment, plan) in moments {
                for hangs in [true, false] {
                    let plan = Plan { hangs, ..plan.clone() };
                    let seen = followed(&plan).await;
                    let which = format!("{seconds} s, {moment}, hangs: {hangs}: {seen:?}");
                    assert_eq!(seen.texts(), plan.texts(), "{which}");
                    assert_eq!(seen.missing, None, "{which}");
                    // What was silent is resumed within 10 s after the way is back.
                    for ((came, _), (written, _)) in seen.lines.iter().zip(&plan.lines) {
                        assert!(*came <= written.max(&plan.cut.end) + 10_000, "{which}");
                    }
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_that_cannot_be_read_for_too_long_is_kept_and_what_is_missing_is_told() {
        let seen = followed(&Plan::of(20, 18..10_000)).await;
        let missing = seen.missing.unwrap();
        assert!(seen.kept && (600_000..660_000).contains(&seen.took), "{}", seen.took);
        assert_eq!(missing.lines.after_line, seen.lines.len() as u64);
        assert!(missing.to_string().contains("after line 36 of "), "{missing}");
        assert!(missing.to_string().contains(" to the end: failed to read"), "{missing}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_without_marks_is_believed_of_a_driver_that_was_killed() {
        let mut plan = Plan::of(20, 18..30);
        plan.lines.truncate(40);
        let unmarked = followed(&plan).await;
        assert!(
            unmarked
                .missing
                .unwrap()
                .to_string()
                .contains("its end is not in the log")
        );
        assert!(unmarked.kept);
        plan.exit_code = 137;
        let killed = followed(&plan).await;
        assert_eq!(killed.missing, None);
        assert_eq!(killed.texts(), plan.texts());
    }

    #[tokio::test(start_paused = true)]
    async fn lines_that_were_rotated_away_or_went_with_their_pod_are_told() {
        let plan = Plan {
            rotated: 25_000,
            ..Plan::of(60, 10..30)
        };
        let seen = followed(&plan).await;
        let missing = seen.missing.as_ref().unwrap().to_string();
        let expected =
            "after line 20 of 2027-01-15T08:00:09.5Z until 2027-01-15T08:00:25Z: its node has rotated the log";
        assert!(missing.contains(expected), "{missing}");
        assert_eq!(seen.lines.len(), 20 + 70);
        let plan = Plan {
            removed: 20_000,
            ..Plan::of(60, 10..90)
        };
        let seen = followed(&plan).await;
        assert!(!seen.kept && seen.took < 40_000, "{seen:?}");
        assert!(seen.missing.unwrap().to_string().contains("its pod has been removed"));
    }

    #[test]
    fn a_driver_that_was_killed_marks_no_end() {
        let stage = |metadata: serde_json::Value, state: serde_json::Value, marks_its_end| {
            let pod = serde_json::from_value(json!({
                "metadata": metadata,
                "status": {"containerStatuses": [{
                    "name": "driver", "ready": false, "restartCount": 0, "image": "i", "imageID": "", "state": state,
                }]},
            }));
            Stage::of(&pod.unwrap(), marks_its_end)
        };
        let ended =
            |code: i32, marks_its_end| stage(json!({}), json!({"terminated": {"exitCode": code}}), marks_its_end);
        for (code, marked) in [(0, true), (7, true), (143, true), (137, false), (139, false)] {
            assert_eq!(ended(code, true), Stage::Ended { marked }, "{code}");
            // The script of a cluster that was made before there were marks.
            assert_eq!(ended(code, false), Stage::Ended { marked: false });
        }
        let running = || json!({"running": {}});
        assert_eq!(stage(json!({}), running(), true), Stage::Runs);
        let deleted = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
        assert_eq!(stage(deleted, running(), true), Stage::Ending);
    }
}
