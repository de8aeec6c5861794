//! What a cluster has beside masters and workers if its file says so: the history server, Spark Connect, metrics.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};

use crate::kit::client::{Answer, Client, get};
use crate::kit::http;
use crate::kit::local::{Home, driver, spark_home};
use crate::kit::server::{Router, Server};
use crate::kit::{Run, Sandbox, certificates, kubeconfig};

/// The address of the test's router; the pods have others.
const ROUTER: &str = "127.0.9.220";
const READY: Duration = Duration::from_secs(180);
const HISTORY: &str = "spark-history.default.k8s:18080";

const JOB: &str = "
from pyspark.sql import SparkSession
spark = SparkSession.builder.appName('squares').config('spark.executor.memory', '600m').getOrCreate()
print('RESULT', spark.sparkContext.parallelize(range(1000), 4).map(lambda x: x * x).sum())
spark.stop()
";

/// Asks for a page through the router, and goes where it leads.
fn page(host: &str, path: &str) -> Answer {
    let (_, port) = host.split_once(':').unwrap();
    let answer = Client::connect((ROUTER, port.parse().unwrap())).ask(get(host, path));
    match answer.header("location") {
        // The history server sends whoever asks first to the same page again, once it is loaded.
        Some(location) => {
            let path = location.strip_prefix(&format!("http://{host}")).unwrap_or(location);
            assert!(path.starts_with('/'), "{location}");
            Client::connect((ROUTER, port.parse().unwrap())).ask(get(host, path))
        }
        None => answer,
    }
}

/// Finished applications, as the history server lists them.
fn finished() -> Vec<Value> {
    let answer = page(HISTORY, "/api/v1/applications?status=completed");
    if answer.status != 200 {
        return vec![];
    }
    let applications: Value = serde_json::from_str(&answer.body).unwrap();
    applications.as_array().unwrap().clone()
}

/// Writes 30 MB of events, as an application does that goes on for days.
const LONG_JOB: &str = "
import base64, os
from pyspark.sql import SparkSession
spark = SparkSession.builder.appName('long').config('spark.executor.memory', '600m').getOrCreate()
for n in range(20):
    spark.sparkContext.setLocalProperty('filling', base64.b64encode(os.urandom(1_000_000)).decode())
    spark.sparkContext.parallelize(range(2), 2).count()
print('RESULT long')
spark.stop()
";

fn run_job(home: &Home, program: &str, result: &str) {
    let job = home.folder.path().join("job.py");
    std::fs::write(&job, program).unwrap();
    let script = "exec spark-submit --master \"$SPARK_MASTER_URL\" \"$HOME/job.py\"";
    let Output { status, stdout, .. } = driver(home, script).env("HOME", home.folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&stdout);
    assert!(status.success() && said.contains(&format!("RESULT {result}")), "{said}");
    std::fs::remove_file(&job).unwrap();
}

/// A remote client: it has no Java. Says the sum of some numbers, and if it is told to in which container a worker of the cluster computes.
const CLIENT: &str = "
import os, sys
from pyspark.sql import SparkSession, functions as F
spark = SparkSession.builder.remote(sys.argv[1]).getOrCreate()
assert 'connect' in type(spark).__module__, type(spark)
print('RESULT', spark.range(1000).agg(F.sum('id')).first()[0])
if len(sys.argv) > 2:
    variable = sys.argv[2]
    place = F.udf(lambda _: os.environ.get(variable, 'nowhere'), useArrow=False)
    print('COMPUTED IN', spark.range(4).select(F.max(place('id'))).first()[0])
spark.stop()
";

/// Python with what a remote client needs beside PySpark itself, kept with the testbed's artefacts.
fn client_python() -> PathBuf {
    let spark = spark_home().file_name().unwrap().display().to_string();
    let folder = spark_home().with_file_name(format!("connect-client-{spark}"));
    let python = folder.join("bin/python");
    if python.exists() {
        return python;
    }
    let new = folder.with_extension(std::process::id().to_string());
    let run = |program: &Path, arguments: &[&str]| Command::new(program).args(arguments).status().unwrap().success();
    assert!(run(Path::new("python3"), &["-m", "venv", new.to_str().unwrap()]));
    let packages = ["pandas<3", "pyarrow", "grpcio", "grpcio-status", "zstandard"];
    let install = [
        &["-m", "pip", "install", "--quiet", "--retries=10", "--only-binary=:all:"],
        &packages[..],
    ]
    .concat();
    let installed = (0..3).any(|_| run(&new.join("bin/python"), &install));
    assert!(installed, "the client's packages cannot be fetched");
    // Another test may have been faster.
    let _ = std::fs::rename(&new, &folder);
    python
}

