//! What is published, as far as it can be checked without building it: `make dist-test` does the rest.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use crate::kit::Run;
use crate::kit::documents::{files_below, root};

#[test]
fn the_package_has_the_source_and_nothing_else() {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["package", "--list", "--offline", "--locked", "--allow-dirty"]);
    let listed = cargo.current_dir(root()).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let listed: BTreeSet<_> = listed.lines().map(str::to_owned).collect();
    let mut expected: BTreeSet<_> = [
        ".cargo_vcs_info.json",
        "CHANGELOG.md",
        "Cargo.lock",
        "Cargo.toml",
        "Cargo.toml.orig",
        "LICENSE",
        "README.md",
        "build.rs",
    ]
    .map(str::to_owned)
    .into();
    expected.retain(|file| file != "build.rs" || root().join(file).exists());
    for extension in ["rs", "sh", "py", "properties"] {
        for file in files_below(&root().join("src"), extension) {
            expected.insert(file.strip_prefix(root()).unwrap().to_str().unwrap().to_owned());
        }
    }
    assert_eq!(listed, expected);
}

#[test]
fn actionlint_accepts_the_workflows() {
    let built = Command::new(root().join("tests/gotool.sh"))
        .arg("actionlint")
        .output()
        .unwrap();
    let program = String::from_utf8(built.stdout).unwrap();
    // Without other linters, which may be installed in any version.
    let mut lint = Command::new(program.trim());
    lint.args(["-no-color", "-shellcheck=", "-pyflakes="]);
    let lint = lint.current_dir(root()).output().unwrap();
    assert!(lint.status.success(), "{}", String::from_utf8_lossy(&lint.stdout));
}

#[test]
fn workflows_pin_actions_and_have_least_permissions() {
    let mut pinned = 0;
    for file in files_below(&root().join(".github"), "yml") {
        let text = std::fs::read_to_string(&file).unwrap();
        for line in text.lines() {
            let Some((_, action)) = line.split_once("uses: ") else {
                continue;
            };
            let digest = action.split(['@', ' ']).nth(1).unwrap();
            let is_digest = digest.len() == 40 && digest.chars().all(|c| c.is_ascii_hexdigit());
            assert!(is_digest, "{}: {line}", file.display());
            pinned += 1;
        }
        assert!(
            text.contains("\npermissions:\n  contents: read\n"),
            "{}",
            file.display()
        );
    }
    assert_eq!(pinned, 2);
}

/// A repository with what a release starts from.
struct Repository(tempfile::TempDir);

impl Repository {
    fn new(changelog: &str) -> Self {
        let repository = Self(tempfile::tempdir().unwrap());
        let folder = repository.0.path();
        std::fs::create_dir(folder.join("dist")).unwrap();
        for script in ["release.sh", "notes.sh", "sign.sh"] {
            std::fs::copy(root().join("dist").join(script), folder.join("dist").join(script)).unwrap();
        }
        std::fs::write(
            folder.join("Cargo.toml"),
            "[package]\nname = \"sparkha\"\nversion = \"0.2.0\"\n",
        )
        .unwrap();
        std::fs::write(folder.join("CHANGELOG.md"), changelog).unwrap();
        repository.git(&["init", "--quiet", "--initial-branch=main"]);
        repository.git(&["add", "."]);
        repository.git(&["commit", "--quiet", "--message=All"]);
        repository
    }

    fn command(&self, program: &Path, arguments: &[&str]) -> Output {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.0.path());
        for (name, value) in [("NAME", "sparkha"), ("EMAIL", "sparkha@localhost")] {
            command.env(format!("GIT_AUTHOR_{name}"), value);
            command.env(format!("GIT_COMMITTER_{name}"), value);
        }
        command.env_remove("SPARKHA_SIGNING_KEY").output().unwrap()
    }

    fn git(&self, arguments: &[&str]) -> String {
        let output = self.command(Path::new("git"), arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Everything that a release would change.
    fn state(&self) -> String {
        self.git(&["status", "--porcelain"]) + &self.git(&["show-ref"]) + &self.git(&["worktree", "list"])
    }

    #[track_caller]
    fn refuses(&self, version: &str, why: &str) {
        let before = self.state();
        let script = self.0.path().join("dist/release.sh");
        Run::from(self.command(&script, &[version])).exits(2).says(why);
        assert_eq!(self.state(), before);
    }
}

const CHANGELOG: &str = "# Changelog\n\n## [Unreleased]\n\n- More.\n\n## [0.2.0] - 2026-01-01\n\n- All.\n";

#[test]
fn a_release_refuses_what_it_cannot_release_and_changes_nothing() {
    let repository = Repository::new(CHANGELOG);
    repository.refuses("", "release: give the version");
    repository.refuses("v0.3.0", "release: give the version");
    repository.refuses("0.3", "release: give the version");
    repository.refuses("0.1.9", "release: 0.1.9 is not higher than 0.2.0 in Cargo.toml");
    repository.refuses(
        "0.2.0",
        "release: 0.2.0 is not higher than 0.2.0, the last release in CHANGELOG.md",
    );
    repository.refuses("0.10.0", "sign: SPARKHA_SIGNING_KEY is empty");
    repository.git(&["tag", "v0.3.0"]);
    repository.refuses("0.3.0", "release: there is a tag v0.3.0 already");
    repository.git(&["checkout", "--quiet", "--detach"]);
    repository.refuses("0.4.0", "release: no branch is checked out");
    std::fs::write(repository.0.path().join("new"), "").unwrap();
    repository.refuses("0.4.0", "release: the tree is not clean");
    let nothing_new = CHANGELOG.replace("- More.\n\n", "");
    Repository::new(&nothing_new).refuses("0.3.0", "release: CHANGELOG.md has nothing under Unreleased");
}

#[test]
fn release_notes_are_the_section_of_the_version() {
    let repository = Repository::new(CHANGELOG);
    let notes = |version| {
        let output = repository.command(&repository.0.path().join("dist/notes.sh"), &[version]);
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(notes("Unreleased"), "- More.");
    assert_eq!(notes("0.2.0"), "- All.");
    assert_eq!(notes("0.3.0"), "");
}
