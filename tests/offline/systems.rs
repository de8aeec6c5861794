//! sparkha runs on Linux, macOS and Windows. What these lack in common is named in `platform/system` alone, and what only Linux has in
//! `platform/local` and in the files of `platform/system` that are for Linux. `make systems` proves it by compiling for the others.

use std::path::{Path, PathBuf};

use crate::kit::documents::{files_below, root};

/// What some operating system lacks, and questions about the operating system.
const DIFFERS: [&str; 15] = [
    "target_os",
    "target_family",
    "cfg(unix",
    "cfg(windows",
    "cfg(not(unix",
    "cfg(not(windows",
    "cfg!(unix",
    "cfg!(windows",
    "os::",
    "rustix",
    "libc",
    "nix::",
    "tokio::signal",
    "io::unix",
    "net::Unix",
];
/// What only Linux has.
const LINUX: [&str; 11] = [
    "\"/proc/", "\"/sys/", "pidfd", "Pidfd", "prctl", "inotify", "epoll", "eventfd", "memfd", "signalfd", "cgroup.",
];

/// The lines of code below `src` that contain one of these words, unless their file is in one of the folders or files.
fn naming(words: &[&str], allowed: &[&str]) -> Vec<String> {
    let source = root().join("src");
    let is_allowed = |file: &Path| allowed.iter().any(|path| file.starts_with(source.join(path)));
    let files: Vec<PathBuf> = files_below(&source, "rs");
    assert!(files.len() > 150, "{}", files.len());
    let mut found = Vec::new();
    for file in files.iter().filter(|file| !is_allowed(file)) {
        let text = std::fs::read_to_string(file).unwrap();
        let code = text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim_start().starts_with("//"));
        let of_words = code.filter(|(_, line)| words.iter().any(|word| names(line, word)));
        found.extend(of_words.map(|(number, line)| format!("{}:{}: {}", file.display(), number + 1, line.trim())));
    }
    found
}

/// Whether the line has the word, and not as the end of a longer one, as `os::` in `pos::`.
fn names(line: &str, word: &str) -> bool {
    let is_word = |before: &str| !before.ends_with(|last: char| last.is_alphanumeric() || last == '_');
    line.match_indices(word).any(|(at, _)| is_word(&line[..at]))
}

#[test]
fn one_folder_names_what_differs_between_operating_systems() {
    let found = naming(&DIFFERS, &["platform/system"]);
    assert!(found.is_empty(), "{found:#?}");
    assert!(!naming(&DIFFERS, &[]).is_empty());
}

#[test]
fn only_local_clusters_rely_on_linux() {
    let system = ["platform/system/processes.rs", "platform/system/peers.rs"];
    let found = naming(&LINUX, &["platform/local", system[0], system[1]]);
    assert!(found.is_empty(), "{found:#?}");
    for allowed in system.into_iter().chain(["platform/local"]) {
        let others: Vec<_> = ["platform/local", system[0], system[1]]
            .into_iter()
            .filter(|path| *path != allowed)
            .collect();
        assert!(!naming(&LINUX, &others).is_empty(), "{allowed} relies on Linux no more");
    }
}
