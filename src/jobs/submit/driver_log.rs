//! Follows a driver's log to its end. Resumes a lost or dead stream where it stopped, and reports lines that cannot be
//! read.

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

/// The longest silence before a stream is checked.
const LONGEST_SILENCE: Duration = Duration::from_secs(5);
const AGAIN_AFTER: Duration = Duration::from_millis(300);
/// Shorter outages are not reported.
const REPORT_AFTER: Duration = Duration::from_secs(3);
/// How long after the driver's end the last lines may take to appear on a reachable node.
const END_TIMEOUT: Duration = Duration::from_secs(30);

/// The driver whose log is followed.
pub struct Followed<'a, L> {
    pub logs: &'a L,
    pub driver: &'a str,
    /// Its script marks the end of its log.
    pub marks_its_end: bool,
    pub progress: &'a Progress,
}

/// Log lines that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingLines {
    pub lines: Gap,
    pub reason: String,
}

/// Follows the log until the driver has ended and every readable line was read. `current_pod` returns the live pod.
/// `keep` is called while the log of an ended driver cannot be read.
pub async fn follow<L: Logs + Clone>(
    followed: &Followed<'_, L>,
    sink: Sink<'_>,
    current_pod: impl Fn() -> Option<Pod>,
    mut keep: impl AsyncFnMut(),
) -> Result<Option<MissingLines>, Error> {
    let mut log = DriverLog::of(followed, sink);
    // When reading first failed with the same patience after the driver's end.
    let mut over: Option<(Duration, Instant)> = None;
    loop {
        let Some(pod) = current_pod() else {
            return Ok(match log.is_whole() {
                true => log.missing,
                false => Some(log.missing("its pod was removed")),
            });
        };
        let stage = DriverStage::of(&pod, followed.marks_its_end);
        let outcome = log.read(stage).await;
        let (reason, patience) = match outcome {
            _ if log.is_whole() => return Ok(log.missing),
            Ok(UnreadLines::Nothing) => return Ok(log.missing),
            Ok(UnreadLines::More) => (None, END_TIMEOUT),
            Ok(UnreadLines::EndMissing) => (Some("the log does not contain its end".to_owned()), END_TIMEOUT),
            Err(error @ kubernetes::Error::Forbidden { .. }) => return Err(error.into()),
            Err(error) => (Some(error.to_string()), READ_TIMEOUT),
        };
        if let Some(reason) = reason {
            log.outage.goes_on(followed, &reason);
            if stage != DriverStage::Runs {
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

/// The stage of a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DriverStage {
    Runs,
    /// Its pod is being deleted. Its node may be lost.
    Ending,
    /// `marked`: the log must contain the end marks.
    Ended {
        marked: bool,
    },
}

impl DriverStage {
    fn of(pod: &Pod, marks_its_end: bool) -> Self {
        match drivers::ended(pod) {
            // A killed script writes no marks.
            Some(ended) => DriverStage::Ended {
                marked: marks_its_end && (ended.exit_code <= 128 || ended.exit_code == i32::from(TERMINATED)),
            },
            // An old kubelet that evicts a pod reports no container status.
            None if has_failed(pod) => DriverStage::Ended { marked: false },
            None if pod.metadata.deletion_timestamp.is_some() => DriverStage::Ending,
            None => DriverStage::Runs,
        }
    }
}

fn has_failed(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    phase == Some("Failed")
}

/// What remains to be read after a stream's end.
enum UnreadLines {
    Nothing,
    More,
    /// Nothing, but the end marks are missing.
    EndMissing,
}

/// The part of a driver's log that was read.
struct DriverLog<'a, L> {
    followed: &'a Followed<'a, L>,
    reader: LogReader<L>,
    sink: Sink<'a>,
    has_all_output: bool,
    has_all_errors: bool,
    /// The first lines that could not be read.
    missing: Option<MissingLines>,
    outage: Outage,
}

impl<'a, L: Logs + Clone> DriverLog<'a, L> {
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

    /// Reads until the stream ends.
    async fn read(&mut self, stage: DriverStage) -> Result<UnreadLines, kubernetes::Error> {
        let marked = match stage {
            DriverStage::Ended { marked } => Some(marked),
            DriverStage::Runs | DriverStage::Ending => None,
        };
        self.reader.open(marked.is_none(), false).await?;
        self.outage.ends(self.followed);
        while let Some(line) = self.reader.next().await? {
            self.pass_on(line);
        }
        let Some(marked) = marked.filter(|_| !self.is_whole()) else {
            return Ok(UnreadLines::More);
        };
        let rest = self.reader.unread(false).await?;
        let is_known = rest != Unread::Unknown;
        match rest {
            Unread::More => return Ok(UnreadLines::More),
            Unread::Half(line) => self.pass_on(line),
            Unread::Nothing | Unread::Unknown => {}
        }
        Ok(match is_known && !marked {
            true => UnreadLines::Nothing,
            false => UnreadLines::EndMissing,
        })
    }

    fn pass_on(&mut self, line: NewLine) {
        if let Some(gap) = line.gap {
            let missing = MissingLines {
                lines: gap,
                reason: "its node rotated the log".into(),
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

    /// The missing lines once nothing more can be read.
    fn missing(self, reason: &str) -> MissingLines {
        let to_the_end = MissingLines {
            lines: self.reader.gap(),
            reason: reason.to_owned(),
        };
        self.missing.unwrap_or(to_the_end)
    }
}

impl fmt::Display for MissingLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lines of the job's log are missing {}: {}", self.lines, self.reason)
    }
}

/// A period in which the log cannot be read.
#[derive(Default)]
struct Outage {
    since: Option<Instant>,
    is_reported: bool,
}

impl Outage {
    fn goes_on<L>(&mut self, followed: &Followed<'_, L>, reason: &str) {
        let message = format!("the log of {} cannot be read at the moment: {reason}", followed.driver);
        tracing::info!("{message}");
        let since = *self.since.get_or_insert_with(Instant::now);
        if !self.is_reported && since.elapsed() > REPORT_AFTER {
            self.is_reported = true;
            followed.progress.warn(&format!("{message}; retrying"));
        }
    }

    fn ends<L>(&mut self, followed: &Followed<'_, L>) {
        if std::mem::take(self).is_reported {
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

    /// A driver on a node that is cut off from the API server for a while. Times are milliseconds since the driver's
    /// start.
    #[derive(Clone, Debug)]
    struct Scenario {
        began: Instant,
        lines: Vec<(u64, String)>,
        ends: u64,
        exit_code: i32,
        cut: Range<u64>,
        /// How a cut stream behaves: it stays silent, or ends as if complete.
        hangs: bool,
        /// When older lines are rotated away.
        rotated: u64,
        removed: u64,
    }

    impl Scenario {
        /// Two lines per second and the end marks.
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
    struct FakeNode(Arc<Scenario>);

    impl Logs for FakeNode {
        async fn log(&self, _: &str, params: &LogParams, within: Duration) -> Result<Bytes, kubernetes::Error> {
            let (scenario, opened) = (self.0.clone(), self.0.now());
            if scenario.cut.contains(&opened) {
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
            let kept = if opened >= scenario.rotated {
                scenario.rotated
            } else {
                0
            };
            let there = |line: &&(u64, String)| line.0 >= kept && line.0 as i64 >= since;
            let mut lines: Vec<_> = scenario.lines.iter().filter(there).cloned().collect();
            if !params.follow {
                lines.retain(|(at, _)| *at <= opened);
                let tail = params.tail_lines.map_or(usize::MAX, |lines| lines as usize);
                lines.drain(..lines.len().saturating_sub(tail));
                let whole: Vec<u8> = lines.iter().flat_map(Scenario::stamped).collect();
                return Ok(Box::new(futures::io::Cursor::new(whole)));
            }
            lines.push((scenario.ends, String::new()));
            let coming = stream::iter(lines).then(move |line| {
                let scenario = scenario.clone();
                async move {
                    tokio::time::sleep_until(scenario.began + Duration::from_millis(line.0)).await;
                    let is_cut = opened < scenario.cut.start && scenario.cut.start <= line.0;
                    if is_cut && scenario.hangs {
                        return std::future::pending().await;
                    }
                    (!is_cut && !line.1.is_empty()).then(|| Ok::<_, std::io::Error>(Scenario::stamped(&line)))
                }
            });
            let whole = coming
                .take_while(|line| std::future::ready(line.is_some()))
                .filter_map(std::future::ready);
            Ok(Box::new(whole.boxed().into_async_read()))
        }
    }

    #[derive(Debug)]
    struct Followup {
        /// Each line with its arrival time.
        lines: Vec<(u64, String)>,
        missing: Option<MissingLines>,
        kept: bool,
        took: u64,
    }

    impl Followup {
        fn texts(&self) -> Vec<&str> {
            self.lines.iter().map(|(_, text)| text.trim_end()).collect()
        }
    }

    async fn followed(scenario: &Scenario) -> Followup {
        let scenario = &Scenario {
            began: Instant::now(),
            ..scenario.clone()
        };
        let (lines, mut kept) = (Mutex::new(Vec::new()), false);
        let sink = |_, line: &[u8]| {
            lines
                .lock()
                .unwrap()
                .push((scenario.now(), String::from_utf8_lossy(line).into_owned()))
        };
        let followed = Followed {
            logs: &FakeNode(Arc::new(scenario.clone())),
            driver: "d",
            marks_its_end: true,
            progress: &Progress::new(true),
        };
        let missing = follow(&followed, &sink, || scenario.pod(), async || kept = true)
            .await
            .unwrap();
        Followup {
            missing,
            kept,
            took: scenario.now(),
            lines: lines.into_inner().unwrap(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn every_line_arrives_once_regardless_of_the_length_of_an_outage() {
        for seconds in [5, 12, 75, 300] {
            let moments = [
                ("begin", Scenario::of(seconds + 60, 0..seconds)),
                ("midst", Scenario::of(seconds + 60, 10..10 + seconds)),
                ("end", Scenario::of(20, 18..18 + seconds)),
                ("after the end", Scenario::of(20, 20..20 + seconds)),
            ];
            for (moment, scenario) in moments {
                for hangs in [true, false] {
                    let scenario = Scenario {
                        hangs,
                        ..scenario.clone()
                    };
                    let followed_log = followed(&scenario).await;
                    let which = format!("{seconds} s, {moment}, hangs: {hangs}: {followed_log:?}");
                    assert_eq!(followed_log.texts(), scenario.texts(), "{which}");
                    assert_eq!(followed_log.missing, None, "{which}");
                    // A silent stream is resumed within 10 s after the connection is back.
                    for ((came, _), (written, _)) in followed_log.lines.iter().zip(&scenario.lines) {
                        assert!(*came <= written.max(&scenario.cut.end) + 10_000, "{which}");
                    }
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_unreadable_log_is_kept_and_missing_lines_are_reported() {
        let followed_log = followed(&Scenario::of(20, 18..10_000)).await;
        let missing = followed_log.missing.unwrap();
        assert!(
            followed_log.kept && (600_000..660_000).contains(&followed_log.took),
            "{}",
            followed_log.took
        );
        assert_eq!(missing.lines.after_line, followed_log.lines.len() as u64);
        assert!(missing.to_string().contains("after line 36 of "), "{missing}");
        assert!(missing.to_string().contains(" to the end: failed to read"), "{missing}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_killed_driver_needs_no_end_marks() {
        let mut scenario = Scenario::of(20, 18..30);
        scenario.lines.truncate(40);
        let unmarked = followed(&scenario).await;
        assert!(
            unmarked
                .missing
                .unwrap()
                .to_string()
                .contains("the log does not contain its end")
        );
        assert!(unmarked.kept);
        scenario.exit_code = 137;
        let killed = followed(&scenario).await;
        assert_eq!(killed.missing, None);
        assert_eq!(killed.texts(), scenario.texts());
    }

    #[tokio::test(start_paused = true)]
    async fn rotated_and_removed_lines_are_reported() {
        let scenario = Scenario {
            rotated: 25_000,
            ..Scenario::of(60, 10..30)
        };
        let followed_log = followed(&scenario).await;
        let missing = followed_log.missing.as_ref().unwrap().to_string();
        let expected = "after line 20 of 2027-01-15T08:00:09.5Z until 2027-01-15T08:00:25Z: its node rotated the log";
        assert!(missing.contains(expected), "{missing}");
        assert_eq!(followed_log.lines.len(), 20 + 70);
        let scenario = Scenario {
            removed: 20_000,
            ..Scenario::of(60, 10..90)
        };
        let followed_log = followed(&scenario).await;
        assert!(!followed_log.kept && followed_log.took < 40_000, "{followed_log:?}");
        assert!(
            followed_log
                .missing
                .unwrap()
                .to_string()
                .contains("its pod was removed")
        );
    }

    #[test]
    fn end_marks_are_expected_unless_the_driver_was_killed() {
        let stage = |metadata: serde_json::Value, state: serde_json::Value, marks_its_end| {
            let pod = serde_json::from_value(json!({
                "metadata": metadata,
                "status": {"containerStatuses": [{
                    "name": "driver", "ready": false, "restartCount": 0, "image": "i", "imageID": "", "state": state,
                }]},
            }));
            DriverStage::of(&pod.unwrap(), marks_its_end)
        };
        let ended =
            |code: i32, marks_its_end| stage(json!({}), json!({"terminated": {"exitCode": code}}), marks_its_end);
        for (code, marked) in [(0, true), (7, true), (143, true), (137, false), (139, false)] {
            assert_eq!(ended(code, true), DriverStage::Ended { marked }, "{code}");
            // The script of a cluster that was created before there were end marks.
            assert_eq!(ended(code, false), DriverStage::Ended { marked: false });
        }
        let running = || json!({"running": {}});
        assert_eq!(stage(json!({}), running(), true), DriverStage::Runs);
        let deleted = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
        assert_eq!(stage(deleted, running(), true), DriverStage::Ending);
    }
}
