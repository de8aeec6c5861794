//! Prometheus metrics, liveness and readiness of a long-running sparkha, at an address of their own.

use std::convert::Infallible;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use super::slots::Slots;

/// The most connections at a time, in all and of one client.
const CONNECTIONS: usize = 64;
const OF_ONE_CLIENT: usize = 16;
/// The most that is held of a request or response that is on its way.
const BUFFER_LIMIT: usize = 8192;

/// Pause after the kernel failed to return a connection.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// One metric, with a value for each set of labels.
pub struct Metric {
    /// A counter's name ends in `_total`; everything else is a gauge.
    pub name: &'static str,
    pub help: &'static str,
    /// The labels as `name="value"`; empty for none.
    pub values: Vec<(String, f64)>,
}

impl Metric {
    pub fn new(name: &'static str, help: &'static str, value: f64) -> Self {
        Self {
            name,
            help,
            values: vec![(String::new(), value)],
        }
    }
}

/// A source of metrics and of readiness.
pub trait MetricsSource: Send + Sync + 'static {
    fn metrics(&self) -> Vec<Metric>;

    /// `Err` with the reason while it does not do its work.
    fn ready(&self) -> Result<(), String>;
}

/// Metrics in Prometheus' text format.
fn text(metrics: &[Metric]) -> String {
    let mut text = String::new();
    for Metric { name, help, values } in metrics {
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in values {
            let _ = match labels.as_str() {
                "" => writeln!(text, "{name} {value}"),
                labels => writeln!(text, "{name}{{{labels}}} {value}"),
            };
        }
    }
    text
}

/// Where metrics and health are served.
#[derive(Clone, Copy, Debug, Args)]
pub struct MonitoringAddress {
    /// Serve /metrics, /healthz and /readyz here
    #[arg(long, value_name = "IP:PORT", help_heading = "Monitoring")]
    metrics: Option<SocketAddr>,
    /// Serve only /healthz and /readyz here
    #[arg(
        long,
        value_name = "IP:PORT",
        conflicts_with = "metrics",
        help_heading = "Monitoring"
    )]
    health: Option<SocketAddr>,
}

impl MonitoringAddress {
    pub const NONE: MonitoringAddress = MonitoringAddress {
        metrics: None,
        health: None,
    };

    /// Binds the address.
    ///
    /// # Errors
    ///
    /// With the address that cannot be bound.
    pub async fn bind(self) -> Result<MetricsListener, (SocketAddr, std::io::Error)> {
        let listener = match self.metrics.or(self.health) {
            Some(address) => Some(TcpListener::bind(address).await.map_err(|error| (address, error))?),
            None => None,
        };
        let metrics = self.metrics.is_some();
        Ok(MetricsListener { listener, metrics })
    }
}

/// The bound socket, if metrics or health are served.
pub struct MetricsListener {
    listener: Option<TcpListener>,
    metrics: bool,
}

/// Serves until dropped.
pub async fn serve(bound: MetricsListener, source: Arc<impl MetricsSource>) {
    let Some(listener) = bound.listener else {
        return std::future::pending().await;
    };
    let slots = Slots::new(CONNECTIONS, OF_ONE_CLIENT);
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("failed to accept a connection: {error}");
                tokio::time::sleep(AFTER_ERROR).await;
                continue;
            }
        };
        // No connection is marked as in use: the oldest of a client with too many makes room.
        let Some(slot) = slots.take(from.ip()) else { continue };
        let source = source.clone();
        let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let response = answer(request.uri().path(), source.as_ref(), bound.metrics);
            async move { Ok::<_, Infallible>(response) }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .max_buf_size(BUFFER_LIMIT)
            .serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move {
            tokio::select! {
                _ = slot.ended() => {}
                // The client may hang up.
                _ = served => {}
            }
        });
    }
}

fn answer(path: &str, source: &impl MetricsSource, metrics: bool) -> Response<Full<Bytes>> {
    let (status, kind, body) = match path {
        "/metrics" if metrics => (StatusCode::OK, "text/plain; version=0.0.4", text(&source.metrics())),
        "/healthz" => (StatusCode::OK, "text/plain", "ok\n".into()),
        "/readyz" => match source.ready() {
            Ok(()) => (StatusCode::OK, "text/plain", "ok\n".into()),
            Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, "text/plain", format!("{reason}\n")),
        },
        _ => (
            StatusCode::NOT_FOUND,
            "text/plain",
            "/metrics, /healthz or /readyz\n".into(),
        ),
    };
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    struct Nothing;

    impl MetricsSource for Nothing {
        fn metrics(&self) -> Vec<Metric> {
            Vec::new()
        }

        fn ready(&self) -> Result<(), String> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_client_with_too_many_connections_loses_its_oldest() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (listener, metrics) = (Some(listener), true);
        tokio::spawn(serve(MetricsListener { listener, metrics }, Arc::new(Nothing)));
        let mut clients = Vec::new();
        for _ in 0..=OF_ONE_CLIENT {
            clients.push(TcpStream::connect(address).await.unwrap());
        }
        let closed = tokio::time::timeout(Duration::from_secs(10), clients[0].read(&mut [0; 1])).await;
        assert_eq!(closed.expect("the first is still open").unwrap(), 0);
        let newest = &mut clients[OF_ONE_CLIENT];
        let request = b"GET /readyz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        newest.write_all(request).await.unwrap();
        let mut response = String::new();
        newest.read_to_string(&mut response).await.unwrap();
        assert!(response.starts_with("HTTP/1.1 200 OK"), "{response}");
    }

    #[test]
    fn metrics_have_prometheus_text_format() {
        let by_code = Metric {
            name: "requests_total",
            help: "Requests by their answer.",
            values: vec![("code=\"2xx\"".into(), 12.0), ("code=\"5xx\"".into(), 0.0)],
        };
        assert_eq!(
            text(&[Metric::new("routes", "Routes.", 3.0), by_code]),
            "# HELP routes Routes.\n# TYPE routes gauge\nroutes 3\n# HELP requests_total Requests by their answer.\n\
             # TYPE requests_total counter\nrequests_total{code=\"2xx\"} 12\nrequests_total{code=\"5xx\"} 0\n"
        );
    }
}
