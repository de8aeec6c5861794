//! Two commands at once, and what belongs to somebody else: a paused sparkha touches nothing of its successor's, a lost inventory costs no
//! running cluster, and a namespace goes only when everything in it is known.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::kit::local::signal;
use crate::kit::proxy::{Fault, Proxy, Rule};
use crate::kit::{Run, Sandbox};

/// A cluster without high availability.
const SMALL: [&str; 7] = [
    "create",
    "--masters",
    "1",
    "--workers",
    "1",
    "--no-wait",
    "--skip-preflight",
];
/// The same, waited for: without pods it does not come up.
const WAITED_FOR: [&str; 8] = [
    "create",
    "--masters",
    "1",
    "--workers",
    "1",
    "--skip-preflight",
    "--timeout",
    "1s",
];
const WRITES: &[&str] = &["POST", "PATCH", "PUT", "DELETE"];

/// Which objects there are, and in which state sparkha has left them. What their controllers write of them does not count.
fn objects(sandbox: &Sandbox) -> String {
    let list = |kinds: &str, fields: &str| {
        let each = format!("jsonpath={{range .items[*]}}{{.kind}}/{{.metadata.name}} {fields}{{\"\\n\"}}{{end}}");
        sandbox.kubectl(&["get", kinds, "-o", &each])
    };
    list(
        "configmaps,secrets,services,serviceaccounts",
        "{.metadata.uid} {.metadata.resourceVersion}",
    ) + &list("statefulsets,networkpolicies", "{.metadata.uid} {.metadata.generation}")
        + &list("persistentvolumeclaims", "{.metadata.uid}")
}

fn lock(sandbox: &Sandbox) -> String {
    let path = "jsonpath={.metadata.annotations.sparkha/at-work}";
    let found = sandbox.try_kubectl(&["get", "configmap", "spark-sparkha", "-o", path]);
    found.unwrap_or_default()
}

/// How many moments are tried: a few, or as many as a bench asks for.
fn trials() -> usize {
    let asked = std::env::var("SPARKHA_TRIALS").ok();
    asked.and_then(|trials| trials.parse().ok()).unwrap_or(1)
}

/// Runs a command that is stopped while its n-th write is on its way, and another one to its end meanwhile.
fn paused(sandbox: &Sandbox, command: &[&str], write: usize, other: &[&str]) {
    let rule = Rule::every(WRITES, "/namespaces/", Fault::Stall).skip(write).times(1);
    let proxy = Proxy::start(rule);
    let first = stalled(sandbox, &proxy, command);
    first.signal("STOP");
    proxy.relent();
    println!("{command:?} stopped at {:?}", proxy.failed());
    // It waits until the lock expires.
    // Where the write that makes it was on its way.
    sandbox.wait_for(Duration::from_secs(20), "the lock", || !lock(sandbox).is_empty());
    let began = Instant::now();
    let run = sandbox.run(other).exits(0);
    println!("the other took {:.1?}: {}", began.elapsed(), run.stderr);
    let after = objects(sandbox);
    first.signal("CONT");
    let run = first.end();
    println!("{:?}: {}", run.code, run.stderr);
    run.exits(5).says("another sparkha");
    assert_eq!(objects(sandbox), after);
    assert_eq!(lock(sandbox), "");
}

/// Runs a command until its request stalls.
fn stalled(sandbox: &Sandbox, proxy: &Proxy, command: &[&str]) -> Stopped {
    let mut first = proxy.command(sandbox, command);
    let first = first.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let first = Stopped(Some(first));
    let deadline = Instant::now() + Duration::from_secs(60);
    while proxy.failed().is_empty() {
        assert!(Instant::now() < deadline, "no request");
        std::thread::sleep(Duration::from_millis(1));
    }
    first
}

/// A process that goes on and ends even if the test fails.
struct Stopped(Option<Child>);

impl Stopped {
    fn signal(&self, name: &str) {
        signal(self.0.as_ref().unwrap().id() as i32, name);
    }

