//! Other clusters than the default one: a single master, two side by side, external ZooKeeper, volumes.

use std::process::Command;
use std::time::Duration;

use crate::kit::pods::{finish_job, job_log, start_job};
use crate::kit::{Sandbox, kubeconfig, masters_in, sparkha};

#[test]
fn two_clusters_in_one_namespace_never_mix() {
    let sandbox = Sandbox::new("two");
    let before = sandbox.contents();
    for name in ["one", "two"] {
        let state = sandbox
            .run(&["create", name, "--masters", "1", "--workers", "1", "-o", "json"])
            .exits(0)
            .json();
        assert_eq!(state["workers"]["registered"], 1);
    }
    for name in ["one", "two"] {
        let state = sandbox.status(name);
        assert_eq!(state["ready"], true);
        assert_eq!(state["workers"]["pods"][0]["name"], format!("{name}-worker-0"));
        let endpoints = sandbox.kubectl(&[
            "get",
            "endpoints",
            &format!("{name}-master"),
            "-o",
            "jsonpath={.subsets[*].addresses[*].targetRef.name}",
        ]);
        assert_eq!(endpoints, format!("{name}-master-0"));
    }
    let listed = sandbox.run(&["list", "-o", "name"]).exits(0).stdout;
    let ns = &sandbox.namespace;
    assert_eq!(listed, format!("{ns}/one\n{ns}/two\n"));

    sandbox.run(&["teardown", "one"]).exits(0);
    assert_eq!(sandbox.status("two")["ready"], true);
    sandbox.run(&["teardown", "two"]).exits(0);
    // The namespace was there before, and stays as it was.
    assert_eq!(sandbox.contents(), before);
}

#[test]
fn a_single_master_remembers_its_application_over_a_restart() {
    let sandbox = Sandbox::new("single");
    sandbox.run(&["create", "--masters", "1", "--workers", "2"]).exits(0);
    start_job(&sandbox, "job", "spark://spark-master-0:7077", 20);
    sandbox.wait_for(Duration::from_secs(180), "the job's first round", || {
        job_log(&sandbox, "job").contains("round 1")
    });
    // The container ends, the pod stays: what the kubelet does after a crash.
    sandbox.try_kubectl(&["exec", "spark-master-0", "--", "bash", "-c", "kill -9 1; kill -TERM 1"]);
    sandbox.wait_for(Duration::from_secs(180), "the master's restart", || {
        let state = sandbox.status("spark");
        state["masters"][0]["restarts"] == 1 && state["ready"] == true && state["applications"][0]["name"] == "shuffle"
    });
    finish_job(&sandbox, "job");
    sandbox.run(&["teardown"]).exits(0);
}

