//! Formats what became of imported settings.

use std::io::{self, Write};

use crate::console::hint;
use crate::import::{Import, Outcome, Setting};
use crate::lifecycle::Error;
use crate::report::{self, Format, structured};
use crate::spec::names::visible;

/// Prints the cluster file to standard output, and what became of the settings to standard error; or both as one value.
pub fn print(import: &Import, format: Format, quiet: bool) -> Result<(), Error> {
    match structured(format, import) {
        Some(text) => report::print(&text),
        None => {
            report::print(&import.cluster_file)?;
            if !quiet {
                // Nobody reads it if standard error is closed.
                let text = hint::complete(&settings(&import.settings));
                let _ = io::stderr().lock().write_all(text.as_bytes());
            }
            Ok(())
        }
    }
}

/// The settings in groups by their outcome.
fn settings(settings: &[Setting]) -> String {
    let width = settings.iter().map(|setting| visible(&setting.name).chars().count());
    let width = width.max().unwrap_or_default().min(60);
    let mut text = String::new();
    let mut counts = Vec::new();
    for (title, said, is_of_group) in GROUPS {
        let group: Vec<_> = settings
            .iter()
            .filter(|setting| is_of_group(&setting.outcome))
            .collect();
        counts.push(format!("{} {said}", group.len()));
        if group.is_empty() {
            continue;
        }
        text.push_str(&format!("{title}\n"));
        for setting in group {
            let detail = match &setting.outcome {
                Outcome::CarriedOver { key } => key,
                Outcome::NoCounterpart { reason } | Outcome::Ignored { reason } => reason,
            };
            text.push_str(&format!("  {:width$}  {}\n", visible(&setting.name), visible(detail)));
        }
        text.push('\n');
    }
    text + &counts.join(", ") + "\n"
}

type IsOfGroup = fn(&Outcome) -> bool;

/// A title, its words in the sum, and which outcomes it has.
const GROUPS: [(&str, &str, IsOfGroup); 3] = [
    ("Carried over", "carried over", |outcome| {
        matches!(outcome, Outcome::CarriedOver { .. })
    }),
    ("No counterpart", "without a counterpart", |outcome| {
        matches!(outcome, Outcome::NoCounterpart { .. })
    }),
    ("Ignored on purpose", "ignored on purpose", |outcome| {
        matches!(outcome, Outcome::Ignored { .. })
    }),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_grouped_and_aligned() {
        let setting = |name: &str, outcome| Setting {
            name: name.into(),
            outcome,
        };
        let reason = "no\u{1b}[31m".to_owned();
        let all = [
            setting("a.long", Outcome::Ignored { reason: "own".into() }),
            setting("b", Outcome::CarriedOver { key: "workers".into() }),
            setting("c", Outcome::NoCounterpart { reason }),
        ];
        assert_eq!(
            settings(&all),
            "Carried over\n  b       workers\n\nNo counterpart\n  c       no\\u{1b}[31m\n\nIgnored on purpose\n  a.long  own\n\n\
             1 carried over, 1 without a counterpart, 1 ignored on purpose\n"
        );
        assert_eq!(
            settings(&[]),
            "0 carried over, 0 without a counterpart, 0 ignored on purpose\n"
        );
    }
}
