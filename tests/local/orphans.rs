//! A driver that was paused while another leader recovered: the leader has ended its application, and the driver does not know. Everybody who may
//! be asked says so, and what to do.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::kit::Run;
use crate::kit::local::{Home, children, signal};

const JOB: &str = r#"
import time
from pyspark import SparkContext
sc = SparkContext(appName="paused")
while True:
    sc.parallelize(range(100), 2).sum()
    time.sleep(0.5)
"#;

const SAYS: &str = "but the leader does not know its application";

/// A process and all that it has started.
fn descendants(pid: i32) -> Vec<i32> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        found.extend(children(pid));
        next += 1;
    }
    found
}

fn jobs(home: &Home) -> Vec<Value> {
    let jobs: Run = home.run(&["jobs", "-o", "json"]);
    if jobs.code != Some(0) {
        // Nobody leads at this moment.
        return vec![];
    }
    jobs.json().as_array().unwrap().clone()
}

#[test]
fn a_driver_whose_application_the_leader_has_ended_is_found() {
    let home = Home::new();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("job.py"), JOB).unwrap();
    let file = path("sparkha.yaml");
    // The shortest that there is.
    std::fs::write(&file, "sparkConf: {spark.deploy.recoveryTimeout: 1}\n").unwrap();
    let file = file.display().to_string();
    home.run(&["create", "--masters", "1", "--workers", "1", "-f", &file])
        .exits(0);

    let errors = std::fs::File::create(path("errors")).unwrap();
    let application = path("job.py").display().to_string();
    let mut submit = home.command(&["submit", "--executor-memory", "512m", "--", &application]);
    let mut submit = submit.stdout(Stdio::null()).stderr(errors).spawn().unwrap();
    let state = |wanted: &str| jobs(&home).into_iter().find(|job| job["state"] == wanted);
    home.wait_for(Duration::from_secs(240), "the job to run", || {
        state("RUNNING").is_some()
    });
    let job = state("RUNNING").unwrap();
    let (id, driver) = (job["id"].as_str().unwrap(), job["driver"].as_str().unwrap());
    let healthy = home.run(&["doctor", "-f", &file, "-o", "json"]).stdout;
    assert!(!healthy.contains(SAYS), "{healthy}");

    let record = home.cluster("spark").join("submitted").join(format!("{driver}.json"));
    let record: Value = serde_json::from_str(&std::fs::read_to_string(record).unwrap()).unwrap();
    let paused = descendants(record["process"]["pid"].as_i64().unwrap() as i32);
    paused.iter().for_each(|&pid| signal(pid, "STOP"));
    signal(home.jvm_of("spark", "spark-master-0"), "KILL");
    // What does not answer is not called an orphan: it may be anything.
    home.wait_for(Duration::from_secs(120), "the next leader to give it up", || {
        jobs(&home)
            .iter()
            .any(|job| job["id"] == id && job["state"] == "FINISHED")
    });
    paused.iter().for_each(|&pid| signal(pid, "CONT"));

    home.wait_for(Duration::from_secs(60), "jobs to say so", || {
        state("ORPHANED").is_some()
    });
    let orphan = state("ORPHANED").unwrap();
    assert_eq!(
        (orphan["id"].as_str(), orphan["driver"].as_str()),
        (Some(id), Some(driver))
    );
    let way_out = format!("jobs --kill {driver}");
    let says_so = |text: &str| text.contains(SAYS) && text.contains(driver) && text.contains(&way_out);
    let listed = home.run(&["jobs"]).exits(0);
    assert!(says_so(&listed.stderr), "{}", listed.stderr);
    let checked = home.run(&["doctor", "-f", &file]).stdout;
    assert!(checked.contains(SAYS), "{checked}");
    home.wait_for(Duration::from_secs(60), "submit to say so", || {
        says_so(&std::fs::read_to_string(path("errors")).unwrap())
    });

    home.run(&["jobs", "--kill", id]).exits(0);
    assert!(!submit.wait().unwrap().success());
    assert_eq!(state("ORPHANED"), None);
    home.run(&["teardown", "--yes"]).exits(0);
    home.is_empty();
}
