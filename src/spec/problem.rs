//! Mistakes of the user, collected and told all at once.

use std::fmt;

/// Where a mistake is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the cluster file; line and column count from 1.
    File {
        line: u64,
        column: u64,
        path: String,
    },
    Flag(&'static str),
}

/// A mistake, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub place: Place,
    pub message: String,
    pub help: Option<String>,
}

impl Problem {
    /// A mistake at a path of the file, such as `workers.memory`, and its position.
    pub fn at((line, column): (u64, u64), path: &str, message: impl Into<String>) -> Self {
        Self {
            place: Place::File {
                line,
                column,
                path: path.to_owned(),
            },
            message: message.into(),
            help: None,
        }
    }

    pub fn flag(flag: &'static str, message: impl Into<String>) -> Self {
        Self {
            place: Place::Flag(flag),
            message: message.into(),
            help: None,
        }
    }

    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// All mistakes of one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    /// The cluster file's name, for messages.
    pub file: String,
    pub list: Vec<Problem>,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.list {
            match &problem.place {
                Place::File { line, column, path } => {
                    write!(f, "{}:{line}:{column}: ", self.file)?;
                    if !path.is_empty() {
                        write!(f, "{path}: ")?;
                    }
                }
                Place::Flag(flag) => write!(f, "{flag}: ")?,
            }
            writeln!(f, "{}", problem.message)?;
            if let Some(help) = &problem.help {
                writeln!(f, "  help: {help}")?;
            }
        }
        match self.list.len() {
            1 => write!(f, "1 mistake found; nothing was changed"),
            count => write!(f, "{count} mistakes found; nothing was changed"),
        }
    }
}

impl std::error::Error for Problems {}
