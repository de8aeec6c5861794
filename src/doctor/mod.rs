//! Checks as data: what was checked, what was observed, and what to do. Facts are gathered once; pure functions judge them, a file for each group.

pub mod kubernetes;
pub mod local;
mod pods;
pub mod s3;

use jiff::Timestamp;
use serde::Serialize;

use crate::jobs::orphans::Orphan;
use crate::model::finding::{Finding, Severity};
use crate::spec::words::counted;
use crate::state::ClusterState;

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

/// Seconds since the epoch, by this machine's clock.
fn now() -> f64 {
    Timestamp::now().as_duration().as_secs_f64()
}

/// Drivers whose applications the leader does not know.
fn orphans(orphans: &[Orphan]) -> Vec<Check> {
    let mut findings = Findings::of("drivers");
    for orphan in orphans {
        findings.warn(orphan.message(), orphan.help());
    }
    findings.or_ok("the leader knows the application of every running driver")
}

/// Applications without executors: their driver waits forever at "Initial job has not accepted any resources".
fn applications(state: &ClusterState) -> Vec<Check> {
    const NAME: &str = "applications";
    if state.leader().is_none() {
        return vec![Check::skipped(NAME, "no master leads", "")];
    }
    let hint = "an executor must fit into one worker (spark.executor.cores, spark.executor.memory) and into spark.cores.max; if executors start and \
                end, they do not reach the driver: spark.driver.host must be an address of its pod";
    let mut findings = Findings::of(NAME);
    for waiting in state.waiting() {
        findings.warn(waiting, hint);
    }
    let all = counted(state.applications.len(), "application");
    findings.or_ok(format!("{all}, none of them waiting"))
}

/// What one check has found so far.
struct Findings {
    name: &'static str,
    found: Vec<Check>,
}

impl Findings {
    fn of(name: &'static str) -> Self {
        Self {
            name,
            found: Vec::new(),
        }
    }

    fn warn(&mut self, observed: impl Into<String>, hint: impl Into<String>) {
        self.found.push(Check::warning(self.name, observed, hint));
    }

    fn fail(&mut self, observed: impl Into<String>, hint: impl Into<String>) {
        self.found.push(Check::failed(self.name, observed, hint));
    }

    /// Adds preflight's findings.
    fn add(&mut self, findings: &[Finding]) {
        for Finding {
            severity,
            message,
            help,
        } in findings
        {
            match severity {
                Severity::Warning => self.warn(message, help),
                Severity::Failure | Severity::NotAllowed | Severity::Clash => self.fail(message, help),
            }
        }
    }

    /// Whether an observation begins like this.
    fn mention(&self, subject: &str) -> bool {
        self.found.iter().any(|check| check.observed.starts_with(subject))
    }

    /// The findings, or a passed check if there are none.
    fn or_ok(self, observed: impl Into<String>) -> Vec<Check> {
        match self.found.is_empty() {
            true => vec![Check::ok(self.name, observed)],
            false => self.found,
        }
    }

    /// The findings, or a skipped check if there are none.
    fn or_skipped(self, why: &str) -> Vec<Check> {
        match self.found.is_empty() {
            true => vec![Check::skipped(self.name, why, "")],
            false => self.found,
        }
    }
}
