//! A router and the server behind it must never see two different requests in the same bytes.

use std::sync::{Arc, Mutex};

use super::Stage;
use crate::kit::backend::{Backend, ok};
use crate::kit::client::get;

/// A stage whose master notes each request as it sees it: `METHOD path body`.
struct Noted {
    stage: Stage,
    seen: Arc<Mutex<Vec<String>>>,
    backend: Backend,
}

impl Noted {
    fn new(number: u8) -> Self {
        let stage = Stage::new(number);
        let seen = Arc::new(Mutex::new(vec![]));
        let noted = seen.clone();
        let backend = Backend::start(&format!("{}:8080", stage.pod(1)), move |connection| {
            while let Some((head, body)) = connection.request() {
                let line = head.split(" HTTP/").next().unwrap();
                let line = format!("{line} {}", String::from_utf8_lossy(&body));
                noted.lock().unwrap().push(line.trim_end().to_owned());
                connection.send(ok("seen"));
            }
        });
        Self { stage, seen, backend }
    }

    /// The statuses of all answers until the router closes the connection, and what the server saw.
    fn outcome(&self, bytes: &[u8]) -> (Vec<u16>, Vec<String>) {
        self.seen.lock().unwrap().clear();
        let began = std::time::Instant::now();
        let mut client = self.stage.connect(8080);
        client.send(bytes);
        // It comes through where requests and answers are still in step, and not where the connection was closed.
        let last = get(&self.stage.host(1), "/last").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
        client.send(last);
        let mut statuses: Vec<_> = std::iter::from_fn(|| client.answer())
            .map(|answer| answer.status)
            .collect();
        let mut seen = self.seen.lock().unwrap().clone();
        if seen.last().is_some_and(|last| last == "GET /last") {
            assert_eq!(statuses.pop(), Some(200));
            seen.pop();
        }
        assert!(
            began.elapsed() < std::time::Duration::from_secs(5),
            "{}",
            String::from_utf8_lossy(bytes)
        );
        (statuses, seen)
    }
}

