//! The head of a request: its host, or why it is refused, and the headers that are forwarded to the pod. Self-contained and pure.

use std::net::IpAddr;

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};

use super::authority::Authority;

/// Headers of one connection, not of the request (RFC 9110, section 7.6.1).
fn is_hop_by_hop(name: &HeaderName) -> bool {
    let name = name.as_str();
    matches!(
        name,
        "connection" | "keep-alive" | "proxy-connection" | "proxy-authorization" | "te" | "trailer" | "upgrade"
    )
}

/// Headers by which a client could make Spark believe what only a router may say. Spark puts `X-Forwarded-Context` before every link and script of
/// its pages.
fn only_routers_say(name: &HeaderName) -> bool {
    let name = name.as_str();
    name == "forwarded"
        || matches!(
            name.strip_prefix("x-forwarded-"),
            Some("context" | "prefix" | "host" | "port" | "proto" | "server")
        )
}

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There must be exactly one, with a valid host.
    Host,
    /// The target is a URL with another host than `Host`.
    OtherHost,
    /// The target is neither a path nor a URL.
    Target,
    /// `CONNECT` and `TRACE` are for other kinds of proxies.
    Method,
    /// A transfer encoding other than chunked, or chunked twice: two servers could find two different ends.
    Encoding,
}

impl Refusal {
    pub fn status(self) -> StatusCode {
        match self {
            Refusal::Method => StatusCode::METHOD_NOT_ALLOWED,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    pub fn reason(self) -> &'static str {
        match self {
            Refusal::Host => "a request must have exactly one Host header, with a host name",
            Refusal::OtherHost => "the request's target and its Host header name different hosts",
            Refusal::Target => "the request's target is not a path",
            Refusal::Method => "web UIs do not support this method",
            Refusal::Encoding => "the only supported Transfer-Encoding is chunked",
        }
    }
}

/// The host and port of a request.
pub fn authority(head: &Parts) -> Result<Authority, Refusal> {
    if [Method::CONNECT, Method::TRACE].contains(&head.method) {
        return Err(Refusal::Method);
    }
    // A length beside it was already removed; hyper ends the connection after such a request.
    let mut encodings = head.headers.get_all(header::TRANSFER_ENCODING).iter();
    let is_chunked = encodings
        .next()
        .is_none_or(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    if !is_chunked || encodings.next().is_some() {
        return Err(Refusal::Encoding);
    }
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(Refusal::Host);
    };
    let host = host.to_str().ok().and_then(Authority::parse).ok_or(Refusal::Host)?;
    match (head.uri.scheme_str(), head.uri.authority()) {
        (None, None) => {}
        (Some(scheme), Some(authority)) => {
            let default = match scheme {
                "http" => 80,
                "https" => 443,
                _ => return Err(Refusal::Target),
            };
            let with_port = |authority: &Authority| (authority.host.clone(), authority.port.unwrap_or(default));
            let target = Authority::parse(authority.as_str()).ok_or(Refusal::Target)?;
            if with_port(&target) != with_port(&host) {
                return Err(Refusal::OtherHost);
            }
        }
        _ => return Err(Refusal::Target),
    }
    let is_path = head.uri.path().starts_with('/') || (head.method == Method::OPTIONS && head.uri.path() == "*");
    is_path.then_some(host).ok_or(Refusal::Target)
}

/// How a connection's requests arrive, as the headers for the pod say it.
pub struct ClientAddress {
    from: HeaderValue,
    port: HeaderValue,
    scheme: HeaderValue,
}

impl ClientAddress {
    pub fn new(from: IpAddr, port: u16, secure: bool) -> Self {
        Self {
            // An address is a valid value.
            from: HeaderValue::try_from(from.to_string()).unwrap_or(HeaderValue::from_static("unknown")),
            port: HeaderValue::from(port),
            scheme: HeaderValue::from_static(if secure { "https" } else { "http" }),
        }
    }
}

/// Rewrites the headers for the request to the pod. An upgrade to WebSocket is requested anew; no other is supported. Returns whether it is one.
pub fn forward(headers: &mut HeaderMap, came: &ClientAddress) -> bool {
    let to_websocket = is_websocket(headers);
    leave_out(headers, |name| is_hop_by_hop(name) || only_routers_say(name));
    let from = match headers.contains_key(FORWARDED_FOR) {
        true => after_earlier_hops(headers, &came.from),
        false => came.from.clone(),
    };
    headers.insert(FORWARDED_FOR, from);
    if let Some(host) = headers.get(header::HOST).cloned() {
        headers.insert(FORWARDED_HOST, host);
    }
    headers.insert(FORWARDED_PORT, came.port.clone());
    headers.insert(FORWARDED_PROTO, came.scheme.clone());
    if to_websocket {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    to_websocket
}

fn after_earlier_hops(headers: &HeaderMap, from: &HeaderValue) -> HeaderValue {
    let hops = headers.get_all(FORWARDED_FOR).iter().chain([from]);
    let hops: Vec<_> = hops.filter_map(|value| value.to_str().ok()).collect();
    HeaderValue::try_from(hops.join(", ")).unwrap_or_else(|_| from.clone())
}

/// Whether a request or a response upgrades to WebSocket.
pub fn is_websocket(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(header::UPGRADE).and_then(|value| value.to_str().ok());
    upgrade.is_some_and(|protocol| protocol.eq_ignore_ascii_case("websocket"))
        && connection_options(headers).any(|option| option.eq_ignore_ascii_case("upgrade"))
}

/// Removes the headers of this connection.
pub fn leave_out_hop_by_hop(headers: &mut HeaderMap) {
    leave_out(headers, is_hop_by_hop);
}

/// Removes the headers for which `is_left_out` is true, and those that are named as options of the connection. Most requests have one or none:
/// to look at each header is faster than to look for each name.
fn leave_out(headers: &mut HeaderMap, is_left_out: impl Fn(&HeaderName) -> bool) {
    let named: Vec<_> = connection_options(headers)
        .filter_map(|option| option.parse::<HeaderName>().ok())
        // Framing and addressing are never connection options.
        .filter(|name| ![header::HOST, header::CONTENT_LENGTH, header::TRANSFER_ENCODING].contains(name))
        .collect();
    for name in &named {
        headers.remove(name);
    }
    while let Some(name) = headers.keys().find(|name| is_left_out(name)).cloned() {
        headers.remove(name);
    }
}

fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(header::CONNECTION).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn parts(method: &str, target: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn of(method: &str, target: &str, headers: &[(&str, &str)]) -> Result<String, Refusal> {
        authority(&parts(method, target, headers)).map(|authority| authority.host)
    }

    #[test]
    fn a_request_has_one_valid_host_or_is_refused() {
        let host = ("Host", "a.k8s:8080");
        assert_eq!(of("GET", "/x", &[host]), Ok("a.k8s".into()));
        assert_eq!(of("GET", "http://A.k8s:8080/x", &[host]), Ok("a.k8s".into()));
        assert_eq!(of("GET", "http://a.k8s/", &[("Host", "a.k8s:80")]), Ok("a.k8s".into()));
        assert_eq!(of("OPTIONS", "*", &[host]), Ok("a.k8s".into()));
        assert_eq!(of("GET", "*", &[host]), Err(Refusal::Target));
        assert_eq!(of("GET", "http://b.k8s:8080/x", &[host]), Err(Refusal::OtherHost));
        assert_eq!(of("GET", "http://a.k8s/x", &[host]), Err(Refusal::OtherHost));
        assert_eq!(of("GET", "ftp://a.k8s:8080/x", &[host]), Err(Refusal::Target));
        assert_eq!(of("GET", "a.k8s:8080", &[host]), Err(Refusal::Target));
        assert_eq!(of("CONNECT", "a.k8s:8080", &[host]), Err(Refusal::Method));
        assert_eq!(of("TRACE", "/", &[host]), Err(Refusal::Method));
        assert_eq!(of("GET", "/", &[]), Err(Refusal::Host));
        assert_eq!(of("GET", "/", &[host, host]), Err(Refusal::Host));
        assert_eq!(of("GET", "/", &[("Host", "a b")]), Err(Refusal::Host));
        let chunked = ("Transfer-Encoding", "Chunked");
        assert_eq!(of("POST", "/", &[host, chunked]), Ok("a.k8s".into()));
        assert_eq!(of("POST", "/", &[host, chunked, chunked]), Err(Refusal::Encoding));
        let gzip = ("Transfer-Encoding", "gzip, chunked");
        assert_eq!(of("POST", "/", &[host, gzip]), Err(Refusal::Encoding));
    }

    #[test]
    fn forwarded_requests_have_the_routers_headers() {
        let mut headers = parts(
            "GET",
            "/",
            &[
                ("Host", "a.k8s:8080"),
                ("Connection", "close, X-Secret, host"),
                ("X-Secret", "1"),
                ("X-Forwarded-Context", "/evil"),
                ("X-Forwarded-For", "1.2.3.4"),
                ("X-Forwarded-Proto", "https"),
                ("Upgrade", "h2c"),
                ("TE", "trailers"),
                ("Cookie", "a=b"),
            ],
        )
        .headers;
        let came = ClientAddress::new([10, 0, 0, 1].into(), 8080, false);
        assert!(!forward(&mut headers, &came));
        let mut lines: Vec<_> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        lines.sort();
        assert_eq!(
            lines,
            [
                "cookie: a=b",
                "host: a.k8s:8080",
                "x-forwarded-for: 1.2.3.4, 10.0.0.1",
                "x-forwarded-host: a.k8s:8080",
                "x-forwarded-port: 8080",
                "x-forwarded-proto: http",
            ]
        );
    }

    #[test]
    fn a_websocket_upgrade_is_requested_anew() {
        let headers = [
            ("Host", "a"),
            ("Connection", "keep-alive, Upgrade"),
            ("Upgrade", "WebSocket"),
        ];
        let mut headers = parts("GET", "/", &headers).headers;
        let came = ClientAddress::new([10, 0, 0, 1].into(), 80, true);
        assert!(forward(&mut headers, &came));
        assert!(is_websocket(&headers));
        assert_eq!(headers["x-forwarded-proto"], "https");
    }
}
