//! The router's DNS server: names of the UI domains resolve to the router. [`zone`] builds the answers; this module has the sockets.
//!
//! An answer needs no waiting, so the receiving loop sends it: one loop for each UDP socket, one task for each TCP connection.

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

/// Pause after the kernel failed to return a packet or connection: it may be short of memory or files.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// One address at which DNS is served.
pub struct Sockets {
    udp: Udp,
    tcp: TcpListener,
}

impl Sockets {
    /// Binds both the UDP and the TCP port.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let udp = UdpSocket::bind(address).await?;
        // The same port, if the kernel chose it.
        let tcp = TcpListener::bind(udp.local_addr()?).await?;
        let udp = Udp::new(udp)?;
        Ok(Self { udp, tcp })
    }
}

/// Answers queries until dropped.
pub async fn serve(zone: Arc<Zone>, sockets: Vec<Sockets>) {
    let mut tasks = JoinSet::new();
    for Sockets { udp, tcp } in sockets {
        tasks.spawn(udp.serve(zone.clone()));
        tasks.spawn(tcp::serve(zone.clone(), tcp));
    }
    tasks.join_all().await;
}
