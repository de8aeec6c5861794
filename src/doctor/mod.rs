//! Checks as data: what was looked at, what was found, and what to do.

pub mod local;

use serde::Serialize;

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub verdict: Verdict,
    pub message: String,
    /// What to do; empty where nothing is to be done.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hint: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Pass,
    /// Worth knowing.
    Warn,
    /// In the way of a cluster.
    Fail,
}

impl Check {
    pub fn new(name: &'static str, verdict: Verdict, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            name,
            verdict,
            message: message.into(),
            hint: hint.into(),
        }
    }
}
