//! A driver's log as Kubernetes gives it: lines with times, output and errors mixed. Told apart, and followed without losing or doubling a line when the
//! stream is lost. Pure.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;

use crate::render::driver::ERROR_MARK;

/// Container runtimes write longer lines in pieces; old kubelets put a time before each.
const PIECE: usize = 16 * 1024;

/// Where a line belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Output,
    Errors,
}

/// A driver's line without its mark.
pub fn unmarked(line: &[u8]) -> (Stream, &[u8]) {
    match line.strip_prefix(&[ERROR_MARK]) {
        Some(line) => (Stream::Errors, line),
        None => (Stream::Output, line),
    }
}

/// Two streams are written by two threads: a line may be so much older than one before it.
const LATE_SECONDS: i64 = 2;

/// How far a log has been read. Lines can be asked for only from a whole second on, so it counts those of the last seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    seconds: BTreeMap<i64, Second>,
    /// Lines read so far.
    read: u64,
    /// Lines to be left out, for they have been read before.
    skip: usize,
    /// The stream does not begin where it did: its log was rotated meanwhile.
    rotated: bool,
    /// Time of the latest line.
    last: String,
}

/// What was read of one second.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Second {
    lines: usize,
    /// Number and time of the first.
    first: (u64, String),
}

impl Position {
    /// From when to ask for lines; `None`: from the beginning.
    pub fn since(&self) -> Option<String> {
        let (latest, _) = self.seconds.last_key_value()?;
        Some(Timestamp::from_second(latest - LATE_SECONDS).ok()?.to_string())
    }

    /// The stream is read anew, from [`Position::since`] on.
    pub fn again(&mut self) {
        self.skip = self.seconds.values().map(|second| second.lines).sum();
        self.rotated = false;
    }

    /// What is new in a line of the stream, as it came: a time, a blank, the text.
    pub fn unread<'a>(&mut self, line: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let at = line.iter().position(|&byte| byte == b' ');
        let (time, text) = match at {
            Some(at) if is_time(&line[..at]) => (String::from_utf8_lossy(&line[..at]).into_owned(), &line[at + 1..]),
            // The server's own word instead of the container's.
            _ => (self.last.clone(), line),
        };
        let all: usize = self.seconds.values().map(|second| second.lines).sum();
        if self.skip > 0 && self.skip == all {
            let first = self.seconds.values().map(|second| &second.first).min();
            self.rotated = first.is_none_or(|(_, first)| *first != time);
        }
        if self.rotated {
            if time <= self.last {
                return None;
            }
            (self.rotated, self.skip) = (false, 0);
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        self.count(time);
        Some(without_times(text))
    }

    fn count(&mut self, time: String) {
        self.read += 1;
        let parsed = time.parse::<Timestamp>();
        if let Ok(parsed) = parsed {
            let latest = self.seconds.last_key_value().map_or(i64::MIN, |(latest, _)| *latest);
            let second = parsed.as_second();
            let first = (self.read, time.clone());
            let counted = self.seconds.entry(second).or_insert(Second { lines: 0, first });
            counted.lines += 1;
            let latest = latest.max(second);
            self.seconds.retain(|second, _| *second >= latest - LATE_SECONDS);
        }
        self.last = time.max(std::mem::take(&mut self.last));
    }
}

fn is_time(word: &[u8]) -> bool {
    word.len() >= 20 && word[4] == b'-' && word[10] == b'T' && word[..4].iter().all(u8::is_ascii_digit)
}

/// A long line without the times between its pieces.
fn without_times(text: &[u8]) -> Cow<'_, [u8]> {
    let time_at = |from: usize| {
        let rest = text.get(from..)?;
        let end = rest.iter().take(40).position(|&byte| byte == b' ')?;
        is_time(&rest[..end]).then_some(from + end + 1)
    };
    let Some(mut next) = time_at(PIECE) else {
        return text.into();
    };
    let mut whole = text[..PIECE].to_vec();
    loop {
        let end = (next + PIECE).min(text.len());
        whole.extend_from_slice(&text[next..end]);
        match time_at(end) {
            Some(after) => next = after,
            None => {
                whole.extend_from_slice(&text[end..]);
                return whole.into();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a log that is cut off after every number of lines, and begun again.
    fn read_with_cuts(log: &[&str], cut: usize) -> Vec<String> {
        let mut position = Position::default();
        let mut read = Vec::new();
        for _ in 0..=log.len() / cut.max(1) + 1 {
            let since = position.since();
            position.again();
            let from_since = log
                .iter()
                .filter(|line| since.as_ref().is_none_or(|since| line[..19] >= since[..19]));
            let mut lines = 0;
            for line in from_since {
                if let Some(text) = position.unread(line.as_bytes()) {
                    read.push(String::from_utf8(text.into_owned()).unwrap());
                    lines += 1;
                    if lines == cut {
                        break;
                    }
                }
            }
        }
        read
    }

    #[test]
    fn a_stream_that_is_lost_anywhere_neither_loses_nor_doubles_a_line() {
        let log = [
            "2026-11-21T10:00:00.1Z a",
            "2026-11-21T10:00:00.1Z a",
            "2026-11-21T10:00:01.5Z b",
            "2026-11-21T10:00:01.4Z c",
            "2026-11-21T10:00:02.0Z d",
            "2026-11-21T10:00:01.9Z e",
            "2026-11-21T10:00:02.0Z d",
            "2026-11-21T10:00:09.0Z f",
        ];
        for cut in 1..=log.len() {
            assert_eq!(
                read_with_cuts(&log, cut),
                ["a", "a", "b", "c", "d", "e", "d", "f"],
                "cut after {cut}"
            );
        }
    }

    #[test]
    fn a_rotated_log_is_read_from_the_first_new_line() {
        let mut position = Position::default();
        for line in ["2026-11-21T10:00:00.1Z a", "2026-11-21T10:00:00.2Z b"] {
            position.unread(line.as_bytes());
        }
        position.again();
        assert_eq!(position.unread(b"2026-11-21T10:00:00.2Z b"), None);
        assert_eq!(position.unread(b"2026-11-21T10:00:00.3Z c").as_deref(), Some(&b"c"[..]));
    }

    #[test]
    fn long_lines_lose_the_times_of_their_pieces() {
        let (a, b, c) = ("a".repeat(PIECE), "b".repeat(PIECE), "c".repeat(9));
        let time = "2026-11-21T10:00:00.123456789Z";
        let line = format!("{time} {a}{time} {b}{time} {c}");
        let whole = Position::default().unread(line.as_bytes()).unwrap().into_owned();
        assert!(whole == format!("{a}{b}{c}").into_bytes());
        let plain = format!("{time} {a}{b}{c}");
        assert!(Position::default().unread(plain.as_bytes()).unwrap() == format!("{a}{b}{c}").as_bytes());
    }

    #[test]
    fn errors_are_marked() {
        assert_eq!(unmarked(b"\x1ewarn"), (Stream::Errors, &b"warn"[..]));
        assert_eq!(unmarked(b"out"), (Stream::Output, &b"out"[..]));
    }
}
