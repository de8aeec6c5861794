//! Nobody reaches anything but listed web UIs. Decoys listen wherever a request could be led astray on this machine, and no socket may
//! lead to an address elsewhere.

use std::time::{Duration, Instant};

use super::{LEADER, PORT, Stage};
use crate::kit::backend::Backend;
use crate::kit::client::get;

/// A stage whose listed UIs and decoys are all there.
struct Watched {
    stage: Stage,
    listed: Vec<Backend>,
    decoys: Vec<Backend>,
}

impl Watched {
    fn new(number: u8) -> Self {
        let stage = Stage::new(number);
        let at = |places: &[(u8, u16)]| -> Vec<_> {
            let address = |(which, port)| format!("{}:{port}", stage.pod(which));
            places.iter().map(|place| Backend::plain(&address(*place))).collect()
        };
        let listed = at(&[(1, 8080), (2, 8081), (2, 4040)]);
        // Other ports of listed pods, and the UI ports of a pod that is not listed.
        let decoys = at(&[
            (1, 7077),
            (1, 8081),
            (1, 4040),
            (1, 80),
            (2, 7078),
            (2, 8080),
            (2, 4041),
            (2, 80),
            (3, 8080),
            (3, 8081),
            (3, 7078),
            (3, 80),
        ]);
        Self { stage, listed, decoys }
    }

    /// Status of the answer, which must come at once: connecting to somewhere could not.
    #[track_caller]
    fn status(&self, port: u16, request: &str) -> u16 {
        let began = Instant::now();
        let answer = self.stage.connect(port).ask(request);
        assert!(began.elapsed() < Duration::from_secs(1), "{request:?}");
        let led_away: Vec<_> = self
            .stage
            .router
            .server
            .peers()
            .into_iter()
            .filter(|peer| !peer.is_loopback())
            .collect();
        assert!(led_away.is_empty(), "{request:?}: {led_away:?}");
        answer.status
    }

    #[track_caller]
    fn nobody_was_reached(&self) {
        for backend in self.listed.iter().chain(&self.decoys) {
            assert_eq!(backend.connections(), 0);
        }
    }
}

#[test]
fn hosts_that_are_not_listed() {
    let watched = Watched::new(0);
    let (stage, master) = (&watched.stage, watched.stage.host(1));
    let last = 1; // The last octet of the master's address.
    for host in [
        "169.254.169.254",
        "spark-169-254-169-254.ns.k8s",
        "169.254.169.254.ns.k8s",
        "10.96.0.1",
        "kubernetes.default.svc",
        "spark-10-96-0-1.ns.k8s",
        "spark-192-168-0-1.ns.k8s",
        "localhost",
        "127.0.0.1",
        "[::1]",
        &format!("[::ffff:127.0.21.{last}]"),
        &stage.pod(1),
        &stage.pod(3),
        &stage.host(3),
        &master.replace(".ns.", ".other."),
        &master.replace(".k8s", ".cluster.local"),
        "spark-master.other.k8s",
        "spark-256-0-21-1.ns.k8s",
        &format!("spark-127-0-021-00{last}.ns.k8s"),
        &format!("spark-0177-0-25-{last}.ns.k8s"),
        &format!("spark-0x7f-0-0x15-0x{last}.ns.k8s"),
        &format!("spark-127-0-{}.ns.k8s", 21 * 256 + last),
        &format!("spark-{}.ns.k8s", 127 * 16_777_216 + 21 * 256 + last),
        &format!("{master}.evil.example"),
        &format!("{LEADER}.evil.example"),
        &format!("{master}.k8s"),
        &format!("evil-{master}"),
        &format!("evil.{master}"),
        &format!("8080.{master}"),
        &format!("{master}.localhost"),
        "ns.k8s",
        "k8s",
    ] {
        for port in [PORT, 8080, 8081, 18080, 4040] {
            assert_eq!(watched.status(port, &get(host, "/")), 404, "{host} at {port}");
            assert_eq!(
                watched.status(port, &get(&format!("{host}:8080"), "/")),
                404,
                "{host} at {port}"
            );
        }
    }
    let page = stage.connect(8080).ask(get("spark-169-254-169-254.ns.k8s", "/"));
    assert!(
        page.body
            .contains("Nothing is known of spark-169-254-169-254.ns.k8s at port 8080")
    );
    assert!(page.body.contains(&format!("http://{LEADER}:8080/")), "{}", page.body);
    watched.nobody_was_reached();
}

#[test]
fn hosts_that_are_none() {
    let watched = Watched::new(1);
    let master = watched.stage.host(1);
    for host in [
        "",
        " ",
        ".",
        &format!("{master}.."),
        &format!(".{master}"),
        &format!("{master}:"),
        &format!("{master}:08080"),
        &format!("{master}:+8080"),
        &format!("{master}:99999"),
        &format!("{master}:8080:8080"),
        &format!("{master}:http"),
        &format!("{master}%00.evil.example"),
        &format!("{master}%2e"),
        &format!("{master}/"),
        &format!("{master}\\"),
        &format!("{master}#"),
        &format!("{master}?"),
        &format!("{master}@evil.example"),
        &format!("evil.example@{master}"),
        &format!("{master},{master}"),
        &format!("{master} {master}"),
        &format!("{master}\tx"),
        &format!("{master}é"),
        "*",
        "[::1",
        "[::1]x",
        "[v1.a]",
        &"a".repeat(64),
        &"a.".repeat(130),
    ] {
        for port in [PORT, 8080] {
            assert_eq!(watched.status(port, &get(host, "/")), 400, "{host:?} at {port}");
        }
    }
    for request in [
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        "GET / HTTP/1.0\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\nHost: {master}\r\nHost: {master}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {master}\r\nhost: evil.example\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nX-Host: {master}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n Host: {master}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost : {master}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: \r\n {master}\r\n\r\n"),
    ] {
        assert_eq!(watched.status(8080, &request), 400, "{request:?}");
    }
    watched.nobody_was_reached();
}

