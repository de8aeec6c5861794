//! `sparkha logs` on this machine: logs are files.

use std::time::Duration;

use crate::kit::Run;
use crate::kit::following::{COUNTING, Following};
use crate::kit::local::Home;

#[test]
fn logs_are_files() {
    let home = Home::new();
    home.run(&["create", "--masters", "1", "--workers", "1"]).exits(0);
    let all = home.run(&["logs"]).exits(0).stdout;
    let position = |text: &str| {
        all.lines()
            .position(|line| line.contains(text))
            .unwrap_or_else(|| panic!("{text}: {all}"))
    };
    assert!(position("spark-master-0 | ") < position("Registering worker"));
    position("spark-worker-0 | ");
    let one: Run = home
        .run(&["logs", "spark-worker-0", "--tail", "1", "--no-prefix"])
        .exits(0);
    assert_eq!(one.stdout.lines().count(), 1);
    assert_eq!(
        home.run(&["logs", "masters", "--since", "1h"]).exits(0).stdout,
        home.run(&["logs", "masters"]).exits(0).stdout
    );
    home.run(&["logs", "masters", "--previous"])
        .exits(2)
        .says("has no such log");

    // The container starts again, and the file is another.
    let mut follow = Following::start(home.command(&["logs", "workers", "-f"]));
    let registered = ["Successfully registered with master"];
    follow.until(Duration::from_secs(20), 1, &registered);
    crate::kit::local::signal(home.process("spark", "spark-worker-0"), "KILL");
    follow.until(Duration::from_secs(180), 2, &registered);
    assert_eq!(
        follow.count(&["Starting Spark worker"]),
        2,
        "{}",
        follow.seen.join("\n")
    );
    let previous = home.run(&["logs", "workers", "--previous"]).exits(0).stdout;
    assert!(previous.contains("Successfully registered with master"), "{previous}");
    drop(follow);
    drivers_have_logs(&home);
    home.run(&["teardown", "--yes"]).exits(0);
    home.run(&["logs"]).exits(7);
}

fn drivers_have_logs(home: &Home) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("counting.py"), COUNTING).unwrap();
    let command = |arguments: &[&str]| {
        let mut command = home.command(arguments);
        command.current_dir(&folder);
        command
    };
    let mut attached = Following::start(command(&["submit", "--", "counting.py", "20"]));
    attached.until(Duration::from_secs(60), 1, &["line 1"]);
    home.run(&["logs", "drivers"])
        .exits(2)
        .says("it writes to the output of its `sparkha submit --local`");
    assert_eq!(attached.ended(Duration::from_secs(60)), Some(7));

    let mut follow = Following::start(command(&["logs", "drivers", "-f"]));
    let detached: Run = command(&["submit", "--detach", "--", "counting.py", "20"])
        .output()
        .unwrap()
        .into();
    let driver = detached.exits(0).stdout.trim().to_owned();
    follow.until(Duration::from_secs(60), 1, &[&format!("{driver} | line 19")]);
    for part in ["drivers", &driver] {
        let log = home.run(&["logs", part]).exits(0).stdout;
        assert!(log.contains(&format!("{driver} | line 0\n")), "{log}");
    }
}
