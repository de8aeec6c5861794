//! The code blocks of README.md and docs/ do what they say. The word behind a fence says how a block is checked:
//!
//! | fence | is checked so |
//! |---|---|
//! | `sh` | it runs, in one folder with the other blocks of its page, with sparkha and without Kubernetes |
//! | `sh,kubernetes`, `sh,local`, `sh,router`, `sh,build` | it needs something that is not there: its `sparkha` commands have valid arguments |
//! | `console` | a transcript: the `sparkha` commands after `$` have valid arguments |
//! | `yaml` | it is a cluster file, or a part of one |
//! | `yaml,other`, `python` | it is not checked |
//!
//! Whether arguments are valid is checked beside the parser, in `src/cli/snippets.rs`.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::kit::documents::{Snippet, documents, snippets};
use crate::kit::{Run, file, run};

const KINDS: [&str; 9] = [
    "sh",
    "sh,kubernetes",
    "sh,local",
    "sh,router",
    "sh,build",
    "console",
    "yaml",
    "yaml,other",
    "python",
];

fn of_kind(kind: &str) -> Vec<Snippet> {
    let all = documents().into_iter().flat_map(|document| snippets(&document));
    all.filter(|snippet| snippet.info == kind).collect()
}

#[test]
fn every_code_block_says_how_it_is_checked() {
    for document in documents() {
        for snippet in snippets(&document) {
            let Snippet { place, info, .. } = &snippet;
            assert!(KINDS.contains(&info.as_str()), "{place}: `{info}` is none of {KINDS:?}");
        }
    }
    let readme = snippets(&documents()[0]);
    assert!(!readme.is_empty(), "README.md has code blocks");
}

#[test]
fn cluster_files_in_documents_are_valid() {
    for Snippet { place, text, .. } in of_kind("yaml") {
        let file = file(&text);
        let run = run(&["render", "-f", file.path().to_str().unwrap()]);
        assert_eq!(run.code, Some(0), "{place}: {}", run.stderr);
    }
}

#[test]
fn scripts_in_documents_run() {
    let program = Path::new(assert_cmd::cargo::cargo_bin!("sparkha"));
    let path = format!(
        "{}:{}",
        program.parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    for document in documents() {
        let folder = tempfile::tempdir().unwrap();
        for snippet in snippets(&document).iter().filter(|snippet| snippet.info == "sh") {
            let mut shell = Command::new("bash");
            shell
                .args(["-euo", "pipefail", "-c", &snippet.text])
                .current_dir(&folder)
                .env("PATH", &path)
                .env("HOME", folder.path())
                .env("KUBECONFIG", "/nonexistent")
                .stdin(Stdio::null());
            let run: Run = shell.output().unwrap().into();
            assert_eq!(run.code, Some(0), "{}: {}{}", snippet.place, run.stdout, run.stderr);
        }
    }
}
