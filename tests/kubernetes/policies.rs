//! Network policies, tested by connecting: who reaches which port of a real cluster, without them and with them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::kit::pods::{finish_job, start_job};
use crate::kit::{Run, Sandbox, roles};

/// Tries all addresses at once, and prints those that answer. A refusal is an answer: packets came through.
const CONNECT: &str = r#"
import socket, sys
from concurrent.futures import ThreadPoolExecutor
def reached(target):
    address, port = target.rsplit(":", 1)
    try:
        socket.create_connection((address, int(port)), timeout=2).close()
    except ConnectionRefusedError:
        pass
    except OSError:
        return False
    return True
answers = ThreadPoolExecutor(len(sys.argv)).map(reached, sys.argv[1:])
print(*(target for target, answered in zip(sys.argv[1:], answers) if answered))
"#;

/// A port at which nothing listens, like those that executors are given by the kernel.
const ANY: u16 = 45678;

/// Whom everybody tries to reach, and where.
const TARGETS: [(&str, &[u16]); 4] = [
    ("spark-master-1", &[7077, 8080, 6066, ANY]),
    ("spark-worker-1", &[7078, 7081, 8081, 4040, ANY]),
    ("spark-zookeeper-1", &[2181, 2888, 3888]),
    ("driver", &[4040, 4056, ANY]),
];

/// Of the master: what drivers and workers need, and its page.
const MASTER: &str = "spark-master-1:7077 spark-master-1:8080";
/// All of the worker.
const WORKER: &str =
    "spark-worker-1:7078 spark-worker-1:7081 spark-worker-1:8081 spark-worker-1:4040 spark-worker-1:45678";
/// All of the driver.
const DRIVER: &str = "driver:4040 driver:4056 driver:45678";
const WEB_UIS: &str = "spark-master-1:8080 spark-worker-1:8081 driver:4040 driver:4056";

const SETTINGS: &str = "masters: {count: 2}
networkPolicy:
  webUisFrom:
  - {namespaceSelector: {matchLabels: {purpose: monitoring}}, podSelector: {matchLabels: {app: monitor}}}
  driversFrom:
  - {namespaceSelector: {}, podSelector: {matchLabels: {app: notebook}}}
";

/// Another namespace, for as long as the test takes.
struct Elsewhere<'a>(&'a Sandbox, String);

impl<'a> Elsewhere<'a> {
    fn new(sandbox: &'a Sandbox) -> Self {
        let name = format!("{}-elsewhere", sandbox.namespace);
        sandbox.kubectl_cluster(&["create", "namespace", &name]);
        sandbox.kubectl_cluster(&["label", "namespace", &name, "purpose=monitoring"]);
        Self(sandbox, name)
    }
}

impl Drop for Elsewhere<'_> {
    fn drop(&mut self) {
        self.0.try_kubectl(&["delete", "namespace", &self.1, "--wait=false"]);
    }
}

/// Someone who tries: a pod that does nothing else.
fn visitor(name: &str, labels: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels},
        "spec": {
            "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false, "enableServiceLinks": false,
            "containers": [{"name": "visitor", "image": "docker.io/apache/spark:4.3.0", "command": ["sleep", "3600"]}],
        },
    })
}

/// What each of these pods reaches, a line each.
fn who_reaches_what(sandbox: &Sandbox, visitors: &[(&str, &str)]) -> Vec<String> {
    let addresses = TARGETS.map(|(pod, _)| sandbox.kubectl(&["get", "pod", pod, "-o", "jsonpath={.status.podIP}"]));
    let named: Vec<(String, String)> = TARGETS
        .iter()
        .zip(&addresses)
        .flat_map(|((pod, ports), address)| {
            ports
                .iter()
                .map(move |port| (format!("{address}:{port}"), format!("{pod}:{port}")))
        })
        .collect();
    let reached = |&(namespace, pod): &(&str, &str)| {
        let mut arguments = vec!["exec", "--namespace", namespace, pod, "--", "python3", "-c", CONNECT];
        arguments.extend(named.iter().map(|(address, _)| address.as_str()));
        let answered = sandbox.kubectl(&arguments);
        let name = |address: &str| &named.iter().find(|(one, _)| one == address).unwrap().1;
        let names: Vec<_> = answered
            .split_whitespace()
            .map(|address| name(address).as_str())
            .collect();
        format!("{pod}: {}", names.join(" "))
    };
    std::thread::scope(|scope| {
        let asked: Vec<_> = visitors
            .iter()
            .map(|visitor| scope.spawn(|| reached(visitor)))
            .collect();
        asked.into_iter().map(|each| each.join().unwrap()).collect()
    })
}

