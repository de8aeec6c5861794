//! What other people's pages and processes can do: pages of other sites in a user's browser, and whoever opens more connections than anybody needs.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::{LEADER, Stage};
use crate::kit::SOON;
use crate::kit::backend::Backend;
use crate::kit::client::get;
use crate::kit::local::Home;
use crate::kit::server::Server;

/// How many connections the router keeps of one client.
const OF_ONE_CLIENT: usize = 1024;

#[test]
fn pages_of_other_sites_change_nothing_and_learn_nothing() {
    let stage = Stage::new(31);
    let backend = Backend::plain(&format!("{}:8080", stage.pod(1)));
    let ask = |line: &str, host: &str, headers: &str| {
        let request = format!("{line} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n");
        stage.connect(8080).ask(request)
    };
    let host = format!("{LEADER}:8080");
    let cross = "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n";
    for (line, headers) in [
        ("POST /app/kill/", "Origin: http://evil.example\r\n"),
        ("POST /app/kill/", "Origin: null\r\n"),
        ("POST /app/kill/", cross),
        ("GET /jobs/job/kill/?id=0", cross),
        ("GET /jobs/job/%6bill/?id=0", "Referer: http://evil.example/\r\n"),
        ("GET /json/", "Sec-Fetch-Site: same-site\r\nSec-Fetch-Mode: no-cors\r\n"),
        (
            "GET /",
            "Origin: http://evil.example\r\nConnection: upgrade\r\nUpgrade: websocket\r\n",
        ),
    ] {
        let answer = ask(line, &host, headers);
        assert_eq!(answer.status, 403, "{line} {headers}");
        assert!(answer.body.contains("a page of another site sent this request"));
    }
    assert_eq!(backend.connections(), 0);
    for (line, headers) in [
        ("GET /app/?appId=1", cross.to_owned()),
        ("POST /app/kill/", format!("Origin: http://{host}\r\n")),
        ("GET /jobs/job/kill/?id=0", format!("Referer: http://{host}/jobs/\r\n")),
        ("POST /app/kill/", String::new()),
    ] {
        assert_eq!(ask(line, &host, &headers).status, 200, "{line} {headers}");
    }
    // A name that leads here by somebody else's DNS server.
    for host in ["evil.example", "evil.example:8080", "k8s.evil.example", "xk8s"] {
        let answer = ask("GET /", host, "Accept: text/html\r\n");
        assert_eq!(answer.status, 404);
        assert!(!answer.body.contains("spark-"), "{host}: {}", answer.body);
    }
}

/// A connection from an address of this machine.
async fn connect(from: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    socket.connect(to).await.unwrap()
}

/// How many of these the other end has closed.
fn closed(connections: &[TcpStream]) -> usize {
    let is_closed = |connection: &&TcpStream| matches!(connection.try_read(&mut [0]), Ok(0));
    connections.iter().filter(is_closed).count()
}

#[tokio::test]
async fn whoever_opens_thousands_of_connections_closes_his_own() {
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, all).unwrap();
    let stage = Stage::new(22);
    let address: SocketAddr = format!("{}:8080", stage.address()).parse().unwrap();
    let _backend = Backend::plain(&format!("{}:8080", stage.pod(1)));
    let other = connect("127.0.9.90", address).await;
    let more = 100;
    let mut many = Vec::new();
    for _ in 0..OF_ONE_CLIENT + more {
        many.push(connect("127.0.9.91", address).await);
    }
    let (first, rest) = many.split_at(more);
    let deadline = Instant::now() + SOON;
    while closed(first) < more {
        assert!(Instant::now() < deadline, "{} are closed", closed(first));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(closed(rest), 0);
    // Others are served, and so is the same one.
    assert_eq!(closed(std::slice::from_ref(&other)), 0);
    assert_eq!(stage.connect(8080).ask(get(LEADER, "/")).status, 200);
    let mut last = connect("127.0.9.91", address).await;
    last.write_all(get(LEADER, "/").as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    last.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}

#[test]
fn other_users_of_the_machine_are_not_served() {
    let home = Home::new();
    let mut ui = home.command(&["ui", "--port", "0"]);
    let mut ui = ui.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut index = String::new();
    BufReader::new(ui.stdout.take().unwrap()).read_line(&mut index).unwrap();
    let _ui = Server::of(ui);
    let port = index.trim().trim_end_matches('/').rsplit(':').next().unwrap();
    let ask = |user: u32| {
        let script = format!(
            "exec 3<>/dev/tcp/127.0.0.1/{port}; printf 'GET / HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n' >&3; cat <&3"
        );
        let output = Command::new("bash").args(["-c", &script]).uid(user).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let own = ask(rustix::process::getuid().as_raw());
    assert!(
        own.starts_with("HTTP/1.0 200") && own.contains("There is no Spark cluster here"),
        "{own}"
    );
    let others = ask(65534);
    assert!(others.starts_with("HTTP/1.0 403"), "{others}");
    assert!(others.contains("these web UIs belong to another user"), "{others}");
}
