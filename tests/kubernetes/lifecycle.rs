//! One highly available cluster through its whole life on real Kubernetes, with real jobs.

use std::time::Duration;

use crate::kit::pods::{every_pod_is_restricted, finish_job, job_log, start_job};
use crate::kit::{Sandbox, leader, masters_in};

/// How soon another master leads, on a busy machine, too: long before a session of Spark's own length, a minute, would have expired.
const FAILOVER: Duration = Duration::from_secs(20);

#[test]
fn a_cluster_survives_what_kubernetes_does_to_it() {
    let sandbox = Sandbox::unmade("life");

    // It comes up, and says what is true.
    let state = sandbox.run(&["create", "-o", "json"]).exits(0).json();
    assert_eq!(state["ready"], true);
    assert_eq!(masters_in(&state, "ALIVE").len(), 1);
    assert_eq!(masters_in(&state, "STANDBY").len(), 2);
    assert_eq!(state["workers"]["registered"], 2);
    assert_eq!(state["workers"]["cores"], 2);
    assert_eq!(state["workers"]["memoryMib"], 2 * 1116);
    let modes: Vec<_> = state["zookeeper"]["servers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| &s["mode"])
        .collect();
    assert_eq!(modes.iter().filter(|mode| **mode == "leader").count(), 1);
    assert_eq!(modes.iter().filter(|mode| **mode == "follower").count(), 2);

    // Without a question to masters, it speaks of pods alone.
    let listed = &sandbox.run(&["list", "-o", "json"]).exits(0).json()[0];
    assert!(
        listed["inService"].is_null() && listed["masters"]["expected"] == 3,
        "{listed}"
    );
    assert!(sandbox.run(&["list"]).exits(0).stdout.contains("  pods "));

    assert_eq!(every_pod_is_restricted(&sandbox), 8);
    the_secret_is_nowhere_else(&sandbox);
    nothing_is_written_when_nothing_changed(&sandbox);
    a_job_survives_the_loss_of_the_leader(&sandbox);
    the_leaders_zookeeper_may_go(&sandbox);
    a_second_create_changes_the_number_of_workers(&sandbox);

    // It goes, and leaves nothing: the namespace itself was ours.
    sandbox.run(&["teardown"]).exits(0);
    let namespaces = sandbox.kubectl_cluster(&["get", "namespaces", "-o", "name"]);
    assert!(!namespaces.contains(&sandbox.namespace), "{namespaces}");
    sandbox.run(&["teardown"]).exits(0).says("Nothing to do");
    sandbox.run(&["status"]).exits(7).says("there is no cluster spark");
}

/// Spark's secret stands in its Secret, and in no other object, environment or argument, nor in what sparkha prints.
fn the_secret_is_nowhere_else(sandbox: &Sandbox) {
    let secret = sandbox.kubectl(&[
        "get",
        "secret",
        "spark-auth",
        "-o",
        "go-template={{index .data \"spark.authenticate.secret\" | base64decode}}",
    ]);
    assert!(
        secret.len() == 64 && secret.bytes().all(|b| b.is_ascii_hexdigit()),
        "{secret}"
    );
    let objects = sandbox.kubectl(&["get", "all,configmaps,events", "-o", "json"]);
    assert!(objects.contains("spark-auth") && !objects.contains(&secret));
    for pod in ["spark-master-0", "spark-worker-0"] {
        let script = "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline | tr '\\0' '\\n'; cat /tmp/*.conf";
        let inside = sandbox.kubectl(&["exec", pod, "--", "bash", "-c", script]);
        assert!(inside.contains("SPARK_CONF_DIR"), "{inside}");
        let (processes, file) = inside.split_once("spark.authenticate.secret=").unwrap();
        assert!(file.starts_with(&secret) && !processes.contains(&secret), "{pod}");
        assert!(!sandbox.kubectl(&["logs", pod]).contains(&secret), "{pod}");
    }
    let rendered = sandbox.run(&["render"]).exits(0).stdout;
    assert!(
        rendered.contains("spark.authenticate.secret: REPLACE-ME\n"),
        "{rendered}"
    );
}

fn nothing_is_written_when_nothing_changed(sandbox: &Sandbox) {
    let versions = || {
        sandbox.kubectl(&[
            "get",
            "statefulsets,services,networkpolicies,configmaps,serviceaccounts,secrets",
            "-l",
            "app.kubernetes.io/managed-by=sparkha",
            "-o",
            "jsonpath={range .items[*]}{.kind}/{.metadata.name} {.metadata.resourceVersion} {.metadata.generation}{'\\n'}{end}",
        ])
    };
    let settled = |text: &str| text.lines().count();
    let before = versions();
    assert_eq!(settled(&before), 18, "{before}");
    sandbox.run(&["create"]).exits(0).says("Nothing to change");
    let after = versions();
    // A StatefulSet's status may still be written by its controller; its generation may not change.
    let generations = |text: &str| -> Vec<String> {
        let lines = text.lines().map(|line| {
            let (head, generation) = line.rsplit_once(' ').unwrap();
            match head.split_once(' ') {
                Some((name, _)) if name.starts_with("StatefulSet") => format!("{name} {generation}"),
                _ => head.to_owned(),
            }
        });
        lines.collect()
    };
    assert_eq!(generations(&before), generations(&after));
    assert_eq!(
        sandbox.run(&["create", "--dry-run"]).exits(0).stdout,
        "Nothing would change\n"
    );
}

fn a_job_survives_the_loss_of_the_leader(sandbox: &Sandbox) {
    let masters = "spark://spark-master-0:7077,spark-master-1:7077,spark-master-2:7077";
    start_job(sandbox, "job", masters, 30);
    sandbox.wait_for(Duration::from_secs(180), "the job's first round", || {
        job_log(sandbox, "job").contains("round 1")
    });
    let old = leader(&sandbox.status("spark")).unwrap();
    sandbox.kubectl(&["delete", "pod", &old, "--grace-period=0", "--force"]);
    sandbox.wait_for(FAILOVER, "a new leader", || {
        leader(&sandbox.status("spark")).is_some_and(|leader| leader != old)
    });
    let log = finish_job(sandbox, "job");
    assert!(log.contains("on 2 hosts"), "{log}");
    let result = (0..20000u64).map(|x| x * x).sum::<u64>();
    assert!(log.contains(&format!("RESULT {result} ")), "{log}");
    whole_again(sandbox);
}

/// The leader whose ZooKeeper goes ends, and another is started in its place, without the kubelet's pauses.
fn the_leaders_zookeeper_may_go(sandbox: &Sandbox) {
    let masters = || sandbox.status("spark")["masters"].as_array().unwrap().clone();
    let restarts = || -> i64 {
        masters()
            .iter()
            .map(|master| master["restarts"].as_i64().unwrap())
            .sum()
    };
    let revoked = || {
        masters().iter().any(|master| {
            let log = sandbox.kubectl(&["logs", master["name"].as_str().unwrap()]);
            log.contains("the master lost its leadership: another is started in its place")
        })
    };
    let before = restarts();
    // One of the three holds the leader's session; each is taken away in turn until it was that one.
    for server in ["spark-zookeeper-0", "spark-zookeeper-1", "spark-zookeeper-2"] {
        sandbox.kubectl(&["delete", "pod", server, "--grace-period=0", "--force"]);
        whole_again(sandbox);
        if revoked() {
            break;
        }
    }
    assert!(revoked(), "no master was revoked and started anew");
    assert_eq!(restarts(), before);
}

fn a_second_create_changes_the_number_of_workers(sandbox: &Sandbox) {
    let state = sandbox.run(&["create", "--workers", "3", "-o", "json"]).exits(0).json();
    assert_eq!(state["workers"]["registered"], 3);
    let state = sandbox.run(&["create", "--workers", "1", "-o", "json"]).exits(0).json();
    assert_eq!(state["workers"]["registered"], 1);
}

fn whole_again(sandbox: &Sandbox) {
    sandbox.wait_for(Duration::from_secs(120), "the cluster to be whole again", || {
        sandbox.status("spark")["ready"] == true
    });
}
