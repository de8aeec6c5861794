//! The way to a pod's web UI: straight to its address from inside the cluster and on this machine, through the API server's port-forward from
//! anywhere else.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;

use super::kubernetes::Cluster;
use crate::spec::names::Namespace;

#[derive(Clone)]
pub enum Way {
    Direct,
    Forwarded(Cluster),
}

/// An open connection to a pod.
pub enum Stream {
    Direct(TcpStream),
    Forwarded(DuplexStream),
}

impl Way {
    /// What stands for a pod in a URL: its address, or its name and namespace.
    pub fn host(&self, namespace: &str, pod: &str, address: IpAddr) -> String {
        match (self, address) {
            (Way::Direct, IpAddr::V4(address)) => address.to_string(),
            (Way::Direct, IpAddr::V6(address)) => format!("[{address}]"),
            (Way::Forwarded(_), _) => format!("{pod}.{namespace}"),
        }
    }

    /// Connects to a port of a pod, named as [`Way::host`] names it.
    pub async fn connect(&self, host: &str, port: u16) -> io::Result<Stream> {
        match self {
            Way::Direct => {
                let address: IpAddr = host.trim_matches(['[', ']']).parse().map_err(io::Error::other)?;
                let stream = TcpStream::connect((address, port)).await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Direct(stream))
            }
            Way::Forwarded(cluster) => {
                // Pods' names may have dots, namespaces' have none.
                let (pod, namespace) = host.rsplit_once('.').unwrap_or((host, ""));
                let namespace = Namespace::parse(namespace).map_err(io::Error::other)?;
                let opened = cluster.in_namespace(namespace).forward(pod, port).await;
                Ok(Stream::Forwarded(opened.map_err(io::Error::other)?))
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Direct(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Forwarded(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Direct(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Forwarded(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Direct(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Forwarded(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Direct(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Forwarded(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Direct(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Forwarded(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Direct(stream) => stream.is_write_vectored(),
            Stream::Forwarded(stream) => stream.is_write_vectored(),
        }
    }
}
