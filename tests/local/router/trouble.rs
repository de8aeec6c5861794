//! Pods and clients that fail or dawdle, routes that change, and the router's end.

use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{LEADER, PORT, Stage, replace, route, routes};
use crate::kit::backend::{Backend, Connection, ok};
use crate::kit::client::{Client, get};
use crate::kit::local::signal;
use crate::kit::server::Router;
use crate::kit::{SOON, sparkha, wait_for};

#[test]
fn a_server_that_is_not_there_or_hangs_up_is_told_at_once() {
    let stage = Stage::new(15);
    let worker = stage.host(2);
    // Nobody listens.
    let answer = stage.connect(8080).ask(get(&stage.host(1), "/"));
    assert_eq!(answer.status, 502);
    assert!(
        answer
            .body
            .starts_with("The web UI does not answer\nThe master spark-master-0 in namespace ns")
    );
    let answer = stage.connect(8080).ask(get(LEADER, "/"));
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert!(answer.body.starts_with("No master leads\n"), "{}", answer.body);
    let html = format!("GET / HTTP/1.1\r\nHost: {LEADER}\r\nAccept: text/html,*/*;q=0.8\r\n\r\n");
    let answer = stage.connect(8080).ask(html);
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert!(answer.body.starts_with("<!DOCTYPE html>"), "{}", answer.body);
    // Somebody listens, and hangs up: before the request, or after it.
    let hangs_up = Backend::start(&format!("{}:8081", stage.pod(2)), |_| {});
    let began = Instant::now();
    assert_eq!(stage.connect(8081).ask(get(&worker, "/")).status, 502);
    assert!(began.elapsed() < SOON);
    assert!(hangs_up.connections() <= 2, "it is not tried again and again");
    drop(hangs_up);
    let silent = Backend::start(&format!("{}:8081", stage.pod(2)), |connection| drop(connection.head()));
    assert_eq!(stage.connect(8081).ask(get(&worker, "/")).status, 502);
    assert_eq!(silent.connections(), 2, "what only reads is asked once more");
}

#[tokio::test]
async fn a_server_that_does_not_accept_is_given_two_seconds() {
    let stage = Stage::new(16);
    // Its queue is full: further connections are not answered.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(format!("{}:8080", stage.pod(1)).parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = vec![];
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        waiting.push(stream);
    }
    let began = Instant::now();
    assert_eq!(stage.connect(8080).ask(get(LEADER, "/")).status, 503);
    let took = began.elapsed();
    assert!(
        took > Duration::from_secs(1) && took < Duration::from_secs(4),
        "{took:?}"
    );
}

#[test]
fn a_broken_answer_is_no_short_one() {
    let stage = Stage::new(17);
    let _backend = Backend::start(&format!("{}:8080", stage.pod(1)), |connection| {
        let Some(head) = connection.head() else { return };
        let framing = match head.contains("/sized") {
            true => "Content-Length: 100\r\n\r\nhello",
            false => "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        };
        connection.send(format!("HTTP/1.1 200 OK\r\n{framing}"));
        // Until the client has what there is.
        connection.take(1);
        if head.contains("/reset") {
            connection.reset();
        }
    });
    for path in ["/sized/reset", "/sized/closed", "/chunked/reset", "/chunked/closed"] {
        let mut client = stage.connect(8080);
        // The body of the request, sent later, tells the server to go on.
        client.send(format!(
            "POST {path} HTTP/1.1\r\nHost: {LEADER}\r\nContent-Length: 1\r\n\r\n"
        ));
        let answer = client.answer_head().unwrap();
        assert_eq!(answer.status, 200, "{path}");
        let start: &[u8] = if path.contains("sized") {
            b"hello"
        } else {
            b"5\r\nhello\r\n"
        };
        assert_eq!(client.take(start.len()).unwrap(), start);
        client.send("x");
        assert_eq!(client.rest().unwrap(), b"", "{path}: no end is made up");
    }
}

#[test]
fn a_kept_connection_that_was_closed_meanwhile_costs_no_request() {
    let stage = Stage::new(18);
    let (close, told) = channel::<()>();
    let (closed, is_closed) = channel::<()>();
    let (told, closed) = (Mutex::new(told), Mutex::new(closed));
    let serve = move |connection: &mut Connection| {
        if connection.request().is_none() {
            return;
        }
        connection.send(ok("once"));
        told.lock().unwrap().recv().unwrap();
        connection.reset();
        closed.lock().unwrap().send(()).unwrap();
    };
    let backend = Backend::start(&format!("{}:8080", stage.pod(1)), serve);
    let mut client = stage.connect(8080);
    for _ in 0..5 {
        assert_eq!(client.ask(get(LEADER, "/")).body, "once");
        close.send(()).unwrap();
        is_closed.recv().unwrap();
    }
    assert_eq!(backend.connections(), 5);
}

#[test]
fn a_client_that_does_not_finish_its_request_delays_nobody() {
    let stage = Stage::new(19);
    // It answers without waiting for the body.
    let backend = Backend::start(&format!("{}:8080", stage.pod(1)), |connection| {
        while let Some(head) = connection.head() {
            connection.send(ok(head.split(' ').next().unwrap()));
        }
    });
    // What is left of a form must not end up before another client's request, nor hold it up.
    for _ in 0..20 {
        let mut client = stage.connect(8080);
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: {LEADER}\r\nContent-Length: 100\r\n\r\nhalf"
        ));
        assert_eq!(client.answer().unwrap().body, "POST");
        let began = Instant::now();
        assert_eq!(stage.connect(8080).ask(get(LEADER, "/")).body, "GET");
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        assert!(client.rest().is_some());
    }
    assert!(backend.connections() > 20);
}

