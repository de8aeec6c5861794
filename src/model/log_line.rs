//! A line of a container's log as the API server sends it, with the time at which it was written. Pure.

use std::borrow::Cow;

use jiff::Timestamp;

/// Container runtimes write longer lines in pieces; old kubelets put a time before each.
const PIECE: usize = 16 * 1024;

/// When a line was written, in nanoseconds; comparable only with others of the same kind.
pub type Time = i128;

/// A line as the API server sends it with `timestamps=true`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimestampedLine<'a> {
    pub time: Time,
    /// With its newline, if it has one.
    pub text: Cow<'a, [u8]>,
}

impl<'a> TimestampedLine<'a> {
    /// `None` if the line is not the container's, but the server's own message.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let end = line.iter().take(40).position(|&byte| byte == b' ')?;
        let time = time(&line[..end])?;
        let text = without_times(&line[end + 1..]);
        Some(Self { time, text })
    }
}

fn time(word: &[u8]) -> Option<Time> {
    let is_date = word.len() >= 20 && word[4] == b'-' && word[10] == b'T' && word[..4].iter().all(u8::is_ascii_digit);
    let word = std::str::from_utf8(word).ok().filter(|_| is_date)?;
    Some(word.parse::<Timestamp>().ok()?.as_nanosecond())
}

/// A long line without the times between its pieces.
fn without_times(text: &[u8]) -> Cow<'_, [u8]> {
    let time_at = |from: usize| {
        let rest = text.get(from..)?;
        let end = rest.iter().take(40).position(|&byte| byte == b' ')?;
        time(&rest[..end]).map(|_| from + end + 1)
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

    #[test]
    fn long_lines_lose_the_times_of_their_pieces() {
        let (a, b, c) = ("a".repeat(PIECE), "b".repeat(PIECE), "c".repeat(9));
        let time = "2026-11-21T10:00:00.123456789Z";
        let line = format!("{time} {a}{time} {b}{time} {c}");
        assert!(TimestampedLine::parse(line.as_bytes()).unwrap().text == format!("{a}{b}{c}").into_bytes());
        let plain = format!("{time} {a}{b}{c}");
        assert!(TimestampedLine::parse(plain.as_bytes()).unwrap().text == format!("{a}{b}{c}").as_bytes());
    }

    #[test]
    fn timestamps_of_any_precision_and_zone_are_in_order() {
        let time = |line: &str| TimestampedLine::parse(line.as_bytes()).unwrap().time;
        let (a, b) = (
            "2026-11-21T14:20:56.12Z one two",
            "2026-11-21T15:20:56.123000001+01:00 x",
        );
        assert_eq!(time(b) - time(a), 3_000_001);
        assert_eq!(&*TimestampedLine::parse(a.as_bytes()).unwrap().text, b"one two");
    }

    #[test]
    fn a_line_without_a_timestamp_is_not_the_containers() {
        for line in [
            &b"unable to retrieve container logs for containerd://1"[..],
            b"",
            b"2026-11-21 x",
        ] {
            assert_eq!(TimestampedLine::parse(line), None);
        }
    }
}
