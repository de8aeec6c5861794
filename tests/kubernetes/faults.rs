//! What goes wrong: an API server that refuses, stalls, breaks off and limits, other owners, and interruptions at every step. Each
//! test sees that sparkha ends with the right exit code, says what, where and what to do, and leaves nothing half-done behind.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::NamedTempFile;

use crate::kit::proxy::{Fault, Proxy, Rule, write_kubeconfig};
use crate::kit::{Run, Sandbox, roles, run, sparkha};

/// The smallest cluster: two pods.
const SMALL: [&str; 5] = ["create", "--masters", "1", "--workers", "1"];
/// The same where [`Sandbox::bare`] keeps its pods from being made: all of its objects, and no JVM.
const BARE: [&str; 8] = [
    "create",
    "--masters",
    "1",
    "--workers",
    "1",
    "--no-wait",
    "--skip-preflight",
    "--yes",
];
/// With three masters and ZooKeeper, and as few pods.
const HIGHLY_AVAILABLE: [&str; 8] = [
    "create",
    "--masters",
    "3",
    "--workers",
    "2",
    "--no-wait",
    "--skip-preflight",
    "--yes",
];
/// What changes or makes something in a namespace.
const WRITES: &[&str] = &["POST", "PATCH", "PUT", "DELETE"];
const NOTHING: [&str; 0] = [];
const IN_NAMESPACE: &str = "/namespaces/";

fn with<'a>(arguments: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [arguments, more].concat()
}

/// A value of an object, by JSONPath; empty if there is none.
fn value(sandbox: &Sandbox, object: &str, path: &str) -> String {
    sandbox.kubectl(&["get", object, "-o", &format!("jsonpath={path}")])
}

/// Who is at work on the cluster: empty if nobody is, `None` if there is no cluster.
fn lock(sandbox: &Sandbox) -> Option<String> {
    let path = "jsonpath={.metadata.annotations.sparkha/at-work}";
    sandbox.try_kubectl(&["get", "configmap", "spark-sparkha", "-o", path])
}

/// Whether the cluster of [`BARE`] is there, as a create that nothing disturbed leaves it. The dry run compares every field.
#[track_caller]
fn assert_bare_is_whole(sandbox: &Sandbox) {
    assert_eq!(lock(sandbox).as_deref(), Some(""));
    let dry = sandbox.run(&with(&BARE, &["--dry-run"])).exits(0);
    assert_eq!(dry.stdout, "Nothing would change\n");
    let objects = sandbox.contents();
    for object in [
        "configmap/spark-conf",
        "configmap/spark-sparkha",
        "service/spark-master",
        "service/spark-master-0",
        "service/spark-masters",
        "service/spark-workers",
        "serviceaccount/spark",
        "statefulset.apps/spark-master",
        "statefulset.apps/spark-worker",
    ] {
        assert!(
            objects.iter().any(|found| found == object),
            "{object} is missing: {objects:?}"
        );
    }
}

