//! Every test that is written down is run by its folder's filter, and documents name tests that exist.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::kit::documents::{files_below, root};

const FOLDERS: [&str; 4] = ["offline", "local", "kubernetes", "nodes"];

/// The names of all tests, as the filters see them.
fn listed() -> BTreeSet<String> {
    let this = std::env::current_exe().unwrap();
    let list = Command::new(this).args(["--list", "--format=terse"]).output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    list.lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .map(str::to_owned)
        .collect()
}

/// The names that the test functions of a file must have.
fn written(file: &Path) -> Vec<String> {
    let module = file.strip_prefix(root().join("tests")).unwrap().with_extension("");
    let module = module.to_str().unwrap().replace('/', "::");
    let text = std::fs::read_to_string(file).unwrap();
    let mut lines = text.lines().map(str::trim);
    let mut names = Vec::new();
    while lines.any(|line| matches!(line, "#[test]" | "#[tokio::test]")) {
        let (_, function) = lines.find_map(|line| line.split_once("fn ")).unwrap();
        names.push(format!("{module}::{}", function.split('(').next().unwrap()));
    }
    names
}

#[test]
fn every_test_is_run_by_its_folder() {
    let files = files_below(&root().join("tests"), "rs");
    let is_of = |folder: &str, file: &Path| file.starts_with(root().join("tests").join(folder));
    let is_a_test = |file: &&std::path::PathBuf| FOLDERS.iter().any(|folder| is_of(folder, file));
    let written: BTreeSet<_> = files.iter().filter(is_a_test).flat_map(|file| written(file)).collect();
    let listed = listed();
    let undeclared: Vec<_> = written.difference(&listed).collect();
    assert!(undeclared.is_empty(), "not declared in tests/main.rs: {undeclared:#?}");
    let elsewhere: Vec<_> = listed.difference(&written).collect();
    assert!(elsewhere.is_empty(), "in none of {FOLDERS:?}: {elsewhere:#?}");
    // A filter matches anywhere in a name.
    for folder in FOLDERS {
        let filter = format!("{folder}::");
        let wrong = listed.iter().find(|name| name[1..].contains(&filter));
        assert_eq!(wrong, None, "{filter} runs tests of another folder");
    }
}

#[test]
fn the_tests_that_security_md_names_exist() {
    let text = std::fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let named = text.split('`').skip(1).step_by(2);
    let is_a_test = |name: &&str| FOLDERS.iter().any(|folder| name.starts_with(&format!("{folder}::")));
    let (named, listed) = (named.filter(is_a_test).collect::<Vec<_>>(), listed());
    assert!(named.len() > 10, "{named:?}");
    for name in named {
        let module = format!("{name}::");
        let exists = listed.iter().any(|test| test == name || test.starts_with(&module));
        assert!(exists, "SECURITY.md names {name}");
    }
}
