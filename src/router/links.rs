//! Names of the table's hosts in the browser, and the rewriting of Spark's own links where the names differ.

use std::borrow::Cow;

use memchr::memmem;

use super::authority::Authority;
use crate::routing::{Route, Table};

/// The start of all of Spark's links to other web UIs.
const START: &[u8] = b"http://";
/// The longest host and port.
const LONGEST: usize = 320;

/// The names under which browsers reach the web UIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UiNaming {
    /// Exactly as in Spark's links: `http://spark-10-1-2-3.ns.k8s:8081`.
    AsLinked,
    /// The same hosts and ports over HTTPS.
    Secure,
    /// All at one port of this machine: `http://spark-10-1-2-3.ns.k8s.localhost:PORT`, and `http://4040.spark-….localhost:PORT` for a driver that
    /// shares its host with a worker. Browsers resolve `*.localhost` to this machine without a DNS server.
    Localhost { port: u16 },
}

const LOCALHOST: &str = ".localhost";

impl UiNaming {
    /// The route for a browser's host at one of the router's ports.
    pub fn find<'a>(self, table: &'a Table, host: &str, port: u16) -> Option<&'a Route> {
        let UiNaming::Localhost { .. } = self else {
            return table.find(host, port).or_else(|| {
                // At ports 80 and 443, the host alone decides. At a Spark port, only a UI with that very port is meant.
                let is_spark_s = crate::model::ports::UI_PORTS.contains(&port)
                    || crate::model::ports::DRIVER_UI_PORTS.contains(&port);
                (!is_spark_s).then(|| table.find_host(host)).flatten()
            });
        };
        let host = host.strip_suffix(LOCALHOST)?;
        match host.split_once('.').map(|(first, rest)| (first.parse(), rest)) {
            Some((Ok(port), rest)) => table.find(rest, port),
            _ => table.find_host(host),
        }
    }

    /// The table's host for a browser's host, with or without a route.
    pub fn host(self, host: &str) -> Option<&str> {
        match self {
            UiNaming::Localhost { .. } => host.strip_suffix(LOCALHOST),
            UiNaming::AsLinked | UiNaming::Secure => Some(host),
        }
    }

    /// The URL of a route in the browser.
    pub fn url(self, table: &Table, route: &Route) -> String {
        let Route { host, port, .. } = route;
        match self {
            UiNaming::AsLinked => format!("http://{host}:{port}"),
            UiNaming::Secure => format!("https://{host}:{port}"),
            UiNaming::Localhost { port: ours } => match table.find_host(host) {
                Some(main) if main.port != *port => format!("http://{port}.{host}{LOCALHOST}:{ours}"),
                _ => format!("http://{host}{LOCALHOST}:{ours}"),
            },
        }
    }

    /// Whether Spark's links must be rewritten.
    pub fn rewrites(self) -> bool {
        self != UiNaming::AsLinked
    }

    /// The replacement of a link's `http://host:port`; `None` leaves it unchanged.
    fn link(self, table: &Table, authority: &Authority) -> Option<String> {
        let port = authority.port.unwrap_or(80);
        let host = authority.host.as_str();
        let route = table.find(host, port).or_else(|| {
            // A driver without a public name links to its address.
            let address = host.trim_matches(['[', ']']).parse().ok()?;
            table
                .routes
                .iter()
                .find(|route| (route.target, route.port) == (address, port))
        });
        route.map(|route| self.url(table, route))
    }
}

/// Rewrites the links of a page while it streams.
pub struct Rewriter {
    naming: UiNaming,
    table: std::sync::Arc<Table>,
    /// The authority of the request.
    requested: Option<Authority>,
    /// A possible beginning of a link.
    held: Vec<u8>,
}

impl Rewriter {
    pub fn new(naming: UiNaming, table: std::sync::Arc<Table>) -> Self {
        Self {
            naming,
            table,
            requested: None,
            held: vec![],
        }
    }

