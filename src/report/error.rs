//! Formats an error: what happened, where, and the remedy.

use std::io::Write;

use crate::console::{colours, hint};
use crate::lifecycle::Error;
use crate::model::error_chain::with_sources;
use crate::model::finding::Severity;
use crate::platform;
use crate::spec::names::visible_lines;

/// Writes an error to standard error.
pub fn report(error: &Error) {
    let mut stderr = std::io::stderr().lock();
    let text = hint::complete(&text(error, colours(&stderr)));
    // A failed write to standard error cannot be reported.
    let _ = stderr.write_all(text.as_bytes());
}

fn text(error: &Error, colours: bool) -> String {
    let (red, bold, end) = if colours {
        ("\x1b[31;1m", "\x1b[1m", "\x1b[0m")
    } else {
        ("", "", "")
    };
    let mut text = String::new();
    // Messages may quote servers, logs and names of applications.
    let mut line = |head: &str, content: &str| {
        text.push_str(&format!("{head} {}\n", visible_lines(content)));
    };
    let head = format!("{red}error:{end}");
    let help = format!("{bold}help:{end}");
    match error {
        Error::Input(problems) => line(&head, &problems.to_string()),
        Error::Preflight { findings } => {
            line(&head, &error.to_string());
            for finding in findings.iter().filter(|finding| finding.severity > Severity::Warning) {
                line("  -", &finding.message);
                line(&format!("    {help}"), &finding.help);
            }
        }
        Error::DoesNotComeUp { troubles } | Error::DoesNotStart { troubles } => {
            line(&head, &error.to_string());
            for (trouble, log) in troubles {
                line("  -", &trouble.to_string());
                log.lines().for_each(|log| line("      |", log));
                line(&format!("    {help}"), &trouble.help());
            }
        }
        _ => {
            line(&head, &with_sources(error));
            if let Some(hint) = error.help() {
                let other = other_meaning(error).unwrap_or_default();
                line(&format!("  {help}"), &format!("{other}{hint}"));
            }
        }
    }
    text
}

/// What the name of a missing cluster may mean: `sparkha logs worker` shows no logs of workers. Without backticks, because a hint would be
/// completed with that name.
fn other_meaning(error: &Error) -> Option<String> {
    let Error::Platform(platform::Error::NoCluster { name, .. }) = error else {
        return None;
    };
    matches!(name.as_str(), "master" | "worker" | "driver")
        .then(|| format!("sparkha logs {name}s shows the logs of all {name}s; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_cannot_control_the_terminal() {
        let error = Error::Driver {
            message: "the log ends with\n\tat \u{1b}[2J".into(),
            help: "ask \u{9b}31m".into(),
        };
        assert_eq!(
            text(&error, true),
            "\x1b[31;1merror:\x1b[0m the log ends with\n\tat \\u{1b}[2J\n  \x1b[1mhelp:\x1b[0m ask \\u{9b}31m\n"
        );
    }

    #[test]
    fn the_singular_of_a_part_is_explained() {
        let shown = |name: &str| {
            let (name, namespace) = (name.into(), "data".into());
            text(&platform::Error::NoCluster { name, namespace }.into(), false)
        };
        assert_eq!(
            shown("worker"),
            "error: there is no cluster worker in namespace data\n  help: sparkha logs workers shows the logs of all workers; \
             `sparkha list -A` lists the clusters, `sparkha create` creates one\n"
        );
        for (name, part) in [("master", "masters"), ("driver", "drivers")] {
            assert!(shown(name).contains(&format!("sparkha logs {part} ")), "{name}");
        }
        assert!(!shown("etl").contains("logs"));
    }
}
