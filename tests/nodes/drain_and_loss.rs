//! Several real nodes: members are spread over them, executors of all nodes write to one volume, leaders end while a worker is drained, a node's
//! drain takes one of each member at a time under a running job, and the loss of a node is told with its pods and the ways out, with and without
//! the right to read nodes. These tests need three nodes: `make bench-nodes`.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::kit::decommissioning::{LEAVING, assert_unharmed};
use crate::kit::pods::{self, finish_job, job_log, kill_jvm, start_job};
use crate::kit::{self, Run, Sandbox, masters_in, roles, run, testbed};

const SOON: Duration = Duration::from_secs(90);
const ROLE: &str = "app.kubernetes.io/component";

const SHARED: &str = "apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: shared}
spec: {accessModes: [ReadWriteMany], resources: {requests: {storage: 64Mi}}}
";
const CLUSTER: &str = "defaultCores: all
workers: {count: 3, volumes: [{name: shared, mountPath: /shared, persistentVolumeClaim: {claimName: shared}}]}
";
/// Each executor writes; then others read what it has written, and so does the driver.
const WRITES: &str = r#"
import os, time
from pyspark.sql import SparkSession
sc = SparkSession.builder.appName("writes").getOrCreate().sparkContext
def lines(part):
    time.sleep(1)
    yield from (f"{os.uname().nodename} {x}" for x in part)
sc.parallelize(range(2400), 24).mapPartitions(lines).saveAsTextFile("file:///shared/written")
read = sc.textFile("file:///shared/written", 24).map(lambda line: line.split())
pods, total = read.map(lambda words: words[0]).distinct().collect(), read.map(lambda words: int(words[1])).sum()
files = [name for name in os.listdir("/shared/written") if name.startswith("part-")]
print("RESULT", total, len(files), *sorted(pods))
"#;

/// A node whose power is gone, until this is dropped.
struct Lost<'a>(&'a str);

impl<'a> Lost<'a> {
    fn new(node: &'a str) -> Self {
        testbed(&["lose", node]);
        Self(node)
    }
}

impl Drop for Lost<'_> {
    fn drop(&mut self) {
        testbed(&["regain", self.0]);
    }
}

/// The node of each pod of a part, in their order.
fn nodes_of(sandbox: &Sandbox, part: &str) -> Vec<String> {
    let selector = format!("{ROLE}={part}");
    let columns = "jsonpath={range .items[*]}{.spec.nodeName}{\"\\n\"}{end}";
    let found = sandbox.kubectl(&["get", "pods", "-l", &selector, "-o", columns]);
    found.lines().map(str::to_owned).collect()
}

fn assert_spread(sandbox: &Sandbox, part: &str) {
    let mut nodes = nodes_of(sandbox, part);
    nodes.sort();
    nodes.dedup();
    assert_eq!(nodes.len(), 3, "{part}: {nodes:?}");
}

/// This Kubernetes serves budgets as v1beta1 only: what sparkha renders is applied as that.
fn apply_budgets(sandbox: &Sandbox) {
    let rendered = run(&["render"]).exits(0).stdout;
    let budgets = rendered
        .split("---\n")
        .filter(|object| object.contains("kind: PodDisruptionBudget"));
    let budgets: Vec<_> = budgets
        .map(|budget| budget.replace("policy/v1", "policy/v1beta1"))
        .collect();
    assert_eq!(budgets.len(), 2);
    sandbox.apply(&budgets.join("---\n"));
}

fn drain(sandbox: &Sandbox, node: &str) {
    // The driver is nobody's but its user's, and no drain takes it away unasked.
    let selector = format!("--pod-selector={ROLE}!=driver");
    let drain = ["drain", node, "--delete-emptydir-data", "--timeout=150s", &selector];
    sandbox.kubectl_cluster(&drain);
}

fn in_service(sandbox: &Sandbox) -> bool {
    sandbox.run(&["status"]).code == Some(0)
}

/// The warnings about nodes.
fn warnings(state: &Value, kind: &str) -> Vec<Value> {
    let all = state["warnings"].as_array().cloned().unwrap_or_default();
    all.into_iter().filter(|warning| warning["warning"] == kind).collect()
}

#[test]
fn a_drain_and_the_loss_of_a_node() {
    let sandbox = Sandbox::new("nodes");
    sandbox.apply(SHARED);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    sandbox.run(&["create", "-f", &file("cluster.yaml", CLUSTER)]).exits(0);
    for part in ["master", "zookeeper", "worker"] {
        assert_spread(&sandbox, part);
    }
    assert_eq!(sandbox.status("spark")["warnings"], Value::Null);
    executors_of_all_nodes_write_to_one_volume(&sandbox, &file("writes.py", WRITES));
    leaders_end_while_a_worker_is_drained(&sandbox);
    apply_budgets(&sandbox);
    a_node_is_drained_under_a_job(&sandbox);
    a_node_is_lost(&sandbox);
}

fn executors_of_all_nodes_write_to_one_volume(sandbox: &Sandbox, job: &str) {
    let told: Run = sandbox.run(&["submit", "--", job]).exits(0);
    let expected = "RESULT 2878800 24 spark-worker-0 spark-worker-1 spark-worker-2";
    assert!(told.stdout.lines().any(|line| line == expected), "{}", told.stdout);
}

fn master_url(sandbox: &Sandbox) -> String {
    sandbox.status("spark")["masterUrl"].as_str().unwrap().to_owned()
}

fn leader(sandbox: &Sandbox) -> String {
    kit::leader(&sandbox.status("spark")).unwrap()
}

