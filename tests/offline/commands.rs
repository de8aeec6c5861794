//! Commands as they are given: help, completions, manual pages, bad input, exit codes, and output that cannot be written.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use serde_json::json;

use crate::kit::{Run, file, run, sparkha, wait_for};

#[test]
fn man_pages_for_every_command() {
    let folder = tempfile::tempdir().unwrap();
    run(&["man", folder.path().to_str().unwrap()]).exits(0);
    let page = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    assert!(page("sparkha.1").contains("sparkha\\-create(1)"));
    assert!(page("sparkha-status.1").contains("sparkha status \\-\\-watch"));
    assert!(page("sparkha-route-render.1").contains("traefik"));
}

#[test]
fn the_schema_describes_every_key() {
    let schema = run(&["schema"]).exits(0).json();
    assert_eq!(schema["title"], "sparkha.yaml");
    for key in [
        "image",
        "masters",
        "workers",
        "zookeeper",
        "sparkConf",
        "env",
        "s3",
        "webUi",
    ] {
        assert!(schema["properties"][key].is_object(), "{key}");
    }
}

#[test]
fn every_shell_gets_its_completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(
            run(&["completions", shell]).exits(0).stdout.contains("teardown"),
            "{shell}"
        );
    }
}

#[test]
fn help_has_examples_and_exit_codes() {
    let help = run(&["--help"]).exits(0).stdout;
    assert!(help.contains("Exit codes:"), "{help}");
    for command in ["create", "render", "teardown", "status", "list", "router"] {
        let help = run(&[command, "--help"]).exits(0).stdout;
        assert!(help.contains("Examples:"), "{command}");
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let file = file("mastres: 3\nworkers:\n  count: two\n  memory: 2Gb\nzookeeper: {count: 4}\n");
    let path = file.path().to_str().unwrap();
    run(&["render", "-f", path, "--worker-memory", "lots"])
        .exits(2)
        .says(&format!("{path}:1:1: mastres: unknown key"))
        .says("did you mean `masters`?")
        .says(&format!("{path}:3:10: workers.count: must be a whole number"))
        .says(&format!("{path}:5:20: zookeeper.count: 4 ZooKeeper servers"))
        .says("--worker-memory: `lots` is not an amount of memory")
        .says("mistakes found; nothing was changed");
}

#[test]
fn secrets_in_plain_text_are_warned_of_by_name() {
    let file = file(
        "env: {DB_PASSWORD: hunter2, MODE: fast}\nworkers: {env: {API_TOKEN: {secretKeyRef: {name: a, key: b}}}}\n",
    );
    let said = run(&["render", "-f", file.path().to_str().unwrap()])
        .exits(0)
        .says("env has DB_PASSWORD in plain text");
    assert!(!said.stderr.contains("hunter2"), "{}", said.stderr);
}

#[test]
fn a_router_that_others_reach_says_whom_it_lets_in() {
    let routes = file("[]");
    let routes = ["router", "--routes", routes.path().to_str().unwrap()];
    let everywhere = [&routes[..], &["--listen", "0.0.0.0"]].concat();
    run(&everywhere)
        .exits(2)
        .says("at 0.0.0.0 the router is reachable by others")
        .says("--users or --tokens, or pass --open");
    run(&[&everywhere[..], &["--open", "--users", "x"]].concat()).exits(2);
    for service_type in ["node-port", "load-balancer"] {
        let deploy = [
            "router",
            "--deploy",
            "--image",
            "sparkha:1",
            "--service-type",
            service_type,
        ];
        run(&deploy).exits(2).says("reachable from outside");
    }
    let deploy = ["router", "--deploy", "--image", "sparkha:1", "--print"];
    run(&deploy)
        .exits(2)
        .says("every pod can connect to a deployed router, which would show all web UIs to everyone");
    for ignored in ["--port=8443", "--listen=0.0.0.0", "--dns=0.0.0.0:5300"] {
        run(&[
            &deploy[..],
            &["--open", "--address", "192.0.2.7", "--dns", "0.0.0.0", ignored],
        ]
        .concat())
        .exits(2)
        .says("have no effect with --deploy");
    }
    run(&[&deploy[..], &["--open", "--dns", "192.0.2.7"]].concat())
        .exits(2)
        .says("the address for the DNS answers is unknown");
    run(&[&deploy[..], &["--no-http", "--dns", "192.0.2.7"]].concat()).exits(2);
}

#[test]
fn bad_arguments_are_bad_input() {
    run(&["create", "Spark"]).exits(2).says("not a valid cluster name");
    run(&["create", "--masters", "x"]).exits(2);
    run(&["explode"]).exits(2);
    // Before the subcommand and after it, a global flag is the same.
    run(&["create", "--spark-home", "/usr"])
        .exits(2)
        .says("requires --local");
    run(&["--local", "submit", "--image", "x", "--", "job.py"])
        .exits(2)
        .says("conflicts with --local");
    run(&["render", "-f", "/nonexistent/sparkha.yaml"])
        .exits(2)
        .says("failed to read the cluster file");
    run(&["teardown", "--timeout", "soon"]).exits(2).says("90s");
    run(&["create", "--workers", "-1"])
        .exits(2)
        .says("-1 is not in 0..=1000");
    run(&["create", "--worker-cores", "1.5"])
        .exits(2)
        .says("invalid value '1.5' for '--worker-cores <N>': write a whole number, such as 2");
    run(&["create", "--worker-cores", "0"])
        .exits(2)
        .says("0 is not at least 1");
}

#[test]
fn mistakes_of_newcomers_are_answered_with_the_line_to_type() {
    run(&["submit", "wc.py", "3"])
        .exits(2)
        .says("error: the application wc.py must come after `--`\n  help: type: sparkha submit -- wc.py 3\n");
    run(&["scale", "3"]).exits(2).says("type: sparkha scale --workers 3\n");
    let nowhere = sparkha(&["status"])
        .env("HOME", "/nonexistent")
        .env_remove("KUBECONFIG")
        .output()
        .unwrap();
    assert_eq!(nowhere.status.code(), Some(3));
    assert_eq!(
        String::from_utf8_lossy(&nowhere.stderr),
        "error: there is no kubeconfig at /nonexistent/.kube/config\n  \
         help: pass --kubeconfig FILE and --context NAME, or set KUBECONFIG; without a Kubernetes cluster, \
         add --local to use this machine, or print the objects with `sparkha render`\n"
    );
}

#[test]
fn a_cluster_file_that_is_no_text_is_told_with_its_line() {
    let file = file("");
    std::fs::write(file.path(), b"name: a\nimage: \xff\n").unwrap();
    run(&["render", "-f", file.path().to_str().unwrap()])
        .exits(2)
        .says("line 2 is not UTF-8");
}

#[test]
fn the_cluster_file_may_come_from_standard_input() {
    let mut child = sparkha(&["render", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"name: etl\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("name: etl-master-0"));
}

#[test]
fn what_cannot_be_written_is_told_as_what_it_is() {
    run(&["man", "/dev/null/x"])
        .exits(1)
        .says("failed to make folder /dev/null/x: Not a directory");
    // A page's name is taken by a folder.
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("sparkha.1")).unwrap();
    run(&["man", folder.path().to_str().unwrap()]).exits(1).says(&format!(
        "failed to write the manual pages to {}: ",
        folder.path().display()
    ));
    // A full disk is no room; a reader that has gone away is no error.
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    Run::from(
        sparkha(&["schema"])
            .stdout(full)
            .stderr(Stdio::piped())
            .output()
            .unwrap(),
    )
    .exits(8)
    .says("failed to write the output: No space left on device");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let unread: Run = sparkha(&["schema"])
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()
        .unwrap()
        .into();
    assert_eq!(unread.exits(0).stderr, "");
}

#[test]
fn a_home_of_spark_that_is_not_utf8_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join(OsStr::from_bytes(b"spark-\xff"));
    for file in ["bin/spark-class", "jars/spark-core_2.13-4.3.0.jar"] {
        let file = home.join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, "").unwrap();
    }
    let mut create = sparkha(&["create", "--local"]);
    create
        .env("HOME", folder.path())
        .env_remove("XDG_STATE_HOME")
        .env("SPARK_HOME", &home);
    // Java is not run.
    create.env("JAVA_HOME", &home);
    let rejected: Run = create.output().unwrap().into();
    rejected
        .exits(8)
        .says("the path of Spark is not UTF-8: ")
        .says("the path of Java is not UTF-8: ")
        .says("set SPARK_HOME to a symbolic link to it");
    assert!(!folder.path().join(".local").exists());
}

