//! sparkha as a plugin of kubectl, which finds programs by the names of their files.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::kit::{Run, run};

/// Runs sparkha under this name.
fn called(name: &str, arguments: &[&str]) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join(name);
    symlink(assert_cmd::cargo::cargo_bin!("sparkha"), &program).unwrap();
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("HOME", "/nonexistent")
        .env_remove("KUBECONFIG");
    command.output().unwrap().into()
}

#[test]
fn the_plugin_says_kubectl_in_usage_examples_hints_and_manual_pages() {
    let help = called("kubectl-sparkha", &["create", "--help"]).exits(0).stdout;
    assert!(help.contains("Usage: kubectl sparkha create "), "{help}");
    assert!(help.contains("\n  kubectl sparkha create --dry-run"), "{help}");
    called("kubectl-sparkha", &["delete"])
        .exits(2)
        .says("did you mean kubectl sparkha teardown? kubectl sparkha --help");
    called("kubectl-sparkha", &["scale", "3"])
        .exits(2)
        .says("type: kubectl sparkha scale --workers 3");
    called("kubectl-sparkha", &["create", "--no-such"])
        .exits(2)
        .says("Usage: kubectl sparkha create");
    // A hint with the cluster's name and place.
    let missing = ["create", "etl", "--local", "--spark-home", "/nonexistent"];
    let hint = called("kubectl-sparkha", &missing).stderr;
    assert_eq!(hint, run(&missing).stderr.replace("`sparkha ", "`kubectl sparkha "));
    assert!(hint.contains("`kubectl sparkha "), "{hint}");

    let folder = tempfile::tempdir().unwrap();
    called("kubectl-sparkha", &["man", folder.path().to_str().unwrap()]).exits(0);
    let page = std::fs::read_to_string(folder.path().join("kubectl-sparkha-create.1")).unwrap();
    assert!(page.contains("kubectl sparkha create"), "{page}");
    assert!(!Path::new(&folder.path().join("sparkha.1")).exists());
    let script = called("kubectl-sparkha", &["completions", "bash"]).exits(0).stdout;
    assert!(script.contains("-F _kubectl__sparkha"), "{script}");
}

#[test]
fn kubectl_is_told_candidates_and_what_to_do_with_them() {
    let completed = |arguments: &[&str]| called("kubectl_complete-sparkha", arguments).exits(0).stdout;
    assert_eq!(
        completed(&["cr"]),
        "create\tCreate a cluster, or change it to match\n:4\n"
    );
    assert!(completed(&["create", "etl", "--mast"]).starts_with("--masters\t"));
    // All commands, where nothing is typed yet.
    let all = completed(&[""]);
    assert!(all.contains("\nteardown\t") || all.starts_with("teardown\t"), "{all}");
}
