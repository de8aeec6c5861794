//! How soon another master leads when a leader ends, and what a drill must say of it. Sessions last 40 s, so that expiry cannot be what is seen.

use std::time::Duration;

use serde_json::Value;

use super::Run;

/// How long sessions last without a sign of life.
pub const SESSION: Duration = Duration::from_secs(40);
/// Another leads so soon only if the latch was withdrawn; otherwise the session expires first.
pub const WITHDRAWN: Duration = Duration::from_secs(25);
/// How long a cluster may take until it is whole again.
pub const WHOLE: Duration = Duration::from_secs(120);
/// What an entrypoint says of it.
pub const SAYS: &str = "withdrawn from the election: session";

/// A cluster whose sessions last so long.
pub fn cluster_file() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = format!(
        "workers: {{count: 1}}\nzookeeper: {{failoverSeconds: {}}}\n",
        SESSION.as_secs()
    );
    std::fs::write(file.path(), text).unwrap();
    file
}

/// What the report of a drill must say; another must lead `within`.
pub fn drill_succeeded(run: Run, before: &str, within: Duration) -> Value {
    let report = run.exits(0).json();
    assert_eq!(report["recovered"], true, "{report}");
    assert_eq!(report["missing"], serde_json::json!([]));
    let seconds = |phase: &str| {
        let steps = report["steps"].as_array().unwrap();
        let step = steps.iter().find(|step| step["phase"] == phase);
        step.unwrap_or_else(|| panic!("{phase}: {report}"))["seconds"]
            .as_f64()
            .unwrap()
    };
    assert_eq!(report["leaderBefore"], before);
    assert!(seconds("lost") <= seconds("alive") || report["target"] == "zooKeeper");
    assert!(
        seconds("alive") <= seconds("workers") && seconds("workers") <= seconds("whole"),
        "{report}"
    );
    assert!(
        report["target"] == "zooKeeper" || seconds("alive") < within.as_secs_f64(),
        "{report}"
    );
    report
}