#[test]
fn none_but_those_who_belong_to_the_cluster_reach_it() {
    let sandbox = Sandbox::new("policies");
    let (here, elsewhere) = (sandbox.namespace.as_str(), Elsewhere::new(&sandbox));
    let elsewhere = elsewhere.1.as_str();
    let before = sandbox.contents();
    let open = sandbox_file("masters: {count: 2}\nnetworkPolicy: {enabled: false}\n");
    let closed = sandbox_file(SETTINGS);
    let create = |file: &tempfile::NamedTempFile| {
        sandbox
            .run(&["create", "--yes", "-f", file.path().to_str().unwrap()])
            .exits(0)
    };
    let policies = || sandbox.kubectl(&["get", "networkpolicies", "-o", "jsonpath={.items[*].metadata.name}"]);

    create(&open);
    assert_eq!(policies(), "");
    let part = |cluster: &str, component: &str| {
        json!({
            "app.kubernetes.io/name": "spark", "app.kubernetes.io/instance": cluster,
            "app.kubernetes.io/component": component, "app.kubernetes.io/managed-by": "sparkha",
        })
    };
    let driver =
        |cluster: &str| json!({"app.kubernetes.io/instance": cluster, "app.kubernetes.io/component": "driver"});
    let router = json!({
        "app.kubernetes.io/name": "sparkha", "app.kubernetes.io/component": "sparkha-router",
        "app.kubernetes.io/managed-by": "sparkha",
    });
    let pods = [
        (here, "stranger", json!({})),
        (elsewhere, "stranger-elsewhere", json!({})),
        (here, "driver", driver("spark")),
        (elsewhere, "driver-elsewhere", driver("spark")),
        (here, "driver-of-another", driver("another")),
        (here, "master-of-another", part("another", "master")),
        (here, "worker-of-another", part("another", "worker")),
        (here, "zookeeper-of-another", part("another", "zookeeper")),
        (here, "router", router.clone()),
        (elsewhere, "router-elsewhere", router),
        (here, "monitor", json!({"app": "monitor"})),
        (elsewhere, "monitor-elsewhere", json!({"app": "monitor"})),
        (elsewhere, "notebook-elsewhere", json!({"app": "notebook"})),
    ];
    for namespace in [here, elsewhere] {
        let there = pods.iter().filter(|(its, ..)| *its == namespace);
        let items: Vec<_> = there.map(|(_, name, labels)| visitor(name, labels)).collect();
        sandbox.apply_in(
            namespace,
            &json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string(),
        );
    }
    for namespace in [here, elsewhere] {
        let ready = ["wait", "--for=condition=Ready", "pods", "--all", "--timeout=60s"];
        sandbox.kubectl(&[&["--namespace", namespace][..], &ready].concat());
    }
    let mut visitors: Vec<_> = pods.iter().map(|&(namespace, name, _)| (namespace, name)).collect();
    visitors.extend(["spark-master-0", "spark-worker-0", "spark-zookeeper-0"].map(|own| (here, own)));

    // Without policies everything is open, so what follows is the policies' doing.
    let everything: Vec<_> = TARGETS
        .iter()
        .flat_map(|(pod, ports)| ports.iter().map(move |port| format!("{pod}:{port}")))
        .collect();
    let all = visitors
        .iter()
        .map(|(_, pod)| format!("{pod}: {}", everything.join(" ")));
    assert_eq!(who_reaches_what(&sandbox, &visitors), all.collect::<Vec<_>>());

    create(&closed);
    assert_eq!(policies(), "spark-driver spark-master spark-worker spark-zookeeper");
    let expected = [
        ("stranger", vec![]),
        ("stranger-elsewhere", vec![]),
        // It reaches itself, as every pod does.
        ("driver", vec![MASTER, WORKER, DRIVER]),
        ("driver-elsewhere", vec![]),
        ("driver-of-another", vec![]),
        ("master-of-another", vec![]),
        ("worker-of-another", vec![]),
        ("zookeeper-of-another", vec![]),
        ("router", vec![WEB_UIS]),
        ("router-elsewhere", vec![]),
        ("monitor", vec![]),
        ("monitor-elsewhere", vec![WEB_UIS]),
        ("notebook-elsewhere", vec!["spark-master-1:7077", WORKER]),
        (
            "spark-master-0",
            vec![
                "spark-master-1:8080",
                "spark-worker-1:7078 spark-worker-1:7081",
                "spark-zookeeper-1:2181",
                DRIVER,
            ],
        ),
        ("spark-worker-0", vec![MASTER, WORKER, DRIVER]),
        (
            "spark-zookeeper-0",
            vec!["spark-zookeeper-1:2888 spark-zookeeper-1:3888"],
        ),
    ]
    .map(|(pod, reached)| format!("{pod}: {}", reached.join(" ")));
    is_enforced(&sandbox, &visitors, &expected);

    // Where everything is forbidden that nobody allows, these policies are enough to come up and to run a job.
    let deny_all = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "deny-all"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
    });
    sandbox.apply(&deny_all.to_string());
    let own = "app.kubernetes.io/managed-by=sparkha,app.kubernetes.io/instance=spark";
    sandbox.kubectl(&["delete", "pods", "--selector", own, "--grace-period=1"]);
    sandbox.wait_for(Duration::from_secs(120), "the cluster to come up again", || {
        sandbox.status("spark")["ready"] == true
    });
    start_job(&sandbox, "job", "spark://spark-master-0:7077,spark-master-1:7077", 2);
    let log = finish_job(&sandbox, "job");
    assert!(log.contains("on 2 hosts"), "{log}");
    is_enforced(&sandbox, &visitors, &expected);

    // What is no longer wanted goes.
    sandbox.kubectl(&["delete", "networkpolicy", "deny-all"]);
    create(&open);
    assert_eq!(policies(), "");
    sandbox.run(&["teardown"]).exits(0);
    let visitors = pods
        .iter()
        .filter(|(namespace, ..)| *namespace == here)
        .map(|&(_, name, _)| name);
    sandbox.kubectl(&[&["delete", "pods"][..], &visitors.collect::<Vec<_>>()].concat());
    assert_eq!(sandbox.contents(), before);
}

