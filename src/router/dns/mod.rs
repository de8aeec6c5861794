//! The router's DNS server: names of the UI domains lead to the router. [`zone`] knows what to answer; here are the sockets.
//!
//! An answer needs no waiting, so it is given where the packet was received: one loop for each UDP socket, one task for each
//! TCP connection.

mod tcp;
mod udp;
pub mod zone;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;
use udp::Udp;
use zone::Zone;

/// How long to wait after the kernel would not give a packet or connection: it may be short of memory or files.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// One address at which DNS is served.
pub struct Sockets {
    udp: Udp,
    tcp: TcpListener,
}

impl Sockets {
    /// Listens at both the UDP and the TCP port.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let udp = UdpSocket::bind(address).await?;
        // The same one, if the kernel was to choose.
        let tcp = TcpListener::bind(udp.local_addr()?).await?;
        let udp = Udp::new(udp)?;
        Ok(Self { udp, tcp })
    }
}

/// Answers until it is dropped.
pub async fn serve(zone: Arc<Zone>, sockets: Vec<Sockets>) {
    let mut tasks = JoinSet::new();
    for Sockets { udp, tcp } in sockets {
        tasks.spawn(udp.serve(zone.clone()));
        tasks.spawn(tcp::serve(zone.clone(), tcp));
    }
    tasks.join_all().await;
}
