//! What goes to the pod and what comes back: headers, streams, kept connections, WebSocket.

use std::sync::Mutex;
use std::sync::mpsc::channel;

use super::{LEADER, Stage};
use crate::kit::backend::{Backend, Connection, ok};
use crate::kit::client::{Client, get};

fn sorted(head: &str) -> Vec<&str> {
    let mut lines: Vec<_> = head.lines().collect();
    lines[1..].sort_unstable();
    lines
}

#[test]
fn headers_of_one_connection_stay_there_and_those_of_a_router_are_ours() {
    let stage = Stage::new(8);
    let backend = Backend::answering(&format!("{}:8080", stage.pod(1)), |_| {
        "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\n\
         Upgrade: h2c\r\nX-End: 2\r\nContent-Length: 0\r\n\r\n"
            .into()
    });
    let host = stage.host(1);
    let headers = "Connection: keep-alive, X-Hop, host, content-length\r\nKeep-Alive: 5\r\nX-Hop: 1\r\nTE: trailers\r\nTrailer: X\r\n\
                   Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic eDp5\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\
                   Authorization: Bearer of-the-ui\r\nCookie: a=b\r\nX-End: 2\r\n\
                   X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 192.0.2.2\r\nX-Forwarded-Host: evil.example\r\n\
                   X-Forwarded-Proto: https\r\nX-Forwarded-Port: 1\r\nX-Forwarded-Server: evil\r\nX-Forwarded-Prefix: /evil\r\n\
                   X-Forwarded-Context: //evil.example\r\nForwarded: for=evil\r\nContent-Length: 2\r\n";
    let answer = stage
        .connect(8080)
        .ask(format!("POST /x?y=z HTTP/1.1\r\nHost: {host}:8080\r\n{headers}\r\nab"));
    let received = backend.received();
    let (head, body) = received.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, "ab");
    assert_eq!(
        sorted(head),
        [
            "POST /x?y=z HTTP/1.1",
            "authorization: Bearer of-the-ui",
            "content-length: 2",
            "cookie: a=b",
            &format!("host: {host}:8080"),
            "http2-settings: AAMAAABk",
            "x-end: 2",
            "x-forwarded-for: 192.0.2.1, 192.0.2.2, 127.0.0.1",
            &format!("x-forwarded-host: {host}:8080"),
            "x-forwarded-port: 8080",
            "x-forwarded-proto: http",
        ]
    );
    for name in ["x-hop", "keep-alive", "upgrade", "connection"] {
        assert_eq!(answer.header(name), None, "{}", answer.head);
    }
    assert_eq!(answer.header("x-end"), Some("2"));
}

#[test]
fn versions_are_those_of_each_connection() {
    let stage = Stage::new(9);
    let backend = Backend::plain(&format!("{}:8080", stage.pod(1)));
    let mut client = stage.connect(8080);
    let answer = client.ask(format!("GET /old HTTP/1.0\r\nHost: {LEADER}\r\n\r\n"));
    assert_eq!(answer.status, 200);
    assert_eq!(client.rest().unwrap(), b"", "a client of 1.0 asked once");
    assert!(
        backend.received().starts_with("GET /old HTTP/1.1\r\n"),
        "{}",
        backend.received()
    );
}

#[test]
fn connections_are_kept_on_both_sides() {
    let stage = Stage::new(10);
    let backend = Backend::answering(&format!("{}:8080", stage.pod(1)), |head| {
        match head.split(' ').nth(1).unwrap() {
            "/204" => "HTTP/1.1 204 No Content\r\n\r\n".into(),
            "/304" => "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 7\r\n\r\n".into(),
            _ if head.starts_with("HEAD ") => "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n".into(),
            "/chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".into(),
            path => ok(path),
        }
    });
    // Requests of one client, with and without bodies in the answers, one after the other and at once.
    let mut client = stage.connect(8080);
    for _ in 0..3 {
        for (path, status) in [("/200", 200), ("/204", 204), ("/304", 304), ("/chunked", 200)] {
            assert_eq!(client.ask(get(LEADER, path)).status, status, "{path}");
        }
        client.send(format!("HEAD / HTTP/1.1\r\nHost: {LEADER}\r\n\r\n"));
        let head = client.answer_head().unwrap();
        assert_eq!((head.status, head.header("content-length")), (200, Some("7")));
        client.send((1..=5).map(|n| get(LEADER, &format!("/{n}"))).collect::<String>());
        for n in 1..=5 {
            assert_eq!(client.answer().unwrap().body, format!("/{n}"));
        }
    }
    assert_eq!(backend.connections(), 1);
}

