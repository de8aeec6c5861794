//! What needs no Kubernetes.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::kit::server::Group;
use crate::kit::{Run, run, sparkha, wait_for};

/// Files that are sparkha's own output, and the arguments that make them. `make manifests` writes them anew.
const GENERATED: [(&str, &[&str]); 6] = [
    ("manifests/spark.yaml", &["render", "--masters", "1"]),
    ("manifests/spark-ha.yaml", &["render"]),
    ("manifests/role.yaml", &["render", "--role"]),
    ("zookeeper/zookeeper.yaml", &["render", "--only-zookeeper"]),
    ("teardown/teardown.sh", &["render", "--masters", "1", "--teardown"]),
    ("teardown/teardown-ha.sh", &["render", "--teardown"]),
];

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
fn generated_files_are_what_render_prints() {
    for (path, arguments) in GENERATED {
        let file = std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap_or_default();
        let printed = run(arguments).exits(0).stdout;
        assert!(
            file == printed,
            "{path} is not what `sparkha {}` prints: run `make manifests`",
            arguments.join(" ")
        );
    }
}

#[test]
fn rendering_is_deterministic_and_needs_no_namespace() {
    let first = run(&["render"]).exits(0).stdout;
    assert_eq!(first, run(&["render"]).exits(0).stdout);
    assert!(
        !first.contains("namespace: "),
        "an object has a namespace that nobody named"
    );
    let named = run(&["render", "--namespace", "data"]).exits(0).stdout;
    assert_eq!(named.matches("\n  namespace: data\n").count(), 20);
}

#[test]
fn what_is_rendered_reads_back_as_yaml_1_1() {
    // kubectl's parser takes more words for something else than text than YAML 1.2 does.
    let file = file(
        "sparkConf: {spark.a: 'yes', spark.b: 'on', spark.c: '0o17', spark.d: '1_000', spark.e: 'null', spark.f: '~'}\n\
                     labels: {a: 'y', b: '0x10', c: '1e3', d: '012'}\n",
    );
    let yaml = run(&["render", "-f", file.path().to_str().unwrap()]).exits(0).stdout;
    for quoted in ["a: \"y\"", "b: \"0x10\"", "c: \"1e3\"", "d: \"012\""] {
        let single = quoted.replace('"', "'");
        assert!(
            yaml.contains(quoted) || yaml.contains(&single),
            "{quoted} is not quoted\n{yaml}"
        );
    }
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
        .says(&format!("{path}:1:1: mastres: there is no such key"))
        .says("did you mean `masters`?")
        .says(&format!("{path}:3:10: workers.count: must be a whole number"))
        .says(&format!("{path}:5:20: zookeeper.count: 4 ZooKeeper servers"))
        .says("--worker-memory: `lots` is no amount of memory")
        .says("mistakes found; nothing was changed");
}

#[test]
fn a_router_that_others_reach_says_whom_it_lets_in() {
    let routes = file("[]");
    let routes = ["router", "--routes", routes.path().to_str().unwrap()];
    let everywhere = [&routes[..], &["--listen", "0.0.0.0"]].concat();
    run(&everywhere)
        .exits(2)
        .says("at 0.0.0.0 others reach the router")
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
        run(&deploy).exits(2).says("reached from outside");
    }
}

