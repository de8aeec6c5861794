//! The name that you call the program by. kubectl calls it `kubectl-sparkha` as its plugin, and commands in help, examples, hints and manual
//! pages then begin with `kubectl sparkha`.

use std::path::{Path, PathBuf};

/// Name of the program's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Sparkha,
    /// `kubectl sparkha`
    Plugin,
    /// What kubectl runs to complete the arguments of its plugin.
    Completer,
}

/// File that kubectl runs for `kubectl sparkha`.
pub const PLUGIN: &str = "kubectl-sparkha";
const COMPLETER: &str = "kubectl_complete-sparkha";

/// All visible commands, in the groups of `sparkha --help`.
pub const GROUPS: [(&str, &[&str]); 6] = [
    (
        "Clusters",
        &[
            "create",
            "status",
            "list",
            "scale",
            "upgrade",
            "rotate-secret",
            "teardown",
            "render",
            "import",
        ],
    ),
    ("Jobs", &["submit", "jobs", "connect-url"]),
    ("Web UIs", &["ui", "router", "route"]),
    ("Diagnosis", &["logs", "doctor", "failover"]),
    ("This machine", &["local"]),
    ("Other", &["version", "schema", "man", "completions"]),
];

/// The names of all commands, which tell `sparkha create` from a sentence about sparkha. `sparkha help create` is accepted, too.
pub fn commands() -> impl Iterator<Item = &'static str> {
    GROUPS.iter().flat_map(|(_, names)| *names).copied().chain(["help"])
}

impl Program {
    /// As this process was called.
    pub fn current() -> Self {
        Self::of(&std::env::args_os().next().map(PathBuf::from).unwrap_or_default())
    }

    fn of(path: &Path) -> Self {
        // Windows adds .exe.
        match path.file_stem().and_then(|stem| stem.to_str()) {
            Some(PLUGIN) => Self::Plugin,
            Some(COMPLETER) => Self::Completer,
            _ => Self::Sparkha,
        }
    }

    /// A text with its commands as you type them.
    pub fn named(self, text: &str) -> String {
        if self == Self::Sparkha {
            return text.to_owned();
        }
        let mut named = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("sparkha ") {
            named.push_str(before);
            let is_part = |c: char| c.is_alphanumeric() || "-_./".contains(c);
            let is_word = !named.ends_with(is_part) && !named.ends_with("kubectl ");
            let next = after.split(|c: char| !c.is_ascii_lowercase() && c != '-').next();
            if is_word && next.is_some_and(|next| next.starts_with("--") || commands().any(|name| name == next)) {
                named.push_str("kubectl ");
            }
            named.push_str("sparkha ");
            rest = after;
        }
        named + rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_file_decides() {
        for (path, program) in [
            ("/usr/bin/sparkha", Program::Sparkha),
            ("", Program::Sparkha),
            ("/root/.krew/bin/kubectl-sparkha", Program::Plugin),
            ("kubectl-sparkha.exe", Program::Plugin),
            ("kubectl_complete-sparkha", Program::Completer),
        ] {
            assert_eq!(Program::of(Path::new(path)), program, "{path}");
        }
    }

    #[test]
    fn as_a_plugin_commands_begin_with_kubectl() {
        for (text, named) in [
            (
                "`sparkha create etl` and `sparkha logs`",
                "`kubectl sparkha create etl` and `kubectl sparkha logs`",
            ),
            ("sparkha --help lists all", "kubectl sparkha --help lists all"),
            ("watch sparkha status", "watch kubectl sparkha status"),
            ("kubectl sparkha status", "kubectl sparkha status"),
            (
                "sparkha sets it, sparkha creates no CRD",
                "sparkha sets it, sparkha creates no CRD",
            ),
            ("mysparkha create; sparkha", "mysparkha create; sparkha"),
        ] {
            assert_eq!(Program::Plugin.named(text), named);
            assert_eq!(Program::Sparkha.named(text), text);
        }
    }
}
