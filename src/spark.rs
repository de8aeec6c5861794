//! What a Spark master says of itself at `GET /json/`, and how to ask it.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

/// State of a master, in Spark's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum MasterStatus {
    Alive,
    Standby,
    Recovering,
    /// Recovery is over, workers and applications are being taken back.
    #[serde(rename = "COMPLETING_RECOVERY")]
    CompletingRecovery,
}

impl std::fmt::Display for MasterStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            MasterStatus::Alive => "ALIVE",
            MasterStatus::Standby => "STANDBY",
            MasterStatus::Recovering => "RECOVERING",
            MasterStatus::CompletingRecovery => "COMPLETING_RECOVERY",
        })
    }
}

/// The answer of `/json/`, as far as sparkha reads it (Spark's `JsonProtocol.writeMasterState`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MasterReport {
    pub status: MasterStatus,
    /// `spark://host:port`.
    pub url: String,
    #[serde(default)]
    pub workers: Vec<WorkerReport>,
    #[serde(default)]
    pub activeapps: Vec<ApplicationReport>,
    #[serde(default)]
    pub completedapps: Vec<ApplicationReport>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerReport {
    pub id: String,
    pub host: String,
    pub webuiaddress: String,
    pub cores: u32,
    pub coresused: u32,
    /// MiB.
    pub memory: u64,
    /// MiB.
    pub memoryused: u64,
    /// `ALIVE`, `DEAD`, `DECOMMISSIONED` or `UNKNOWN`.
    pub state: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApplicationReport {
    pub id: String,
    pub name: String,
    pub cores: u32,
    pub user: String,
    /// `WAITING`, `RUNNING`, `FINISHED`, `FAILED`, `KILLED` or `UNKNOWN`.
    pub state: String,
    /// MiB that each executor gets.
    #[serde(
        default,
        rename(serialize = "memoryPerExecutorMib", deserialize = "memoryperexecutor")
    )]
    pub memory_per_executor: u64,
    /// When it registered, in milliseconds since 1970.
    #[serde(default, rename(serialize = "startedMs", deserialize = "starttime"))]
    pub started_ms: u64,
    /// Milliseconds, so far.
    #[serde(default, rename(serialize = "durationMs"))]
    pub duration: u64,
}

/// What only a master's page for people says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// Version of Spark.
    pub version: Option<String>,
    /// Running applications, and the addresses of their drivers' web UIs.
    pub driver_uis: Vec<(String, String)>,
}

/// A master could not be asked, or did not answer as one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to ask the master's web UI")]
    Http(#[from] hyper::Error),
    #[error("the master's web UI answered {0}")]
    Status(StatusCode),
    #[error("failed to read the master's answer")]
    Json(#[from] serde_json::Error),
}

/// A kept-alive connection to a web UI of Spark's.
struct Connection {
    sender: SendRequest<Empty<Bytes>>,
}

impl Connection {
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
        Ok(response.into_body().collect().await?.to_bytes())
    }
}

/// A master's web UI.
pub struct MasterUi(Connection);

impl MasterUi {
    /// Speaks HTTP over an open stream.
    pub async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Self, Error> {
        Ok(Self(Connection::over(stream).await?))
    }

    /// Asks for the master's state.
    pub async fn report(&mut self) -> Result<MasterReport, Error> {
        // `/json` without the slash is a redirect.
        let answer = self.0.get(hyper::Uri::from_static("/json/")).await?;
        Ok(serde_json::from_slice(&answer)?)
    }

    /// Asks for the page for people.
    pub async fn page(&mut self) -> Result<Page, Error> {
        let page = self.0.get(hyper::Uri::from_static("/")).await?;
        let page = String::from_utf8_lossy(&page);
        Ok(Page {
            version: version(&page),
            driver_uis: driver_uis(&page),
        })
    }
}

/// A worker's web UI.
pub struct WorkerUi(Connection);

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
        Ok(Self(Connection::over(stream).await?))
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
        let answer = self.0.get(hyper::Uri::from_static("/json/")).await?;
        let worker: Worker = serde_json::from_slice(&answer)?;
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
        let answer = self.0.get(uri).await?;
        log_part(&String::from_utf8_lossy(&answer)).ok_or(Error::Status(StatusCode::NOT_FOUND))
    }
}

/// `==== Bytes 0-120 of 4096 of /var/spark/work/app-…/0/stderr ====`, and the text: `LogPage.renderLog`.
fn log_part(answer: &str) -> Option<LogPart> {
    let (head, text) = answer.split_once('\n')?;
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
    use super::*;

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
        let answer = "==== Bytes 100-112 of 4096 of /var/spark/work/app-1/0/stderr ====\none\ntwo\nthr";
        let part = log_part(answer).unwrap();
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
