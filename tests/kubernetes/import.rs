//! A cluster file from a Helm release.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::kit::Sandbox;

/// A revision as Helm stores it: base64, then gzip, then base64 once more by the API.
fn revision(sandbox: &Sandbox, name: &str, number: u32, status: &str, release: &Value) {
    let mut encode = Command::new("sh");
    encode
        .args(["-c", "gzip | base64 --wrap=0"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = encode.spawn().unwrap();
    serde_json::to_writer(child.stdin.take().unwrap(), release).unwrap();
    let encoded = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "helm.sh/release.v1",
        "metadata": {
            "name": format!("sh.helm.release.v1.{name}.v{number}"),
            "labels": {"owner": "helm", "name": name, "status": status, "version": number.to_string()},
        },
        "stringData": {"release": encoded},
    });
    sandbox.apply(&secret.to_string());
}

fn release(name: &str, chart: &str, workers: u32) -> Value {
    json!({
        "name": name,
        "chart": {
            "metadata": {"name": chart, "version": "10.0.1"},
            "values": {"image": {"tag": "4.2.0-debian-12-r0"}, "worker": {"replicaCount": 2}},
        },
        "config": {"worker": {"replicaCount": workers}, "security": {"ssl": {"keystorePassword": "hunter2"}}},
    })
}

#[test]
fn the_deployed_revision_of_a_release_is_read() {
    let sandbox = Sandbox::without_pods("import");
    revision(
        &sandbox,
        "analytics-spark",
        9,
        "superseded",
        &release("analytics-spark", "spark", 3),
    );
    revision(
        &sandbox,
        "analytics-spark",
        10,
        "deployed",
        &release("analytics-spark", "spark", 4),
    );
    revision(
        &sandbox,
        "database",
        1,
        "deployed",
        &release("database", "postgresql", 1),
    );
    let import = sandbox
        .run(&["import", "bitnami", "--release", "analytics-spark"])
        .exits(0);
    assert_eq!(
        import.stdout,
        "name: analytics-spark-ha\nimage: docker.io/apache/spark:4.2.0\nworkers:\n  count: 4\n"
    );
    let import = import.says("worker.replicaCount");
    assert!(!import.stderr.contains("hunter2"), "{}", import.stderr);
    sandbox
        .run(&["import", "bitnami", "--release", "nothing"])
        .exits(2)
        .says("no deployed Helm release nothing");
    sandbox
        .run(&["import", "bitnami", "--release", "database"])
        .exits(2)
        .says("of chart postgresql");
}
