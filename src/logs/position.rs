//! How far a container's log has been read, so that a lost stream is resumed without losing or repeating a line. Pure.
//!
//! An API server returns a log from a whole second on, and the lines of a container's two streams are up to two seconds out of order. So the lines of
//! the last seconds are remembered: a resumed stream repeats them in the same order, and all that follows is new.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::Timestamp;

use crate::model::log_line::{Time, TimestampedLine};

/// How much older a line may be than one before it: two threads write output and errors.
const LATE_SECONDS: i64 = 2;
const SECOND: Time = 1_000_000_000;

/// How far a log has been read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogPosition {
    /// Lines of the last seconds, in the log's order.
    window: VecDeque<(Time, u64)>,
    /// Latest time of all lines read.
    latest: Option<Time>,
    read: u64,
    /// Time of the first line read, if the log was not read from its beginning.
    begun: Option<Time>,
    within: bool,
    /// How much of the window the resumed stream has repeated; `None` once everything is new.
    repeated: Option<usize>,
    /// Whether the resumed stream has shown any line yet.
    is_joined: bool,
}

/// Lines that can no longer be read, because the node has rotated the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The number of lines read before.
    pub after_line: u64,
    pub after: Option<Time>,
    /// When the next readable line was written; `None` if there is none.
    pub until: Option<Time>,
}

/// Whether a line of a stream is new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineStatus {
    /// It was read before.
    Repeated,
    New,
    /// New, but lines before it may be missing. It is not taken: [`LogPosition::accept`] does that, or the next stream begins here.
    NewAfter(Gap),
}

impl LogPosition {
    /// Before anything was read. `is_whole`: the log is read from its beginning, not only its last lines or recent ones.
    pub fn new(is_whole: bool) -> Self {
        Self {
            within: !is_whole,
            ..Self::default()
        }
    }

    /// The time from which to request lines; `None` if nothing was read yet.
    pub fn since(&self) -> Option<Timestamp> {
        Timestamp::from_second(seconds(self.latest?) - LATE_SECONDS).ok()
    }

    /// Starts a new stream, from [`LogPosition::since`] on.
    pub fn resume(&mut self) {
        self.repeated = (!self.window.is_empty()).then_some(0);
        self.is_joined = self.window.is_empty();
    }

    /// Takes the next line of the stream, unless lines before it may be missing.
    pub fn take(&mut self, line: &TimestampedLine<'_>) -> LineStatus {
        let key = key(line);
        if let Some(from) = self.repeated {
            if let Some(at) = self.window.iter().skip(from).position(|known| *known == key) {
                (self.repeated, self.is_joined) = (Some(from + at + 1), true);
                return LineStatus::Repeated;
            }
            if !self.is_joined && self.precedes(line.time) {
                return LineStatus::Repeated;
            }
            self.repeated = None;
        }
        if !self.is_joined {
            return LineStatus::NewAfter(self.gap(Some(line.time)));
        }
        self.add(key);
        LineStatus::New
    }

    /// Whether this is one of the last lines read.
    pub fn has(&self, line: &TimestampedLine<'_>) -> bool {
        self.window.contains(&key(line))
    }

    /// Whether no line has been read.
    pub fn is_empty(&self) -> bool {
        self.window.is_empty()
    }

    /// The gap if nothing more can be read.
    pub fn gap(&self, until: Option<Time>) -> Gap {
        Gap {
            after_line: self.read,
            after: self.latest,
            until,
        }
    }

    /// Whether a line may precede the lines requested at first, and so was never read.
    fn precedes(&self, time: Time) -> bool {
        let late = Time::from(LATE_SECONDS) * SECOND;
        let (Some(begun), Some(latest)) = (self.begun, self.latest) else {
            return false;
        };
        latest < begun + 2 * late && time <= latest + late
    }

    /// Takes a line also if lines before it may be missing.
    pub fn accept(&mut self, line: &TimestampedLine<'_>) {
        self.is_joined = true;
        self.add(key(line));
    }

