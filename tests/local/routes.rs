//! Routes to the web UIs, under real routers: what they let through, and what they must not.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRng, TestRunner};
use serde_json::{Value, json};

use crate::kit::dns::{DNSMASQ_PORT, addresses, dnsmasq};
use crate::kit::local::Home;
use crate::kit::server::Server;
use crate::kit::{FORMATS, Run, render_all};

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

/// nginx with these routes.
fn nginx(home: &Home, routes: &str) -> Command {
    let folder = home.folder.path().join("nginx");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("routes.conf"), routes).unwrap();
    let main = format!(
        "daemon off;\nmaster_process off;\npid '{0}/pid';\nerror_log '{0}/error.log';\nevents {{}}\nhttp {{\n access_log off;\n \
         client_body_temp_path '{0}/b'; proxy_temp_path '{0}/p'; fastcgi_temp_path '{0}/f'; uwsgi_temp_path '{0}/u'; \
         scgi_temp_path '{0}/s';\n include '{0}/routes.conf';\n}}\n",
        folder.display()
    );
    let configuration = folder.join("nginx.conf");
    std::fs::write(&configuration, main).unwrap();
    let mut nginx = Command::new("/usr/sbin/nginx");
    nginx.arg("-c").arg(configuration);
    nginx
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
    let nginx = Server::start(&mut nginx(&home, &render()));
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
    let dnsmasq = dnsmasq(ROUTER, &[format!("--conf-file={}", file.display())]);
    let server = (ROUTER, DNSMASQ_PORT);
    let router = Some(vec![[192, 0, 2, 7]]);
    home.wait_for(READY, "dnsmasq", || {
        addresses(server, "spark-master.default.ui.test") == router
    });
    assert_eq!(addresses(server, "spark-10-1-2-3.any.ui.test"), router);
    assert_eq!(addresses(server, "elsewhere.test"), Some(vec![]));
    drop(dnsmasq);
    home.run(&["teardown"]).exits(0);
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

/// Text that is special to a terminal, a shell or a parser, and text that names may contain.
fn fragment() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "\n",
            "\r",
            "\0",
            "\t",
            " ",
            ";",
            "{",
            "}",
            "`",
            "'",
            "\"",
            "$",
            "$(id)",
            "#",
            "\\",
            "/",
            "../",
            "<b>",
            "%0a",
            ":",
            ",",
            "|",
            "*",
            "&",
            "=",
            "\u{1b}[2J",
            "\u{202e}",
            "é",
            "{{",
            "~",
            "default",
            "include /etc/passwd;",
            "\n---\n",
            "`) || HostRegexp(`.*",
        ])
        .prop_map(str::to_owned),
        prop::sample::select(vec!["-", ".", "--", "..", "0", "x", "A", "_", "xn--", "10-0-0-1"])
            .prop_map(str::to_owned),
        "[a-z0-9]{1,70}",
        "\\PC{1,8}",
    ]
}

/// The strings in a document, by their paths.
fn strings(at: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(_) => found.push(at.to_owned()),
        Value::Array(items) => (0..)
            .zip(items)
            .for_each(|(n, item): (u32, _)| strings(&format!("{at}/{n}"), item, found)),
        Value::Object(keys) => keys
            .iter()
            .for_each(|(key, item)| strings(&format!("{at}/{key}"), item, found)),
        _ => {}
    }
}

/// The document with one or two of its strings changed.
fn changed(document: &Value) -> impl Strategy<Value = Value> + use<> {
    let mut paths = Vec::new();
    strings("", document, &mut paths);
    // Domain and alias appear in host names.
    let likely: Vec<_> = paths
        .iter()
        .filter(|path| path.contains("uiDomain") || path.contains("alias"))
        .cloned()
        .collect();
    let path = prop_oneof![prop::sample::select(likely), prop::sample::select(paths)];
    let change = (path, fragment(), any::<prop::sample::Index>(), any::<bool>());
    let document = document.clone();
    prop::collection::vec(change, 1..3).prop_map(move |changes| {
        let mut document = document.clone();
        for (path, fragment, at, replaces) in changes {
            let Some(Value::String(text)) = document.pointer_mut(&path) else {
                unreachable!()
            };
            if replaces {
                text.clear();
            }
            let boundaries: Vec<_> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            text.insert_str(boundaries[at.index(boundaries.len())], &fragment);
        }
        document
    })
}

