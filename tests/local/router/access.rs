//! TLS, passwords, tokens, and the log.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{LEADER, PORT, Stage, address, replace};
use crate::kit::backend::{Backend, ok};
use crate::kit::client::{Client, get};
use crate::kit::local::signal;
use crate::kit::server::Server;
use crate::kit::{run, sparkha, wait_for};

/// A new key, and its certificate for all names of the namespace, in `tls.key` and `tls.crt`.
fn certify(folder: &Path, name: &str) {
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args([
            "-subj",
            &format!("/CN={name}"),
            "-addext",
            "subjectAltName=DNS:*.ns.k8s",
        ])
        .arg("-keyout")
        .arg(folder.join("tls.key"))
        .arg("-out")
        .arg(folder.join("tls.crt"))
        .output()
        .expect("openssl: install it");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// What curl gets that trusts this certificate and nothing else; `None` without an answer.
fn https(number: u8, certificate: &Path, url: &str) -> Option<String> {
    let mut curl = Command::new("curl");
    curl.args([
        "--silent",
        "--show-error",
        "--noproxy",
        "*",
        "--max-time",
        "20",
        "--dump-header",
        "-",
    ]);
    curl.args(["--connect-to", &format!("::{}:", address(number)), "--cacert"]);
    let output = curl.arg(certificate).arg(url).output().expect("curl: install it");
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn https_with_a_certificate_that_is_renewed() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    certify(folder.path(), "first");
    let stage = Stage::with(
        25,
        &[
            "--tls-cert",
            certificate.to_str().unwrap(),
            "--tls-key",
            key.to_str().unwrap(),
        ],
    );
    let links = format!(
        "<a href=\"http://{}:8081/\">w</a> http://{LEADER}:8080 http://elsewhere:8080",
        stage.host(2)
    );
    // Jetty's redirects lead to the host of the request.
    let backend = Backend::answering(&format!("{}:8080", stage.pod(1)), move |head| {
        let page = ok(&links).replace("text/plain", "text/html;charset=utf-8");
        let host = head.to_lowercase();
        let host = host.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
        page.replace("\r\n\r\n", &format!("\r\nLocation: http://{host}/x\r\n\r\n"))
    });
    let url = format!("https://{LEADER}:8080/");
    let ask = |certificate: &Path| https(25, certificate, &url);
    let answer = ask(&certificate).unwrap();
    let secure = format!(
        "<a href=\"https://{}:8081/\">w</a> https://{LEADER}:8080 http://elsewhere:8080",
        stage.host(2)
    );
    assert!(answer.ends_with(&secure), "{answer}");
    for port in [8080, PORT] {
        let answer = https(25, &certificate, &format!("https://{LEADER}:{port}/")).unwrap();
        let location = format!("location: https://{LEADER}:{port}/x");
        assert!(answer.to_lowercase().contains(&location), "{answer}");
    }
    assert!(backend.received().contains("x-forwarded-proto: https\r\n"));
    // Without TLS nobody is answered.
    let mut plain = stage.connect(8080);
    plain.send(get(LEADER, "/"));
    assert!(!String::from_utf8_lossy(&plain.rest().unwrap()).contains("HTTP/1.1 200"));

    let first = folder.path().join("first.crt");
    std::fs::copy(&certificate, &first).unwrap();
    certify(folder.path(), "second");
    assert!(ask(&first).is_some() && ask(&certificate).is_none(), "not yet");
    signal(stage.router.server.id(), "HUP");
    wait_for("the new certificate", || ask(&certificate).is_some());
    // One that is broken, and a key of another, are told and not taken.
    let second = folder.path().join("second.crt");
    std::fs::copy(&certificate, &second).unwrap();
    for broken in [
        b"-----BEGIN CERTIFICATE-----\nx".to_vec(),
        vec![],
        std::fs::read(&first).unwrap(),
    ] {
        let before = stage.router.log().matches("keeping the previous files").count();
        std::fs::write(&certificate, broken).unwrap();
        signal(stage.router.server.id(), "HUP");
        wait_for("a complaint", || {
            stage.router.log().matches("keeping the previous files").count() > before
        });
        assert!(ask(&second).is_some());
    }
    let run = run(&[
        "router",
        "--listen",
        "127.0.9.99",
        "--tls-cert",
        certificate.to_str().unwrap(),
        "--tls-key",
        key.to_str().unwrap(),
    ]);
    run.exits(2).says(certificate.to_str().unwrap());
}

#[test]
fn passwords_and_tokens_let_in_and_go_no_further() {
    let folder = tempfile::tempdir().unwrap();
    let (users, tokens) = (folder.path().join("users"), folder.path().join("tokens"));
    std::fs::write(&users, format!("ann:{}\n", bcrypt::hash("secret", 4).unwrap())).unwrap();
    std::fs::write(&tokens, "0123456789abcdef\n").unwrap();
    let stage = Stage::with(
        26,
        &["--users", users.to_str().unwrap(), "--tokens", tokens.to_str().unwrap()],
    );
    let backend = Backend::plain(&format!("{}:8080", stage.pod(1)));
    let ask = |authorization: &str| {
        let request = format!("GET / HTTP/1.1\r\nHost: {LEADER}\r\nAuthorization: {authorization}\r\n\r\n");
        stage.connect(8080).ask(request)
    };
    // ann:secret, ann:wrong, bob:secret
    let (ann, wrong, bob) = ("Basic YW5uOnNlY3JldA==", "Basic YW5uOndyb25n", "Basic Ym9iOnNlY3JldA==");
    for refused in [
        wrong,
        bob,
        "Bearer 0123456789abcdeX",
        "Bearer ",
        "Basic x",
        "x",
        "Basic Og==",
    ] {
        let answer = ask(refused);
        assert_eq!(answer.status, 401, "{refused}");
        assert_eq!(
            answer.header("www-authenticate"),
            Some("Basic realm=\"Spark\", charset=\"UTF-8\"")
        );
        assert!(
            !answer.body.contains("spark-"),
            "nothing of the clusters is told: {}",
            answer.body
        );
    }
    for host in [LEADER, "unknown.ns.k8s"] {
        assert_eq!(stage.connect(8080).ask(get(host, "/")).status, 401);
    }
    assert_eq!(backend.connections(), 0);
    for _ in 0..2 {
        assert_eq!(ask(ann).status, 200);
        assert_eq!(ask("bearer 0123456789abcdef").status, 200);
    }
    assert!(
        !backend.received().to_lowercase().contains("authorization"),
        "{}",
        backend.received()
    );
    // On a kept connection, each request says who asks.
    let mut client = stage.connect(8080);
    let request = format!("GET / HTTP/1.1\r\nHost: {LEADER}\r\nAuthorization: {ann}\r\n\r\n");
    assert_eq!(client.ask(request).status, 200);
    assert_eq!(client.ask(get(LEADER, "/")).status, 401);

    // Another user and no token: those of before are out at once.
    replace(&users, &format!("bob:{}\n", bcrypt::hash("secret", 4).unwrap()));
    replace(&tokens, "# none\n");
    signal(stage.router.server.id(), "HUP");
    wait_for("the new users", || ask(bob).status == 200);
    assert_eq!((ask(ann).status, ask("bearer 0123456789abcdef").status), (401, 401));
    // A mistake changes nothing, and nobody at all lets nobody in.
    replace(&users, "ann:secret\n");
    signal(stage.router.server.id(), "HUP");
    wait_for("a complaint", || {
        stage.router.log().contains("the hash is not a bcrypt hash")
    });
    assert_eq!((ask(bob).status, ask(ann).status), (200, 401));
    replace(&users, "\n");
    signal(stage.router.server.id(), "HUP");
    wait_for("bob is out", || ask(bob).status == 401);
    assert_eq!(
        stage.connect(8080).ask(get(LEADER, "/")).status,
        401,
        "an empty file is no open door"
    );
    let log = stage.router.log();
    for secret in ["secret", "YW5uOnNlY3JldA", "0123456789abcdef", "$2"] {
        assert!(!log.contains(secret), "{secret}\n{log}");
    }
}

#[test]
fn a_line_for_each_request_without_what_is_secret() {
    let stage = Stage::new(27);
    let _backend = Backend::plain(&format!("{}:8080", stage.pod(1)));
    let request = format!(
        "GET /app/?id=1&token=secret HTTP/1.1\r\nHost: {LEADER}:8080\r\nAuthorization: Bearer secret\r\nCookie: secret\r\n\r\n"
    );
    assert_eq!(stage.connect(8080).ask(request).status, 200);
    assert_eq!(stage.connect(8080).ask(get("x", "/no")).status, 404);
    assert_eq!(
        stage
            .connect(8080)
            .ask(format!(
                "GET http://{LEADER}/?secret HTTP/1.1\r\nHost: {LEADER}\r\n\r\n"
            ))
            .status,
        200
    );
    wait_for("three lines", || stage.router.log().matches(" ms\n").count() == 3);
    let log = stage.router.log();
    for line in [
        format!("127.0.0.1 GET {LEADER}:8080 /app/ 200 "),
        "127.0.0.1 GET x /no 404 ".into(),
        format!("127.0.0.1 GET {LEADER} / 200 "),
    ] {
        assert_eq!(log.matches(&line).count(), 1, "{line}\n{log}");
    }
    assert!(!log.contains("secret"), "{log}");

    let stage = Stage::with(28, &["--no-access-log"]);
    let _backend = Backend::plain(&format!("{}:8080", stage.pod(1)));
    assert_eq!(stage.connect(8080).ask(get(LEADER, "/")).status, 200);
    signal(stage.router.server.id(), "HUP");
    let Stage { mut router, .. } = stage;
    assert_eq!(router.server.ends_at("TERM"), Some(0));
    assert_eq!(router.log().lines().count(), 1, "{}", router.log());
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("routes.json");
    std::fs::write(&file, "[]").unwrap();
    let mut command = sparkha(&["router", "--listen", &address(29), "--port", "8000", "--routes"]);
    let (unread, stderr) = std::io::pipe().unwrap();
    let child = command.arg(&file).stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
    let mut router = Server::of(child);
    wait_for("the router", || TcpStream::connect((address(29), 8000)).is_ok());
    let mut client = Client::connect((address(29).as_str(), 8000));
    // More than any pipe holds.
    let path = format!("/{}", "x".repeat(900));
    for _ in 0..200 {
        assert_eq!(client.ask(get("x", &path)).status, 404);
    }
    assert_eq!(router.ends_at("TERM"), Some(0));
    drop(unread);
}

#[test]
fn quiet_is_quiet() {
    let folder = tempfile::tempdir().unwrap();
    let (file, log) = (folder.path().join("routes.json"), folder.path().join("log"));
    std::fs::write(&file, "[]").unwrap();
    let mut command = sparkha(&["router", "-q", "--listen", &address(30), "--port", "8000", "--routes"]);
    let stderr = std::fs::File::create(&log).unwrap();
    let mut router = Server::of(command.arg(&file).stdout(Stdio::null()).stderr(stderr).spawn().unwrap());
    wait_for("the router", || TcpStream::connect((address(30), 8000)).is_ok());
    assert_eq!(
        Client::connect((address(30).as_str(), 8000)).ask(get("x", "/")).status,
        404
    );
    assert_eq!(router.ends_at("TERM"), Some(0));
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "");
}
