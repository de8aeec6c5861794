//! Kept connections to pods. The task that reads from a connection also drives it: no task hands work to another, which is what makes the router
//! fast. Each of the router's threads has its own connections.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures::task::AtomicWaker;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{Either, Empty};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep, sleep};

use crate::clients::spark::{BoxError, MAX_IDLE};
use crate::platform::transport::Transport;

/// The most that a connection holds of what it has read, and about the most of what it has yet to write: thousands of clients that read nothing must
/// not take all memory. No head may be larger.
pub const BUFFER_LIMIT: usize = 32 * 1024;
const IDLE_PER_POD: usize = 64;
/// How often idle connections are checked.
const TIDY: Duration = Duration::from_secs(5);
/// How long a pod may pause within a body, and the error of one that takes longer.
const BODY_PAUSE: Duration = Duration::from_secs(60);
const PAUSED: &str = "the pod paused for too long within the body";

/// A body of any kind.
pub type AnyBody = UnsyncBoxBody<Bytes, BoxError>;
/// The body of a request. Most have none.
pub type RequestBody = Either<Empty<Bytes>, AnyBody>;

/// A pod could not be reached, or the connection broke.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to connect")]
    Connect(#[source] io::Error),
    #[error("the HTTP exchange failed")]
    Http(#[from] hyper::Error),
}

/// A pod's host, as [`Transport::host`] returns it, and port.
type PodAddress = (String, u16);
/// Each with the time of its last use; the longest unused first.
type IdleConnections = HashMap<PodAddress, Vec<(PodConnection, Instant)>>;

/// The connections of one thread.
pub struct ConnectionPool {
    transport: Transport,
    idle: Mutex<IdleConnections>,
}

struct PodConnection {
    sender: SendRequest<RequestBody>,
    /// Reads and writes when polled.
    driver: Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>,
    closed: bool,
    task: Arc<PollingTask>,
}

/// Wakes the task that polls a connection and what waits for it. Both are polled one after the other, so they need not wake the task for each other
/// meanwhile: it would be polled once more for nothing, twice in each request.
#[derive(Default)]
struct PollingTask {
    state: AtomicU8,
    waker: AtomicWaker,
}

const POLLING: u8 = 1;
const WOKEN: u8 = 2;

impl Wake for PollingTask {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Else the task sees it when it ends polling.
        if self.state.fetch_or(WOKEN, Ordering::AcqRel) & POLLING == 0 {
            self.waker.wake();
        }
    }
}

impl PodConnection {
    /// Polls `wait`, which waits for the connection and lets it read and write ([`Self::drive`]).
    fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut wait: impl FnMut(&mut Self, &mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let waker = Waker::from(self.task.clone());
        self.task.waker.register(cx.waker());
        self.task.state.store(POLLING, Ordering::Release);
        let polled = wait(self, &mut Context::from_waker(&waker));
        let was = self.task.state.swap(0, Ordering::AcqRel);
        if polled.is_pending() && was & WOKEN != 0 {
            cx.waker().wake_by_ref();
        }
        polled
    }

    /// Lets the connection read and write, within [`Self::poll`]. What waits for it must be polled next.
    fn drive(&mut self, cx: &mut Context<'_>) {
        self.task.state.store(POLLING, Ordering::Release);
        if !self.closed && self.driver.as_mut().poll(cx).is_ready() {
            self.closed = true;
        }
    }

    /// Waits until the connection can take a request; false if the pod has closed it.
    async fn is_ready(&mut self) -> bool {
        let ready = |connection: &mut Self, cx: &mut Context<'_>| {
            connection.drive(cx);
            match connection.sender.poll_ready(cx) {
                _ if connection.closed => Poll::Ready(false),
                Poll::Ready(ready) => Poll::Ready(ready.is_ok()),
                Poll::Pending => Poll::Pending,
            }
        };
        std::future::poll_fn(|cx| self.poll(cx, ready)).await
    }
}

impl ConnectionPool {
    pub fn new(transport: Transport) -> Arc<Self> {
        Arc::new(Self {
            transport,
            idle: Mutex::default(),
        })
    }

