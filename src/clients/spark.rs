//! A client of Spark's web UIs: a master's state (`GET /json/`), status and HTML page, a worker's executors and their logs, and a driver's application.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::{Either, select};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{self, Parts, SendRequest};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use crate::model::reports::{MASTER_STATUS_PATH, MasterReport, MasterStatus};

/// What only a master's HTML page shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MasterPage {
    /// Spark's version.
    pub version: Option<String>,
    /// Running applications, and the addresses of their drivers' web UIs.
    pub driver_uis: Vec<(String, String)>,
}

/// How long a connection to a Spark web UI may be idle. Jetty closes it after 8 s (measured with 4.3), and through a port-forward a client
/// may notice that only when a request is lost.
pub const MAX_IDLE: Duration = Duration::from_secs(5);

/// How long a response may take. A worker reads a section of a log from its disk meanwhile.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Most bytes of a response. A master with 1,000 workers sends less than 1 MB.
const RESPONSE_LIMIT: usize = 16 * 1024 * 1024;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A stream to a web UI.
pub trait UiStream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> UiStream for S {}

/// A web UI could not be queried, or its response is not Spark's.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Connect(BoxError),
    #[error("failed to query the web UI")]
    Http(#[from] hyper::Error),
    #[error("no answer from the web UI within {} s", ANSWER_TIMEOUT.as_secs())]
    NoAnswer,
    #[error("the connection to the web UI is closed")]
    Closed,
    #[error("the web UI answered {0}")]
    Status(StatusCode),
    #[error("the web UI's response is longer than {RESPONSE_LIMIT} bytes")]
    TooLong,
    #[error("failed to parse the web UI's response")]
    Json(#[from] serde_json::Error),
}

/// A keep-alive connection to a Spark web UI. Between requests it has no buffers: there may be thousands.
struct WebUiConnection {
    /// `None` during a request, so that the response of an aborted one is not read by the next, and after a failed one.
    stream: Option<Box<dyn UiStream>>,
}

impl WebUiConnection {
    fn over(stream: impl UiStream) -> Self {
        Self {
            stream: Some(Box::new(stream)),
        }
    }

    async fn get(&mut self, uri: hyper::Uri) -> Result<Bytes, Error> {
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, self.get_without_limit(uri)).await;
        answer.unwrap_or(Err(Error::NoAnswer))
    }

    async fn get_without_limit(&mut self, uri: hyper::Uri) -> Result<Bytes, Error> {
        let stream = self.stream.take().ok_or(Error::Closed)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = Box::pin(connection.without_shutdown());
        let (response, connection) = match select(Box::pin(response(sender, uri)), connection).await {
            Either::Left((response, connection)) => (response?, connection.await),
            Either::Right((connection, response)) => (response.await?, connection),
        };
        self.stream = match connection {
            Ok(Parts { io, read_buf, .. }) if read_buf.is_empty() => Some(io.into_inner()),
            _ => None,
        };
        let (status, body) = response;
        match status {
            StatusCode::OK => Ok(body),
            _ => Err(Error::Status(status)),
        }
    }

    /// Returns when the server has closed the connection. Only then is there something to read between two responses.
    async fn closed(&mut self) {
        if let Some(stream) = &mut self.stream {
            let _ = stream.read(&mut [0]).await;
            self.stream = None;
        }
    }
}

/// Sends a request. The connection ends with the sender.
async fn response(mut sender: SendRequest<Empty<Bytes>>, uri: hyper::Uri) -> Result<(StatusCode, Bytes), Error> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = uri;
    request
        .headers_mut()
        .insert(header::HOST, header::HeaderValue::from_static("localhost"));
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), RESPONSE_LIMIT).collect().await;
    // Either the connection broke, or the response was too long.
    let failed = |error: BoxError| match error.downcast::<hyper::Error>() {
        Ok(error) => Error::Http(*error),
        Err(_) => Error::TooLong,
    };
    Ok((status, body.map_err(failed)?.to_bytes()))
}

/// A master's web UI, queried repeatedly over a kept connection.
///
/// A closed connection says nothing about the master: Spark closes idle ones. So a connection that was idle for too long is not reused, and
/// a request that fails on a kept connection is retried once on a new one.
#[derive(Default)]
pub struct MasterUi {
    kept: Option<(WebUiConnection, Instant)>,
}

impl MasterUi {
    /// Queries the master's state. `connect` opens a connection if a new one is needed.
    pub async fn report(
        &mut self,
        connect: impl Future<Output = Result<impl UiStream, impl Into<BoxError>>>,
    ) -> Result<MasterReport, Error> {
        // `/json` without the trailing slash is a redirect.
        let response = self.get("/json/", connect).await?;
        Ok(serde_json::from_slice(&response)?)
    }

