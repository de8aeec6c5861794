//! Output of `status --watch`. On a terminal: a view that is redrawn in place, with the changes below it. Elsewhere: the state once, then a
//! line for each change, or in JSON and YAML the whole state after each change.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::terminal::{self, Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen};
use crossterm::{execute, queue};
use jiff::Zoned;

use crate::console::hint;
use crate::lifecycle::Error;
use crate::report::{Format, print, status};
use crate::spec::names::visible;
use crate::state::ClusterState;
use crate::state::changes::changes;

/// Maximum number of changes in the view.
const KEPT: usize = 100;

/// The view. Restores the terminal when dropped.
pub struct LiveView {
    format: Format,
    on_terminal: bool,
    last: Option<ClusterState>,
    /// Changes with their time of day, newest last.
    changes: VecDeque<String>,
    /// The reason why the cluster is currently unreachable.
    trouble: Option<String>,
}

impl LiveView {
    /// # Errors
    /// If writing to the terminal fails.
    pub fn new(format: Format) -> Result<Self, Error> {
        let on_terminal = format == Format::Table && io::stdout().is_terminal();
        if on_terminal {
            execute!(io::stdout(), EnterAlternateScreen, Hide).map_err(Error::Output)?;
        }
        Ok(Self {
            format,
            on_terminal,
            last: None,
            changes: VecDeque::new(),
            trouble: None,
        })
    }

    /// Shows the current state of the cluster.
    pub fn show(&mut self, state: ClusterState) -> Result<(), Error> {
        let mut news = Vec::new();
        if self.trouble.take().is_some() {
            news.push("the cluster can be reached again".to_owned());
        }
        if let Some(last) = &self.last {
            news.extend(changes(last, &state));
        }
        let is_first = self.last.is_none();
        let differs = self.last.as_ref().is_none_or(|last| !is_same(last, &state));
        self.last = Some(state);
        self.report_changes(news)?;
        match self.format {
            Format::Table if self.on_terminal => self.draw(),
            Format::Table if is_first => self.whole(),
            Format::Json | Format::Yaml | Format::Name if differs => self.whole(),
            _ => Ok(()),
        }
    }

    /// Reports that the cluster is unreachable; the last state stays visible.
    pub fn unreachable(&mut self, reason: String) -> Result<(), Error> {
        if self.trouble.as_ref() == Some(&reason) {
            return Ok(());
        }
        self.report_changes(vec![format!("the cluster cannot be reached: {reason}")])?;
        self.trouble = Some(reason);
        match self.on_terminal {
            true => self.draw(),
            false => Ok(()),
        }
    }

    fn whole(&self) -> Result<(), Error> {
        match &self.last {
            Some(state) => print(&status::cluster(state, self.format)),
            None => Ok(()),
        }
    }

    fn report_changes(&mut self, news: Vec<String>) -> Result<(), Error> {
        let time = Zoned::now().strftime("%H:%M:%S").to_string();
        for text in news {
            let line = format!("{time}  {}", visible(&hint::complete(&text)));
            match self.on_terminal {
                true => self.changes.push_back(line),
                false if self.format == Format::Table => print(&format!("{line}\n"))?,
                false => tracing::info!("{text}"),
            }
        }
        self.changes.drain(..self.changes.len().saturating_sub(KEPT));
        Ok(())
    }

    fn draw(&self) -> Result<(), Error> {
        let (width, height) = terminal::size().map_err(Error::io("ask for the terminal's size"))?;
        let mut lines = Vec::new();
        if let Some(state) = &self.last {
            lines.extend(status::cluster(state, Format::Table).lines().map(str::to_owned));
        }
        let foot = format!("{}  Ctrl-C ends", Zoned::now().strftime("%H:%M:%S"));
        let lines = screen(lines, &self.changes, foot, width.into(), height.into());
        show(&lines).map_err(Error::Output)
    }
}

/// Overwrites each line and clears its rest, so that the screen does not flicker.
fn show(lines: &[String]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (row, line) in lines.iter().enumerate() {
        queue!(out, MoveTo(0, row as u16))?;
        out.write_all(line.as_bytes())?;
        queue!(out, Clear(ClearType::UntilNewLine))?;
    }
    queue!(out, Clear(ClearType::FromCursorDown))?;
    out.flush()
}

impl Drop for LiveView {
    fn drop(&mut self) {
        if self.on_terminal {
            // A closed terminal needs no restoring.
            let _ = execute!(io::stdout(), Show, LeaveAlternateScreen);
        }
    }
}

/// Whether the state is unchanged.
fn is_same(last: &ClusterState, now: &ClusterState) -> bool {
    let mut now = now.clone();
    for (application, last) in now.applications.iter_mut().zip(&last.applications) {
        application.duration = last.duration;
    }
    *last == now
}

/// The lines of a screen: the cluster, as many of the newest changes as fit, and the footer. If the cluster does not fit, its end is
/// cut off.
fn screen(cluster: Vec<String>, changes: &VecDeque<String>, foot: String, width: usize, height: usize) -> Vec<String> {
    let mut lines = cluster;
    let room = height.saturating_sub(1);
    if lines.len() > room {
        lines.truncate(room.saturating_sub(1));
        lines.push("…".into());
    }
    // A blank line before and after.
    let left = room.saturating_sub(lines.len() + 2);
    if left > 0 && !changes.is_empty() {
        lines.push(String::new());
        lines.extend(changes.iter().skip(changes.len().saturating_sub(left)).cloned());
        lines.push(String::new());
    }
    lines.push(foot);
    let cut = |line: String| line.chars().take(width).collect();
    lines.into_iter().map(cut).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_changes_fill_the_rest_of_the_screen() {
        let lines = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let changes: VecDeque<_> = lines(&["one", "two", "three"]).into();
        let cluster = lines(&["Cluster", "Master"]);
        let shown = |height| screen(cluster.clone(), &changes, "12:00:00  Ctrl-C ends".into(), 10, height);
        assert_eq!(
            shown(20),
            lines(&["Cluster", "Master", "", "one", "two", "three", "", "12:00:00  "])
        );
        assert_eq!(shown(6), lines(&["Cluster", "Master", "", "three", "", "12:00:00  "]));
        assert_eq!(shown(5), lines(&["Cluster", "Master", "12:00:00  "]));
        assert_eq!(shown(2), lines(&["…", "12:00:00  "]));
    }
}
