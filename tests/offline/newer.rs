//! Clusters that a newer sparkha wrote: this one reads what it can, and neither writes nor deletes. On this machine, whose files tell
//! whether anything was changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::kit::documents::files_below;
use crate::kit::{Run, run, sparkha};

/// A home with one cluster, `etl`, whose files a newer sparkha wrote.
fn home(change: impl FnOnce(&mut Value, &mut Value)) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let rendered = run(&["render", "etl", "--masters", "1"]).exits(0).stdout;
    let objects = rendered
        .split("\n---\n")
        .map(|text| serde_saphyr::from_str::<Value>(text).unwrap());
    let mut resources: Vec<_> = objects
        .map(|object| json!({"kind": object["kind"], "name": object["metadata"]["name"], "object": object}))
        .collect();
    let is_inventory = |resource: &&mut Value| resource["name"] == "etl-sparkha";
    let inventory = resources.iter_mut().find(is_inventory).unwrap();
    let text = &mut inventory["object"]["data"]["cluster.json"];
    let mut cluster: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
    cluster["format"] = json!(2);
    cluster["sparkhaVersion"] = json!("99.0.0");
    let software = json!({"spark_home": "/opt/spark", "spark_version": "4.3.0", "java_home": null, "java_version": 17, "path": ""});
    let mut written = json!({"software": software, "resources": null});
    change(&mut cluster, &mut written);
    *text = json!(cluster.to_string());
    let mut all = written["resources"].as_array().cloned().unwrap_or_default();
    all.extend(resources);
    written["resources"] = json!(all);
    let folder = home.path().join("state/sparkha/clusters/default/etl");
    std::fs::create_dir_all(folder.join("claims/data-etl-master-0")).unwrap();
    std::fs::write(folder.join("claims/data-etl-master-0/data.json"), "precious").unwrap();
    std::fs::write(folder.join("wanted.json"), written.to_string()).unwrap();
    home
}

/// As one that reads only what it knows understands it, and as one that has another key, kind or meaning.
fn homes() -> [tempfile::TempDir; 3] {
    let alien = json!({"kind": "Gizmo", "name": "etl", "object": {}});
    [
        home(|_, _| {}),
        home(|cluster, _| cluster["zookeeper"] = json!("another")),
        home(|_, written| written["resources"] = json!([alien])),
    ]
}

fn local(home: &Path, arguments: &[&str]) -> Run {
    let mut command = sparkha(&[&["--local"], arguments].concat());
    command
        .env("XDG_STATE_HOME", home.join("state"))
        .output()
        .unwrap()
        .into()
}

/// The files of the cluster and its data.
fn contents(home: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = files_below(home, "json").into_iter();
    files
        .map(|file| (file.clone(), std::fs::read(&file).unwrap()))
        .collect()
}

#[test]
fn no_command_changes_a_cluster_that_a_newer_version_wrote() {
    for home in homes() {
        let home = home.path();
        let before = contents(home);
        assert_eq!(before.len(), 2, "{:?}", before.keys());
        let job = home.join("job.py");
        std::fs::write(&job, "").unwrap();
        let changing: [&[&str]; 11] = [
            &["create", "etl", "--yes"],
            &[
                "create",
                "etl",
                "--yes",
                "--masters",
                "1",
                "--skip-preflight",
                "--force-conflicts",
                "--force",
            ],
            &["create", "etl", "--dry-run"],
            &["scale", "etl", "--workers", "1"],
            &["upgrade", "etl", "--image", "spark:4.3.1", "--yes"],
            &["upgrade", "etl", "--side-by-side", "--image", "spark:4.3.1", "--yes"],
            &["rotate-secret", "etl", "--yes"],
            &["teardown", "etl", "--yes", "--force"],
            &["submit", "etl", "--", job.to_str().unwrap()],
            &["jobs", "etl", "--kill", "etl-driver"],
            &["failover", "etl", "--yes"],
        ];
        for arguments in changing {
            println!("{arguments:?}");
            local(home, arguments)
                .exits(5)
                .says("cluster etl was written by sparkha 99.0.0, in format 2 of the inventory")
                .says("install sparkha 99.0.0 or a newer one");
            assert_eq!(contents(home), before, "{arguments:?}");
        }
    }
}

#[test]
fn what_can_be_read_of_a_newer_version_is_shown() {
    let [readable, other_meaning, other_kind] = homes();
    let status = local(readable.path(), &["status", "etl"]).exits(9);
    assert!(
        status.stdout.contains("was written by sparkha 99.0.0"),
        "{}",
        status.stdout
    );
    assert!(
        status.stdout.contains("Master URL spark://etl-master-0:7077"),
        "{}",
        status.stdout
    );
    let listed = local(readable.path(), &["list", "-o", "name"])
        .exits(0)
        .says("sparkha 99.0.0");
    assert_eq!(listed.stdout, "default/etl\n");
    for unreadable in [other_meaning, other_kind] {
        local(unreadable.path(), &["status", "etl"])
            .exits(5)
            .says("sparkha 99.0.0");
        let listed = local(unreadable.path(), &["list", "-o", "name"])
            .exits(0)
            .says("sparkha 99.0.0");
        assert_eq!(listed.stdout, "");
    }
}
