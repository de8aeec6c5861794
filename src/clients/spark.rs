//! What a Spark master says of itself at `GET /json/`, and how to ask it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::model::reports::MasterReport;

/// What only a master's page for people says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MasterPage {
    /// Version of Spark.
    pub version: Option<String>,
    /// Running applications, and the addresses of their drivers' web UIs.
    pub driver_uis: Vec<(String, String)>,
}

/// How long a connection to a web UI of Spark's may be idle: Jetty closes it after 8 s (measured with 4.3), and by port-forward that may be
/// noticed only when a request is lost.
pub const MAX_IDLE: Duration = Duration::from_secs(5);

/// No answer of a master's is longer: one with 1,000 workers says less than 1 MB.
const RESPONSE_LIMIT: usize = 16 * 1024 * 1024;

/// A master could not be asked, or did not answer as one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Connect(Box<dyn std::error::Error + Send + Sync>),
    #[error("failed to ask the master's web UI")]
    Http(#[from] hyper::Error),
    #[error("the master's web UI answered {0}")]
    Status(StatusCode),
    #[error("the master's answer is longer than {RESPONSE_LIMIT} bytes")]
    TooLong,
    #[error("failed to read the master's answer")]
    Json(#[from] serde_json::Error),
}

/// A kept-alive connection to a web UI of Spark's.
struct WebUiConnection {
    sender: SendRequest<Empty<Bytes>>,
}

impl WebUiConnection {
    /// Speaks HTTP over an open stream.
    async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Self, Error> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // An error here reaches the caller too, as the failure of its next request.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("connection to a web UI ended: {error}");
            }
        });
        Ok(Self { sender })
    }

    async fn get(&mut self, uri: hyper::Uri) -> Result<Bytes, Error> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = uri;
        request
            .headers_mut()
            .insert(header::HOST, header::HeaderValue::from_static("localhost"));
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(Error::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), RESPONSE_LIMIT).collect().await;
        // Either the connection broke off, or it was too long.
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| match error.downcast::<hyper::Error>() {
            Ok(error) => Error::Http(*error),
            Err(_) => Error::TooLong,
        };
        Ok(body.map_err(failed)?.to_bytes())
    }
}

/// A master's web UI, asked again and again over a kept connection.
///
/// That Spark closed the connection meanwhile says nothing of the master: only a new one does. So one that has been idle for too long is not used
/// again, and a request that fails on a kept one is sent once more on a new one.
#[derive(Default)]
pub struct MasterUi {
    kept: Option<(WebUiConnection, Instant)>,
}

impl MasterUi {
    /// Asks for the master's state. `connect` opens a connection, if one is needed.
    pub async fn report<S, E>(&mut self, connect: impl Future<Output = Result<S, E>>) -> Result<MasterReport, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        // `/json` without the slash is a redirect.
        let response = self.get("/json/", connect).await?;
        Ok(serde_json::from_slice(&response)?)
    }

    /// Asks for the page for people.
    pub async fn page<S, E>(&mut self, connect: impl Future<Output = Result<S, E>>) -> Result<MasterPage, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let page = self.get("/", connect).await?;
        let page = String::from_utf8_lossy(&page);
        Ok(MasterPage {
            version: version(&page),
            driver_uis: driver_uis(&page),
        })
    }

    async fn get<S, E>(
        &mut self,
        path: &'static str,
        connect: impl Future<Output = Result<S, E>>,
    ) -> Result<Bytes, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let uri = || hyper::Uri::from_static(path);
        // Taken: a request that is given up leaves a connection on which its answer may still come.
        let kept = self.kept.take().filter(|(_, last)| last.elapsed() < MAX_IDLE);
        let reused = match kept {
            Some((mut connection, _)) => match connection.get(uri()).await {
                Err(Error::Http(error)) => {
                    tracing::debug!("a kept connection to a master failed: {error}");
                    None
                }
                response => Some((connection, response?)),
            },
            None => None,
        };
        let (connection, response) = match reused {
            Some(reused) => reused,
            None => {
                let stream = connect.await.map_err(|error| Error::Connect(error.into()))?;
                let mut connection = WebUiConnection::over(stream).await?;
                let response = connection.get(uri()).await?;
                (connection, response)
            }
        };
        self.kept = Some((connection, Instant::now()));
        Ok(response)
    }
}