/// An API server that allows nothing, a kubeconfig that leads to it by an exec plugin, and how often that plugin ran.
struct Forbidding {
    folder: tempfile::TempDir,
}

impl Forbidding {
    fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = refuse(stream.unwrap());
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let plugin = folder.path().join("plugin");
        let credential = json!({
            "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "t"}
        });
        let script = format!(
            "#!/bin/sh\necho ran >>'{}/runs'\necho '{credential}'\n",
            folder.path().display()
        );
        std::fs::write(&plugin, script).unwrap();
        std::fs::set_permissions(&plugin, std::fs::Permissions::from_mode(0o755)).unwrap();
        let exec = json!({
            "apiVersion": "client.authentication.k8s.io/v1", "command": plugin, "interactiveMode": "Never"
        });
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "u", "user": {"exec": exec}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "data"}}],
        });
        std::fs::write(folder.path().join("kubeconfig"), config.to_string()).unwrap();
        Self { folder }
    }

    /// Runs sparkha; what its plugin wrote.
    fn run(&self, arguments: &[&str]) -> (Run, usize) {
        let runs = self.folder.path().join("runs");
        let _ = std::fs::remove_file(&runs);
        let mut command = sparkha(arguments);
        let run = command
            .env("KUBECONFIG", self.folder.path().join("kubeconfig"))
            .output()
            .unwrap();
        let ran = std::fs::read_to_string(&runs).unwrap_or_default();
        (run.into(), ran.lines().count())
    }
}