#[test]
fn an_external_zookeeper_is_used_and_left_clean() {
    let sandbox = Sandbox::new("external");
    // Somebody else's ensemble: a ZooKeeper of sparkha's own rendering, applied with kubectl alone.
    let file = sandbox_file("name: zk\nmasters: {count: 1}\nzookeeper: {count: 1}\n");
    let ensemble = sparkha(&["render", "--only-zookeeper", "-f", file.path().to_str().unwrap()])
        .output()
        .unwrap();
    sandbox.apply(&String::from_utf8_lossy(&ensemble.stdout));
    sandbox.wait_for(Duration::from_secs(180), "ZooKeeper", || {
        let ready = sandbox.try_kubectl(&[
            "get",
            "pod",
            "zk-zookeeper-0",
            "-o",
            "jsonpath={.status.conditions[?(@.type=='Ready')].status}",
        ]);
        ready.is_some_and(|ready| ready == "True")
    });
    let before = sandbox.contents();
    let znodes = || zookeeper_tree(&sandbox);
    let untouched = znodes();

    let arguments = [
        "create",
        "--masters",
        "2",
        "--workers",
        "1",
        "--zookeeper",
        "zk-zookeeper:2181/team",
        "-o",
        "json",
    ];
    let directory = format!("/team/sparkha/{}/spark", sandbox.namespace);
    // Somebody else's.
    let parents = [
        "/team".to_owned(),
        "/team/sparkha".into(),
        format!("/team/sparkha/{}", sandbox.namespace),
    ];
    let make = parents
        .iter()
        .map(|path| format!("create {path}"))
        .chain([format!("create {directory} theirs")]);
    zookeeper_shell(&sandbox, &make.collect::<Vec<_>>().join("\n"));
    let theirs = znodes();
    sandbox
        .run(&[&arguments[..], &["--skip-preflight"]].concat())
        .exits(5)
        .says(&format!("znode {directory} in ZooKeeper at zk-zookeeper:2181"))
        .says("belongs to an unknown owner that wrote `theirs`");
    assert_eq!(znodes(), theirs);
    assert_eq!(sandbox.contents(), before);
    zookeeper_shell(&sandbox, &format!("delete {directory}"));

    let state = sandbox.run(&arguments).exits(0).json();
    assert_eq!(masters_in(&state, "ALIVE").len(), 1);
    assert_eq!(masters_in(&state, "STANDBY").len(), 1);
    assert_eq!(state["zookeeper"]["directory"], directory);
    assert!(znodes().contains(&directory), "{}", znodes());

    sandbox
        .run(&["teardown"])
        .exits(2)
        .says(&format!("the znodes below {directory} in ZooKeeper"));
    sandbox.run(&["teardown", "--yes"]).exits(0).says("znodes removed");
    assert_eq!(sandbox.contents(), before);
    assert_eq!(
        znodes(),
        untouched
            .replace("[zookeeper]", "[team, zookeeper]")
            .replace("/zookeeper", "/team\n/zookeeper")
    );
}

/// All paths.
fn zookeeper_tree(sandbox: &Sandbox) -> String {
    let listed = zookeeper_shell(sandbox, "ls -R /");
    let paths = listed.lines().filter(|line| line.starts_with('/'));
    let mut paths: Vec<_> = paths
        .filter(|path| *path != "/" && !path.starts_with("/zookeeper/"))
        .collect();
    paths.sort_unstable();
    paths.iter().fold(String::new(), |all, path| all + path + "\n")
}

/// What ZooKeeper's own shell answers to these lines.
fn zookeeper_shell(sandbox: &Sandbox, lines: &str) -> String {
    let command = format!(
        "printf '%s\nquit\n' '{lines}' | $JAVA_HOME/bin/java -cp '/opt/spark/jars/*' -Dlog4j2.level=off \
         org.apache.zookeeper.ZooKeeperMain -server 127.0.0.1:2181 2>&1"
    );
    sandbox.kubectl(&["exec", "zk-zookeeper-0", "--", "bash", "-c", &command])
}

#[test]
fn claims_are_made_and_removed_only_when_told() {
    let sandbox = Sandbox::new("claims");
    let before = sandbox.contents();
    let file = sandbox_file(
        "masters: {count: 1, storage: {size: 64Mi}}\n\
         workers:\n  count: 1\n  shuffle: {newClaim: {size: 128Mi}}\n  \
         volumes:\n  - {name: own, mountPath: /data, emptyDir: {}}\n  \
         - {name: settings, mountPath: /settings, configMap: {name: settings}, readOnly: true}\n",
    );
    sandbox.kubectl(&["create", "configmap", "settings", "--from-literal=a=b"]);
    let path = file.path().to_str().unwrap();
    sandbox.run(&["create", "-f", path]).exits(0);
    let claims = || {
        sandbox.kubectl(&[
            "get",
            "persistentvolumeclaims",
            "-o",
            "jsonpath={.items[*].metadata.name}",
        ])
    };
    assert_eq!(claims(), "data-spark-master-0 shuffle-spark-worker-0");
    let written = sandbox.kubectl(&[
        "exec",
        "spark-worker-0",
        "--",
        "bash",
        "-c",
        "touch /data/x $SPARK_LOCAL_DIRS/x && cat /settings/a",
    ]);
    assert_eq!(written, "b");

    sandbox
        .run(&["teardown"])
        .exits(2)
        .says("2 volume claims with data")
        .says("--keep-data");
    assert_eq!(sandbox.status("spark")["ready"], true);
    sandbox
        .run(&["teardown", "--keep-data"])
        .exits(0)
        .says("2 volume claims kept");
    assert_eq!(claims(), "data-spark-master-0 shuffle-spark-worker-0");

    // A first create that fails cleans up what it made, and that was not the data.
    sandbox
        .run(&["create", "-f", path, "--timeout", "1s"])
        .exits(6)
        .says("so its objects are removed");
    assert_eq!(claims(), "data-spark-master-0 shuffle-spark-worker-0");

    // The next cluster of that name takes them again, and may remove them.
    sandbox.run(&["create", "-f", path]).exits(0);
    assert_eq!(
        sandbox.kubectl(&[
            "exec",
            "spark-worker-0",
            "--",
            "bash",
            "-c",
            "cd $SPARK_LOCAL_DIRS && ls x"
        ]),
        "x\n"
    );
    sandbox.run(&["teardown", "--yes"]).exits(0);
    sandbox.kubectl(&["delete", "configmap", "settings"]);
    assert_eq!(sandbox.contents(), before);
}

