//! Jobs on both platforms: `sparkha submit` and `sparkha jobs`, driven as a user does.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::local::Home;
use super::{Run, Sandbox, until};

/// Says what it was given, computes something on the cluster, and ends as it is told.
const JOB: &str = r#"
import sys, helper
from pyspark import SparkContext, SparkFiles
sc = SparkContext()
total = sc.parallelize(range(1000), 4).map(lambda x: x * x).sum()
print("RESULT", total, sys.argv[2:], helper.NAME, open(SparkFiles.get("job.py")).read().strip(), flush=True)
print("CONF", *map(sc.getConf().get, ["spark.executor.memory", "spark.app.name", "spark.app.two"]), flush=True)
unpacked = lambda _: open(SparkFiles.get("pack") + "/word").read()
print("ARCHIVE", sc.parallelize([0], 1).map(unpacked).first(), flush=True)
print("x" * 40000, flush=True)
sys.exit(int(sys.argv[1]))
"#;

/// Goes on until it is ended.
const ENDLESS: &str = r#"
import time
from pyspark import SparkContext
sc = SparkContext(appName="endless")
while True:
    print("round", sc.parallelize(range(100), 2).sum(), flush=True)
    time.sleep(0.5)
"#;

/// Stops its context, so that Spark takes it for well, and fails then.
const FAILING: &str = r#"
from pyspark import SparkContext
SparkContext(appName="failing").stop()
raise SystemExit(3)
"#;

/// Asks an executor for a module of a package.
const PACKAGED: &str = r#"
from pyspark import SparkContext
print("PACKAGE", SparkContext().parallelize([0], 1).map(lambda _: __import__("packaged").NAME).first(), flush=True)
"#;

/// A folder with an application, a module, and another file of the application's name.
pub fn files() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    for (name, text) in [
        ("job.py", JOB),
        ("endless.py", ENDLESS),
        ("failing.py", FAILING),
        ("packages.py", PACKAGED),
        ("helper.py", "NAME = 'helped'"),
        ("data/job.py", "not an application"),
        ("spark.conf", "spark.app.two two words\n"),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    std::fs::write(folder.path().join("word"), "unpacked").unwrap();
    let pack = ["-czf", "words.tgz", "word"];
    let packed = Command::new("tar").current_dir(&folder).args(pack).status().unwrap();
    assert!(packed.success());
    // A jar without anything: classes of Spark's own will do.
    let empty_zip = [b"PK\x05\x06".as_slice(), &[0; 18]].concat();
    std::fs::write(folder.path().join("empty.jar"), empty_zip).unwrap();
    folder
}

pub const SMALL: [&str; 5] = ["create", "--masters", "1", "--workers", "1"];
pub const EXECUTOR: [&str; 2] = ["--executor-memory", "512m"];

/// Where a test's cluster is.
pub trait Site {
    fn sparkha(&self, arguments: &[&str]) -> Command;

    fn command(&self, folder: &Path, arguments: &[&str]) -> Command {
        let mut command = self.sparkha(arguments);
        command.current_dir(folder);
        command
    }

    fn applications(&self) -> Vec<Value> {
        let jobs: Run = self.sparkha(&["jobs", "-o", "json"]).output().unwrap().into();
        jobs.exits(0).json().as_array().unwrap().clone()
    }

    fn in_state(&self, state: &str) -> Vec<Value> {
        let mut jobs = self.applications();
        jobs.retain(|job| job["state"] == state);
        jobs
    }
}

impl Site for Home {
    fn sparkha(&self, arguments: &[&str]) -> Command {
        self.command(arguments)
    }
}

impl Site for Sandbox {
    fn sparkha(&self, arguments: &[&str]) -> Command {
        self.command(arguments)
    }
}

pub fn run(mut command: Command) -> Run {
    command.output().unwrap().into()
}

/// A submitted job, and the lines of its output.
pub struct Submitted(pub Child, BufReader<std::process::ChildStdout>);

impl Submitted {
    pub fn of(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self(child, output)
    }

    /// Waits for a line of its output.
    pub fn says(&mut self, text: &str) {
        let mut line = String::new();
        while self.1.read_line(&mut line).unwrap() > 0 {
            if line.contains(text) {
                return;
            }
            line.clear();
        }
        panic!("it ended without saying {text}");
    }
}

