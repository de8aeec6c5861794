//! Workers that come and go while jobs run: scaled by hand and by an autoscaler, taken away by Kubernetes. The jobs count how often their own
//! tasks ran, so whatever was computed twice is seen.

use std::process::Stdio;
use std::time::Duration;

use crate::kit::decommissioning::{LEAVING, assert_unharmed};
use crate::kit::local::{Home, finish_job, signal, start_job};
use crate::kit::{Sandbox, pods};

const SOON: Duration = Duration::from_secs(120);

/// Lets its executors go by doing nothing, and works again.
const IDLING: &str = r#"
import time
from pyspark.sql import SparkSession
sc = SparkSession.builder.appName("idling").getOrCreate().sparkContext
# With shuffle files, which outlive the job as long as somebody may use them again.
pairs = sc.parallelize(range(100), 4).map(lambda x: (x % 5, x)).reduceByKey(lambda a, b: a + b, 2)
count = lambda: sum(total for _, total in pairs.collect())
executors = lambda: len(sc._jsc.sc().statusTracker().getExecutorInfos()) - 1
first, end = count(), time.time() + 60
had = executors()
while executors() > 0 and time.time() < end:
    time.sleep(0.2)
print("RESULT", had, executors(), count() == first, flush=True)
"#;

#[test]
fn on_this_machine_workers_come_and_go() {
    let home = Home::alone();
    home.run(&["scale", "--workers", "2"]).exits(7);
    home.run(&["create", "--masters", "1", "--workers", "1"]).exits(0);

    // Up at once, and all agree.
    home.run(&["scale", "--workers", "2"])
        .exits(0)
        .says("2 of 2 registered");
    home.run(&["scale", "--workers", "2"])
        .exits(0)
        .says("Nothing to change");
    // What an application gets follows the number, and restarts nothing.
    let master = home.process("spark", "spark-master-0");
    let again = ["create", "--masters", "1", "--workers", "2"];
    home.run(&again).exits(0);
    home.run(&again).exits(0).says("Nothing to change");
    assert_eq!(home.process("spark", "spark-master-0"), master);
    home.run(&["scale", "--workers", "1001"]).exits(2);

    // Down, by a command that is killed: what it began goes on, and the next run waits for it.
    let job = start_job(&home, LEAVING, "JOB 1", "COMPUTED");
    home.run(&["create", "--workers", "1"])
        .exits(2)
        .says("workers: 2 → 1")
        .says("1 application runs: app-")
        .says("nothing was changed");
    assert_eq!(home.status("spark")["workers"]["expected"], 2);
    let mut cut_off = home.command(&["scale", "--workers", "1"]);
    let mut cut_off = cut_off.stderr(Stdio::null()).spawn().unwrap();
    home.wait_for(SOON, "the new number", || {
        home.status("spark")["workers"]["expected"] == 1
    });
    signal(cut_off.id() as i32, "KILL");
    cut_off.wait().unwrap();
    home.run(&["scale", "--workers", "1"])
        .exits(0)
        .says("Nothing to change")
        .says("In service");
    let state = home.status("spark");
    assert_eq!(state["workers"]["pods"].as_array().unwrap().len(), 1);
    assert_unharmed(&finish_job(&home, job), 1);

    // Executors that idle go, and come back.
    let file = home.folder.path().join("sparkha.yaml");
    std::fs::write(
        &file,
        "masters: {count: 1}\nworkers: {count: 1}\ndynamicAllocation: true\n",
    )
    .unwrap();
    home.run(&["create", "--yes", "-f", file.to_str().unwrap()]).exits(0);
    std::fs::remove_file(file).unwrap();
    let idle = "--conf spark.dynamicAllocation.executorIdleTimeout=2s JOB";
    let text = finish_job(&home, start_job(&home, IDLING, idle, ""));
    assert!(text.contains("RESULT 1 0 True"), "{text}");

    home.run(&["teardown"]).exits(0);
    home.is_empty();
}

#[test]
fn on_kubernetes_workers_come_and_go() {
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
    assert_eq!(get("horizontalpodautoscaler/spark-worker", target), "200");
    sandbox
        .run(&["create", "--workers", "1"])
        .exits(2)
        .says("the autoscaler chooses");
    std::fs::write(file.path(), "masters: {count: 1}\nworkers: {count: 1}\n").unwrap();
    sandbox
        .run(&create)
        .exits(2)
        .says("HorizontalPodAutoscaler spark-worker deleted");
    sandbox.run(&[&create[..], &["--yes"]].concat()).exits(0);
    assert_eq!(sandbox.kubectl(&["get", "horizontalpodautoscalers", "-o", "name"]), "");

    sandbox.run(&["teardown"]).exits(0);
}
