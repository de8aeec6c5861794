//! DNS as bytes, to send what no well-behaved client would, and dnsmasq.

use std::net::UdpSocket;
use std::process::Command;
use std::time::Duration;

use super::server::Server;

/// Where [`dnsmasq`] listens.
pub const DNSMASQ_PORT: u16 = 5353;

/// Starts dnsmasq at an address, with nothing but these arguments to tell it names.
pub fn dnsmasq(address: &str, arguments: &[String]) -> Server {
    Server::start(
        Command::new("/usr/sbin/dnsmasq")
            .args([
                "--keep-in-foreground",
                "--no-resolv",
                "--no-hosts",
                "--bind-interfaces",
                "--user=root",
                "--pid-file=",
            ])
            .args([format!("--port={DNSMASQ_PORT}"), format!("--listen-address={address}")])
            .args(arguments),
    )
}

/// A query with this id, in class IN and without EDNS.
pub fn query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut query = [&id.to_be_bytes()[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        query.push(label.len() as u8);
        query.extend(label.as_bytes());
    }
    query.push(0);
    query.extend(kind.to_be_bytes());
    query.extend([0, 1]);
    query
}

/// A socket that takes packets from this server only.
pub fn socket(server: (&str, u16)) -> UdpSocket {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    socket
}

/// The next packet; `None` if there is none in time.
pub fn receive(socket: &UdpSocket) -> Option<Vec<u8>> {
    let mut answer = vec![0; 65536];
    let length = socket.recv(&mut answer).ok()?;
    answer.truncate(length);
    Some(answer)
}

/// Asks a DNS server for the IPv4 addresses of a name.
pub fn addresses(server: (&str, u16), name: &str) -> Option<Vec<[u8; 4]>> {
    let query = query(0x1234, name, 1);
    let socket = socket(server);
    socket.send(&query).ok()?;
    Some(addresses_in(&receive(&socket)?, query.len()))
}

/// The addresses in an answer to a query of this length.
pub fn addresses_in(answer: &[u8], query_length: usize) -> Vec<[u8; 4]> {
    let count = u16::from_be_bytes([answer[6], answer[7]]);
    // Each is a pointer to the name, type, class, time to live, length and four bytes.
    let records = answer[query_length..].chunks(16).take(usize::from(count));
    records.map(|record| record[12..16].try_into().unwrap()).collect()
}