    /// Of a response's headers: a redirect leads to the authority of the request, which may name any port of the router.
    pub fn of_headers(naming: UiNaming, table: std::sync::Arc<Table>, requested: &Authority) -> Self {
        Self {
            requested: Some(requested.clone()),
            ..Self::new(naming, table)
        }
    }

    /// The next part of the page, rewritten as far as its links are complete.
    pub fn next(&mut self, part: &[u8]) -> Vec<u8> {
        let text = match self.held.is_empty() {
            true => Cow::Borrowed(part),
            false => {
                self.held.extend_from_slice(part);
                Cow::Owned(std::mem::take(&mut self.held))
            }
        };
        let (done, rest) = self.rewrite(&text, false);
        self.held = rest.to_vec();
        done
    }

    /// The text that was held back.
    pub fn end(&mut self) -> Vec<u8> {
        let held = std::mem::take(&mut self.held);
        self.rewrite(&held, true).0
    }

    fn rewrite<'a>(&self, text: &'a [u8], is_end: bool) -> (Vec<u8>, &'a [u8]) {
        let mut done = Vec::with_capacity(text.len() + 64);
        let mut rest = text;
        while let Some(at) = memmem::find(rest, START) {
            let after = &rest[at + START.len()..];
            done.extend_from_slice(&rest[..at]);
            let length = match after.iter().take(LONGEST).position(|&byte| !is_of_authority(byte)) {
                Some(length) => length,
                // Longer than any host: none.
                None if after.len() >= LONGEST => 0,
                None if is_end => after.len(),
                None => return (done, &rest[at..]),
            };
            let authority = std::str::from_utf8(&after[..length]).unwrap_or_default();
            match self.link(authority) {
                Some(link) => {
                    done.extend_from_slice(link.as_bytes());
                    rest = &after[length..];
                }
                // What follows may hold another one.
                None => {
                    done.extend_from_slice(START);
                    rest = after;
                }
            }
        }
        // The beginning of a link may be split between two parts.
        let held = match is_end {
            true => 0,
            false => (1..START.len())
                .rev()
                .find(|&n| rest.ends_with(&START[..n]))
                .unwrap_or(0),
        };
        let (sure, held) = rest.split_at(rest.len() - held);
        done.extend_from_slice(sure);
        (done, held)
    }

    fn link(&self, authority: &str) -> Option<String> {
        let parsed = Authority::parse(authority)?;
        match self.naming {
            UiNaming::Secure if self.requested.as_ref() == Some(&parsed) => Some(format!("https://{authority}")),
            naming => naming.link(&self.table, &parsed),
        }
    }
}

