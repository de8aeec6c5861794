//! The router's sockets: plain or TLS, limited in number and in how long a client may take, and drained when the router ends. One thread for each
//! processor serves connections to their end; a panic ends only the connection in which it occurs.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;

use super::pods::{AnyBody, BoxError, ConnectionPool};
use super::proxy::{ClientConnection, Peer, Router};
use super::slots::{Busy, Slot, Slots};
use crate::platform::peers;

/// The most connections at a time, in all and of one client.
const CONNECTIONS: usize = 4096;
const OF_ONE_CLIENT: usize = 1024;
/// Open files that are not connections.
const OTHER_FILES: u64 = 100;
/// How long a client may take to send the head of a request, including the pause before it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may leave sent data unread.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
const TLS_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest head of a request.
const HEAD_LIMIT: usize = 32 * 1024;
/// How often idle connections to pods are checked.
const TIDY: Duration = Duration::from_secs(5);
/// How long open requests may take when the router ends.
const DRAIN: Duration = Duration::from_secs(10);

#[cfg(panic = "abort")]
compile_error!("a panic would end the connections of all clients: do not abort");

/// The sockets and their protocol.
pub struct HttpListeners {
    pub listeners: Vec<std::net::TcpListener>,
    /// The current certificate; `None` for plain HTTP.
    pub tls: Option<watch::Receiver<Arc<rustls::ServerConfig>>>,
    /// Answer only processes of this user and of root.
    pub only_own: bool,
}

/// What all connections share.
struct Shared {
    router: Arc<Router>,
    /// Becomes true when the router ends.
    is_ending: watch::Receiver<bool>,
}

/// An accepted connection and its slot.
struct Accepted {
    stream: std::net::TcpStream,
    tls: Option<TlsAcceptor>,
    peer: Peer,
    slot: Arc<Slot>,
}

/// One of the threads that serve connections.
#[derive(Clone)]
struct ServingThread {
    accepted: mpsc::UnboundedSender<Accepted>,
    /// Number of its connections.
    load: Arc<AtomicUsize>,
}

/// Decrements the number of connections when dropped.
struct LoadGuard(Arc<AtomicUsize>);

impl Drop for LoadGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves until `end`, then until open requests are answered or time out.
///
/// # Errors
/// If a thread or a socket cannot be created.
pub async fn serve(router: Arc<Router>, http: HttpListeners, end: impl Future<Output = ()>) -> io::Result<()> {
    let (end_sender, is_ending) = watch::channel(false);
    let shared = Arc::new(Shared { router, is_ending });
    let most = connections();
    let slots = Slots::new(most, most.min(OF_ONE_CLIENT));
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let servers: Vec<_> = (0..processors)
        .map(|_| {
            let shared = shared.clone();
            server(move || serving(&shared))
        })
        .collect::<io::Result<_>>()?;
    let mut accepting = JoinSet::new();
    for listener in http.listeners {
        let listener = TcpListener::from_std(listener)?;
        accepting.spawn(accept(
            listener,
            http.tls.clone(),
            http.only_own,
            servers.clone(),
            slots.clone(),
        ));
    }
    end.await;
    accepting.shutdown().await;
    end_sender.send_replace(true);
    if tokio::time::timeout(DRAIN, slots.until_free()).await.is_err() {
        tracing::info!("some connections were still in use");
    }
    Ok(())
}

/// The most connections: each takes a file, and a second one to its pod. Raises the limit of open files as far as permitted.
fn connections() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let files = match setrlimit(Resource::Nofile, all) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let pairs = files.map_or(u64::MAX, |files| files.saturating_sub(OTHER_FILES) / 2);
    usize::try_from(pairs).map_or(CONNECTIONS, |pairs| pairs.clamp(1, CONNECTIONS))
}

/// A thread that serves the connections sent to it until all senders are dropped. `begin` runs in that thread and returns the function that serves a
/// connection. A panic ends only that connection.
fn server<S, F>(begin: impl FnOnce() -> S + Send + 'static) -> io::Result<ServingThread>
where
    S: Fn(Accepted) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (sender, mut accepted) = mpsc::unbounded_channel();
    let load = Arc::new(AtomicUsize::new(0));
    let server = ServingThread {
        accepted: sender,
        load: load.clone(),
    };
    let work = move || {
        runtime.block_on(async move {
            let serve = begin();
            while let Some(accepted) = accepted.recv().await {
                let (served, loaded) = (serve(accepted), LoadGuard(load.clone()));
                tokio::spawn(async move {
                    served.await;
                    drop(loaded);
                });
            }
        });
    };
    std::thread::Builder::new().name("router".into()).spawn(work)?;
    Ok(server)
}

/// Returns the function that serves the connections of one thread.
fn serving(shared: &Arc<Shared>) -> impl Fn(Accepted) -> Pin<Box<dyn Future<Output = ()> + Send>> + use<> {
    let shared = shared.clone();
    let pods = ConnectionPool::new(shared.router.transport.clone());
    let tidied = pods.clone();
    tokio::spawn(async move {
        let mut tidy = tokio::time::interval(TIDY);
        loop {
            tidy.tick().await;
            tidied.tidy();
        }
    });
    move |accepted| Box::pin(connection(accepted, shared.clone(), pods.clone()))
}

