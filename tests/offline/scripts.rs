//! The entrypoints of masters and workers and the script of drivers, with other programs in the place of Spark's.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::kit::server::Group;
use crate::kit::{Run, wait_for};

/// Stands for Spark's master: tells of a recovery as its log would, each start of another one.
const MASTER: &str = r#"#!/bin/bash
echo started >>"$STARTS"
went_well() { printf '%s\n' 'Worker has been re-registered: worker-1' 'Recovery complete in 9 ms - resuming operations!'; }
went_wrong() { went_well && echo 'Worker has been re-registered: worker-1'; }
removed() { echo "Removing executor app-$1/0 because it is KILLED"; }
went_early() { removed 1 && echo 'Application has been re-registered: app-1' && went_well; }
went_late() { echo 'Application has been re-registered: app-1' && removed 1 && went_well && removed 2; }
went_first() { echo 'I have been elected leader! New state: ALIVE' >>"$SPARKHA_ELECTION"; removed 1; }
went_revoked() { echo 'We have gained leadership' >>"$SPARKHA_ELECTION"; }
recovery=$(sed -n "$(wc -l <"$STARTS")p" <<<"$RECOVERIES")
"went_${recovery% *}" >>"$SPARKHA_RECOVERY"
[ "${recovery#* }" = stays ] || exit "${recovery#* }"
exec sleep 600
"#;

/// The entrypoint of a master or worker in a folder of its own, with a program in the place of Spark's.
fn entrypoint(script: &str, folder: &Path, program: &str, arguments: &[&str]) -> Command {
    let path = |name: &str| folder.join(name).display().to_string();
    let scripts = concat!(env!("CARGO_MANIFEST_DIR"), "/src/render/files");
    std::fs::create_dir_all(path("conf")).unwrap();
    for name in [script, "secret.sh", "until_led.sh"] {
        let text = std::fs::read_to_string(format!("{scripts}/{name}")).unwrap();
        let own = text.replace("\"/tmp/", &format!("\"{}/", folder.display()));
        std::fs::write(folder.join("conf").join(name), own).unwrap();
    }
    std::fs::create_dir_all(path("spark/bin")).unwrap();
    std::fs::write(path("spark/bin/spark-class"), program).unwrap();
    std::fs::set_permissions(path("spark/bin/spark-class"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new("bash");
    command
        .arg(path(&format!("conf/{script}")))
        .args(arguments)
        .env("SPARK_CONF_DIR", path("conf"))
        .env("SPARK_HOME", path("spark"))
        .envs([
            ("POD_IP", "127.0.0.1"),
            ("POD_NAMESPACE", "x"),
            ("SPARKHA_UI_DOMAIN", "k8s"),
        ]);
    command
}

/// Runs a master's entrypoint, and says how often it started a master, what it ended with, and what it said.
fn master(recoveries: &str, arguments: &[&str]) -> (usize, Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let starts = folder.path().join("starts");
    std::fs::write(&starts, "").unwrap();
    let output = entrypoint("master.sh", folder.path(), MASTER, arguments)
        .env("STARTS", &starts)
        .env("RECOVERIES", recoveries)
        .output()
        .unwrap();
    let starts = std::fs::read_to_string(starts).unwrap();
    (
        starts.lines().count(),
        output.status.code(),
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
    )
}

/// Stands for a master whose session lives for half a second, and who acts a twentieth of a second after it wakes.
const WAKING: &str = r#"#!/bin/bash
exec {never}<> <(:)
set -o posix
tick() { read -rt 0.05 -u "$never" || true; now=${EPOCHREALTIME/./}; }
tick
for ((ticks = 1; ; ticks++)); do
  last=$now
  tick
  [ $((now - last)) -lt 500000 ] || { tick; echo acted >"$FOLDER/acted"; }
  [ $ticks -ne 20 ] || echo ready >"$FOLDER/ready"
done
"#;

/// Stopped and let go together, as when a machine was suspended. Once is enough: where the processors are busy, either may get one first.
#[test]
fn a_master_that_wakes_with_its_entrypoint_is_gone_before_it_acts() {
    let gone = (0..5).any(|_| {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(
            path("zookeeper-sessions"),
            "session id = 0x1, negotiated timeout = 500\n",
        )
        .unwrap();
        let log = std::fs::File::create(path("log")).unwrap();
        let mut command = entrypoint("master.sh", folder.path(), WAKING, &["127.0.0.1:1", "/spark"]);
        let all = Group::start(command.env("FOLDER", folder.path()).stdout(log));
        wait_for("the master is not ready", || path("ready").exists());
        all.signal(Signal::STOP);
        std::thread::sleep(Duration::from_millis(1500));
        all.signal(Signal::CONT);
        let said = || std::fs::read_to_string(path("log")).unwrap();
        wait_for("the master goes on", || said().contains("this pod was paused for"));
        !path("acted").exists()
    });
    assert!(gone, "it acted each time");
}

#[test]
fn a_master_whose_recovery_went_wrong_is_started_anew() {
    for arguments in [&[][..], &["127.0.0.1:1", "/spark"]] {
        let (starts, code, said) = master("well 7", arguments);
        assert_eq!((starts, code, said.as_str()), (1, Some(7), ""));
        let (starts, code, said) = master("wrong stays\nwell 7", arguments);
        assert_eq!((starts, code), (2, Some(7)), "{said}");
        assert!(said.contains("restarting the master"), "{said}");
        // An executor that ended before its application was back stays counted; afterwards they come and go.
        let (starts, code, said) = master("early stays\nlate 7", arguments);
        assert_eq!((starts, code), (2, Some(7)), "{said}");
        // One that had nothing to recover loses executors as any other leader does.
        let (starts, code, said) = master("first 7\nwell 7", arguments);
        assert_eq!((starts, code, said.as_str()), (1, Some(7), ""));
        // One that led and lost that is started anew as often as it happens; a single master has nothing to lose.
        let (starts, code, said) = master("revoked 0\nrevoked 0\nrevoked 0\nrevoked 0\nwell 7", arguments);
        let wanted = if arguments.is_empty() {
            (1, Some(0))
        } else {
            (5, Some(7))
        };
        assert_eq!((starts, code), wanted, "{said}");
        // Where none goes well, that is left to others.
        let (starts, code, said) = master("wrong 1\nwrong 1\nwrong 7\nwell 8", arguments);
        assert_eq!((starts, code), (3, Some(7)), "{said}");
    }
}

/// Executors own the folder in which a worker's entrypoint counts its starts.
#[test]
fn a_worker_takes_only_a_number_for_the_number_of_its_starts() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let evil = format!("a[$(touch {})]", path("touched").display());
    let many = "9".repeat(30);
    for (found, port, next) in [
        ("0\n", 7078, "1"),
        ("2\n", 7080, "3"),
        ("09\n", 7079, "10"),
        ("-3\n", 7078, "1"),
        (&many, 7078, "1"),
        (&evil, 7078, "1"),
    ] {
        let program =
            "#!/bin/bash\necho \"$SPARK_WORKER_PORT\" >\"$FOLDER/writing\"\nmv \"$FOLDER/writing\" \"$FOLDER/port\"\n";
        let mut command = entrypoint("worker.sh", folder.path(), program, &["spark://here:7077"]);
        for (name, text) in [("conf/leads.sh", ""), ("conf/worker.conf", ""), ("starts", found)] {
            std::fs::write(path(name), text).unwrap();
        }
        let environment = [("FOLDER", folder.path()), ("SPARK_WORKER_DIR", folder.path())];
        command.envs(environment).env("SPARK_WORKER_PORT", "7078");
        let all = Group::start(command.stdout(Stdio::null()));
        wait_for("the worker does not start", || path("port").exists());
        let read = |name: &str| std::fs::read_to_string(path(name)).unwrap();
        assert_eq!(
            (read("port").trim(), read("starts").trim()),
            (port.to_string().as_str(), next),
            "{found}"
        );
        drop(all);
        std::fs::remove_file(path("port")).unwrap();
    }
    assert!(!path("touched").exists());
}

/// Runs a driver's script with a program in spark-submit's place; its exit code, the one that it recorded, and its logging configuration.
fn driver(spark_submit: &str, conf: &str) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let code = driver_in(folder.path(), spark_submit, conf, &[]);
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap_or_default();
    (code, read("work/exit-code"), read("work/conf/log4j2.properties"))
}