/// Runs the remote client.
fn client(arguments: &[&str]) -> Run {
    let script = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(script.path(), CLIENT).unwrap();
    let libraries = spark_home().join("python");
    let py4j = std::fs::read_dir(libraries.join("lib"))
        .unwrap()
        .flatten()
        .map(|entry| entry.path());
    let py4j = py4j.filter(|path| path.to_str().unwrap().contains("py4j"));
    let path = std::env::join_paths(py4j.chain([libraries])).unwrap();
    let mut python = Command::new(client_python());
    python
        .arg(script.path())
        .args(arguments)
        .env_clear()
        .env("PYTHONPATH", path);
    python.output().unwrap().into()
}

#[test]
fn on_this_machine() {
    // Spark's event logs are compacted in such a path only.
    let home = Home::without_space();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/development.yaml");
    let create = ["create", "-f", example, "--metrics", "-o", "json"];
    let state = home.run(&create).exits(0).says("History").json();
    assert_eq!(state["history"]["ready"], true);
    assert_eq!(state["history"]["webUi"], format!("http://{HISTORY}"));
    let _router = Router::run(&mut home.command(&["router", "--listen", ROUTER]));

    let url = home.run(&["connect-url"]).exits(0).stdout;
    let url = url.trim_end();
    assert!(
        home.run(&["local", "env"])
            .exits(0)
            .stdout
            .contains(&format!("SPARK_CONNECT_URL='{url}'"))
    );
    let open = state["connect"]["url"].as_str().unwrap();
    the_token_is_needed_and_shown_nowhere_else(&home, open, url);
    let said = client(&[url, "SPARKHA_CONTAINER_ID"]).exits(0).stdout;
    let expected = format!("RESULT 499500\nCOMPUTED IN {}", home.mark("spark"));
    assert!(said.contains(&expected), "{said}");
    let ui = state["connect"]["webUi"]
        .as_str()
        .unwrap()
        .strip_prefix("http://")
        .unwrap();
    home.wait_for(READY, "the server's web UI", || {
        page(ui, "/connect/").body.contains("Spark Connect")
    });

    for (pod, port, path, metric) in [
        (
            "spark-master-0",
            8080,
            "/metrics/master/prometheus/",
            "metrics_master_aliveWorkers_Value",
        ),
        (
            "spark-master-0",
            8080,
            "/metrics/applications/prometheus/",
            "runtime_ms_Value",
        ),
        (
            "spark-worker-0",
            8081,
            "/metrics/prometheus/",
            "metrics_worker_coresUsed_Value",
        ),
        (
            "spark-connect-0",
            4040,
            "/metrics/prometheus/",
            "_driver_BlockManager_memory",
        ),
        (
            "spark-connect-0",
            4040,
            "/metrics/executors/prometheus/",
            "metrics_executor_totalCores",
        ),
    ] {
        let address = home.address("spark", pod);
        let (status, body) = http::get(&format!("{address}:{port}"), &address, path).unwrap();
        assert!(status == 200 && body.contains(metric), "{path}: {status} {body}");
    }

    run_job(&home, JOB, "332833500");
    home.wait_for(READY, "the job's history", || !finished().is_empty());
    let application = finished().remove(0);
    assert_eq!(application["name"], "squares");
    let id = application["id"].as_str().unwrap();
    for (path, text) in [
        ("/", "History Server".to_owned()),
        (&format!("/history/{id}/jobs/"), id.to_owned()),
    ] {
        let answer = page(HISTORY, path);
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.body.contains(&text), "{path}: {}", answer.body);
    }

    // Event logs are data: they outlive a cluster whose data is kept, and no other.
    home.run(&["teardown", "--keep-data"])
        .exits(0)
        .says("1 volume claims kept");
    let compacting = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    let text = std::fs::read_to_string(example).unwrap();
    let rolling = text.replace("  maxAge: 1d", "  rolling: {maxFileSize: 10Mi, maxFilesToRetain: 1}");
    assert_ne!(rolling, text);
    std::fs::write(compacting.path(), rolling).unwrap();
    home.run(&["create", "-f", compacting.path().to_str().unwrap()])
        .exits(0);
    home.wait_for(READY, "the history of the cluster before", || {
        finished().iter().any(|application| application["id"] == id)
    });
    event_logs_are_compacted(&home);
    home.run(&["teardown", "--yes"]).exits(0);
    home.is_empty();
}

