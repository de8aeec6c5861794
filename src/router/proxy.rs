//! One request: the router finds its route, forwards it to the pod, and returns the response.

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, future, stream};
use http_body_util::{BodyExt, Either, Empty, Full, Limited, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::uri::PathAndQuery;
use hyper::{HeaderMap, Request, Response, StatusCode, Uri, Version};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tower_http::timeout::TimeoutBody;

use super::access::{Access, Admission};
use super::authority::Authority;
use super::head::{self, ClientAddress, Refusal};
use super::links::{Rewriter, UiNaming};
use super::origin;
use super::pages::{PageReason, page};
use super::pods::{self, AnyBody, ConnectionPool, ResponseBody};
use super::slots::{Busy, Slot};
use super::timer::ReusedTimer;
use crate::clients::spark::BoxError;
use crate::platform::transport::Transport;
use crate::router::metrics::{Metric, MetricsSource};
use crate::routing::{ClusterEntry, Published, Role, Route, Table, domain};

/// How long a pod may take to begin its response: thread dumps and pages of long applications are slow.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a client may pause within a body.
const BODY_PAUSE: Duration = Duration::from_secs(60);
/// The largest request body: web UIs only take forms.
const BODY_LIMIT: usize = 1024 * 1024;
/// How long a WebSocket may be silent.
const WEBSOCKET_IDLE: Duration = Duration::from_secs(300);
/// Target of the access log.
pub const ACCESS_LOG: &str = "sparkha::access";

/// The body of an answer: the router's own, a pod's, or a pod's with other links.
pub type AnswerBody = Either<Full<Bytes>, Either<ResponseBody, AnyBody>>;

/// What all connections share.
pub struct Router {
    routes: watch::Receiver<Published>,
    pub transport: Transport,
    naming: UiNaming,
    access: RwLock<Arc<Access>>,
    /// Responses by the first digit of their status.
    answers: [AtomicU64; 5],
}

/// The client of a connection.
pub struct Peer {
    pub from: SocketAddr,
    /// The router's port.
    pub port: u16,
    /// Whether it may use a router that serves one user.
    pub is_own: bool,
    pub address: ClientAddress,
}

/// The connection on which a request arrived.
pub struct ClientConnection {
    pub peer: Peer,
    pub slot: Arc<Slot>,
    /// Of the thread that serves it.
    pub pods: Arc<ConnectionPool>,
    /// Of the answer that the client waits for.
    pub timer: ReusedTimer,
}

impl Router {
    pub fn new(routes: watch::Receiver<Published>, transport: Transport, naming: UiNaming, access: Access) -> Self {
        Self {
            routes,
            transport,
            naming,
            access: RwLock::new(Arc::new(access)),
            answers: Default::default(),
        }
    }

    /// Replaces the users and tokens that are admitted.
    pub fn set_access(&self, access: Access) {
        *self.access.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(access);
    }

    /// Answers any request.
    pub async fn answer(&self, request: Request<Incoming>, by: &ClientConnection) -> Response<AnswerBody> {
        let logged = tracing::enabled!(target: ACCESS_LOG, tracing::Level::INFO).then(|| {
            let host = request.headers().get(header::HOST).cloned();
            (Instant::now(), request.method().clone(), host, request.uri().clone())
        });
        let response = self.respond(request, by).await;
        if let Some(answers) = self
            .answers
            .get(usize::from(response.status().as_u16() / 100).wrapping_sub(1))
        {
            answers.fetch_add(1, Ordering::Relaxed);
        }
        if let Some((began, method, host, uri)) = logged {
            let host = host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or("-");
            let (status, ms) = (response.status().as_u16(), began.elapsed().as_millis() as u64);
            let (from, method, path) = (by.peer.from.ip(), method.as_str(), uri.path());
            // Queries may hold secrets, and a line must be written at once.
            tracing::info!(target: ACCESS_LOG, "{from} {method:.20} {host:.300} {path:.1000} {status} {ms} ms");
        }
        response
    }

    async fn respond(&self, request: Request<Incoming>, by: &ClientConnection) -> Response<AnswerBody> {
        let (mut parts, body) = request.into_parts();
        let requested = match head::authority(&parts) {
            Ok(requested) => requested,
            Err(refusal) => return malformed(refusal),
        };
        if !by.peer.is_own {
            return forbidden("these web UIs belong to another user: run `sparkha ui` yourself");
        }
        let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        if origin::is_foreign(&parts, host.unwrap_or_default()) {
            return forbidden("a page of another site sent this request: open the web UI and do it there");
        }
        let guard = {
            let access = self.access.read().unwrap_or_else(PoisonError::into_inner);
            (!access.open).then(|| access.clone())
        };
        if let Some(access) = guard {
            match access.admits(&parts.headers).await {
                Admission::Granted => {}
                Admission::Refused => return unauthorized(),
                Admission::Busy => return busy(),
            }
            // The credentials are for the router, not for a pod.
            parts.headers.remove(header::AUTHORIZATION);
        }
        let (table, settled) = {
            let published = self.routes.borrow();
            (published.table.clone(), published.settled)
        };
        let accepts = parts.headers.get(header::ACCEPT).cloned();
        let own_page = |why| self.own_page(why, &requested.host, &table, accepts.as_ref());
        let Some(route) = self.naming.find(&table, &requested.host, by.peer.port) else {
            let known = self.naming.host(&requested.host);
            // The leader has a route, but at another port.
            let cluster = known
                .filter(|host| table.find_host(host).is_none())
                .and_then(|host| table.cluster_at(host));
            return match cluster {
                _ if !settled => own_page(PageReason::Starting),
                Some(cluster) => own_page(PageReason::NoLeader(cluster)),
                None if self.is_index(&requested.host) => own_page(PageReason::Index),
                None => own_page(PageReason::UnknownHost {
                    host: &requested.host,
                    port: by.peer.port,
                }),
            };
        };
        let sent = self.send(route, &requested, parts, body, &table, by).await;
        sent.unwrap_or_else(|failure| {
            tracing::info!("{}: {failure}", route.owner.pod);
            let why = match failure {
                ForwardError::TooLong => PageReason::Slow(route),
                ForwardError::TooLarge => {
                    let why = "the request body is too large for a web UI\n";
                    return own(StatusCode::PAYLOAD_TOO_LARGE, why.into());
                }
                ForwardError::Pod(_) => match table.cluster_at(&route.host) {
                    Some(cluster) if route.owner.role == Role::Leader => PageReason::NoLeader(cluster),
                    _ => PageReason::Unreachable(route),
                },
            };
            own_page(why)
        })
    }

    /// Whether the request is for the router itself: by address, or as localhost.
    fn is_index(&self, host: &str) -> bool {
        matches!(self.naming, UiNaming::Localhost { .. }) && ["localhost", "127.0.0.1", "[::1]"].contains(&host)
    }

    async fn send(
        &self,
        route: &Route,
        requested: &Authority,
        mut parts: hyper::http::request::Parts,
        body: Incoming,
        table: &Arc<Table>,
        ClientConnection {
            peer,
            slot,
            pods,
            timer,
        }: &ClientConnection,
    ) -> Result<Response<AnswerBody>, ForwardError> {
        let to_websocket = head::forward(&mut parts.headers, &peer.address);
        if self.naming.rewrites() {
            // A compressed body cannot be rewritten.
            parts.headers.remove(header::ACCEPT_ENCODING);
        }
        if body.size_hint().lower() > BODY_LIMIT as u64 {
            return Err(ForwardError::TooLarge);
        }
        // Only the path: a URL is for proxies.
        let path = parts.uri.path_and_query().cloned();
        parts.uri = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        // Each connection has its own version.
        parts.version = Version::HTTP_11;
        let body = if body.is_end_stream() {
            Either::Left(Empty::new())
        } else {
            Either::Right(TimeoutBody::new(BODY_PAUSE, Box::pin(Limited::new(body, BODY_LIMIT))).boxed_unsync())
        };
        let client_end = to_websocket
            .then(|| parts.extensions.remove::<hyper::upgrade::OnUpgrade>())
            .flatten();
        let request = Request::from_parts(parts, body);
        let host = self
            .transport
            .host(&route.owner.namespace, &route.owner.pod, route.target);
        let requesting = pods.request((host, route.port), request);
        let answered = timer.timeout(ANSWER_TIMEOUT, requesting).await;
        let mut response = answered.ok_or(ForwardError::TooLong)?.map_err(ForwardError::of)?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let (Some(client_end), true) = (client_end, head::is_websocket(response.headers())) else {
                return Err(ForwardError::Pod(
                    "it switched to a protocol that was not requested".into(),
                ));
            };
            tokio::spawn(join(client_end, hyper::upgrade::on(&mut response), slot.busy()));
            let (parts, answer) = response.into_parts();
            drop(answer.upgrade());
            return Ok(Response::from_parts(parts, Either::Left(Full::default())));
        }
        let (mut parts, body) = response.into_parts();
        parts.version = Version::HTTP_11;
        if parts.headers.contains_key(header::TRANSFER_ENCODING) {
            // The chunks take precedence (RFC 9112, section 6.3), and only they are forwarded.
            parts.headers.remove(header::CONTENT_LENGTH);
        }
        head::leave_out_hop_by_hop(&mut parts.headers);
        if self.naming.rewrites() {
            self.rewrite_headers(&mut parts.headers, table, requested);
            if has_links(&parts.headers) {
                parts.headers.remove(header::CONTENT_LENGTH);
                let rewriter = Rewriter::new(self.naming, table.clone());
                let body = Either::Right(rewritten(body, rewriter));
                return Ok(Response::from_parts(parts, Either::Right(body)));
            }
        }
        Ok(Response::from_parts(parts, Either::Right(Either::Left(body))))
    }

    fn rewrite_headers(&self, headers: &mut HeaderMap, table: &Arc<Table>, requested: &Authority) {
        for name in [header::LOCATION, header::REFRESH] {
            let Some(value) = headers.get(&name) else { continue };
            let mut rewriter = Rewriter::of_headers(self.naming, table.clone(), requested);
            let mut new = rewriter.next(value.as_bytes());
            new.extend(rewriter.end());
            if let Ok(new) = HeaderValue::from_bytes(&new) {
                headers.insert(name, new);
            }
        }
    }

    fn own_page(
        &self,
        why: PageReason<'_>,
        host: &str,
        table: &Table,
        accepts: Option<&HeaderValue>,
    ) -> Response<AnswerBody> {
        let page = page(why, is_trusted(host, table), table, self.naming);
        let accepts = accepts.and_then(|value| value.to_str().ok());
        let (kind, text) = match accepts.is_some_and(|accepts| accepts.contains("text/html")) {
            true => ("text/html; charset=utf-8", page.html),
            false => ("text/plain; charset=utf-8", page.text),
        };
        let mut response = own(page.status, text);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'"),
        );
        if page.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// Whether the host is safe from DNS rebinding, by which a page of an attacker could read the response.
fn is_trusted(host: &str, table: &Table) -> bool {
    let is_address = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    let is_below = |domain: &str| host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    let is_of = |cluster: &ClusterEntry| domain(&cluster.host, &cluster.namespace).is_some_and(is_below);
    is_address || host == "localhost" || is_below("localhost") || table.clusters.iter().any(is_of)
}

impl MetricsSource for Router {
    fn metrics(&self) -> Vec<Metric> {
        let table = self.routes.borrow().table.clone();
        let is_led = |route: &&Route| route.owner.role == Role::Leader;
        let led = table.routes.iter().filter(is_led).count();
        let answers = self.answers.iter().enumerate();
        vec![
            Metric {
                name: "sparkha_router_answers_total",
                help: "Responses by status.",
                values: answers
                    .map(|(at, count)| (format!("code=\"{}xx\"", at + 1), count.load(Ordering::Relaxed) as f64))
                    .collect(),
            },
            Metric::new("sparkha_routes", "Web UIs with a route.", table.routes.len() as f64),
            Metric::new("sparkha_clusters", "Known clusters.", table.clusters.len() as f64),
            Metric::new("sparkha_clusters_led", "Clusters with a leading master.", led as f64),
        ]
    }

    fn ready(&self) -> Result<(), String> {
        match self.routes.borrow().settled {
            true => Ok(()),
            false => Err("the clusters and their masters are not all known yet".into()),
        }
    }
}

/// A response of the router itself. Nobody may store it: it is current only now.
fn own(status: StatusCode, text: String) -> Response<AnswerBody> {
    let mut response = Response::new(Either::Left(Full::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A line of text and a header instead of a web UI.
fn refused(status: StatusCode, why: &str, name: HeaderName, value: &'static str) -> Response<AnswerBody> {
    let mut response = own(status, format!("{why}\n"));
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}

fn malformed(refusal: Refusal) -> Response<AnswerBody> {
    // The sender may find the next request at another position than the router does.
    refused(refusal.status(), refusal.reason(), header::CONNECTION, "close")
}

fn forbidden(why: &str) -> Response<AnswerBody> {
    own(StatusCode::FORBIDDEN, format!("{why}\n"))
}

/// Too many passwords wait to be checked.
fn busy() -> Response<AnswerBody> {
    let why = "too many passwords are being checked: try again in a moment";
    refused(StatusCode::TOO_MANY_REQUESTS, why, header::RETRY_AFTER, "2")
}

fn unauthorized() -> Response<AnswerBody> {
    let why = "a name and password, or a token, is required";
    let scheme = "Basic realm=\"Spark\", charset=\"UTF-8\"";
    refused(StatusCode::UNAUTHORIZED, why, header::WWW_AUTHENTICATE, scheme)
}

/// Whether a body may have links for browsers.
fn has_links(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_text = kind.is_some_and(|kind| kind.starts_with("text/html") || kind.starts_with("application/json"));
    is_text && !headers.contains_key(header::CONTENT_ENCODING)
}

/// Why a pod has not responded.
#[derive(Debug, thiserror::Error)]
enum ForwardError {
    #[error("timed out waiting for a response")]
    TooLong,
    #[error("the body is too large")]
    TooLarge,
    #[error("{0}")]
    Pod(BoxError),
}

impl ForwardError {
    fn of(error: pods::Error) -> Self {
        let mut causes = std::iter::successors(error.source(), |&cause| cause.source());
        match causes.any(|cause| cause.is::<http_body_util::LengthLimitError>()) {
            true => ForwardError::TooLarge,
            false => ForwardError::Pod(crate::model::error_chain::with_sources(&error).into()),
        }
    }
}

/// Copies everything between the two ends of a WebSocket until one of them closes it or both are silent.
async fn join(client: hyper::upgrade::OnUpgrade, pod: hyper::upgrade::OnUpgrade, _busy: Busy) {
    let ends = futures::try_join!(client, pod);
    if let Ok((client, pod)) = ends {
        let passed = pass(TokioIo::new(client), TokioIo::new(pod)).await;
        tracing::debug!("a WebSocket was closed: {passed:?}");
    }
}

async fn pass<S: AsyncRead + AsyncWrite>(client: S, pod: S) -> io::Result<()> {
    let ((mut from_client, mut to_client), (mut from_pod, mut to_pod)) =
        (tokio::io::split(client), tokio::io::split(pod));
    let (mut sent, mut received) = ([0; 8192], [0; 8192]);
    loop {
        let step = async {
            let length = tokio::select! {
                length = from_client.read(&mut sent) => {
                    let length = length?;
                    to_pod.write_all(&sent[..length]).await?;
                    length
                }
                length = from_pod.read(&mut received) => {
                    let length = length?;
                    to_client.write_all(&received[..length]).await?;
                    length
                }
            };
            futures::try_join!(to_client.flush(), to_pod.flush())?;
            Ok::<_, io::Error>(length)
        };
        if tokio::time::timeout(WEBSOCKET_IDLE, step).await?? == 0 {
            return futures::try_join!(to_client.shutdown(), to_pod.shutdown()).map(drop);
        }
    }
}

/// A body whose links are rewritten. Trailers are left out.
fn rewritten(body: impl Body<Data = Bytes, Error = BoxError> + Send + 'static, mut rewriter: Rewriter) -> AnyBody {
    let parts = body.into_data_stream().map(Some).chain(stream::iter([None]));
    let written = parts.map(move |part| match part {
        Some(part) => part.map(|part| rewriter.next(&part)),
        None => Ok(rewriter.end()),
    });
    let frames = written
        .try_filter(|written| future::ready(!written.is_empty()))
        .map_ok(|written| Frame::data(written.into()));
    StreamBody::new(frames).boxed_unsync()
}
