//! Routes in Vulcand: with a real etcd what is written there and what is not, and a server that behaves as Vulcand's API.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::kit::certificates::openssl;
use crate::kit::dns::{DNSMASQ_PORT, dnsmasq};
use crate::kit::http::{HttpServer, Request, ask};
use crate::kit::local::{Home, signal};
use crate::kit::server::Server;
use crate::kit::{Run, run, sparkha};

const READY: Duration = Duration::from_secs(20);

/// An etcd of a test's own, at an address of its own.
struct Etcd {
    /// `host:port`, without TLS.
    plain: String,
    token: Mutex<String>,
    _server: Server,
    _folder: tempfile::TempDir,
}

impl Etcd {
    fn start(home: &Home, ip: &str) -> Self {
        Self::with(home, ip, &[], &[])
    }

    /// With further client URLs and arguments.
    fn with(home: &Home, ip: &str, urls: &[String], arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (client, peer) = (format!("http://{ip}:2379"), format!("http://{ip}:2380"));
        let clients = [&[client][..], urls].concat().join(",");
        let mut command = Command::new("/usr/bin/etcd");
        command
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}"), "--unsafe-no-fsync"])
            .args(arguments);
        let etcd = Self {
            plain: format!("{ip}:2379"),
            token: Mutex::default(),
            _server: Server::start(&mut command),
            _folder: folder,
        };
        home.wait_for(READY, "etcd", || {
            ask(&etcd.plain, "GET", "/health", "", "").is_some_and(|(_, body)| body.contains("true"))
        });
        etcd
    }

    fn call(&self, path: &str, body: &Value) -> Value {
        let token = self.token.lock().unwrap().clone();
        let headers = if token.is_empty() {
            token
        } else {
            format!("Authorization: {token}\r\n")
        };
        let (status, answer) = ask(&self.plain, "POST", &format!("/v3/{path}"), &headers, &body.to_string()).unwrap();
        assert_eq!(status, 200, "{path}: {answer}");
        serde_json::from_str(&answer).unwrap()
    }

    fn put(&self, key: &str, value: &str) {
        let encode = |text| BASE64_STANDARD.encode(text);
        self.call("kv/put", &json!({"key": encode(key), "value": encode(value)}));
    }

    fn read(&self) -> Value {
        let encode = |text| BASE64_STANDARD.encode(text);
        self.call("kv/range", &json!({"key": encode("/"), "range_end": encode("0")}))
    }

    /// The store's revision: every write raises it.
    fn revision(&self) -> i64 {
        self.read()["header"]["revision"].as_str().unwrap().parse().unwrap()
    }

    /// All keys with their values.
    fn keys(&self) -> BTreeMap<String, String> {
        let decode = |text: &Value| String::from_utf8(BASE64_STANDARD.decode(text.as_str().unwrap()).unwrap()).unwrap();
        let answer = self.read();
        let entries = answer["kvs"].as_array().cloned().unwrap_or_default();
        entries
            .iter()
            .map(|kv| (decode(&kv["key"]), decode(&kv["value"])))
            .collect()
    }

    /// The leases of all keys that have one.
    fn leases(&self) -> Vec<String> {
        let answer = self.read();
        let entries = answer["kvs"].as_array().cloned().unwrap_or_default();
        entries
            .iter()
            .filter_map(|kv| kv["lease"].as_str().map(str::to_owned))
            .collect()
    }
}

/// Host name of a pod's UI.
fn host(home: &Home, pod: &str) -> String {
    format!("spark-{}.default.k8s", home.address("spark", pod).replace('.', "-"))
}

/// Keys of a host and what they say, as Vulcand wants them.
fn keys_of(host: &str, url: &str) -> [(String, Value); 3] {
    [
        (
            format!("/vulcand/backends/{host}/backend"),
            json!({"Type": "http", "Settings": {
                "Timeouts": {"Read": "30s", "Dial": "2s"}, "KeepAlive": {"Period": "30s", "MaxIdleConnsPerHost": 64},
            }}),
        ),
        (
            format!("/vulcand/backends/{host}/servers/sparkha.local.default"),
            json!({"URL": url}),
        ),
        (
            format!("/vulcand/frontends/{host}/frontend"),
            json!({"Type": "http", "BackendId": host, "Route": format!("Host(`{host}`)"), "Settings": {"PassHostHeader": true}}),
        ),
    ]
}

