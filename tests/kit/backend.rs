//! Web UIs of tests: servers that keep every byte that reaches them, and do with a connection what a function says.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// A server, ended with the test. Its open connections end with it.
pub struct Backend {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    ended: AtomicBool,
    /// In the order in which they were accepted.
    connections: Mutex<Vec<Accepted>>,
}

struct Accepted {
    peer: SocketAddr,
    stream: TcpStream,
    received: Vec<u8>,
}

/// One connection, from the server's side.
pub struct Connection {
    stream: TcpStream,
    unread: Vec<u8>,
    number: usize,
    shared: Arc<Shared>,
}

impl Backend {
    pub fn start(address: &str, serve: impl Fn(&mut Connection) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let (shared, serve) = (Arc::new(Shared::default()), Arc::new(serve));
        let accepting = shared.clone();
        let thread = std::thread::spawn(move || {
            while let Ok((stream, peer)) = listener.accept() {
                if accepting.ended.load(Ordering::SeqCst) {
                    break;
                }
                let mut connections = accepting.connections();
                let mut connection = Connection {
                    stream: stream.try_clone().unwrap(),
                    unread: vec![],
                    number: connections.len(),
                    shared: accepting.clone(),
                };
                let received = vec![];
                connections.push(Accepted { peer, stream, received });
                let serve = serve.clone();
                std::thread::spawn(move || {
                    serve(&mut connection);
                    // The clone that is kept must not keep it open.
                    let _ = connection.stream.shutdown(std::net::Shutdown::Both);
                });
            }
        });
        Self {
            address,
            shared,
            thread: Some(thread),
        }
    }

    /// Answers every request with 200 and its own address.
    pub fn plain(address: &str) -> Self {
        let text = address.to_owned();
        Self::answering(address, move |_| ok(&text))
    }

    /// Answers every request by a function of its head.
    pub fn answering(address: &str, answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        Self::start(address, move |connection| {
            while let Some((head, _)) = connection.request() {
                connection.send(answer(&head));
            }
        })
    }

    /// How many connections others have made so far. Whatever was begun before the call is counted.
    pub fn connections(&self) -> usize {
        let mut own = TcpStream::connect(self.address).unwrap();
        let our_address = own.local_addr().unwrap();
        let is_own = |accepted: &Accepted| accepted.peer == our_address;
        // Connections are accepted in the order in which they were made.
        loop {
            let mut connections = self.shared.connections();
            if let Some(at) = connections.iter().position(is_own) {
                // It is none of the others', now or later.
                connections[at].peer = self.address;
                let _ = own.flush();
                return connections
                    .iter()
                    .filter(|accepted| accepted.peer != self.address)
                    .count();
            }
            drop(connections);
            std::thread::yield_now();
        }
    }

    /// All that came in, over all connections.
    pub fn received(&self) -> String {
        let connections = self.shared.connections();
        let all: Vec<u8> = connections
            .iter()
            .flat_map(|accepted| accepted.received.clone())
            .collect();
        String::from_utf8_lossy(&all).into_owned()
    }

    /// Forgets what came in.
    pub fn forget(&self) {
        let mut connections = self.shared.connections();
        connections.iter_mut().for_each(|accepted| accepted.received.clear());
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // Wakes the one that waits for connections.
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().map(JoinHandle::join);
        for accepted in self.shared.connections().iter() {
            let _ = accepted.stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl Shared {
    fn connections(&self) -> MutexGuard<'_, Vec<Accepted>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Head and body of the next request; `None` at the end, or if it breaks off.
    pub fn request(&mut self) -> Option<(String, Vec<u8>)> {
        let head = self.head()?;
        let lower = head.to_lowercase();
        let body = if lower.contains("\r\ntransfer-encoding:") {
            self.chunks()?
        } else if let Some((_, rest)) = lower.split_once("\r\ncontent-length: ") {
            self.take(rest.lines().next()?.parse().ok()?)?
        } else {
            vec![]
        };
        Some((head, body))
    }

    /// The head of the next request, with the empty line at its end.
    pub fn head(&mut self) -> Option<String> {
        let head = self.until(b"\r\n\r\n")?;
        Some(String::from_utf8_lossy(&head).into_owned())
    }

    /// The next so many bytes.
    pub fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.unread.len() < length {
            self.fill()?;
        }
        Some(self.unread.drain(..length).collect())
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Breaks off in such a way that the other end sees a reset.
    pub fn reset(&mut self) {
        rustix::net::sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO)).unwrap();
        // The last of the socket's owners closes it.
        let mut connections = self.shared.connections();
        connections[self.number].stream = closed();
        self.stream = closed();
    }

    fn chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = String::from_utf8(self.until(b"\r\n")?).ok()?;
            let size = usize::from_str_radix(line.trim_end(), 16).ok()?;
            let chunk = self.take(size + 2)?;
            body.extend(&chunk[..size]);
            if size == 0 {
                return Some(body);
            }
        }
    }

    fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.unread.windows(end.len()).position(|bytes| bytes == end) {
                return Some(self.unread.drain(..at + end.len()).collect());
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> Option<()> {
        let mut buffer = [0; 16 * 1024];
        let read = self.stream.read(&mut buffer).ok().filter(|read| *read > 0)?;
        self.unread.extend(&buffer[..read]);
        self.shared.connections()[self.number].received.extend(&buffer[..read]);
        Some(())
    }
}

/// A socket that is no longer one.
fn closed() -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    TcpStream::connect(listener.local_addr().unwrap()).unwrap()
}

/// An answer with this text.
pub fn ok(text: &str) -> String {
    let length = text.len();
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{text}")
}
