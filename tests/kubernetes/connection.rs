//! How the API server is reached: through real proxies (tinyproxy, microsocks), and with credentials that a plugin prints.

use std::fs::{self, File, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::kit::server::Server;
use crate::kit::{Run, Sandbox, kubeconfig, kubectl, roles, wait_for};

/// The variables that name proxies. This machine may have some of its own.
const VARIABLES: [&str; 6] = [
    "HTTPS_PROXY",
    "https_proxy",
    "NO_PROXY",
    "no_proxy",
    "HTTP_PROXY",
    "ALL_PROXY",
];

/// A proxy of this machine, ended with the test.
struct Proxy {
    port: u16,
    log: PathBuf,
    /// How a line of the log begins its report of a connection.
    reports: &'static str,
    _server: Server,
    _folder: tempfile::TempDir,
}

impl Proxy {
    /// An HTTP proxy. `settings` are lines of its configuration.
    fn http(settings: &str) -> Self {
        Self::start("Established connection to host", |port, folder, log| {
            let path = folder.join("tinyproxy.conf");
            let log = log.display();
            let text = format!("Port {port}\nListen 127.0.0.1\nLogFile \"{log}\"\nLogLevel Connect\n{settings}\n");
            fs::write(&path, text).unwrap();
            let mut command = Command::new("tinyproxy");
            command
                .arg("-d")
                .arg("-c")
                .arg(path)
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            command
        })
    }

    /// A SOCKS proxy.
    fn socks(arguments: &[&str]) -> Self {
        Self::start("connected to", |port, _, log| {
            let mut command = Command::new("microsocks");
            command
                .args(["-i", "127.0.0.1", "-p", &port.to_string()])
                .args(arguments);
            command.stdout(Stdio::null()).stderr(File::create(log).unwrap());
            command
        })
    }

    fn start(reports: &'static str, command: impl FnOnce(u16, &Path, &Path) -> Command) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let child = command(port, folder.path(), &log).stdin(Stdio::null()).spawn();
        let proxy = Self {
            port,
            log,
            reports,
            _server: Server::of(child.expect("install tinyproxy-bin and microsocks")),
            _folder: folder,
        };
        wait_for("the proxy listens", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        proxy
    }

    /// The connections that it has made so far.
    fn connections(&self) -> usize {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().filter(|line| line.contains(self.reports)).count()
    }
}

/// A kubeconfig of one context, to be changed.
struct Config(Value);

impl Config {
    fn of(kubeconfig: &Path) -> Self {
        let path = format!("--kubeconfig={}", kubeconfig.display());
        let view = ["config", "view", "--raw", "--minify", "--flatten", "-o", "json", &path];
        Self(serde_json::from_slice(&kubectl(&view, None, None).stdout).unwrap())
    }

    fn server(&self) -> String {
        self.0["clusters"][0]["cluster"]["server"].as_str().unwrap().to_owned()
    }

    fn by_proxy(mut self, address: &str) -> Self {
        self.0["clusters"][0]["cluster"]["proxy-url"] = json!(address);
        self
    }

    /// With a user of its own instead.
    fn with_user(&self, user: Value) -> Self {
        let mut config = self.0.clone();
        config["users"][0]["user"] = user;
        Self(config)
    }

    /// A file that the user's entry contains.
    fn decoded(&self, key: &str) -> Option<String> {
        let encoded = self.0["users"][0]["user"][key].as_str()?;
        Some(String::from_utf8(BASE64.decode(encoded.as_bytes()).unwrap()).unwrap())
    }

    /// Runs sparkha with this kubeconfig.
    fn run(&self, sandbox: &Sandbox, variables: &[(&str, &str)], arguments: &[&str]) -> Run {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), self.0.to_string()).unwrap();
        let mut command = sandbox.command(arguments);
        command.env("KUBECONFIG", file.path());
        for name in VARIABLES {
            command.env_remove(name);
        }
        command.envs(variables.iter().copied()).output().unwrap().into()
    }
}

