//! Names the commit that sparkha is built from, for `sparkha version`: the variable SPARKHA_COMMIT, the file that `cargo package` adds, or git.
//! Nothing of the machine or the time is in it. Builds for development ask no git: each commit would compile everything again.
#![allow(clippy::print_stdout)]

use std::path::Path;
use std::process::Command;

/// What `cargo package` adds to an archive.
const OF_PACKAGE: &str = ".cargo_vcs_info.json";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=Cargo.toml");
    println!("cargo::rerun-if-env-changed=SPARKHA_COMMIT");
    let named = std::env::var("SPARKHA_COMMIT").ok().filter(|named| !named.is_empty());
    let commit = named.or_else(of_package).or_else(of_git);
    if let Some(commit) = commit.filter(|commit| is_commit(commit)) {
        println!("cargo::rustc-env=SPARKHA_COMMIT={commit}");
    } else {
        // An empty one is none.
        println!("cargo::rustc-env=SPARKHA_COMMIT=");
    }
}

/// A hash in hexadecimal, with `-dirty` if files differ from it.
fn is_commit(text: &str) -> bool {
    let hash = text.strip_suffix("-dirty").unwrap_or(text);
    hash.len() >= 7 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn of_package() -> Option<String> {
    let text = std::fs::read_to_string(OF_PACKAGE).ok()?;
    let mut words = text.split('"').skip_while(|word| *word != "sha1");
    let commit = words.nth(2)?.to_owned();
    let is_dirty = text.contains("\"dirty\": true");
    Some(if is_dirty { commit + "-dirty" } else { commit })
}

fn of_git() -> Option<String> {
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    // Sources without a repository of their own may be below another one.
    let top = git(&["rev-parse", "--show-toplevel"]).filter(|_| is_release)?;
    let is_ours = Path::new(&top).canonicalize().ok()? == Path::new(".").canonicalize().ok()?;
    if !is_ours {
        return None;
    }
    for file in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", file])?;
        if Path::new(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    println!("cargo::rerun-if-changed=src");
    git(&["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"])
}

/// The first line of what git prints; `None` without git or a repository.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let printed = String::from_utf8(output.stdout).ok()?;
    let line = printed.lines().next()?.to_owned();
    output.status.success().then_some(line)
}
