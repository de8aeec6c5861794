//! The router's sockets: plain or TLS, bounded in number and in how long a client may dawdle, and drained when the router ends. Each processor has a
//! thread that serves connections to their end.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;

use super::pods::Pods;
use super::proxy::{Peer, Router};

/// How many connections there may be at a time; more wait to be accepted.
const CONNECTIONS: usize = 4096;
/// How long a client may take for the head of a request, the pause before it included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may leave unread what was sent to it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
const TLS_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest head of a request.
const HEAD_LIMIT: usize = 32 * 1024;
/// How often idle connections to pods are looked through.
const TIDY: Duration = Duration::from_secs(5);
/// How long open requests may take when the router ends.
const DRAIN: Duration = Duration::from_secs(10);

/// The sockets, and what to speak at them.
pub struct Front {
    pub listeners: Vec<std::net::TcpListener>,
    /// The newest certificate; `None` for plain HTTP.
    pub tls: Option<watch::Receiver<Arc<rustls::ServerConfig>>>,
}

/// What all connections need.
struct Shared {
    router: Arc<Router>,
    /// Told when the router ends.
    told: watch::Receiver<bool>,
}

/// A connection that was accepted, and its place among all.
struct Accepted {
    stream: std::net::TcpStream,
    tls: Option<TlsAcceptor>,
    peer: Peer,
    place: OwnedSemaphorePermit,
}

/// One of the threads that serve connections.
#[derive(Clone)]
struct Server {
    accepted: mpsc::UnboundedSender<Accepted>,
    /// How many connections it has.
    load: Arc<AtomicUsize>,
}

/// Serves until `end`, and then as long as open requests need.
///
/// # Errors
/// If a thread or a socket cannot be had.
pub async fn serve(router: Arc<Router>, front: Front, end: impl Future<Output = ()>) -> io::Result<()> {
    let (ending, told) = watch::channel(false);
    let shared = Arc::new(Shared { router, told });
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let servers: Vec<_> = (0..processors)
        .map(|_| server(shared.clone()))
        .collect::<io::Result<_>>()?;
    let mut accepting = JoinSet::new();
    for listener in front.listeners {
        let listener = TcpListener::from_std(listener)?;
        accepting.spawn(accept(listener, front.tls.clone(), servers.clone(), room.clone()));
    }
    end.await;
    accepting.shutdown().await;
    ending.send_replace(true);
    // There is room for all again once every connection is closed.
    let all_closed = room.acquire_many(CONNECTIONS as u32);
    if tokio::time::timeout(DRAIN, all_closed).await.is_err() {
        tracing::info!("some connections were still in use");
    }
    Ok(())
}

/// A thread that serves the connections it is given, until nobody can give it any more.
fn server(shared: Arc<Shared>) -> io::Result<Server> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (sender, mut accepted) = mpsc::unbounded_channel();
    let load = Arc::new(AtomicUsize::new(0));
    let server = Server {
        accepted: sender,
        load: load.clone(),
    };
    let work = async move {
        let pods = Pods::new(shared.router.way.clone());
        let mut tidy = tokio::time::interval(TIDY);
        loop {
            tokio::select! {
                accepted = accepted.recv() => {
                    let Some(accepted) = accepted else { return };
                    let (shared, pods, load) = (shared.clone(), pods.clone(), load.clone());
                    tokio::spawn(async move {
                        connection(accepted, shared, pods).await;
                        load.fetch_sub(1, Ordering::Relaxed);
                    });
                }
                _ = tidy.tick() => pods.tidy(),
            }
        }
    };
    std::thread::Builder::new()
        .name("router".into())
        .spawn(move || runtime.block_on(work))?;
    Ok(server)
}

/// Accepts connections and gives each to the thread with the fewest: were they to accept themselves, one would get them all.
async fn accept(
    listener: TcpListener,
    tls: Option<watch::Receiver<Arc<rustls::ServerConfig>>>,
    servers: Vec<Server>,
    room: Arc<Semaphore>,
) {
    let Ok(port) = listener.local_addr().map(|address| address.port()) else {
        return;
    };
    loop {
        let Ok(place) = room.clone().acquire_owned().await else {
            return;
        };
        let accepted = listener.accept().await.and_then(|(stream, from)| {
            // Answers must not wait for the acknowledgement of what was sent before.
            stream.set_nodelay(true)?;
            Ok((stream.into_std()?, from))
        });
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            // No file descriptors, most likely: others are closed meanwhile.
            Err(error) => {
                tracing::warn!("failed to accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let tls = tls.as_ref().map(|tls| TlsAcceptor::from(tls.borrow().clone()));
        let peer = Peer {
            from,
            port,
            secure: tls.is_some(),
        };
        if let Some(server) = servers.iter().min_by_key(|server| server.load.load(Ordering::Relaxed)) {
            server.load.fetch_add(1, Ordering::Relaxed);
            let accepted = Accepted {
                stream,
                tls,
                peer,
                place,
            };
            // Threads last as long as the process.
            drop(server.accepted.send(accepted));
        }
    }
}

async fn ending(told: &mut watch::Receiver<bool>) {
    // Nobody left to tell is an end, too.
    drop(told.wait_for(|ends| *ends).await);
}

async fn connection(accepted: Accepted, shared: Arc<Shared>, pods: Arc<Pods>) {
    let Accepted {
        stream,
        tls,
        peer,
        place: _place,
    } = accepted;
    let stream = match TcpStream::from_std(stream) {
        Ok(stream) => stream,
        Err(error) => return tracing::warn!("failed to serve a connection: {error}"),
    };
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    let stream = Box::pin(stream);
    match tls {
        None => talk(TokioIo::new(stream), shared, pods, peer).await,
        Some(acceptor) => match tokio::time::timeout(TLS_TIMEOUT, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => talk(TokioIo::new(stream), shared, pods, peer).await,
            Ok(Err(error)) => tracing::debug!("{}: no TLS: {error}", peer.from),
            Err(_) => tracing::debug!("{}: no TLS in time", peer.from),
        },
    }
}

async fn talk<I>(stream: I, shared: Arc<Shared>, pods: Arc<Pods>, peer: Peer)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let mut told = shared.told.clone();
    let service = service_fn(move |request| {
        let (shared, pods) = (shared.clone(), pods.clone());
        async move { Ok::<_, Infallible>(shared.router.answer(request, peer, &pods).await) }
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
        () = ending(&mut told) => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!("{}: {error}", peer.from);
    }
}