/// The application that a driver has at this moment, as its own web UI has it.
pub async fn application_of_driver(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<Option<String>, Error> {
    #[derive(Deserialize)]
    struct Application {
        id: String,
    }
    let uri = hyper::Uri::from_static("/api/v1/applications");
    let response = WebUiConnection::over(stream).await?.get(uri).await?;
    let applications: Vec<Application> = serde_json::from_slice(&response)?;
    Ok(applications.into_iter().next().map(|application| application.id))
}

/// A worker's web UI.
pub struct WorkerUi(WebUiConnection);

/// A part of an executor's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPart {
    /// Where the next part begins.
    pub end: u64,
    /// How much there is.
    pub length: u64,
    pub text: String,
}

impl WorkerUi {
    /// Speaks HTTP over an open stream.
    pub async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Self, Error> {
        Ok(Self(WebUiConnection::over(stream).await?))
    }

    /// The executors of an application that run here, or ran.
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

    /// What an executor wrote to `stdout` or `stderr`, from a place on.
    pub async fn log(&mut self, application: &str, executor: u32, kind: &str, from: u64) -> Result<LogPart, Error> {
        let path =
            format!("/log/?appId={application}&executorId={executor}&logType={kind}&offset={from}&byteLength=1048576");
        let uri = path.parse().map_err(|_| Error::Status(StatusCode::BAD_REQUEST))?;
        let response = self.0.get(uri).await?;
        log_part(&String::from_utf8_lossy(&response)).ok_or(Error::Status(StatusCode::NOT_FOUND))
    }
}

/// `==== Bytes 0-120 of 4096 of /var/spark/work/app-…/0/stderr ====`, and the text: `LogPage.renderLog`.
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

/// The links of a master's page that stand in the row of an application: `MasterPage.appRow` makes the name of a running application a link to
/// its driver's web UI, after the one to `app/?appId=…`.
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

/// `<span class="version me-3">4.3.0</span>`; before 4.0 `class="version" style=…`.
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

    /// A connection whose other end answers so many requests, and then swallows the others without ever closing.
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

    /// As by a port-forward whose other end has gone: that it is gone is never seen.
    #[tokio::test]
    async fn a_connection_that_was_idle_for_too_long_is_not_used_again() {
        let mut ui = MasterUi::default();
        ui.report(answering(1)).await.unwrap();
        let (_, last) = ui.kept.as_mut().unwrap();
        *last = Instant::now().checked_sub(MAX_IDLE).unwrap();
        let report = tokio::time::timeout(Duration::from_secs(5), ui.report(answering(2)));
        assert_eq!(report.await.unwrap().unwrap().status, MasterStatus::Standby);
        // The new one is kept.
        ui.report(refused()).await.unwrap();
    }

    #[tokio::test]
    async fn an_answer_that_was_not_awaited_is_not_taken_for_the_next() {
        let mut ui = MasterUi::default();
        ui.report(answering(1)).await.unwrap();
        let aborted = tokio::time::timeout(Duration::from_millis(1), ui.report(refused()));
        assert!(aborted.await.is_err());
        let error = ui.report(refused()).await.unwrap_err();
        assert_eq!(error.to_string(), "connection refused");
    }

    #[tokio::test]
    async fn an_answer_without_an_end_is_given_up() {
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
    fn finds_drivers_in_the_page_that_spark_4_3_wrote() {
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
    fn finds_the_version_in_pages_old_and_new() {
        for page in [
            r#"<a><img/><span class="version me-3">4.3.0</span></a>"#,
            r#"<span class="version" style="margin-right: 15px;">4.3.0</span>"#,
        ] {
            assert_eq!(version(page).as_deref(), Some("4.3.0"));
        }
        assert_eq!(version("<html>"), None);
    }

    #[test]
    fn reads_a_part_of_an_executors_log() {
        let response = "==== Bytes 100-112 of 4096 of /var/spark/work/app-1/0/stderr ====\none\ntwo\nthr";
        let part = log_part(response).unwrap();
        assert_eq!(
            (part.end, part.length, part.text.as_str()),
            (112, 4096, "one\ntwo\nthr")
        );
        assert_eq!(log_part("Error: Log type must be one of stderr, stdout"), None);
    }

    #[test]
    fn reads_what_spark_4_3_wrote() {
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
