//! Checks as data: what was checked, what was observed, and what to do. Facts are gathered once; pure functions judge them, a file for each group.

pub mod kubernetes;
pub mod local;

use serde::Serialize;

use crate::jobs::orphans::Orphan;

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub status: Status,
    /// What was observed, or why the check was skipped.
    #[serde(rename = "seen")]
    pub observed: String,
    /// What to do; empty if there is nothing to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hint: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Ok,
    /// Worth knowing.
    Warning,
    /// A cluster cannot work like this.
    Failed,
    /// It could not be checked.
    Skipped,
}

impl Check {
    fn new(name: &'static str, status: Status, observed: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            name,
            status,
            observed: observed.into(),
            hint: hint.into(),
        }
    }

    pub fn ok(name: &'static str, observed: impl Into<String>) -> Self {
        Self::new(name, Status::Ok, observed, "")
    }

    pub fn warning(name: &'static str, observed: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(name, Status::Warning, observed, hint)
    }

    pub fn failed(name: &'static str, observed: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(name, Status::Failed, observed, hint)
    }

    pub fn skipped(name: &'static str, why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(name, Status::Skipped, why, hint)
    }
}

/// Drivers whose applications the leader does not know.
fn orphans(orphans: &[Orphan]) -> Vec<Check> {
    const NAME: &str = "drivers";
    let found = orphans
        .iter()
        .map(|orphan| Check::warning(NAME, orphan.message(), orphan.help()));
    or_ok(
        found.collect(),
        NAME,
        "the leader knows the application of every running driver",
    )
}

/// The findings, or a passed check if there are none.
fn or_ok(found: Vec<Check>, name: &'static str, observed: impl Into<String>) -> Vec<Check> {
    match found.is_empty() {
        true => vec![Check::ok(name, observed)],
        false => found,
    }
}