/// Both take the router's real 30 seconds, at the same time.
#[test]
fn clients_that_dawdle_are_let_go() {
    let stage = Stage::new(20);
    let (ended, is_ended) = channel();
    let ended = Mutex::new(ended);
    let _backend = Backend::start(&format!("{}:8080", stage.pod(1)), move |connection| {
        connection.head();
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
        while connection.send([0; 64 * 1024]) {}
        ended.lock().unwrap().send(()).unwrap();
    });
    let began = Instant::now();
    let mut reader = stage.connect(8080);
    reader.send(get(LEADER, "/"));
    assert_eq!(reader.answer_head().unwrap().status, 200);
    let mut idle = stage.connect(8080);
    assert_eq!(idle.ask(get("nobody", "/")).status, 404);
    // A byte now and then does not help.
    let mut slow = stage.connect(8080);
    slow.send("GET / HTTP/1.1\r\nHost: ");
    let deadline = began + Duration::from_secs(28);
    while Instant::now() < deadline {
        assert!(slow.send("x"), "too early");
        std::thread::sleep(Duration::from_millis(500));
    }
    assert!(slow.rest().is_some() && idle.rest().is_some());
    is_ended.recv_timeout(Duration::from_secs(40)).unwrap();
    let took = began.elapsed();
    assert!(
        took >= Duration::from_secs(28) && took < Duration::from_secs(45),
        "{took:?}"
    );
}

#[test]
fn routes_are_read_again_when_their_file_changes() {
    let stage = Stage::new(21);
    let backends = [1, 3].map(|which| Backend::plain(&format!("{}:8080", stage.pod(which))));
    let at = |which| format!("{}:8080", stage.pod(which));
    let mut client = stage.connect(8080);
    let mut leader = move || client.ask(get(LEADER, "/")).body;
    assert_eq!(leader(), at(1));
    let moved = json!([route(LEADER, 8080, &stage.pod(3), "spark-master-1", "leader")]).to_string();
    replace(&stage.file(), &moved);
    wait_for("the new leader", || leader() == at(3));
    assert_eq!(stage.connect(8080).ask(get(&stage.host(1), "/")).status, 404);
    // Half a file, nonsense and none change nothing.
    for broken in [&moved[..moved.len() / 2], "nonsense", ""] {
        let before = stage.router.log().matches("the routes stay unchanged").count();
        replace(&stage.file(), broken);
        wait_for("a complaint", || {
            stage.router.log().matches("the routes stay unchanged").count() > before
        });
        assert_eq!(leader(), at(3));
    }
    std::fs::remove_file(stage.file()).unwrap();
    assert_eq!(leader(), at(3));
    replace(&stage.file(), &json!(routes(stage.number)).to_string());
    wait_for("the old leader", || leader() == at(1));
    drop(backends);
}

