//! An HTTP client that sends what it is told, byte for byte.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long to wait for anything before a test has failed.
const TIMEOUT: Duration = Duration::from_secs(40);

pub struct Client(BufReader<TcpStream>);

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.lines().filter_map(|line| line.split_once(": "));
        headers
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

/// A request without a body.
pub fn get(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

impl Client {
    #[track_caller]
    pub fn connect(address: impl ToSocketAddrs) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(BufReader::new(stream))
    }

    /// False if the other end has closed the connection.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.0.get_mut().write_all(bytes.as_ref()).is_ok()
    }

    /// Nothing more will be sent.
    pub fn end(&mut self) {
        let _ = self.0.get_mut().shutdown(Shutdown::Write);
    }

    #[track_caller]
    pub fn ask(&mut self, request: impl AsRef<[u8]>) -> Answer {
        self.send(request);
        self.answer().expect("no answer")
    }

    /// The next answer; `None` if the connection ends before it does.
    pub fn answer(&mut self) -> Option<Answer> {
        let mut answer = self.answer_head()?;
        let body = match (answer.header("transfer-encoding"), answer.header("content-length")) {
            _ if matches!(answer.status, 101 | 204 | 304) => vec![],
            (Some(_), _) => {
                let mut body = Vec::new();
                loop {
                    let chunk = self.chunk()?;
                    if chunk.is_empty() {
                        break body;
                    }
                    body.extend(chunk);
                }
            }
            (None, Some(length)) => self.take(length.parse().unwrap())?,
            (None, None) => {
                let mut body = Vec::new();
                self.0.read_to_end(&mut body).ok()?;
                body
            }
        };
        answer.body = String::from_utf8_lossy(&body).into_owned();
        Some(answer)
    }

    /// As [`Client::answer`], if it comes in time.
    pub fn wait(mut self, timeout: Duration) -> Option<Answer> {
        self.0.get_mut().set_read_timeout(Some(timeout)).unwrap();
        self.answer()
    }

    /// The head of the next answer alone.
    pub fn answer_head(&mut self) -> Option<Answer> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.0.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let body = String::new();
        Some(Answer { status, head, body })
    }

    /// The next chunk of a chunked body; the last is empty.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let mut line = String::new();
        self.0.read_line(&mut line).ok()?;
        let size = usize::from_str_radix(line.trim_end(), 16).ok()?;
        let mut chunk = self.take(size + 2)?;
        chunk.truncate(size);
        Some(chunk)
    }

    pub fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).ok()?;
        Some(bytes)
    }

    /// Waits until the other end closes the connection; all that comes before. `None` if it does not.
    pub fn rest(&mut self) -> Option<Vec<u8>> {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            _ => Some(rest),
        }
    }
}