#[test]
fn answers_and_forms_come_through_as_they_are_sent() {
    let stage = Stage::new(11);
    let (next, told) = channel::<()>();
    let told = Mutex::new(told);
    let serve = move |connection: &mut Connection| {
        let told = told.lock().unwrap();
        while let Some(head) = connection.head() {
            if head.starts_with("POST ") {
                // The first part must be there before the second is sent.
                connection.take(b"3\r\nabc\r\n".len()).unwrap();
                connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
                connection.take(b"3\r\ndef\r\n0\r\n\r\n".len()).unwrap();
                connection.send("3\r\ndef\r\n0\r\n\r\n");
            } else {
                connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
                told.recv().unwrap();
                connection.send("6\r\nsecond\r\n0\r\n\r\n");
            }
        }
    };
    let _backend = Backend::start(&format!("{}:8080", stage.pod(1)), serve);
    let mut client = stage.connect(8080);
    client.send(get(LEADER, "/"));
    assert_eq!(client.answer_head().unwrap().status, 200);
    assert_eq!(client.chunk().unwrap(), b"first");
    next.send(()).unwrap();
    assert_eq!(client.chunk().unwrap(), b"second");
    assert_eq!(client.chunk().unwrap(), b"");
    // The other way, and both at once.
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: {LEADER}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
    ));
    assert_eq!(client.answer_head().unwrap().status, 200);
    assert_eq!(client.chunk().unwrap(), b"abc");
    client.send("3\r\ndef\r\n0\r\n\r\n");
    assert_eq!(client.chunk().unwrap(), b"def");
    assert_eq!(client.chunk().unwrap(), b"");
}

#[test]
fn a_client_that_waits_to_be_told_to_go_on_is_told() {
    let stage = Stage::new(12);
    let _backend = Backend::plain(&format!("{}:8080", stage.pod(1)));
    let mut client = stage.connect(8080);
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: {LEADER}\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    ));
    assert_eq!(client.answer_head().unwrap().status, 100);
    assert_eq!(client.ask("ab").status, 200);
}

/// A server that echoes what comes after the switch, in upper case.
fn websocket(connection: &mut Connection) {
    while let Some(head) = connection.head() {
        let lower = head.to_lowercase();
        if !lower.contains("\r\nupgrade: websocket\r\n") || !lower.contains("\r\nconnection: upgrade\r\n") {
            connection.send(ok("no upgrade"));
            continue;
        }
        connection.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello");
        while let Some(byte) = connection.take(1) {
            if byte == b"!" {
                return;
            }
            connection.send(byte.to_ascii_uppercase());
        }
    }
}

fn upgrade(protocol: &str) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nHost: {LEADER}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: {protocol}\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

#[test]
fn websockets_pass_and_other_protocols_do_not() {
    let stage = Stage::new(13);
    let backend = Backend::start(&format!("{}:8080", stage.pod(1)), websocket);
    let open = || {
        let mut client: Client = stage.connect(8080);
        let answer = client.ask(upgrade("WebSocket"));
        assert_eq!((answer.status, answer.header("upgrade")), (101, Some("websocket")));
        assert_eq!(client.take(5).unwrap(), b"hello");
        client
    };
    let mut client = open();
    for word in ["abc", "GET / HTTP/1.1"] {
        client.send(word);
        assert_eq!(client.take(word.len()).unwrap(), word.to_uppercase().as_bytes());
    }
    // Either end may close it.
    client.send("!");
    assert_eq!(client.rest().unwrap(), b"");
    let mut client = open();
    client.end();
    assert_eq!(client.rest().unwrap(), b"");

    backend.forget();
    for protocol in ["h2c", "TLS/1.0", "websocket, h2c", "foo"] {
        let answer = stage.connect(8080).ask(upgrade(protocol));
        assert_eq!(answer.body, "no upgrade", "{protocol}");
    }
    assert!(!backend.received().to_lowercase().contains("\r\nupgrade:"));
}

#[test]
fn a_server_that_switches_unasked_is_not_followed() {
    let stage = Stage::new(14);
    let _backend = Backend::answering(&format!("{}:8080", stage.pod(1)), |_| {
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n".into()
    });
    assert_eq!(stage.connect(8080).ask(get(&stage.host(1), "/")).status, 502);
}
