//! Real masters of the local platform: the leader's name leads to whoever leads, and to a page that helps while nobody does.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::LEADER as NAME;
use crate::kit::client::{Answer, Client, get};
use crate::kit::local::{Home, signal};
use crate::kit::server::{Router, Server};

const READY: Duration = Duration::from_secs(60);
const ROUTER: &str = "127.0.9.250";
const PORT: u16 = 8080;

fn leader_host() -> String {
    NAME.replace(".ns.", ".default.")
}

/// Asks for a page as a browser does, or as a program.
fn ask(kind: &str) -> Answer {
    let host = leader_host();
    Client::connect((ROUTER, PORT)).ask(format!(
        "GET /json/ HTTP/1.1\r\nHost: {host}:8080\r\nAccept: {kind}\r\n\r\n"
    ))
}

/// Whether the master at an address says of itself that it leads.
fn leads(address: &str) -> bool {
    let Ok(stream) = std::net::TcpStream::connect((address, PORT)) else {
        return false;
    };
    drop(stream);
    crate::kit::http::ask(&format!("{address}:{PORT}"), "GET", "/json/", "", "")
        .is_some_and(|(status, body)| status == 200 && is_alive(&body))
}

fn is_alive(body: &str) -> bool {
    body.replace(' ', "").contains("\"status\":\"ALIVE\"")
}

#[test]
fn the_leader_s_name_leads_to_whoever_leads() {
    let home = Home::new();
    home.run(&["create", "--masters", "2", "--workers", "1"]).exits(0);
    let mut command = home.command(&["router", "--listen", ROUTER, "--port", "8000"]);
    let _router = Router::run(&mut command);
    home.wait_for(READY, "the leader", || ask("*/*").status == 200);
    assert!(is_alive(&ask("*/*").body));

    let masters = ["spark-master-0", "spark-master-1"];
    let addresses = masters.map(|pod| home.address("spark", pod));
    let old = addresses.iter().position(|address| leads(address)).unwrap();
    let new = 1 - old;
    a_new_leader_is_found_within_a_second(&home, masters[old], &addresses[new]);
    silent_masters_are_none(&home, &masters);
    masters_that_are_gone_are_none(&home, &masters);

    home.run(&["teardown"]).exits(0);
    home.wait_for(READY, "the cluster to be forgotten", || ask("*/*").status == 404);
    assert!(ask("*/*").body.contains("There is no Spark cluster here."));
}

fn a_new_leader_is_found_within_a_second(home: &Home, old: &str, new: &str) {
    signal(home.process("spark", old), "KILL");
    let deadline = Instant::now() + READY;
    let (mut said, mut unanswered) = (None, 0);
    loop {
        assert!(Instant::now() < deadline, "no new leader");
        said = said.or_else(|| leads(new).then(Instant::now));
        let began = Instant::now();
        let html = unanswered % 2 == 1;
        let answer = ask(if html { "text/html" } else { "*/*" });
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        if answer.status == 200 && is_alive(&answer.body) && leads(new) {
            break;
        }
        // The old leader's answer, if it was on its way; and from then on a page that says what there is.
        if answer.status != 200 {
            unanswered += 1;
            assert!(matches!(answer.status, 502 | 503), "{answer:?}");
            assert!(answer.body.contains("default/spark"), "{answer:?}");
            assert_eq!(answer.body.starts_with("<!DOCTYPE html>"), html, "{answer:?}");
        }
    }
    let late = said.map_or(Duration::ZERO, |said| said.elapsed());
    println!("the router leads to the new leader {late:?} after it said so");
    assert!(late < Duration::from_secs(1), "{late:?}");
    assert!(unanswered > 0, "nobody led for a while");
    home.wait_for(READY, "the old leader as a standby", || {
        home.run(&["status"]).code == Some(0)
    });
}

