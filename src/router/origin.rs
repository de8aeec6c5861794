//! Whether a page of another site caused a request, according to the browser. Self-contained and pure.
//!
//! A web page can send requests to everything its reader's browser reaches, with the reader's passwords, but cannot read the responses. So a request
//! that changes something must come from the web UI's own pages, from a typed address, or from a program. Links from anywhere are followed.

use hyper::Method;
use hyper::header::{HeaderName, ORIGIN, REFERER};
use hyper::http::request::Parts;
use percent_encoding::percent_decode_str;

const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Whether another site caused the request, other than by a link. `host` is the `Host` header.
pub fn is_foreign(head: &Parts, host: &str) -> bool {
    let value = |name: HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok());
    let reads = [Method::GET, Method::HEAD].contains(&head.method);
    let acts = || !reads || ends_something(head.uri.path());
    match value(SITE) {
        Some("same-origin" | "none") => false,
        Some(_) => acts() || value(MODE) != Some("navigate"),
        // Browsers send it only to hosts that they trust: over HTTPS, or on this machine.
        None => match (value(ORIGIN), value(REFERER)) {
            (Some(origin), _) => !is_of(origin, host),
            // Without an origin, a page can only send links and pictures, and programs use POST.
            (None, Some(page)) => acts() && !is_of(page, host),
            (None, None) => reads && acts(),
        },
    }
}

/// Spark's pages end jobs and stages by GET, too. Jetty decodes a path and drops its parameters.
fn ends_something(path: &str) -> bool {
    let path = percent_decode_str(path).decode_utf8_lossy();
    path.split('/')
        .any(|part| part.split(';').next().is_some_and(|name| name.trim() == "kill"))
}

/// Whether a page's address has this host and port.
fn is_of(page: &str, host: &str) -> bool {
    let rest = page.split_once("://").map(|(_, rest)| rest);
    let authority = rest.and_then(|rest| rest.split('/').next());
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn foreign(method: &str, path: &str, headers: &[(&str, &str)]) -> bool {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        is_foreign(&request.body(()).unwrap().into_parts().0, "h.k8s:8080")
    }

    const KILL: &str = "/jobs/job/kill/?id=0";

    #[test]
    fn requests_with_fetch_metadata_are_judged_by_it() {
        for site in ["same-origin", "none"] {
            assert!(!foreign("GET", KILL, &[("sec-fetch-site", site)]), "{site}");
            assert!(!foreign("POST", "/app/kill/", &[("sec-fetch-site", site)]), "{site}");
        }
        for site in ["cross-site", "same-site", "?"] {
            let with = |mode| [("sec-fetch-site", site), ("sec-fetch-mode", mode)];
            assert!(!foreign("GET", "/jobs/", &with("navigate")), "{site}");
            assert!(!foreign("HEAD", "/jobs/?kill", &with("navigate")), "{site}");
            assert!(foreign("GET", "/jobs/", &with("no-cors")), "{site}");
            assert!(foreign("GET", "/jobs/", &with("websocket")), "{site}");
            assert!(foreign("POST", "/app/kill/", &with("navigate")), "{site}");
            assert!(foreign("GET", KILL, &with("navigate")), "{site}");
        }
        let other_spellings = ["/jobs/job/%6bill", "/jobs/job/kill;a=b/?id=0", "//stages/stage/kill"];
        for path in other_spellings {
            let headers = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
            assert!(foreign("GET", path, &headers), "{path}");
        }
    }

    #[test]
    fn requests_without_fetch_metadata_are_judged_by_origin_and_referer() {
        for (name, value) in [
            ("origin", "http://H.k8s:8080"),
            ("referer", "http://h.k8s:8080/jobs/?x=http://evil"),
        ] {
            assert!(!foreign("POST", "/app/kill/", &[(name, value)]), "{value}");
            assert!(!foreign("GET", KILL, &[(name, value)]), "{value}");
        }
        for value in [
            "http://evil",
            "null",
            "http://h.k8s",
            "http://evil/http://h.k8s:8080",
            "http://h.k8s:8080@evil",
        ] {
            assert!(foreign("POST", "/app/kill/", &[("origin", value)]), "{value}");
            assert!(foreign("GET", KILL, &[("referer", value)]), "{value}");
            assert!(!foreign("GET", "/jobs/", &[("referer", value)]), "{value}");
        }
        // curl.
        assert!(!foreign("GET", "/json/", &[]));
        assert!(!foreign("POST", "/app/kill/", &[]));
        // Pictures on pages that hide their address.
        assert!(foreign("GET", KILL, &[]));
    }
}
