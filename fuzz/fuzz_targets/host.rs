//! Any text where a host and port should be: what is accepted has one spelling.

#![no_main]

#[path = "../../src/router/authority.rs"]
mod authority;

use authority::Authority;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Some(accepted) = Authority::parse(text) else { return };
    let host = &accepted.host;
    let is_address = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok());
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    let is_label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(is_plain);
    assert!(
        is_address || (host.len() <= 253 && host.split('.').all(is_label)),
        "{host:?}"
    );
    let written = match accepted.port {
        Some(port) => format!("{host}:{port}"),
        None => host.clone(),
    };
    // Nothing was left out or added but capitals and the dot at the end.
    assert_eq!(
        text.to_ascii_lowercase().replace(".:", ":").trim_end_matches('.'),
        written
    );
    assert_eq!(Authority::parse(&written), Some(accepted));
});