    /// Queries the master's status. The response does not grow with the cluster.
    pub async fn status(
        &mut self,
        connect: impl Future<Output = Result<impl UiStream, impl Into<BoxError>>>,
    ) -> Result<MasterStatus, Error> {
        #[derive(Deserialize)]
        struct Report {
            status: MasterStatus,
        }
        let response = self.get(MASTER_STATUS_PATH, connect).await?;
        Ok(serde_json::from_slice::<Report>(&response)?.status)
    }

    /// Queries the IDs of the running applications.
    pub async fn applications(
        &mut self,
        connect: impl Future<Output = Result<impl UiStream, impl Into<BoxError>>>,
    ) -> Result<Vec<String>, Error> {
        #[derive(Deserialize)]
        struct Report {
            activeapps: Vec<Application>,
        }
        let response = self.get("/json/activeapps", connect).await?;
        let report: Report = serde_json::from_slice(&response)?;
        Ok(report
            .activeapps
            .into_iter()
            .map(|application| application.id)
            .collect())
    }

    /// Queries the master's HTML page.
    pub async fn page(
        &mut self,
        connect: impl Future<Output = Result<impl UiStream, impl Into<BoxError>>>,
    ) -> Result<MasterPage, Error> {
        let page = self.get("/", connect).await?;
        let page = String::from_utf8_lossy(&page);
        Ok(MasterPage {
            version: version(&page),
            driver_uis: driver_uis(&page),
        })
    }

    async fn get(
        &mut self,
        path: &'static str,
        connect: impl Future<Output = Result<impl UiStream, impl Into<BoxError>>>,
    ) -> Result<Bytes, Error> {
        let uri = || hyper::Uri::from_static(path);
        // Taken out: the response of an aborted request may still arrive on its connection.
        let kept = self.kept.take().filter(|(_, last)| last.elapsed() < MAX_IDLE);
        if let Some((mut connection, _)) = kept {
            match connection.get(uri()).await {
                Err(error @ (Error::Http(_) | Error::Closed)) => {
                    tracing::debug!("a kept connection to a master failed: {error}");
                }
                response => return self.keep(connection, response?),
            }
        }
        let stream = connect.await.map_err(|error| Error::Connect(error.into()))?;
        let mut connection = WebUiConnection::over(stream);
        let response = connection.get(uri()).await?;
        self.keep(connection, response)
    }

    /// Returns when the kept connection is closed, as it is when the master's process ends.
    pub async fn closed(&mut self) {
        match &mut self.kept {
            Some((connection, _)) => connection.closed().await,
            None => std::future::pending().await,
        }
    }

    fn keep(&mut self, connection: WebUiConnection, response: Bytes) -> Result<Bytes, Error> {
        self.kept = Some((connection, Instant::now()));
        Ok(response)
    }
}

#[derive(Deserialize)]
struct Application {
    id: String,
}

/// The ID that a master gave to a driver's current application, from the driver's own web UI. An application in local mode, or on another
/// kind of cluster, has none.
pub async fn application_of_driver(stream: impl UiStream) -> Result<Option<String>, Error> {
    let uri = hyper::Uri::from_static("/api/v1/applications");
    let response = WebUiConnection::over(stream).get(uri).await?;
    let applications: Vec<Application> = serde_json::from_slice(&response)?;
    let mut ids = applications.into_iter().map(|application| application.id);
    Ok(ids.find(|id| id.starts_with("app-")))
}

/// A worker's web UI.
pub struct WorkerUi(WebUiConnection);

/// A section of an executor's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPart {
    /// The offset of the next section, in bytes.
    pub end: u64,
    /// The length of the whole log, in bytes.
    pub length: u64,
    pub text: String,
}

impl WorkerUi {
    pub fn over(stream: impl UiStream) -> Self {
        Self(WebUiConnection::over(stream))
    }