#[test]
fn proxies_of_kubeconfig_and_environment_lead_to_the_api_server() {
    let sandbox = Sandbox::without_pods("proxies");
    let config = || Config::of(&kubeconfig());
    let server = config().server();
    let host = server.trim_start_matches("https://").rsplit_once(':').unwrap().0;
    let list = |config: Config, variables: &[(&str, &str)]| config.run(&sandbox, variables, &["list"]);

    // Each has a proxy of its own: what the last command did may come late into the log.
    let open = || {
        let proxy = Proxy::http("");
        let address = format!("http://127.0.0.1:{}", proxy.port);
        (proxy, address)
    };
    let (proxy, address) = open();
    list(config().by_proxy(&address), &[]).exits(0);
    assert!(proxy.connections() > 0, "proxy-url");
    for (name, start) in [("HTTPS_PROXY", 0), ("https_proxy", "http://".len())] {
        let (proxy, address) = open();
        list(config(), &[(name, &address[start..])]).exits(0);
        assert!(proxy.connections() > 0, "{name}");
    }
    let (proxy, address) = open();
    for excepted in [
        format!("127.0.0.1,{host}"),
        format!(",{server}").replace("https://", ""),
    ] {
        list(config(), &[("HTTPS_PROXY", &address), ("NO_PROXY", &excepted)]).exits(0);
        assert_eq!(proxy.connections(), 0, "NO_PROXY={excepted}");
    }
    // What kubectl does in the same environment.
    list(config().by_proxy(&address), &[("NO_PROXY", "*")]).exits(0);
    assert!(proxy.connections() > 0, "proxy-url with NO_PROXY");

    let closed = Proxy::http("BasicAuth ann secret");
    let at = |user: &str| format!("http://{user}127.0.0.1:{}", closed.port);
    list(config(), &[("HTTPS_PROXY", &at("ann:s%65cret@"))]).exits(0);
    assert!(closed.connections() > 0);
    let through = format!("failed to reach the API server {server} through the proxy {}: ", at(""));
    let refused = list(config().by_proxy(&at("ann:hunter2@")), &[])
        .exits(3)
        .says(&through);
    assert!(!refused.stderr.contains("hunter2"), "{}", refused.stderr);

    let socks = Proxy::socks(&["-u", "ann", "-P", "p@ss"]);
    let at = |user: &str| format!("socks5://{user}127.0.0.1:{}", socks.port);
    list(config().by_proxy(&at("ann:p%40ss@")), &[]).exits(0);
    assert!(socks.connections() > 0);
    let through = format!("through the proxy {}: ", at(""));
    list(config().by_proxy(&at("")), &[]).exits(3).says(&through);
    list(config(), &[("HTTPS_PROXY", "ftp://proxy")])
        .exits(3)
        .says("the proxy in HTTPS_PROXY cannot be used");
}

/// A credential plugin: a script that counts its runs.
struct Plugin {
    folder: tempfile::TempDir,
}

impl Plugin {
    fn new(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plugin");
        fs::write(
            &path,
            format!("#!/bin/sh\ncd \"$(dirname \"$0\")\"\necho run >>runs\n{script}\n"),
        )
        .unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        Self { folder }
    }

    /// Prints these credentials.
    fn printing(status: &Value) -> Self {
        Self::new(&format!("cat <<'END'\n{}\nEND", credential(status)))
    }

    fn runs(&self) -> usize {
        fs::read_to_string(self.folder.path().join("runs"))
            .unwrap_or_default()
            .lines()
            .count()
    }

    /// The user of a kubeconfig.
    fn user(&self) -> Value {
        json!({"exec": {
            "apiVersion": "client.authentication.k8s.io/v1beta1",
            "command": self.folder.path().join("plugin"),
            "env": [{"name": "PLUGIN_SECRET", "value": "hunter2"}],
            "interactiveMode": "Never",
            "installHint": "install the program `plugin`",
        }})
    }
}

fn credential(status: &Value) -> Value {
    json!({"apiVersion": "client.authentication.k8s.io/v1beta1", "kind": "ExecCredential", "status": status})
}

