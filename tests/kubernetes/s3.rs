//! Data and event logs in a real S3-compatible store, with an image that has hadoop-aws and with one that has not.

use std::time::Duration;

use serde_json::json;

use crate::kit::connect::READY;
use crate::kit::s3::{JOB, Store};
use crate::kit::{Sandbox, file};

#[test]
fn jobs_and_the_history_server_use_an_s3_store() {
    let sandbox = Sandbox::new("s3");
    let node = "jsonpath={.items[0].status.addresses[?(@.type==\"InternalIP\")].address}";
    let node = sandbox.kubectl_cluster(&["get", "nodes", "-o", node]);
    // Pods reach this machine by the address of its node.
    let store = Store::start(node.parse().unwrap());
    for bucket in ["data", "logs"] {
        store.make_bucket(bucket);
    }
    store.run("s3.put_object(Bucket='logs', Key='events/')");
    let keys = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s3-keys"},
        "stringData": {"AWS_ACCESS_KEY_ID": store.access_key, "AWS_SECRET_ACCESS_KEY": store.secret_key},
    });
    sandbox.apply(&keys.to_string());
    let small = "resources: {requests: {cpu: 100m}}";
    let text = format!(
        "masters: {{count: 1, {small}}}\nworkers: {{count: 1, cores: 2, memory: 3Gi, {small}}}\n{}\
         history: {{eventLogs: 's3a://logs/events', {small}}}\n",
        store.section()
    );
    let file = file(&text);
    let create = ["create", "-f", file.path().to_str().unwrap()];

    sandbox
        .run(&[&create[..], &["--retain"]].concat())
        .exits(8)
        .says("spark-history-0: Spark has no hadoop-aws, which s3a:// requires")
        .says("examples/spark-s3.Containerfile");
    let doctor = sandbox.run(&["doctor", "-o", "json"]).exits(9).json();
    let is_found = doctor.as_array().unwrap().iter().any(|check| {
        let seen = check["seen"].as_str().unwrap();
        check["name"] == "S3"
            && check["status"] == "failed"
            && seen.starts_with("spark-history-0: Spark has no hadoop-aws")
    });
    assert!(is_found, "{doctor}");
    sandbox.run(&["teardown", "--yes"]).exits(0);

    let image = sandbox.kubectl_cluster(&["get", "nodes", "-o", "jsonpath={.items[0].status.images[*].names}"]);
    let image = image
        .split(['"', ',', '[', ']', ' '])
        .find(|name| name.ends_with("-s3"))
        .unwrap();
    sandbox.run(&[&create[..], &["--image", image]].concat()).exits(0);
    let job = tempfile::Builder::new().suffix(".py").tempfile().unwrap();
    std::fs::write(job.path(), JOB).unwrap();
    let submit = [
        "submit",
        "--executor-memory",
        "800m",
        "--",
        job.path().to_str().unwrap(),
        "s3a://data/image",
    ];
    let run = sandbox.run(&submit).exits(0);
    assert!(
        run.stdout.contains("RESULT 499500\nSECRET nowhere nowhere\n"),
        "{}\n{}",
        run.stdout,
        run.stderr
    );
    let path = format!(
        "/api/v1/namespaces/{}/services/spark-history:18080/proxy/api/v1/applications?status=completed",
        sandbox.namespace
    );
    sandbox.wait_for(READY + Duration::from_secs(30), "the job's history", || {
        let listed = sandbox.try_kubectl(&["get", "--raw", &path]).unwrap_or_default();
        listed.contains("\"lake\"")
    });
    // The image has no tools of its own for this: what runs in the pod may read what its container was started with.
    let environment = sandbox.kubectl(&[
        "exec",
        "spark-history-0",
        "--",
        "cat",
        "/proc/1/environ",
        "/proc/1/cmdline",
    ]);
    let objects = sandbox.kubectl(&["get", "all,configmaps,serviceaccounts,events", "-o", "yaml"]);
    let logs = ["spark-history-0", "spark-worker-0", "spark-master-0"].map(|pod| sandbox.kubectl(&["logs", pod]));
    for text in [&run.stdout, &run.stderr, &environment, &objects]
        .into_iter()
        .chain(&logs)
    {
        assert!(!text.contains(&store.secret_key));
    }
    sandbox.run(&["teardown", "--yes"]).exits(0);
}