#[test]
fn bad_arguments_are_bad_input() {
    run(&["create", "Spark"]).exits(2).says("no valid cluster name");
    run(&["create", "--masters", "x"]).exits(2);
    run(&["explode"]).exits(2);
    // Before the subcommand and after it, a global flag is the same.
    run(&["create", "--spark-home", "/usr"]).exits(2).says("add --local");
    run(&["--local", "submit", "--image", "x", "--", "job.py"])
        .exits(2)
        .says("leave --local away");
    run(&["render", "-f", "/nonexistent/sparkha.yaml"])
        .exits(2)
        .says("failed to read the cluster file");
    run(&["teardown", "--timeout", "soon"]).exits(2).says("90s");
    run(&["create", "--workers", "-1"])
        .exits(2)
        .says("-1 is not in 0..=1000");
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

/// Each example: its StatefulSets with their numbers of pods, and words that must stand in what is rendered.
type Example = (&'static str, &'static [(&'static str, u64)], &'static [&'static str]);
const EXAMPLES: [Example; 6] = [
    (
        "development.yaml",
        &[
            ("spark-connect", 1),
            ("spark-history", 1),
            ("spark-master", 1),
            ("spark-worker", 1),
        ],
        &[
            "recoveryMode=FILESYSTEM",
            "ReadWriteOnce",
            "cleaner.maxAge=1d",
            "spark.cores.max=1",
        ],
    ),
    (
        "external-zookeeper.yaml",
        &[("reports-master", 2), ("reports-worker", 4)],
        &[
            "zookeeper.url=zk-0.zk.infra:2181,zk-1.zk.infra:2181,zk-2.zk.infra:2181",
            "dir=/spark/sparkha/data/reports",
        ],
    ),
    (
        "highly-available.yaml",
        &[("etl-master", 3), ("etl-worker", 4), ("etl-zookeeper", 3)],
        &["maxSessionTimeout=6000", "storage: 1Gi", "maxUnavailable: 1"],
    ),
    (
        "large-workers.yaml",
        &[
            ("science-connect", 1),
            ("science-master", 3),
            ("science-worker", 6),
            ("science-zookeeper", 3),
        ],
        &[
            "storageClassName: local-nvme",
            "claimName: datasets",
            "kind: PodMonitor",
            "prometheusServlet",
            "spark.cores.max=48",
            "spark.executor.memory=8192m",
        ],
    ),
    (
        "s3-history.yaml",
        &[
            ("lake-history", 1),
            ("lake-master", 3),
            ("lake-worker", 4),
            ("lake-zookeeper", 3),
        ],
        &[
            "spark.eventLog.dir=s3a://logs/events",
            "fs.logDirectory=s3a://logs/events",
            "name: AWS_SECRET_ACCESS_KEY",
        ],
    ),
    (
        "sparkha.yaml",
        &[("etl-master", 3), ("etl-worker", 4), ("etl-zookeeper", 3)],
        &["shuffle.partitions=64", "path.style.access=true", "disk: ssd"],
    ),
];

#[test]
fn examples_are_the_clusters_that_they_tell_of() {
    let folder = format!("{}/examples", env!("CARGO_MANIFEST_DIR"));
    let entries = std::fs::read_dir(&folder).unwrap().flatten();
    let mut there: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    there.sort();
    assert_eq!(there, EXAMPLES.map(|(file, ..)| file), "each example is tested");
    let readme = std::fs::read_to_string(format!("{folder}/../README.md")).unwrap();
    for (file, sets, words) in EXAMPLES {
        assert!(
            readme.contains(&format!("examples/{file}")),
            "the README tells of {file}"
        );
        let text = run(&["render", "-f", &format!("{folder}/{file}")]).exits(0).stdout;
        let objects = text
            .split("\n---\n")
            .map(|object| serde_saphyr::from_str::<Value>(object).unwrap());
        let mut found: Vec<_> = objects
            .filter(|object| object["kind"] == "StatefulSet")
            .map(|set| {
                (
                    set["metadata"]["name"].as_str().unwrap().to_owned(),
                    set["spec"]["replicas"].as_u64().unwrap(),
                )
            })
            .collect();
        found.sort();
        let wanted: Vec<_> = sets.iter().map(|&(name, count)| (name.to_owned(), count)).collect();
        assert_eq!(found, wanted, "{file}");
        for word in words {
            assert!(text.contains(word), "{file}: {word}");
        }
    }
}

#[test]
fn whoever_fills_in_the_secrets_changes_nothing_else() {
    let text = run(&["render"]).exits(0).stdout;
    let mut lines = text.lines().filter(|line| line.contains("REPLACE-ME"));
    assert_eq!(lines.next(), Some("  spark.authenticate.secret: REPLACE-ME"));
    assert_eq!(lines.next(), Some("  zookeeper.password: REPLACE-ME"));
    assert_eq!(lines.next(), None);
}

/// Stands for Spark's master: tells of a recovery as its log would, each start of another one.
const MASTER: &str = r#"#!/bin/bash
echo started >>"$STARTS"
went_well() { printf '%s\n' 'Worker has been re-registered: worker-1' 'Recovery complete in 9 ms - resuming operations!'; }
went_wrong() { went_well && echo 'Worker has been re-registered: worker-1'; }
removed() { echo "Removing executor app-$1/0 because it is KILLED"; }
went_early() { removed 1 && echo 'Application has been re-registered: app-1' && went_well; }
went_late() { echo 'Application has been re-registered: app-1' && removed 1 && went_well && removed 2; }
went_revoked() { echo 'We have gained leadership' >>"$SPARKHA_ELECTION"; }
recovery=$(sed -n "$(wc -l <"$STARTS")p" <<<"$RECOVERIES")
"went_${recovery% *}" >>"$SPARKHA_RECOVERY"
[ "${recovery#* }" = stays ] || exit "${recovery#* }"
exec sleep 600
"#;

/// The entrypoint of a master or worker in a folder of its own, with a program in the place of Spark's.
fn entrypoint(script: &str, folder: &Path, program: &str, arguments: &[&str]) -> Command {
    let path = |name: &str| folder.join(name).display().to_string();
    let scripts = concat!(env!("CARGO_MANIFEST_DIR"), "/src/render/files");
    std::fs::create_dir_all(path("conf")).unwrap();
    for name in [script, "secret.sh", "until_led.sh"] {
        let text = std::fs::read_to_string(format!("{scripts}/{name}")).unwrap();
        let own = text.replace("\"/tmp/", &format!("\"{}/", folder.display()));
        std::fs::write(folder.join("conf").join(name), own).unwrap();
    }
    std::fs::create_dir_all(path("spark/bin")).unwrap();
    std::fs::write(path("spark/bin/spark-class"), program).unwrap();
    std::fs::set_permissions(path("spark/bin/spark-class"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new("bash");
    command
        .arg(path(&format!("conf/{script}")))
        .args(arguments)
        .env("SPARK_CONF_DIR", path("conf"))
        .env("SPARK_HOME", path("spark"))
        .envs([
            ("POD_IP", "127.0.0.1"),
            ("POD_NAMESPACE", "x"),
            ("SPARKHA_UI_DOMAIN", "k8s"),
        ]);
    command
}

/// Runs a master's entrypoint, and says how often it started a master, what it ended with, and what it said.
fn master(recoveries: &str, arguments: &[&str]) -> (usize, Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let starts = folder.path().join("starts");
    std::fs::write(&starts, "").unwrap();
    let output = entrypoint("master.sh", folder.path(), MASTER, arguments)
        .env("STARTS", &starts)
        .env("RECOVERIES", recoveries)
        .output()
        .unwrap();
    let starts = std::fs::read_to_string(starts).unwrap();
    (
        starts.lines().count(),
        output.status.code(),
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
    )
}

/// Stands for a master whose session lives for half a second, and who acts a twentieth of a second after it wakes.
const WAKING: &str = r#"#!/bin/bash
exec {never}<> <(:)
set -o posix
tick() { read -rt 0.05 -u "$never" || true; now=${EPOCHREALTIME/./}; }
tick
for ((ticks = 1; ; ticks++)); do
  last=$now
  tick
  [ $((now - last)) -lt 500000 ] || { tick; echo acted >"$FOLDER/acted"; }
  [ $ticks -ne 20 ] || echo ready >"$FOLDER/ready"
done
"#;

/// Stopped and let go together, as when a machine was suspended. Once is enough: where the processors are busy, either may get one first.
#[test]
fn a_master_that_wakes_with_its_entrypoint_is_gone_before_it_acts() {
    let gone = (0..5).any(|_| {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(
            path("zookeeper-sessions"),
            "session id = 0x1, negotiated timeout = 500\n",
        )
        .unwrap();
        let log = std::fs::File::create(path("log")).unwrap();
        let mut command = entrypoint("master.sh", folder.path(), WAKING, &["127.0.0.1:1", "/spark"]);
        let all = Group::start(command.env("FOLDER", folder.path()).stdout(log));
        wait_for("the master is not ready", || path("ready").exists());
        all.signal(Signal::STOP);
        std::thread::sleep(Duration::from_millis(1500));
        all.signal(Signal::CONT);
        let said = || std::fs::read_to_string(path("log")).unwrap();
        wait_for("the master goes on", || said().contains("this pod was paused for"));
        !path("acted").exists()
    });
    assert!(gone, "it acted each time");
}

#[test]
fn a_master_whose_recovery_went_wrong_is_started_anew() {
    for arguments in [&[][..], &["127.0.0.1:1", "/spark"]] {
        let (starts, code, said) = master("well 7", arguments);
        assert_eq!((starts, code, said.as_str()), (1, Some(7), ""));
        let (starts, code, said) = master("wrong stays\nwell 7", arguments);
        assert_eq!((starts, code), (2, Some(7)), "{said}");
        assert!(said.contains("the master starts anew"), "{said}");
        // An executor that ended before its application was back stays counted; afterwards they come and go.
        let (starts, code, said) = master("early stays\nlate 7", arguments);
        assert_eq!((starts, code), (2, Some(7)), "{said}");
        // One that led and lost that is started anew as often as it happens; a single master has nothing to lose.
        let (starts, code, said) = master("revoked 0\nrevoked 0\nrevoked 0\nrevoked 0\nwell 7", arguments);
        let wanted = if arguments.is_empty() {
            (1, Some(0))
        } else {
            (5, Some(7))
        };
        assert_eq!((starts, code), wanted, "{said}");
        // Where none goes well, that is left to others.
        let (starts, code, said) = master("wrong 1\nwrong 1\nwrong 7\nwell 8", arguments);
        assert_eq!((starts, code), (3, Some(7)), "{said}");
    }
}

/// Executors own the folder in which a worker's entrypoint counts its starts.
#[test]
fn a_worker_takes_only_a_number_for_the_number_of_its_starts() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let evil = format!("a[$(touch {})]", path("touched").display());
    let many = "9".repeat(30);
    for (found, port, next) in [
        ("0\n", 7078, "1"),
        ("2\n", 7080, "3"),
        ("09\n", 7079, "10"),
        ("-3\n", 7078, "1"),
        (&many, 7078, "1"),
        (&evil, 7078, "1"),
    ] {
        let program =
            "#!/bin/bash\necho \"$SPARK_WORKER_PORT\" >\"$FOLDER/writing\"\nmv \"$FOLDER/writing\" \"$FOLDER/port\"\n";
        let mut command = entrypoint("worker.sh", folder.path(), program, &["spark://here:7077"]);
        for (name, text) in [("conf/leads.sh", ""), ("conf/worker.conf", ""), ("starts", found)] {
            std::fs::write(path(name), text).unwrap();
        }
        let environment = [("FOLDER", folder.path()), ("SPARK_WORKER_DIR", folder.path())];
        command.envs(environment).env("SPARK_WORKER_PORT", "7078");
        let all = Group::start(command.stdout(Stdio::null()));
        wait_for("the worker does not start", || path("port").exists());
        let read = |name: &str| std::fs::read_to_string(path(name)).unwrap();
        assert_eq!(
            (read("port").trim(), read("starts").trim()),
            (port.to_string().as_str(), next),
            "{found}"
        );
        drop(all);
        std::fs::remove_file(path("port")).unwrap();
    }
    assert!(!path("touched").exists());
}

/// Runs a driver's script with a program in spark-submit's place; its exit code, the one that it recorded, and its logging configuration.
fn driver(spark_submit: &str, conf: &str) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let code = driver_in(folder.path(), spark_submit, conf, &[]);
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap_or_default();
    (code, read("work/exit-code"), read("work/conf/log4j2.properties"))
}

/// Runs it in a folder, with more of an environment; its exit code.
fn driver_in(folder: &Path, spark_submit: &str, conf: &str, environment: &[(&str, &str)]) -> Option<i32> {
    let path = |name: &str| folder.join(name);
    let scripts = concat!(env!("CARGO_MANIFEST_DIR"), "/src/render/files");
    for folder in ["etc", "spark/bin", "spark/jars", "work/sent"] {
        std::fs::create_dir_all(path(folder)).unwrap();
    }
    for name in ["driver.sh", "secret.sh", "until_led.sh", "log4j2.properties"] {
        std::fs::copy(format!("{scripts}/{name}"), path("etc").join(name)).unwrap();
    }
    for (name, text) in [
        ("etc/spark-defaults.conf", ""),
        (
            "etc/leads.sh",
            "[ -e \"$SPARKHA_DRIVER_DIR/led\" ] || { touch \"$SPARKHA_DRIVER_DIR/led\"; false; }",
        ),
        ("work/sent/spark.conf", conf),
        ("work/sent/arguments", ""),
        ("spark/bin/spark-submit", &format!("#!/bin/bash\n{spark_submit}\n")),
    ] {
        std::fs::write(path(name), text).unwrap();
    }
    std::fs::set_permissions(path("spark/bin/spark-submit"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let status = Command::new("bash")
        .arg(path("etc/driver.sh"))
        .env("SPARK_CONF_DIR", path("etc"))
        .env("SPARK_HOME", path("spark"))
        .env("SPARKHA_DRIVER_DIR", path("work"))
        .envs([
            ("POD_IP", "127.0.0.1"),
            ("POD_NAMESPACE", "x"),
            ("SPARKHA_UI_DOMAIN", "k8s"),
            ("SPARKHA_MASTER_URL", "spark://m:7077"),
        ])
        .envs(environment.iter().copied())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    status.code()
}

#[test]
fn a_drivers_script_waits_for_a_leader() {
    // At the second look there is one.
    let (code, _, _) = driver("[ -e led ] && exit 3", "");
    assert_eq!(code, Some(3));
}

/// In a pod, where output and errors share one log: what the job left behind holds its errors open, and keeps nobody waiting.
#[test]
fn a_drivers_script_ends_with_its_job() {
    let folder = tempfile::tempdir().unwrap();
    let leaving = "sleep 60 & echo $! >left; exit 3";
    let code = driver_in(folder.path(), leaving, "", &[("SPARKHA_MARK_ERRORS", "true")]);
    let left = std::fs::read_to_string(folder.path().join("work/left")).unwrap();
    let left = left.trim().parse().unwrap();
    let goes_on = crate::kit::local::is_alive(left);
    crate::kit::local::signal(left, "KILL");
    assert!(goes_on, "the script waited for it");
    assert_eq!(code, Some(3));
}

#[test]
fn a_drivers_script_records_its_exit_code() {
    for (spark_submit, code) in [
        ("exit 0", 0),
        ("exit 3", 3),
        ("kill -KILL $$", 137),
        ("kill -TERM $PPID; sleep 9", 143),
    ] {
        let (ended, recorded, _) = driver(spark_submit, "");
        assert_eq!((ended, recorded), (Some(code), format!("{code}\n")), "{spark_submit}");
    }
    // The ID of the application is recorded also where a log level hides it from the console.
    let level = |conf: &str| {
        let logging = driver("exit 0", conf).2;
        assert!(logging.contains("/work/applications\n"), "{logging}");
        let root = logging
            .lines()
            .find_map(|line| line.strip_prefix("rootLogger.level = "));
        let told = logging
            .lines()
            .find_map(|line| line.strip_prefix("logger.backend.appenderRef.stdout.filter.told.level = "));
        (told.map(str::to_owned), root.map(str::to_owned))
    };
    assert_eq!(level(""), (None, Some("info".into())));
    assert_eq!(
        level("spark.log.level=INFO\nspark.log.level WARN\n"),
        (Some("WARN".into()), Some("WARN".into()))
    );
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
fn hints_name_the_cluster_that_was_asked_for() {
    run(&["status", "etl", "--namespace", "data", "--kubeconfig", "/nonexistent"])
        .exits(3)
        .says("`sparkha render etl --namespace data --kubeconfig /nonexistent`");
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}
