//! Workers that come and go while jobs run: scaled by hand and by an autoscaler, taken away by Kubernetes. The jobs count how often their own
//! tasks ran, which shows tasks that ran twice.

use std::process::Stdio;
use std::time::Duration;

use crate::kit::decommissioning::{LEAVING, assert_unharmed};
use crate::kit::local::{Home, finish_job, signal, start_job};

const SOON: Duration = Duration::from_secs(120);

/// Lets its executors go by doing nothing, and works again.
const IDLING: &str = r#"
import time
from pyspark import SparkContext
sc = SparkContext(appName="idling")
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
fn workers_come_and_go() {
    let home = Home::new();
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
