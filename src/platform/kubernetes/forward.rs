//! Streams to pods through the API server's port-forward, so that sparkha can query masters and ZooKeeper servers from a laptop.

use k8s_openapi::api::core::v1::Pod;
use tokio::io::DuplexStream;
use tokio::net::TcpListener;

use super::{Cluster, Error};
use crate::platform::system::peers;

impl Cluster {
    /// Opens a stream to a port of a pod.
    pub async fn forward(&self, pod: &str, port: u16) -> Result<DuplexStream, Error> {
        let api = self.api::<Pod>();
        let action = format!("forward a port to {pod}:{port}");
        let mut forwarder = self
            .call(&action, || async { api.portforward(pod, &[port]).await })
            .await?;
        forwarder.take_stream(port).ok_or_else(|| Error::Protocol {
            action,
            message: "the API server did not open the stream".into(),
        })
    }

    /// Listens on a free loopback port and forwards each connection of this user to the pod, for clients that connect by themselves.
    /// Stops when the returned guard is dropped.
    pub async fn forward_listener(&self, pod: &str, port: u16) -> std::io::Result<ForwardGuard> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (cluster, pod) = (self.clone(), pod.to_owned());
        let task = tokio::spawn(async move {
            while let Ok((mut local, from)) = listener.accept().await {
                // Every user of this machine can connect to the port.
                if !peers::is_own(from, address) {
                    continue;
                }
                let (cluster, pod) = (cluster.clone(), pod.clone());
                tokio::spawn(async move {
                    match cluster.forward(&pod, port).await {
                        Ok(mut remote) => {
                            // Either side may close the connection at any time. That is no error.
                            let _ = tokio::io::copy_bidirectional(&mut local, &mut remote).await;
                        }
                        Err(error) => tracing::debug!("{error}"),
                    }
                });
            }
        });
        Ok(ForwardGuard {
            address,
            task: task.abort_handle(),
        })
    }
}

/// A local port that is forwarded to a pod until this is dropped.
pub struct ForwardGuard {
    pub address: std::net::SocketAddr,
    task: tokio::task::AbortHandle,
}

impl Drop for ForwardGuard {
    fn drop(&mut self) {
        self.task.abort();
    }
}