fn the_token_is_needed_and_shown_nowhere_else(home: &Home, open: &str, url: &str) {
    let token = url.strip_prefix(&format!("{open}/;authorization=Bearer%20")).unwrap();
    assert!(token.len() == 64 && token.bytes().all(|byte| byte.is_ascii_hexdigit()));
    refused(open);
    refused(&format!("{open}/;authorization=Bearer%20{}", "0".repeat(64)));
    for shown in [
        &["status"][..],
        &["status", "-o", "json"],
        &["create", "--dry-run"],
        &["logs", "spark-connect-0"],
        &["render", "--connect"],
    ] {
        let run = home.run(shown).exits(0);
        assert!(!run.stdout.contains(token) && !run.stderr.contains(token), "{shown:?}");
    }
    // Nor what the server tells of its own properties, or other parts.
    let address = home.address("spark", "spark-connect-0");
    let get = |path: &str| http::get(&format!("{address}:4040"), &address, path).unwrap().1;
    let applications: Value = serde_json::from_str(&get("/api/v1/applications")).unwrap();
    let id = applications[0]["id"].as_str().unwrap();
    let properties = get(&format!("/api/v1/applications/{id}/environment"));
    assert!(properties.contains("spark.connect.authenticate.token"), "{properties}");
    assert!(!properties.contains(token));
    for pod in ["spark-connect-0", "spark-worker-0"] {
        for what in ["environ", "cmdline"] {
            let text = std::fs::read(format!("/proc/{}/{what}", home.process("spark", pod))).unwrap();
            assert!(!String::from_utf8_lossy(&text).contains(token), "{pod}: {what}");
        }
    }
}

/// A client of this address is told that it needs a token.
fn refused(url: &str) {
    let refused = client(&[url]);
    assert!(
        refused.code != Some(0) && refused.stderr.contains("UNAUTHENTICATED"),
        "{}",
        refused.stderr
    );
}

fn event_logs_are_compacted(home: &Home) {
    run_job(home, LONG_JOB, "long");
    let claim = home.cluster("spark").join("claims/events-spark-history-0");
    let logs = || {
        let applications = std::fs::read_dir(&claim).unwrap().flatten();
        let files = applications.filter_map(|folder| std::fs::read_dir(folder.path()).ok());
        files
            .flatten()
            .flatten()
            .map(|file| (file.path(), file.metadata().unwrap().len()))
    };
    home.wait_for(READY, "compacted events", || {
        logs().any(|(path, _)| path.extension().is_some_and(|extension| extension == "compact"))
    });
    // The last file and what is left of those before it.
    home.wait_for(READY, "the files that were compacted to go", || {
        logs().map(|(_, size)| size).sum::<u64>() < 15_000_000
    });
    home.wait_for(READY, "the job's history", || {
        finished().iter().any(|application| application["name"] == "long")
    });
}

#[test]
fn on_kubernetes() {
    let sandbox = Sandbox::beside("parts");
    let before = sandbox.contents();
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = "masters: {count: 1}\nworkers: {count: 1, cores: 2, memory: 3Gi, resources: {requests: {cpu: 100m}}}\nmetrics: {podMonitor: true}\n\
                history: {eventLogs: {newClaim: {size: 1Gi, storageClassName: testbed}}}\n\
                connect: {executorMemory: 600m, resources: {requests: {cpu: 100m}}}\ntls: {secret: spark-tls}\n";
    std::fs::write(file.path(), text).unwrap();
    let folder = tempfile::tempdir().unwrap();
    certificates::secret(folder.path());
    let keys = ["tls.crt", "tls.key", "ca.crt"].map(|key| format!("--from-file={}", folder.path().join(key).display()));
    let create_secret = ["create", "secret", "generic", "spark-tls"];
    sandbox.kubectl(
        &create_secret
            .into_iter()
            .chain(keys.iter().map(String::as_str))
            .collect::<Vec<_>>(),
    );
    let create = ["create", "-f", file.path().to_str().unwrap(), "-o", "json"];
    let created = sandbox.run(&create).exits(0).says("does not serve PodMonitor");
    assert_eq!(created.json()["history"]["ready"], true);
    let url = format!("sc://spark-connect.{}:15002", sandbox.namespace);
    assert_eq!(created.json()["connect"]["url"], url);

    let forward = created.json()["connect"]["forward"].as_str().unwrap().to_owned();
    clients_from_outside_need_the_token(&sandbox, &forward);

    sandbox.apply(&job_pod().to_string());
    let phase = || sandbox.kubectl(&["get", "pod", "job", "-o", "jsonpath={.status.phase}"]);
    sandbox.wait_for(Duration::from_secs(180), "the job's end", || {
        matches!(phase().as_str(), "Succeeded" | "Failed")
    });
    let log = sandbox.kubectl(&["logs", "job"]);
    assert_eq!(phase(), "Succeeded", "{log}");
    assert!(log.contains("RPC SSL enabled"), "{log}");
    let path = format!(
        "/api/v1/namespaces/{}/services/spark-history:18080/proxy/api/v1/applications?status=completed",
        sandbox.namespace
    );
    sandbox.wait_for(READY, "the job's history", || {
        let listed = sandbox.try_kubectl(&["get", "--raw", &path]).unwrap_or_default();
        listed.contains("\"squares\"")
    });
    sandbox.kubectl(&["delete", "pod/job", "configmap/job", "--grace-period=0", "--force"]);

    sandbox
        .run(&["teardown", "--keep-data"])
        .exits(0)
        .says("1 volume claims kept");
    let kept = "persistentvolumeclaim/events-spark-history-0";
    assert!(sandbox.contents().iter().any(|object| object == kept));
    sandbox.kubectl(&["delete", kept, "secret/spark-tls"]);
    assert_eq!(sandbox.contents(), before);
}