#[test]
fn credentials_of_plugins_are_used_renewed_and_their_failures_reported() {
    let sandbox = Sandbox::without_pods("plugins");
    let [view, ..] = roles();
    let viewer = sandbox.kubeconfig_of("viewer", &[view]);
    let config = Config::of(viewer.path());
    let token = config.0["users"][0]["user"]["token"].clone();
    let list = |plugin: &Plugin| config.with_user(plugin.user()).run(&sandbox, &[], &["list"]);

    let plugin = Plugin::printing(&json!({"token": token}));
    list(&plugin).exits(0);
    assert_eq!(plugin.runs(), 1);

    // A token that is about to expire is renewed, and a failure of that is no broken connection.
    let expired = credential(&json!({"token": token, "expirationTimestamp": "2020-01-01T00:00:00Z"}));
    let plugin = Plugin::new(&format!(
        "if [ \"$(wc -l <runs)\" -gt 1 ]; then\n  echo 'the session has expired' >&2\n  exit 7\nfi\necho '{expired}'"
    ));
    list(&plugin)
        .exits(3)
        .says("failed (exit status: 7): the session has expired")
        .says("log in again");
    assert_eq!(plugin.runs(), 2);

    let plugin = Plugin::new("echo '{\"token\": \"top-secret\"'\necho \"$PLUGIN_SECRET\" >/dev/null\nexit 1");
    let failed = list(&plugin).exits(3).says("failed to get credentials: the plugin ");
    assert!(
        !failed.stderr.contains("hunter2") && !failed.stderr.contains("top-secret"),
        "{}",
        failed.stderr
    );
    let plugin = Plugin::new("echo '{\"status\": [\"top-secret\"'");
    let failed = list(&plugin).exits(3).says("printed no ExecCredential");
    assert!(!failed.stderr.contains("top-secret"), "{}", failed.stderr);

    let mut missing = plugin.user();
    missing["exec"]["command"] = json!("/nonexistent/plugin");
    let missing = config.with_user(missing).run(&sandbox, &[], &["list"]);
    missing
        .exits(3)
        .says("failed to start the plugin /nonexistent/plugin")
        .says("install the program `plugin`");

    let wrong = config
        .with_user(json!({"token": "wrong"}))
        .run(&sandbox, &[], &["list"]);
    wrong.exits(4).says("401 Unauthorized").says("log in again");
}

#[test]
fn a_plugin_can_print_a_certificate() {
    let sandbox = Sandbox::without_pods("certificate");
    let config = Config::of(&kubeconfig());
    // The user of an existing cluster may have none.
    let Some(certificate) = config.decoded("client-certificate-data") else {
        return;
    };
    let key = config.decoded("client-key-data").unwrap();
    let plugin = Plugin::printing(&json!({
        "clientCertificateData": certificate,
        "clientKeyData": key,
    }));
    config.with_user(plugin.user()).run(&sandbox, &[], &["list"]).exits(0);
}

#[test]
fn a_cluster_is_created_and_asked_through_a_proxy_with_a_plugin() {
    let sandbox = Sandbox::new("proxied");
    let [_, _, operate] = roles();
    let operator = sandbox.kubeconfig_of("operator", &[operate]);
    let config = Config::of(operator.path());
    let plugin = Plugin::printing(&json!({"token": config.0["users"][0]["user"]["token"]}));
    let proxy = Proxy::http("");
    let config = config
        .with_user(plugin.user())
        .by_proxy(&format!("http://127.0.0.1:{}", proxy.port));
    let run = |arguments: &[&str]| config.run(&sandbox, &[], arguments).exits(0);
    run(&["create", "--masters", "1", "--workers", "0"]);
    // The masters are asked over a forwarded port: a WebSocket through the proxy.
    let status = run(&["status", "-o", "json"]).json();
    assert_eq!(status["masters"][0]["status"], "ALIVE", "{status:#}");
    run(&["logs", "--tail", "3", "spark-master-0"]);
    run(&["teardown", "--yes"]);
    assert!(proxy.connections() > 4, "{}", proxy.connections());
    sandbox.wait_for(Duration::from_secs(30), "no pods are left", || {
        sandbox.kubectl(&["get", "pods", "-o", "name"]).is_empty()
    });
}