pub fn signal(child: &Child, signal: Signal) {
    let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// What a job with files and configuration is given, and what is passed on of it.
pub fn a_job_with_files_runs_and_its_exit_code_is_kept(site: &dyn Site, folder: &Path) {
    let mut arguments = vec![
        "submit",
        "--py-files",
        "helper.py",
        "--files",
        "data/job.py",
        "--archives",
        "words.tgz#pack",
        "--name",
        "two words",
    ];
    arguments.extend(["--properties-file", "spark.conf", "--total-executor-cores", "1"]);
    arguments.extend(EXECUTOR);
    arguments.extend(["--", "job.py", "7", "a b", "--files", "c'd"]);
    let ended = run(site.command(folder, &arguments)).exits(7);
    let lines: Vec<_> = ended
        .stdout
        .lines()
        .filter(|line| !line.starts_with("WARNING: Using incubator"))
        .collect();
    assert_eq!(
        lines[0], "RESULT 332833500 ['a b', '--files', \"c'd\"] helped not an application",
        "{}",
        ended.stdout
    );
    assert_eq!(lines[1], "CONF 512m two words two words");
    assert_eq!(lines[2], "ARCHIVE unpacked");
    assert!(lines[3].len() == 40000 && lines.len() == 4, "{}", ended.stdout);
    assert!(
        ended.stderr.contains("INFO SparkContext: Running Spark version"),
        "{}",
        ended.stderr
    );
    let finished = site.in_state("FINISHED");
    assert_eq!(finished[0]["name"], "two words");
    assert_eq!(finished[0]["executorMemoryMib"], 512);
}

pub fn what_can_never_run_fails_at_once(site: &dyn Site, folder: &Path) {
    let mut arguments = vec!["submit", "--executor-memory", "50g", "--", "job.py", "0"];
    run(site.command(folder, &arguments))
        .exits(8)
        .says("requests 51200 MiB");
    // Before anything is made.
    arguments.splice(1..3, ["--files", "nothing.csv,data"]);
    run(site.command(folder, &arguments))
        .exits(2)
        .says("nothing.csv does not exist")
        .says("data is a folder");
    run(site.command(folder, &["submit", "--deploy-mode", "cluster", "--", "job.py"]))
        .exits(2)
        .says("--detach");
}

/// The second job has no room while the first runs, and is told so with numbers; both are ended, one by Ctrl-C, one by `jobs --kill`.
pub fn a_job_that_waits_is_told_why_and_jobs_can_be_ended(site: &dyn Site, folder: &Path) {
    let mut arguments = vec!["submit"];
    arguments.extend(EXECUTOR);
    let mut detached = arguments.clone();
    arguments.extend(["--", "endless.py"]);
    detached.extend(["--detach", "--", "endless.py"]);
    let mut first = Submitted::of(site.command(folder, &arguments));
    first.says("round 4950");
    let driver = run(site.command(folder, &detached)).exits(0).stdout.trim().to_owned();
    let waiting = || site.in_state("WAITING");
    until(Duration::from_secs(90), "the second job", || {
        waiting().iter().any(|job| job["driver"] == *driver)
    });
    let checks = run(site.sparkha(&["doctor"])).exits(0).stdout;
    let told = |line: &str| line.contains(" applications ") && line.contains(" waits for executors of 512 MiB: ");
    assert!(checks.lines().any(told), "{checks}");

    let mut third = site.command(folder, &arguments);
    let mut third = third.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let errors = BufReader::new(third.stderr.take().unwrap());
    let told = errors
        .lines()
        .map_while(Result::ok)
        .find(|line| line.contains("no executors yet"));
    let told = told.unwrap_or_default();
    assert!(
        told.contains("each executor requests 512 MiB") && told.contains("0 of 1 core free"),
        "{told}"
    );
    signal(&third, Signal::TERM);
    assert_eq!(third.wait().unwrap().code(), Some(130));

    signal(&first.0, Signal::INT);
    assert_eq!(first.0.wait().unwrap().code(), Some(130));
    let running = || site.in_state("RUNNING");
    until(Duration::from_secs(180), "the second job's turn", || {
        running().iter().any(|job| job["driver"] == *driver)
    });
    let id = running()[0]["id"].as_str().unwrap().to_owned();
    run(site.command(folder, &["jobs", "--kill", &id]))
        .exits(0)
        .says(&driver);
    until(Duration::from_secs(30), "no job", || {
        running().is_empty() && waiting().is_empty()
    });
    run(site.command(folder, &["jobs", "--kill", &id]))
        .exits(2)
        .says("has already ended");
    run(site.command(folder, &["jobs", "--kill", "app-none"])).exits(7);
}

/// Nobody waits for it, and Spark's word for it is FINISHED.
pub fn a_detached_job_that_fails_is_one_row_with_its_exit_code(site: &dyn Site, folder: &Path) {
    let mut arguments = vec!["submit", "--detach"];
    arguments.extend(EXECUTOR);
    arguments.extend(["--", "failing.py"]);
    let driver = run(site.command(folder, &arguments)).exits(0).stdout.trim().to_owned();
    let rows = || {
        let mut jobs = site.applications();
        jobs.retain(|job| job["driver"] == *driver || job["name"] == "failing");
        jobs
    };
    until(Duration::from_secs(90), "the driver's exit code", || {
        rows().iter().any(|job| job["exitCode"] == 3)
    });
    let rows = rows();
    assert_eq!(rows.len(), 1, "{rows:#?}");
    assert_eq!(rows[0]["driver"], *driver);
    assert!(rows[0]["id"].as_str().unwrap().starts_with("app-"), "{rows:#?}");
    assert_eq!(
        (&rows[0]["state"], &rows[0]["sparkState"]),
        (&"FAILED".into(), &"FINISHED".into())
    );
    let table = run(site.sparkha(&["jobs"])).exits(0).stdout;
    assert!(
        table
            .lines()
            .any(|line| line.contains("FAILED") && line.contains(&driver)),
        "{table}"
    );
    run(site.command(folder, &["jobs", "--kill", &driver])).exits(0);
}

/// What runs is not ended without a word.
pub fn teardown_names_the_jobs_that_run(site: &dyn Site, driver: &str) {
    run(site.sparkha(&["teardown"]))
        .exits(2)
        .says("1 job runs: app-")
        .says("endless")
        .says(driver)
        .says("teardown")
        .says("--yes");
    assert!(site.in_state("RUNNING").iter().any(|job| job["driver"] == *driver));
}