/// Where a ConfigMap is mounted, files are links into a folder that is replaced.
#[test]
fn routes_in_a_mounted_config_map_are_read_again() {
    let number = 22;
    let folder = tempfile::tempdir().unwrap();
    let write = |version: &str, which| {
        let new = folder.path().join(version);
        std::fs::create_dir(&new).unwrap();
        let routes = json!([route(
            LEADER,
            8080,
            &super::pod(number, which),
            "spark-master-0",
            "leader"
        )]);
        std::fs::write(new.join("routes.json"), routes.to_string()).unwrap();
        symlink(version, folder.path().join("..data_tmp")).unwrap();
        std::fs::rename(folder.path().join("..data_tmp"), folder.path().join("..data")).unwrap();
    };
    write("..1", 1);
    let file = folder.path().join("routes.json");
    symlink("..data/routes.json", &file).unwrap();
    let _backends = [1, 3].map(|which| Backend::plain(&format!("{}:8080", super::pod(number, which))));
    let mut command = sparkha(&[
        "router",
        "--listen",
        &super::address(number),
        "--port",
        "8000",
        "--routes",
    ]);
    let _router = Router::run(command.arg(&file));
    let leader = || {
        Client::connect((super::address(number).as_str(), 8080))
            .ask(get(LEADER, "/"))
            .body
    };
    assert_eq!(leader(), format!("{}:8080", super::pod(number, 1)));
    write("..2", 3);
    wait_for("the new routes", || {
        leader() == format!("{}:8080", super::pod(number, 3))
    });
}

#[test]
fn no_request_fails_while_pods_come_and_go() {
    const CLIENTS: usize = 8;
    const REQUESTS: usize = 1250;
    let stage = Stage::new(23);
    let backends = [1, 3].map(|which| Backend::plain(&format!("{}:8080", stage.pod(which))));
    let live = [1, 3].map(|which| format!("{}:8080", stage.pod(which)));
    let done = AtomicBool::new(false);
    let answers = std::thread::scope(|scope| {
        let changes = scope.spawn(|| {
            let mut changes = 0;
            while !done.load(Ordering::SeqCst) {
                // The leader moves, and others come and go.
                let which = [1, 3][changes % 2];
                let mut routes = vec![route(LEADER, 8080, &stage.pod(which), "m", "leader")];
                routes.extend(
                    (0..changes % 50).map(|n| route(&format!("w{n}.ns.k8s"), 8081, "127.0.21.255", "w", "worker")),
                );
                replace(&stage.file(), &json!(routes).to_string());
                changes += 1;
                std::thread::sleep(Duration::from_millis(2));
            }
            changes
        });
        let client = || {
            let mut client = stage.connect(PORT);
            let asked = (0..REQUESTS).map(|n| match client.ask(get(LEADER, &format!("/{n}"))) {
                answer if answer.status == 200 => live.iter().position(|live| *live == answer.body).unwrap(),
                answer => panic!("{answer:?}"),
            });
            asked.fold([0; 2], |mut by_backend, backend| {
                by_backend[backend] += 1;
                by_backend
            })
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        let answers: Vec<_> = clients.into_iter().map(|client| client.join()).collect();
        done.store(true, Ordering::SeqCst);
        assert!(changes.join().unwrap() > 20);
        answers
    });
    let sum = |backend: usize| answers.iter().map(|by| by.as_ref().unwrap()[backend]).sum::<usize>();
    assert_eq!(sum(0) + sum(1), CLIENTS * REQUESTS);
    assert!(sum(0) > 0 && sum(1) > 0, "the leader has moved");
    drop(backends);
}

#[test]
fn told_to_end_it_finishes_what_it_has_begun() {
    let mut stage = Stage::new(24);
    let (next, told) = channel::<()>();
    let told = Mutex::new(told);
    let _backend = Backend::start(&format!("{}:8080", stage.pod(1)), move |connection| {
        connection.head();
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst");
        told.lock().unwrap().recv().unwrap();
        connection.send("after");
    });
    let mut client = stage.connect(8080);
    client.send(get(LEADER, "/"));
    client.answer_head().unwrap();
    assert_eq!(client.take(5).unwrap(), b"first");
    let mut idle = stage.connect(8080);
    assert_eq!(idle.ask(get("nobody", "/")).status, 404);
    signal(stage.router.server.id(), "TERM");
    wait_for("new connections are refused", || {
        TcpStream::connect((stage.address(), 8080)).is_err()
    });
    assert_eq!(idle.rest().unwrap(), b"", "idle connections are closed");
    next.send(()).unwrap();
    assert_eq!(client.take(5).unwrap(), b"after");
    assert_eq!(client.rest().unwrap(), b"");
    assert_eq!(stage.router.server.ends_at("CONT"), Some(0));
}
