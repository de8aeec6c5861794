//! The router's sockets: plain or TLS, limited in number and in how long a client may take, and drained when the router ends. One thread for each
//! processor serves connections to their end; a panic ends only the connection in which it occurs.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::BodyExt;
use hyper::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;

use super::head::ClientAddress;
use super::pods::{BUFFER_LIMIT, ConnectionPool};
use super::proxy::{AnswerBody, ClientConnection, Peer, Router};
use super::slots::{Busy, End, Slots};
use super::timer::ReusedTimer;
use crate::clients::spark::BoxError;
use crate::platform::system::{peers, raise_file_limit};
use crate::platform::transport::Transport;

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
    tls: Option<watch::Receiver<Arc<rustls::ServerConfig>>>,
    only_own: bool,
    slots: Arc<Slots>,
}

/// One of the threads that serve connections.
#[derive(Clone)]
struct ServingThread {
    /// A panic ends only the connection in which it occurs.
    connections: mpsc::UnboundedSender<BoxFuture<'static, ()>>,
    /// Its connections to pods.
    pods: Arc<ConnectionPool>,
    /// Each of its connections has a reference.
    load: Arc<()>,
}

impl ServingThread {
    /// Starts a thread that serves connections until all senders are dropped.
    fn start(transport: Transport) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (connections, mut received) = mpsc::unbounded_channel();
        let pods = ConnectionPool::new(transport);
        let tidy = pods.clone().tidy();
        let work = move || {
            runtime.block_on(async move {
                tokio::spawn(tidy);
                while let Some(connection) = received.recv().await {
                    tokio::spawn(connection);
                }
            });
        };
        std::thread::Builder::new().name("router".into()).spawn(work)?;
        Ok(Self {
            connections,
            pods,
            load: Arc::default(),
        })
    }

    fn serve(&self, connection: impl Future<Output = ()> + Send + 'static) {
        let load = self.load.clone();
        let counted = async move {
            connection.await;
            drop(load);
        };
        // The threads last as long as the process.
        drop(self.connections.send(Box::pin(counted)));
    }
}

/// Serves until `end`, then until open requests are answered or time out.
///
/// # Errors
/// If a thread or a socket cannot be created.
pub async fn serve(router: Arc<Router>, http: HttpListeners, end: impl Future<Output = ()>) -> io::Result<()> {
    let most = connections();
    let slots = Slots::new(most, most.min(OF_ONE_CLIENT));
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads: Vec<_> = (0..processors)
        .map(|_| ServingThread::start(router.transport.clone()))
        .collect::<io::Result<_>>()?;
    let shared = Arc::new(Shared {
        router,
        tls: http.tls,
        only_own: http.only_own,
        slots: slots.clone(),
    });
    let mut accepting = JoinSet::new();
    for listener in http.listeners {
        let listener = TcpListener::from_std(listener)?;
        accepting.spawn(accept(listener, threads.clone(), shared.clone()));
    }
    end.await;
    accepting.shutdown().await;
    slots.shut_down();
    if tokio::time::timeout(DRAIN, slots.until_free()).await.is_err() {
        tracing::info!("some connections were still in use");
    }
    Ok(())
}

/// The most connections: each takes a file, and a second one to its pod. Raises the limit of open files as far as permitted.
fn connections() -> usize {
    let files = raise_file_limit();
    let pairs = files.map_or(u64::MAX, |files| files.saturating_sub(OTHER_FILES) / 2);
    usize::try_from(pairs).map_or(CONNECTIONS, |pairs| pairs.clamp(1, CONNECTIONS))
}

