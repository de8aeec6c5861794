//! Progress of long operations, on standard error: spinners on a terminal, plain lines elsewhere.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::console::{colours, hint};
use crate::spec::names::visible_lines;

/// The progress display.
pub struct Progress {
    /// `None`: plain lines.
    terminal: Option<MultiProgress>,
    colours: bool,
    quiet: bool,
    parts: Mutex<HashMap<String, PartLine>>,
    step: Mutex<Option<ProgressBar>>,
}

struct PartLine {
    text: String,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Spinners if standard error is a terminal.
    pub fn new(quiet: bool) -> Self {
        let stderr = std::io::stderr();
        Self {
            terminal: (stderr.is_terminal() && !quiet).then(MultiProgress::new),
            colours: colours(&stderr),
            quiet,
            parts: Mutex::default(),
            step: Mutex::default(),
        }
    }

    /// The current step. Replaces the previous step on a terminal; not shown elsewhere.
    pub fn step(&self, text: &str) {
        let Some(terminal) = &self.terminal else { return };
        let mut step = lock(&self.step);
        let bar = step.get_or_insert_with(|| spinner(terminal));
        bar.set_message(visible_lines(text));
    }

    /// Progress of a download: a bar on a terminal, a line for every 10% elsewhere. A `total` of 0 means unknown.
    pub fn bytes(&self, text: &str, there: u64, total: u64) {
        let Some(terminal) = &self.terminal else {
            let tenths = there.saturating_mul(10).checked_div(total).unwrap_or_default();
            self.part(text, &format!("{} %", tenths * 10));
            return;
        };
        let mut step = lock(&self.step);
        let bar = step.get_or_insert_with(|| {
            let bar = terminal.add(ProgressBar::new(total));
            let template = "{msg} {bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar
        });
        bar.set_message(text.to_owned());
        bar.set_length(total);
        bar.set_position(there);
    }

    /// Reports success.
    pub fn done(&self, text: &str) {
        self.clear_step();
        if !self.quiet {
            self.marked("✓", 32, text);
        }
    }

    /// Reports a failure, also with `--quiet`.
    pub fn failed(&self, text: &str) {
        self.marked("✗", 31, text);
    }

    /// Reports a warning.
    pub fn warn(&self, text: &str) {
        self.marked("!", 33, text);
    }

    /// Reports the state of a component. Prints a line only if it has changed.
    pub fn part(&self, name: &str, text: &str) {
        let mut parts = lock(&self.parts);
        if parts.get(name).is_some_and(|part| part.text == text) {
            return;
        }
        let line = visible_lines(&format!("{name:<10} {text}"));
        let bar = match (&self.terminal, parts.remove(name)) {
            (Some(terminal), None) => Some(spinner(terminal)),
            (_, part) => part.and_then(|part| part.bar),
        };
        match &bar {
            Some(bar) => bar.set_message(line),
            None if !self.quiet => self.line(&format!("  {line}")),
            None => {}
        }
        parts.insert(
            name.to_owned(),
            PartLine {
                text: text.to_owned(),
                bar,
            },
        );
    }

    /// Clears the components from the terminal.
    pub fn clear_parts(&self) {
        for bar in lock(&self.parts).drain().filter_map(|(_, part)| part.bar) {
            bar.finish_and_clear();
        }
    }

    /// Clears the terminal before a question.
    pub fn clear(&self) {
        self.clear_parts();
        self.clear_step();
    }

    fn clear_step(&self) {
        if let Some(bar) = lock(&self.step).take() {
            bar.finish_and_clear();
        }
    }

    /// A line that begins with a mark, in colour if there are colours.
    fn marked(&self, mark: &str, colour: u8, text: &str) {
        let text = visible_lines(&hint::complete(text));
        self.line(&match self.colours {
            true => format!("\x1b[{colour}m{mark}\x1b[0m {text}"),
            false => format!("{mark} {text}"),
        });
    }

    fn line(&self, text: &str) {
        match &self.terminal {
            // Above the spinners.
            Some(terminal) => {
                let _ = terminal.println(text);
            }
            // `eprintln!` would end the program if standard error is a closed pipe.
            None => {
                let _ = writeln!(std::io::stderr().lock(), "{text}");
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

fn spinner(terminal: &MultiProgress) -> ProgressBar {
    let bar = terminal.add(ProgressBar::new_spinner());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// Ignores poisoning: the protected state is only text on a screen.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