    /// Sends a request to a pod. Its body must not be polled before the response's.
    ///
    /// Requests that only read are sent once more, over a new connection, if the first ends before there is a response: port-forwards break off now
    /// and then.
    pub async fn request(
        self: &Arc<Self>,
        pod: PodAddress,
        mut request: Request<RequestBody>,
    ) -> Result<Response<ResponseBody>, Error> {
        let mut again = again(&request);
        let mut anew = false;
        loop {
            let kept = if anew { None } else { self.take(&pod) };
            let (mut connection, is_kept) = match kept {
                Some(connection) => (connection, true),
                None => (self.connect(&pod).await?, false),
            };
            if !connection.is_ready().await {
                match is_kept {
                    true => continue,
                    // Do not retry a pod that hangs up again and again.
                    false => return Err(Error::Connect(io::ErrorKind::ConnectionReset.into())),
                }
            }
            // Wakes the connection, which is polled next.
            connection.task.state.store(POLLING, Ordering::Release);
            let mut sending = std::pin::pin!(connection.sender.try_send_request(request));
            let outcome = std::future::poll_fn(|cx| {
                connection.poll(cx, |connection, cx| {
                    connection.drive(cx);
                    sending.as_mut().poll(cx)
                })
            })
            .await;
            match outcome {
                Ok(response) => {
                    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
                    let mut response = response.map(|body| ResponseBody {
                        body,
                        connection: Some((connection, self.clone(), pod)),
                        pause: None,
                        is_pausing: false,
                        ended: false,
                    });
                    let answer = response.body_mut();
                    if answer.body.is_end_stream() && !switches {
                        // An empty body is never polled.
                        std::future::poll_fn(|cx| {
                            answer.is_over(cx);
                            Poll::Ready(())
                        })
                        .await;
                    }
                    return Ok(response);
                }
                Err(mut failed) => match failed.take_message() {
                    // It closed before anything was sent: another connection can take the request.
                    Some(unsent) if is_kept => request = unsent,
                    _ => {
                        let error = failed.into_error();
                        match again.take().filter(|_| error.is_incomplete_message()) {
                            Some(same) => {
                                tracing::info!("{}: {error}; sending the request again", pod.0);
                                request = same;
                                anew = true;
                            }
                            None => return Err(error.into()),
                        }
                    }
                },
            }
        }
    }

    async fn connect(&self, (host, port): &PodAddress) -> Result<PodConnection, Error> {
        let stream = self.transport.connect(host, *port).await.map_err(Error::Connect)?;
        let mut http = http1::Builder::new();
        let (sender, driver) = http.max_buf_size(BUFFER_LIMIT).handshake(TokioIo::new(stream)).await?;
        Ok(PodConnection {
            sender,
            driver: Box::pin(driver.with_upgrades()),
            closed: false,
            task: Arc::default(),
        })
    }

    /// A kept connection that, as far as is known, is still open.
    fn take(&self, pod: &PodAddress) -> Option<PodConnection> {
        loop {
            let (connection, since) = self.idle().get_mut(pod)?.pop()?;
            if since.elapsed() < MAX_IDLE {
                return Some(connection);
            }
        }
    }

    fn idle(&self) -> MutexGuard<'_, IdleConnections> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, pod: PodAddress, connection: PodConnection) {
        let now = Instant::now();
        let mut idle = self.idle();
        let of_pod = idle.entry(pod).or_default();
        if of_pod.len() < IDLE_PER_POD {
            of_pod.push((connection, now));
        }
    }

    /// Closes connections that have not been used for a while, until aborted.
    pub async fn tidy(self: Arc<Self>) {
        let mut tidy = tokio::time::interval(TIDY);
        loop {
            tidy.tick().await;
            self.idle().retain(|_, of_pod| {
                of_pod.retain(|(_, since)| since.elapsed() < MAX_IDLE);
                !of_pod.is_empty()
            });
        }
    }
}

/// A copy of the request, if it can be sent twice: it changes nothing and has no body.
fn again(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) || !request.body().is_end_stream() {
        return None;
    }
    let mut same = Request::new(Either::Left(Empty::new()));
    request.method().clone_into(same.method_mut());
    request.uri().clone_into(same.uri_mut());
    request.headers().clone_into(same.headers_mut());
    Some(same)
}

/// The body of a pod's response. Its connection is kept once the body has been read to the end.
pub struct ResponseBody {
    body: Incoming,
    /// With its pool and pod.
    connection: Option<(PodConnection, Arc<ConnectionPool>, PodAddress)>,
    /// Made at the first pause, because most bodies have none.
    pause: Option<Pin<Box<Sleep>>>,
    is_pausing: bool,
    ended: bool,
}

impl ResponseBody {
    /// Hands the connection over to the protocol that the pod has switched to.
    pub fn upgrade(mut self) -> Option<JoinHandle<hyper::Result<()>>> {
        let (connection, ..) = self.connection.take()?;
        // It has ended already if it read the whole response at once. The task that waits for the upgrade reports a failure.
        (!connection.closed).then(|| tokio::spawn(connection.driver))
    }

