//! Workers that come and go while jobs run: scaled by hand and by an autoscaler, and deleted by Kubernetes.

use std::time::Duration;

use crate::kit::decommissioning::{LEAVING, assert_unharmed};
use crate::kit::{Sandbox, pods};

const SOON: Duration = Duration::from_secs(120);

#[test]
fn workers_come_and_go() {
    let sandbox = Sandbox::unmade("scale");
    let get = |object: &str, path: &str| sandbox.kubectl(&["get", object, "-o", &format!("jsonpath={{{path}}}")]);
    sandbox.run(&["scale", "--workers", "2"]).exits(7);
    sandbox.run(&["create", "--masters", "1", "--workers", "1"]).exits(0);
    sandbox
        .run(&["scale", "--workers", "2"])
        .exits(0)
        .says("2 of 2 registered");
    let again = ["create", "--masters", "1", "--workers", "2"];
    sandbox.run(&again).exits(0);
    sandbox.run(&again).exits(0).says("Nothing to change");

    // One worker is taken away by Kubernetes and replaced, then it is one too many.
    pods::start(&sandbox, "leaving", LEAVING, "spark://spark-master-0:7077", 2);
    let log = || pods::job_log(&sandbox, "leaving");
    sandbox.wait_for(SOON, "the job's tasks", || log().contains("COMPUTED"));
    let before = get("pod/spark-worker-1", ".metadata.uid");
    sandbox.kubectl(&["delete", "pod", "spark-worker-1", "--wait=false"]);
    sandbox.wait_for(SOON, "another worker with executors", || {
        let state = sandbox.status("spark");
        state["ready"] == true
            && state["workers"]["coresUsed"] == 2
            && get("pod/spark-worker-1", ".metadata.uid") != before
            // One that goes before the job has seen it, beside the driver and the first two, is missed by nobody.
            && log().contains("SEEN 4")
    });
    sandbox
        .run(&["scale", "--workers", "1"])
        .exits(0)
        .says("spark-worker-1 has 1 of 1 core in use")
        .says("In service");
    assert_unharmed(&pods::finish_job(&sandbox, "leaving"), 2);
    assert_eq!(get("statefulset/spark-worker", ".spec.replicas"), "1");

    // Somebody else's number is taken back only on demand.
    sandbox.kubectl(&[
        "patch",
        "statefulset",
        "spark-worker",
        "-p",
        "{\"spec\":{\"replicas\":0}}",
    ]);
    sandbox
        .run(&["scale", "--workers", "1"])
        .exits(5)
        .says("--force-conflicts");
    sandbox.run(&["scale", "--workers", "1", "--force-conflicts"]).exits(0);

    // An autoscaler's number is nobody else's.
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = "masters: {count: 1}\nworkers: {autoscale: {min: 2, max: 3, cpuPercent: 50}}\n";
    std::fs::write(file.path(), text).unwrap();
    let create = ["create", "-f", file.path().to_str().unwrap()];
    sandbox.run(&create).exits(0);
    sandbox.wait_for(SOON, "the autoscaler's least", || {
        let state = sandbox.status("spark");
        state["ready"] == true && state["workers"]["registered"] == 2
    });
    sandbox.run(&create).exits(0).says("Nothing to change");
    sandbox.run(&["scale", "--workers", "1"]).exits(2).says("autoscaler");
    let target = ".spec.targetCPUUtilizationPercentage";
    assert_eq!(
        get("horizontalpodautoscalers.v1.autoscaling/spark-worker", target),
        "200"
    );
    sandbox
        .run(&["create", "--workers", "1"])
        .exits(2)
        .says("workers.autoscale sets the number");
    std::fs::write(file.path(), "masters: {count: 1}\nworkers: {count: 1}\n").unwrap();
    sandbox
        .run(&create)
        .exits(2)
        .says("HorizontalPodAutoscaler spark-worker deleted");
    sandbox.run(&[&create[..], &["--yes"]].concat()).exits(0);
    assert_eq!(sandbox.kubectl(&["get", "horizontalpodautoscalers", "-o", "name"]), "");

    sandbox.run(&["teardown"]).exits(0);
}
