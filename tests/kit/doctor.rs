//! What `sparkha doctor` says.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Run, Sandbox};

pub fn doctor(sandbox: &Sandbox, arguments: &[&str]) -> Run {
    sandbox.run(&[&["doctor", "-o", "json"], arguments].concat())
}

/// A check in one line.
pub fn line(check: &Value) -> String {
    let text = |key: &str| check[key].as_str().unwrap_or_default();
    assert!(text("status") != "failed" || check["hint"].is_string(), "{check}");
    format!("{} {}: {}", text("status"), text("name"), text("seen"))
}

pub fn lines(checks: &Value) -> Vec<String> {
    checks.as_array().unwrap().iter().map(line).collect()
}

/// Runs the doctor until, for each of these, one of its lines begins and ends so. Pods and nodes need time to fall ill.
#[track_caller]
pub fn finds_among_others(sandbox: &Sandbox, expected: &[(&str, &str)]) {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let found = lines(&doctor(sandbox, &[]).json());
        let is_found =
            |(start, end): &&(&str, &str)| found.iter().any(|line| line.starts_with(start) && line.ends_with(end));
        let missing: Vec<_> = expected.iter().filter(|line| !is_found(line)).collect();
        if missing.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "{missing:#?} not in {found:#?}");
        std::thread::sleep(Duration::from_secs(1));
    }
}