    fn end(mut self) -> Run {
        self.0.take().unwrap().wait_with_output().unwrap().into()
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

#[test]
fn a_create_that_was_paused_touches_nothing_of_its_successors() {
    let sandbox = Sandbox::bare("paused-create");
    let before = sandbox.contents();
    for trial in 0..trials() {
        // Its first write makes the lock.
        let write = 1 + (4 + trial) % 10;
        paused(&sandbox, &SMALL, write, &SMALL);
        sandbox.run(&["teardown"]).exits(0);
        assert_eq!(sandbox.contents(), before);
    }
}

#[test]
fn a_teardown_that_was_paused_touches_nothing_of_its_successors() {
    let sandbox = Sandbox::bare("paused-teardown");
    let before = sandbox.contents();
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    let text = "masters: {count: 1}\nworkers: {count: 1, shuffle: {newClaim: {size: 64Mi}}}\n";
    std::fs::write(file.path(), text).unwrap();
    let create = [&SMALL[..], &["-f", file.path().to_str().unwrap()]].concat();
    for trial in 0..trials() {
        sandbox.run(&create).exits(0);
        sandbox.wait_for(Duration::from_secs(30), "the claim", || {
            objects(&sandbox).contains("PersistentVolumeClaim/shuffle-spark-worker-0")
        });
        paused(&sandbox, &["teardown", "--yes"], 1 + (2 + trial) % 8, &create);
        sandbox.run(&["teardown", "--yes"]).exits(0);
        assert_eq!(sandbox.contents(), before);
    }
}

#[test]
fn a_scale_that_was_paused_touches_nothing_of_its_successors() {
    let sandbox = Sandbox::bare("paused-scale");
    for trial in 0..trials() {
        sandbox.run(&SMALL).exits(0);
        let scale = ["scale", "--workers", "3", "--no-wait"];
        let two = [
            "create",
            "--masters",
            "1",
            "--workers",
            "2",
            "--no-wait",
            "--skip-preflight",
        ];
        paused(&sandbox, &scale, 1 - trial % 2, &two);
        let replicas = ["get", "statefulset", "spark-worker", "-o", "jsonpath={.spec.replicas}"];
        assert_eq!(sandbox.kubectl(&replicas), "2");
        sandbox.run(&["teardown"]).exits(0);
    }
}

#[test]
fn a_lock_that_comes_after_a_teardown_makes_nothing_anew() {
    let sandbox = Sandbox::bare("late-lock");
    let before = sandbox.contents();
    sandbox.run(&SMALL).exits(0);
    let proxy = Proxy::start(Rule::every(&["PATCH"], "/configmaps/", Fault::Stall).times(1));
    let scale = stalled(&sandbox, &proxy, &["scale", "--workers", "3", "--no-wait"]);
    sandbox.run(&["teardown"]).exits(0);
    proxy.relent();
    scale.end().exits(5).says("another sparkha");
    assert_eq!(sandbox.contents(), before);
}

/// An object of the cluster `spark`.
fn of_cluster(kind: &str, name: &str, component: &str, spec: &serde_json::Value) -> String {
    let labels = json!({
        "app.kubernetes.io/managed-by": "sparkha", "app.kubernetes.io/instance": "spark",
        "app.kubernetes.io/name": "spark", "app.kubernetes.io/component": component,
    });
    let object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "labels": labels}, "spec": spec});
    object.to_string()
}

#[test]
fn a_failed_first_create_keeps_claims_that_came_before_its_lock() {
    let sandbox = Sandbox::bare("late-claim");
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    let text = "masters: {count: 1}\nworkers: {count: 1, shuffle: {newClaim: {size: 64Mi}}}\n";
    std::fs::write(file.path(), text).unwrap();
    let proxy = Proxy::start(Rule::every(&["POST"], "/configmaps", Fault::Stall).times(1));
    let create = [
        "create",
        "--skip-preflight",
        "--timeout",
        "1s",
        "-f",
        file.path().to_str().unwrap(),
    ];
    let create = stalled(&sandbox, &proxy, &create);
    // As `teardown --keep-data` leaves it.
    let claim = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}});
    sandbox.apply(&of_cluster(
        "PersistentVolumeClaim",
        "shuffle-spark-worker-0",
        "worker",
        &claim,
    ));
    let before = sandbox.contents();
    proxy.relent();
    create.end().exits(6).says("so its objects are removed");
    assert_eq!(sandbox.contents(), before);
}

#[test]
fn a_failed_first_create_keeps_the_cluster_of_a_job() {
    let sandbox = Sandbox::without_pods("used");
    sandbox.quota(&json!({"requests.memory": "64Mi"}));
    // A job that waits for a node.
    let driver = json!({
        "nodeSelector": {"sparkha.test/none": "here"},
        "containers": [{
            "name": "driver", "image": "none",
            "resources": {"requests": {"memory": "32Mi", "cpu": "1m"}, "limits": {"memory": "32Mi", "cpu": "1m"}},
        }],
    });
    sandbox.apply(&of_cluster("Pod", "spark-driver-0123abcd", "driver", &driver));
    sandbox
        .run(&WAITED_FOR)
        .exits(6)
        .says("Nothing is removed, because jobs have begun: driver spark-driver-0123abcd")
        .says("`sparkha teardown --namespace");
    assert!(objects(&sandbox).contains("StatefulSet/spark-master"));
    let driver = [
        "get",
        "pod",
        "spark-driver-0123abcd",
        "-o",
        "jsonpath={.metadata.deletionTimestamp}",
    ];
    assert_eq!(sandbox.kubectl(&driver), "");
    sandbox.run(&["teardown", "--yes"]).exits(0);
}