#[test]
fn targets_that_are_no_paths() {
    let watched = Watched::new(2);
    let master = watched.stage.host(1);
    let unlisted = watched.stage.host(3);
    for (line, host, status) in [
        // A URL of a host that is not listed, with the same host in the header, and with a listed one.
        ("GET http://169.254.169.254/latest/ HTTP/1.1", "169.254.169.254", 404),
        ("GET http://169.254.169.254/latest/ HTTP/1.1", master.as_str(), 400),
        (
            &format!("GET http://{unlisted}:8080/ HTTP/1.1"),
            &format!("{unlisted}:8080"),
            404,
        ),
        (&format!("GET http://{unlisted}/ HTTP/1.1"), &master, 400),
        (&format!("GET http://{master}/ HTTP/1.1"), &unlisted, 400),
        (&format!("GET http://{master}:7078/ HTTP/1.1"), &master, 400),
        (&format!("GET http://user@{master}/ HTTP/1.1"), &master, 400),
        (&format!("GET http://{master}@{unlisted}/ HTTP/1.1"), &master, 400),
        (&format!("GET ftp://{master}/ HTTP/1.1"), &master, 400),
        ("GET file:///etc/passwd HTTP/1.1", &master, 400),
        // Host and port alone are for CONNECT, which is for other proxies.
        (&format!("GET {master}:8080 HTTP/1.1"), &master, 400),
        (
            &format!("CONNECT {master}:8080 HTTP/1.1"),
            &format!("{master}:8080"),
            405,
        ),
        (&format!("CONNECT {master}:7078 HTTP/1.1"), &master, 405),
        ("CONNECT 169.254.169.254:80 HTTP/1.1", "169.254.169.254:80", 405),
        ("CONNECT / HTTP/1.1", &master, 405),
        ("TRACE / HTTP/1.1", &master, 405),
        ("GET * HTTP/1.1", &master, 400),
        ("GET HTTP/1.1", &master, 400),
        ("GET  HTTP/1.1", &master, 400),
        ("GET x HTTP/1.1", &master, 400),
        ("GET ../x HTTP/1.1", &master, 400),
        ("GET / / HTTP/1.1", &master, 400),
        ("GET\t/ HTTP/1.1", &master, 400),
    ] {
        let request = format!("{line}\r\nHost: {host}\r\n\r\n");
        assert_eq!(watched.status(8080, &request), status, "{request:?}");
    }
    watched.nobody_was_reached();
}

#[test]
fn listed_hosts_lead_to_their_own_uis_only() {
    let watched = Watched::new(3);
    let stage = &watched.stage;
    let (master, worker) = (stage.host(1), stage.host(2));
    let reached = |which, port| format!("200 {}:{port}", stage.pod(which));
    for (port, host, expected) in [
        (8080, master.as_str(), reached(1, 8080)),
        (8080, LEADER, reached(1, 8080)),
        (8080, &LEADER.to_uppercase(), reached(1, 8080)),
        (8080, &format!("{master}.:8080"), reached(1, 8080)),
        (8081, &worker, reached(2, 8081)),
        (4040, &worker, reached(2, 4040)),
        // Where the host alone decides, a port in the header leads nowhere else.
        (PORT, &master, reached(1, 8080)),
        (PORT, &worker, reached(2, 8081)),
        (PORT, &format!("{worker}:7078"), reached(2, 8081)),
        (8081, &format!("{worker}:7078"), reached(2, 8081)),
    ] {
        let answer = stage.connect(port).ask(get(host, "/"));
        assert_eq!(
            format!("{} {}", answer.status, answer.body),
            expected,
            "{host} at {port}"
        );
    }
    // At a port of Spark's, it must be that port's UI.
    for (port, host) in [
        (8081, &master),
        (18080, &master),
        (4040, &master),
        (8080, &worker),
        (4041, &worker),
        (8081, &LEADER.to_owned()),
        (18080, &LEADER.to_owned()),
    ] {
        assert_eq!(watched.status(port, &get(host, "/")), 404, "{host} at {port}");
    }
    // A URL, an odd path, a question of the server as a whole.
    for (line, seen) in [
        (format!("GET http://{master}:8080/a?b HTTP/1.1"), "GET /a?b HTTP/1.1"),
        (
            format!("GET HTTP://{}:8080 HTTP/1.1", master.to_uppercase()),
            "GET / HTTP/1.1",
        ),
        (
            "GET //169.254.169.254/ HTTP/1.1".into(),
            "GET //169.254.169.254/ HTTP/1.1",
        ),
        (
            "GET /http://169.254.169.254/ HTTP/1.1".into(),
            "GET /http://169.254.169.254/ HTTP/1.1",
        ),
        ("GET /../..//%2e%2e/ HTTP/1.1".into(), "GET /../..//%2e%2e/ HTTP/1.1"),
        ("OPTIONS * HTTP/1.1".into(), "OPTIONS * HTTP/1.1"),
    ] {
        watched.listed[0].forget();
        let answer = stage
            .connect(8080)
            .ask(format!("{line}\r\nHost: {master}:8080\r\n\r\n"));
        assert_eq!(answer.status, 200, "{line}");
        assert!(
            watched.listed[0].received().starts_with(&format!("{seen}\r\n")),
            "{line}"
        );
    }
    for decoy in &watched.decoys {
        assert_eq!(decoy.connections(), 0);
    }
}
