//! Data and event logs in a real S3-compatible store, and what `doctor` says when it cannot be used.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::kit::connect::READY;
use crate::kit::local::Home;
use crate::kit::s3::{JOB, REGION, Store, packages, prepared};
use crate::kit::{Run, file, http};

/// An address for the store alone.
const ADDRESS: [u8; 4] = [127, 0, 9, 5];
const CLUSTER: &str = "masters: {count: 1}\nworkers: {count: 1, cores: 2, memory: 3Gi}\n";

#[test]
fn jobs_and_the_history_server_use_an_s3_store() {
    let prepared = prepared();
    let store = Store::start(ADDRESS.into());
    store.make_bucket("data");
    let home = Home::new();
    write_keys(&home, &store.access_key, &store.secret_key);
    // To encrypt the packages' 690 MB, for their way from the driver to the executor, would take a minute.
    let jobs = file(&(CLUSTER.to_owned() + "authentication: {enabled: false}\n" + &store.section()));
    // So that the secret would be found in them.
    let plain = "sparkConf: {spark.eventLog.compress: false}\n";
    let events = "history: {eventLogs: 's3a://logs/events'}\n";
    let with_history = file(&(CLUSTER.to_owned() + plain + &store.section() + events));

    missing_jars_are_found_before_anything_starts(&home, with_history.path(), &prepared.package);
    home.run(&["create", "-f", jobs.path().to_str().unwrap()]).exits(0);
    let ivy = format!("spark.jars.ivy={}", packages().display());
    let run = submit(
        &home,
        &["--packages", &prepared.package, "--conf", &ivy],
        "s3a://data/packages",
    );
    let requests = store.requests();
    // `s3.pathStyleAccess` and `s3.region`: the bucket is in the path, and the signature names the region.
    assert!(requests.contains("PUT /data/packages/part-00000"), "{requests}");
    assert!(
        requests.contains(&format!("Credential={}/", store.access_key)) && requests.contains(&format!("/{REGION}/s3/"))
    );
    home.run(&["teardown", "--yes"]).exits(0);
    secret_is_shown_nowhere(&home, &store, &[run]);

    for (secret, found) in [
        ("wrong", "the S3-compatible store refuses access"),
        (&*store.secret_key, "the bucket does not exist"),
    ] {
        write_keys(&home, &store.access_key, secret);
        doctor_finds(&home, with_history.path(), found);
    }

    store.make_bucket("logs");
    store.run("s3.put_object(Bucket='logs', Key='events/')");
    let file = with_history.path().to_str().unwrap();
    let state = Run::from(
        with_s3(home.command(&["create", "-f", file, "-o", "json"]))
            .output()
            .unwrap(),
    )
    .exits(0)
    .json();
    assert_eq!(state["history"]["ready"], true);
    let doctor = Run::from(
        with_s3(home.command(&["doctor", "-f", file, "-o", "json"]))
            .output()
            .unwrap(),
    );
    assert_eq!(
        check(&doctor, "S3")["seen"],
        "the history server reads s3a://logs/events"
    );
    let run = submit(&home, &[], "s3a://data/image");
    drivers_of_the_users_own_have_the_keys(&home, &store);
    let address = home.address("spark", "spark-history-0");
    let get = |path: &str| http::get(&format!("{address}:18080"), &address, path).unwrap().1;
    let finished = || get("/api/v1/applications?status=completed");
    home.wait_for(READY, "the job's history", || finished().contains("\"lake\""));
    let applications: Value = serde_json::from_str(&finished()).unwrap();
    let id = applications[0]["id"].as_str().unwrap();
    let environment = get(&format!("/api/v1/applications/{id}/environment"));
    assert!(environment.contains("fs.s3a.endpoint.region"), "{environment}");
    let logs = store.run(
        "for found in s3.list_objects_v2(Bucket='logs')['Contents']: \
         print(found['Key'], s3.get_object(Bucket='logs', Key=found['Key'])['Body'].read())",
    );
    assert!(
        logs.contains("events/eventlog_v2_") && logs.contains("SparkListenerApplicationEnd"),
        "{logs}"
    );
    for text in [&environment, &logs] {
        assert!(!text.contains(&store.secret_key));
    }
    secret_is_shown_nowhere(&home, &store, &[run, doctor]);
    home.run(&["teardown", "--yes"]).exits(0);
}