/// Writes the folder of a cluster with two pods for each of these summaries, which replace the one in `wanted`.
fn clusters(home: &Home, wanted: &Value, summaries: &[Value]) {
    let wanted = wanted.to_string();
    for (at, summary) in summaries.iter().enumerate() {
        let name = format!("hostile-{at}");
        let folder = home.cluster(&name);
        std::fs::create_dir_all(&folder).unwrap();
        let mut wanted: Value = serde_json::from_str(&wanted.replace("hostile", &name)).unwrap();
        wanted["resources"][0]["object"]["data"]["cluster.json"] = json!(summary.to_string().replace("hostile", &name));
        std::fs::write(folder.join("wanted.json"), wanted.to_string()).unwrap();
        let pods = [("history", 1), ("worker", 2)].map(|(component, last)| {
            let labels = json!({
                "app.kubernetes.io/managed-by": "sparkha", "app.kubernetes.io/instance": name, "app.kubernetes.io/component": component,
            });
            let metadata = json!({"name": format!("{name}-{component}-0"), "namespace": "default", "labels": labels});
            let address = format!("127.9.{}.{last}", at % 250);
            json!({"pod": {"metadata": metadata, "status": {"podIP": address}}, "process": null, "mark": "", "failures": 0})
        });
        let seen = json!({"pods": pods, "sets": [], "made": 2});
        std::fs::write(folder.join("seen.json"), seen.to_string()).unwrap();
    }
}

