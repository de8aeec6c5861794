//! What a check before a change found.

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    pub message: String,
    pub help: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing; create goes on.
    Warning,
    /// There is no room, or what is needed is not there.
    Failure,
    /// The API server does not allow it.
    NotAllowed,
    /// A name is taken by something that is not ours.
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
