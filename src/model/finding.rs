//! Findings of the preflight checks.

/// A finding of a preflight check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    pub message: String,
    pub help: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// A warning; create continues.
    Warning,
    /// Capacity or a required object is missing.
    Failure,
    /// The API server does not allow it.
    NotAllowed,
    /// An object that sparkha does not own has the name.
    Clash,
}

impl Finding {
    pub fn new(severity: Severity, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            severity,
            message: message.into(),
            help: help.into(),
        }
    }
}
