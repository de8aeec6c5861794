//! Pods that are replaced under a running cluster: in which order they are, and how another version of Spark waits for what runs.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::kit::local::{Home, driver, signal, spark_home, spark_home_of};

const OLD: &str = "4.2.1";
const SOON: Duration = Duration::from_secs(60);

/// Sums squares in rounds that shuffle, until it finds a file, and some rounds more.
const ROUNDS: &str = r#"
import os, sys, time
from pyspark import SparkContext
context = SparkContext(appName="rounds")
numbers, more = context.parallelize(range(1000), 4), 2
while more > 0:
    total = numbers.map(lambda x: (x % 10, x * x)).reduceByKey(lambda a, b: a + b, 2).values().sum()
    assert total == 332833500, total
    print("ROUND", flush=True)
    more -= os.path.exists(sys.argv[1])
    time.sleep(0.5)
print("RESULT", flush=True)
"#;

/// Prints the number of each batch, until it finds a file. It fails with the first batch that does.
const STREAM: &str = r#"
import os, sys, time
from pyspark.sql import SparkSession
spark = SparkSession.builder.appName("stream").config("spark.sql.shuffle.partitions", 2).getOrCreate()
def batch(rows, number):
    rows.groupBy(rows.value % 3).count().collect()
    print("BATCH", number, spark.version, flush=True)
rows = spark.readStream.format("rate").option("rowsPerSecond", 5).load()
writer = rows.writeStream.foreachBatch(batch).trigger(processingTime="2 seconds")
query = writer.option("checkpointLocation", os.path.join(os.path.dirname(sys.argv[0]), "checkpoint")).start()
while not os.path.exists(sys.argv[1]):
    query.awaitTermination(0.2)
    assert query.isActive
query.stop()
print("RESULT", flush=True)
"#;

/// A job that goes on until it is told to end.
struct Rounds<'a> {
    home: &'a Home,
    child: Child,
}

impl<'a> Rounds<'a> {
    fn start(home: &'a Home) -> Self {
        let mut rounds = Self::of(home, ROUNDS);
        rounds.next();
        rounds
    }

    fn of(home: &'a Home, text: &str) -> Self {
        let [job, errors, end] = ["job.py", "job.err", "end"].map(|file| home.folder.path().join(file));
        std::fs::write(&job, text).unwrap();
        let submit = format!(
            "exec spark-submit --master \"$SPARK_MASTER_URL\" --conf spark.executor.memory=600m '{}' '{}' 2>'{}'",
            job.display(),
            end.display(),
            errors.display()
        );
        Self {
            home,
            child: driver(home, &submit).spawn().unwrap(),
        }
    }

    /// Waits for a line of its.
    #[track_caller]
    fn next(&mut self) -> String {
        let mut line = String::new();
        // Byte by byte: a reader of its own would swallow what comes after.
        let output = self.child.stdout.as_mut().unwrap();
        BufReader::with_capacity(1, output).read_line(&mut line).unwrap();
        let errors = std::fs::read_to_string(self.home.folder.path().join("job.err")).unwrap_or_default();
        assert!(!line.is_empty(), "the job has ended:\n{errors}");
        line
    }

    /// Tells it to end, and expects it to end well. Returns what it printed last.
    fn finish(mut self) -> Vec<String> {
        let folder = self.home.folder.path();
        std::fs::write(folder.join("end"), "").unwrap();
        let mut lines = Vec::new();
        loop {
            let line = self.next();
            if line.contains("RESULT") {
                break;
            }
            lines.push(line);
        }
        assert!(self.child.wait().unwrap().success());
        for file in ["job.py", "job.err", "end"] {
            std::fs::remove_file(folder.join(file)).unwrap();
        }
        lines
    }
}

impl Drop for Rounds<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What is seen of pods while they are replaced.
struct Replacement {
    /// Each pod's identity at first.
    first: BTreeMap<String, String>,
    /// Those whose successors were ready once. What they do later is not of the change.
    replaced: BTreeSet<String>,
    /// In their order those that went, and who led then.
    went: Vec<(String, Option<String>)>,
    leader: Option<String>,
    /// When that was asked for: a command takes more processor time than a look at the pods.
    asked: Option<Instant>,
}

const BETWEEN_LOOKS: Duration = Duration::from_millis(20);
const BETWEEN_QUESTIONS: Duration = Duration::from_millis(200);

