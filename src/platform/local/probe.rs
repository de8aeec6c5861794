//! Runs probes as a kubelet does: HTTP, TCP and commands.

use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Probe;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;

use super::container::Launch;
use super::translate::Translation;

/// The target of a probe.
#[derive(Default)]
pub struct ProbeTarget {
    pub address: String,
    pub launch: Launch,
    pub translation: Translation,
}

pub enum Verdict {
    Healthy,
    Unhealthy(String),
}

/// One probe, run repeatedly.
pub struct Series<'a> {
    probe: &'a Probe,
    target: &'a ProbeTarget,
    failures: Option<i32>,
}

impl<'a> Series<'a> {
    pub fn new(probe: &'a Probe, target: &'a ProbeTarget) -> Self {
        Self {
            probe,
            target,
            failures: None,
        }
    }

    /// Waits for the next success, or for as many failures in a row as the probe's failure threshold.
    pub async fn next(&mut self) -> Verdict {
        let seconds = |value: Option<i32>, default: i32| Duration::from_secs(value.unwrap_or(default).max(1) as u64);
        loop {
            if self.failures.is_some() {
                tokio::time::sleep(seconds(self.probe.period_seconds, 10)).await;
            }
            let limit = seconds(self.probe.timeout_seconds, 1);
            let once = tokio::time::timeout(limit, once(self.probe, self.target)).await;
            let Err(reason) = once.unwrap_or_else(|_| Err("timed out".into())) else {
                self.failures = Some(0);
                return Verdict::Healthy;
            };
            let failures = self.failures.unwrap_or(0) + 1;
            self.failures = Some(failures);
            if failures >= self.probe.failure_threshold.unwrap_or(3) {
                return Verdict::Unhealthy(reason);
            }
        }
    }
}

async fn once(probe: &Probe, target: &ProbeTarget) -> Result<(), String> {
    if let Some(http) = &probe.http_get {
        return get(&target.address, port(&http.port)?, http.path.as_deref().unwrap_or("/")).await;
    }
    if let Some(tcp) = &probe.tcp_socket {
        let opened = TcpStream::connect((target.address.as_str(), port(&tcp.port)?)).await;
        return opened.map(drop).map_err(text);
    }
    if let Some(exec) = &probe.exec {
        return command(exec.command.as_deref().unwrap_or_default(), target).await;
    }
    Err("this kind of probe is not supported on this machine".into())
}

fn port(port: &IntOrString) -> Result<u16, String> {
    match port {
        IntOrString::Int(port) => u16::try_from(*port).map_err(|_| format!("{port} is not a port")),
        IntOrString::String(name) => Err(format!("named ports ({name}) are not supported on this machine")),
    }
}

fn text(error: impl std::error::Error) -> String {
    error.to_string()
}

async fn get(address: &str, port: u16, path: &str) -> Result<(), String> {
    let stream = TcpStream::connect((address, port)).await.map_err(text)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(text)?;
    let request = Request::get(path)
        .header("host", address)
        .header("connection", "close")
        .body(Empty::<Bytes>::new())
        .map_err(text)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(text)?;
        match response.status().as_u16() {
            200..400 => Ok(()),
            code => Err(format!("status {code}")),
        }
    };
    // The server closes the connection right after its response. Waiting for the first of both would sometimes miss the response.
    futures::join!(answer, connection).0
}

async fn command(words: &[String], target: &ProbeTarget) -> Result<(), String> {
    let mut words = words.iter().map(|word| target.translation.text(word));
    let status = tokio::process::Command::new(words.next().unwrap_or_default())
        .args(words)
        .env_clear()
        .envs(&target.launch.environment)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .status()
        .await;
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(status.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use k8s_openapi::api::core::v1::TCPSocketAction;

    use super::*;

    #[tokio::test]
    async fn a_response_counts_even_if_the_connection_closes_at_once() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = [0; 1024];
                let read = stream.read(&mut head).await.unwrap();
                let code = if head[..read].starts_with(b"GET /bad") {
                    500
                } else {
                    200
                };
                let answer = format!("HTTP/1.1 {code} X\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        for _ in 0..100 {
            assert_eq!(get("127.0.0.1", port, "/").await, Ok(()));
        }
        assert_eq!(get("127.0.0.1", port, "/bad").await, Err("status 500".into()));
    }

    #[tokio::test]
    async fn a_probe_is_unhealthy_only_at_its_failure_threshold() {
        let free = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let probe = Probe {
            tcp_socket: Some(TCPSocketAction {
                port: IntOrString::Int(address.port().into()),
                ..Default::default()
            }),
            period_seconds: Some(1),
            failure_threshold: Some(2),
            ..Default::default()
        };
        let target = ProbeTarget {
            address: "127.0.0.1".into(),
            ..Default::default()
        };
        let mut series = Series::new(&probe, &target);
        assert!(matches!(series.next().await, Verdict::Unhealthy(_)));
        assert_eq!(series.failures, Some(2));
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        assert!(matches!(series.next().await, Verdict::Healthy));
        drop(listener);
        assert!(matches!(series.next().await, Verdict::Unhealthy(_)));
    }
}
