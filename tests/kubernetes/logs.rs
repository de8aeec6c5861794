//! Logs of pods, executors and jobs, mostly in the clusters of other tests: [`super::doctor`] and [`super::submit`].

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::kit::Sandbox;
use crate::kit::cut::Cut;
use crate::kit::following::{COUNTING, Following};
use crate::kit::pods::{finish_job, job_log, start_job};
use crate::kit::proxy::{Fault, Proxy, Rule};

/// The ID of the application that runs.
fn application(status: &serde_json::Value) -> Option<String> {
    Some(status["applications"][0]["id"].as_str()?.to_owned())
}

const STARTED: &str = "I have been elected leader! New state: ALIVE";

/// The cluster is well before, and is afterwards.
pub fn logs_of_pods_and_executors(sandbox: &Sandbox) {
    // All pods, by time.
    let all = sandbox.run(&["logs"]).exits(0).stdout;
    for pod in [
        "spark-master-0",
        "spark-master-1",
        "spark-worker-0",
        "spark-worker-1",
        "spark-zookeeper-0",
    ] {
        assert!(
            all.lines().any(|line| line.starts_with(&format!("{pod} | "))),
            "{pod}: {all}"
        );
    }
    let leads = all.lines().position(|line| line.contains(STARTED)).unwrap();
    let leader = all.lines().nth(leads).unwrap().split(" | ").next().unwrap();
    // What masters say of it, they say as standbys too.
    let registers = |line: &str| line.contains("Successfully registered with master");
    let registered = all.lines().position(registers).unwrap();
    assert!(leads < registered, "{all}");

    let only = sandbox
        .run(&["logs", "masters", "--leader", "--no-prefix"])
        .exits(0)
        .stdout;
    assert!(
        only.lines()
            .any(|line| line.contains(STARTED) && !line.starts_with(leader)),
        "{only}"
    );
    assert!(!only.contains("spark-worker-0 |"));
    let last = sandbox
        .run(&["logs", "workers", "zookeeper", "--tail", "1"])
        .exits(0)
        .stdout;
    assert_eq!(last.lines().count(), 3, "{last}");
    sandbox
        .run(&["logs", "nosuch"])
        .exits(7)
        .says("there is no cluster nosuch");
    sandbox
        .run(&["logs", "spark", "nosuch"])
        .exits(2)
        .says("has no such pod now");

    // Followed through a restart of the container, which loses the stream, and through a new pod.
    let mut follow = Following::start(sandbox.command(&["logs", "workers", "--follow"]));
    let registered = ["spark-worker-1 | ", "Successfully registered with master"];
    follow.until(Duration::from_secs(20), 1, &registered);
    sandbox.try_kubectl(&["exec", "spark-worker-1", "--", "bash", "-c", "kill -TERM 1"]);
    follow.until(Duration::from_secs(180), 2, &registered);
    sandbox.kubectl(&["delete", "pod", "spark-worker-1", "--grace-period=0", "--force"]);
    follow.until(Duration::from_secs(180), 3, &registered);
    // Each run said once that it began.
    assert_eq!(
        follow.count(&["spark-worker-1 | ", "Starting Spark worker"]),
        3,
        "{}",
        follow.seen.join("\n")
    );
    drop(follow);
    sandbox.wait_for(Duration::from_secs(180), "both workers", || {
        sandbox.status("spark")["ready"] == true
    });

    // Executors, without a right to run anything.
    start_job(sandbox, "job", "spark://spark-master-0:7077,spark-master-1:7077", 15);
    let mut id = None;
    sandbox.wait_for(Duration::from_secs(180), "the application", || {
        id = application(&sandbox.status("spark"));
        id.is_some()
    });
    let id = id.unwrap();
    let mut follow = Following::start(sandbox.command(&["logs", &id, "-f"]));
    follow.until(Duration::from_secs(180), 1, &[" stderr | "]);
    sandbox.wait_for(Duration::from_secs(90), "the job's rounds", || {
        job_log(sandbox, "job").contains("round 8")
    });
    follow.until(Duration::from_secs(30), 20, &["Finished task"]);
    finish_job(sandbox, "job");
    let whole = sandbox.run(&["logs", &id]).exits(0).stdout;
    let of = |pod: &str| {
        whole
            .lines()
            .filter(|line| line.starts_with(&format!("{pod}/")))
            .count()
    };
    assert!(
        of("spark-worker-0") + of("spark-worker-1") == whole.lines().count(),
        "{whole}"
    );
    // What was followed is in the whole, line for line.
    let log = |lines: Vec<String>| {
        lines
            .into_iter()
            .filter(|line| line.contains("Finished task"))
            .collect::<Vec<_>>()
    };
    let (followed, whole) = (
        log(follow.seen.clone()),
        log(whole.lines().map(str::to_owned).collect()),
    );
    assert!(!followed.is_empty());
    for line in &followed {
        assert!(whole.contains(line), "{line}");
    }
    let mut unique = followed.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), followed.len());
}

