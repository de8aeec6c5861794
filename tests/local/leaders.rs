//! What happens to leaders beside their end: one changes while a worker is drained, one is paused and goes on, and all lose what ZooKeeper had.

use std::process::Stdio;
use std::time::Duration;

use crate::kit::decommissioning::{LEAVING, assert_unharmed};
use crate::kit::local::{Home, finish_job, is_alive, signal, start_job};

const SOON: Duration = Duration::from_secs(60);
const WHOLE: Duration = Duration::from_secs(120);

fn another_leads(home: &Home, old: &str) {
    home.wait_for(SOON, "another leader", || {
        home.leader().is_some_and(|leader| leader != old)
    });
}

#[test]
fn leaders_survive_drains_pauses_and_lost_data() {
    let home = Home::new();
    home.run(&["create"]).exits(0);
    a_drain_that_begins_while_nobody_leads(&home);
    a_leader_that_is_paused_does_not_act(&home);
    a_zookeeper_that_lost_all(&home);
    home.run(&["teardown"]).exits(0);
    home.is_empty();
}

fn a_drain_that_begins_while_nobody_leads(home: &Home) {
    let job = start_job(home, LEAVING, "JOB 1", "COMPUTED");
    let old = home.whole(WHOLE);
    // With its entrypoint stopped the latch stays, until the session expires.
    let (entrypoint, jvm) = (home.process("spark", &old), home.jvm_of("spark", &old));
    signal(entrypoint, "STOP");
    let mut scale = home.command(&["scale", "--workers", "1"]);
    signal(jvm, "KILL");
    let mut scale = scale.stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    another_leads(home, &old);
    signal(entrypoint, "CONT");
    assert!(scale.wait().unwrap().success());
    assert_unharmed(&finish_job(home, job), 1);
}

fn a_leader_that_is_paused_does_not_act(home: &Home) {
    // The JVM alone: it is dead before it could wake.
    let first = home.whole(WHOLE);
    let jvm = home.jvm_of("spark", &first);
    signal(jvm, "STOP");
    another_leads(home, &first);
    home.wait_for(SOON, "the end of the stopped master", || !is_alive(jvm));

    // With its entrypoint, which wakes later than the JVM here.
    let second = home.whole(WHOLE);
    let all = home.processes_of("spark", &second);
    let jvm = home.jvm_of("spark", &second);
    all.iter().for_each(|&pid| signal(pid, "STOP"));
    another_leads(home, &second);
    signal(jvm, "CONT");
    all.iter().for_each(|&pid| signal(pid, "CONT"));
    home.wait_for(SOON, "the end of the paused master", || !is_alive(jvm));
    // The log of a run is put aside when the next begins.
    home.wait_for(SOON, "its entrypoint to tell of it", || {
        let log = |which| home.log("spark", &format!("{second}{which}.log"));
        [".previous", ""]
            .iter()
            .any(|which| log(which).contains("this pod was paused for"))
    });
}

/// Needs an executor for ever.
const ENDLESS: &str = r#"
import time
from pyspark import SparkContext
sc = SparkContext(appName="endless")
while True:
    sc.parallelize(range(10), 1).count()
    print("ROUND", flush=True)
    time.sleep(0.3)
"#;

/// All servers of the ensemble end at once and with their data, as pods that are deleted by force with an emptyDir do.
fn a_zookeeper_that_lost_all(home: &Home) {
    home.whole(WHOLE);
    let job = home.folder.path().join("endless.py");
    std::fs::write(&job, ENDLESS).unwrap();
    let submit = [
        "submit",
        "--detach",
        "--executor-memory",
        "512m",
        "--",
        job.to_str().unwrap(),
    ];
    let driver = home.run(&submit).exits(0).stdout.trim().to_owned();
    let rounds = || home.run(&["logs", "drivers", &driver]).stdout.matches("ROUND").count();
    home.wait_for(WHOLE, "the job to run", || rounds() > 0);
    let supervisor = home.supervisor("spark");
    signal(supervisor, "STOP");
    let servers = ["spark-zookeeper-0", "spark-zookeeper-1", "spark-zookeeper-2"];
    let lost: Vec<_> = servers.iter().map(|pod| home.process("spark", pod)).collect();
    lost.iter().for_each(|&pid| signal(pid, "KILL"));
    home.wait_for(SOON, "their end", || !lost.iter().any(|&pid| is_alive(pid)));
    for pod in servers {
        let data = home.cluster("spark").join("pods").join(pod).join("data");
        std::fs::remove_dir_all(data.join("version-2")).unwrap();
    }
    signal(supervisor, "CONT");
    home.wait_for(SOON, "a leader, without help", || home.leader().is_some());
    // The leader does not know what ran. It goes on with the executors that it has; where the same master leads again, that one has ended
    // them. In both cases its worker is there for others after it.
    home.wait_for(SOON, "jobs to tell what became of it", || {
        let jobs = home.run(&["jobs"]).exits(0);
        jobs.stdout.contains("ORPHANED") && jobs.stderr.contains(&format!("jobs --kill {driver}"))
    });
    home.run(&["jobs", "--kill", &driver]).exits(0);
    std::fs::remove_file(job).unwrap();
    home.whole(WHOLE);
}