/// Answers one request with 403.
fn refuse(mut stream: std::net::TcpStream) -> std::io::Result<()> {
    let mut head = BufReader::new(stream.try_clone()?).lines();
    while head.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "message": "no", "code": 403
    })
    .to_string();
    write!(
        stream,
        "HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{status}",
        status.len()
    )
}

#[test]
fn a_command_connects_to_kubernetes_once() {
    let server = Forbidding::start();
    // A client asks the plugin more than once for itself.
    let once = server.run(&["status"]).1;
    assert_ne!(once, 0);
    let etcd = ["--etcd", "127.0.0.1:1"];
    for arguments in [
        &["route", "check"][..],
        &[&["route", "apply"], &etcd[..]].concat(),
        &[&["route", "apply", "-A"], &etcd[..]].concat(),
        &["route", "render", "--format", "json"],
        &[&["route", "watch"], &etcd[..]].concat(),
        &["doctor"],
        &["create"],
    ] {
        let (run, connections) = server.run(arguments);
        assert_ne!(run.code, Some(0), "{arguments:?}");
        assert_eq!(connections, once, "{arguments:?}: {}", run.stderr);
    }
    // What the routes' names say is enough.
    let remove = [&["route", "remove", "--namespace", "data"], &etcd[..]].concat();
    assert_eq!(server.run(&remove).1, 0);
}