fn is_of_authority(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::routing::tests::{table, with_driver_beside_worker};

    fn whole() -> Arc<Table> {
        Arc::new(Table::from_routes(table()))
    }

    const LOCAL: UiNaming = UiNaming::Localhost { port: 4400 };
    const PAGE: &str = "<a href=\"http://spark-10-1-2-4.ns.k8s:8080\">m</a> http://spark-fd00--5.ns.k8s:8081/logPage/?a=b \
                        http://10.1.2.3:8080/ http://elsewhere:8080 http://spark-10-1-2-4.ns.k8s:22 http:/ http";

    fn rewritten(naming: UiNaming, parts: impl Iterator<Item = Vec<u8>>) -> String {
        let mut rewriter = Rewriter::new(naming, whole());
        let mut done: Vec<u8> = parts.flat_map(|part| rewriter.next(&part)).collect();
        done.extend(rewriter.end());
        String::from_utf8(done).unwrap()
    }

    #[test]
    fn links_are_rewritten_wherever_the_page_is_split() {
        let expected = "<a href=\"http://spark-10-1-2-4.ns.k8s.localhost:4400\">m</a> \
                        http://spark-fd00--5.ns.k8s.localhost:4400/logPage/?a=b http://spark-10-1-2-3.ns.k8s.localhost:4400/ \
                        http://elsewhere:8080 http://spark-10-1-2-4.ns.k8s:22 http:/ http";
        for size in 1..PAGE.len() {
            let parts = PAGE.as_bytes().chunks(size).map(<[u8]>::to_vec);
            assert_eq!(rewritten(LOCAL, parts), expected, "{size}");
        }
        let secure = rewritten(UiNaming::Secure, [PAGE.as_bytes().to_vec()].into_iter());
        assert!(secure.starts_with("<a href=\"https://spark-10-1-2-4.ns.k8s:8080\">"));
        assert_eq!(
            rewritten(LOCAL, [b"http://spark-10-1-2-4.ns.k8s:8080".to_vec()].into_iter()),
            "http://spark-10-1-2-4.ns.k8s.localhost:4400"
        );
    }

    #[test]
    fn redirects_to_the_authority_of_the_request_stay_secure() {
        let location = |naming, requested: &str, location: &str| {
            let requested = Authority::parse(requested).unwrap();
            let mut rewriter = Rewriter::of_headers(naming, whole(), &requested);
            let rewritten = [rewriter.next(location.as_bytes()), rewriter.end()].concat();
            String::from_utf8(rewritten).unwrap()
        };
        let host = "spark-master.ns.k8s";
        // The default port, --port, and a port of Spark's.
        for port in ["", ":443", ":8443", ":8080"] {
            let (requested, after) = (format!("{host}{port}"), format!("://{host}{port}/jobs/"));
            assert_eq!(
                location(UiNaming::Secure, &requested, &format!("http{after}")),
                format!("https{after}")
            );
        }
        let elsewhere = "http://spark-master.ns.k8s:8443/";
        assert_eq!(location(UiNaming::Secure, host, elsewhere), elsewhere);
        let local = "http://spark-master.ns.k8s.localhost:4400/jobs/";
        assert_eq!(location(LOCAL, "spark-master.ns.k8s.localhost:4400", local), local);
    }

    #[test]
    fn a_link_directly_behind_what_is_no_host_is_rewritten_wherever_the_page_is_split() {
        for before in ["http://", "http://elsewhere:", &format!("http://{}", "a".repeat(400))] {
            let page = format!("{before}http://10.1.2.3:8080/");
            let expected = format!("{before}http://spark-10-1-2-3.ns.k8s.localhost:4400/");
            for size in 1..=page.len() {
                let parts = page.as_bytes().chunks(size).map(<[u8]>::to_vec);
                assert_eq!(rewritten(LOCAL, parts), expected, "{size}");
            }
        }
    }

    #[test]
    fn browser_hosts_map_to_routes_and_back() {
        let table = with_driver_beside_worker();
        for naming in [UiNaming::AsLinked, UiNaming::Secure, LOCAL] {
            for route in &table.routes {
                let url = naming.url(&table, route);
                let authority = Authority::parse(url.split_once("://").unwrap().1).unwrap();
                let found = naming.find(&table, &authority.host, authority.port.unwrap());
                assert_eq!(found, Some(route), "{url}");
            }
        }
        let driver = table.routes.iter().find(|route| route.port == 4040).unwrap();
        assert_eq!(
            LOCAL.url(&table, driver),
            "http://4040.spark-fd00--5.ns.k8s.localhost:4400"
        );
    }

    #[test]
    fn a_spark_port_leads_only_to_routes_with_that_port() {
        let table = with_driver_beside_worker();
        let find = |host, port| UiNaming::AsLinked.find(&table, host, port).map(|route| route.port);
        assert_eq!(find("spark-fd00--5.ns.k8s", 80), Some(8081));
        assert_eq!(find("spark-fd00--5.ns.k8s", 443), Some(8081));
        assert_eq!(find("spark-fd00--5.ns.k8s", 8080), None);
        assert_eq!(find("spark-fd00--5.ns.k8s", 4041), None);
        assert_eq!(find("spark-fd00--5.ns.k8s.evil.example", 80), None);
        assert!(LOCAL.find(&table, "spark-fd00--5.ns.k8s", 4400).is_none());
        assert!(
            LOCAL
                .find(&table, "7078.spark-fd00--5.ns.k8s.localhost", 4400)
                .is_none()
        );
    }
}