#[test]
fn requests_whose_end_is_in_doubt() {
    let noted = Noted::new(4);
    let host = noted.stage.host(1);
    let smuggled = get(&host, "/smuggled");
    let second = get(&host, "/second");
    // What is refused is refused before the server sees anything, and ends the connection.
    for headers in [
        // TE.TE: something that is chunked to one and not to the other.
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunkedx",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: ,chunked",
        "Transfer-Encoding: chunked,",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: \u{b}chunked",
        "Transfer-Encoding: chunked\u{b}",
        "Transfer-Encoding:",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\t: chunked",
        " Transfer-Encoding: chunked",
        "X: y\r\n Transfer-Encoding: chunked",
        "X: y\r\n\tTransfer-Encoding: chunked",
        "Transfer-Encoding:\r\n chunked",
        "X: y\rTransfer-Encoding: chunked",
        "X: y\0\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding\0: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer_Encoding@: chunked",
        // A length that is none, or two.
        "Content-Length: +5",
        "Content-Length: -5",
        "Content-Length: 0x5",
        "Content-Length: 5 5",
        "Content-Length: 5, 5",
        "Content-Length: 5,6",
        "Content-Length: five",
        "Content-Length: 5.0",
        "Content-Length: ",
        "Content-Length: 18446744073709551621",
        "Content-Length: 99999999999999999999999999",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 6\r\nContent-Length: 5",
        "Content-Length : 5",
        "Content-Length: \u{b}5",
        "Content-Length: 5\0",
        ": 5",
        "Content Length: 5",
    ] {
        let request = format!("POST /first HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n\r\n0\r\n\r\n{smuggled}");
        let (statuses, seen) = noted.outcome(request.as_bytes());
        assert_eq!(statuses, [400], "{headers:?}");
        assert_eq!(seen, [""; 0], "{headers:?}");
    }
    // A length and chunks: the chunks count, the length is not passed on, and whatever follows is nobody's request (RFC 9112, section 6.1).
    for (headers, rest) in [
        (
            "Content-Length: 6\r\nTransfer-Encoding: chunked",
            format!("0\r\n\r\n{smuggled}"),
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 6",
            format!("0\r\n\r\n{smuggled}"),
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 4",
            format!("0\r\n\r\n{smuggled}"),
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: x",
            format!("0\r\n\r\n{smuggled}"),
        ),
    ] {
        let request = format!("POST /first HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n\r\n{rest}");
        noted.backend.forget();
        let (statuses, seen) = noted.outcome(request.as_bytes());
        assert_eq!(statuses.len(), 1, "{headers:?}");
        assert!(
            ["POST /first"].starts_with(&seen.iter().map(String::as_str).collect::<Vec<_>>()),
            "{seen:?}"
        );
        assert!(
            !noted.backend.received().to_lowercase().contains("content-length"),
            "{headers:?}"
        );
    }
    // What has one meaning is passed on, and the request after it is one.
    for (headers, body, seen_first) in [
        ("Content-Length: 5", "hello", "POST /first hello"),
        ("Content-Length: 005", "hello", "POST /first hello"),
        ("Content-Length: 5\r\nContent-Length: 5", "hello", "POST /first hello"),
        ("Content-Length:5", "hello", "POST /first hello"),
        (
            "Transfer-Encoding: chunked",
            "5\r\nhello\r\n0\r\n\r\n",
            "POST /first hello",
        ),
        (
            "Transfer-Encoding:\tchunked",
            "5\r\nhello\r\n0\r\n\r\n",
            "POST /first hello",
        ),
        (
            "transfer-encoding: Chunked ",
            "5\r\nhello\r\n0\r\n\r\n",
            "POST /first hello",
        ),
        (
            "Transfer-Encoding: chunked",
            "5;name=value\r\nhello\r\n0\r\n\r\n",
            "POST /first hello",
        ),
        (
            "Transfer-Encoding: chunked",
            "0005\r\nhello\r\n00\r\n\r\n",
            "POST /first hello",
        ),
        (
            "Transfer-Encoding: chunked",
            "2\r\nhe\r\n3\r\nllo\r\n0\r\nHost: x\r\n\r\n",
            "POST /first hello",
        ),
        ("X-Transfer-Encoding: chunked", "", "POST /first"),
    ] {
        let request = format!("POST /first HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n\r\n{body}{second}");
        let (statuses, seen) = noted.outcome(request.as_bytes());
        assert_eq!(statuses, [200, 200], "{headers:?} {body:?}");
        assert_eq!(seen, [seen_first, "GET /second"], "{headers:?} {body:?}");
        assert!(!noted.backend.received().contains("Host: x"), "trailers end here");
    }
    // Chunks that are none: the server sees an unfinished request at most, and the connection ends.
    for body in [
        "x\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "\r\n5\r\nhello\r\n0\r\n\r\n",
        "5;\nx\r\nhello\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\n X\r\n\r\n",
    ] {
        let request =
            format!("POST /first HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n{body}{smuggled}");
        let (statuses, seen) = noted.outcome(request.as_bytes());
        assert!(statuses.iter().all(|status| *status != 200), "{body:?}: {statuses:?}");
        assert_eq!(seen, [""; 0], "{body:?}");
    }
    // What stands where trailers do is one, and ends here.
    let request =
        format!("POST /first HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\n{smuggled}");
    let (statuses, seen) = noted.outcome(request.as_bytes());
    assert_eq!((statuses, seen), (vec![200], vec!["POST /first".to_owned()]));
}

#[test]
fn heads_that_are_none_and_what_is_hidden_in_them() {
    let noted = Noted::new(5);
    let host = noted.stage.host(1);
    for request in [
        // HTTP/0.9, HTTP/2, and what never was a version.
        "GET /\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.2\r\nHost: {host}\r\n\r\n"),
        format!("GET / HTTP/2.0\r\nHost: {host}\r\n\r\n"),
        format!("GET / HTTP/11\r\nHost: {host}\r\n\r\n"),
        format!("GET / http/1.1\r\nHost: {host}\r\n\r\n"),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        format!("GET /\0 HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        format!("GET /\r HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host}\rX: y\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nX: a\0b\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nX: a\rb\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nX: a\x7fb\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nX: a\r\n b\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nno colon\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nX(): y\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nX y: z\r\n\r\n"),
        format!("G<T / HTTP/1.1\r\nHost: {host}\r\n\r\n"),
    ] {
        let (statuses, seen) = noted.outcome(request.as_bytes());
        assert!(
            statuses.iter().all(|status| *status == 400) && statuses.len() <= 1,
            "{request:?}: {statuses:?}"
        );
        assert_eq!(seen, [""; 0], "{request:?}");
    }
    // What is escaped stays so, and what looks like a header in a path or a value is none.
    for (path, header) in [
        ("/%0d%0aX-Injected:%20yes", "plain"),
        ("/?a=%0D%0AX-Injected:+yes", "plain"),
        ("/\u{e9}", "plain"),
        ("/x", "%0d%0aX-Injected: yes"),
        ("/x", "\\r\\nX-Injected: yes"),
        ("/x", "\u{560d}\u{560a}X-Injected: yes"),
    ] {
        noted.backend.forget();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nX-Value: {header}\r\n\r\n");
        let (statuses, _) = noted.outcome(request.as_bytes());
        let received = noted.backend.received();
        assert!(matches!(statuses[..], [200] | [400]), "{request:?}: {statuses:?}");
        if statuses == [200] {
            assert!(received.starts_with(&format!("GET {path} HTTP/1.1\r\n")), "{received}");
            assert!(received.contains(&format!("\r\nx-value: {header}\r\n")), "{received}");
        }
        assert!(
            !received.lines().any(|line| line.starts_with("X-Injected")),
            "{received}"
        );
    }
    // Lines may end with a line feed alone (RFC 9112, section 2.2): they are written anew.
    noted.backend.forget();
    let (statuses, seen) = noted.outcome(format!("GET /lf HTTP/1.1\nHost: {host}\nX: y\n\n").as_bytes());
    assert_eq!((statuses, seen), (vec![200], vec!["GET /lf".to_owned()]));
    assert_eq!(
        noted.backend.received().matches('\n').count(),
        noted.backend.received().matches("\r\n").count()
    );
}