/// Masters that hang hold the page up no longer than a while, then it says that nobody leads.
fn silent_masters_are_none(home: &Home, masters: &[&str]) {
    let processes: Vec<_> = masters.iter().flat_map(|pod| home.processes_of("spark", pod)).collect();
    processes.iter().for_each(|pid| signal(*pid, "STOP"));
    home.wait_for(READY, "nobody leads", || {
        let mut client = Client::connect((ROUTER, PORT));
        client.send(get(&leader_host(), "/json/"));
        client
            .wait(Duration::from_secs(1))
            .is_some_and(|answer| answer.status == 503)
    });
    processes.iter().for_each(|pid| signal(*pid, "CONT"));
    home.wait_for(READY, "a leader again", || ask("*/*").status == 200);
}

fn masters_that_are_gone_are_none(home: &Home, masters: &[&str]) {
    // Nobody starts them again meanwhile.
    signal(home.supervisor("spark"), "STOP");
    for pod in masters {
        if home.process_if_any("spark", pod).is_some() {
            home.processes_of("spark", pod)
                .into_iter()
                .for_each(|pid| signal(pid, "KILL"));
        }
    }
    home.wait_for(READY, "nobody leads", || {
        let began = Instant::now();
        let answer = ask("text/html");
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        answer.status == 503
    });
    let page = ask("*/*");
    for part in [
        "No master leads\n",
        "default/spark\n",
        "leader   none at present\n",
        "spark-worker-0",
    ] {
        assert!(page.body.contains(part), "{part}\n{}", page.body);
    }
    signal(home.supervisor("spark"), "CONT");
    home.wait_for(READY, "a leader again", || ask("*/*").status == 200);
}

#[test]
fn ui_serves_this_machine_s_browser_and_nobody_else_s() {
    let home = Home::new();
    home.run(&["create", "--masters", "1", "--workers", "1"]).exits(0);
    let mut child = home
        .command(&["ui", "--port", "0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut ui = Server::of(child);
    let first = lines.next().unwrap().unwrap();
    let port: u16 = first.rsplit(':').next().unwrap().trim_end_matches('/').parse().unwrap();
    assert_eq!(first, format!("All web UIs: http://localhost:{port}/"));
    let leader = format!("spark-master.default.k8s.localhost:{port}");
    assert_eq!(
        lines.next().unwrap().unwrap(),
        format!("  default/spark: http://{leader}/")
    );

    let ask = |host: &str, path: &str| Client::connect(("127.0.0.1", port)).ask(get(host, path));
    for host in ["localhost", "127.0.0.1", "[::1]"] {
        let index = ask(&format!("{host}:{port}"), "/");
        assert_eq!(index.status, 200, "{host}");
        assert!(index.body.contains(&format!("http://{leader}/")), "{}", index.body);
    }
    let worker = format!(
        "spark-{}.default.k8s",
        home.address("spark", "spark-worker-0").replace('.', "-")
    );
    let page = ask(&leader, "/");
    assert_eq!(page.status, 200);
    assert!(
        page.body.contains(&format!("http://{worker}.localhost:{port}")),
        "{}",
        page.body
    );
    assert!(!page.body.contains(&format!("{worker}:8081")), "{}", page.body);
    assert_eq!(ask(&format!("{worker}.localhost:{port}"), "/json/").status, 200);
    // Another name for this machine is not ours (DNS rebinding), nor is any that would be elsewhere.
    for host in [
        "evil.example",
        &format!("{leader}.evil.example"),
        &format!("{worker}:8081"),
        "spark-master.default.k8s:8080",
        "spark-127-0-0-1.default.k8s.localhost",
        &format!("7078.{worker}.localhost"),
        "localhost.evil.example",
        ".localhost",
        "x.localhost",
    ] {
        let status = ask(host, "/").status;
        assert!(matches!(status, 400 | 404), "{host}: {status}");
    }
    assert_eq!(ui.ends_at("TERM"), Some(0));
    home.run(&["teardown"]).exits(0);
}