fn spawn(mut command: Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn end_of(child: Child) -> Run {
    child.wait_with_output().unwrap().into()
}

fn interrupt(child: &Child) {
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(sent.unwrap().success());
}

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

// No cluster to talk to.

#[test]
fn without_a_kubeconfig_sparkha_says_where_it_looked() {
    let help = "pass --kubeconfig FILE and --context NAME, or set KUBECONFIG";
    run(&SMALL).exits(3).says("there is no kubeconfig at /").says(help);
    let missing = with(&SMALL, &["--kubeconfig", "/nonexistent/kubeconfig"]);
    run(&missing)
        .exits(3)
        .says("there is no kubeconfig at /nonexistent/kubeconfig")
        .says(help);
    let broken = file("clusters: [{name: \n");
    let broken = with(&SMALL, &["--kubeconfig", broken.path().to_str().unwrap()]);
    run(&broken).exits(3).says("the kubeconfig cannot be used: ").says(help);
    let good = write_kubeconfig(&json!({"server": "http://127.0.0.1:1"}), &json!({}));
    let elsewhere = with(
        &SMALL,
        &["--context", "elsewhere", "--kubeconfig", good.path().to_str().unwrap()],
    );
    run(&elsewhere)
        .exits(3)
        .says("the kubeconfig has no context elsewhere")
        .says(help);
}

#[test]
fn an_unreachable_server_is_given_up_in_time() {
    let closed = write_kubeconfig(&json!({"server": "http://127.0.0.1:1"}), &json!({}));
    let started = Instant::now();
    let mut command = sparkha(&SMALL);
    Run::from(command.env("KUBECONFIG", closed.path()).output().unwrap())
        .exits(3)
        .says("failed to reach the API server http://127.0.0.1:1")
        .says("Connection refused")
        .says("check the server's address in your kubeconfig");
    assert!(started.elapsed() < Duration::from_secs(60));
}

/// The only slow one: it lasts as long as sparkha waits for an answer, 30 s.
#[test]
fn a_server_that_never_answers_is_given_up_in_time() {
    let sandbox = Sandbox::without_pods("stalled");
    let proxy = Proxy::start(Rule::every(&["GET"], "/version", Fault::Stall));
    let started = Instant::now();
    Run::from(proxy.command(&sandbox, &SMALL).output().unwrap())
        .exits(6)
        .says("failed to read the version of the API server: no answer from the API server http://127.0.0.1:")
        .says("within 30 s")
        .says("run the same command again");
    assert!(started.elapsed() < Duration::from_secs(45));
    assert_eq!(sandbox.contents(), NOTHING);
}

// The server says no.

#[test]
fn a_missing_right_is_named_before_anything_is_made() {
    let sandbox = Sandbox::without_pods("forbidden");
    let [_, _, mut operate] = roles();
    let rules = operate["rules"].as_array_mut().unwrap();
    rules.retain(|rule| rule["resources"][0] != "statefulsets");
    let clerk = sandbox.kubeconfig_of("clerk", &[operate]);

    let before = sandbox.contents();
    let mut command = sandbox.command(&SMALL);
    Run::from(command.env("KUBECONFIG", clerk.path()).output().unwrap())
        .exits(4)
        .says(&format!(
            "you may not get, list, watch, create, patch, delete statefulsets in namespace {}",
            sandbox.namespace
        ))
        .says("ask for the Roles that `sparkha render --role --namespace");
    assert_eq!(sandbox.contents(), before);
}

#[test]
fn a_field_of_another_manager_is_taken_only_by_force() {
    let sandbox = Sandbox::bare("conflict");
    sandbox.run(&BARE).exits(0);
    let replicas = || value(&sandbox, "statefulset/spark-worker", "{.spec.replicas}");
    let scale = r#"{"spec": {"replicas": 3}}"#;
    sandbox.kubectl(&[
        "patch",
        "statefulset",
        "spark-worker",
        "--field-manager=other",
        "--type=merge",
        "-p",
        scale,
    ]);
    let two = [
        "create",
        "--masters",
        "1",
        "--workers",
        "2",
        "--no-wait",
        "--skip-preflight",
    ];
    sandbox
        .run(&two)
        .exits(5)
        .says("failed to apply StatefulSet spark-worker")
        .says(r#".spec.replicas ("other""#)
        .says("--force-conflicts");
    assert_eq!(replicas(), "3");
    assert_eq!(lock(&sandbox).as_deref(), Some(""));
    sandbox.run(&with(&two, &["--force-conflicts"])).exits(0);
    assert_eq!(replicas(), "2");
    sandbox.run(&["teardown"]).exits(0);
    assert_eq!(sandbox.contents(), NOTHING);
}

#[test]
fn what_others_have_named_so_is_left_alone() {
    for object in [
        "Service/spark-master",
        "ConfigMap/spark-conf",
        "ConfigMap/spark-sparkha",
    ] {
        let sandbox = Sandbox::new("clash");
        let (kind, name) = object.split_once('/').unwrap();
        let mut foreign = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}});
        if kind == "Service" {
            foreign["spec"] = json!({"ports": [{"port": 80}]});
        }
        sandbox.apply(&foreign.to_string());
        let version = || value(&sandbox, object, "{.metadata.resourceVersion}");
        let before = (sandbox.contents(), version());
        sandbox
            .run(&SMALL)
            .exits(5)
            .says(&format!("{kind} {name} already exists, not sparkha's"))
            .says("choose another NAME or namespace, or remove it");
        sandbox.run(&["teardown"]).exits(0).says("Nothing to do");
        assert_eq!((sandbox.contents(), version()), before);
    }
}

