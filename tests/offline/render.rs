//! What `sparkha render` prints: the generated files, the examples, and what readers of YAML make of it.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::Value;

use crate::kit::{Run, file, run};

/// Files that are sparkha's own output, and the arguments that make them. `make manifests` writes them anew.
const GENERATED: [(&str, &[&str]); 7] = [
    ("manifests/spark.yaml", &["render", "--masters", "1"]),
    ("manifests/spark-ha.yaml", &["render"]),
    ("manifests/role.yaml", &["render", "--role"]),
    ("zookeeper/zookeeper.yaml", &["render", "--only-zookeeper"]),
    ("teardown/teardown.sh", &["render", "--masters", "1", "--teardown"]),
    ("teardown/teardown-ha.sh", &["render", "--teardown"]),
    // The folders of earlier versions stay as those versions wrote them.
    (
        concat!("tests/releases/", env!("CARGO_PKG_VERSION"), "/rendered.yaml"),
        &["render", "-f", "tests/releases/cluster.yaml"],
    ),
];

#[test]
fn generated_files_are_what_render_prints() {
    for (path, arguments) in GENERATED {
        let file = std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap_or_default();
        let printed = run(arguments).exits(0).stdout;
        assert!(
            file == printed,
            "{path} is not what `sparkha {}` prints: run `make manifests`",
            arguments.join(" ")
        );
    }
}

#[test]
fn rendering_is_deterministic_and_needs_no_namespace() {
    let first = run(&["render"]).exits(0).stdout;
    assert_eq!(first, run(&["render"]).exits(0).stdout);
    assert!(
        !first.contains("namespace: "),
        "an object has a namespace that nobody named"
    );
    let named = run(&["render", "--namespace", "data"]).exits(0).stdout;
    assert_eq!(named.matches("\n  namespace: data\n").count(), 20);
}

/// Stands for kubectl: writes down its arguments, and finds the cluster in the namespace data only.
const KUBECTL: &str = r#"#!/bin/sh
echo "$*" >>"$0.log"
case $* in
  "--namespace=data get configmap,"*) echo configmap/spark-sparkha ;;
esac
"#;

/// Runs a teardown script with a kubectl of the test's own; what the script's kubectl was asked for.
fn teardown(rendered: &[&str], arguments: &[&str]) -> (Run, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let kubectl = folder.path().join("kubectl");
    std::fs::write(&kubectl, KUBECTL).unwrap();
    std::fs::set_permissions(&kubectl, std::fs::Permissions::from_mode(0o755)).unwrap();
    let script = file(&run(&[&["render", "--teardown"], rendered].concat()).exits(0).stdout);
    let output = Command::new("sh")
        .arg(script.path())
        .args(arguments)
        .env(
            "PATH",
            format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap()),
        )
        .output();
    let log = std::fs::read_to_string(folder.path().join("kubectl.log")).unwrap();
    (output.unwrap().into(), log.lines().map(str::to_owned).collect())
}

#[test]
fn a_cluster_without_an_ensemble_has_none_to_print() {
    for layout in [["--masters", "1"], ["--zookeeper", "zk:2181"]] {
        run(&[&["render", "--only-zookeeper"], &layout[..]].concat())
            .exits(2)
            .says("this cluster has no ZooKeeper of its own");
    }
}

#[test]
fn a_version_of_spark_that_is_too_old_is_told() {
    let told = "Spark is 3.5.1; sparkha supports Spark 4.0 and later";
    run(&["render", "--image", "apache/spark:3.5.1"]).exits(0).says(told);
    for other in ["apache/spark:4.0.0", "example/etl:1.2.0"] {
        let run = run(&["render", "--image", other]).exits(0);
        assert_eq!(run.stderr, "", "{other}");
    }
}

#[test]
fn a_teardown_script_deletes_where_the_objects_were_rendered_for() {
    let in_data = file("namespace: data\n");
    let in_data = ["-f", in_data.path().to_str().unwrap()];
    for (rendered, arguments) in [
        (&in_data[..], &[][..]),
        (&["-n", "data"], &[]),
        (&[], &["--namespace=data"]),
        (&["-n", "other"], &["--namespace=data"]),
    ] {
        let (run, asked) = teardown(rendered, arguments);
        run.exits(0);
        assert!(
            asked.iter().all(|line| line.starts_with("--namespace=data ")),
            "{asked:?}"
        );
        assert!(
            asked.iter().any(|line| line.contains("delete statefulset")),
            "{asked:?}"
        );
    }
    for (arguments, place) in [
        (&[][..], "the namespace of the kubeconfig"),
        (&["--namespace=other"], "namespace other"),
    ] {
        let (run, asked) = teardown(&[], arguments);
        run.exits(1)
            .says(&format!("there is no cluster spark in {place}; nothing was deleted"));
        assert_eq!(asked.len(), 1, "{asked:?}");
    }
}

