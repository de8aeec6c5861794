//! Which user owns the process at the other end of a connection on this machine.

use std::net::{SocketAddr, SocketAddrV4};

use super::user_id;

/// How often to read the table of connections: it may change while it is read, and then lack one.
const TRIES: usize = 3;

/// Whether the process that connected from `from` to `to` belongs to this user or to root. Only Linux tells: elsewhere the owner is unknown,
/// and the process counts as this user's.
pub fn is_own(from: SocketAddr, to: SocketAddr) -> bool {
    let (SocketAddr::V4(from), SocketAddr::V4(to)) = (from, to) else {
        return false;
    };
    for _ in 0..TRIES {
        let Ok(table) = std::fs::read_to_string("/proc/net/tcp") else {
            return true;
        };
        if let Some(owner) = owner(&table, from, to) {
            return owner == 0 || Some(owner) == user_id();
        }
    }
    false
}

/// The user ID of the socket that connects these addresses, from the kernel's table (`/proc/net/tcp`). A socket that its process has closed has
/// neither inode nor owner: the kernel prints 0 for both.
fn owner(table: &str, from: SocketAddrV4, to: SocketAddrV4) -> Option<u32> {
    // The kernel prints an address as the number that it is in memory.
    let written = |address: SocketAddrV4| {
        let ip = u32::from_ne_bytes(address.ip().octets());
        format!("{ip:08X}:{:04X}", address.port())
    };
    let (from, to) = (written(from), written(to));
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let is_it = fields.next() == Some(&from) && fields.next() == Some(&to);
        // Skips state, queues, timer and retransmits, and then the time-out.
        let (owner, inode) = (fields.nth(4)?, fields.nth(1)?);
        (is_it && inode != "0").then(|| owner.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_connection_of_this_user_is_its_own() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (from, to) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
        assert!(is_own(from, to));
        // The socket of this end, and a socket that does not exist.
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let v4 = |address| match address {
            SocketAddr::V4(address) => address,
            SocketAddr::V6(_) => unreachable!(),
        };
        assert_eq!(owner(&table, v4(from), v4(to)), user_id());
        assert_eq!(owner(&table, v4(from), v4(from)), None);
        assert!(!is_own(from, from));
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn a_connection_of_another_user_has_that_owner() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
             0: 0100007F:1130 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0\n   \
             1: 0100007F:C35A 0100007F:1130 01 00000000:00000000 00:00000000 00000000 65534        0 2 1 0 20 4 30 10 -1\n   \
             2: 0100007F:C35C 0100007F:1130 06 00000000:00000000 03:00001770 00000000     0        0 0 3 0\n";
        let at = |port| SocketAddrV4::new([127, 0, 0, 1].into(), port);
        assert_eq!(owner(table, at(50010), at(4400)), Some(65534));
        assert_eq!(owner(table, at(50011), at(4400)), None);
        // Its process has closed it.
        assert_eq!(owner(table, at(50012), at(4400)), None);
    }
}