#[test]
fn too_small_a_quota_is_told_beforehand_and_while_waiting() {
    let sandbox = Sandbox::new("quota");
    sandbox.quota(&json!({"requests.memory": "2Gi"}));
    let before = sandbox.contents();
    sandbox
        .run(&SMALL)
        .exits(8)
        .says("ResourceQuota narrow forbids it: requests.memory: 3.0 GiB more needed, 2.0 GiB of 2.0 GiB left")
        .says("lower the cluster's resources, or ask for a larger quota");
    assert_eq!(sandbox.contents(), before);

    let started = Instant::now();
    sandbox
        .run(&with(&SMALL, &["--skip-preflight"]))
        .exits(8)
        .says("the cluster failed to start")
        .says("the API server does not admit its pods")
        .says("exceeded quota: narrow")
        .says("raise the quota, lower resources")
        .says("so its objects are removed");
    assert!(started.elapsed() < Duration::from_secs(90));
    assert_eq!(sandbox.contents(), before);
}

#[test]
fn a_limit_range_is_told_beforehand() {
    let sandbox = Sandbox::without_pods("range");
    let range = json!({
        "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "low"},
        "spec": {"limits": [{"type": "Container", "max": {"memory": "1536Mi"}}]},
    });
    sandbox.apply(&range.to_string());
    sandbox
        .run(&SMALL)
        .exits(8)
        .says("LimitRange low forbids it: spark-worker: limit of memory 2.0 GiB exceeds 1536Mi")
        .says("change the resources in the cluster file");
    assert_eq!(sandbox.contents(), NOTHING);
}

#[test]
fn a_claim_that_is_not_there_is_told_beforehand() {
    let sandbox = Sandbox::without_pods("claim");
    let file = tempfile::NamedTempFile::new().unwrap();
    let volume = "{name: d, mountPath: /d, persistentVolumeClaim: {claimName: nowhere}}";
    std::fs::write(file.path(), format!("workers: {{volumes: [{volume}]}}\n")).unwrap();
    sandbox
        .run(&with(&SMALL, &["-f", file.path().to_str().unwrap()]))
        .exits(8)
        .says("spark-worker: volume d is a claim nowhere, which does not exist")
        .says("create the claim first");
    assert_eq!(sandbox.contents(), NOTHING);
}

#[test]
fn more_than_the_nodes_have_is_told_beforehand() {
    let sandbox = Sandbox::without_pods("room");
    let run = sandbox
        .run(&with(&SMALL, &["--worker-memory", "500Gi"]))
        .exits(8)
        .says("the nodes have no capacity for 1 of 2 pods (spark-worker-0)")
        .says("of memory are free on")
        .says("request less (workers, resources.requests), or add nodes");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "masters: {podAntiAffinity: required}\n").unwrap();
    sandbox
        .run(&["create", "-f", file.path().to_str().unwrap()])
        .exits(8)
        .says("the nodes have no capacity for 2 of 8 pods (spark-master-1, spark-master-2)")
        .says("podAntiAffinity: required");
    let free = run.stderr.split("(spark-worker-0); ").nth(1).unwrap();
    assert!(free.starts_with(|c: char| c.is_ascii_digit()), "no numbers: {free}");
    assert_eq!(sandbox.contents(), NOTHING);
}

#[test]
fn an_image_that_is_not_there_is_told_in_time() {
    let sandbox = Sandbox::without_pods("image");
    let nope = with(&SMALL, &["--image", "docker.io/apache/spark:nope"]);
    sandbox
        .run(&nope)
        .exits(8)
        .says("spark-master-0: its image cannot be pulled")
        .says("docker.io/apache/spark:nope")
        .says("check image, imagePullPolicy and imagePullSecrets")
        .says("so its objects are removed");
    assert_eq!(sandbox.contents(), NOTHING);

    sandbox.run(&with(&nope, &["--retain"])).exits(8);
    assert!(sandbox.contents().contains(&"statefulset.apps/spark-worker".to_owned()));
    sandbox.run(&["teardown"]).exits(0);
    assert_eq!(sandbox.contents(), NOTHING);
}