#[test]
fn answers_whose_end_is_in_doubt_are_told_in_one_way() {
    let stage = Stage::new(6);
    let _backend = Backend::start(&format!("{}:8080", stage.pod(1)), |connection| {
        while let Some(head) = connection.head() {
            let chunks = "5\r\nhello\r\n0\r\n\r\n";
            let answer = match head.split(' ').nth(1).unwrap() {
                "/both" => {
                    format!("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}")
                }
                "/two" => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!".into(),
                "/beyond" => {
                    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
                        .into()
                }
                "/old" => {
                    connection.send("HTTP/1.0 200 OK\r\n\r\nhello");
                    return;
                }
                _ => format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"),
            };
            connection.send(answer);
        }
    });
    let host = stage.host(1);
    let mut client = stage.connect(8080);
    for path in ["/both", "/chunked", "/beyond", "/old"] {
        client.send(get(&host, path));
        let answer = client.answer().unwrap_or_else(|| panic!("{path}"));
        assert_eq!((answer.status, answer.body.as_str()), (200, "hello"), "{path}");
        assert!(answer.head.starts_with("HTTP/1.1 "), "{path}: {}", answer.head);
        let framings = ["content-length", "transfer-encoding"].map(|name| answer.header(name).is_some());
        assert_eq!(
            framings.iter().filter(|is_there| **is_there).count(),
            1,
            "{path}: {}",
            answer.head
        );
    }
    // What came unasked after an answer is nobody's.
    assert_eq!(client.ask(get(&host, "/chunked")).body, "hello");
    assert_eq!(stage.connect(8080).ask(get(&host, "/two")).status, 502);
}

#[test]
fn heads_and_bodies_have_limits() {
    let noted = Noted::new(7);
    let host = noted.stage.host(1);
    let with = |headers: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n");
    let one = |length: usize| with(&format!("X: {}\r\n", "x".repeat(length)));
    assert_eq!(noted.outcome(one(16 * 1024).as_bytes()).0, [200]);
    assert_eq!(noted.outcome(one(40 * 1024).as_bytes()), (vec![431], vec![]));
    assert_eq!(noted.outcome(with(&"X: y\r\n".repeat(50)).as_bytes()).0, [200]);
    assert_eq!(
        noted.outcome(with(&"X: y\r\n".repeat(101)).as_bytes()),
        (vec![431], vec![])
    );
    let long = format!("GET /{} HTTP/1.1\r\nHost: {host}\r\n\r\n", "x".repeat(70_000));
    let (statuses, seen) = noted.outcome(long.as_bytes());
    assert!(matches!(statuses[..], [414 | 431]) && seen.is_empty(), "{statuses:?}");

    let limit = 1024 * 1024;
    let post = |headers: &str| format!("POST /form HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n\r\n");
    let sized = |size: usize| post(&format!("Content-Length: {size}")) + &"x".repeat(size);
    let chunked =
        |size: usize| post("Transfer-Encoding: chunked") + &format!("{size:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(size));
    assert_eq!(noted.outcome(sized(limit).as_bytes()).0, [200]);
    assert_eq!(noted.outcome(chunked(limit).as_bytes()).0, [200]);
    // One that says how long it is need not even send it.
    let announced = noted.stage.connect(8080).ask(post("Content-Length: 1048577"));
    assert_eq!(announced.status, 413);
    let (statuses, seen) = noted.outcome(chunked(limit + 1).as_bytes());
    assert_eq!((statuses, seen), (vec![413], vec![]));
}