/// Writes more than a node keeps in one file, and ends when the file was rotated.
const LARGE: &str = r#"
import sys, time
print("begun", flush=True)
time.sleep(4)
for number in range(12000):
    print("large", number, "x" * 1000)
sys.stdout.flush()
time.sleep(12)
print("the last line", flush=True)
sys.exit(7)
"#;

/// A job, and what its submit says.
struct Submitted<'a> {
    sandbox: &'a Sandbox,
    job: Following,
    errors: tempfile::NamedTempFile,
}

impl<'a> Submitted<'a> {
    fn of(sandbox: &'a Sandbox, folder: &Path, mut submit: Command) -> Self {
        let errors = tempfile::NamedTempFile::new().unwrap();
        submit.current_dir(folder).stderr(errors.reopen().unwrap());
        let job = Following::start(submit);
        Self { sandbox, job, errors }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.errors).unwrap()
    }

    fn driver(&self) -> String {
        let said = self.said();
        let mut names = said.split_whitespace().filter(|word| word.starts_with("spark-driver-"));
        names.next().unwrap().to_owned()
    }

    /// Waits until the driver has ended, which its submit need not know.
    fn until_its_driver_has_ended(&self) {
        let driver = self.driver();
        let state = "jsonpath={.status.containerStatuses[*].state}";
        self.sandbox.wait_for(Duration::from_secs(90), "the driver's end", || {
            self.sandbox
                .kubectl(&["get", "pod", &driver, "-o", state])
                .contains("terminated")
        });
    }

    /// Expects every line of a counting job.
    #[track_caller]
    fn has_every_line_once(mut self, lines: usize) {
        let code = self.job.ended(Duration::from_secs(90));
        let expected: Vec<_> = (0..lines).map(|number| format!("line {number}")).collect();
        let seen: Vec<_> = self.job.seen.iter().filter(|line| line.starts_with("line ")).collect();
        assert!(seen.iter().copied().eq(&expected), "{seen:?}\n{}", self.said());
        assert_eq!(code, Some(7), "{}", self.said());
    }
}

/// The cluster is well.
pub fn every_line_of_a_job_comes_once_though_its_log_is_cut_off(sandbox: &Sandbox, folder: &Path) {
    std::fs::write(folder.join("counting.py"), COUNTING).unwrap();
    std::fs::write(folder.join("large.py"), LARGE).unwrap();
    let [silent, stalled] = [(); 2].map(|()| Proxy::start(Rule::every(&["GET"], "/log?", Fault::Hang)));
    let submitted = |submit: Command| Submitted::of(sandbox, folder, submit);
    let mut rotated = submitted(stalled.command(sandbox, &["submit", "--", "large.py"]));
    let mut unheard = submitted(silent.command(sandbox, &["submit", "--", "counting.py", "70"]));

    // Its log grows too long for its node while it cannot be read.
    rotated.job.until(Duration::from_secs(90), 1, &["begun"]);
    stalled.hang();
    // Its stream is never heard of again, though others pass.
    unheard.job.until(Duration::from_secs(90), 1, &["line 4"]);
    silent.hang();
    silent.relent();
    unheard.has_every_line_once(70);
    rotated.until_its_driver_has_ended();
    stalled.relent();
    what_a_node_has_dropped_is_told(rotated);
}

/// Alone: no other test may need the node meanwhile.
#[test]
fn every_line_of_a_job_comes_once_though_it_ends_while_its_node_is_cut_off() {
    let sandbox = Sandbox::new("cut");
    sandbox.run(&["create", "--masters", "1", "--workers", "0"]).exits(0);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("counting.py"), COUNTING).unwrap();
    let submit = sandbox.command(&["submit", "--", "counting.py", "10"]);
    let mut job = Submitted::of(&sandbox, folder.path(), submit);
    job.job.until(Duration::from_secs(90), 1, &["line 4"]);
    let cut = Cut::new();
    job.until_its_driver_has_ended();
    drop(cut);
    job.has_every_line_once(10);
    sandbox.run(&["teardown", "--yes"]).exits(0);
}

fn what_a_node_has_dropped_is_told(mut rotated: Submitted) {
    let code = rotated.job.ended(Duration::from_secs(60));
    let (said, driver, sandbox) = (rotated.said(), rotated.driver(), rotated.sandbox);
    assert_eq!(code, Some(10), "{said}");
    assert_eq!(rotated.job.seen.last().unwrap(), "the last line");
    let lines = "lines of the job's log are missing after line ";
    for text in [lines, "ended with exit code 7", &format!("sparkha logs {driver} ")] {
        assert!(said.contains(text), "{text}: {said}");
    }
    let annotation = "jsonpath={.metadata.annotations.sparkha/keep}";
    assert_eq!(sandbox.kubectl(&["get", "pod", &driver, "-o", annotation]), "true");
    let log = sandbox.run(&["logs", &driver, "--tail", "9"]).exits(0).stdout;
    assert!(log.contains("| the last line\n") && !log.contains('\x1d'), "{log}");
    sandbox.kubectl(&["delete", "pod", &driver]);
}