fn listener(port: u16) -> (String, Value) {
    let address = json!({"Network": "tcp", "Address": format!("0.0.0.0:{port}")});
    (
        format!("/vulcand/listeners/sparkha-local-{port}"),
        json!({"Protocol": "http", "Address": address}),
    )
}

#[test]
fn etcd_gets_the_difference_and_loses_what_is_ours() {
    let home = Home::new();
    let etcd = Etcd::start(&home, "127.0.7.11");
    home.run(&["create", "--masters", "1", "--workers", "1"]).exits(0);
    // Somebody else's, and another owner's host at the same ports.
    let mut foreign: BTreeMap<String, String> = [
        (
            "/vulcand/frontends/shop/frontend",
            r#"{"Type":"http","BackendId":"shop","Route":"Host(`shop.example`)"}"#,
        ),
        ("/vulcand/backends/shop/backend", r#"{"Type":"http"}"#),
        ("/vulcand/backends/shop/servers/a", r#"{"URL":"http://192.0.2.1:80"}"#),
        ("/vulcand/backends/spark-10-0-0-1.x.y/backend", r#"{"Type":"http"}"#),
        (
            "/vulcand/backends/spark-10-0-0-1.x.y/servers/sparkha.east.x",
            r#"{"URL":"http://10.0.0.1:9000"}"#,
        ),
        (
            "/vulcand/listeners/sparkha-east-9000",
            r#"{"Protocol":"http","Address":{"Network":"tcp","Address":"0.0.0.0:9000"}}"#,
        ),
        ("/vulcand2/listeners/x", "text"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    foreign.iter().for_each(|(key, value)| etcd.put(key, value));

    let before = etcd.revision();
    let apply = |more: &[&str]| home.run(&[&["route", "apply", "--etcd", "127.0.7.11:2379"], more].concat());
    // An image may have no root certificates; HTTP needs none.
    let mut bare = home.command(&["route", "apply", "--etcd", "127.0.7.11:2379", "--dry-run"]);
    bare.env("SSL_CERT_FILE", "/dev/null")
        .env("SSL_CERT_DIR", "/nonexistent");
    Run::from(bare.output().unwrap()).exits(0);
    let told = apply(&["--dry-run"]).exits(0).stdout;
    assert!(told.contains("would write spark-master.default.k8s"), "{told}");
    assert_eq!(etcd.revision(), before, "a dry run writes nothing");
    assert_eq!(apply(&[]).exits(0).stdout, "5 written, 0 deleted, 0 unchanged\n");

    let expected = |workers: &[&str]| -> BTreeMap<String, Value> {
        let master = home.address("spark", "spark-master-0");
        let mut all = vec![listener(8080), listener(8081)];
        all.extend(keys_of("spark-master.default.k8s", &format!("http://{master}:8080")));
        all.extend(keys_of(
            &host(&home, "spark-master-0"),
            &format!("http://{master}:8080"),
        ));
        for pod in workers {
            all.extend(keys_of(
                &host(&home, pod),
                &format!("http://{}:8081", home.address("spark", pod)),
            ));
        }
        all.into_iter().collect()
    };
    let ours = || -> BTreeMap<String, Value> {
        let keys = etcd.keys().into_iter().filter(|(key, _)| !foreign.contains_key(key));
        keys.map(|(key, value)| (key, serde_json::from_str(&value).unwrap()))
            .collect()
    };
    assert_eq!(ours(), expected(&["spark-worker-0"]));

    let revision = etcd.revision();
    assert_eq!(apply(&[]).exits(0).stdout, "0 written, 0 deleted, 3 unchanged\n");
    assert_eq!(etcd.revision(), revision, "what is there is not written again");

    // One host more is one transaction, and none of the others is touched.
    home.run(&["create", "--masters", "1", "--workers", "2"]).exits(0);
    assert_eq!(apply(&[]).exits(0).stdout, "1 written, 0 deleted, 3 unchanged\n");
    assert_eq!(etcd.revision(), revision + 1);
    assert_eq!(ours(), expected(&["spark-worker-0", "spark-worker-1"]));

    // The same hosts in another name are somebody else's; nothing is written.
    let revision = etcd.revision();
    apply(&["--owner", "west"])
        .exits(5)
        .says("sparkha.local.default of another owner")
        .says("--owner");
    assert_eq!(etcd.revision(), revision);

    // What is lost comes back.
    let lost = format!("/vulcand/frontends/{}/frontend", host(&home, "spark-worker-1"));
    etcd.call("kv/deleterange", &json!({"key": BASE64_STANDARD.encode(&lost)}));
    assert_eq!(apply(&[]).exits(0).stdout, "1 written, 0 deleted, 3 unchanged\n");
    assert_eq!(ours(), expected(&["spark-worker-0", "spark-worker-1"]));

    // Whoever uses a listener keeps it.
    let theirs = "/vulcand/backends/spark-10-0-0-1.x.y/servers/sparkha.east.x";
    foreign.insert(theirs.into(), r#"{"URL":"http://10.0.0.1:8081"}"#.into());
    etcd.put(theirs, &foreign[theirs]);
    home.run(&["teardown"]).exits(0);
    let remove = |more: &[&str]| home.run(&[&["route", "remove", "--etcd", "127.0.7.11:2379"], more].concat());
    assert_eq!(
        remove(&["--namespace", "other"]).exits(0).stdout,
        "0 written, 0 deleted, 0 unchanged\n"
    );
    assert_eq!(remove(&[]).exits(0).stdout, "0 written, 5 deleted, 0 unchanged\n");
    foreign.insert(listener(8081).0, listener(8081).1.to_string());
    assert_eq!(etcd.keys(), foreign);
}

#[test]
fn routes_with_a_time_to_live_go_by_themselves() {
    let home = Home::new();
    let etcd = Etcd::start(&home, "127.0.7.12");
    home.run(&["create", "--masters", "1", "--workers", "0"]).exits(0);
    let apply = |more: &[&str]| home.run(&[&["route", "apply", "--etcd", "127.0.7.12:2379"], more].concat());
    apply(&["--ttl", "1s"]).exits(2).says("--ttl");
    apply(&["--ttl", "5s"]).exits(0);
    let leases = etcd.leases();
    assert_eq!(leases.len(), 6, "two hosts, and not the listener");
    // Applied again, the lease is prolonged and nothing written.
    let revision = etcd.revision();
    assert_eq!(
        apply(&["--ttl", "5s"]).exits(0).stdout,
        "0 written, 0 deleted, 2 unchanged\n"
    );
    assert_eq!((etcd.revision(), etcd.leases()), (revision, leases));
    let only_listener = || etcd.keys().keys().all(|key| key.starts_with("/vulcand/listeners/"));
    home.wait_for(READY, "the lease to run out", only_listener);
    assert_eq!(
        apply(&["--ttl", "1h"]).exits(0).stdout,
        "2 written, 0 deleted, 0 unchanged\n"
    );
    // Without, they stay for ever: they are taken off their lease.
    assert_eq!(apply(&[]).exits(0).stdout, "2 written, 0 deleted, 0 unchanged\n");
    assert_eq!(etcd.leases(), Vec::<String>::new());
    home.run(&["teardown"]).exits(0);
}

#[test]
fn etcd_with_certificates_users_and_a_member_that_is_down() {
    let home = Home::new();
    let folder = home.folder.path().join("certificates");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(
        folder.join("extensions"),
        "subjectAltName=IP:127.0.7.13\nextendedKeyUsage=serverAuth,clientAuth\n",
    )
    .unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(
        &folder,
        &format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=ca -days 2"),
    );
    for name in ["server", "client"] {
        openssl(
            &folder,
            &format!("req {key} -keyout {name}.key -out {name}.csr -subj /O={name}"),
        );
        openssl(
            &folder,
            &format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out {name}.pem"
            ),
        );
    }
    let path = |name: &str| folder.join(name).display().to_string();
    let etcd = Etcd::with(
        &home,
        "127.0.7.13",
        &["https://127.0.7.13:2381".into()],
        &[
            "--client-cert-auth",
            "--trusted-ca-file",
            &path("ca.pem"),
            "--cert-file",
            &path("server.pem"),
            "--key-file",
            &path("server.key"),
        ],
    );
    // A user that may write Vulcand's keys and no others.
    let encode = |text| BASE64_STANDARD.encode(text);
    for (path, body) in [
        ("auth/user/add", json!({"name": "root", "password": "root's"})),
        ("auth/role/add", json!({"name": "root"})),
        ("auth/user/grant", json!({"user": "root", "role": "root"})),
        ("auth/user/add", json!({"name": "router", "password": "the-password"})),
        ("auth/role/add", json!({"name": "routes"})),
        (
            "auth/role/grant",
            json!({"name": "routes", "perm": {
                "permType": "READWRITE", "key": encode("/vulcand/"), "range_end": encode("/vulcand0"),
            }}),
        ),
        ("auth/user/grant", json!({"user": "router", "role": "routes"})),
        ("auth/enable", json!({})),
    ] {
        etcd.call(path, &body);
    }
    let answer = etcd.call("auth/authenticate", &json!({"name": "root", "password": "root's"}));
    *etcd.token.lock().unwrap() = answer["token"].as_str().unwrap().to_owned();

    home.run(&["create", "--masters", "1", "--workers", "0"]).exits(0);
    let (ca, certificate, key) = (path("ca.pem"), path("client.pem"), path("client.key"));
    // The first of the endpoints is down.
    let endpoints = "127.0.7.13:4001,127.0.7.13:2381";
    let tls = ["--etcd-ca", &ca, "--etcd-cert", &certificate, "--etcd-key", &key];
    let user = ["--etcd-user", "router"];
    let apply = |more: &[&[&str]], password: &str| {
        let arguments = [&[&["route", "apply", "--etcd", endpoints][..]], more]
            .concat()
            .concat();
        let mut command = home.command(&arguments);
        if !password.is_empty() {
            command.env("SPARKHA_ETCD_PASSWORD", password);
        }
        Run::from(command.output().unwrap())
    };
    // Without its certificate nobody gets in, without its CA it is not trusted, without a user nothing is allowed.
    apply(&[&tls[..2], &user], "the-password")
        .exits(3)
        .says("127.0.7.13:2381");
    apply(&[&user], "the-password").exits(3);
    apply(&[&tls], "").exits(4).says("--etcd-user");
    apply(&[&tls, &user], "").exits(2).says("SPARKHA_ETCD_PASSWORD");
    let refused = apply(&[&tls, &user, &["-vv"]], "not-the-password")
        .exits(4)
        .says("authentication failed");
    assert!(!refused.stderr.contains("not-the-password"), "{}", refused.stderr);
    assert!(etcd.keys().is_empty());

    let applied = apply(&[&tls, &user, &["-vv"]], "the-password").exits(0);
    assert_eq!(applied.stdout, "3 written, 0 deleted, 0 unchanged\n");
    assert!(!applied.stderr.contains("the-password"), "{}", applied.stderr);
    assert!(
        etcd.keys()
            .contains_key("/vulcand/frontends/spark-master.default.k8s/frontend")
    );
    let file = path("password");
    std::fs::write(&file, "the-password\n").unwrap();
    let from_file = ["--etcd-password-file", &file];
    assert_eq!(
        apply(&[&tls, &user, &from_file], "").exits(0).stdout,
        "0 written, 0 deleted, 2 unchanged\n"
    );
    // Below another root it may not.
    apply(&[&tls, &user, &["--etcd-root", "elsewhere"]], "the-password")
        .exits(4)
        .says("permission denied");
    home.run(&["teardown"]).exits(0);
}

#[test]
fn without_any_etcd_the_error_says_where() {
    let down = ["--namespace", "x", "--etcd", "127.0.7.14:2379,127.0.7.14:4001"];
    run(&[&["route", "remove"][..], &down].concat())
        .exits(3)
        .says("failed to reach etcd")
        .says("http://127.0.7.14:2379")
        .says("http://127.0.7.14:4001")
        .says("help: check the addresses");
    run(&["route", "remove", "-A"]).exits(2).says("--etcd");
    run(&["route", "remove", "-A", "--etcd", "a:1", "--owner", "a.b"])
        .exits(2)
        .says("--owner");
    run(&["route", "remove", "-A", "--vulcand-api", "http://127.0.7.14:8182"])
        .exits(3)
        .says("failed to reach Vulcand's API at http://127.0.7.14:8182/");
}

#[test]
fn what_others_write_meanwhile_is_noticed_and_what_passes_is_tried_again() {
    let home = Home::new();
    let etcd = Arc::new(Etcd::start(&home, "127.0.7.15"));
    home.run(&["create", "--masters", "1", "--workers", "0"]).exits(0);
    let theirs = "/vulcand/backends/spark-master.default.k8s/servers/canary";
    let (behind, reads, writes) = (etcd.clone(), AtomicU32::new(0), Arc::new(AtomicU32::new(0)));
    let counted = writes.clone();
    let _between = HttpServer::start("127.0.7.15:4001", move |request: &Request| {
        if request.path == "/v3/kv/range" && reads.fetch_add(1, Ordering::SeqCst) == 0 {
            return (
                503,
                r#"{"error":"x","message":"etcdserver: no leader","code":14}"#.into(),
            );
        }
        if request.path == "/v3/kv/txn" && counted.fetch_add(1, Ordering::SeqCst) == 0 {
            // Somebody is quicker.
            behind.put(
                "/vulcand/backends/spark-master.default.k8s/backend",
                r#"{"Type":"http"}"#,
            );
            behind.put(theirs, r#"{"URL":"http://192.0.2.1:80"}"#);
        }
        ask(&behind.plain, "POST", &request.path, "", &request.body).unwrap()
    });
    let apply = || home.run(&["route", "apply", "--etcd", "127.0.7.15:4001"]);
    apply().exits(5).says("server canary of another owner");
    assert_eq!(writes.load(Ordering::SeqCst), 1);
    assert_eq!(etcd.keys().len(), 2, "nothing of ours: {:?}", etcd.keys());
    // What was read anew is gone on with.
    for key in [theirs, "/vulcand/backends/spark-master.default.k8s/backend"] {
        etcd.call("kv/deleterange", &json!({"key": BASE64_STANDARD.encode(key)}));
    }
    assert_eq!(apply().exits(0).stdout, "3 written, 0 deleted, 0 unchanged\n");
    home.run(&["teardown"]).exits(0);
}

#[test]
fn a_token_that_is_of_the_past_is_replaced() {
    let tokens = Arc::new(AtomicU32::new(0));
    let given = tokens.clone();
    let ours = BASE64_STANDARD.encode("/vulcand/backends/a.b.k8s/servers/sparkha.kubernetes.b");
    let ours = json!({"header": {}, "kvs": [{"key": ours, "value": "e30=", "mod_revision": "7"}]}).to_string();
    let _etcd = HttpServer::start("127.0.7.18:2379", move |request: &Request| {
        match (request.path.as_str(), request.authorization.as_str()) {
            ("/v3/auth/authenticate", _) => {
                let number = given.fetch_add(1, Ordering::SeqCst) + 1;
                (
                    200,
                    json!({"header": {}, "token": format!("token{number}")}).to_string(),
                )
            }
            // The first is good for reading once.
            ("/v3/kv/range", "token1") => (200, ours.clone()),
            ("/v3/kv/txn", "token2") => (200, json!({"header": {}, "succeeded": true}).to_string()),
            _ => (
                401,
                json!({"message": "etcdserver: invalid auth token", "code": 16}).to_string(),
            ),
        }
    });
    let remove = || {
        let mut command = sparkha(&["route", "remove", "-A", "--etcd", "127.0.7.18:2379", "--etcd-user", "u"]);
        command.env("SPARKHA_ETCD_PASSWORD", "p");
        Run::from(command.output().unwrap())
    };
    assert_eq!(remove().exits(0).stdout, "0 written, 1 deleted, 0 unchanged\n");
    assert_eq!(tokens.load(Ordering::SeqCst), 2);
    // One that is refused though it is new is not asked for again and again.
    remove().exits(4).says("invalid auth token");
    assert_eq!(tokens.load(Ordering::SeqCst), 3);
}

/// Vulcand's API over objects by their paths, as `api.go` and the etcd engine behave: values get defaults, lists may be null, what is
/// deleted goes with all that begins with the same.
#[derive(Default)]
struct FakeVulcand {
    objects: BTreeMap<String, Value>,
    ttls: BTreeMap<String, String>,
    writes: Vec<String>,
}

impl FakeVulcand {
    fn answer(&mut self, request: &Request) -> (u16, String) {
        let path: Vec<_> = request.path.trim_start_matches("/v2/").split('/').collect();
        let error = |status: u16, message: &str| (status, json!({"message": message}).to_string());
        if request.method != "GET" {
            self.writes.push(format!("{} {}", request.method, request.path));
        }
        match (request.method.as_str(), &path[..]) {
            ("GET", [kind]) => (200, self.list(kind, &format!("{kind}/"))),
            ("GET", ["backends", backend, "servers"]) => {
                (200, self.list("servers", &format!("backends/{backend}/servers/")))
            }
            ("POST", [.., kind]) => {
                if request.content_type != "application/json" {
                    return error(500, "unexpected end of JSON input");
                }
                let body: Value = serde_json::from_str(&request.body).unwrap();
                let field = match *kind {
                    "listeners" => "Listener",
                    "backends" => "Backend",
                    "servers" => "Server",
                    "frontends" => "Frontend",
                    _ => return error(404, "Object not found"),
                };
                let mut value = body[field].clone();
                let key = format!("{}/{}", path.join("/"), value["Id"].as_str().unwrap());
                let backend = match *kind {
                    "servers" => Some(path[1]),
                    "frontends" => value["BackendId"].as_str(),
                    _ => None,
                };
                if backend.is_some_and(|id| !self.objects.contains_key(&format!("backends/{id}"))) {
                    return error(500, "Key not found");
                }
                if *kind == "frontends" {
                    value["Settings"]["Limits"] = json!({"MaxMemBodyBytes": 0, "MaxBodyBytes": 0});
                    value["Settings"]["FailoverPredicate"] = json!("");
                }
                if *kind == "listeners" {
                    value["Scope"] = json!("");
                }
                self.ttls
                    .insert(key.clone(), body["TTL"].as_str().unwrap_or_default().to_owned());
                self.objects.insert(key, value.clone());
                (200, value.to_string())
            }
            ("DELETE", _) => {
                let prefix = path.join("/");
                if let ["backends", id] = path[..]
                    && self.objects.values().any(|value| value["BackendId"] == id)
                {
                    return error(500, "can not delete backend, it is in use");
                }
                self.objects.retain(|key, _| !key.starts_with(&prefix));
                (200, json!({"message": "deleted"}).to_string())
            }
            _ => error(404, "Object not found"),
        }
    }

    fn list(&self, kind: &str, prefix: &str) -> String {
        let of_kind = |key: &String| key.strip_prefix(prefix).is_some_and(|rest| !rest.contains('/'));
        let list: Vec<_> = self
            .objects
            .iter()
            .filter(|(key, _)| of_kind(key))
            .map(|(_, value)| value)
            .collect();
        let field = kind[..1].to_uppercase() + &kind[1..];
        let list = if list.is_empty() { Value::Null } else { json!(list) };
        json!({field: list}).to_string()
    }
}

#[test]
fn vulcands_api_gets_the_same() {
    let home = Home::new();
    let vulcand = Arc::new(Mutex::new(FakeVulcand::default()));
    let behind = vulcand.clone();
    let _server = HttpServer::start("127.0.7.16:8182", move |request: &Request| {
        behind.lock().unwrap().answer(request)
    });
    let shop = json!({"Id": "shop", "Type": "http", "BackendId": "shop", "Route": "Host(`shop.example`)"});
    vulcand
        .lock()
        .unwrap()
        .objects
        .insert("frontends/shop".into(), shop.clone());
    home.run(&["create", "--masters", "1", "--workers", "1"]).exits(0);
    let apply =
        |more: &[&str]| home.run(&[&["route", "apply", "--vulcand-api", "http://127.0.7.16:8182"], more].concat());
    let writes = || std::mem::take(&mut vulcand.lock().unwrap().writes);

    assert_eq!(apply(&[]).exits(0).stdout, "5 written, 0 deleted, 0 unchanged\n");
    let written = writes();
    assert_eq!(written.len(), 2 + 3 * 3);
    assert_eq!(written[0], "POST /v2/listeners");
    let master = home.address("spark", "spark-master-0");
    {
        let vulcand = vulcand.lock().unwrap();
        let server = &vulcand.objects["backends/spark-master.default.k8s/servers/sparkha.local.default"];
        assert_eq!(server["URL"], format!("http://{master}:8080"));
        assert_eq!(
            vulcand.objects["frontends/spark-master.default.k8s"]["Settings"]["PassHostHeader"],
            true
        );
    }
    // What the API adds to values is no difference. How long servers and frontends live it does not tell, so they are written again each time.
    assert_eq!(apply(&[]).exits(0).stdout, "0 written, 0 deleted, 3 unchanged\n");
    assert_eq!(writes().len(), 6);
    assert_eq!(
        apply(&["--ttl", "60s"]).exits(0).stdout,
        "0 written, 0 deleted, 3 unchanged\n"
    );
    assert_eq!(writes().len(), 6);
    {
        let vulcand = vulcand.lock().unwrap();
        assert_eq!(vulcand.ttls["frontends/spark-master.default.k8s"], "60s");
        assert_eq!(vulcand.ttls["backends/spark-master.default.k8s"], "");
    }
    // Without, they stay for ever.
    assert_eq!(apply(&[]).exits(0).stdout, "0 written, 0 deleted, 3 unchanged\n");
    assert_eq!(vulcand.lock().unwrap().ttls["frontends/spark-master.default.k8s"], "");
    writes();

    // Another owner's hosts are not taken.
    apply(&["--owner", "west"])
        .exits(5)
        .says("sparkha.local.default of another owner");
    home.run(&["create", "--masters", "1", "--workers", "0"]).exits(0);
    assert_eq!(apply(&[]).exits(0).stdout, "0 written, 2 deleted, 2 unchanged\n");
    home.run(&["teardown"]).exits(0);
    let remove = home.run(&["route", "remove", "--vulcand-api", "http://127.0.7.16:8182"]);
    assert_eq!(remove.exits(0).stdout, "0 written, 3 deleted, 0 unchanged\n");
    let left: Vec<_> = vulcand.lock().unwrap().objects.clone().into_iter().collect();
    assert_eq!(left, [("frontends/shop".to_owned(), shop)]);
}

#[test]
fn check_says_what_is_wrong() {
    const ROUTER: &str = "127.0.7.17";
    let home = Home::new();
    let _etcd = Etcd::start(&home, ROUTER);
    home.run(&["create", "--masters", "1", "--workers", "1"]).exits(0);
    let rendered = |format: &str, more: &[&str]| {
        home.run(&[&["route", "render", "--format", format], more].concat())
            .exits(0)
            .stdout
    };
    let folder = home.folder.path().join("router");
    std::fs::create_dir(&folder).unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let dns = |name: &str, address: &str| {
        let file = write(name, &rendered("dnsmasq", &["--router-address", address]));
        let server = dnsmasq(ROUTER, &[format!("--conf-file={}", file.display())]);
        home.wait_for(READY, "dnsmasq", || TcpStream::connect((ROUTER, DNSMASQ_PORT)).is_ok());
        server
    };
    write("routes.conf", &rendered("nginx", &["--listen", ROUTER]));
    let configuration = write(
        "nginx.conf",
        &format!(
            "daemon off;\nmaster_process off;\npid '{0}/pid';\nerror_log '{0}/error.log';\nevents {{}}\nhttp {{\n access_log off;\n \
             client_body_temp_path '{0}/b'; proxy_temp_path '{0}/p'; fastcgi_temp_path '{0}/f'; uwsgi_temp_path '{0}/u'; \
             scgi_temp_path '{0}/s';\n include '{0}/routes.conf';\n}}\n",
            folder.display()
        ),
    );
    let nginx = Server::start(Command::new("/usr/sbin/nginx").arg("-c").arg(&configuration));
    home.wait_for(READY, "nginx", || TcpStream::connect((ROUTER, 8081)).is_ok());
    let dnsmasq = dns("right.conf", ROUTER);

    let check = |more: &[&str]| {
        let server = format!("{ROUTER}:5353");
        home.run(&[&["route", "check", "--dns", &server], more].concat())
    };
    let in_etcd = ["--etcd", "127.0.7.17:2379"];
    let table = check(&["--router", ROUTER]).exits(0).stdout;
    assert_eq!(table.matches("right").count(), 3, "{table}");
    // Names that all lead to the same are enough.
    check(&[]).exits(0);
    // Vulcand has not been told.
    let told = check(&in_etcd).exits(9).stdout;
    assert!(
        told.contains("spark-master.default.k8s:8080: Vulcand has no such route"),
        "{told}"
    );
    assert!(told.contains("help: run `sparkha route apply --local`"), "{told}");
    home.run(&[&["route", "apply", "--ttl", "1h"][..], &in_etcd].concat())
        .exits(0);
    check(&in_etcd).exits(0);
    // It does what a browser does, so one page less is noticed by its host.
    home.run(&["create", "--masters", "1", "--workers", "2"]).exits(0);
    let report = check(&["-o", "json"]).exits(9).json();
    let wrong: Vec<_> = report["routes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|route| route["problems"] != json!([]))
        .collect();
    assert_eq!(wrong.len(), 1, "{report}");
    assert_eq!(wrong[0]["host"], host(&home, "spark-worker-1"));
    assert_eq!(wrong[0]["problems"][0]["check"], "page");
    assert!(wrong[0]["problems"][0]["message"].as_str().unwrap().contains("404"));

    // The name server leads elsewhere; the router itself is all right but for the new worker.
    drop(dnsmasq);
    let _dnsmasq = dns("wrong.conf", "127.0.7.18");
    let told = check(&["--router", ROUTER]).exits(9).stdout;
    assert!(
        told.contains("it resolves to 127.0.7.18, but the router is at 127.0.7.17"),
        "{told}"
    );
    assert_eq!(told.matches("wrong name, page").count(), 1, "{told}");
    drop(nginx);
    let told = check(&["--router", ROUTER]).exits(9).stdout;
    assert!(told.contains("127.0.7.17:8080 does not answer"), "{told}");
    home.run(&["teardown"]).exits(0);
}

#[test]
fn a_watch_keeps_routes_current_through_every_loss() {
    const IP: &str = "127.0.7.19";
    let home = Home::new();
    let etcd = Etcd::start(&home, IP);
    home.run(&["create", "--masters", "2", "--workers", "1"]).exits(0);
    let (store, metrics) = (format!("{IP}:2379"), format!("{IP}:9090"));
    let watch = || {
        let ttl = ["--ttl", "8s", "--metrics", &metrics];
        Server::start(&mut home.command(&[&["route", "watch", "--etcd", &store][..], &ttl].concat()))
    };
    let is_ready = || ask(&metrics, "GET", "/readyz", "", "").is_some_and(|(status, _)| status == 200);
    let wait_for = |what: &str, condition: &mut dyn FnMut() -> bool| home.wait_for(READY, what, condition);
    let url_of = |etcd: &Etcd, host: &str| {
        let key = format!("/vulcand/backends/{host}/servers/sparkha.local.default");
        etcd.keys().get(&key).cloned()
    };
    let leader = |etcd: &Etcd| url_of(etcd, "spark-master.default.k8s");

    let watching = watch();
    wait_for("the first routes", &mut is_ready.clone());
    let first_leader = leader(&etcd).expect("the leader's route");
    assert_eq!(
        etcd.leases().len(),
        etcd.keys().len() - 2,
        "all but the listeners go by themselves"
    );

    // One worker more is one host more, and nothing else is written.
    let revision = etcd.revision();
    home.run(&["create", "--masters", "2", "--workers", "2"]).exits(0);
    let second = host(&home, "spark-worker-1");
    wait_for("the second worker's route", &mut || url_of(&etcd, &second).is_some());
    assert_eq!(etcd.revision(), revision + 1);
    home.run(&["create", "--masters", "2", "--workers", "1"]).exits(0);
    wait_for("its end", &mut || url_of(&etcd, &second).is_none());

    // The leader's name follows the leader.
    let status = home.status("spark");
    let masters = status["masters"].as_array().unwrap();
    let led = masters.iter().find(|master| master["status"] == "ALIVE").unwrap();
    signal(home.process("spark", led["name"].as_str().unwrap()), "KILL");
    wait_for("another leader's route", &mut || {
        leader(&etcd).is_some_and(|url| url != first_leader)
    });

    // Its own restart changes nothing.
    drop(watching);
    let keys = etcd.keys();
    let watching = watch();
    wait_for("the watch's restart", &mut is_ready.clone());
    assert_eq!(etcd.keys(), keys);

    // An etcd that lost everything has it back.
    drop(etcd);
    wait_for("the loss to be noticed", &mut || !is_ready());
    let etcd = Etcd::start(&home, IP);
    wait_for("everything to be there again", &mut || {
        is_ready() && etcd.keys() == keys
    });
    let (_, told) = ask(&metrics, "GET", "/metrics", "", "").unwrap();
    let failures = told
        .lines()
        .find_map(|line| line.strip_prefix("sparkha_route_failures_total "));
    assert!(failures.unwrap().parse::<u32>().unwrap() > 0, "{told}");

    // Nobody prolongs what a dead watch wrote.
    drop(watching);
    wait_for("the routes' end", &mut || etcd.leases().is_empty());
    assert_eq!(etcd.keys().len(), 2, "the listeners");
    home.run(&["teardown"]).exits(0);
}
