//! Kept connections to pods. A connection is driven by whoever reads from it, in the same task: nothing is handed from one to another, which is
//! what makes the router as fast as it is. Each of the router's threads has its own.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;

use crate::clients::spark::MAX_IDLE;
use crate::platform::transport::Transport;

const IDLE_PER_POD: usize = 64;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub type AnyBody = UnsyncBoxBody<Bytes, BoxError>;

/// A pod could not be asked, or broke off.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to connect")]
    Connect(#[source] io::Error),
    #[error("failed to speak HTTP with it")]
    Http(#[from] hyper::Error),
}

/// The connections of one thread.
pub struct Pods {
    way: Transport,
    /// By host and port; the longest unused first.
    idle: Mutex<HashMap<(String, u16), Vec<Idle>>>,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

struct Connection {
    sender: SendRequest<AnyBody>,
    /// Reads and writes when it is polled.
    driver: Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>,
    closed: bool,
}

impl Connection {
    /// Lets the connection read and write what it can.
    fn drive(&mut self, cx: &mut Context<'_>) {
        if !self.closed && self.driver.as_mut().poll(cx).is_ready() {
            self.closed = true;
        }
    }

    /// Waits until a request can be sent; false if the pod has closed the connection.
    async fn is_ready(&mut self) -> bool {
        std::future::poll_fn(|cx| {
            self.drive(cx);
            match self.sender.poll_ready(cx) {
                _ if self.closed => Poll::Ready(false),
                Poll::Ready(ready) => Poll::Ready(ready.is_ok()),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }
}

impl Pods {
    pub fn new(way: Transport) -> Arc<Self> {
        Arc::new(Self {
            way,
            idle: Mutex::default(),
        })
    }

    /// Sends a request to a pod. Its body must not be polled before the answer's.
    ///
    /// What only reads is sent once more, by a new connection, if the first ends before there is an answer: port-forwards break off now and then.
    pub async fn request(
        self: &Arc<Self>,
        host: &str,
        port: u16,
        mut request: Request<AnyBody>,
    ) -> Result<Response<Answer>, Error> {
        let mut again = again(&request);
        let mut anew = false;
        loop {
            let kept = if anew { None } else { self.take(host, port) };
            let (mut connection, is_kept) = match kept {
                Some(connection) => (connection, true),
                None => (self.connect(host, port).await?, false),
            };
            if !connection.is_ready().await {
                match is_kept {
                    true => continue,
                    // A pod that hangs up is not tried again and again.
                    false => return Err(Error::Connect(io::ErrorKind::ConnectionReset.into())),
                }
            }
            let mut sending = std::pin::pin!(connection.sender.try_send_request(request));
            let (driver, closed) = (&mut connection.driver, &mut connection.closed);
            let outcome = std::future::poll_fn(|cx| {
                if !*closed && driver.as_mut().poll(cx).is_ready() {
                    *closed = true;
                }
                sending.as_mut().poll(cx)
            })
            .await;
            match outcome {
                Ok(response) => {
                    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
                    let mut response = response.map(|body| Answer {
                        body,
                        connection: Some(connection),
                        place: Some((self.clone(), host.to_owned(), port)),
                    });
                    let answer = response.body_mut();
                    if answer.body.is_end_stream() && !switches {
                        // Nobody will poll what is empty.
                        std::future::poll_fn(|cx| {
                            answer.is_over(cx);
                            Poll::Ready(())
                        })
                        .await;
                    }
                    return Ok(response);
                }
                Err(mut failed) => match failed.take_message() {
                    // Closed before anything was sent: another connection can have it.
                    Some(unsent) if is_kept => request = unsent,
                    _ => {
                        let error = failed.into_error();
                        match again.take().filter(|_| error.is_incomplete_message()) {
                            Some(same) => {
                                tracing::info!("{host}: {error}; it is asked again");
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

    async fn connect(&self, host: &str, port: u16) -> Result<Connection, Error> {
        let stream = self.way.connect(host, port).await.map_err(Error::Connect)?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
        Ok(Connection {
            sender,
            driver: Box::pin(driver.with_upgrades()),
            closed: false,
        })
    }

    /// A kept connection, as far as is known still open.
    fn take(&self, host: &str, port: u16) -> Option<Connection> {
        loop {
            let idle = {
                let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
                idle.get_mut(&(host.to_owned(), port))?.pop()?
            };
            if idle.since.elapsed() < MAX_IDLE {
                return Some(idle.connection);
            }
        }
    }

    fn keep(&self, host: String, port: u16, connection: Connection) {
        let now = Instant::now();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let of_pod = idle.entry((host, port)).or_default();
        if of_pod.len() < IDLE_PER_POD {
            of_pod.push(Idle { connection, since: now });
        }
    }

    /// Closes what has not been used for a while.
    pub fn tidy(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|_, of_pod| {
            of_pod.retain(|idle| idle.since.elapsed() < MAX_IDLE);
            !of_pod.is_empty()
        });
    }
}

/// The same request, if it may be sent twice: it changes nothing, and has no body that would be gone.
fn again(request: &Request<AnyBody>) -> Option<Request<AnyBody>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) || !request.body().is_end_stream() {
        return None;
    }
    let mut same = Request::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    request.method().clone_into(same.method_mut());
    request.uri().clone_into(same.uri_mut());
    request.headers().clone_into(same.headers_mut());
    Some(same)
}

/// The body of a pod's answer. Its connection is kept once it has been read to the end.
pub struct Answer {
    body: Incoming,
    connection: Option<Connection>,
    place: Option<(Arc<Pods>, String, u16)>,
}

impl Answer {
    /// Lets the connection become that of another protocol, to which the pod has switched.
    pub fn upgrade(mut self) {
        if let Some(connection) = self.connection.take() {
            // Whoever waits for the upgrade learns of a failure.
            tokio::spawn(connection.driver);
        }
    }

    fn is_over(&mut self, cx: &mut Context<'_>) {
        if let (Some(mut connection), Some((pods, host, port))) = (self.connection.take(), self.place.take()) {
            // What the pod says last, that it will close the connection, may still be to be read.
            connection.drive(cx);
            // A pod may answer before it has the whole request: the rest must not hold up the next one.
            if !connection.closed && connection.sender.is_ready() {
                pods.keep(host, port, connection);
            }
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let mut polled = Pin::new(&mut this.body).poll_frame(cx);
        if polled.is_pending()
            && let Some(connection) = &mut this.connection
        {
            connection.drive(cx);
            polled = Pin::new(&mut this.body).poll_frame(cx);
        }
        if let Poll::Ready(frame) = &polled
            && (frame.is_none() || this.body.is_end_stream())
        {
            this.is_over(cx);
        }
        polled.map(|frame| frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// The status with which a pod answers that breaks off its first connections.
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
        let body = Full::from(body).map_err(|never| match never {}).boxed_unsync();
        let request = Request::builder().method(method).uri("/").body(body).unwrap();
        let answered = Pods::new(Transport::Direct).request("127.0.0.1", port, request).await;
        pod.abort();
        answered.ok().map(|answer| answer.status().as_u16())
    }

    #[tokio::test]
    async fn what_only_reads_is_asked_once_more() {
        assert_eq!(status(Method::GET, "", 0).await, Some(204));
        assert_eq!(status(Method::GET, "", 1).await, Some(204));
        assert_eq!(status(Method::GET, "", 2).await, None);
        assert_eq!(status(Method::POST, "", 1).await, None);
        assert_eq!(status(Method::GET, "body", 1).await, None);
    }
}