#[test]
fn a_create_that_lost_its_inventory_adopts_what_is_there_and_leaves_it() {
    let sandbox = Sandbox::bare("lost-inventory");
    let before = sandbox.contents();
    sandbox.run(&[&SMALL[..], &["--history"]].concat()).exits(0);
    let names = || {
        let objects = objects(&sandbox);
        let names = objects
            .lines()
            .filter_map(|line| line.split(' ').next().map(str::to_owned));
        // Claims come when their StatefulSet's controller makes them.
        names
            .filter(|name| !name.starts_with("PersistentVolumeClaim/"))
            .collect::<Vec<_>>()
    };
    let living = names();
    sandbox.kubectl(&["delete", "configmap", "spark-sparkha"]);
    sandbox
        .run(&WAITED_FOR)
        .exits(6)
        .says("The inventory (ConfigMap spark-sparkha) is missing")
        .says("StatefulSet spark-history");
    assert_eq!(names(), living);
    // All of it is known again.
    sandbox.run(&["teardown", "--yes"]).exits(0);
    assert_eq!(sandbox.contents(), before);
}

/// A kind of somebody else's. Removed also when the test fails: what it keeps from being listed keeps its namespace, too.
struct CustomKind<'a>(&'a Sandbox, String);

impl<'a> CustomKind<'a> {
    fn new(sandbox: &'a Sandbox) -> Self {
        let group = format!("{}.test", sandbox.namespace);
        let kind = Self(sandbox, format!("widgets.{group}"));
        kind.apply(true, &json!({"strategy": "None"}));
        kind
    }

    fn apply(&self, first_is_served: bool, conversion: &serde_json::Value) {
        let Self(sandbox, name) = self;
        let schema = json!({"openAPIV3Schema": {"type": "object"}});
        let version = |name: &str, served: bool| json!({"name": name, "served": served, "storage": name == "v1", "schema": schema});
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": name},
            "spec": {
                "group": name.split_once('.').unwrap().1, "scope": "Namespaced", "conversion": conversion,
                "names": {"kind": "Widget", "plural": "widgets", "singular": "widget", "listKind": "WidgetList"},
                "versions": [version("v1", first_is_served), version("v2", true)],
            },
        });
        sandbox.apply(&definition.to_string());
    }

    /// From now on nobody converts what is stored as v1.
    fn breaks(&self, first_is_served: bool) {
        let review = ["v1"];
        let webhook = json!({"clientConfig": {"url": "https://127.0.0.1:1/"}, "conversionReviewVersions": review});
        self.apply(first_is_served, &json!({"strategy": "Webhook", "webhook": webhook}));
        let list = |version: &str| {
            self.0
                .try_kubectl(&["get", &format!("widgets.{version}.{}", self.group())])
        };
        self.0.wait_for(Duration::from_secs(30), "the conversion to fail", || {
            list("v2").is_none() && list("v1").is_some() == first_is_served
        });
    }

    fn group(&self) -> &str {
        self.1.split_once('.').unwrap().1
    }
}

impl Drop for CustomKind<'_> {
    fn drop(&mut self) {
        let Self(sandbox, name) = self;
        let whole = r#"{"spec": {"conversion": {"strategy": "None", "webhook": null}}}"#;
        sandbox.try_kubectl(&["patch", "customresourcedefinition", name, "--type=merge", "-p", whole]);
        sandbox.try_kubectl(&["delete", "customresourcedefinition", name, "--timeout=60s"]);
    }
}

/// Keeps pods from being made in a namespace, by nothing in it: a kind that cannot be listed stops the garbage collector, too, which would
/// have to remove them. Removed also when the test fails.
struct NoPods<'a>(&'a Sandbox);

