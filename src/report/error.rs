//! Formats an error: what happened, where, and the remedy.

use std::io::Write;

use crate::console::{colours, hint};
use crate::lifecycle::Error;
use crate::model::error_chain::with_sources;
use crate::model::finding::Severity;

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
                line(format!("  {bold}help:{end} {help}"));
            }
        }
    }
    text
}
