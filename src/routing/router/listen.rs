//! The router's sockets: plain or TLS, bounded in number and in how long a client may dawdle, and drained when the router ends. Each processor has a
//! thread that accepts connections and serves them to their end.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
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
    pub listeners: Vec<TcpListener>,
    /// The newest certificate; `None` for plain HTTP.
    pub tls: Option<watch::Receiver<Arc<rustls::ServerConfig>>>,
}

/// What the threads share.
struct Shared {
    router: Arc<Router>,
    front: Front,
    room: Arc<Semaphore>,
    /// Told when the router ends.
    told: watch::Receiver<bool>,
}

/// Serves until `end`, and then as long as open requests need.
///
/// # Errors
/// If no thread or none of what it needs can be had.
pub async fn serve(router: Arc<Router>, front: Front, end: impl Future<Output = ()>) -> io::Result<()> {
    let (ending, told) = watch::channel(false);
    let shared = Arc::new(Shared {
        router,
        front,
        room: Arc::new(Semaphore::new(CONNECTIONS)),
        told,
    });
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads: Vec<_> = (0..processors)
        .map(|_| thread(shared.clone()))
        .collect::<io::Result<_>>()?;
    end.await;
    ending.send_replace(true);
    // There is room for all again once every connection is closed.
    let all_closed = shared.room.acquire_many(CONNECTIONS as u32);
    if tokio::time::timeout(DRAIN, all_closed).await.is_err() {
        tracing::info!("some connections were still in use");
    }
    drop(threads);
    Ok(())
}

/// A thread that serves connections until the process ends.
fn thread(shared: Arc<Shared>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listeners = shared.front.listeners.iter().map(TcpListener::try_clone);
    let listeners: Vec<_> = listeners.collect::<io::Result<_>>()?;
    let work = async move {
        let pods = Pods::new(shared.router.way.clone());
        for listener in listeners {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => drop(tokio::spawn(accept(listener, shared.clone(), pods.clone()))),
                Err(error) => tracing::warn!("failed to listen: {error}"),
            }
        }
        loop {
            tokio::time::sleep(TIDY).await;
            pods.tidy();
        }
    };
    std::thread::Builder::new()
        .name("router".into())
        .spawn(move || runtime.block_on(work))?;
    Ok(())
}

async fn accept(listener: tokio::net::TcpListener, shared: Arc<Shared>, pods: Arc<Pods>) {
    let Ok(port) = listener.local_addr().map(|address| address.port()) else {
        return;
    };
    let mut told = shared.told.clone();
    loop {
        let Ok(permit) = shared.room.clone().acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = ending(&mut told) => return,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            // No file descriptors, most likely: others are closed meanwhile.
            Err(error) => {
                tracing::warn!("failed to accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let tls = shared
            .front
            .tls
            .as_ref()
            .map(|tls| TlsAcceptor::from(tls.borrow().clone()));
        let peer = Peer {
            from,
            port,
            secure: tls.is_some(),
        };
        let connection = connection(stream, tls, shared.clone(), pods.clone(), peer);
        tokio::spawn(async move {
            connection.await;
            drop(permit);
        });
    }
}

async fn ending(told: &mut watch::Receiver<bool>) {
    // Nobody left to tell is an end, too.
    drop(told.wait_for(|ends| *ends).await);
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, shared: Arc<Shared>, pods: Arc<Pods>, peer: Peer) {
    // Answers must not wait for the acknowledgement of what was sent before.
    let _ = stream.set_nodelay(true);
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
