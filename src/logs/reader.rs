//! The log of one run of a container on Kubernetes, read line by line and resumed where reading stopped, however often the stream is lost. A followed
//! stream that is silent is checked: the API server's connection to the node may be dead without an error.

use std::time::Duration;

use futures::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};
use kube::api::LogParams;
use tokio::time::timeout;

use crate::logs::position::{Gap, LineStatus, LogPosition};
use crate::model::log_line::{Time, TimestampedLine};
use crate::platform::kubernetes::{Cluster, Error};

/// After this silence the log's last line is requested. The silence doubles each time that nothing is new.
const SILENCE: Duration = Duration::from_secs(5);
/// How long the API server may take to begin a response, and to continue one that is not followed. It is short, because the connection to the node
/// may return just after a request was sent in vain.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// The most pieces of a last line.
const LAST_PIECES: i64 = 100;

/// Bytes of a log, as they arrive.
pub type Bytes = Box<dyn AsyncBufRead + Send + Unpin>;

/// A source of logs.
pub trait Logs {
    /// Opens a pod's log; one attempt, limited to `within`.
    fn log(&self, pod: &str, params: &LogParams, within: Duration)
    -> impl Future<Output = Result<Bytes, Error>> + Send;
}

impl Logs for Cluster {
    async fn log(&self, pod: &str, params: &LogParams, within: Duration) -> Result<Bytes, Error> {
        Ok(Box::new(self.log(pod, params, within).await?))
    }
}

/// A log that is being read.
pub struct LogReader<L> {
    logs: L,
    pod: String,
    /// What to read of the log at first.
    first: LogParams,
    longest_silence: Duration,
    position: LogPosition,
    was_opened: bool,
    stream: Option<OpenStream>,
    /// The last line of a stream that was not followed, if it has no newline.
    half: Vec<u8>,
    /// The log's last line at the previous check.
    last: Vec<u8>,
    /// Whether the last stream ended where lines were missing.
    expects_gap: bool,
}

struct OpenStream {
    bytes: Bytes,
    /// The part received so far.
    line: Vec<u8>,
    follow: bool,
    previous: bool,
    silence: Duration,
}

/// A line that was not read before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLine {
    pub time: Time,
    /// With its newline, if it has one.
    pub text: Vec<u8>,
    /// Lines before it that can no longer be read.
    pub gap: Option<Gap>,
}

/// What of a log is still unread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    Nothing,
    /// A last line without newline; of a container that has ended, it is complete.
    Half(NewLine),
    More,
    /// The log was rotated, and nothing was written since.
    Unknown,
}

impl<L: Logs> LogReader<L> {
    pub fn new(logs: L, pod: String, first: LogParams, longest_silence: Duration) -> Self {
        let is_whole = first.tail_lines.is_none() && first.since_seconds.is_none();
        Self {
            logs,
            pod,
            first,
            longest_silence,
            position: LogPosition::new(is_whole),
            was_opened: false,
            stream: None,
            half: Vec::new(),
            last: Vec::new(),
            expects_gap: false,
        }
    }

    /// The gap if nothing more can be read.
    pub fn gap(&self) -> Gap {
        self.position.gap(None)
    }

    /// Whether the next stream may be another log, for nothing in it tells: no line was read of this one, or the last stream did not go on with it.
    pub fn may_be_another(&self) -> bool {
        self.expects_gap || self.position.is_empty()
    }

