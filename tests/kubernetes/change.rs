//! A create on a cluster that is there: what it keeps, what it changes, and what it asks about first. Most of it on clusters without pods.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::Stdio;

use serde_json::Value;
use tempfile::NamedTempFile;

use crate::kit::{Run, Sandbox, on_terminal};

/// A cluster that the defaults are far from.
const MADE: &str = "\
masters: {count: 1}
workers: {count: 2}
history: {eventLogs: {newClaim: {size: 1Gi, accessMode: ReadWriteOnce}}}
connect: true
sparkConf: {spark.app.kept: 'yes'}
";

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

/// `sparkha create` that neither checks nor waits.
fn create(sandbox: &Sandbox, more: &[&str]) -> Run {
    sandbox.run(&[&["create", "--no-wait", "--skip-preflight"], more].concat())
}

/// The same on a terminal, where this is typed.
fn asked(sandbox: &Sandbox, more: &[&str], typed: &str) -> Run {
    let inside = sandbox.command(&[&["create", "--no-wait", "--skip-preflight"], more].concat());
    let mut terminal = on_terminal(&inside)
        .arg("/dev/null")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    terminal.stdin.as_mut().unwrap().write_all(typed.as_bytes()).unwrap();
    let run: Run = terminal.wait_with_output().unwrap().into();
    assert!(run.stdout.contains("Change it? [y/N]"), "{}", run.stdout);
    run
}

/// The objects of the cluster with the versions of what was written to them.
fn versions(sandbox: &Sandbox) -> BTreeMap<String, String> {
    let kinds = "statefulsets,services,networkpolicies,poddisruptionbudgets,configmaps,secrets,serviceaccounts";
    let selector = "app.kubernetes.io/managed-by=sparkha";
    let found = sandbox.kubectl(&["get", kinds, "-l", selector, "-o", "json"]);
    let found: Value = serde_json::from_str(&found).unwrap();
    let version = |object: &Value| {
        let metadata = &object["metadata"];
        let name = format!(
            "{}/{}",
            object["kind"].as_str().unwrap(),
            metadata["name"].as_str().unwrap()
        );
        // The resource version of what has a status changes with it.
        let version = match metadata["generation"].as_i64() {
            Some(generation) => generation.to_string(),
            None => metadata["resourceVersion"].as_str().unwrap().to_owned(),
        };
        (name, version)
    };
    found["items"].as_array().unwrap().iter().map(version).collect()
}

/// The names of what differs.
fn changed(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    let names = before
        .keys()
        .chain(after.keys().filter(|name| !before.contains_key(*name)));
    names
        .filter(|name| before.get(*name) != after.get(*name))
        .cloned()
        .collect()
}

#[test]
fn without_a_file_create_keeps_what_was_asked_for() {
    let sandbox = Sandbox::bare("kept");
    let made = file(MADE);
    create(&sandbox, &["-f", made.path().to_str().unwrap()]).exits(0);
    let first = versions(&sandbox);
    assert!(first.contains_key("StatefulSet/spark-connect"), "{first:?}");
    create(&sandbox, &[]).exits(0).says("Nothing to change");
    assert_eq!(versions(&sandbox), first);

    // A flag changes what it names, and stays.
    create(&sandbox, &["--workers", "3"])
        .exits(0)
        .says("spark changes: workers: 2 → 3\n");
    let more = versions(&sandbox);
    assert_eq!(
        changed(&first, &more),
        ["ConfigMap/spark-sparkha", "StatefulSet/spark-worker"]
    );
    create(&sandbox, &[]).exits(0).says("Nothing to change");
    // So does a number that scale wrote.
    sandbox.run(&["scale", "--workers", "2", "--no-wait"]).exits(0);
    let scaled = versions(&sandbox);
    create(&sandbox, &[]).exits(0).says("Nothing to change");
    assert_eq!(versions(&sandbox), scaled);
    create(&sandbox, &["-f", made.path().to_str().unwrap()])
        .exits(0)
        .says("Nothing to change");
}

#[test]
fn what_takes_something_away_needs_consent() {
    let sandbox = Sandbox::bare("consent");
    create(&sandbox, &["-f", file(MADE).path().to_str().unwrap()]).exits(0);
    let before = versions(&sandbox);
    let other = file("workers: {count: 2}\n");
    let other = ["-f", other.path().to_str().unwrap()];
    let told = |run: Run| {
        run.says("masters: 1 → 3")
            .says("ZooKeeper: none → 3 of its own")
            .says("history server: removed")
            .says("StatefulSet spark-connect deleted")
            .says("pods of spark-worker restart")
    };
    told(create(&sandbox, &other).exits(2))
        .says("nothing was changed")
        .says("--yes");
    told(create(&sandbox, &[&other[..], &["--dry-run"]].concat()).exits(0));
    asked(&sandbox, &other, "n\n").exits(2);
    assert_eq!(versions(&sandbox), before);
    asked(&sandbox, &other, "y\n").exits(0);
    let after = versions(&sandbox);
    assert!(after.contains_key("StatefulSet/spark-zookeeper"), "{after:?}");
    assert!(!after.contains_key("StatefulSet/spark-connect"), "{after:?}");
    create(&sandbox, &[]).exits(0).says("Nothing to change");
    create(&sandbox, &["-f", file(MADE).path().to_str().unwrap(), "--yes"])
        .exits(0)
        .says("masters: 3 → 1");
}

#[test]
fn nothing_is_guessed_where_the_inventory_keeps_no_file() {
    let sandbox = Sandbox::bare("older");
    let made = file(MADE);
    let made = ["-f", made.path().to_str().unwrap()];
    create(&sandbox, &made).exits(0);
    let older = r#"{"data": {"cluster-file.yaml": null}}"#;
    sandbox.kubectl(&["patch", "configmap", "spark-sparkha", "--type=merge", "-p", older]);
    let before = versions(&sandbox);
    // One master is what was asked for. What else was is not known.
    create(&sandbox, &["--masters", "1"])
        .exits(2)
        .says("its inventory has no cluster-file.yaml")
        .says("StatefulSet spark-connect deleted");
    assert_eq!(versions(&sandbox), before);
    // Its file, given once more, is kept, and no pod restarts.
    create(&sandbox, &made).exits(0);
    assert_eq!(changed(&before, &versions(&sandbox)), ["ConfigMap/spark-sparkha"]);
    create(&sandbox, &[]).exits(0).says("Nothing to change");
}
