//! Any bytes that a client may send, read by the server that the router is made of: a request that is accepted has one host, in its only
//! spelling and at no odds with its target, one plain framing, and takes nothing along that is for one connection or for routers to say.

#![no_main]

#[path = "../../src/router/authority.rs"]
mod authority;
#[path = "../../src/router/head.rs"]
mod head;

use std::convert::Infallible;

use authority::Authority;
use head::{ClientAddress, authority, forward, is_websocket};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fuzz_target!(|bytes: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        let serving = hyper::server::conn::http1::Builder::new()
            .half_close(true)
            .max_header_size(32 * 1024)
            .serve_connection(TokioIo::new(server), service_fn(answer));
        let sending = async {
            // A server that has seen enough reads no more.
            let _ = client.write_all(bytes).await;
            let _ = client.shutdown().await;
            let _ = client.read_to_end(&mut vec![]).await;
        };
        let _ = tokio::join!(serving, sending);
    });
});

async fn answer(request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
    let (mut parts, _) = request.into_parts();
    if let Ok(host) = authority(&parts) {
        check_accepted(&parts, &host);
        let came = ClientAddress::new([192, 0, 2, 1].into(), 8080, false);
        let to_websocket = is_websocket(&parts.headers);
        forward(&mut parts.headers, &came);
        check_forwarded(&parts, to_websocket);
    }
    Ok(Response::new(Empty::new()))
}

fn check_accepted(parts: &hyper::http::request::Parts, host: &Authority) {
    assert!(![Method::CONNECT, Method::TRACE].contains(&parts.method));
    assert_eq!(
        Authority::parse(&host.host).as_ref().map(|again| &again.host),
        Some(&host.host)
    );
    if let Some(authority) = parts.uri.authority() {
        let target = Authority::parse(authority.as_str()).unwrap();
        assert_eq!(target.host, host.host);
    }
    assert!(parts.uri.path().starts_with('/') || parts.uri.path() == "*");
    let framings = ["transfer-encoding", "content-length"].map(|name| parts.headers.get_all(name).iter().count());
    assert!(framings[0] + framings[1] <= 1, "{parts:?}");
}

fn check_forwarded(parts: &hyper::http::request::Parts, to_websocket: bool) {
    let count = |name: &str| parts.headers.get_all(name).iter().count();
    for name in [
        "host",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-proto",
    ] {
        assert_eq!(count(name), 1, "{name}: {parts:?}");
    }
    assert_eq!(parts.headers["host"], parts.headers["x-forwarded-host"]);
    assert_eq!(parts.headers["x-forwarded-port"], "8080");
    assert_eq!(parts.headers["x-forwarded-proto"], "http");
    assert!(parts.headers["x-forwarded-for"].as_bytes().ends_with(b"192.0.2.1"));
    for name in [
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "te",
        "trailer",
        "forwarded",
        "x-forwarded-context",
        "x-forwarded-prefix",
        "x-forwarded-server",
    ] {
        assert_eq!(count(name), 0, "{name}: {parts:?}");
    }
    for name in ["connection", "upgrade"] {
        assert_eq!(count(name), usize::from(to_websocket), "{name}: {parts:?}");
    }
    assert_eq!(is_websocket(&parts.headers), to_websocket);
}