    /// Completes when the pod has paused for too long.
    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let pause = self.pause.get_or_insert_with(|| Box::pin(sleep(BODY_PAUSE)));
        if !std::mem::replace(&mut self.is_pausing, true) {
            pause.as_mut().reset(Instant::now() + BODY_PAUSE);
        }
        pause.as_mut().poll(cx)
    }

    fn is_over(&mut self, cx: &mut Context<'_>) {
        if let Some((mut connection, pods, pod)) = self.connection.take() {
            // The pod's notice that it will close the connection may still be unread.
            let _ = connection.poll(cx, |connection, cx| {
                connection.drive(cx);
                Poll::Ready(())
            });
            // A pod may respond before it has the whole request: the rest must not delay the next request.
            if !connection.closed && connection.sender.is_ready() {
                pods.keep(pod, connection);
            }
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let mut body = Pin::new(&mut this.body);
        let polled = match &mut this.connection {
            Some((connection, ..)) => connection.poll(cx, |connection, cx| {
                let polled = body.as_mut().poll_frame(cx);
                if polled.is_pending() {
                    connection.drive(cx);
                    return body.as_mut().poll_frame(cx);
                }
                polled
            }),
            None => body.poll_frame(cx),
        };
        let Poll::Ready(frame) = polled else {
            return this.poll_pause(cx).map(|()| Some(Err(PAUSED.into())));
        };
        this.is_pausing = false;
        if frame.is_none() || this.body.is_end_stream() {
            this.is_over(cx);
            this.ended = true;
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    /// True after the last frame, also of an empty body: else hyper would leave out the length that a pod sends without a body.
    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// The status of a request to a pod that breaks off its first connections.
    async fn status(method: Method, body: &'static str, broken: usize) -> Option<u16> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let pod = tokio::spawn(async move {
            for n in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
                if n >= broken {
                    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
                }
            }
        });
        let body = match body {
            "" => Either::Left(Empty::new()),
            body => Either::Right(Full::from(body).map_err(|never| match never {}).boxed_unsync()),
        };
        let request = Request::builder().method(method).uri("/").body(body).unwrap();
        let answered = ConnectionPool::new(Transport::Direct)
            .request(("127.0.0.1".into(), port), request)
            .await;
        pod.abort();
        answered.ok().map(|answer| answer.status().as_u16())
    }

    #[tokio::test]
    async fn a_connection_that_has_switched_already_is_handed_over() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let pod = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
            let switched = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nhello";
            stream.write_all(switched).await.unwrap();
        });
        let body = Either::Left(Empty::new());
        let request = Request::builder()
            .header("connection", "upgrade")
            .header("upgrade", "x");
        let pods = ConnectionPool::new(Transport::Direct);
        let request = pods.request(("127.0.0.1".into(), port), request.body(body).unwrap());
        let mut response = request.await.unwrap_or_else(|_| panic!("no response"));
        pod.await.unwrap();
        let upgraded = hyper::upgrade::on(&mut response);
        if let Some(driven) = response.into_body().upgrade() {
            driven.await.unwrap().unwrap();
        }
        let mut stream = TokioIo::new(upgraded.await.unwrap());
        let mut word = [0; 5];
        stream.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"hello");
    }

    #[tokio::test]
    async fn a_body_that_pauses_for_too_long_ends_with_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let pod = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
            let begun = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\na";
            stream.write_all(begun).await.unwrap();
            // Neither another byte nor the end.
            std::future::pending::<()>().await;
        });
        let pods = ConnectionPool::new(Transport::Direct);
        let request = Request::new(Either::Left(Empty::new()));
        let response = pods.request(("127.0.0.1".into(), port), request).await.unwrap();
        let mut body = response.into_body();
        let first = body.frame().await.unwrap().unwrap();
        assert_eq!(first.data_ref().unwrap().as_ref(), b"a");
        // From now on, time passes at once where nothing else happens.
        tokio::time::pause();
        let error = body.frame().await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), PAUSED);
        pod.abort();
    }

    #[tokio::test]
    async fn a_head_that_a_connection_may_not_hold_is_refused() {
        for (length, is_passed) in [(BUFFER_LIMIT / 2, true), (BUFFER_LIMIT * 2, false)] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let pod = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
                let head = format!("HTTP/1.1 204 No Content\r\na: {}\r\n\r\n", "a".repeat(length));
                // The router may have hung up.
                let _ = stream.write_all(head.as_bytes()).await;
                stream
            });
            let request = Request::builder().method(Method::POST);
            let request = request.body(Either::Left(Empty::new())).unwrap();
            let pods = ConnectionPool::new(Transport::Direct);
            let answered = pods.request(("127.0.0.1".into(), port), request).await;
            assert_eq!(answered.is_ok(), is_passed, "{length}");
            pod.await.unwrap();
        }
    }

    #[tokio::test]
    async fn read_only_requests_are_retried_once() {
        assert_eq!(status(Method::GET, "", 0).await, Some(204));
        assert_eq!(status(Method::GET, "", 1).await, Some(204));
        assert_eq!(status(Method::GET, "", 2).await, None);
        assert_eq!(status(Method::POST, "", 1).await, None);
        assert_eq!(status(Method::GET, "body", 1).await, None);
    }
}
