//! Commands in hints. The code writes them as `` `sparkha VERB …` ``. For the user they are completed with the cluster's name, its
//! namespace, `--local`, and the kubeconfig and context of this run.

use std::path::PathBuf;
use std::sync::{LazyLock, PoisonError, RwLock};

use super::program::Program;
use crate::spec::resolve::DEFAULT_NAME;

/// The cluster of this run, from its arguments or the cluster file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Invocation {
    pub name: Option<String>,
    pub namespace: Option<String>,
    pub context: Option<String>,
    pub kubeconfig: Option<PathBuf>,
    pub local: bool,
}

/// Commands whose first argument is the cluster's name.
pub const NAMED: [&str; 15] = [
    "create",
    "render",
    "teardown",
    "scale",
    "upgrade",
    "status",
    "logs",
    "failover",
    "rotate-secret",
    "connect-url",
    "submit",
    "jobs",
    "doctor",
    "version",
    "local env",
];

/// Commands without a cluster.
const ABOUT_NONE: [&str; 4] = ["local fetch", "schema", "man", "completions"];

static CURRENT: LazyLock<RwLock<Invocation>> = LazyLock::new(RwLock::default);

/// Updates the cluster of this run.
pub fn update(change: impl FnOnce(&mut Invocation)) {
    change(&mut CURRENT.write().unwrap_or_else(PoisonError::into_inner));
}

/// Completes the commands of a text for this run.
pub fn complete(text: &str) -> String {
    let completed = CURRENT.read().unwrap_or_else(PoisonError::into_inner).complete(text);
    Program::current().named(&completed)
}

impl Invocation {
    /// Completes every `` `sparkha …` `` of a text.
    pub fn complete(&self, text: &str) -> String {
        let mut completed = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, from)) = rest.split_once("`sparkha ") {
            let Some((arguments, after)) = from.split_once('`') else {
                break;
            };
            completed.push_str(&format!("{before}`sparkha {}`", self.arguments(arguments)));
            rest = after;
        }
        completed + rest
    }

    /// The arguments of a command, with those that select the cluster.
    fn arguments(&self, arguments: &str) -> String {
        let has = |flag: &str| arguments.split(' ').any(|word| word == flag);
        let is = |verb: &&&str| {
            let rest = arguments.strip_prefix(**verb);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        };
        let mut text = arguments.to_owned();
        if ABOUT_NONE.iter().any(|verb| is(&verb)) {
            return text;
        }
        if let (Some(verb), Some(name)) = (NAMED.iter().find(is), self.name.as_deref())
            && name != DEFAULT_NAME
            && !has(name)
        {
            text.insert_str(verb.len(), &format!(" {name}"));
        }
        let mut add = |flag: &str, value: Option<&str>| {
            if let Some(value) = value
                && !has(flag)
            {
                text.push_str(&format!(" {flag} {}", shell_word(value)));
            }
        };
        if !has("-A") {
            add("--namespace", self.namespace.as_deref());
        }
        let is_local = self.local || has("--local") || has("local");
        if !is_local {
            add("--context", self.context.as_deref());
            let kubeconfig = self.kubeconfig.as_ref().map(|path| path.display().to_string());
            add("--kubeconfig", kubeconfig.as_deref());
        }
        // `sparkha local …` always uses this machine.
        if self.local && !has("--local") && !has("local") {
            text.push_str(" --local");
        }
        text
    }
}

/// A value quoted as one word of a shell.
pub fn shell_word(value: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    match !value.is_empty() && value.chars().all(is_plain) {
        true => value.to_owned(),
        false => format!("'{}'", value.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, namespace: Option<&str>, local: bool) -> Invocation {
        Invocation {
            name: Some(name.into()),
            namespace: namespace.map(str::to_owned),
            local,
            ..Invocation::default()
        }
    }

    #[test]
    fn commands_are_completed_with_the_cluster_and_its_location() {
        let etl = of("etl", Some("data"), true);
        assert_eq!(
            etl.complete("its supervisor is gone: `sparkha create`, with the same arguments, starts it again"),
            "its supervisor is gone: `sparkha create etl --namespace data --local`, with the same arguments, starts it again"
        );
        assert_eq!(
            etl.complete("`sparkha logs masters` and `sparkha jobs --kill app-1`, not `kubectl`"),
            "`sparkha logs etl masters --namespace data --local` and `sparkha jobs etl --kill app-1 --namespace data --local`, not `kubectl`"
        );
        assert_eq!(
            of(DEFAULT_NAME, None, true).complete("`sparkha create`"),
            "`sparkha create --local`"
        );
        assert_eq!(Invocation::default().complete("`sparkha create`"), "`sparkha create`");
    }

    #[test]
    fn words_of_a_shell_are_quoted_where_it_is_needed() {
        for (value, word) in [
            ("data", "data"),
            ("/a/b", "/a/b"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
        ] {
            assert_eq!(shell_word(value), word);
        }
    }

    #[test]
    fn commands_get_only_arguments_that_they_accept() {
        let etl = of("etl", Some("data"), true);
        for (written, shown) in [
            ("`sparkha list -A`", "`sparkha list -A --local`"),
            (
                "`sparkha route apply`",
                "`sparkha route apply --namespace data --local`",
            ),
            ("`sparkha local fetch 4.3.0`", "`sparkha local fetch 4.3.0`"),
            ("`sparkha status etl`", "`sparkha status etl --namespace data --local`"),
            ("`sparkha local env`", "`sparkha local env etl --namespace data`"),
            (
                "`sparkha status --local`",
                "`sparkha status etl --local --namespace data`",
            ),
            ("an open `sparkha status", "an open `sparkha status"),
        ] {
            assert_eq!(etl.complete(written), shown);
        }
        let elsewhere = Invocation {
            context: Some("prod".into()),
            kubeconfig: Some("/home/a b/config".into()),
            ..Invocation::default()
        };
        assert_eq!(
            elsewhere.complete("`sparkha status`"),
            "`sparkha status --context prod --kubeconfig '/home/a b/config'`"
        );
    }
}