fn drivers_of_the_users_own_have_the_keys(home: &Home, store: &Store) {
    let file = home.cluster("spark").join("drivers/s3-credentials");
    let variable = format!("AWS_SHARED_CREDENTIALS_FILE='{}'", file.display());
    let printed = home.run(&["local", "env"]).exits(0).stdout;
    assert!(printed.contains(&variable), "{printed}");
    let (access, secret) = (&store.access_key, &store.secret_key);
    let expected = format!("[default]\naws_access_key_id={access}\naws_secret_access_key={secret}\n");
    assert_eq!(std::fs::read_to_string(file).unwrap(), expected);
}

/// The user's Secret of this name on this machine.
fn write_keys(home: &Home, access: &str, secret: &str) {
    let folder = home.folder.path().join(".config/sparkha/secrets/default/s3-keys");
    std::fs::create_dir_all(&folder).unwrap();
    for (key, value) in [("AWS_ACCESS_KEY_ID", access), ("AWS_SECRET_ACCESS_KEY", secret)] {
        std::fs::write(folder.join(key), format!("{value}\n")).unwrap();
    }
}

/// The command with a Spark that has hadoop-aws.
fn with_s3(mut command: Command) -> Command {
    command.env("SPARK_HOME", &prepared().spark);
    command
}

/// The result of one of doctor's checks.
fn check(doctor: &Run, name: &str) -> Value {
    let checks = doctor.json();
    let found = checks.as_array().unwrap().iter().find(|check| check["name"] == name);
    found.unwrap_or(&Value::Null).clone()
}

fn missing_jars_are_found_before_anything_starts(home: &Home, file: &Path, package: &str) {
    let file = file.to_str().unwrap();
    let doctor = home.run(&["doctor", "-f", file, "-o", "json"]).exits(8);
    let found = check(&doctor, "hadoop-aws");
    let command = format!("--packages {package}");
    assert_eq!(found["status"], "failed");
    assert!(found["hint"].as_str().unwrap().contains(&command), "{found}");
    home.run(&["create", "-f", file])
        .exits(8)
        .says("has no hadoop-aws, which s3a:// requires")
        .says(&command);
    assert!(!home.cluster("spark").exists());
}

/// Runs the job, and what it printed.
fn submit(home: &Home, options: &[&str], folder: &str) -> Run {
    let job = home.folder.path().join("lake.py");
    std::fs::write(&job, JOB).unwrap();
    let small = ["--executor-memory", "600m"];
    let arguments = [&["submit"], &small[..], options, &["--", job.to_str().unwrap(), folder]].concat();
    let run = home.run(&arguments).exits(0);
    assert!(
        run.stdout.contains("RESULT 499500\nSECRET nowhere nowhere\n"),
        "{}\n{}",
        run.stdout,
        run.stderr
    );
    run
}

/// Creates a cluster whose history server cannot start, and waits until doctor says why.
fn doctor_finds(home: &Home, file: &Path, expected: &str) {
    let file = file.to_str().unwrap();
    let create = with_s3(home.command(&["create", "-f", file, "--no-wait"]))
        .output()
        .unwrap();
    Run::from(create).exits(0);
    let mut last = Value::Null;
    let found = || {
        let doctor = with_s3(home.command(&["doctor", "-f", file, "-o", "json"]))
            .output()
            .unwrap();
        last = check(&doctor.into(), "S3");
        last["status"] == "failed"
    };
    home.wait_for(Duration::from_secs(90), expected, found);
    let seen = last["seen"].as_str().unwrap();
    assert!(seen.starts_with(&format!("spark-history-0: {expected}: ")), "{seen}");
    assert!(!last["hint"].as_str().unwrap().is_empty());
    home.run(&["teardown", "--yes"]).exits(0);
}

/// Neither in what commands print, nor in files but those that hold it, nor in what processes were started with.
fn secret_is_shown_nowhere(home: &Home, store: &Store, runs: &[Run]) {
    let secret = &store.secret_key;
    for run in runs {
        assert!(!run.stdout.contains(secret) && !run.stderr.contains(secret));
    }
    assert!(!store.requests().contains(secret));
    for pid in home.processes() {
        for what in ["environ", "cmdline"] {
            let text = std::fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
            assert!(!String::from_utf8_lossy(&text).contains(secret), "{pid}: {what}");
        }
    }
    let found = Command::new("grep")
        .args(["-rlF", secret])
        .arg(home.folder.path())
        .output()
        .unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    for path in found.lines() {
        let holds_it = path.ends_with("/s3-credentials") || path.contains("/.config/sparkha/secrets/");
        assert!(holds_it, "{path}");
    }
}