/// Removed also when the test fails: it would go on refusing.
struct Webhook<'a>(&'a Sandbox);

impl Webhook<'_> {
    const NAME: &'static str = "refuses.sparkha.test";
}

impl Drop for Webhook<'_> {
    fn drop(&mut self) {
        let arguments = [
            "delete",
            "validatingwebhookconfiguration",
            &self.0.namespace,
            "--ignore-not-found",
        ];
        self.0.try_kubectl(&arguments);
    }
}

#[test]
fn a_refusing_webhook_is_named() {
    let sandbox = Sandbox::without_pods("webhook");
    let namespace = &sandbox.namespace;
    sandbox.kubectl_cluster(&[
        "label",
        "namespace",
        namespace,
        &format!("sparkha.test/only={namespace}"),
    ]);
    let webhook = Webhook(&sandbox);
    let configuration = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": namespace},
        "webhooks": [{
            "name": Webhook::NAME,
            "clientConfig": {"url": "https://127.0.0.1:1/"},
            "rules": [{
                "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["statefulsets"],
                "operations": ["CREATE", "UPDATE"],
            }],
            "namespaceSelector": {"matchLabels": {"sparkha.test/only": namespace}},
            "failurePolicy": "Fail", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        }],
    });
    sandbox.apply(&configuration.to_string());
    let probe = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "probe"},
        "spec": {
            "serviceName": "x", "replicas": 0, "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "x", "image": "x"}]}},
        },
    });
    let probe = file(&probe.to_string());
    let probe = probe.path().to_str().unwrap();
    sandbox.wait_for(Duration::from_secs(30), "the webhook", || {
        sandbox
            .try_kubectl(&["create", "-f", probe, "--dry-run=server"])
            .is_none()
    });
    sandbox
        .run(&SMALL)
        .exits(8)
        .says("failed to apply StatefulSet spark-")
        .says(Webhook::NAME)
        .says("so its objects are removed");
    assert_eq!(sandbox.contents(), NOTHING);
    drop(webhook);
}

// The server has a bad time.

#[test]
fn what_passes_is_waited_for() {
    let sandbox = Sandbox::bare("passing");
    for status in [429, 500, 503] {
        for (method, target) in [("GET", "/version"), ("POST", "/configmaps"), ("PATCH", "/services/")] {
            let rule = match method {
                "GET" => Rule::every(&["GET"], target, Fault::Refuse(status)),
                "POST" => Rule::every(&["POST"], target, Fault::Refuse(status)),
                _ => Rule::every(&["PATCH"], target, Fault::Refuse(status)),
            };
            let proxy = Proxy::start(rule.times(3));
            Run::from(proxy.command(&sandbox, &BARE).output().unwrap()).exits(0);
            assert_eq!(proxy.failed().len(), 3, "{status} for {method} {target}");
            assert_bare_is_whole(&sandbox);
            sandbox.run(&["teardown"]).exits(0);
            assert_eq!(sandbox.contents(), NOTHING);
        }
    }
}

#[test]
fn what_does_not_pass_is_given_up_and_cleaned_up() {
    let sandbox = Sandbox::bare("lasting");
    let patches = |status| Rule::every(&["PATCH"], "/statefulsets/", Fault::Refuse(status));
    for status in [503, 403] {
        let proxy = Proxy::start(patches(status));
        let started = Instant::now();
        let run = Run::from(proxy.command(&sandbox, &BARE).output().unwrap())
            .says("failed to apply StatefulSet spark-")
            .says(&format!("the proxy refuses with {status}"))
            .says("so its objects are removed");
        match status {
            403 => drop(
                run.exits(4)
                    .says("ask for the Roles that `sparkha render --role --namespace"),
            ),
            _ => assert_ne!(run.code, Some(0)),
        }
        assert!(started.elapsed() < Duration::from_secs(60));
        assert_eq!(sandbox.contents(), NOTHING);
    }
}

