//! Any packet: no panic, and an answer that is one, to that packet, and no longer than allowed.

#![no_main]

#[path = "../../src/router/dns/zone.rs"]
mod zone;

use std::sync::LazyLock;

use hickory_proto::op::Message;
use hickory_proto::rr::Name;
use libfuzzer_sys::fuzz_target;
use zone::{DnsTransport, Zone};

/// One whose answers are too long for UDP without EDNS.
static ZONE: LazyLock<Zone> = LazyLock::new(|| {
    let addresses: Vec<_> = (0..60).map(|last| [192, 0, 2, last].into()).collect();
    Zone::new(&[Name::from_ascii("k8s").unwrap()], &addresses, 1).unwrap()
});

fuzz_target!(|packet: &[u8]| {
    for transport in [DnsTransport::Udp, DnsTransport::Tcp] {
        let Some(bytes) = ZONE.answer(packet, transport) else {
            continue;
        };
        let answer = Message::from_vec(&bytes).unwrap();
        assert_eq!(bytes[..2], packet[..2]);
        assert!(bytes[2] & 0x80 != 0);
        if transport == DnsTransport::Udp {
            assert!(bytes.len() <= if answer.edns.is_some() { 1232 } else { 512 });
        }
    }
});