impl Replacement {
    /// Of the masters and workers that are there now.
    fn new(home: &Home) -> Self {
        let pods = masters_and_workers(home).into_iter();
        let first = pods.map(|record| {
            let metadata = &record["pod"]["metadata"];
            [&metadata["name"], &metadata["uid"]].map(|value| value.as_str().unwrap().to_owned())
        });
        let first: BTreeMap<_, _> = first.map(|[name, uid]| (name, uid)).collect();
        assert_eq!(first.len(), 5, "{first:?}");
        Self {
            first,
            replaced: BTreeSet::new(),
            went: vec![],
            leader: None,
            asked: None,
        }
    }

    fn look(&mut self, home: &Home) {
        if self.asked.is_none_or(|asked| asked.elapsed() > BETWEEN_QUESTIONS) {
            self.leader = leader(&home.status("spark"));
            self.asked = Some(Instant::now());
        }
        let there = masters_and_workers(home);
        let mut away = Vec::new();
        for (name, uid) in &self.first {
            let record = there.iter().find(|record| record["pod"]["metadata"]["name"] == **name);
            let pod = record.map_or(&Value::Null, |record| &record["pod"]);
            let is_first = pod["metadata"]["uid"] == **uid;
            let is_old = is_first && pod["metadata"]["deletionTimestamp"].is_null();
            if !is_old && !self.went.iter().any(|(gone, _)| gone == name) {
                self.went.push((name.clone(), self.leader.clone()));
            }
            if !is_first && pod["status"]["containerStatuses"][0]["ready"] == true {
                self.replaced.insert(name.clone());
            }
            if !is_old && !self.replaced.contains(name) {
                away.push(name);
            }
        }
        let workers = away.iter().filter(|name| name.contains("worker")).count();
        assert!(workers == 0 || workers == away.len(), "away together: {away:?}");
    }
}

fn masters_and_workers(home: &Home) -> Vec<Value> {
    let text = std::fs::read_to_string(home.cluster("spark").join("seen.json")).unwrap();
    let seen: Value = serde_json::from_str(&text).unwrap();
    let mut records = seen["pods"].as_array().unwrap().clone();
    records.retain(|record| {
        let name = record["pod"]["metadata"]["name"].as_str().unwrap();
        name.contains("-master-") || name.contains("-worker-")
    });
    records
}

fn leader(state: &Value) -> Option<String> {
    let masters = state["masters"].as_array()?;
    let leader = masters.iter().find(|master| master["status"] == "ALIVE")?;
    Some(leader["name"].as_str()?.to_owned())
}

#[test]
fn masters_and_workers_never_change_at_the_same_time() {
    let home = Home::new();
    let file = home.folder.path().join("sparkha.yaml");
    let with = |timeout: u32| {
        let text =
            format!("zookeeper: {{count: 1}}\nworkers: {{count: 2}}\nsparkConf: {{spark.worker.timeout: {timeout}}}\n");
        std::fs::write(&file, text).unwrap();
        ["create", "--yes", "-f", file.to_str().unwrap()]
    };
    home.run(&with(60)).exits(0);
    let job = Rounds::start(&home);

    let (done, mut replacement) = (AtomicBool::new(false), Replacement::new(&home));
    let run = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                replacement.look(&home);
                std::thread::sleep(BETWEEN_LOOKS);
            }
        });
        let run = home.run(&with(61));
        done.store(true, Ordering::Relaxed);
        run
    });
    run.exits(0).says("Pods of spark-master replaced");
    let went = &replacement.went;
    let masters = went.iter().take_while(|(name, _)| name.contains("master")).count();
    assert_eq!((masters, went.len()), (3, 5), "{went:?}");
    // The leader went last: there was one change, and not one with each master.
    for (master, leader) in &went[..2] {
        assert_ne!(leader.as_ref(), Some(master), "{went:?}");
    }
    job.finish();
    home.run(&with(61)).exits(0).says("Nothing to change");

    std::fs::remove_file(file).unwrap();
    home.run(&["teardown"]).exits(0);
    home.is_empty();
}

