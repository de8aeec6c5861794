//! DNS over UDP. Packets are received in batches. Each is answered from the address to which it was sent: on a socket that listens at all addresses,
//! the kernel would choose another, and the client would reject the answer.

use std::io::{self, IoSliceMut};
use std::sync::Arc;

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::AFTER_ERROR;
use super::zone::{DnsTransport, Zone};

/// Buffer size for a packet, in bytes. Queries have a few hundred at most; a longer packet is truncated and so malformed.
const PACKET_MAX: usize = 4096;

/// A socket, and what the kernel can do with it.
pub struct Udp {
    socket: UdpSocket,
    state: UdpSocketState,
}

impl Udp {
    pub fn new(socket: UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Self { socket, state })
    }

    /// Answers queries until dropped.
    pub async fn serve(self, zone: Arc<Zone>) {
        let mut memory = vec![0; BATCH_SIZE * PACKET_MAX];
        let mut received = [RecvMeta::default(); BATCH_SIZE];
        loop {
            let mut buffers: Vec<_> = memory.chunks_mut(PACKET_MAX).map(IoSliceMut::new).collect();
            let receive = || self.state.recv((&self.socket).into(), &mut buffers, &mut received);
            let count = match self.socket.async_io(Interest::READABLE, receive).await {
                Ok(count) => count,
                Err(error) => {
                    tracing::warn!("failed to receive a DNS query: {error}");
                    tokio::time::sleep(AFTER_ERROR).await;
                    continue;
                }
            };
            for (buffer, from) in buffers.iter().zip(&received[..count]) {
                // The kernel joins packets of one sender.
                for packet in buffer[..from.len].chunks(from.stride.max(1)) {
                    self.answer(&zone, packet, from).await;
                }
            }
        }
    }

    async fn answer(&self, zone: &Zone, packet: &[u8], from: &RecvMeta) {
        // Nobody can receive at port 0: such a packet only makes the server send.
        let answer = (from.addr.port() != 0).then(|| zone.answer(packet, DnsTransport::Udp));
        let Some(answer) = answer.flatten() else { return };
        let transmit = Transmit {
            destination: from.addr,
            ecn: None,
            contents: &answer,
            segment_size: None,
            src_ip: from.dst_ip,
        };
        let send = || self.state.try_send((&self.socket).into(), &transmit);
        if let Err(error) = self.socket.async_io(Interest::WRITABLE, send).await {
            tracing::debug!("failed to answer {}: {error}", from.addr);
        }
    }
}
