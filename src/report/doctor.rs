//! Formats checks, one per line.

use crate::console::{colours, hint};
use crate::doctor::{Check, Status};
use crate::report::{Format, structured};
use crate::spec::names::visible_lines;

pub fn checks(checks: &[Check], format: Format) -> String {
    let mut checks = checks.to_vec();
    for check in &mut checks {
        check.hint = hint::complete(&check.hint);
    }
    match format {
        Format::Table => checks.iter().map(line).collect(),
        Format::Name => checks
            .iter()
            .filter(|check| check.status == Status::Failed)
            .map(|check| format!("{}\n", check.name))
            .collect(),
        _ => structured(format, &checks).unwrap_or_default(),
    }
}

fn line(check: &Check) -> String {
    let (mark, colour) = match check.status {
        Status::Ok => ("✓", "32"),
        Status::Warning => ("!", "33"),
        Status::Failed => ("✗", "31"),
        Status::Skipped => ("-", "2"),
    };
    let mark = if colours(&std::io::stdout()) {
        format!("\x1b[{colour}m{mark}\x1b[0m")
    } else {
        mark.to_owned()
    };
    let mut line = format!("{mark} {:<15} {}\n", check.name, visible_lines(&check.observed));
    if !check.hint.is_empty() {
        line.push_str(&format!("  {:<15} help: {}\n", "", visible_lines(&check.hint)));
    }
    line
}