/// The server has done what was asked, and its answer gets lost: asking again finds it done.
#[test]
fn an_answer_that_gets_lost_is_asked_for_again() {
    let sandbox = Sandbox::bare("lost");
    let mut not_gone_on = Vec::new();
    for write in 0.. {
        let (run, lost) = with_lost_answer(&sandbox, &BARE, write);
        if run.code == Some(0) {
            assert_bare_is_whole(&sandbox);
        } else {
            not_gone_on.push(format!("{lost:?}: {}", run.stderr));
        }
        sandbox.run(&["teardown"]).exits(0);
        assert_eq!(sandbox.contents(), NOTHING);
        if lost.is_empty() {
            assert!(write >= 9, "only {write} writes?");
            break;
        }
    }
    assert!(not_gone_on.is_empty(), "{}", not_gone_on.join("\n"));
}

/// As above, for a create that changes a cluster and for teardown.
#[test]
fn an_answer_that_gets_lost_later_is_asked_for_again() {
    let sandbox = Sandbox::bare("lost-later");
    let change = with(&BARE, &["--ui-domain", "example.test"]);
    let before = with(&BARE, &["--ui-domain", "k8s"]);
    let mut not_gone_on = Vec::new();
    for arguments in [&change[..], &["teardown"]] {
        for write in 0.. {
            sandbox.run(&before).exits(0);
            let (run, lost) = with_lost_answer(&sandbox, arguments, write);
            if run.code != Some(0) {
                not_gone_on.push(format!("{lost:?}: {}", run.stderr));
            }
            if lost.is_empty() {
                break;
            }
        }
    }
    sandbox.run(&["teardown"]).exits(0);
    assert_eq!(sandbox.contents(), NOTHING);
    assert!(not_gone_on.is_empty(), "{}", not_gone_on.join("\n"));
}

/// Runs sparkha without the answer to its n-th write; and says which write that was.
fn with_lost_answer(sandbox: &Sandbox, arguments: &[&str], write: usize) -> (Run, Vec<String>) {
    let rule = Rule::every(WRITES, IN_NAMESPACE, Fault::CutAfter(0));
    let proxy = Proxy::start(rule.skip(write).times(1));
    let run = proxy.command(sandbox, arguments).output().unwrap();
    (run.into(), proxy.failed())
}

#[test]
fn watches_that_break_off_are_taken_up_again() {
    let sandbox = Sandbox::new("watch");
    let proxy = Proxy::start(Rule::every(&["GET"], "watch=", Fault::CutAfter(2000)).times(12));
    Run::from(proxy.command(&sandbox, &SMALL).output().unwrap())
        .exits(0)
        .says("In service");
    assert!(proxy.failed().len() >= 3, "{:?}", proxy.failed());
    assert_eq!(sandbox.status("spark")["ready"], true);
    sandbox.run(&["teardown"]).exits(0);
    assert_eq!(sandbox.contents(), NOTHING);
}

// Interruptions.

#[test]
fn after_ctrl_c_the_same_command_goes_on() {
    let sandbox = Sandbox::new("interrupt");
    let child = spawn(sandbox.command(&SMALL));
    sandbox.wait_for(Duration::from_secs(30), "everything to be applied", || {
        sandbox
            .contents()
            .iter()
            .any(|name| name == "statefulset.apps/spark-worker")
            && lock(&sandbox).is_some_and(|lock| lock.is_empty())
    });
    interrupt(&child);
    end_of(child)
        .exits(130)
        .says("interrupted")
        .says("run the same command again to continue, or `sparkha teardown --namespace");
    sandbox.run(&SMALL).exits(0).says("In service");

    let child = spawn(sandbox.command(&["teardown"]));
    sandbox.wait_for(Duration::from_secs(30), "the first deletion", || {
        !sandbox
            .contents()
            .iter()
            .any(|name| name == "statefulset.apps/spark-worker")
    });
    interrupt(&child);
    end_of(child)
        .exits(130)
        .says("interrupted")
        .says("run the same command again");
    sandbox.run(&["teardown"]).exits(0);
    assert_eq!(sandbox.contents(), NOTHING);
}

