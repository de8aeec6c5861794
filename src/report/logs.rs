//! Formats lines of logs, each with the name of its source.

use std::io::{self, Write};

use crate::console::colours;
use crate::lifecycle::Error;
use crate::logs::selection::LogLine;

/// Colours of names, in rotation.
const COLOURS: [u8; 6] = [36, 33, 32, 35, 34, 31];

pub struct Printer {
    /// Whether to prefix lines with their source.
    pub prefix: bool,
    colours: bool,
    /// Sources, in the order of their first line.
    sources: Vec<std::sync::Arc<str>>,
}

impl Printer {
    pub fn new(prefix: bool) -> Self {
        Self {
            prefix,
            colours: colours(&io::stdout()),
            sources: Vec::new(),
        }
    }

    /// Writes a line without buffering, for `--follow`. A closed pipe is an error, and ends the command.
    pub fn print(&mut self, line: &LogLine) -> Result<(), Error> {
        let text = self.text(line);
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        written.map_err(Error::Output)
    }

    fn text(&mut self, LogLine { source, text, .. }: &LogLine) -> String {
        if !self.prefix {
            return format!("{text}\n");
        }
        if !self.colours {
            return format!("{source} | {text}\n");
        }
        let known = self.sources.iter().position(|known| known == source);
        let at = known.unwrap_or_else(|| {
            self.sources.push(source.clone());
            self.sources.len() - 1
        });
        format!("\x1b[{}m{source} |\x1b[0m {text}\n", COLOURS[at % COLOURS.len()])
    }
}

/// Whether the error is only a closed pipe (`| head`).
pub fn is_unread(error: &Error) -> bool {
    matches!(error, Error::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_keeps_its_colour() {
        let mut printer = Printer {
            prefix: true,
            colours: true,
            sources: Vec::new(),
        };
        let mut text = |source: &str| {
            printer.text(&LogLine {
                source: source.into(),
                time: 0,
                text: "x".into(),
            })
        };
        assert_eq!(text("a"), "\x1b[36ma |\x1b[0m x\n");
        assert_eq!(text("b"), "\x1b[33mb |\x1b[0m x\n");
        assert_eq!(text("a"), "\x1b[36ma |\x1b[0m x\n");
    }
}