/// Accepts connections and gives each to the thread with the fewest: if the threads accepted themselves, one would get them all.
async fn accept(listener: TcpListener, threads: Vec<ServingThread>, shared: Arc<Shared>) {
    let Ok(port) = listener.local_addr().map(|address| address.port()) else {
        return;
    };
    loop {
        let accepted = listener.accept().await.and_then(|(stream, from)| {
            // A response must not wait until earlier data is acknowledged.
            stream.set_nodelay(true)?;
            let is_own = !shared.only_own || peers::is_own(from, stream.local_addr()?);
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
        let Some(slot) = shared.slots.take(from.ip()) else {
            tracing::debug!("{from}: too many connections, none of them idle");
            continue;
        };
        let tls = shared.tls.as_ref().map(|tls| TlsAcceptor::from(tls.borrow().clone()));
        let peer = Peer {
            from,
            port,
            is_own,
            address: ClientAddress::new(from.ip().to_canonical(), port, tls.is_some()),
        };
        if let Some(thread) = threads.iter().min_by_key(|thread| Arc::strong_count(&thread.load)) {
            let pods = thread.pods.clone();
            let client = ClientConnection {
                peer,
                slot,
                pods,
                timer: ReusedTimer::default(),
            };
            thread.serve(connection(stream, tls, client, shared.clone()));
        }
    }
}

async fn connection(
    stream: std::net::TcpStream,
    tls: Option<TlsAcceptor>,
    client: ClientConnection,
    shared: Arc<Shared>,
) {
    let from = client.peer.from;
    // In the thread that serves it.
    let stream = match TcpStream::from_std(stream) {
        Ok(stream) => stream,
        Err(error) => return tracing::warn!("failed to serve a connection: {error}"),
    };
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    let stream = Box::pin(stream);
    match tls {
        None => serve_stream(TokioIo::new(stream), shared, client).await,
        Some(acceptor) => {
            let accepted = tokio::select! {
                biased;
                _ = client.slot.ended() => return,
                accepted = tokio::time::timeout(TLS_TIMEOUT, acceptor.accept(stream)) => accepted,
            };
            match accepted {
                Ok(Ok(stream)) => serve_stream(TokioIo::new(stream), shared, client).await,
                Ok(Err(error)) => tracing::debug!("{from}: the TLS handshake failed: {error}"),
                Err(_) => tracing::debug!("{from}: the TLS handshake timed out"),
            }
        }
    }
}

/// A body that keeps the connection in use until its end is sent, because it owns the mark.
fn in_use(body: AnswerBody, busy: Busy) -> impl Body<Data = Bytes, Error = BoxError> {
    body.map_err(move |error| {
        let _owned = &busy;
        error
    })
}

async fn serve_stream<I>(stream: I, shared: Arc<Shared>, client: ClientConnection)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let connection = Arc::new((shared, client));
    let of_connection = connection.clone();
    let service = service_fn(move |request| {
        let connection = connection.clone();
        async move {
            let (shared, client) = &*connection;
            let busy = client.slot.busy();
            let response = shared.router.answer(request, client).await;
            Ok::<_, Infallible>(response.map(|body| in_use(body, busy)))
        }
    });
    let served = http1::Builder::new()
        .timer(ReusedTimer::default())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_header_size(HEAD_LIMIT)
        .max_buf_size(BUFFER_LIMIT)
        .serve_connection(stream, service)
        .with_upgrades();
    let mut served = std::pin::pin!(served);
    let ClientConnection { peer, slot, .. } = &of_connection.1;
    let outcome = tokio::select! {
        biased;
        outcome = &mut served => outcome,
        end = slot.ended() => {
            if end == End::Evicted && !slot.is_busy() {
                return;
            }
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

    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::router::access::Access;
    use crate::router::links::UiNaming;
    use crate::router::slots::Slot;
    use crate::routing::Published;

    #[tokio::test]
    async fn a_tls_handshake_ends_with_its_slot() {
        let slots = Slots::new(1, 1);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut silent = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, from) = listener.accept().await.unwrap();
        let access = Access::read(None, None).unwrap();
        let (_routes, published) = watch::channel(Published::default());
        let router = Router::new(published, Transport::Direct, UiNaming::Secure, access);
        let shared = Shared {
            router: Arc::new(router),
            tls: None,
            only_own: false,
            slots: slots.clone(),
        };
        let client = ClientConnection {
            peer: Peer {
                from,
                port: 443,
                is_own: true,
                address: ClientAddress::new(from.ip(), 443, true),
            },
            slot: slots.take(from.ip()).unwrap(),
            pods: ConnectionPool::new(Transport::Direct),
            timer: ReusedTimer::default(),
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::server::ResolvesServerCertUsingSni::new()));
        let tls = TlsAcceptor::from(Arc::new(tls));
        tokio::spawn(connection(
            stream.into_std().unwrap(),
            Some(tls),
            client,
            Arc::new(shared),
        ));
        let _other = slots.take(from.ip()).unwrap();
        let closed = tokio::time::timeout(TLS_TIMEOUT / 2, silent.read(&mut [0; 1])).await;
        assert_eq!(closed.expect("it is still open").unwrap(), 0);
    }

    #[test]
    fn a_panic_ends_only_its_connection() {
        let slots = Slots::new(1, 1);
        let thread = ServingThread::start(Transport::Direct).unwrap();
        let serve = async |stream: std::net::TcpStream, slot: Arc<Slot>| {
            let mut stream = TcpStream::from_std(stream).unwrap();
            let mut word = [0; 1];
            tokio::io::AsyncReadExt::read_exact(&mut stream, &mut word)
                .await
                .unwrap();
            assert_eq!(&word, b"w", "this one panics");
            tokio::io::AsyncWriteExt::write_all(&mut stream, b"well").await.unwrap();
            drop(slot);
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let ask = |word: &[u8]| {
            let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let (stream, from) = listener.accept().unwrap();
            stream.set_nonblocking(true).unwrap();
            // There is one slot in all, so the previous connection must have freed it.
            let deadline = std::time::Instant::now() + Duration::from_secs(10);
            let slot = loop {
                if let Some(slot) = slots.take(from.ip()) {
                    break slot;
                }
                assert!(std::time::Instant::now() < deadline, "the slot was not freed");
                std::thread::yield_now();
            };
            thread.serve(serve(stream, slot));
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