/// Kills sparkha as it sends its n-th write, for every n; true when it ended before that.
fn killed_at_write(sandbox: &Sandbox, arguments: &[&str], write: usize) -> bool {
    let proxy = Proxy::start(Rule::every(WRITES, IN_NAMESPACE, Fault::Stall).skip(write).times(1));
    let mut child = spawn(proxy.command(sandbox, arguments));
    let mut ended = false;
    sandbox.wait_for(Duration::from_secs(180), "the write to stall", || {
        ended = child.try_wait().unwrap().is_some();
        ended || !proxy.failed().is_empty()
    });
    if ended {
        end_of(child).exits(0);
        return true;
    }
    println!("killed at write {write}: {:?}", proxy.failed());
    child.kill().unwrap();
    child.wait().unwrap();
    false
}

#[test]
fn a_create_that_was_killed_is_finished_by_the_next() {
    let sandbox = Sandbox::bare("killed");
    for write in 0.. {
        let ended = killed_at_write(&sandbox, &BARE, write);
        sandbox.run(&BARE).exits(0);
        assert_bare_is_whole(&sandbox);
        sandbox.run(&["teardown"]).exits(0);
        assert_eq!(sandbox.contents(), NOTHING);
        if ended {
            assert!(write >= 9, "only {write} writes?");
            break;
        }
    }
}

#[test]
fn a_create_that_was_killed_can_be_torn_down() {
    let sandbox = Sandbox::bare("undone");
    for write in 0.. {
        let ended = killed_at_write(&sandbox, &BARE, write);
        sandbox.run(&["teardown"]).exits(0);
        assert_eq!(sandbox.contents(), NOTHING);
        if ended {
            break;
        }
    }
}

/// From three masters with their ZooKeeper to one without: objects change and go.
#[test]
fn a_change_that_was_killed_is_finished_by_the_next() {
    let sandbox = Sandbox::bare("changed");
    sandbox.run(&BARE).exits(0);
    let bare = sandbox.contents();
    for write in 0.. {
        sandbox.run(&HIGHLY_AVAILABLE).exits(0);
        let ended = killed_at_write(&sandbox, &BARE, write);
        sandbox.run(&BARE).exits(0);
        assert_bare_is_whole(&sandbox);
        assert_eq!(sandbox.contents(), bare);
        if ended {
            break;
        }
    }
    sandbox.run(&["teardown"]).exits(0);
    assert_eq!(sandbox.contents(), NOTHING);
}

#[test]
fn a_teardown_that_was_killed_is_finished_by_the_next() {
    let sandbox = Sandbox::bare("torn");
    for write in 0.. {
        sandbox.run(&BARE).exits(0);
        let ended = killed_at_write(&sandbox, &["teardown"], write);
        sandbox.run(&["teardown"]).exits(0);
        assert_eq!(sandbox.contents(), NOTHING);
        sandbox
            .run(&["teardown"])
            .exits(0)
            .says("Nothing to do: there is no cluster spark in namespace");
        if ended {
            assert!(write >= 9, "only {write} writes?");
            break;
        }
    }
}

// Others at work.

#[test]
fn the_second_create_at_once_is_told_who_is_at_work() {
    let sandbox = Sandbox::bare("busy");
    let proxy = Proxy::start(Rule::every(&["PATCH"], "/statefulsets/spark-worker", Fault::Stall).times(1));
    let first = spawn(proxy.command(&sandbox, &BARE));
    sandbox.wait_for(Duration::from_secs(30), "the first to be at work", || {
        !proxy.failed().is_empty()
    });
    assert!(lock(&sandbox).is_some_and(|holder| holder.contains(&first.id().to_string())));
    sandbox
        .run(&BARE)
        .exits(5)
        .says(&format!("process {}) is changing this cluster", first.id()))
        .says("wait until it has finished, then run this command again");
    for other in [&["teardown"][..], &["rotate-secret", "--yes"]] {
        sandbox.run(other).exits(5).says("is changing this cluster");
    }
    proxy.relent();
    end_of(first).exits(0);
    assert_bare_is_whole(&sandbox);
    sandbox.run(&["teardown"]).exits(0);
    assert_eq!(sandbox.contents(), NOTHING);
}

#[test]
fn a_create_during_a_teardown_is_told_so() {
    let sandbox = Sandbox::bare("leaving");
    sandbox.run(&BARE).exits(0);
    let proxy = Proxy::start(Rule::every(&["DELETE"], "/statefulsets/", Fault::Stall));
    let teardown = spawn(proxy.command(&sandbox, &["teardown"]));
    sandbox.wait_for(Duration::from_secs(30), "the teardown to be at work", || {
        !proxy.failed().is_empty()
    });
    let create = sandbox.run(&BARE);
    proxy.relent();
    end_of(teardown).exits(0);
    assert_eq!(sandbox.contents(), NOTHING);
    create
        .exits(5)
        .says("is changing this cluster")
        .says("wait until it has finished, then run this command again");
}