/// Renders routes from randomly changed inventories and parses them with each format's own parser. SPARKHA_SEED repeats a run, SPARKHA_TRIALS sets the
/// number of inventories.
#[test]
fn hostile_inventories_render_valid_host_names_only() {
    let asked = |variable: &str| std::env::var(variable).ok()?.parse::<u64>().ok();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let seed = asked("SPARKHA_SEED").unwrap_or(now);
    println!("SPARKHA_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let random = TestRng::from_seed(Config::default().rng_algorithm, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), random);

    let home = Home::new();
    home.run(&["create", "hostile", "--masters", "1", "--workers", "0"])
        .exits(0);
    let file = home.cluster("hostile").join("wanted.json");
    let mut wanted: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    home.run(&["teardown", "hostile"]).exits(0);
    let resources = wanted["resources"].as_array_mut().unwrap();
    resources.retain(|resource| resource["name"] == "hostile-sparkha");
    let data = &resources[0]["object"]["data"];
    let mut summary: Value = serde_json::from_str(data["cluster.json"].as_str().unwrap()).unwrap();
    summary["alias"] = json!({"name": "known", "active": true});
    let strategy = changed(&summary);
    let trials = asked("SPARKHA_TRIALS").unwrap_or(250);
    let summaries: Vec<_> = (0..trials)
        .map(|_| strategy.new_tree(&mut runner).unwrap().current())
        .collect();
    clusters(&home, &wanted, &summaries);

    let render = |format: &str| {
        let rendered = home.run(&render_all(format)).exits(0);
        let strange = |c: char| c.is_control() && c != '\n';
        assert!(!rendered.stdout.contains(strange), "{format}: {}", rendered.stdout);
        assert!(!rendered.stderr.contains(strange), "{format}: {}", rendered.stderr);
        rendered
    };
    let table = render("json");
    let left_out = table.stderr.matches("is not an inventory").count();
    let table: Value = serde_json::from_str(&table.stdout).unwrap();
    let hosts: BTreeSet<_> = table
        .as_array()
        .unwrap()
        .iter()
        .map(|route| route["host"].as_str().unwrap())
        .collect();
    // Some inventories are still valid.
    assert!(
        !hosts.is_empty() && left_out > 0,
        "{} hosts, {left_out} left out",
        hosts.len()
    );
    let is_name = |host: &&str| {
        let mut labels = host.split('.');
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        labels.all(|label| (1..=63).contains(&label.len()) && label.chars().all(plain)) && host.contains(".default.")
    };
    assert!(hosts.iter().all(is_name), "{hosts:?}");

    let routes = render("nginx").stdout;
    let tested = Run::from(nginx(&home, &routes).arg("-t").output().unwrap());
    tested.exits(0);
    let in_map = routes
        .lines()
        .filter(|line| line.starts_with("    spark-") || line.contains("-history."));
    let in_map: BTreeSet<_> = in_map.map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(in_map, hosts);

    let configuration = home.folder.path().join("dnsmasq.conf");
    for format in ["dnsmasq", "coredns"] {
        // Without -A, clusters may use any domain.
        let all = render_all(format);
        let rendered = home
            .run(&all.into_iter().filter(|argument| *argument != "-A").collect::<Vec<_>>())
            .exits(0);
        let domain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c));
        for line in rendered.stdout.lines().skip(1) {
            let is_known = match format {
                "dnsmasq" => line.split('/').nth(1).is_some_and(domain) && line.split('/').count() == 3,
                _ => match line.trim() {
                    "answer \"{{ .Name }} 60 IN A 192.0.2.7\"" | "rcode NOERROR" | "errors" | "}" => true,
                    line => line
                        .trim_start_matches("template IN AAAA ")
                        .trim_start_matches("template IN A ")
                        .split([':', ' '])
                        .next()
                        .is_some_and(domain),
                },
            };
            assert!(is_known, "{format}: {line}");
        }
        if format == "dnsmasq" {
            std::fs::write(&configuration, rendered.stdout).unwrap();
            let file = format!("--conf-file={}", configuration.display());
            Run::from(
                Command::new("/usr/sbin/dnsmasq")
                    .args(["--test", &file])
                    .output()
                    .unwrap(),
            )
            .exits(0);
        }
    }

    // The shell runs etcdctl with three arguments each, and nothing else.
    let tools = home.folder.path().join("tools");
    std::fs::create_dir(&tools).unwrap();
    let etcdctl = tools.join("etcdctl");
    std::fs::write(&etcdctl, "#!/bin/sh\necho \"$#: $2\"\n").unwrap();
    std::fs::set_permissions(&etcdctl, std::fs::Permissions::from_mode(0o755)).unwrap();
    for format in ["vulcand", "traefik-kv"] {
        let script = render(format).stdout;
        let mut shell = Command::new("/bin/sh");
        let file = tools.join(format);
        std::fs::write(&file, &script).unwrap();
        shell.env("PATH", &tools).arg(file);
        let put = Run::from(shell.output().unwrap()).exits(0);
        assert_eq!(put.stderr, "");
        let is_key = |line: &str| {
            line.starts_with("3: ")
                && line[3..]
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "/-._".contains(c))
        };
        assert!(put.stdout.lines().all(is_key), "{format}: {}", put.stdout);
        assert_eq!(
            put.stdout.lines().count(),
            script.lines().filter(|line| line.starts_with("etcdctl ")).count()
        );
    }

    let traefik: Value = serde_saphyr::from_str(&render("traefik").stdout).unwrap();
    let routers = traefik["http"]["routers"].as_object().unwrap().values();
    let rules: BTreeSet<_> = routers
        .map(|router| router["rule"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(rules, hosts.iter().map(|host| format!("Host(`{host}`)")).collect());
    for (format, path) in [("ingress", "/spec/rules/0/host"), ("gateway", "/spec/hostnames/0")] {
        let rendered = render(format).stdout;
        let objects: Vec<Value> = rendered
            .split("---\n")
            .map(|text| serde_saphyr::from_str(text).unwrap())
            .collect();
        let named: BTreeSet<_> = objects
            .iter()
            .filter_map(|object| object.pointer(path)?.as_str())
            .collect();
        assert_eq!(named, hosts, "{format}");
    }
}
