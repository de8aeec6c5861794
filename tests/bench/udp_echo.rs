//! Sends every packet back, marked as an answer: what the loopback itself can do. `udp_echo ADDRESS:PORT`

fn main() -> std::io::Result<()> {
    let socket = std::net::UdpSocket::bind(std::env::args().nth(1).unwrap_or_default())?;
    let mut packet = [0; 4096];
    loop {
        let (length, from) = socket.recv_from(&mut packet)?;
        packet[2] |= 0x80;
        socket.send_to(&packet[..length], from)?;
    }
}
