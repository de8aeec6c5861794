//! What a cluster has beside masters and workers if its file says so: the history server, Spark Connect, metrics.

use std::process::Output;

use serde_json::Value;

use crate::kit::client::{Answer, Client, get};
use crate::kit::connect::{JOB, READY, client, refused};
use crate::kit::http;
use crate::kit::local::{Home, driver};
use crate::kit::server::Router;

/// The address of the test's router; the pods have others.
const ROUTER: &str = "127.0.9.220";
const HISTORY: &str = "spark-history.default.k8s:18080";

/// Asks for a page through the router, and goes where it leads.
fn page(host: &str, path: &str) -> Answer {
    let (_, port) = host.split_once(':').unwrap();
    let answer = Client::connect((ROUTER, port.parse().unwrap())).ask(get(host, path));
    match answer.header("location") {
        // The history server redirects the first request to the same page, once the page is loaded.
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
from pyspark import SparkConf, SparkContext
sc = SparkContext(conf=SparkConf().setAppName('long').set('spark.executor.memory', '600m'))
for n in range(20):
    sc.setLocalProperty('filling', base64.b64encode(os.urandom(1_000_000)).decode())
    sc.parallelize(range(2), 2).count()
print('RESULT long')
sc.stop()
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

#[test]
fn history_connect_and_metrics_serve_their_users() {
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
        .says("1 volume claim kept");
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
