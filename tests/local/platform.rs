//! The local platform: real masters, workers and ZooKeepers as processes of this machine, and what happens to them there.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::kit::local::{Home, driver, is_alive, signal, spark_home};
use crate::kit::server::Server;
use crate::kit::{Run, SmallDisk, certificates, file, masters_in, on_terminal, run};

/// The smallest cluster.
const SMALL: [&str; 5] = ["create", "--masters", "1", "--workers", "1"];
const READY: Duration = Duration::from_secs(90);

fn ready(home: &Home) -> bool {
    home.run(&["status"]).code == Some(0)
}

/// Sums squares in rounds that shuffle between the workers.
const JOB: &str = r#"
import sys, time
from pyspark import SparkContext
numbers = SparkContext(appName="squares").parallelize(range(1000), 4)
for n in range(int(sys.argv[1])):
    total = numbers.map(lambda x: (x % 10, x * x)).reduceByKey(lambda a, b: a + b, 4).values().sum()
    print("round", n, total, flush=True)
    time.sleep(0.5)
print("RESULT", total, flush=True)
"#;

#[test]
fn a_local_cluster_lives_through_what_happens_to_it() {
    let home = Home::new();

    // It comes up, and says what is true.
    let run = home
        .run(&["create", "-o", "json"])
        .exits(0)
        .says("Not supported on this machine")
        .says("In service");
    let state = run.json();
    assert_eq!(state["ready"], true);
    assert_eq!(masters_in(&state, "ALIVE").len(), 1);
    assert_eq!(masters_in(&state, "STANDBY").len(), 2);
    assert_eq!(state["workers"]["registered"], 2);
    assert_eq!(state["workers"]["memoryMib"], 2 * 1116);
    for worker in ["spark-worker-0", "spark-worker-1"] {
        let log = || home.log("spark", &format!("{worker}.log"));
        // The leader knows of it a moment earlier than it does itself.
        home.wait_for(READY, "the worker to know that it is registered", || {
            log().contains("Successfully registered")
        });
        assert!(
            !log().contains("Retrying connection"),
            "it was started before one led: {}",
            log()
        );
    }
    assert_eq!(home.run(&["list", "-A", "-o", "name"]).stdout, "default/spark\n");
    // At once, whatever the probes have seen by now.
    let listed = &home.run(&["list", "-o", "json"]).json()[0];
    assert_eq!((&listed["ready"], &listed["inService"]), (&true.into(), &true.into()));
    assert_eq!(listed["zookeeper"]["ready"], 3);
    home.run(&["create"]).exits(0).says("Nothing to change");
    let supervisor = home.supervisor("spark").to_string();
    let session = Command::new("ps")
        .args(["-o", "sid=", "-p", &supervisor])
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&session.stdout).trim(),
        supervisor,
        "a session of its own"
    );

    the_secret_is_nowhere_else(&home);
    // It tries for a minute, while other things are tested.
    let stranger = a_job_without_the_secret(&home);
    let (watch, screen) = watchers(&home);
    memory_is_limited_where_that_is_permitted(&home);
    a_job_survives_the_loss_of_the_leader(&home);
    a_failover_was_watched(&home, watch, screen);
    a_worker_that_ends_is_started_again(&home);
    a_lost_zookeeper_comes_back(&home);
    let stranger = stranger.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&stranger.stdout);
    assert!(
        !stranger.status.success() && said.contains("All masters are unresponsive"),
        "{said}"
    );
    a_lost_quorum_comes_back(&home);
    the_supervisor_may_be_killed(&home);
    after_a_reboot_create_starts_it_again(&home);

    // Another number of workers, and only that.
    let master = home.process("spark", "spark-master-0");
    home.run(&["create", "--workers", "3"])
        .exits(0)
        .says("3 of 3 registered");
    home.run(&["create", "--workers", "1"]).exits(0);
    assert_eq!(home.status("spark")["workers"]["registered"], 1);
    assert_eq!(home.process("spark", "spark-master-0"), master);

    let mark = home.mark("spark");
    home.run(&["teardown"]).exits(0).says("Gone after");
    home.is_empty();
    assert_eq!(control_groups(&mark), Vec::<String>::new());
    home.run(&["teardown"]).exits(0).says("Nothing to do");
    home.run(&["status"]).exits(7);
}

/// One trial of `make bench-memory`.
#[test]
fn executors_that_use_all_their_memory_are_not_killed() {
    let home = Home::without_space();
    let bench = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench/memory.sh");
    // With the environment of the other tests' commands, but with the machine's own java: the class archive of tests takes memory in each JVM.
    let like = home.command(&[]);
    let variables = like.get_envs().filter_map(|(name, value)| Some((name, value?)));
    let variables = variables.filter(|(name, _)| *name != "JAVA_HOME");
    let run: Run = Command::new(bench)
        .arg(like.get_program())
        .envs(variables)
        .env("TRIALS", "1")
        .output()
        .unwrap()
        .into();
    let said = run.exits(0).stdout;
    assert!(said.contains(" 0 of 1 (0)"), "{said}");
}

