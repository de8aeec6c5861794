//! A leader that ends hands over: its entrypoint withdraws its latch once the JVM is dead, however it died, and the next one leads long
//! before the session would have expired. Sessions last 40 s here, so that expiry cannot be what is seen. The drill finds the same.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::kit::handover::{SAYS, WHOLE, WITHDRAWN, cluster_file, drill_succeeded};
use crate::kit::local::{Home, signal};
use crate::kit::{Run, leader};

fn log(home: &Home, pod: &str, which: &str) -> String {
    home.log("spark", &format!("{pod}{which}.log"))
}

/// A drill that is running, and when it wrote each line to standard error.
struct Drill {
    child: Child,
    lines: mpsc::Receiver<(Instant, String)>,
    stderr: String,
}

impl Drill {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = sender.send((Instant::now(), line));
            }
        });
        Self {
            child,
            lines,
            stderr: String::new(),
        }
    }

    /// Waits for a line with this text; when it came.
    #[track_caller]
    fn says(&mut self, text: &str) -> Instant {
        loop {
            let Ok((at, line)) = self.lines.recv_timeout(WHOLE) else {
                panic!("not said: {text}\n{}", self.stderr);
            };
            self.stderr += &format!("{line}\n");
            if line.contains(text) {
                return at;
            }
        }
    }

    fn ends(mut self) -> Run {
        let mut stdout = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        let code = self.child.wait().unwrap().code();
        let last = self.lines.iter().map(|(_, line)| line + "\n");
        self.stderr.extend(last);
        Run {
            code,
            stdout,
            stderr: self.stderr,
        }
    }
}

/// Asks a master for its state, each time by a new connection, until it does not answer; when the last answered request began.
fn last_answer(address: &str) -> Instant {
    let mut last = Instant::now();
    loop {
        let began = Instant::now();
        let asked = TcpStream::connect((address, 8080)).and_then(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(b"GET /json/ HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer.starts_with("HTTP/1.1 200"))
        });
        match asked {
            Ok(true) => last = began,
            _ => return last,
        }
    }
}

/// Takes all cores of the cluster until it is ended.
const ENDLESS: &str = r#"
import time
from pyspark import SparkContext
SparkContext(appName="endless")
time.sleep(600)
"#;

#[test]
fn a_leader_that_ends_hands_over_at_once() {
    let home = Home::new();
    let file = cluster_file();
    let path = file.path().to_str().unwrap();
    home.run(&["create", "-f", path]).exits(0);
    home.run(&["failover"])
        .exits(2)
        .says("nothing was changed")
        .says("pass --yes");

    // Each master is the leader once, so none is restarted with a pause. The JVM alone is killed.
    let first = home.whole(WHOLE);
    let sessions = home
        .cluster("spark")
        .join(format!("pods/{first}/tmp/zookeeper-sessions"));
    let told = std::fs::read_to_string(&sessions).unwrap();
    assert_eq!(
        told.lines().count(),
        2,
        "one for the election, one for the state: {told}"
    );
    signal(home.jvm_of("spark", &first), "KILL");
    another_leads(&home, &first);
    // The log of a run is put aside when the next begins.
    home.wait_for(WITHDRAWN, "its entrypoint to tell of it", || {
        [".previous", ""]
            .iter()
            .any(|which| log(&home, &first, which).contains(SAYS))
    });

    // Both die at once, as when a whole control group is out of memory: the next entrypoint withdraws what it finds.
    let second = home.whole(WHOLE);
    let address = home.address("spark", &second);
    for pid in home.processes_of("spark", &second) {
        signal(pid, "KILL");
    }
    another_leads(&home, &second);
    assert_eq!(home.address("spark", &second), address, "it is the same pod");
    home.wait_for(WITHDRAWN, "the next entrypoint to tell of it", || {
        log(&home, &second, "").contains(SAYS)
    });

    // A drill ends it as a kubelet does, with a job that goes on.
    let third = home.whole(WHOLE);
    // Another job has the only core: the drill says so and waits until it is free.
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
    home.wait_for(WHOLE, "the job to run", || {
        let jobs = home.run(&["jobs", "-o", "json"]).json();
        jobs.as_array().unwrap().iter().any(|job| job["state"] == "RUNNING")
    });
    let mut drill = Drill::start(home.command(&["failover", "--yes", "-o", "json"]));
    drill.says("no capacity for the probe job at the moment: each executor requests 512 MiB and 1 core");
    drill.says("no executors yet");
    home.run(&["jobs", "--kill", &driver]).exits(0);
    drill.says("Probe job running");
    // Connections that Spark closed meanwhile are not taken for a loss.
    let answered = last_answer(&home.address("spark", &third));
    let lost = drill.says("gone after");
    assert!(
        answered <= lost,
        "it answered {:?} after it was taken for lost",
        answered - lost
    );
    let report = drill_succeeded(drill.ends(), &third, WITHDRAWN);
    assert_eq!(report["victim"], third.as_str());
    assert_ne!(report["leader"], third.as_str());
    assert_eq!(report["canary"]["wentOn"], true);
    assert!(report["canary"]["results"].as_u64() > Some(1), "{report}");
    let run = home.run(&[
        "failover",
        "--zookeeper",
        "--hard",
        "--no-canary",
        "--yes",
        "-o",
        "json",
    ]);
    drill_succeeded(run, report["leader"].as_str().unwrap(), WITHDRAWN);

    // A cluster that lacks something is left alone.
    let supervisor = home.supervisor("spark");
    signal(supervisor, "STOP");
    home.processes_of("spark", "spark-worker-0")
        .into_iter()
        .for_each(|pid| signal(pid, "KILL"));
    let leads = leader(&home.status("spark"));
    home.wait_for(WHOLE, "the worker to be missed", || {
        home.run(&["status"]).code == Some(9)
    });
    home.run(&["failover", "--yes"]).exits(9).says("nothing was changed");
    assert_eq!(leader(&home.status("spark")), leads);
    signal(supervisor, "CONT");
    home.run(&["teardown"]).exits(0);
    assert!(!Path::new(&sessions).exists());
}

fn another_leads(home: &Home, old: &str) {
    home.wait_for(WITHDRAWN, "another leader", || {
        leader(&home.status("spark")).is_some_and(|leader| leader != old)
    });
}
