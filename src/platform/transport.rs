//! The transport to a pod's web UI: a direct connection to its address from inside the cluster and on this machine, and the API server's
//! port-forward from anywhere else.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::io::DuplexStream;
use tokio::net::TcpStream;
use tokio_util::either::Either;

use super::kubernetes::Cluster;
use crate::spec::names::Namespace;
use crate::state::address_of;

/// How long a browser may wait for a pod that is gone.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// When to retry a connection. Spark's web UIs queue hardly any connections (a backlog of 1 was measured): they drop some of the six that a
/// browser opens at once. The kernel itself retries only after 1 and 3 s.
const CONNECT_RETRY_INTERVAL: Duration = Duration::from_millis(400);
/// How long the API server, the node and the pod may take together.
const FORWARD_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub enum Transport {
    Direct,
    PortForward(Cluster),
}

/// An open connection to a pod: direct, or a forwarded port.
pub type PodStream = Either<TcpStream, DuplexStream>;

impl Transport {
    /// The host of a pod in a URL: its address, or its name and namespace.
    pub fn host(&self, namespace: &str, pod: &str, address: IpAddr) -> String {
        match (self, address) {
            (Transport::Direct, IpAddr::V4(address)) => address.to_string(),
            (Transport::Direct, IpAddr::V6(address)) => format!("[{address}]"),
            (Transport::PortForward(_), _) => format!("{pod}.{namespace}"),
        }
    }

    /// Opens a connection to a port of a pod, to query it. The error is the reason as text.
    pub async fn open(&self, pod: &Pod, port: u16) -> Result<PodStream, String> {
        match self {
            Transport::Direct => {
                let address = address_of(pod).ok_or("the pod has no address yet")?;
                let opened = TcpStream::connect((address, port)).await;
                opened.map(Either::Left).map_err(|error| error.to_string())
            }
            Transport::PortForward(cluster) => {
                let opened = cluster.forward(&pod.name_any(), port).await;
                opened.map(Either::Right).map_err(|error| error.to_string())
            }
        }
    }

    /// How long to wait after a failed query before the next one to the same pod. A JVM takes seconds to start, and an attempt to forward a port
    /// is a request to the API server; a direct one costs little.
    pub fn pause_after_failure(&self) -> Duration {
        match self {
            Transport::Direct => Duration::from_millis(100),
            Transport::PortForward(_) => Duration::from_secs(1),
        }
    }

    /// Connects to a port of the pod at `host`, which is as [`Transport::host`] returns it.
    pub async fn connect(&self, host: &str, port: u16) -> io::Result<PodStream> {
        match self {
            Transport::Direct => {
                let address = host.trim_matches(['[', ']']).parse().map_err(io::Error::other)?;
                let connected = tokio::time::timeout(CONNECT_TIMEOUT, connect_with_retry(address, port)).await?;
                Ok(Either::Left(connected?))
            }
            Transport::PortForward(cluster) => {
                // A pod's name may contain dots. A namespace's cannot.
                let (pod, namespace) = host.rsplit_once('.').unwrap_or((host, ""));
                let namespace = Namespace::parse(namespace).map_err(io::Error::other)?;
                let cluster = cluster.in_namespace(namespace);
                let opened = tokio::time::timeout(FORWARD_TIMEOUT, cluster.forward(pod, port)).await?;
                Ok(Either::Right(opened.map_err(io::Error::other)?))
            }
        }
    }
}

/// Connects, and retries until the connection is accepted or refused.
async fn connect_with_retry(address: IpAddr, port: u16) -> io::Result<TcpStream> {
    loop {
        if let Ok(connected) = tokio::time::timeout(CONNECT_RETRY_INTERVAL, TcpStream::connect((address, port))).await {
            let stream = connected?;
            stream.set_nodelay(true)?;
            return Ok(stream);
        }
    }
}