    fn add(&mut self, key: (Time, u64)) {
        self.read += 1;
        if self.within && self.begun.is_none() {
            self.begun = Some(key.0);
        }
        let before = self.latest.map(seconds);
        let latest = self.latest.map_or(key.0, |latest| latest.max(key.0));
        self.latest = Some(latest);
        self.window.push_back(key);
        if before.is_some_and(|before| before < seconds(latest)) {
            let oldest = seconds(latest) - LATE_SECONDS;
            self.window.retain(|(time, _)| seconds(*time) >= oldest);
        }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown =
            |time: Time| Timestamp::from_nanosecond(time).map_or_else(|_| String::new(), |time| time.to_string());
        match self.after {
            Some(after) => write!(f, "after line {} of {}", self.after_line, shown(after))?,
            None => write!(f, "from the beginning")?,
        }
        match self.until {
            Some(until) => write!(f, " until {}", shown(until)),
            None => write!(f, " to the end"),
        }
    }
}

fn key(line: &TimestampedLine<'_>) -> (Time, u64) {
    let mut hasher = DefaultHasher::new();
    // A line that is cut off at its newline is the same line.
    line.text.strip_suffix(b"\n").unwrap_or(&line.text).hash(&mut hasher);
    (line.time, hasher.finish())
}

fn seconds(time: Time) -> i64 {
    i64::try_from(time.div_euclid(SECOND)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A log file on a node; rotation may drop its beginning.
    #[derive(Clone, Debug)]
    struct Log(Vec<(Time, String)>);

    impl Log {
        fn of(lines: &[(i64, &str)]) -> Self {
            let line = |(ms, text): &(i64, &str)| (Time::from(*ms) * 1_000_000, (*text).to_owned());
            Self(lines.iter().map(line).collect())
        }

        /// What a request returns, filtered as a kubelet does.
        fn since(&self, since: Option<Timestamp>) -> Vec<TimestampedLine<'_>> {
            let since = since.map_or(Time::MIN, |since| since.as_nanosecond());
            let lines = self.0.iter().filter(|(time, _)| *time >= since);
            let line = |(time, text): &(Time, String)| TimestampedLine {
                time: *time,
                text: text.clone().into_bytes().into(),
            };
            lines.map(line).collect()
        }
    }

    /// Reads what one stream returns until `cut` new lines have come.
    fn read(position: &mut LogPosition, log: &Log, cut: usize, texts: &mut Vec<String>) -> Vec<Gap> {
        let mut gaps = Vec::new();
        let end = texts.len() + cut;
        position.resume();
        for line in log.since(position.since()) {
            if texts.len() == end {
                break;
            }
            match position.take(&line) {
                LineStatus::Repeated => continue,
                LineStatus::New => {}
                LineStatus::NewAfter(gap) => {
                    position.accept(&line);
                    gaps.push(gap);
                }
            }
            texts.push(String::from_utf8_lossy(&line.text).into_owned());
        }
        gaps
    }

    /// Lines whose times go back by at most two seconds, many of them equal.
    fn logs() -> impl Strategy<Value = Vec<(i64, &'static str)>> {
        let steps = prop::collection::vec((prop_oneof![Just(0), Just(0), 1..3000i64], 0..=20i64, "[ab]"), 1..40);
        steps.prop_map(|steps| {
            let mut now = 1_700_000_000_000;
            let line = |(step, late, text): (i64, i64, String)| {
                now += step;
                (now - late * 100, if text == "a" { "a" } else { "b" })
            };
            steps.into_iter().map(line).collect()
        })
    }

    proptest! {
        #[test]
        fn resuming_anywhere_neither_loses_nor_repeats_a_line(
            lines in logs(), cuts in prop::collection::vec(0..6usize, 60),
        ) {
            let log = Log::of(&lines);
            let (mut position, mut texts) = (LogPosition::default(), Vec::new());
            for cut in cuts.into_iter().chain([usize::MAX / 2]) {
                prop_assert_eq!(read(&mut position, &log, cut, &mut texts), []);
            }
            let all: Vec<_> = lines.iter().map(|(_, text)| (*text).to_owned()).collect();
            prop_assert_eq!(texts, all);
        }

        #[test]
        fn lines_dropped_by_rotation_are_reported(
            lines in logs(), cuts in prop::collection::vec((0..6usize, 0..9usize), 30),
        ) {
            let mut log = Log::of(&lines);
            for (at, line) in log.0.iter_mut().enumerate() {
                line.1 = at.to_string();
            }
            let (mut position, mut texts, mut unread) = (LogPosition::default(), Vec::new(), 0);
            for (cut, dropped) in cuts {
                let before = texts.len();
                let gaps = read(&mut position, &log, cut, &mut texts);
                // All lines of this response, from its first on.
                let new: Vec<usize> = texts[before..].iter().map(|text| text.parse().unwrap()).collect();
                prop_assert!(new.windows(2).all(|pair| pair[1] == pair[0] + 1), "{:?}", new);
                if let Some(first) = new.first() {
                    prop_assert!(*first >= unread, "{first} was read before");
                    prop_assert!(*first == unread || gaps.len() == 1, "{unread} to {first} are missing: {gaps:?}");
                    unread = new.last().unwrap() + 1;
                }
                // The rotation of a log before its first line was read cannot be noticed.
                if !texts.is_empty() {
                    log.0.drain(..dropped.min(log.0.len()));
                }
            }
        }
    }

    #[test]
    fn a_gap_says_after_which_line_and_until_when() {
        let mut log = Log::of(&[(1000, "a"), (1500, "b"), (1900, "c"), (9000, "d")]);
        let (mut position, mut texts) = (LogPosition::default(), Vec::new());
        read(&mut position, &log, 2, &mut texts);
        log.0.drain(..3);
        let gaps = read(&mut position, &log, 9, &mut texts);
        assert_eq!(texts, ["a", "b", "d"]);
        assert_eq!(
            gaps[0].to_string(),
            "after line 2 of 1970-01-01T00:00:01.5Z until 1970-01-01T00:00:09Z"
        );
        assert!(position.gap(None).to_string().ends_with("to the end"));
    }

    #[test]
    fn rotation_after_everything_was_read_leaves_no_gap() {
        let mut log = Log::of(&[(1000, "a"), (1500, "b"), (1900, "c")]);
        let (mut position, mut texts) = (LogPosition::default(), Vec::new());
        read(&mut position, &log, 2, &mut texts);
        log.0.drain(..1);
        assert_eq!(read(&mut position, &log, 9, &mut texts), []);
        assert_eq!(texts, ["a", "b", "c"]);
    }

    #[test]
    fn a_resumed_stream_omits_lines_before_the_requested_ones() {
        let log = Log::of(&[
            (1000, "old"),
            (1800, "older thread"),
            (1500, "a"),
            (1600, "b"),
            (1700, "c"),
        ]);
        let mut position = LogPosition::new(false);
        position.resume();
        for line in &log.since(None)[2..4] {
            assert_eq!(position.take(line), LineStatus::New);
        }
        let mut texts = Vec::new();
        assert_eq!(read(&mut position, &log, 9, &mut texts), []);
        assert_eq!(texts, ["c"]);
    }

    #[test]
    fn the_last_line_read_is_recognised() {
        let log = Log::of(&[(1000, "a\n"), (1000, "b\n")]);
        let mut position = LogPosition::default();
        read(&mut position, &log, 1, &mut Vec::new());
        let lines = log.since(None);
        assert!(position.has(&lines[0]) && !position.has(&lines[1]));
        let whole = TimestampedLine::parse(b"1970-01-01T00:00:01Z a").unwrap();
        assert!(position.has(&whole), "a log may end without a newline");
    }
}
