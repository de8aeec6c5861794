//! Jobs in pods: `sparkha submit` and `sparkha jobs`, driven as a user does.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::logs::every_line_of_a_job_comes_once_though_its_log_is_cut_off;
use crate::kit::Sandbox;
use crate::kit::pods::every_pod_is_restricted;
use crate::kit::submit::{
    EXECUTOR, SMALL, Site, Submitted, a_detached_job_that_fails_is_one_row_with_its_exit_code,
    a_job_that_waits_is_told_why_and_jobs_can_be_ended, a_job_with_files_runs_and_its_exit_code_is_kept, files, run,
    signal, teardown_names_the_jobs_that_run, what_can_never_run_fails_at_once,
};

#[test]
fn jobs_run_and_are_ended() {
    let sandbox = Sandbox::new("submit");
    let folder = files();
    sandbox.run(&SMALL).exits(0);
    a_job_with_files_runs_and_its_exit_code_is_kept(&sandbox, folder.path());
    what_can_never_run_fails_at_once(&sandbox, folder.path());
    run(Site::command(
        &sandbox,
        folder.path(),
        &["submit", "--image", "apache/spark:3.5.1", "--", "job.py"],
    ))
    .exits(2)
    .says("has Spark 3.5.1");
    a_jar_runs_and_its_driver_may_be_kept(&sandbox, folder.path());
    a_detached_job_that_fails_is_one_row_with_its_exit_code(&sandbox, folder.path());
    every_line_of_a_job_comes_once_though_its_log_is_cut_off(&sandbox, folder.path());
    a_job_that_waits_is_told_why_and_jobs_can_be_ended(&sandbox, folder.path());
    large_files_travel_and_drivers_are_restricted(&sandbox, folder.path());
    a_driver_that_somebody_else_describes_is_not_made(&sandbox, folder.path());
    let drivers = ["get", "pods", "-l", "app.kubernetes.io/component=driver", "-o", "name"];
    let mut job = ["submit"].to_vec();
    job.extend(EXECUTOR);
    job.extend(["--detach", "--", "endless.py"]);
    let driver = run(Site::command(&sandbox, folder.path(), &job)).exits(0).stdout;
    // The one before may still be ending.
    sandbox.wait_for(Duration::from_secs(180), "one driver", || {
        sandbox.kubectl(&drivers).lines().count() == 1 && sandbox.in_state("RUNNING").len() == 1
    });
    teardown_names_the_jobs_that_run(&sandbox, driver.trim());
    sandbox.run(&["teardown", "--yes", "--keep-data"]).exits(0);
    assert_eq!(sandbox.kubectl(&drivers), "");
}

fn a_jar_runs_and_its_driver_may_be_kept(sandbox: &Sandbox, folder: &Path) {
    let mut arguments = vec!["submit", "--keep"];
    arguments.extend(EXECUTOR);
    arguments.extend(["--conf", "spark.sql.catalogImplementation=in-memory"]);
    arguments.extend(["--class", "org.apache.spark.sql.hive.thriftserver.SparkSQLCLIDriver"]);
    arguments.extend(["--", "empty.jar", "-e", "select sum(id) from range(1000)"]);
    let ended = run(Site::command(sandbox, folder, &arguments)).exits(0);
    assert!(ended.stdout.lines().any(|line| line == "499500"), "{}", ended.stdout);
    // That of the job before may still be ending.
    let not_deleted = "go-template={{range .items}}{{if not .metadata.deletionTimestamp}}pod/{{.metadata.name}}{{\"\\n\"}}{{end}}{{end}}";
    let kept = sandbox.kubectl(&[
        "get",
        "pods",
        "-l",
        "app.kubernetes.io/component=driver",
        "-o",
        not_deleted,
    ]);
    assert_eq!(kept.lines().count(), 1, "{kept}");
    sandbox.kubectl(&["delete", kept.trim()]);
}

/// By a user who may write ConfigMaps and make no pods.
fn a_driver_that_somebody_else_describes_is_not_made(sandbox: &Sandbox, folder: &Path) {
    let path = "jsonpath={.data.driver\\.json}";
    let own = sandbox.kubectl(&["get", "configmap", "spark-conf", "-o", path]);
    let describe = |pod: &str| {
        let patch = serde_json::json!({"data": {"driver.json": pod}}).to_string();
        sandbox.kubectl(&["patch", "configmap", "spark-conf", "--type=merge", "-p", &patch]);
    };
    let mut pod: Value = serde_json::from_str(&own).unwrap();
    pod["spec"]["hostNetwork"] = true.into();
    let volumes = pod["spec"]["volumes"].as_array_mut().unwrap();
    volumes.push(serde_json::json!({"name": "node", "hostPath": {"path": "/"}}));
    describe(&pod.to_string());
    run(Site::command(sandbox, folder, &["submit", "--", "job.py"]))
        .exits(2)
        .says("hostNetwork, volumes[node] differs");
    describe(&own);
}

/// More than a ConfigMap takes.
fn large_files_travel_and_drivers_are_restricted(sandbox: &Sandbox, folder: &Path) {
    let large: Vec<u8> = (0..20_000_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    std::fs::write(folder.join("large.bin"), &large).unwrap();
    let sum: u64 = large.iter().map(|&byte| u64::from(byte)).sum();
    let reader = r#"
import time
from pyspark import SparkContext, SparkFiles
print("SUM", SparkContext().parallelize([0], 1).map(lambda _: sum(open(SparkFiles.get("large.bin"), "rb").read())).first(), flush=True)
time.sleep(600)
"#;
    std::fs::write(folder.join("reader.py"), reader).unwrap();
    let mut arguments = vec!["submit", "--files", "large.bin"];
    arguments.extend(EXECUTOR);
    arguments.extend(["--", "reader.py"]);
    let mut job = Submitted::of(Site::command(sandbox, folder, &arguments));
    job.says(&format!("SUM {sum}"));
    // One of the drivers before may still be ending.
    assert!(every_pod_is_restricted(sandbox) >= 3);
    signal(&job.0, Signal::TERM);
    assert_eq!(job.0.wait().unwrap().code(), Some(130));
}