/// Waits until the network has heard of the policies, and compares the whole table.
#[track_caller]
fn is_enforced(sandbox: &Sandbox, visitors: &[(&str, &str)], expected: &[String]) {
    let mut seen = vec![];
    for _ in 0..5 {
        seen = who_reaches_what(sandbox, visitors);
        if seen == expected {
            return;
        }
    }
    assert_eq!(seen, expected);
}

#[test]
fn who_may_not_make_policies_goes_without() {
    let sandbox = Sandbox::without_pods("unentitled");
    let [_, _, mut operate] = roles();
    let rules = operate["rules"].as_array_mut().unwrap();
    rules.retain(|rule| rule["resources"][0] != "networkpolicies");
    let config = sandbox.kubeconfig_of("engineer", &[operate]);

    let create = |text: &str| {
        let file = sandbox_file(text);
        let mut command = sandbox.command(&["create", "--dry-run", "-f", file.path().to_str().unwrap()]);
        Run::from(command.env("KUBECONFIG", config.path()).output().unwrap())
    };
    create("masters: {count: 1}\n")
        .exits(4)
        .says("networkpolicies")
        .says("networkPolicy.enabled");
    let without = create("masters: {count: 1}\nnetworkPolicy: {enabled: false}\n").exits(0);
    assert!(!without.stdout.contains("networkpolicies"), "{}", without.stdout);
}

fn sandbox_file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}
