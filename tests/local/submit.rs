//! Jobs on this machine: `sparkha submit` and `sparkha jobs`, driven as a user does.

use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::kit::local::{Home, children, is_alive};
use crate::kit::submit::{
    EXECUTOR, SMALL, Site, Submitted, a_detached_job_that_fails_is_one_row_with_its_exit_code,
    a_job_that_waits_is_told_why_and_jobs_can_be_ended, a_job_with_files_runs_and_its_exit_code_is_kept, files, run,
    signal, teardown_names_the_jobs_that_run, what_can_never_run_fails_at_once,
};

#[test]
fn jobs_run_and_are_ended() {
    let home = Home::new();
    let folder = files();
    home.run(&SMALL).exits(0);
    a_job_with_files_runs_and_its_exit_code_is_kept(&home, folder.path());
    a_package_comes_from_a_repository(&home, folder.path());
    what_can_never_run_fails_at_once(&home, folder.path());
    a_detached_job_that_fails_is_one_row_with_its_exit_code(&home, folder.path());
    a_job_that_waits_is_told_why_and_jobs_can_be_ended(&home, folder.path());
    a_driver_listens_on_its_own_address_and_teardown_ends_it(&home, folder.path());
}

fn a_package_comes_from_a_repository(home: &Home, folder: &Path) {
    let place = folder.join("repository/org/test/words/1.0");
    std::fs::create_dir_all(&place).unwrap();
    let pom = "<project><modelVersion>4.0.0</modelVersion><groupId>org.test</groupId><artifactId>words</artifactId>\
        <version>1.0</version></project>";
    std::fs::write(place.join("words-1.0.pom"), pom).unwrap();
    std::fs::write(place.join("packaged.py"), "NAME = 'from the repository'").unwrap();
    let zip = ["-m", "zipfile", "-c", "words-1.0.jar", "packaged.py"];
    assert!(
        Command::new("python3")
            .current_dir(&place)
            .args(zip)
            .status()
            .unwrap()
            .success()
    );
    let repository = format!("file://{}", folder.join("repository").display());
    let mut arguments = vec![
        "submit",
        "--packages",
        "org.test:words:1.0",
        "--repositories",
        &repository,
    ];
    arguments.extend(EXECUTOR);
    arguments.extend(["--", "packages.py"]);
    let ended = run(Site::command(home, folder, &arguments)).exits(0);
    assert!(
        ended.stdout.lines().any(|line| line == "PACKAGE from the repository"),
        "{}",
        ended.stdout
    );
}

fn a_driver_listens_on_its_own_address_and_teardown_ends_it(home: &Home, folder: &Path) {
    let drivers = home.cluster("spark").join("submitted");
    let left = || std::fs::read_dir(&drivers).map_or(0, |entries| entries.count());
    assert_eq!(left(), 0, "ended drivers leave nothing");
    let mut arguments = vec!["submit"];
    arguments.extend(EXECUTOR);
    arguments.extend(["--", "endless.py"]);
    let mut job = Submitted::of(Site::command(home, folder, &arguments));
    job.says("round 4950");
    // Killed so, it cannot end its driver: that goes on, and is known.
    signal(&job.0, Signal::KILL);
    job.0.wait().unwrap();
    let running = home.in_state("RUNNING");
    let driver = running[0]["driver"].as_str().unwrap();
    let record = std::fs::read_to_string(drivers.join(format!("{driver}.json"))).unwrap();
    let record: Value = serde_json::from_str(&record).unwrap();
    let pid = record["process"]["pid"].as_i64().unwrap() as i32;
    assert!(is_alive(pid));
    let sockets = Command::new("ss").args(["-Hltnp"]).output().unwrap();
    let sockets = String::from_utf8_lossy(&sockets.stdout).into_owned();
    // The script stays beside its JVM.
    let jvms = children(pid);
    let is_own = |line: &&str| jvms.iter().any(|pid| line.contains(&format!("pid={pid},")));
    let own: Vec<_> = sockets.lines().filter(is_own).collect();
    let addresses: Vec<_> = own.iter().filter_map(|line| line.split_whitespace().nth(3)).collect();
    assert!(!addresses.is_empty(), "{sockets}");
    for address in addresses {
        assert!(address.contains("127."), "{address}");
    }
    teardown_names_the_jobs_that_run(home, driver);
    drivers_that_start_at_once_get_different_ports(home, folder, &drivers);
    home.run(&["teardown", "--yes"]).exits(0);
    assert!(!is_alive(pid));
    home.is_empty();
}

fn drivers_that_start_at_once_get_different_ports(home: &Home, folder: &Path, drivers: &Path) {
    let mut arguments = vec!["submit", "--detach"];
    arguments.extend(EXECUTOR);
    arguments.extend(["--", "endless.py"]);
    let start = || Site::command(home, folder, &arguments).spawn().unwrap();
    for mut submit in [start(), start()] {
        assert!(submit.wait().unwrap().success());
    }
    let records = std::fs::read_dir(drivers).unwrap().flatten();
    let port = |record: &str| {
        serde_json::from_str::<Value>(record).unwrap()["ui_port"]
            .as_u64()
            .unwrap()
    };
    let mut ports: Vec<_> = records
        .map(|file| port(&std::fs::read_to_string(file.path()).unwrap()))
        .collect();
    ports.sort();
    assert_eq!(ports.len(), 3);
    ports.dedup();
    assert_eq!(ports.len(), 3, "{ports:?}");
}
