//! Formats an error: what happened, where, and the remedy.

use std::io::Write;

use crate::console::{colours, hint};
use crate::lifecycle::Error;
use crate::model::error_chain::with_sources;
use crate::model::finding::Severity;
use crate::platform;

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
    let mut line = |content: String| {
        text.push_str(&content);
        text.push('\n');
    };
    match error {
        Error::Input(problems) => line(format!("{red}error:{end} {problems}")),
        Error::Preflight { findings } => {
            line(format!("{red}error:{end} {error}"));
            for finding in findings.iter().filter(|finding| finding.severity > Severity::Warning) {
                line(format!("  - {}", finding.message));
                line(format!("    {bold}help:{end} {}", finding.help));
            }
        }
        Error::DoesNotComeUp { troubles } | Error::DoesNotStart { troubles } => {
            line(format!("{red}error:{end} {error}"));
            for (trouble, log) in troubles {
                line(format!("  - {trouble}"));
                log.lines().for_each(|log| line(format!("      | {log}")));
                line(format!("    {bold}help:{end} {}", trouble.help()));
            }
        }
        _ => {
            line(format!("{red}error:{end} {}", with_sources(error)));
            if let Some(help) = error.help() {
                let other = other_meaning(error).unwrap_or_default();
                line(format!("  {bold}help:{end} {other}{help}"));
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