impl<'a> NoPods<'a> {
    fn new(sandbox: &'a Sandbox) -> Self {
        let name = &sandbox.namespace;
        let label = format!("sparkha.test/no-pods={name}");
        sandbox.kubectl_cluster(&["label", "namespace", name, &label]);
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": name},
            "webhooks": [{
                "name": "no-pods.sparkha.test",
                "clientConfig": {"url": "https://127.0.0.1:1/"},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}],
                "namespaceSelector": {"matchLabels": {"sparkha.test/no-pods": name}},
                "failurePolicy": "Fail", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            }],
        });
        sandbox.apply(&configuration.to_string());
        let guard = Self(sandbox);
        let probe = ["run", "probe", "--image=none", "--restart=Never", "--dry-run=server"];
        sandbox.wait_for(Duration::from_secs(30), "pods to be refused", || {
            sandbox.try_kubectl(&probe).is_none()
        });
        guard
    }
}

impl Drop for NoPods<'_> {
    fn drop(&mut self) {
        let name = self.0.namespace.as_str();
        self.0.try_kubectl(&["delete", "validatingwebhookconfiguration", name]);
    }
}

#[test]
fn a_namespace_goes_only_when_all_in_it_is_known() {
    let sandbox = Sandbox::new("namespace");
    // As if create had made it.
    let ours = "app.kubernetes.io/managed-by=sparkha";
    sandbox.kubectl_cluster(&["label", "namespace", &sandbox.namespace, ours]);
    let no_pods = NoPods::new(&sandbox);
    let is_kept_for = |why: &str| {
        sandbox.run(&SMALL).exits(0);
        sandbox
            .run(&["teardown"])
            .exits(0)
            .says("was created by sparkha but is kept: ")
            .says(why);
        let phase = ["get", "namespace", &sandbox.namespace, "-o", "jsonpath={.status.phase}"];
        assert_eq!(sandbox.kubectl_cluster(&phase), "Active");
    };
    let kind = CustomKind::new(&sandbox);
    let widget = json!({"apiVersion": format!("{}/v1", kind.group()), "kind": "Widget", "metadata": {"name": "mine"}});
    sandbox.wait_for(Duration::from_secs(30), "the kind", || {
        let list = sandbox.try_kubectl(&["get", &kind.1]);
        list.is_some()
    });
    sandbox.apply(&widget.to_string());
    // The preferred version cannot be listed, and another one tells.
    kind.breaks(true);
    is_kept_for("it still contains Widget mine");
    // None can.
    kind.breaks(false);
    is_kept_for("failed to list its objects: failed to list widgets of");
    drop(kind);
    // Of a version that is not preferred, where servers are old.
    let versions = sandbox.kubectl(&["api-versions"]);
    let version = ["batch/v1beta1", "batch/v1"]
        .into_iter()
        .find(|&version| versions.lines().any(|served| served == version));
    let job = json!({"spec": {"template": {"spec": {
        "containers": [{"name": "none", "image": "none"}], "restartPolicy": "Never",
    }}}});
    let nightly = json!({
        "apiVersion": version, "kind": "CronJob", "metadata": {"name": "nightly"},
        "spec": {"schedule": "0 0 1 1 *", "jobTemplate": job},
    });
    sandbox.apply(&nightly.to_string());
    is_kept_for("it still contains CronJob nightly");
    sandbox.kubectl(&["delete", "cronjob", "nightly"]);
    // Behind many that are Kubernetes' own.
    let tokens = (0..60).map(|number| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
            "metadata": {
                "name": format!("default-token-{number:02}"),
                "annotations": {"kubernetes.io/service-account.name": "default"},
            },
        })
    });
    let mine = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mine"}});
    let list = json!({"apiVersion": "v1", "kind": "List", "items": tokens.chain([mine]).collect::<Vec<_>>()});
    sandbox.apply(&list.to_string());
    is_kept_for("it still contains Secret mine");
    sandbox.kubectl(&["delete", "secret", "mine"]);

    // What somebody makes while the request to delete it is refused is seen before the next.
    sandbox.run(&SMALL).exits(0);
    let target = format!("/namespaces/{}?", sandbox.namespace);
    let proxy = Proxy::start(Rule::every(&["DELETE"], target.leak(), Fault::Refuse(503)).times(6));
    let teardown = stalled(&sandbox, &proxy, &["teardown"]);
    sandbox.kubectl(&["create", "configmap", "mine"]);
    teardown.end().exits(0).says("it still contains ConfigMap mine");
    sandbox.kubectl(&["delete", "configmap", "mine"]);

    sandbox.run(&SMALL).exits(0);
    sandbox.run(&["teardown"]).exits(0).says("removed");
    drop(no_pods);
    assert!(sandbox.try_kubectl(&["get", "namespace", &sandbox.namespace]).is_none());
}