    /// Opens the log where reading stopped.
    pub async fn open(&mut self, follow: bool, previous: bool) -> Result<(), Error> {
        self.stream = None;
        if self.first.tail_lines == Some(0) && self.position.is_empty() && !self.was_opened {
            // The next line to read is the one after the current last line.
            if let (Some(last), _) = self.last_lines(previous).await?
                && let Some(last) = TimestampedLine::parse(&last)
            {
                self.position.accept(&last);
            }
        }
        let mut params = LogParams {
            follow,
            previous,
            timestamps: true,
            ..self.first.clone()
        };
        if let Some(since) = self.position.since() {
            params.since_seconds = None;
            params.since_time = Some(since);
        }
        if self.was_opened || !self.position.is_empty() {
            params.tail_lines = None;
        }
        self.position.resume();
        match self.logs.log(&self.pod, &params, ANSWER_TIMEOUT).await {
            Ok(bytes) => {
                self.was_opened = true;
                self.half.clear();
                self.stream = Some(OpenStream {
                    bytes,
                    line: Vec::new(),
                    follow,
                    previous,
                    silence: SILENCE,
                });
                Ok(())
            }
            // A kubelet responds with the first line, and there may be none yet where nothing was read.
            Err(error @ Error::TimedOut { .. }) if follow && self.position.is_empty() => {
                match self.unread(previous).await? {
                    Unread::Nothing => Ok(()),
                    _ => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// The next line that was not read before; `None` at the end of the stream. It also ends where lines are missing, for it may be the log of the
    /// container's next run, of which the pod's status does not tell yet. The next stream goes on there.
    pub async fn next(&mut self) -> Result<Option<NewLine>, Error> {
        loop {
            let Some(stream) = &mut self.stream else {
                return Ok(None);
            };
            let silence_limit = if stream.follow { stream.silence } else { ANSWER_TIMEOUT };
            let read = match timeout(silence_limit, stream.bytes.read_until(b'\n', &mut stream.line)).await {
                Ok(read) => read.map_err(|error| error.to_string()),
                Err(_) if stream.follow => {
                    stream.silence = (silence_limit * 2).min(self.longest_silence);
                    let previous = stream.previous;
                    let unread = self.unread(previous).await;
                    if matches!(unread, Ok(Unread::Nothing | Unread::Half(_) | Unread::Unknown)) {
                        continue;
                    }
                    self.stream = None;
                    unread?;
                    return Err(self.unreadable("it continues, but its stream does not".into()));
                }
                Err(_) => Err(format!("nothing more came within {} s", silence_limit.as_secs())),
            };
            stream.silence = SILENCE;
            let (line, follow) = (std::mem::take(&mut stream.line), stream.follow);
            if let Err(message) = read {
                self.stream = None;
                return Err(self.unreadable(message));
            }
            if !line.ends_with(b"\n") {
                // The truncated line is sent again, whole.
                self.stream = None;
                if !follow {
                    self.half = line;
                }
                return Ok(None);
            }
            if let Some(line) = self.take(&line)? {
                return Ok(Some(line));
            }
        }
    }

    /// What is still unread, according to the log's last line.
    pub async fn unread(&mut self, previous: bool) -> Result<Unread, Error> {
        let (last, half) = self.last_lines(previous).await?;
        if !half.is_empty() && half == self.half {
            self.half.clear();
            return Ok(self.take(&half)?.map_or(Unread::Nothing, Unread::Half));
        }
        let is_read = match last {
            None if self.position.is_empty() => true,
            None => return Ok(Unread::Unknown),
            Some(last) if self.position.is_empty() => {
                // It may be older than what is to be read.
                let is_known = self.last.is_empty() || self.last == last;
                self.last = last;
                is_known && self.was_opened
            }
            Some(last) => {
                let line = TimestampedLine::parse(&last).ok_or_else(|| self.not_the_containers(&last))?;
                self.position.has(&line)
            }
        };
        Ok(if is_read { Unread::Nothing } else { Unread::More })
    }

    fn take(&mut self, line: &[u8]) -> Result<Option<NewLine>, Error> {
        let Some(stamped) = TimestampedLine::parse(line) else {
            self.stream = None;
            return Err(self.not_the_containers(line));
        };
        let is_doubtful = !self.expects_gap && self.stream.as_ref().is_some_and(|stream| !stream.previous);
        let gap = match self.position.take(&stamped) {
            LineStatus::Repeated => return Ok(None),
            LineStatus::New => None,
            LineStatus::NewAfter(_) if is_doubtful => {
                (self.expects_gap, self.stream) = (true, None);
                return Ok(None);
            }
            LineStatus::NewAfter(gap) => {
                self.position.accept(&stamped);
                Some(gap)
            }
        };
        self.expects_gap = false;
        Ok(Some(NewLine {
            time: stamped.time,
            text: stamped.text.into_owned(),
            gap,
        }))
    }

    /// The last whole line, if any, and the incomplete line after it.
    async fn last_lines(&mut self, previous: bool) -> Result<(Option<Vec<u8>>, Vec<u8>), Error> {
        let params = LogParams {
            container: self.first.container.clone(),
            previous,
            tail_lines: Some(LAST_PIECES),
            timestamps: true,
            ..LogParams::default()
        };
        let mut bytes = self.logs.log(&self.pod, &params, ANSWER_TIMEOUT).await?;
        let mut text = Vec::new();
        let read = timeout(ANSWER_TIMEOUT, bytes.read_to_end(&mut text)).await;
        let read = read.map_err(|_| self.unreadable(format!("no more came within {} s", ANSWER_TIMEOUT.as_secs())))?;
        read.map_err(|error| self.unreadable(error.to_string()))?;
        let mut lines: Vec<_> = text.split_inclusive(|&byte| byte == b'\n').collect();
        let half = lines.pop_if(|line| !line.ends_with(b"\n")).map(<[u8]>::to_vec);
        Ok((lines.last().map(|line| line.to_vec()), half.unwrap_or_default()))
    }

    fn not_the_containers(&self, line: &[u8]) -> Error {
        self.unreadable(String::from_utf8_lossy(line).trim().to_owned())
    }

    fn unreadable(&self, message: String) -> Error {
        Error::Protocol {
            action: format!("read the log of {}", self.pod),
            message,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A log whose streams end where it ends.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<String>>>);

    impl Written {
        fn line(&self, second: u8, text: &str) {
            let line = format!("2026-11-21T10:00:{second:02}Z {text}");
            self.0.lock().unwrap().push(line);
        }
    }

    impl Logs for Written {
        async fn log(&self, _: &str, params: &LogParams, _: Duration) -> Result<Bytes, Error> {
            let since = params.since_time.map_or(String::new(), |since| since.to_string());
            let mut lines = self.0.lock().unwrap().clone();
            let tail = params.tail_lines.map_or(usize::MAX, |lines| lines as usize);
            lines.drain(..lines.len().saturating_sub(tail));
            lines.retain(|line| line[..19] >= since[..since.len().min(19)]);
            Ok(Box::new(futures::io::Cursor::new(lines.concat().into_bytes())))
        }
    }

    async fn read(reader: &mut LogReader<Written>, follow: bool) -> Result<Vec<String>, Error> {
        reader.open(follow, false).await?;
        let mut texts = Vec::new();
        while let Some(line) = reader.next().await? {
            texts.push(String::from_utf8(line.text).unwrap());
        }
        Ok(texts)
    }

    fn reader(log: &Written, tail: Option<i64>) -> LogReader<Written> {
        let first = LogParams {
            tail_lines: tail,
            ..LogParams::default()
        };
        LogReader::new(log.clone(), "pod".into(), first, SILENCE)
    }

    #[tokio::test]
    async fn the_initial_limit_does_not_apply_to_later_lines() {
        for (tail, first) in [(Some(0), &[][..]), (Some(1), &["b\n"]), (None, &["a\n", "b\n"])] {
            let log = Written::default();
            log.line(1, "a\n");
            log.line(2, "b\n");
            let mut reader = reader(&log, tail);
            assert_eq!(read(&mut reader, true).await.unwrap(), first, "{tail:?}");
            log.line(2, "c\n");
            log.line(30, "d\n");
            assert_eq!(read(&mut reader, true).await.unwrap(), ["c\n", "d\n"], "{tail:?}");
        }
        let log = Written::default();
        let mut reader = reader(&log, Some(1));
        assert_eq!(read(&mut reader, true).await.unwrap(), [""; 0]);
        log.line(1, "a\n");
        log.line(2, "b\n");
        assert_eq!(read(&mut reader, true).await.unwrap(), ["a\n", "b\n"]);
    }

    #[tokio::test]
    async fn a_last_line_without_newline_is_read_once_the_container_has_ended() {
        let log = Written::default();
        log.line(1, "a\n");
        log.line(2, "half");
        let mut reader = reader(&log, None);
        assert_eq!(read(&mut reader, true).await.unwrap(), ["a\n"]);
        assert_eq!(read(&mut reader, false).await.unwrap(), [""; 0]);
        let Unread::Half(half) = reader.unread(false).await.unwrap() else {
            panic!("nothing is left");
        };
        assert_eq!(half.text, b"half");
        assert_eq!(reader.unread(false).await.unwrap(), Unread::Nothing);
    }

    #[tokio::test]
    async fn a_stream_ends_where_lines_are_missing_and_the_next_goes_on_there() {
        for follow in [true, false] {
            let log = Written::default();
            log.line(1, "a\n");
            let mut reader = reader(&log, None);
            assert_eq!(read(&mut reader, true).await.unwrap(), ["a\n"]);
            log.0.lock().unwrap().clear();
            log.line(20, "c\n");
            log.line(30, "d\n");
            assert_eq!(read(&mut reader, follow).await.unwrap(), [""; 0]);
            assert!(reader.may_be_another());
            assert_eq!(read(&mut reader, follow).await.unwrap(), ["c\n", "d\n"]);
            assert!(!reader.may_be_another());
        }
    }

    #[tokio::test]
    async fn a_message_of_the_server_is_an_error() {
        let log = Written::default();
        log.0
            .lock()
            .unwrap()
            .push("unable to retrieve container logs for containerd://1\n".into());
        let error = read(&mut reader(&log, None), false).await.unwrap_err();
        assert!(error.to_string().contains("unable to retrieve"), "{error}");
    }
}