#[test]
fn another_spark_waits_for_what_runs() {
    let home = Home::new();
    let old = spark_home_of(OLD);
    let old = old.to_str().unwrap();
    let new = spark_home().to_str().unwrap();
    let size = ["--masters", "2", "--workers", "1", "-f", "-"];
    let run = |verb: &str, spark: &str, more: &[&str]| {
        let mut command = home.command(&[&[verb, "--spark-home", spark], &size[..], more].concat());
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut input, b"zookeeper: {count: 1, failoverSeconds: 6}\n").unwrap();
        child
    };
    let ended = |child: Child| crate::kit::Run::from(child.wait_with_output().unwrap());
    ended(run("upgrade", new, &[])).exits(7);
    ended(run("create", old, &[])).exits(0);
    let before = std::fs::read_to_string(home.cluster("spark").join("wanted.json")).unwrap();
    let mut job = Rounds::start(&home);
    let id = home.status("spark")["applications"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();

    // Under a running application the version stays.
    ended(run("create", new, &["--yes"]))
        .exits(5)
        .says("Spark 4.2.1 → 4.3.0 would kill the running applications")
        .says(&format!("{id} rounds of "))
        .says("(1 core)")
        .says("`sparkha upgrade");
    let now = || std::fs::read_to_string(home.cluster("spark").join("wanted.json")).unwrap();
    assert_eq!(now(), before);

    // An upgrade that nobody waits for changes nothing, and takes no jobs.
    ended(run("upgrade", new, &["--drain-timeout", "1s"]))
        .exits(6)
        .says(&format!("{id} rounds of "))
        .says("--abort");
    let told = home.run(&["status"]).exits(0).stdout;
    assert!(
        told.contains("Upgrade    Spark 4.2.1 → 4.3.0 waits for running applications"),
        "{told}"
    );
    home.run(&["submit", "--", home.folder.path().join("job.py").to_str().unwrap()])
        .exits(5)
        .says("accepts no new jobs");
    ended(run("upgrade", old, &[]))
        .exits(0)
        .says("refuses new jobs: `sparkha upgrade")
        .says("--abort");
    home.run(&["upgrade", "--abort"]).exits(0).says("Spark stays 4.2.1");
    assert_eq!(now(), before);

    // One that is waited for ends, too, when another command aborts it.
    let waiting = run("upgrade", new, &[]);
    home.wait_for(SOON, "the drain", || now().contains("\\\"draining\\\""));
    home.run(&["upgrade", "--abort"]).exits(0).says("Spark stays 4.2.1");
    ended(waiting).exits(5).says("another command has aborted");
    assert_eq!(now(), before);

    // Cut off while it waits, and again while it changes pods, it goes on.
    let mut waiting = run("upgrade", new, &[]);
    home.wait_for(SOON, "the drain", || now().contains("\\\"draining\\\""));
    signal(waiting.id() as i32, "KILL");
    waiting.wait().unwrap();
    job.next();
    job.finish();
    let mut changing = run("upgrade", new, &[]);
    home.wait_for(SOON, "the change", || now().contains("\\\"changing\\\""));
    signal(changing.id() as i32, "KILL");
    changing.wait().unwrap();
    home.run(&["upgrade", "--abort"]).exits(5).says("has already changed");
    ended(run("upgrade", new, &[])).exits(0).says("In service");
    ended(run("upgrade", new, &[])).exits(0).says("Nothing to change");
    for pod in [
        "spark-zookeeper-0",
        "spark-master-0",
        "spark-master-1",
        "spark-worker-0",
    ] {
        let environment = std::fs::read(format!("/proc/{}/environ", home.process("spark", pod))).unwrap();
        let expected = format!("SPARK_HOME={new}");
        let mut variables = environment.split(|byte| *byte == 0);
        assert!(variables.any(|variable| variable == expected.as_bytes()), "{pod}");
    }
    Rounds::start(&home).finish();

    home.run(&["teardown"]).exits(0);
    home.is_empty();
}

/// Numbers of a stream's batches.
fn batches(lines: &[String]) -> Vec<u32> {
    let number = |line: &String| line.split(' ').nth(1)?.parse().ok();
    lines.iter().filter_map(number).collect()
}

