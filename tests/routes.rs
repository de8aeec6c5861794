//! Routes to the web UIs, under real routers: what they let through, and what they must not.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use crate::kit::dns::addresses;
use crate::kit::local::Home;
use crate::kit::server::Server;

/// The address at which routers of these tests listen; the pods have others.
const ROUTER: &str = "127.0.7.1";
const READY: Duration = Duration::from_secs(20);

/// The answer to a request that is sent as it stands; empty if there is none.
fn ask(port: u16, request: &str) -> String {
    let answer = TcpStream::connect((ROUTER, port)).and_then(|mut stream| {
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    });
    String::from_utf8_lossy(&answer.unwrap_or_default()).into_owned()
}

fn get(port: u16, host: &str, path: &str) -> String {
    ask(
        port,
        &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
    )
}

#[test]
fn nginx_leads_to_every_ui_and_nowhere_else() {
    let home = Home::new();
    home.run(&["create", "--masters", "2", "--workers", "1"]).exits(0);
    let render = || {
        home.run(&["route", "render", "--format", "nginx", "--listen", ROUTER])
            .exits(0)
            .stdout
    };
    let folder = home.folder.path().join("nginx");
    std::fs::create_dir(&folder).unwrap();
    let included = folder.join("routes.conf");
    std::fs::write(&included, render()).unwrap();
    let main = format!(
        "daemon off;\nmaster_process off;\npid '{0}/pid';\nerror_log '{0}/error.log';\nevents {{}}\nhttp {{\n access_log off;\n \
         client_body_temp_path '{0}/b'; proxy_temp_path '{0}/p'; fastcgi_temp_path '{0}/f'; uwsgi_temp_path '{0}/u'; \
         scgi_temp_path '{0}/s';\n include '{0}/routes.conf';\n}}\n",
        folder.display()
    );
    let configuration = folder.join("nginx.conf");
    std::fs::write(&configuration, main).unwrap();
    let nginx = Server::start(Command::new("/usr/sbin/nginx").arg("-c").arg(&configuration));
    let leader_says = |host: &str| {
        get(8080, host, "/json/").contains("\"status\" : \"ALIVE\"")
            || get(8080, host, "/json/").contains("\"status\":\"ALIVE\"")
    };
    home.wait_for(READY, "nginx", || leader_says("spark-master.default.k8s:8080"));

    // Each pod by its own name, the leader by the cluster's, whatever the case.
    let dashed = |pod: &str| home.address("spark", pod).replace('.', "-");
    let worker = format!("spark-{}.default.k8s:8081", dashed("spark-worker-0"));
    assert!(get(8081, &worker, "/json/").contains("\"masterurl\""));
    assert!(leader_says("SPARK-Master.Default.K8S"));
    // A name that looks like one, and what is behind it, is not reached.
    let worker_name = worker.split(':').next().unwrap();
    for host in [
        "spark-169-254-169-254.default.k8s",
        "spark-127-0-0-1.default.k8s",
        "spark-256-1-1-1.default.k8s",
        "spark-0177-0-0-1.default.k8s",
        &format!("{worker_name}.attacker.example"),
        &format!("evil-{worker_name}"),
        &worker_name.replace("default", "other"),
        "spark-master.other.k8s",
        "",
    ] {
        for port in [8080, 8081] {
            let answer = get(port, host, "/json/");
            assert!(answer.starts_with("HTTP/1.1 40"), "{host}:{port}: {answer}");
        }
    }
    // A worker's name leads to its own port only.
    assert!(get(8080, worker_name, "/json/").starts_with("HTTP/1.1 404"));
    for request in [
        format!("CONNECT {worker_name}:8081 HTTP/1.1\r\nHost: {worker_name}\r\nConnection: close\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {worker_name}\r\nHost: x\r\nConnection: close\r\n\r\n"),
        "GET / HTTP/1.1\r\nConnection: close\r\n\r\n".to_owned(),
    ] {
        let answer = ask(8081, &request);
        assert!(answer.starts_with("HTTP/1.1 4"), "{request}: {answer}");
    }
    drop(nginx);
    home.run(&["teardown"]).exits(0);
    assert!(!render().contains("map $host"), "no cluster, no route");
}

#[test]
fn dnsmasq_answers_for_the_whole_domain_and_asks_nobody() {
    let home = Home::new();
    home.run(&["create", "--masters", "1", "--workers", "0", "--ui-domain", "ui.test"])
        .exits(0);
    home.run(&["route", "render", "--format", "dnsmasq"])
        .exits(2)
        .says("--router-address");
    let arguments = [
        "route",
        "render",
        "--format",
        "dnsmasq",
        "--router-address",
        "192.0.2.7",
    ];
    let text = home.run(&arguments).exits(0).stdout;
    let file = home.folder.path().join("dnsmasq.conf");
    std::fs::write(&file, text).unwrap();
    let dnsmasq = Server::start(
        Command::new("/usr/sbin/dnsmasq")
            .args([
                "--keep-in-foreground",
                "--no-resolv",
                "--no-hosts",
                "--port=5353",
                "--bind-interfaces",
                "--user=root",
            ])
            .args(["--pid-file=", &format!("--listen-address={ROUTER}")])
            .arg(format!("--conf-file={}", file.display())),
    );
    let server = (ROUTER, 5353);
    let router = Some(vec![[192, 0, 2, 7]]);
    home.wait_for(READY, "dnsmasq", || {
        addresses(server, "spark-master.default.ui.test") == router
    });
    assert_eq!(addresses(server, "spark-10-1-2-3.any.ui.test"), router);
    assert_eq!(addresses(server, "elsewhere.test"), Some(vec![]));
    drop(dnsmasq);
    home.run(&["teardown"]).exits(0);
}

/// Of `route render`.
pub const FORMATS: [&str; 9] = [
    "json",
    "vulcand",
    "nginx",
    "traefik",
    "traefik-kv",
    "ingress",
    "gateway",
    "dnsmasq",
    "coredns",
];

/// The routes of all namespaces.
pub fn render_all(format: &str) -> Vec<&str> {
    let all = ["route", "render", "-A", "--router-address", "192.0.2.7"];
    [&all[..], &["--format", format]].concat()
}

#[test]
fn every_format_is_deterministic() {
    let home = Home::new();
    home.run(&["create", "--masters", "1", "--workers", "1"]).exits(0);
    for format in FORMATS {
        let arguments = render_all(format);
        let text = home.run(&arguments).exits(0).stdout;
        assert_eq!(home.run(&arguments).stdout, text);
        if !matches!(format, "dnsmasq" | "coredns") {
            assert!(
                text.contains(&home.address("spark", "spark-worker-0")),
                "{format}: {text}"
            );
        }
    }
    home.run(&["teardown"]).exits(0);
}
