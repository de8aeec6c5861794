//! Host and port, as in a `Host` header or a URL. Self-contained and strict: anything that is not plainly a host name or an address is refused,
//! because a router and the server behind it must never read it differently.

/// A host in lower case, and the port if given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    pub host: String,
    pub port: Option<u16>,
}

impl Authority {
    /// `None` if the text is not `host` or `host:port`: empty labels, user names, escapes, spaces, ports that are not numbers.
    ///
    /// Removes the dot at the end of a fully qualified name.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, rest) = rest.split_once(']')?;
                address.parse::<std::net::Ipv6Addr>().ok()?;
                let port = match rest {
                    "" => None,
                    rest => Some(rest.strip_prefix(':')?),
                };
                (format!("[{}]", address.to_ascii_lowercase()), port)
            }
            None => {
                let (host, port) = match text.split_once(':') {
                    Some((host, port)) => (host, Some(port)),
                    None => (text, None),
                };
                let host = host.strip_suffix('.').unwrap_or(host);
                let is_name = host.len() <= 253 && host.split('.').all(is_label);
                (is_name.then(|| host.to_ascii_lowercase())?, port)
            }
        };
        let port = match port {
            Some(port) => Some(number(port)?),
            None => None,
        };
        Some(Self { host, port })
    }
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// A port in its canonical spelling.
fn number(port: &str) -> Option<u16> {
    let is_plain = port.bytes().all(|b| b.is_ascii_digit()) && !port.starts_with('0');
    port.parse().ok().filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Option<(String, Option<u16>)> {
        Authority::parse(text).map(|authority| (authority.host, authority.port))
    }

    #[test]
    fn parses_hosts_and_ports() {
        assert_eq!(
            parsed("Spark-Master.NS.k8s:8080"),
            Some(("spark-master.ns.k8s".into(), Some(8080)))
        );
        assert_eq!(
            parsed("spark-master.ns.k8s."),
            Some(("spark-master.ns.k8s".into(), None))
        );
        assert_eq!(parsed("10.1.2.3:80"), Some(("10.1.2.3".into(), Some(80))));
        assert_eq!(parsed("[::1]:4000"), Some(("[::1]".into(), Some(4000))));
        for refused in [
            "",
            ".",
            "a..b",
            "a.b..",
            "a b",
            "user@host",
            "a:b",
            "a:",
            "a:080",
            "a:+80",
            "a:65536",
            "a:80:80",
            "a/b",
            "a\\b",
            "a%2eb",
            "ä.k8s",
            "a\t",
            "[::1",
            "[::1]80",
            "[x]",
            "[]",
            "-\u{0}",
            &"a".repeat(64),
            &"a.".repeat(130),
        ] {
            assert_eq!(parsed(refused), None, "{refused:?}");
        }
    }

    proptest! {
        #[test]
        fn accepted_authorities_are_canonical(text in ".{0,80}") {
            if let Some(authority) = Authority::parse(&text) {
                prop_assert!(authority.host.bytes().all(|b| !b.is_ascii_uppercase() && b.is_ascii_graphic()));
                let written = match authority.port {
                    Some(port) => format!("{}:{port}", authority.host),
                    None => authority.host.clone(),
                };
                prop_assert_eq!(Authority::parse(&written), Some(authority));
            }
        }
    }
}
