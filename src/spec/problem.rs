//! Mistakes in arguments and the cluster file, collected and reported together.

use std::fmt;

/// The location of a mistake.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Location {
    /// In the cluster file; line and column count from 1.
    File {
        line: u64,
        column: u64,
        path: String,
    },
    Flag(&'static str),
}

/// A mistake, and its remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub location: Location,
    pub message: String,
    pub help: Option<String>,
}

impl Problem {
    /// A mistake at a path of the cluster file, such as `workers.memory`.
    pub fn at((line, column): (u64, u64), path: &str, message: impl Into<String>) -> Self {
        Self {
            location: Location::File {
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
            location: Location::Flag(flag),
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
            match &problem.location {
                Location::File { line, column, path } => {
                    write!(f, "{}:{line}:{column}: ", self.file)?;
                    if !path.is_empty() {
                        write!(f, "{path}: ")?;
                    }
                }
                Location::Flag(flag) => write!(f, "{flag}: ")?,
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