/// The control groups of a cluster whose containers' marks begin so.
fn control_groups(mark: &str) -> Vec<String> {
    let found = Command::new("find")
        .args(["/sys/fs/cgroup", "-type", "d", "-name", &format!("{mark}*")])
        .output()
        .unwrap();
    String::from_utf8(found.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

fn memory_is_limited_where_that_is_permitted(home: &Home) {
    let checks = home.run(&["doctor", "-o", "json"]).exits(0).json();
    let check = checks
        .as_array()
        .unwrap()
        .iter()
        .find(|check| check["name"] == "control groups")
        .unwrap();
    if check["status"] != "ok" {
        assert_eq!(control_groups(&home.mark("spark")), Vec::<String>::new());
        return;
    }
    let worker = home.process("spark", "spark-worker-0");
    let is_in = |group: &String| {
        let processes = std::fs::read_to_string(format!("{group}/cgroup.procs")).unwrap_or_default();
        processes.lines().any(|pid| pid == worker.to_string())
    };
    let limit = |group: String| {
        ["memory.limit_in_bytes", "memory.max"]
            .iter()
            .find_map(|file| std::fs::read_to_string(format!("{group}/{file}")).ok())
    };
    let limits: Vec<_> = control_groups(&home.mark("spark"))
        .into_iter()
        .filter(is_in)
        .filter_map(limit)
        .collect();
    assert_eq!(limits, ["2147483648\n"]);
}

fn a_job_survives_the_loss_of_the_leader(home: &Home) {
    let job = home.folder.path().join("job.py");
    std::fs::write(&job, JOB).unwrap();
    let submit = format!(
        "spark-submit --master \"$SPARK_MASTER_URL\" --conf spark.executor.memory=600m '{}' 12 2>'{}'",
        job.display(),
        home.folder.path().join("job.err").display()
    );
    let mut job = driver(home, &submit).spawn().unwrap();
    let mut output = job.stdout.take().unwrap();
    let mut text = String::new();
    let mut buffer = [0; 1024];
    let mut old = None;
    loop {
        let read = output.read(&mut buffer).unwrap();
        if read == 0 {
            break;
        }
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
        if old.is_none() && text.contains("round 1 ") {
            old = home.leader();
            signal(home.process("spark", old.as_ref().unwrap()), "KILL");
        }
    }
    assert!(job.wait().unwrap().success(), "{text}");
    assert!(text.contains("RESULT 332833500"), "{text}");
    assert_ne!(home.leader(), old, "another leads");
    home.wait_for(READY, "the killed master as a standby", || ready(home));
    for file in ["job.py", "job.err", "stranger.py"] {
        std::fs::remove_file(home.folder.path().join(file)).unwrap();
    }
}

/// Spark's secret is in the cluster's folder alone, which is the user's alone.
fn the_secret_is_nowhere_else(home: &Home) {
    let folder = home.cluster("spark");
    assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o077, 0);
    let file = folder.join("secrets/spark-auth/spark.authenticate.secret");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let secret = std::fs::read_to_string(file).unwrap();
    assert!(secret.len() == 64 && secret.bytes().all(|b| b.is_ascii_hexdigit()));
    let environment = home.run(&["local", "env"]).exits(0).stdout;
    assert!(!environment.contains(&secret));
    for file in ["wanted.json", "seen.json"] {
        assert!(
            !std::fs::read_to_string(folder.join(file)).unwrap().contains(&secret),
            "{file}"
        );
    }
    for pod in ["spark-master-0", "spark-worker-0"] {
        for what in ["environ", "cmdline"] {
            let text = std::fs::read(format!("/proc/{}/{what}", home.process("spark", pod))).unwrap();
            assert!(!String::from_utf8_lossy(&text).contains(&secret), "{pod}: {what}");
        }
        let log = std::fs::read_to_string(folder.join(format!("logs/{pod}.log"))).unwrap();
        assert!(!log.contains(&secret), "{pod}");
    }
    // Nobody gets in by REST, which asks nobody for a secret.
    let rest = std::net::TcpStream::connect((home.address("spark", "spark-master-0"), 6066));
    assert_eq!(rest.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
}

/// `status --watch` as a script sees it, and on a terminal.
fn watchers(home: &Home) -> (Child, Child) {
    let watch = home
        .command(&["status", "--watch"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let screen = on_terminal(&home.command(&["status", "--watch"]))
        .arg(home.folder.path().join("screen"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    (watch, screen)
}

fn a_failover_was_watched(home: &Home, watch: Child, mut screen: Child) {
    signal(watch.id() as i32, "INT");
    let watched = watch.wait_with_output().unwrap();
    let said = String::from_utf8(watched.stdout).unwrap();
    assert!(watched.status.success(), "{said}");
    // The whole state once, then what changed.
    assert_eq!(said.matches("Cluster    default/spark").count(), 1, "{said}");
    for news in [
        "was STANDBY, and is ",
        "application squares has started",
        "the cluster is NOT READY: ",
    ] {
        assert!(said.contains(news), "{news}: {said}");
    }
    // Ctrl-C at the terminal.
    screen.stdin.as_mut().unwrap().write_all(&[3]).unwrap();
    assert!(screen.wait().unwrap().success());
    let file = home.folder.path().join("screen");
    let shown = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(file).unwrap();
    assert!(shown.contains("\x1b[?1049h"), "the alternate screen: {shown:?}");
    assert!(
        shown.contains("Ctrl-C ends") && shown.contains("was STANDBY, and is "),
        "{shown:?}"
    );
    assert!(shown.contains("\x1b[?1049l"), "the terminal as it was: {shown:?}");
}

fn a_job_without_the_secret(home: &Home) -> Child {
    let job = home.folder.path().join("stranger.py");
    std::fs::write(
        &job,
        "from pyspark import SparkContext\nSparkContext(appName='stranger').range(1).count()\n",
    )
    .unwrap();
    let submit = format!(
        "unset SPARK_CONF_DIR; spark-submit --master \"$SPARK_MASTER_URL\" '{}' 2>&1",
        job.display()
    );
    driver(home, &submit).spawn().unwrap()
}

fn a_worker_that_ends_is_started_again(home: &Home) {
    let (before, address) = (
        home.process("spark", "spark-worker-1"),
        home.address("spark", "spark-worker-1"),
    );
    signal(before, "KILL");
    home.wait_for(READY, "another process of the worker", || {
        let state = home.status("spark");
        state["ready"] == true && state["workers"]["pods"][1]["restarts"] == 1
    });
    assert_ne!(home.process("spark", "spark-worker-1"), before);
    assert_eq!(
        home.address("spark", "spark-worker-1"),
        address,
        "a container's restart keeps the pod's address"
    );
}

fn a_lost_zookeeper_comes_back(home: &Home) {
    signal(home.process("spark", "spark-zookeeper-0"), "KILL");
    home.wait_for(READY, "the quorum", || {
        let state = home.status("spark");
        state["ready"] == true && state["zookeeper"]["servers"][0]["restarts"] == 1
    });
}

/// Two servers that hang until the leader has given up.
fn a_lost_quorum_comes_back(home: &Home) {
    assert!(home.leader().is_some());
    let lost = ["spark-zookeeper-1", "spark-zookeeper-2"].map(|pod| home.process("spark", pod));
    lost.iter().for_each(|&pid| signal(pid, "STOP"));
    home.wait_for(READY, "the leader to give up", || home.leader().is_none());
    lost.iter().for_each(|&pid| signal(pid, "CONT"));
    home.wait_for(READY, "a leader again, without help", || ready(home));
}

fn the_supervisor_may_be_killed(home: &Home) {
    let pods = ["spark-master-0", "spark-worker-0", "spark-zookeeper-0"];
    let before = pods.map(|pod| home.process("spark", pod));
    signal(home.supervisor("spark"), "KILL");
    home.wait_for(READY, "status to tell", || home.run(&["status"]).code == Some(9));
    assert!(home.run(&["status"]).stdout.contains("its supervisor is gone"));
    let listed = home.run(&["list"]).stdout;
    assert!(listed.contains("not ready"), "{listed}");
    assert!(before.iter().all(|&pid| is_alive(pid)), "the cluster goes on");
    // What ends now is started by the next supervisor, which goes on with the others.
    signal(before[1], "KILL");
    home.run(&["create"]).exits(0).says("Supervisor restarted");
    // The worker's JVM outlives its shell for a moment, and is registered so long.
    home.wait_for(READY, "another worker", || {
        let worker = home.process_if_any("spark", pods[1]);
        worker.is_some_and(|worker| worker != before[1]) && ready(home)
    });
    let after = pods.map(|pod| home.process("spark", pod));
    assert_eq!((before[0], before[2]), (after[0], after[2]));
    // What it did not start itself it watches all the same.
    signal(after[0], "KILL");
    home.wait_for(READY, "the adopted master to be started again", || {
        home.process_if_any("spark", "spark-master-0")
            .is_some_and(|pid| pid != after[0])
            && ready(home)
    });
}

fn after_a_reboot_create_starts_it_again(home: &Home) {
    for _ in 0..2 {
        home.processes().into_iter().for_each(|pid| signal(pid, "KILL"));
    }
    home.wait_for(READY, "status to tell", || home.run(&["status"]).code == Some(9));
    home.run(&["create"])
        .exits(0)
        .says("Supervisor restarted")
        .says("In service");
}

#[test]
fn two_clusters_side_by_side() {
    let home = Home::new();
    // Its ports are taken at the address that the first would choose.
    home.run(&[&SMALL[..], &["one", "--no-wait"]].concat()).exits(0);
    home.run(&[&SMALL[..], &["two", "--namespace", "other"]].concat())
        .exits(0)
        .says("In service");
    home.run(&[&SMALL[..], &["one"]].concat())
        .exits(0)
        .says("Nothing to change");
    assert_eq!(
        home.run(&["list", "-A", "-o", "name"]).stdout,
        "default/one\nother/two\n"
    );
    assert_eq!(home.run(&["list", "-o", "name"]).stdout, "default/one\n");
    signal(home.supervisor("one"), "KILL");
    home.wait_for(READY, "the command that starts it again", || {
        let status = home.run(&["status", "one"]).stdout;
        status
            .contains("its supervisor is gone: `sparkha create one --local`, with the same arguments, starts it again")
    });
    // Nobody starts its master again, and nobody can tell of jobs.
    home.processes_of("one", "one-master-0")
        .into_iter()
        .for_each(|pid| signal(pid, "KILL"));
    home.run(&["teardown", "one"]).exits(0).says("No master leads");
    home.run(&["status", "two", "--namespace", "other"]).exits(0);
    // The doctor looks at the cluster that create means, whether the file or a flag names its namespace.
    let file = home.folder.path().join("two.yaml");
    std::fs::write(
        &file,
        "name: two\nnamespace: other\nmasters: {count: 1}\nworkers: {count: 1}\n",
    )
    .unwrap();
    let of_file = ["-f", file.to_str().unwrap()];
    home.run(&[&["create"], &of_file[..]].concat())
        .exits(0)
        .says("Nothing to change");
    for arguments in [&of_file[..], &["two", "--namespace", "other"]] {
        let checks = home.run(&[&["doctor"], arguments].concat()).exits(0).stdout;
        assert!(checks.contains("in service"), "{checks}");
    }
    // The flag wins for both.
    let elsewhere = [&of_file[..], &["--namespace", "elsewhere"]].concat();
    home.run(&[&["create", "--dry-run"], &elsewhere[..]].concat()).exits(0);
    let checks = home.run(&[&["doctor"], &elsewhere[..]].concat()).stdout;
    assert!(!checks.contains("in service"), "{checks}");
    std::fs::remove_file(&file).unwrap();
    home.run(&["teardown", "two", "--namespace", "other"]).exits(0);
    home.is_empty();
}

#[test]
fn an_external_zookeeper_is_used_and_left_clean() {
    let home = Home::new();
    let file = home.folder.path().join("sparkha.yaml");
    // One of sparkha's own, which wants to know who asks.
    let keeper = "masters: {count: 1}\nworkers: {count: 0}\nzookeeper: {count: 1}\n";
    std::fs::write(&file, keeper).unwrap();
    home.run(&["create", "keeper", "-f", file.to_str().unwrap()]).exits(0);
    let server = format!("{}:2181", home.address("keeper", "keeper-zookeeper-0"));
    let external = format!(
        "masters: {{count: 2}}\nworkers: {{count: 1}}\n\
         zookeeper: {{external: {{servers: ['{server}'], chroot: /test, secret: ensemble}}}}\n"
    );
    std::fs::write(&file, external).unwrap();
    let create = ["create", "-f", file.to_str().unwrap()];
    home.run(&["create", "--masters", "2", "--zookeeper", &server])
        .exits(8)
        .says("failed to connect to ZooKeeper");
    let secret = home.folder.path().join(".config/sparkha/secrets/default/ensemble");
    home.run(&create)
        .exits(8)
        .says(&format!("Secret ensemble does not exist: create {}", secret.display()));
    std::fs::create_dir_all(&secret).unwrap();
    std::fs::write(secret.join("username"), "spark\n").unwrap();
    home.run(&create).exits(8).says("Secret ensemble has no password");
    std::fs::write(secret.join("password"), "a guess").unwrap();
    home.run(&create).exits(8).says("failed to connect to ZooKeeper");
    let password = home.cluster("keeper").join("secrets/keeper-auth/zookeeper.password");
    std::fs::copy(&password, secret.join("password")).unwrap();
    let password = std::fs::read_to_string(&password).unwrap();
    // Another cluster's znodes are there already, and somebody else's: it is told so, and works.
    a_znode_that_is_not_ours(&server, &password, "/test/sparkha/default/late/leader_election");
    let late = ["create", "late", "--workers", "0", "-f", file.to_str().unwrap()];
    // What was there before a create that fails is there after it.
    home.run(&[&late[..], &["--timeout", "1s"]].concat())
        .exits(6)
        .says("so its objects are removed")
        .says("znodes below /test/sparkha/default/late kept");
    assert!(znodes(&server, &password).contains(&"/test/sparkha/default/late/leader_election".to_owned()));
    home.run(&late).exits(0);
    home.run(&create).exits(0).says("1 alive, 1 standby of 2");
    znodes_are_for_the_masters_alone(&server, &password);
    nobody_else_takes_or_removes_them(&home, &create, || znodes(&server, &password));
    home.wait_for(READY, "the other cluster's masters to tell", || {
        home.log("late", "late-master-0.log")
            .contains("znodes below /test/sparkha/default/late are not protected yet")
    });
    home.run(&["teardown", "late"])
        .exits(2)
        .says("the znodes below /test/sparkha/default/late in ZooKeeper at")
        .says("--keep-data");
    // What is kept has no owner until the next cluster of that name claims it.
    home.run(&["teardown", "late", "--keep-data"])
        .exits(0)
        .says("znodes below /test/sparkha/default/late kept");
    home.run(&late).exits(0);
    home.run(&["teardown", "late", "--yes"]).exits(0);
    assert!(!znodes(&server, &password).iter().any(|path| path.contains("/late")));

    home.run(&["teardown", "--yes"])
        .exits(0)
        .says("znodes removed from ZooKeeper");
    home.run(&["status", "keeper"]).exits(0);
    home.run(&["teardown", "keeper"]).exits(0);
    // What does not answer is told beforehand.
    home.run(&create).exits(8).says("failed to connect to ZooKeeper");
    std::fs::remove_file(file).unwrap();
    std::fs::remove_dir_all(home.folder.path().join(".config")).unwrap();
    home.is_empty();
}

/// The same file in another home, and an inventory that was copied from there.
fn nobody_else_takes_or_removes_them(home: &Home, create: &[&str], znodes: impl Fn() -> Vec<String>) {
    let before = znodes();
    assert!(
        before
            .iter()
            .any(|path| path.starts_with("/test/sparkha/default/spark/leader_election/")),
        "{before:?}"
    );
    let elsewhere = home.folder.path().join("elsewhere");
    let other = |arguments: &[&str]| -> Run {
        let mut command = home.command(arguments);
        command.env("XDG_STATE_HOME", &elsewhere).output().unwrap().into()
    };
    for more in [&["--timeout", "20s"][..], &["--timeout", "20s", "--skip-preflight"]] {
        other(&[create, more].concat())
            .exits(5)
            .says("znode /test/sparkha/default/spark in ZooKeeper at")
            .says("belongs to local cluster spark in namespace default at")
            .says(&home.cluster("spark").display().to_string());
        assert_eq!(znodes(), before);
    }
    let copied = elsewhere.join("sparkha/clusters/other/spark");
    std::fs::create_dir_all(&copied).unwrap();
    std::fs::copy(home.cluster("spark").join("wanted.json"), copied.join("wanted.json")).unwrap();
    other(&["teardown", "--namespace", "other", "--yes"])
        .exits(0)
        .says("are not changed: the path is not this cluster's");
    assert_eq!(znodes(), before);
    assert_eq!(home.status("spark")["ready"], true);
}

/// All paths.
fn znodes(server: &str, password: &str) -> Vec<String> {
    let work = async {
        let client = logged_in(server, password).await;
        let mut paths = vec![String::new()];
        let mut next = 0;
        while let Some(parent) = paths.get(next).cloned() {
            next += 1;
            let of = if parent.is_empty() { "/" } else { &parent };
            let children = client.list_children(of).await.unwrap_or_default();
            paths.extend(children.iter().map(|child| format!("{parent}/{child}")));
        }
        paths.retain(|path| path.starts_with("/test"));
        paths.sort();
        paths
    };
    blocking(work)
}

/// Everybody may use it, and nobody change that.
fn a_znode_that_is_not_ours(server: &str, password: &str, path: &str) {
    use zookeeper_client::{Acl, Acls, AuthId, CreateMode, Permission};
    let work = async {
        let client = logged_in(server, password).await;
        let but_change = Permission::CREATE | Permission::READ | Permission::WRITE | Permission::DELETE;
        let acls = [Acl::new(but_change, AuthId::anyone())];
        let parents = Acls::anyone_all();
        client
            .mkdir(
                path.rsplit_once('/').unwrap().0,
                &CreateMode::Persistent.with_acls(parents),
            )
            .await
            .unwrap();
        client
            .create(path, &[], &CreateMode::Persistent.with_acls(Acls::new(&acls)))
            .await
            .unwrap();
    };
    blocking(work);
}

/// Whoever has not logged in reads nothing, and the cluster's own znodes are for its user alone.
fn znodes_are_for_the_masters_alone(server: &str, password: &str) {
    use zookeeper_client::{Acl, AuthId, Client, Permission};
    let work = async {
        let stranger = match Client::connector().with_fail_eagerly().connect(server).await {
            Ok(stranger) => stranger.list_children("/").await.map(|_| ()),
            Err(error) => Err(error),
        };
        assert!(stranger.is_err(), "{stranger:?}");
        let client = logged_in(server, password).await;
        let spark = AuthId::new("sasl", "spark");
        for (znode, id) in [
            ("/test/sparkha/default", AuthId::anyone()),
            ("/test/sparkha/default/spark", spark.clone()),
            ("/test/sparkha/default/spark/leader_election", spark.clone()),
            ("/test/sparkha/default/spark/master_status", spark),
        ] {
            let (acl, _) = client.get_acl(znode).await.unwrap();
            assert_eq!(acl, [Acl::new(Permission::ALL, id)], "{znode}");
        }
    };
    blocking(work);
}

async fn logged_in(server: &str, password: &str) -> zookeeper_client::Client {
    let login = zookeeper_client::SaslOptions::digest_md5("spark", password.to_owned());
    let connector = zookeeper_client::Client::connector().with_sasl(login);
    connector.connect(server).await.unwrap()
}

fn blocking<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(work)
}

#[test]
fn one_create_at_a_time_and_an_interrupted_one_is_gone_on_with() {
    let home = Home::new();
    let mut first = home.command(&SMALL).stderr(Stdio::piped()).spawn().unwrap();
    home.wait_for(READY, "the first at work", || {
        home.cluster("spark").join("wanted.json").exists()
    });
    home.run(&SMALL)
        .exits(5)
        .says("another sparkha")
        .says(&format!("process {}", first.id()));
    signal(first.id() as i32, "INT");
    assert_eq!(first.wait().unwrap().code(), Some(130));
    let mut killed = home.command(&SMALL).stderr(Stdio::piped()).spawn().unwrap();
    killed.kill().unwrap();
    killed.wait().unwrap();
    home.run(&SMALL).exits(0).says("In service");
    another_secret_is_everybodys(&home);
    home.run(&["teardown"]).exits(0);
    home.is_empty();
}

fn another_secret_is_everybodys(home: &Home) {
    let secret = home
        .cluster("spark")
        .join("secrets/spark-auth/spark.authenticate.secret");
    let old = std::fs::read_to_string(&secret).unwrap();
    let worker = home.process("spark", "spark-worker-0");
    home.run(&["rotate-secret"])
        .exits(2)
        .says("nothing was changed")
        .says("--yes");
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), old);
    home.run(&["rotate-secret", "--yes"]).exits(0).says("1 of 1 registered");
    let new = std::fs::read_to_string(&secret).unwrap();
    assert!(new != old && new.len() == 64);
    assert_ne!(home.process("spark", "spark-worker-0"), worker);
    let drivers = std::fs::read_to_string(home.cluster("spark").join("drivers/spark-defaults.conf")).unwrap();
    assert!(drivers.contains(&new) && !drivers.contains(&old));
}

#[test]
fn configuration_changes_restart_what_they_concern() {
    let home = Home::new();
    let file = home.folder.path().join("sparkha.yaml");
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    let create = |home: &Home| home.run(&["create", "-f", file.to_str().unwrap()]);
    // A Secret that the user has not put there is named with its place.
    write("masters: {count: 1}\nworkers: {count: 1, env: {TOKEN: {secretKeyRef: {name: s, key: k}}}}\n");
    create(&home)
        .exits(8)
        .says("Secret s does not exist: create")
        .says("secrets/default/s");
    let secret = home.folder.path().join(".config/sparkha/secrets/default/s");
    std::fs::create_dir_all(&secret).unwrap();
    std::fs::write(secret.join("k"), "top secret\n").unwrap();
    create(&home).exits(0);
    let worker = home.process("spark", "spark-worker-0");
    let environment = std::fs::read(format!("/proc/{worker}/environ")).unwrap();
    assert!(String::from_utf8_lossy(&environment).contains("TOKEN=top secret\0"));
    let (master, worker) = (home.process("spark", "spark-master-0"), worker);
    let host_path = home.folder.path().join("host");
    write(&format!(
        "masters: {{count: 1}}\nworkers:\n  count: 1\n  \
         env: {{TOKEN: {{secretKeyRef: {{name: s, key: k}}}}, MORE: $(POD_IP)!, FILES: '/keys/k|/host/x|/own'}}\n  \
         volumes:\n  - {{name: keys, mountPath: /keys, secret: {{secretName: s}}}}\n  \
         - {{name: host, mountPath: /host, hostPath: {{path: '{}', type: DirectoryOrCreate}}}}\n  \
         - {{name: own, mountPath: /own, emptyDir: {{}}}}\n",
        host_path.display()
    ));
    create(&home).exits(0).says("mount paths of your own volumes");
    assert_eq!(home.process("spark", "spark-master-0"), master);
    assert_ne!(home.process("spark", "spark-worker-0"), worker);
    let environment = std::fs::read(format!("/proc/{}/environ", home.process("spark", "spark-worker-0"))).unwrap();
    let address = home.address("spark", "spark-worker-0");
    let environment = String::from_utf8_lossy(&environment);
    assert!(environment.contains(&format!("MORE={address}!")));
    // Paths of the container are those of this machine.
    let files = environment
        .split('\0')
        .find_map(|variable| variable.strip_prefix("FILES="))
        .unwrap();
    let files: Vec<_> = files.split('|').map(Path::new).collect();
    assert_eq!(std::fs::read_to_string(files[0]).unwrap(), "top secret\n");
    assert_eq!(files[1], host_path.join("x"));
    assert!(files[2].is_dir() && files[2].starts_with(home.cluster("spark")));
    home.run(&["teardown"]).exits(0);
    assert!(!files[2].exists() && host_path.is_dir());
    std::fs::remove_dir(host_path).unwrap();
    assert!(secret.join("k").exists(), "the user's own");
    std::fs::remove_dir_all(home.folder.path().join(".config")).unwrap();
    std::fs::remove_file(file).unwrap();
    home.is_empty();
}

#[test]
fn data_is_kept_and_removed_only_when_told() {
    let home = Home::new();
    let file = home.folder.path().join("sparkha.yaml");
    std::fs::write(
        &file,
        "masters: {count: 1, storage: {size: 1Gi}}\nworkers: {count: 1}\n",
    )
    .unwrap();
    let create = |home: &Home| home.run(&["create", "-f", file.to_str().unwrap()]).exits(0);
    create(&home);
    let former = home.address("spark", "spark-worker-0");
    home.run(&["teardown"]).exits(2).says("1 volume claim with data");
    home.run(&["teardown", "--keep-data"])
        .exits(0)
        .says("1 volume claim kept");
    assert!(home.cluster("spark").join("claims/data-spark-master-0").exists());
    home.run(&["status"]).exits(7);
    // A first create that fails cleans up what it made, and that was not the data.
    home.run(&["create", "-f", file.to_str().unwrap(), "--timeout", "0s"])
        .exits(6)
        .says("so its objects are removed");
    assert!(home.cluster("spark").join("claims/data-spark-master-0").exists());
    create(&home);
    // Or a master that remembers the former worker calls the new one, which takes itself for registered.
    assert_ne!(home.address("spark", "spark-worker-0"), former);
    home.run(&["teardown", "--yes"]).exits(0);
    std::fs::remove_file(file).unwrap();
    home.is_empty();
}

#[test]
fn a_port_that_is_taken() {
    let home = Home::new();
    // On all addresses: there is no way.
    let everywhere = TcpListener::bind(("0.0.0.0", 8081)).unwrap();
    home.run(&SMALL)
        .exits(8)
        .says("port 8081 is taken on every loopback address")
        .says("ss -ltnp");
    home.is_empty();
    let checks = home.run(&["doctor"]).exits(8).stdout;
    assert!(checks.contains("port 8081 is taken"), "{checks}");
    // Who knows better waits for it.
    home.run(&[&SMALL[..], &["--no-wait", "--skip-preflight"]].concat())
        .exits(0);
    drop(everywhere);
    home.run(&SMALL).exits(0).says("In service");
    let checks = home.run(&["doctor"]).exits(0).stdout;
    assert!(checks.contains("in service"), "{checks}");
    // Removing the folder ends the cluster, too.
    std::fs::rename(home.cluster("spark"), home.folder.path().join("taken away")).unwrap();
    home.wait_for(READY, "the processes to end", || home.processes().is_empty());
}

/// A folder with programs of these names and nothing else, for a PATH.
fn path_with(home: &Home, programs: &[&str]) -> String {
    let folder = home.folder.path().join("bin");
    std::fs::create_dir_all(&folder).unwrap();
    for program in programs {
        let found = Command::new("bash")
            .args(["-c", &format!("command -v {program}")])
            .output()
            .unwrap();
        let target = String::from_utf8(found.stdout).unwrap();
        std::os::unix::fs::symlink(target.trim(), folder.join(program)).unwrap();
    }
    folder.display().to_string()
}

fn with_path(home: &Home, path: &str, arguments: &[&str]) -> Run {
    home.command(arguments)
        .env("PATH", path)
        .env_remove("JAVA_HOME")
        .output()
        .unwrap()
        .into()
}

#[test]
fn what_this_machine_lacks_is_told_beforehand() {
    let home = Home::new();
    // Without Java; and, told together, with more memory than there is.
    let path = path_with(&home, &["bash"]);
    with_path(&home, &path, &["create", "--workers", "900", "--worker-memory", "64Gi"])
        .exits(8)
        .says("there is no Java")
        .says("default-jre-headless")
        .says("the pods' memory adds up to 576")
        .says("nothing was changed");
    // With one that is too old.
    let java = Path::new(&path).join("java");
    std::fs::write(&java, "#!/bin/bash\necho 'java version \"1.8.0_452\"' >&2\n").unwrap();
    std::fs::set_permissions(&java, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    with_path(&home, &path, &["create"])
        .exits(8)
        .says("Java 8")
        .says("too old for Spark 4");
    std::fs::remove_dir_all(&path).unwrap();
    // Without Spark.
    let nowhere = home
        .command(&["create"])
        .env_remove("SPARK_HOME")
        .env("PATH", "/usr/bin:/bin")
        .output()
        .unwrap();
    Run::from(nowhere)
        .exits(8)
        .says("there is no Spark on this machine")
        .says("sparkha local fetch 4.3.0");
    let wrong = home.run(&["create", "--spark-home", "/usr"]);
    wrong.exits(8).says("there is no Spark at /usr (--spark-home)");
    home.is_empty();
    let found = home
        .command(&["doctor", "-o", "json"])
        .env_remove("SPARK_HOME")
        .env("PATH", "/usr/bin:/bin")
        .output();
    let checks = Run::from(found.unwrap()).exits(8).json();
    let failed = |check: &&Value| check["status"] == "failed";
    assert_eq!(checks.as_array().unwrap().iter().find(failed).unwrap()["name"], "Spark");
}

#[test]
fn a_full_disk_is_told_and_passes() {
    let mut home = Home::new();
    let disk = SmallDisk::at(home.folder.path().join("disk"), "20k");
    home.state.clone_from(&disk.0);
    home.run(&SMALL)
        .exits(8)
        .says("No space left on device")
        .says("XDG_STATE_HOME");
    assert_eq!(home.processes(), Vec::<i32>::new());
    drop(disk);
    // A create that cannot write changes nothing, and the supervisor lives through it: what it cannot start now, it starts when
    // there is space again.
    let disk = SmallDisk::at(home.folder.path().join("disk"), "4m");
    home.run(&SMALL).exits(0);
    let filler = disk.0.join("filler");
    let fill = || {
        let mut file = std::fs::File::create(&filler).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    };
    fill();
    // Not even the rest of the supervisor's log's last page is left to it.
    let mut log = std::fs::File::options()
        .append(true)
        .open(home.cluster("spark").join("supervisor.log"))
        .unwrap();
    while log.write_all(b"#").is_ok() {}
    let two = ["create", "--masters", "1", "--workers", "2"];
    home.run(&two).exits(8).says("No space left on device");
    home.run(&["status"]).exits(0);
    let checks = home.run(&["doctor"]).exits(9).stdout;
    assert!(checks.contains("No space left on device"), "{checks}");
    signal(home.process("spark", "spark-worker-0"), "KILL");
    home.wait_for(READY, "the worker to be missed", || {
        home.run(&["status"]).code == Some(9)
    });
    std::fs::remove_file(&filler).unwrap();
    home.wait_for(READY, "the worker again", || home.run(&["status"]).code == Some(0));
    let checks = home.run(&["doctor"]).exits(0).stdout;
    assert!(checks.contains("spark-worker-0 restarted 0 min ago: "), "{checks}");
    home.run(&two).exits(0).says("2 of 2 registered");
    fill();
    home.run(&["teardown"]).exits(0);
    drop(disk);
    home.is_empty();
}

#[test]
fn a_damaged_folder_can_be_torn_down() {
    let home = Home::new();
    home.run(&SMALL).exits(0);
    let mark = home.mark("spark");
    std::fs::write(home.cluster("spark").join("seen.json"), "{").unwrap();
    home.run(&["teardown"]).exits(0);
    home.is_empty();
    assert_eq!(control_groups(&mark), Vec::<String>::new());
}

#[test]
fn the_cluster_file_may_come_from_standard_input() {
    let home = Home::new();
    let mut create = home
        .command(&["create", "-f", "-", "--dry-run"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    create.stdin.take().unwrap().write_all(b"name: etl\n").unwrap();
    let output = String::from_utf8(create.wait_with_output().unwrap().stdout).unwrap();
    assert!(output.contains("create statefulsets/etl-master\n"), "{output}");
}

#[test]
fn without_kubernetes_create_says_that_local_is_there() {
    run(&["create"]).exits(3).says("--local");
    assert!(run(&["render", "--local"]).exits(0).stdout.contains("StatefulSet"));
}

/// An index of one package that serves whatever it is told, and cuts off the first answers.
struct Index {
    url: String,
    requests: std::sync::Arc<std::sync::Mutex<Vec<String>>>,
}

impl Index {
    /// `cut`: how many bytes of the archive the first answer has.
    fn serving(archive: Vec<u8>, sha256: &str, cut: usize) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}/simple", listener.local_addr().unwrap());
        let page = format!("<a href=\"../../pyspark-9.9.9.tar.gz#sha256={sha256}\">pyspark-9.9.9.tar.gz</a>");
        let requests = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let log = requests.clone();
        std::thread::spawn(move || {
            let mut cut = Some(cut);
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                    head.push(byte[0]);
                }
                let head = String::from_utf8(head).unwrap();
                log.lock().unwrap().push(head.clone());
                let from: usize = head
                    .lines()
                    .find_map(|line| {
                        line.to_lowercase()
                            .strip_prefix("range: bytes=")?
                            .strip_suffix('-')?
                            .parse()
                            .ok()
                    })
                    .unwrap_or(0);
                let (status, body) = match head.starts_with("GET /simple/pyspark/ ") {
                    true => ("200 OK", page.clone().into_bytes()),
                    false if from > 0 => ("206 Partial Content", archive[from..].to_vec()),
                    false => ("200 OK", archive.clone()),
                };
                let is_page = head.starts_with("GET /simple/");
                let sent = if is_page {
                    body.len()
                } else {
                    cut.take().unwrap_or(body.len()).min(body.len())
                };
                let head = format!(
                    "HTTP/1.1 {status}\r\ncontent-type: text/html\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream
                    .write_all(head.as_bytes())
                    .and_then(|()| stream.write_all(&body[..sent]));
            }
        });
        Self { url, requests }
    }
}

/// A small archive laid out as pyspark's.
fn archive(home: &Home) -> (Vec<u8>, String) {
    let root = home.folder.path().join("pyspark-9.9.9");
    for (path, text) in [
        ("deps/bin/spark-class", "#!/bin/bash\n"),
        ("deps/jars/spark-core_2.13-9.9.9.jar", "jar"),
        ("pyspark/__init__.py", ""),
        ("setup.py", "unwanted"),
    ] {
        let file = root.join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
    let file = home.folder.path().join("archive.tar.gz");
    let tar = Command::new("tar")
        .arg("czf")
        .arg(&file)
        .arg("-C")
        .arg(home.folder.path())
        .arg("pyspark-9.9.9")
        .status();
    assert!(tar.unwrap().success());
    let sum = Command::new("sha256sum").arg(&file).output().unwrap();
    let sum = String::from_utf8(sum.stdout)
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .trim_start_matches('\\')
        .to_owned();
    let bytes = std::fs::read(&file).unwrap();
    std::fs::remove_file(file).unwrap();
    std::fs::remove_dir_all(root).unwrap();
    (bytes, sum)
}

fn fetch(home: &Home, index: &Index) -> Run {
    started_fetch(home, index).wait_with_output().unwrap().into()
}

fn started_fetch(home: &Home, index: &Index) -> Child {
    let mut fetch = home.command(&["local", "fetch", "9.9.9"]);
    fetch
        .env("PIP_INDEX_URL", &index.url)
        .env("PIP_CONFIG_FILE", "/dev/null")
        .env_remove("PIP_CERT")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    fetch.spawn().unwrap()
}

#[test]
fn a_fetch_goes_on_where_it_was_cut_off() {
    let home = Home::new();
    let (bytes, sum) = archive(&home);
    let index = Index::serving(bytes, &sum, 100);
    // Two at once: one waits for the other, and fetches nothing again.
    let both = [started_fetch(&home, &index), started_fetch(&home, &index)];
    let both = both.map(|fetch| Run::from(fetch.wait_with_output().unwrap()).exits(0));
    let says = |text: &str| both.iter().filter(|run| run.stderr.contains(text)).count();
    assert_eq!((says("Spark 9.9.9 fetched"), says("is already installed")), (1, 1));
    let spark = Path::new(both[0].stdout.trim());
    assert!(spark.join("bin/spark-class").exists());
    assert!(spark.join("python/pyspark/__init__.py").exists());
    assert!(!spark.join("setup.py").exists());
    let requests = index.requests.lock().unwrap().clone();
    assert!(
        requests.last().unwrap().to_lowercase().contains("range: bytes=100-"),
        "{requests:?}"
    );
    let archives = requests.iter().filter(|head| !head.starts_with("GET /simple/"));
    assert_eq!(archives.count(), 2, "{requests:?}");
}

#[test]
fn a_fetch_of_something_else_is_thrown_away() {
    let home = Home::new();
    let (bytes, _) = archive(&home);
    let index = Index::serving(bytes, &"0".repeat(64), usize::MAX);
    fetch(&home, &index)
        .exits(3)
        .says("SHA-256")
        .says("the file was deleted");
    let cache = home.folder.path().join(".cache/sparkha");
    assert_eq!(std::fs::read_dir(cache).unwrap().count(), 0);
}

#[test]
fn the_fetched_spark_is_whole() {
    let home = spark_home();
    for part in ["bin/spark-submit", "python/pyspark", "python/lib"] {
        assert!(home.join(part).exists(), "{part}");
    }
}

/// With the machine's own java: that of other tests has an archive of its own.
#[test]
fn a_fetch_prepares_faster_starts() {
    let home = Home::new();
    let cache = home.folder.path().join("cache/sparkha");
    std::fs::create_dir_all(&cache).unwrap();
    let spark = cache.join(spark_home().file_name().unwrap());
    std::os::unix::fs::symlink(spark_home(), &spark).unwrap();
    let with_cache = |arguments: &[&str]| -> Run {
        let mut command = home.command(arguments);
        command.env("XDG_CACHE_HOME", cache.parent().unwrap());
        command.env_remove("JAVA_HOME").env_remove("SPARK_HOME");
        command.output().unwrap().into()
    };
    let fetch = || with_cache(&["local", "fetch"]).exits(0).says("is already installed");
    fetch().says("Faster starts prepared");
    assert!(!fetch().stderr.contains("starts"), "once is enough");

    // Each server maps its own archive; a JVM has no other file of that kind but Java's own.
    let maps = |pod: &str| -> String {
        let processes = home.processes_of("spark", pod).into_iter();
        let maps = processes.filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/maps")).ok());
        maps.collect()
    };
    let file = file("masters: {count: 2}\nzookeeper: {count: 1}\nworkers: {count: 1}\n");
    let create = ["create", "-f", file.path().to_str().unwrap()];
    with_cache(&create).exits(0);
    for server in ["zookeeper", "master", "worker"] {
        let maps = maps(&format!("spark-{server}-0"));
        let mut archive = maps.lines().filter(|line| line.contains(&format!("/{server}.jsa")));
        // Where it was made, which is below what the kernel chooses: elsewhere each server has a copy of its own.
        assert!(archive.next().is_some_and(|line| !line.starts_with("7f")), "{maps}");
    }
    // The configuration is still found: this file says what masters log, and where.
    assert!(
        home.cluster("spark")
            .join("pods/spark-master-0/tmp/zookeeper-sessions")
            .exists()
    );
    with_cache(&["teardown"]).exits(0);

    // What the JVM cannot use it leaves aside.
    let java = std::fs::read_dir(&cache).unwrap().flatten().map(|entry| entry.path());
    let java = java.into_iter().find(|path| path != &spark).unwrap();
    for server in ["zookeeper", "master", "worker"] {
        let archive = java.join(format!("{server}.jsa"));
        std::fs::remove_file(&archive).unwrap();
        std::fs::write(&archive, "of another Java").unwrap();
    }
    with_cache(&SMALL).exits(0).says("In service");
    assert!(!maps("spark-master-0").contains("/master.jsa"));
    with_cache(&["teardown"]).exits(0);
    std::fs::remove_dir_all(cache.parent().unwrap()).unwrap();
    home.is_empty();
}

/// Every user of the machine knows the ensemble's addresses. An observer receives all its data.
#[test]
fn an_unauthenticated_server_cannot_join_the_ensemble() {
    let home = Home::new();
    home.run(&["create", "--masters", "2", "--workers", "0"]).exits(0);
    let folder = home.folder.path().join("stranger");
    std::fs::create_dir(&folder).unwrap();
    let own = "127.0.99.9";
    let mut configuration = format!(
        "dataDir={}\nclientPort=2181\nclientPortAddress={own}\ntickTime=500\ninitLimit=20\nsyncLimit=8\nadmin.enableServer=false\n\
         4lw.commands.whitelist=srvr\npeerType=observer\nserver.9={own}:2888:3888:observer\n",
        folder.display()
    );
    for ordinal in 0..3 {
        let address = home.address("spark", &format!("spark-zookeeper-{ordinal}"));
        configuration += &format!("server.{}={address}:2888:3888\n", ordinal + 1);
    }
    let file = folder.join("zoo.cfg");
    std::fs::write(&file, configuration).unwrap();
    std::fs::write(folder.join("myid"), "9\n").unwrap();
    let jars = format!("{}/jars/*", spark_home().display());
    let main = "org.apache.zookeeper.server.quorum.QuorumPeerMain";
    let _stranger = Server::start(Command::new("java").args(["-Xmx128m", "-cp", &jars, main]).arg(&file));

    let refused = || {
        let logs = (0..3).map(|ordinal| home.log("spark", &format!("spark-zookeeper-{ordinal}.log")));
        logs.map(|log| log.matches("authentication is required").count())
            .sum::<usize>()
    };
    // The observer retries.
    home.wait_for(READY, "the stranger was refused three times", || refused() >= 3);
    let mut says = String::new();
    let mut asked = TcpStream::connect((own, 2181)).unwrap();
    asked.write_all(b"srvr").unwrap();
    asked.read_to_string(&mut says).unwrap();
    assert!(says.contains("not currently serving"), "{says}");
    // snapshot.0 is its own, and empty.
    let snapshots = std::fs::read_dir(folder.join("version-2")).unwrap();
    let snapshots = snapshots.map(|file| file.unwrap().file_name().into_string().unwrap());
    let snapshots: Vec<_> = snapshots
        .filter(|name| name.starts_with("snapshot.") && name != "snapshot.0")
        .collect();
    assert!(snapshots.is_empty(), "{snapshots:?}");
    assert!(ready(&home));
    home.run(&["teardown"]).exits(0);
}

#[test]
fn with_tls_only_the_configured_ca_is_trusted() {
    let home = Home::new();
    let secret = home.folder.path().join(".config/sparkha/secrets/default/spark-tls");
    certificates::secret(&secret);
    let others = home.folder.path().join("others");
    certificates::secret(&others);
    let file = home.folder.path().join("cluster.yaml");
    std::fs::write(
        &file,
        "masters: {count: 1}\nworkers: {count: 1}\ntls: {secret: spark-tls}\n",
    )
    .unwrap();
    home.run(&["create", "-f", file.to_str().unwrap()]).exits(0);
    let job = home.folder.path().join("job.py");
    std::fs::write(&job, JOB).unwrap();
    let job = job.to_str().unwrap();
    home.run(&["submit", "--", job, "2"]).exits(0).says("RPC SSL enabled");

    for (pod, port) in [("spark-master-0", 7077), ("spark-worker-0", 7078)] {
        let at = format!("{}:{port}", home.address("spark", pod));
        let accepts = |authority: &Path| {
            let mut client = Command::new("openssl");
            client
                .args(["s_client", "-verify_return_error", "-connect", &at, "-CAfile"])
                .arg(authority.join("ca.crt"));
            client.stdin(Stdio::null()).output().unwrap().status.success()
        };
        assert!(accepts(&secret) && !accepts(&others), "{pod}");
    }
    // A driver that trusts another CA refuses the master.
    let script = format!(
        "exec spark-submit --master \"$SPARK_MASTER_URL\" --conf 'spark.ssl.rpc.certChain={0}/tls.crt' \
         --conf 'spark.ssl.rpc.privateKey={0}/tls.key' '{job}' 1 2>&1",
        others.display()
    );
    let mut distrustful = driver(&home, &script).spawn().unwrap();
    let mut said = String::new();
    for line in BufReader::new(distrustful.stdout.take().unwrap()).lines() {
        said += &(line.unwrap() + "\n");
        if said.contains("certification path") || said.contains("RESULT") {
            break;
        }
    }
    distrustful.kill().unwrap();
    distrustful.wait().unwrap();
    assert!(said.contains("unable to find valid certification path"), "{said}");
    home.run(&["teardown"]).exits(0);
}