/// Accepts connections and gives each to the thread with the fewest: if the threads accepted themselves, one would get them all.
async fn accept(
    listener: TcpListener,
    tls: Option<watch::Receiver<Arc<rustls::ServerConfig>>>,
    only_own: bool,
    servers: Vec<ServingThread>,
    slots: Arc<Slots>,
) {
    let Ok(port) = listener.local_addr().map(|address| address.port()) else {
        return;
    };
    loop {
        let accepted = listener.accept().await.and_then(|(stream, from)| {
            // A response must not wait until earlier data is acknowledged.
            stream.set_nodelay(true)?;
            let is_own = !only_own || peers::is_own(from, stream.local_addr()?);
            Ok((stream.into_std()?, from, is_own))
        });
        let (stream, from, is_own) = match accepted {
            Ok(accepted) => accepted,
            // Most likely no file descriptors are left: other connections close meanwhile.
            Err(error) => {
                tracing::warn!("failed to accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(slot) = slots.take(from.ip()) else {
            tracing::debug!("{from}: too many connections, none of them idle");
            continue;
        };
        let tls = tls.as_ref().map(|tls| TlsAcceptor::from(tls.borrow().clone()));
        let peer = Peer {
            from,
            port,
            secure: tls.is_some(),
            is_own,
        };
        if let Some(server) = servers.iter().min_by_key(|server| server.load.load(Ordering::Relaxed)) {
            server.load.fetch_add(1, Ordering::Relaxed);
            let accepted = Accepted {
                stream,
                tls,
                peer,
                slot,
            };
            // The threads last as long as the process.
            drop(server.accepted.send(accepted));
        }
    }
}

async fn until_ending(is_ending: &mut watch::Receiver<bool>) {
    // A dropped sender also means the end.
    drop(is_ending.wait_for(|ends| *ends).await);
}

async fn connection(accepted: Accepted, shared: Arc<Shared>, pods: Arc<ConnectionPool>) {
    let Accepted {
        stream,
        tls,
        peer,
        slot,
    } = accepted;
    let stream = match TcpStream::from_std(stream) {
        Ok(stream) => stream,
        Err(error) => return tracing::warn!("failed to serve a connection: {error}"),
    };
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    let stream = Box::pin(stream);
    match tls {
        None => serve_stream(TokioIo::new(stream), shared, pods, peer, slot).await,
        Some(acceptor) => match tokio::time::timeout(TLS_TIMEOUT, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => serve_stream(TokioIo::new(stream), shared, pods, peer, slot).await,
            Ok(Err(error)) => tracing::debug!("{}: the TLS handshake failed: {error}", peer.from),
            Err(_) => tracing::debug!("{}: the TLS handshake timed out", peer.from),
        },
    }
}

/// Keeps the connection in use until the end of the response is sent.
struct InUse {
    body: AnyBody,
    _busy: Busy,
}

impl Body for InUse {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

async fn serve_stream<I>(stream: I, shared: Arc<Shared>, pods: Arc<ConnectionPool>, peer: Peer, slot: Arc<Slot>)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let mut is_ending = shared.is_ending.clone();
    let of_requests = slot.clone();
    let service = service_fn(move |request| {
        let (shared, pods, slot) = (shared.clone(), pods.clone(), of_requests.clone());
        async move {
            let busy = slot.busy();
            let response = shared
                .router
                .answer(
                    request,
                    ClientConnection {
                        peer,
                        slot: &slot,
                        pods: &pods,
                    },
                )
                .await;
            Ok::<_, Infallible>(response.map(|body| InUse { body, _busy: busy }))
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_header_size(HEAD_LIMIT)
        .serve_connection(stream, service)
        .with_upgrades();
    let mut served = std::pin::pin!(served);
    let outcome = tokio::select! {
        outcome = &mut served => outcome,
        () = slot.evicted() => {
            if !slot.is_busy() {
                return;
            }
            served.as_mut().graceful_shutdown();
            served.await
        }
        () = until_ending(&mut is_ending) => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!("{}: {error}", peer.from);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_panic_ends_only_its_connection() {
        let slots = Slots::new(1, 1);
        let server = server(|| {
            |accepted: Accepted| async move {
                let mut stream = TcpStream::from_std(accepted.stream).unwrap();
                let mut word = [0; 1];
                tokio::io::AsyncReadExt::read_exact(&mut stream, &mut word)
                    .await
                    .unwrap();
                assert_eq!(&word, b"w", "this one panics");
                tokio::io::AsyncWriteExt::write_all(&mut stream, b"well").await.unwrap();
                drop(accepted.slot);
            }
        })
        .unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let ask = |word: &[u8]| {
            let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let (stream, from) = listener.accept().unwrap();
            stream.set_nonblocking(true).unwrap();
            let peer = Peer {
                from,
                port: 0,
                secure: false,
                is_own: true,
            };
            // There is one slot in all, so the previous connection must have freed it.
            let deadline = std::time::Instant::now() + Duration::from_secs(10);
            let slot = loop {
                if let Some(slot) = slots.take(from.ip()) {
                    break slot;
                }
                assert!(std::time::Instant::now() < deadline, "the slot was not freed");
                std::thread::yield_now();
            };
            server.load.fetch_add(1, Ordering::Relaxed);
            let accepted = Accepted {
                stream,
                tls: None,
                peer,
                slot,
            };
            assert!(server.accepted.send(accepted).is_ok(), "the thread has ended");
            client.write_all(word).unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            answer
        };
        for (word, answer) in [(b"p", ""), (b"w", "well"), (b"p", ""), (b"w", "well")] {
            assert_eq!(ask(word), answer);
        }
    }
}
