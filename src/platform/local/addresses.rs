//! Finds loopback addresses for pods: each pod gets its own from 127.0.0.0/8, on which all its ports are free.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, TcpListener};

use crate::render::digest::short_digest;

/// How many addresses are tried before a port counts as taken everywhere.
const TRIES: u32 = 600;

/// A free address for a pod that listens on these ports. `taken` are the addresses of other pods.
///
/// The search begins at an address derived from `seed`, so that clusters keep apart, plus `further` for later pods: as in Kubernetes, a pod
/// does not get the address of the one that it replaces, which a master may still remember.
///
/// # Errors
/// The last taken port. A port is taken everywhere if a process listens on it at 0.0.0.0.
pub fn free(seed: &str, further: u32, ports: &[u16], taken: &BTreeSet<IpAddr>) -> Result<IpAddr, u16> {
    let start = u32::from_str_radix(&short_digest([seed])[..8], 16).unwrap_or_default();
    let start = start.wrapping_add(further);
    let mut busy = 0;
    for address in (0..TRIES)
        .map(|at| candidate(start.wrapping_add(at)))
        .filter(|address| !taken.contains(address))
    {
        match ports.iter().find(|&&port| !is_free(address, port)) {
            None => return Ok(address),
            Some(&port) => busy = port,
        }
    }
    Err(busy)
}

/// The message about a port that is taken everywhere.
pub fn taken_message(port: u16) -> String {
    format!("port {port} is taken on every loopback address")
}

pub const TAKEN_HELP: &str = "stop the program that listens there (`ss -ltnp` shows it)";

/// The ports that are taken on every loopback address.
pub fn taken_everywhere(ports: &BTreeSet<u16>) -> Vec<u16> {
    let is_taken = |port: &u16| free("", 0, &[*port], &BTreeSet::new()).is_err();
    ports.iter().copied().filter(is_taken).collect()
}

/// An address from 127.64.0.1 to 127.127.255.254, away from 127.0.0.1 and its neighbours, which other programs use.
fn candidate(number: u32) -> IpAddr {
    let number = number % (64 * 256 * 254);
    let (rest, last) = (number / 254, number % 254);
    Ipv4Addr::new(127, 64 + (rest / 256 % 64) as u8, (rest % 256) as u8, last as u8 + 1).into()
}

pub fn is_free(address: IpAddr, port: u16) -> bool {
    TcpListener::bind((address, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skips_addresses_with_taken_ports_and_reports_a_port_taken_everywhere() {
        let everywhere = TcpListener::bind(("0.0.0.0", 0)).unwrap();
        let busy = everywhere.local_addr().unwrap().port();
        assert_eq!(free("x", 0, &[busy], &BTreeSet::new()), Err(busy));

        let first = free("x", 0, &[], &BTreeSet::new()).unwrap();
        let here = TcpListener::bind((first, 0)).unwrap();
        let port = here.local_addr().unwrap().port();
        let second = free("x", 0, &[port], &BTreeSet::new()).unwrap();
        assert_ne!(first, second);
        let third = free("x", 0, &[port], &[second].into()).unwrap();
        assert!(third != first && third != second);
    }

    #[test]
    fn every_candidate_is_a_loopback_host_address() {
        for number in [0, 253, 254, u32::MAX, 64 * 256 * 254 - 1, 64 * 256 * 254] {
            let IpAddr::V4(address) = candidate(number) else {
                panic!()
            };
            let [a, b, _, d] = address.octets();
            assert!(
                a == 127 && (64..128).contains(&b) && (1..=254).contains(&d),
                "{address}"
            );
        }
    }
}