#[test]
fn two_generations_run_side_by_side() {
    let home = Home::new();
    let folder = home.folder.path();
    let old = spark_home_of(OLD);
    let old = old.to_str().unwrap();
    let new = spark_home().to_str().unwrap();
    let file = folder.join("sparkha.yaml");
    std::fs::write(
        &file,
        "masters: {count: 2}\nworkers: {count: 1}\nzookeeper: {count: 1}\n",
    )
    .unwrap();
    let file = file.to_str().unwrap();
    home.run(&["create", "--spark-home", old, "-f", file]).exits(0);
    let mut stream = Rounds::of(&home, STREAM);
    let mut seen = vec![stream.next()];
    let upgrade = ["upgrade", "--side-by-side", "--spark-home", new];
    let version = folder.join("version.py");
    let text = "from pyspark import SparkContext\nprint('VERSION', SparkContext().version)\n";
    std::fs::write(&version, text).unwrap();
    let submit = |name: &str| {
        home.run(&["submit", name, "--", version.to_str().unwrap()])
            .exits(0)
            .stdout
    };
    let leaders = || {
        let routes = home.run(&["route", "render", "--format", "json"]).exits(0).stdout;
        let routes: Vec<Value> = serde_json::from_str(&routes).unwrap();
        let leaders = routes.iter().filter(|route| route["owner"]["role"] == "leader");
        let pair = |route: &Value| {
            ["host", "cluster"].map(|key| {
                let value = route.get(key).unwrap_or(&route["owner"][key]);
                value.as_str().unwrap().to_owned()
            })
        };
        leaders.map(pair).collect::<Vec<_>>()
    };
    let pair = |host: &str, cluster: &str| [format!("{host}-master.default.k8s"), cluster.to_owned()];

    // Old jobs go on, new ones have the new Spark, and both generations are seen.
    home.run(&[&upgrade[..], &["--drain-timeout", "1s"]].concat())
        .exits(6)
        .says("stream of ")
        .says("--abort");
    seen.push(stream.next());
    assert!(submit("spark").contains("VERSION 4.3.0"));
    let told = home.run(&["status"]).exits(0).stdout;
    assert!(told.contains("spark-2 runs new jobs"), "{told}");
    assert_eq!(leaders(), [pair("spark-2", "spark-2"), pair("spark", "spark")]);
    home.run(&["create", "-f", file, "--workers", "2"])
        .exits(5)
        .says("its successor spark-2");

    // It can go back as long as the old generation lives, also while an upgrade waits for its jobs.
    let mut waiting = home.command(&upgrade);
    let mut waiting = waiting.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut told = BufReader::new(waiting.stderr.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let waits = told.any(|line| line.contains("sends new jobs to spark-2"));
    home.run(&["upgrade", "--abort"]).exits(0).says("Spark stays 4.2.1");
    assert!(waits && told.any(|line| line.contains("another command has aborted")));
    assert_eq!(waiting.wait().unwrap().code(), Some(5));
    assert!(submit("spark").contains("VERSION 4.2.1"));
    assert!(!home.cluster("spark-2").exists());
    home.run(&["upgrade", "--abort"])
        .exits(0)
        .says("No upgrade is in progress");

    // Cut off, it goes on.
    let mut waiting = home.command(&upgrade);
    let mut waiting = waiting.stderr(Stdio::null()).spawn().unwrap();
    let wanted = || std::fs::read_to_string(home.cluster("spark").join("wanted.json")).unwrap();
    home.wait_for(2 * SOON, "the successor", || wanted().contains("\\\"sideBySide\\\""));
    signal(waiting.id() as i32, "KILL");
    waiting.wait().unwrap();
    seen.push(stream.next());
    seen.extend(stream.finish());

    // The stream goes on where it was, with the new Spark. Then nothing runs on the old generation, and it goes.
    let mut stream = Rounds::of(&home, STREAM);
    let first = stream.next();
    assert!(first.contains("4.3.0"), "{first}");
    home.run(&upgrade).exits(0).says("In service");
    seen.extend([first, stream.next()]);
    assert!(!home.cluster("spark").exists());
    assert_eq!(leaders(), [pair("spark-2", "spark-2"), pair("spark", "spark-2")]);
    home.run(&upgrade).exits(0).says("Nothing to change");
    home.run(&["create", "-f", file]).exits(0).says("Nothing to change");
    let jobs = home.run(&["jobs"]).exits(0).stdout;
    assert!(jobs.contains("stream"), "{jobs}");
    seen.extend(stream.finish());
    // One that was stopped while it ran comes again.
    let numbers = batches(&seen);
    assert!(numbers.windows(2).all(|pair| pair[1] - pair[0] <= 1), "{numbers:?}");

    home.run(&["teardown"]).exits(0);
    for left in [Path::new(file), &version] {
        std::fs::remove_file(left).unwrap();
    }
    std::fs::remove_dir_all(folder.join("checkpoint")).unwrap();
    home.is_empty();
}