#[test]
fn what_is_rendered_reads_back_as_yaml_1_1() {
    // kubectl's parser takes more words for something else than text than YAML 1.2 does.
    let file = file(
        "sparkConf: {spark.a: 'yes', spark.b: 'on', spark.c: '0o17', spark.d: '1_000', spark.e: 'null', spark.f: '~'}\n\
                     labels: {a: 'y', b: '0x10', c: '1e3', d: '012'}\n",
    );
    let yaml = run(&["render", "-f", file.path().to_str().unwrap()]).exits(0).stdout;
    for quoted in ["a: \"y\"", "b: \"0x10\"", "c: \"1e3\"", "d: \"012\""] {
        let single = quoted.replace('"', "'");
        assert!(
            yaml.contains(quoted) || yaml.contains(&single),
            "{quoted} is not quoted\n{yaml}"
        );
    }
}

#[test]
fn whoever_fills_in_the_secrets_changes_nothing_else() {
    let text = run(&["render"]).exits(0).stdout;
    let mut lines = text.lines().filter(|line| line.contains("REPLACE-ME"));
    assert_eq!(lines.next(), Some("  spark.authenticate.secret: REPLACE-ME"));
    assert_eq!(lines.next(), Some("  zookeeper.password: REPLACE-ME"));
    assert_eq!(lines.next(), None);
}

/// Each example: its StatefulSets with their numbers of pods, and words that must stand in what is rendered.
type Example = (&'static str, &'static [(&'static str, u64)], &'static [&'static str]);
const EXAMPLES: [Example; 6] = [
    (
        "development.yaml",
        &[
            ("spark-connect", 1),
            ("spark-history", 1),
            ("spark-master", 1),
            ("spark-worker", 1),
        ],
        &[
            "recoveryMode=FILESYSTEM",
            "ReadWriteOnce",
            "cleaner.maxAge=1d",
            "spark.cores.max=1",
        ],
    ),
    (
        "external-zookeeper.yaml",
        &[("reports-master", 2), ("reports-worker", 4)],
        &[
            "zookeeper.url=zk-0.zk.infra:2181,zk-1.zk.infra:2181,zk-2.zk.infra:2181",
            "dir=/spark/sparkha/data/reports",
        ],
    ),
    (
        "highly-available.yaml",
        &[("etl-master", 3), ("etl-worker", 4), ("etl-zookeeper", 3)],
        &["maxSessionTimeout=6000", "storage: 1Gi", "maxUnavailable: 1"],
    ),
    (
        "large-workers.yaml",
        &[
            ("science-connect", 1),
            ("science-master", 3),
            ("science-worker", 6),
            ("science-zookeeper", 3),
        ],
        &[
            "storageClassName: local-nvme",
            "claimName: datasets",
            "kind: PodMonitor",
            "prometheusServlet",
            "spark.cores.max=48",
            "spark.executor.memory=8192m",
        ],
    ),
    (
        "s3-history.yaml",
        &[
            ("lake-history", 1),
            ("lake-master", 3),
            ("lake-worker", 4),
            ("lake-zookeeper", 3),
        ],
        &[
            "spark.eventLog.dir=s3a://logs/events",
            "fs.logDirectory=s3a://logs/events",
            "key: AWS_SECRET_ACCESS_KEY",
        ],
    ),
    (
        "sparkha.yaml",
        &[("etl-master", 3), ("etl-worker", 4), ("etl-zookeeper", 3)],
        &["shuffle.partitions=64", "path.style.access=true", "disk: ssd"],
    ),
];

#[test]
fn examples_are_the_clusters_that_they_tell_of() {
    let folder = format!("{}/examples", env!("CARGO_MANIFEST_DIR"));
    let entries = std::fs::read_dir(&folder).unwrap().flatten();
    let mut there: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    there.retain(|name| name.ends_with(".yaml"));
    there.sort();
    assert_eq!(there, EXAMPLES.map(|(file, ..)| file), "each example is tested");
    let page = std::fs::read_to_string(format!("{folder}/../docs/cluster-file.md")).unwrap();
    for (file, sets, words) in EXAMPLES {
        assert!(
            page.contains(&format!("examples/{file}")),
            "docs/cluster-file.md lists {file}"
        );
        let text = run(&["render", "-f", &format!("{folder}/{file}")]).exits(0).stdout;
        let objects = text
            .split("\n---\n")
            .map(|object| serde_saphyr::from_str::<Value>(object).unwrap());
        let mut found: Vec<_> = objects
            .filter(|object| object["kind"] == "StatefulSet")
            .map(|set| {
                (
                    set["metadata"]["name"].as_str().unwrap().to_owned(),
                    set["spec"]["replicas"].as_u64().unwrap(),
                )
            })
            .collect();
        found.sort();
        let wanted: Vec<_> = sets.iter().map(|&(name, count)| (name.to_owned(), count)).collect();
        assert_eq!(found, wanted, "{file}");
        for word in words {
            assert!(text.contains(word), "{file}: {word}");
        }
    }
}