/// Before the worker is asked to leave, when it is asked, and while its blocks move. The job has an executor on each of two workers.
fn leaders_end_while_a_worker_is_drained(sandbox: &Sandbox) {
    let masters = master_url(sandbox);
    for moment in [None, Some(Duration::ZERO), Some(Duration::from_secs(2))] {
        sandbox.run(&["scale", "--workers", "2"]).exits(0);
        sandbox.wait_for(SOON, "service", || in_service(sandbox));
        pods::start(sandbox, "leaving", LEAVING, &masters, 1);
        sandbox.wait_for(SOON, "the job's tasks", || {
            job_log(sandbox, "leaving").contains("COMPUTED")
        });
        let leader = leader(sandbox);
        if moment.is_none() {
            kill_jvm(sandbox, &leader);
        }
        let mut scale = sandbox.command(&["scale", "--workers", "1"]);
        let mut scale = scale.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        if let Some(moment) = moment {
            sandbox.wait_for(SOON, "the worker to be asked to leave", || {
                job_log(sandbox, "spark-worker-1").contains("decommissioning the worker's executors")
            });
            std::thread::sleep(moment);
            kill_jvm(sandbox, &leader);
        }
        assert!(scale.wait().unwrap().success(), "{moment:?}");
        assert_unharmed(&finish_job(sandbox, "leaving"), 1);
    }
    sandbox.run(&["scale", "--workers", "3"]).exits(0);
    sandbox.wait_for(SOON, "service", || in_service(sandbox));
}

fn node_of_leader(sandbox: &Sandbox) -> String {
    let leader = leader(sandbox);
    sandbox.kubectl(&["get", "pod", &leader, "-o", "jsonpath={.spec.nodeName}"])
}

/// The leader's, and with it a ZooKeeper and a worker whose executors hold shuffle files.
fn a_node_is_drained_under_a_job(sandbox: &Sandbox) {
    let masters = master_url(sandbox);
    start_job(sandbox, "drained", &masters, 40);
    sandbox.wait_for(SOON, "the job's first round", || {
        job_log(sandbox, "drained").contains("round 0")
    });
    let node = node_of_leader(sandbox);
    drain(sandbox, &node);
    sandbox.wait_for(SOON, "service on two nodes", || in_service(sandbox));
    // Two members now share a node, and none is free yet.
    assert_eq!(warnings(&sandbox.status("spark"), "sharedNode"), Vec::<Value>::new());
    sandbox.kubectl_cluster(&["uncordon", &node]);
    let shared = warnings(&sandbox.status("spark"), "sharedNode");
    assert_eq!(shared.len(), 2, "{shared:?}");
    assert!(
        shared.iter().all(|warning| warning["free"] == json!([node])),
        "{shared:?}"
    );
    sandbox.run(&["status"]).exits(0);
    // What the hint says: they find the free node.
    let one_of_each = shared.iter().map(|warning| warning["pods"][1].as_str().unwrap());
    sandbox.kubectl(&[&["delete", "pod"][..], &one_of_each.collect::<Vec<_>>()].concat());
    sandbox.wait_for(SOON, "members apart again", || {
        in_service(sandbox) && sandbox.status("spark")["warnings"] == Value::Null
    });
    let log = finish_job(sandbox, "drained");
    assert!(log.contains("RESULT"), "{log}");
}

/// One with the leader, and others of the cluster's pods.
fn a_node_is_lost(sandbox: &Sandbox) {
    // With the rights of docs/security.md, and none of the whole cluster.
    let clerk = sandbox.kubeconfig_of("clerk", &roles());
    let node = node_of_leader(sandbox);
    let lost = Lost::new(&node);
    let told = || warnings(&sandbox.status("spark"), "lostNode");
    sandbox.wait_for(SOON, "the lost node", || !told().is_empty());
    let warning = told().remove(0);
    assert_eq!(
        (&warning["node"], &warning["loss"]["state"]),
        (&json!(node), &json!("silent"))
    );
    sandbox.wait_for(SOON, "another leader", || {
        let state = sandbox.status("spark");
        let pods = warning["pods"].as_array().unwrap();
        masters_in(&state, "ALIVE")
            .pop()
            .is_some_and(|leader| !pods.contains(&json!(leader)))
    });
    let told: Run = sandbox.run(&["doctor"]);
    let line = format!("✗ placement       node {node} has not answered since");
    assert!(told.stdout.contains(&line), "{}", told.stdout);
    // Who may not read nodes learns it from the pods.
    let state: Run = sandbox
        .command(&["status", "-o", "json"])
        .env("KUBECONFIG", clerk.path())
        .output()
        .unwrap()
        .into();
    let suspected = warnings(&state.json(), "lostNode");
    assert_eq!(suspected[0]["loss"]["state"], "suspected", "{suspected:?}");
    // Nobody waits for ever.
    let said = format!("{node}: the node is lost");
    sandbox.run(&["create"]).exits(8).says(&said);
    let teardown = ["teardown", "--yes", "--timeout", "100s", "--force"];
    let forced: Run = sandbox
        .command(&teardown)
        .env("KUBECONFIG", clerk.path())
        .output()
        .unwrap()
        .into();
    // It is not known, so nothing is forced.
    forced
        .exits(6)
        .says(&format!("pods do not terminate: node {node} seems not to respond"));
    sandbox.run(&teardown).exits(0);
    let pods = || sandbox.kubectl(&["get", "pods", "-o", "name"]);
    assert_eq!(pods(), "");
    drop(lost);
    sandbox.wait_for(SOON, "the node", || {
        let ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status}";
        sandbox.kubectl_cluster(&["get", "node", &node, "-o", ready]) == "True"
    });
}
