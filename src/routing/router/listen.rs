//! The router's sockets: plain or TLS, bounded in number and in how long a client may dawdle, and drained when the router ends.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;

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
/// How long open requests may take when the router ends.
const DRAIN: Duration = Duration::from_secs(10);

/// The sockets, and what to speak at them.
pub struct Front {
    pub listeners: Vec<TcpListener>,
    /// The newest certificate; `None` for plain HTTP.
    pub tls: Option<watch::Receiver<Arc<rustls::ServerConfig>>>,
}

/// Serves until `end`, and then as long as open requests need.
pub async fn serve(router: Arc<Router>, front: Front, end: impl Future<Output = ()>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let (ending, told) = watch::channel(());
    let accepting = front.listeners.into_iter().map(|listener| {
        let accept = accept(listener, router.clone(), front.tls.clone(), room.clone(), told.clone());
        tokio::spawn(accept).abort_handle()
    });
    let accepting: Vec<_> = accepting.collect();
    end.await;
    accepting.iter().for_each(tokio::task::AbortHandle::abort);
    ending.send_replace(());
    // There is room for all again once every connection is closed.
    let all_closed = room.acquire_many(CONNECTIONS as u32);
    if tokio::time::timeout(DRAIN, all_closed).await.is_err() {
        tracing::info!("some connections were still in use");
    }
}

async fn accept(
    listener: TcpListener,
    router: Arc<Router>,
    tls: Option<watch::Receiver<Arc<rustls::ServerConfig>>>,
    room: Arc<Semaphore>,
    told: watch::Receiver<()>,
) {
    let Ok(port) = listener.local_addr().map(|address| address.port()) else {
        return;
    };
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else {
            return;
        };
        let (stream, from) = match listener.accept().await {
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
        let connection = connection(stream, tls, router.clone(), peer, told.clone());
        tokio::spawn(async move {
            connection.await;
            drop(permit);
        });
    }
}

async fn connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    router: Arc<Router>,
    peer: Peer,
    told: watch::Receiver<()>,
) {
    // Answers must not wait for the acknowledgement of what was sent before.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    let stream = Box::pin(stream);
    match tls {
        None => talk(TokioIo::new(stream), router, peer, told).await,
        Some(acceptor) => match tokio::time::timeout(TLS_TIMEOUT, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => talk(TokioIo::new(stream), router, peer, told).await,
            Ok(Err(error)) => tracing::debug!("{}: no TLS: {error}", peer.from),
            Err(_) => tracing::debug!("{}: no TLS in time", peer.from),
        },
    }
}

async fn talk<I>(stream: I, router: Arc<Router>, peer: Peer, mut told: watch::Receiver<()>)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let router = router.clone();
        async move { Ok::<_, Infallible>(router.answer(request, peer).await) }
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
        _ = told.changed() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!("{}: {error}", peer.from);
    }
}