    /// IDs of the application's running and finished executors on this worker.
    pub async fn executors(&mut self, application: &str) -> Result<Vec<u32>, Error> {
        #[derive(Deserialize)]
        struct Worker {
            executors: Vec<Executor>,
            finishedexecutors: Vec<Executor>,
        }
        #[derive(Deserialize)]
        struct Executor {
            id: u32,
            appid: String,
        }
        let response = self.0.get(hyper::Uri::from_static("/json/")).await?;
        let worker: Worker = serde_json::from_slice(&response)?;
        let all = worker.executors.into_iter().chain(worker.finishedexecutors);
        let mut ids: Vec<_> = all
            .filter(|executor| executor.appid == application)
            .map(|executor| executor.id)
            .collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// A section of an executor's log of `kind` `stdout` or `stderr`, from the offset `from` in bytes.
    pub async fn log(&mut self, application: &str, executor: u32, kind: &str, from: u64) -> Result<LogPart, Error> {
        let path =
            format!("/log/?appId={application}&executorId={executor}&logType={kind}&offset={from}&byteLength=1048576");
        let uri = path.parse().map_err(|_| Error::Status(StatusCode::BAD_REQUEST))?;
        let response = self.0.get(uri).await?;
        log_part(&String::from_utf8_lossy(&response)).ok_or(Error::Status(StatusCode::NOT_FOUND))
    }
}

/// Parses `==== Bytes 0-120 of 4096 of /var/spark/work/app-…/0/stderr ====` and the text below it (Spark's `LogPage.renderLog`).
fn log_part(response: &str) -> Option<LogPart> {
    let (head, text) = response.split_once('\n')?;
    let mut words = head.strip_prefix("==== Bytes ")?.split(' ');
    let (_, end) = words.next()?.split_once('-')?;
    let length = words.nth(1)?;
    Some(LogPart {
        end: end.parse().ok()?,
        length: length.parse().ok()?,
        text: text.to_owned(),
    })
}

/// The links to drivers' web UIs in the rows of applications: Spark's `MasterPage.appRow` links the name of a running application to its
/// driver's web UI, after the link to `app/?appId=…`.
fn driver_uis(page: &str) -> Vec<(String, String)> {
    let rows = page.split("href=\"app/?appId=").skip(1);
    let links = rows.filter_map(|rest| {
        let (id, rest) = rest.split_once('"')?;
        let row = rest.split("</tr>").next()?;
        let (_, link) = row.split_once("href=\"http://")?;
        Some((id.to_owned(), format!("http://{}", link.split('"').next()?)))
    });
    links.collect()
}

/// Parses `<span class="version me-3">4.3.0</span>`; before 4.0 `class="version" style=…`.
fn version(page: &str) -> Option<String> {
    let (_, rest) = page.split_once("<span class=\"version")?;
    let text = rest.split_once('>')?.1.split('<').next()?.trim();
    Some(text.to_owned()).filter(|text| text.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;
    use crate::model::reports::MasterStatus;

    const REPORT: &str = r#"{"status": "STANDBY", "url": "spark://x:7077"}"#;

    /// A connection whose other end answers `times` requests, and then ignores all others without closing.
    async fn answering(times: usize) -> Result<DuplexStream, String> {
        let (ours, mut its) = tokio::io::duplex(4096);
        tokio::spawn(async move {
            let mut request = vec![0; 4096];
            for answered in 0.. {
                if its.read(&mut request).await? == 0 {
                    break;
                }
                if answered < times {
                    let response = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{REPORT}", REPORT.len());
                    its.write_all(response.as_bytes()).await?;
                }
            }
            Ok::<_, std::io::Error>(())
        });
        Ok(ours)
    }

    async fn refused() -> Result<DuplexStream, String> {
        Err("connection refused".into())
    }

    /// As with a port-forward whose other end is gone: the client is not notified.
    #[tokio::test]
    async fn a_connection_that_was_idle_for_too_long_is_not_reused() {
        let mut ui = MasterUi::default();
        ui.report(answering(1)).await.unwrap();
        let (_, last) = ui.kept.as_mut().unwrap();
        *last = Instant::now().checked_sub(MAX_IDLE).unwrap();
        let report = tokio::time::timeout(Duration::from_secs(5), ui.report(answering(2)));
        assert_eq!(report.await.unwrap().unwrap().status, MasterStatus::Standby);
        // The new connection is kept.
        ui.report(refused()).await.unwrap();
    }

    #[tokio::test]
    async fn the_response_of_an_aborted_request_is_not_read_by_the_next() {
        let mut ui = MasterUi::default();
        ui.report(answering(1)).await.unwrap();
        let aborted = tokio::time::timeout(Duration::from_millis(1), ui.report(refused()));
        assert!(aborted.await.is_err());
        let error = ui.report(refused()).await.unwrap_err();
        assert_eq!(error.to_string(), "connection refused");
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_kept_connection_is_noticed() {
        let (ours, mut its) = tokio::io::duplex(4096);
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        tokio::spawn(async move {
            assert!(its.read(&mut [0; 4096]).await.unwrap() > 0);
            let response = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{REPORT}", REPORT.len());
            its.write_all(response.as_bytes()).await.unwrap();
            let _ = ended.await;
        });
        let mut ui = MasterUi::default();
        ui.report(async { Ok::<_, String>(ours) }).await.unwrap();
        let wait = Duration::from_secs(1);
        assert!(tokio::time::timeout(wait, ui.closed()).await.is_err());
        drop(end);
        tokio::time::timeout(wait, ui.closed()).await.unwrap();
        let error = ui.report(refused()).await.unwrap_err();
        assert_eq!(error.to_string(), "connection refused");
    }

    #[tokio::test]
    async fn only_an_application_of_a_master_is_a_drivers() {
        let of = async |id: &str| {
            let (ours, mut its) = tokio::io::duplex(4096);
            let body = format!(r#"[{{"id": "{id}", "name": "x"}}]"#);
            tokio::spawn(async move {
                assert!(its.read(&mut [0; 4096]).await.unwrap() > 0);
                let response = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                its.write_all(response.as_bytes()).await.unwrap();
            });
            application_of_driver(ours).await.unwrap()
        };
        let expected = "app-20261121105049-0001";
        assert_eq!(of(expected).await.as_deref(), Some(expected));
        assert_eq!(of("local-1732100000000").await, None);
    }

    #[tokio::test]
    async fn an_endless_response_is_aborted() {
        let (ours, mut its) = tokio::io::duplex(65536);
        tokio::spawn(async move {
            assert!(its.read(&mut [0; 4096]).await.unwrap() > 0);
            its.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            while its.write_all(&[b' '; 65536]).await.is_ok() {}
        });
        let report = MasterUi::default().report(async { Ok::<_, String>(ours) }).await;
        assert!(matches!(report, Err(Error::TooLong)));
    }

    #[test]
    fn finds_drivers_in_a_page_of_spark_4_3() {
        let page = r##"<a href="http://spark-10-244-0-9.x.k8s:8081">worker</a><tr><td>
            <a href="app/?appId=app-20261121105049-0001">app-20261121105049-0001</a>
            <form action="app/kill/" method="POST"><a href="#" class="kill-link">(kill)</a></form></td><td>
            <a href="http://spark-10-244-0-12.x.k8s:4040">demo</a></td></tr>
            <tr><td><a href="app/?appId=app-20261121105049-0000">app-20261121105049-0000</a></td><td>done</td></tr>
            <a href="http://elsewhere:4040">no row</a>"##;
        let expected = ("app-20261121105049-0001", "http://spark-10-244-0-12.x.k8s:4040");
        assert_eq!(driver_uis(page), [(expected.0.to_owned(), expected.1.to_owned())]);
    }

    #[test]
    fn finds_the_version_in_old_and_new_pages() {
        for page in [
            r#"<a><img/><span class="version me-3">4.3.0</span></a>"#,
            r#"<span class="version" style="margin-right: 15px;">4.3.0</span>"#,
        ] {
            assert_eq!(version(page).as_deref(), Some("4.3.0"));
        }
        assert_eq!(version("<html>"), None);
    }

    #[test]
    fn parses_a_section_of_an_executors_log() {
        let response = "==== Bytes 100-112 of 4096 of /var/spark/work/app-1/0/stderr ====\none\ntwo\nthr";
        let part = log_part(response).unwrap();
        assert_eq!(
            (part.end, part.length, part.text.as_str()),
            (112, 4096, "one\ntwo\nthr")
        );
        assert_eq!(log_part("Error: Log type must be one of stderr, stdout"), None);
    }

    #[test]
    fn parses_a_report_of_spark_4_3() {
        let report: MasterReport = serde_json::from_str(
            r#"{"url":"spark://spark-master-0:7077","workers":[{"id":"worker-20260101000000-10.244.0.9-7078",
               "host":"10.244.0.9","port":7078,"webuiaddress":"http://spark-10-244-0-9.x.k8s:8081","cores":1,
               "coresused":0,"coresfree":1,"memory":1338,"memoryused":0,"memoryfree":1338,"resources":{},
               "resourcesused":{},"resourcesfree":{},"state":"ALIVE","lastheartbeat":1767225600000}],
               "aliveworkers":1,"cores":1,"coresused":0,"memory":1338,"memoryused":0,"resources":[],"resourcesused":[],
               "activeapps":[],"completedapps":[],"activedrivers":[],"completeddrivers":[],"status":"ALIVE"}"#,
        )
        .unwrap();
        assert_eq!(report.status, MasterStatus::Alive);
        assert_eq!(report.workers[0].cores, 1);
        assert_eq!(report.workers[0].memory, 1338);
    }
}