#[test]
fn creates_that_start_together_never_mix() {
    let sandbox = Sandbox::bare("race");
    let racing = |command: &[&str]| {
        let racers: Vec<_> = (0..2).map(|_| spawn(sandbox.command(&BARE))).collect();
        let other = spawn(sandbox.command(command));
        let runs: Vec<_> = racers.into_iter().chain([other]).map(end_of).collect();
        let codes: Vec<_> = runs.iter().map(|run| run.code).collect();
        println!("{codes:?}");
        assert!(codes.contains(&Some(0)), "nobody won: {}", runs[0].stderr);
        for run in runs.into_iter().filter(|run| run.code != Some(0)) {
            run.exits(5).says("another sparkha (").says("is changing this cluster");
        }
        assert_eq!(lock(&sandbox).as_deref(), Some(""));
    };
    for _ in 0..3 {
        racing(&BARE);
        assert_bare_is_whole(&sandbox);
        racing(&HIGHLY_AVAILABLE);
        // Whoever came last, the cluster is wholly theirs.
        let masters = value(&sandbox, "statefulset/spark-master", "{.spec.replicas}");
        let last = if masters == "1" { &BARE[..] } else { &HIGHLY_AVAILABLE };
        let dry = sandbox.run(&with(last, &["--dry-run"])).exits(0);
        assert_eq!(dry.stdout, "Nothing would change\n");
        sandbox.run(&["teardown"]).exits(0);
        assert_eq!(sandbox.contents(), NOTHING);
    }
}

/// Lets `second` wait for the lock of `first`, which then finishes; and says how `second` ended.
fn waits_for(sandbox: &Sandbox, (first, at): (&[&str], Rule), second: &[&str]) -> Run {
    let stalled = Proxy::start(at);
    let first = spawn(stalled.command(sandbox, first));
    sandbox.wait_for(Duration::from_secs(30), "the first to be at work", || {
        !stalled.failed().is_empty()
    });
    // The first look is at what was asked for, before anybody is waited for.
    let looking = Proxy::start(Rule::every(&["GET"], "/configmaps/spark-sparkha", Fault::Stall).skip(1));
    let second = spawn(looking.command(sandbox, second));
    sandbox.wait_for(Duration::from_secs(30), "the second to wait for the first", || {
        !looking.failed().is_empty()
    });
    stalled.relent();
    end_of(first).exits(0);
    looking.relent();
    let run = end_of(second);
    assert!(matches!(run.code, Some(0 | 5)), "{:?}: {}", run.code, run.stderr);
    run
}

#[test]
fn a_create_that_waited_for_a_create_looks_again() {
    let sandbox = Sandbox::bare("waited");
    let at_services = Rule::every(&["PATCH"], "/services/", Fault::Stall);
    let run = waits_for(&sandbox, (&HIGHLY_AVAILABLE, at_services), &BARE);
    if run.code == Some(0) {
        assert_bare_is_whole(&sandbox);
    }
    sandbox.run(&["teardown"]).exits(0);
    assert_eq!(sandbox.contents(), NOTHING);
}

#[test]
fn a_create_that_waited_for_a_teardown_looks_again() {
    let sandbox = Sandbox::bare("waited-teardown");
    sandbox.run(&HIGHLY_AVAILABLE).exits(0);
    let at_deletion = Rule::every(&["DELETE"], "/statefulsets/", Fault::Stall);
    let run = waits_for(&sandbox, (&["teardown"], at_deletion), &BARE);
    if run.code == Some(0) {
        assert_bare_is_whole(&sandbox);
    }
    sandbox.run(&["teardown"]).exits(0);
    assert_eq!(sandbox.contents(), NOTHING);
}

#[test]
fn nobody_reading_is_no_error() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let child = sparkha(&["render"])
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let run = end_of(child).exits(0);
    assert_eq!(run.stderr, "");
}