#[test]
fn hints_name_the_cluster_that_was_asked_for() {
    run(&["status", "etl", "--namespace", "data", "--kubeconfig", "/nonexistent"])
        .exits(3)
        .says("`sparkha render etl --namespace data --kubeconfig /nonexistent`");
    let home = tempfile::tempdir().unwrap();
    let nowhere = sparkha(&["local", "env"]).env("XDG_STATE_HOME", home.path()).output();
    Run::from(nowhere.unwrap())
        .exits(7)
        .says("`sparkha list -A --local` lists the clusters, `sparkha create --local` creates one");
}

#[test]
fn ui_opens_the_browser_or_says_what_to_open() {
    let folder = tempfile::tempdir().unwrap();
    let start = |path: &Path| {
        let mut ui = sparkha(&["ui", "--local", "--port", "0", "--open"]);
        let ui = ui.env("XDG_STATE_HOME", folder.path()).env("PATH", path);
        ui.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let first_line = |from: &mut dyn std::io::Read| {
        let mut line = String::new();
        BufReader::new(from).read_line(&mut line).unwrap();
        line
    };
    let browser = folder.path().join("xdg-open");
    let opened = folder.path().join("opened");
    std::fs::write(&browser, format!("#!/bin/sh\necho \"$1\" >{}\n", opened.display())).unwrap();
    std::fs::set_permissions(&browser, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut ui = start(folder.path());
    let url = first_line(ui.stdout.as_mut().unwrap()).replace("All web UIs: ", "");
    wait_for("the browser", || {
        std::fs::read_to_string(&opened).is_ok_and(|text| text == url)
    });
    ui.kill().unwrap();
    ui.wait().unwrap();

    let mut ui = start(Path::new("/nonexistent"));
    let url = first_line(ui.stdout.as_mut().unwrap()).replace("All web UIs: ", "");
    let warning = first_line(ui.stderr.as_mut().unwrap());
    assert!(
        warning.starts_with("! failed to open the browser (xdg-open: "),
        "{warning}"
    );
    assert!(
        warning.ends_with(&format!("open {} yourself\n", url.trim())),
        "{warning}"
    );
    ui.kill().unwrap();
    ui.wait().unwrap();
}

#[test]
fn an_import_prints_a_cluster_file_and_what_became_of_each_setting() {
    let values = file("worker: {replicaCount: 4, sidecars: [{name: agent}]}\n");
    let values = values.path().to_str().unwrap();
    let import = run(&["import", "bitnami", values]).exits(0).says("worker.sidecars");
    assert_eq!(import.stdout, "workers:\n  count: 4\n");
    let rendered = file(&import.stdout);
    run(&["render", "-f", rendered.path().to_str().unwrap()]).exits(0);
    assert_eq!(run(&["import", "bitnami", values, "--quiet"]).exits(0).stderr, "");
    let json = run(&["import", "bitnami", values, "-o", "json"]).exits(0).json();
    assert_eq!(json["clusterFile"], import.stdout);
    let first = json!({"name": "worker.replicaCount", "outcome": "carriedOver", "key": "workers.count"});
    assert_eq!(
        json["settings"]
            .as_array()
            .unwrap()
            .iter()
            .find(|setting| **setting == first),
        Some(&first)
    );

    let broken = file("worker:\n  replicaCount: 4\n  replicaCount: 5\n");
    let broken = broken.path().to_str().unwrap();
    run(&["import", "bitnami", broken])
        .exits(2)
        .says(&format!("{broken}:3:3: worker.replicaCount"));
    run(&["import", "bitnami", "/nonexistent"])
        .exits(2)
        .says("failed to read the values /nonexistent");
    run(&["import", "bitnami"]).exits(2).says("--release");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    run(&["import", "conf", path])
        .exits(2)
        .says("none of Spark's configuration files");
    std::fs::write(folder.path().join("workers"), "a\nb\n").unwrap();
    assert_eq!(run(&["import", "conf", path]).exits(0).stdout, "workers:\n  count: 2\n");
}