fn clients_from_outside_need_the_token(sandbox: &Sandbox, forward: &str) {
    // As it is told, but for a port that somebody else may have.
    let forward = forward.replace(" 15002", " 15902:15002");
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &format!("exec {forward}")])
        .env("KUBECONFIG", kubeconfig());
    let _forward = Server::start(&mut shell);
    sandbox.wait_for(READY, "the port-forward", || {
        TcpStream::connect(("127.0.0.1", 15902)).is_ok()
    });
    let url = sandbox.run(&["connect-url", "--forwarded"]).exits(0).stdout;
    let url = url.trim_end().replace(":15002", ":15902");
    let said = client(&[&url]).exits(0).stdout;
    assert!(said.contains("RESULT 499500"), "{said}");
    refused("sc://localhost:15902");
    // In clients' own words for a token, which they send to this host alone without TLS.
    let said = client(&[&url.replace("authorization=Bearer%20", "token=")])
        .exits(0)
        .stdout;
    assert!(said.contains("RESULT 499500"), "{said}");
}

/// A user's own driver, as the README has it: the cluster's configuration, and the volume with event logs.
fn job_pod() -> Value {
    let job = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "job"}, "data": {"job.py": JOB}});
    let driver = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "job", "labels": {
            "app.kubernetes.io/instance": "spark", "app.kubernetes.io/component": "driver",
        }},
        "spec": {
            "restartPolicy": "Never", "enableServiceLinks": false, "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 185, "runAsGroup": 185, "fsGroup": 185,
                "seccompProfile": {"type": "RuntimeDefault"}},
            "volumes": [
                {"name": "job", "configMap": {"name": "job"}}, {"name": "tmp", "emptyDir": {}},
                {"name": "conf", "configMap": {"name": "spark-conf"}}, {"name": "auth", "secret": {"secretName": "spark-auth"}},
                {"name": "tls", "secret": {"secretName": "spark-tls"}},
                {"name": "events", "persistentVolumeClaim": {"claimName": "events-spark-history-0"}},
            ],
            "containers": [{
                "name": "driver", "image": "docker.io/apache/spark:4.3.0",
                "command": ["bash", "-c", ". /etc/spark/secret.sh; exec /opt/spark/bin/spark-submit \
                    --properties-file \"$(with_secret spark-defaults.conf)\" --master spark://spark-master-0:7077 \
                    --conf spark.driver.host=$POD_IP --conf spark.jars.ivy=/tmp/ivy /job/job.py"],
                "env": [
                    {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    {"name": "SPARK_CONF_DIR", "value": "/etc/spark"},
                ],
                "resources": {"requests": {"cpu": "50m", "memory": "900Mi"}},
                "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]}},
                "volumeMounts": [
                    {"name": "job", "mountPath": "/job"}, {"name": "tmp", "mountPath": "/tmp"},
                    {"name": "conf", "mountPath": "/etc/spark"}, {"name": "auth", "mountPath": "/etc/spark-auth"},
                    {"name": "tls", "mountPath": "/etc/spark-tls"},
                    {"name": "events", "mountPath": "/var/spark/events"},
                ],
            }],
        },
    });
    json!({"apiVersion": "v1", "kind": "List", "items": [job, driver]})
}