/// Runs it in a folder, with more of an environment; its exit code.
fn driver_in(folder: &Path, spark_submit: &str, conf: &str, environment: &[(&str, &str)]) -> Option<i32> {
    let path = |name: &str| folder.join(name);
    let scripts = concat!(env!("CARGO_MANIFEST_DIR"), "/src/render/files");
    for folder in ["etc", "spark/bin", "spark/jars", "work/sent"] {
        std::fs::create_dir_all(path(folder)).unwrap();
    }
    for name in ["driver.sh", "secret.sh", "until_led.sh", "log4j2.properties"] {
        std::fs::copy(format!("{scripts}/{name}"), path("etc").join(name)).unwrap();
    }
    for (name, text) in [
        ("etc/spark-defaults.conf", ""),
        (
            "etc/leads.sh",
            "[ -e \"$SPARKHA_DRIVER_DIR/led\" ] || { touch \"$SPARKHA_DRIVER_DIR/led\"; false; }",
        ),
        ("work/sent/spark.conf", conf),
        ("work/sent/arguments", ""),
        ("spark/bin/spark-submit", &format!("#!/bin/bash\n{spark_submit}\n")),
    ] {
        std::fs::write(path(name), text).unwrap();
    }
    std::fs::set_permissions(path("spark/bin/spark-submit"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let status = Command::new("bash")
        .arg(path("etc/driver.sh"))
        .env("SPARK_CONF_DIR", path("etc"))
        .env("SPARK_HOME", path("spark"))
        .env("SPARKHA_DRIVER_DIR", path("work"))
        .envs([
            ("POD_IP", "127.0.0.1"),
            ("POD_NAMESPACE", "x"),
            ("SPARKHA_UI_DOMAIN", "k8s"),
            ("SPARKHA_MASTER_URL", "spark://m:7077"),
        ])
        .envs(environment.iter().copied())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    status.code()
}

#[test]
fn a_drivers_script_waits_for_a_leader() {
    // At the second look there is one.
    let (code, _, _) = driver("[ -e led ] && exit 3", "");
    assert_eq!(code, Some(3));
}

#[test]
fn a_drivers_script_starts_only_the_clusters_version_of_spark() {
    for (jar, expected, code) in [
        ("spark-core_2.13-4.3.0.jar", "4.3.0", 0),
        ("spark-core_2.13-4.1.0-preview1.jar", "4.1.0-preview1", 0),
        ("spark-core_2.13-4.3.0.jar", "4.2.1", 2),
    ] {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in [("spark/jars", ""), ("work/sent", expected)] {
            std::fs::create_dir_all(folder.path().join(path)).unwrap();
            let file = if text.is_empty() { jar } else { "expected-Spark" };
            std::fs::write(folder.path().join(path).join(file), text).unwrap();
        }
        assert_eq!(driver_in(folder.path(), "exit 0", "", &[]), Some(code), "{jar}");
    }
}

/// In a pod, where output and errors share one log: what the job left behind holds its errors open, and keeps nobody waiting.
#[test]
fn a_drivers_script_ends_with_its_job() {
    let folder = tempfile::tempdir().unwrap();
    let leaving = "sleep 60 & echo $! >left; exit 3";
    let code = driver_in(folder.path(), leaving, "", &[("SPARKHA_MARK_ERRORS", "true")]);
    let left = std::fs::read_to_string(folder.path().join("work/left")).unwrap();
    let left = left.trim().parse().unwrap();
    let goes_on = crate::kit::local::is_alive(left);
    crate::kit::local::signal(left, "KILL");
    assert!(goes_on, "the script waited for it");
    assert_eq!(code, Some(3));
}

#[test]
fn a_drivers_script_records_its_exit_code() {
    for (spark_submit, code) in [
        ("exit 0", 0),
        ("exit 3", 3),
        ("kill -KILL $$", 137),
        ("kill -TERM $PPID; sleep 9", 143),
    ] {
        let (ended, recorded, _) = driver(spark_submit, "");
        assert_eq!((ended, recorded), (Some(code), format!("{code}\n")), "{spark_submit}");
    }
    // The ID of the application is recorded also where a log level hides it from the console.
    let level = |conf: &str| {
        let logging = driver("exit 0", conf).2;
        assert!(logging.contains("/work/applications\n"), "{logging}");
        let root = logging
            .lines()
            .find_map(|line| line.strip_prefix("rootLogger.level = "));
        let told = logging
            .lines()
            .find_map(|line| line.strip_prefix("logger.backend.appenderRef.stdout.filter.threshold.level = "));
        (told.map(str::to_owned), root.map(str::to_owned))
    };
    assert_eq!(level(""), (None, Some("info".into())));
    assert_eq!(
        level("spark.log.level=INFO\nspark.log.level WARN\n"),
        (Some("WARN".into()), Some("WARN".into()))
    );
}

#[test]
fn s3_keys_go_from_the_secret_to_a_file_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    std::fs::create_dir(&keys).unwrap();
    std::fs::write(keys.join("aws_access_key_id"), "AKIA1\n").unwrap();
    let script = include_str!("../../src/render/files/s3.sh")
        .replace("\"/tmp/", &format!("\"{}/", folder.path().display()))
        .replace("/etc/s3-keys", keys.to_str().unwrap());
    let credentials = folder.path().join("s3-credentials");
    let run = |secret: &str| {
        std::fs::write(keys.join("aws_secret_access_key"), secret).unwrap();
        let command = [
            "-c",
            &script,
            "s3.sh",
            "bash",
            "-c",
            "umask; echo \"$1\"",
            "-",
            "two words",
        ];
        Run::from(Command::new("bash").args(command).output().unwrap())
    };
    for bad in ["", "\n", "a b", "a\nrole_arn=b"] {
        let refused = run(bad)
            .exits(1)
            .says("aws_secret_access_key is empty or contains white space");
        assert_eq!(refused.stdout, "");
        assert!(!credentials.exists(), "{bad:?}");
    }
    let ran = run("a/b+c=\n").exits(0);
    // The command has the user's own mask.
    let mask = Command::new("bash").args(["-c", "umask"]).output().unwrap().stdout;
    assert_eq!(ran.stdout, format!("{}two words\n", String::from_utf8(mask).unwrap()));
    let text = std::fs::read_to_string(&credentials).unwrap();
    assert_eq!(
        text,
        "[default]\naws_access_key_id=AKIA1\naws_secret_access_key=a/b+c=\n"
    );
    assert_eq!(credentials.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}