fn sandbox_file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[test]
fn the_manifests_alone_make_a_working_cluster() {
    let sandbox = Sandbox::new("manifests");
    let before = sandbox.contents();
    let manifest = include_str!("../../manifests/spark-ha.yaml");
    let script = |name: &str| format!("{}/teardown/{name}", env!("CARGO_MANIFEST_DIR"));
    // A kind that this server does not serve must not keep the others from being applied.
    let apply = |manifest: &str| {
        let file = sandbox_file(manifest);
        sandbox.try_kubectl(&["apply", "-f", file.path().to_str().unwrap()]);
    };
    // Whoever forgets the secret gets no cluster that everybody may use, and is told.
    apply(manifest);
    sandbox.wait_for(Duration::from_secs(180), "a master's complaint", || {
        let log = sandbox.try_kubectl(&["logs", "spark-master-0"]).unwrap_or_default();
        log.contains("still has its placeholder")
    });
    apply(&manifest.replace("REPLACE-ME", "0123456789abcdef"));
    sandbox.kubectl(&["delete", "pods", "--all", "--grace-period=1"]);
    sandbox.wait_for(Duration::from_secs(120), "the cluster", || {
        sandbox.status("spark")["ready"] == true
    });
    let output = Command::new("sh")
        .arg(script("teardown-ha.sh"))
        .arg(format!("--namespace={}", sandbox.namespace))
        .env("KUBECONFIG", kubeconfig())
        .output()
        .unwrap();
    println!("{}", String::from_utf8_lossy(&output.stderr));
    sandbox.wait_for(Duration::from_secs(180), "the pods' end", || {
        sandbox.contents() == before
    });
}

/// Rendered by an earlier version of sparkha, and applied as that version applied it.
#[test]
fn a_cluster_of_an_earlier_version_is_found_changed_and_removed() {
    let sandbox = Sandbox::new("earlier");
    let before = sandbox.contents();
    let manifest = include_str!("../releases/before-0.1.0/rendered.yaml").replace("REPLACE-ME", "0123456789abcdef");
    let file = sandbox_file(&manifest);
    let path = file.path().to_str().unwrap();
    sandbox.kubectl(&["apply", "--server-side", "--field-manager=sparkha", "-f", path]);
    sandbox.wait_for(Duration::from_secs(180), "the cluster", || {
        sandbox.status("spark")["ready"] == true
    });
    let listed = sandbox.run(&["list", "-o", "name"]).exits(0).stdout;
    assert_eq!(listed, format!("{}/spark\n", sandbox.namespace));

    // Without a file it stays as it was created, but for what the flag changes.
    let created = sandbox
        .run(&["create", "--workers", "1", "--yes", "-o", "json"])
        .exits(0);
    let state = created.says("workers: 2 → 1").json();
    assert_eq!(state["masters"].as_array().unwrap().len(), 1);
    assert_eq!(state["workers"]["registered"], 1);
    sandbox.run(&["scale", "--workers", "2"]).exits(0);
    sandbox.run(&["rotate-secret", "--yes"]).exits(0);
    sandbox.run(&["teardown", "--yes"]).exits(0);
    assert_eq!(sandbox.contents(), before);
}
