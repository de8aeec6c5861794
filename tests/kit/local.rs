//! A home of its own for a test of the local platform: nothing of this machine's own configuration, and nothing left behind.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Run, leader, sparkha};

/// The Spark that tests run, fetched once and kept with the testbed's artefacts.
pub fn spark_home() -> &'static Path {
    static HOME: OnceLock<PathBuf> = OnceLock::new();
    HOME.get_or_init(|| fetch(&["local", "fetch"]))
}

/// Another version, kept in the same way.
pub fn spark_home_of(version: &str) -> PathBuf {
    fetch(&["local", "fetch", version])
}

/// Locks what tests prepare for one another: each is a process of its own, and the first does the work.
fn preparing() -> File {
    let lock = File::create(Path::new(env!("CARGO_TARGET_TMPDIR")).join("preparing.lock")).unwrap();
    lock.lock().unwrap();
    lock
}

fn fetch(arguments: &[&str]) -> PathBuf {
    let _turn = preparing();
    let mut fetch = sparkha(arguments);
    match std::env::var_os("SPARKHA_CACHE") {
        Some(cache) => fetch.env("XDG_CACHE_HOME", cache),
        None => fetch.env("HOME", std::env::var_os("HOME").unwrap()),
    };
    let fetched: Run = fetch.output().unwrap().into();
    PathBuf::from(fetched.exits(0).stdout.trim())
}

/// The machine's own java.
fn java() -> PathBuf {
    let own = std::env::var_os("JAVA_HOME").map(|home| PathBuf::from(home).join("bin"));
    let path = std::env::var_os("PATH").unwrap();
    let folders = own.into_iter().chain(std::env::split_paths(&path));
    let java = folders.map(|folder| folder.join("java")).find(|java| java.exists());
    java.unwrap().canonicalize().unwrap()
}

/// A JAVA_HOME for what tests run: see java.sh.
fn java_home() -> &'static Path {
    static HOME: OnceLock<PathBuf> = OnceLock::new();
    HOME.get_or_init(|| {
        let java = java();
        let spark = spark_home();
        let archive = archive(&java, spark);
        let paths = [("@JAVA@", &*java), ("@SPARK@", spark), ("@ARCHIVE@", &archive)];
        let script = paths
            .iter()
            .fold(include_str!("../java.sh").to_owned(), |script, (name, path)| {
                script.replace(name, path.to_str().unwrap())
            });
        let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("java");
        let path = home.join("bin/java");
        // Another run of the tests may use it at this moment, and no file can be run while it is written.
        let _turn = preparing();
        if std::fs::read_to_string(&path).is_ok_and(|there| there == script) {
            return home;
        }
        std::fs::create_dir_all(home.join("bin")).unwrap();
        let file = tempfile::NamedTempFile::new_in(&home).unwrap();
        std::fs::write(file.path(), script).unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        file.into_temp_path().persist(&path).unwrap();
        home
    })
}

/// The archive of Spark's classes for this JVM, made once and kept beside Spark.
fn archive(java: &Path, spark: &Path) -> PathBuf {
    let version = Command::new(java).arg("-Xinternalversion").output().unwrap().stdout;
    let mut hasher = DefaultHasher::new();
    version.hash(&mut hasher);
    let name = format!(
        "{}-{:016x}-2.jsa",
        spark.file_name().unwrap().to_str().unwrap(),
        hasher.finish()
    );
    let archive = spark.with_file_name(name);
    let _turn = preparing();
    if !archive.exists() {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/archive.sh");
        let made = Command::new(script).args([java, spark, &archive]).status().unwrap();
        assert!(made.success(), "{script}: {made}");
    }
    archive
}

/// A home for local clusters. Whatever still runs of them is ended with it.
pub struct Home {
    pub folder: tempfile::TempDir,
    /// Its XDG_STATE_HOME.
    pub state: PathBuf,
}

impl Home {
    pub fn new() -> Self {
        // The state's path has a space in it: nothing may care.
        Self::named("sparkha test ")
    }

    /// The same for what Spark itself cannot do where a path has a space.
    pub fn without_space() -> Self {
        Self::named("sparkha-test-")
    }

    fn named(prefix: &str) -> Self {
        // Spark refuses a daemon's options with `Xmx` in them, of which the path of a pod's login is one. A random name has it now and then.
        let folder = std::iter::repeat_with(|| tempfile::Builder::new().prefix(prefix).tempdir().unwrap());
        let mut folder = folder.filter(|folder| !folder.path().to_string_lossy().contains("Xmx"));
        let folder = folder.next().unwrap();
        let state = folder.path().join(".local/state");
        Self { folder, state }
    }

    /// sparkha with this home, `--local`, and a Spark.
    pub fn command(&self, arguments: &[&str]) -> Command {
        // Before the arguments: what follows `--` is a job's.
        let mut command = sparkha(&[&["--local"], arguments].concat());
        command.env("HOME", self.folder.path()).env("SPARK_HOME", spark_home());
        command.env("XDG_STATE_HOME", &self.state).env("JAVA_HOME", java_home());
        for variable in ["XDG_CACHE_HOME", "XDG_CONFIG_HOME"] {
            command.env_remove(variable);
        }
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Run {
        self.command(arguments).output().unwrap().into()
    }

    /// `sparkha status -o json`.
    pub fn status(&self, name: &str) -> Value {
        self.run(&["status", name, "-o", "json"]).json()
    }

    /// The folder of a cluster in the default namespace.
    pub fn cluster(&self, name: &str) -> PathBuf {
        self.state.join("sparkha/clusters/default").join(name)
    }

    fn seen(&self, name: &str) -> Value {
        let text = std::fs::read_to_string(self.cluster(name).join("seen.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    fn record(&self, name: &str, pod: &str) -> Value {
        let seen = self.seen(name);
        let records = seen["pods"].as_array().unwrap();
        records
            .iter()
            .find(|record| record["pod"]["metadata"]["name"] == pod)
            .unwrap()
            .clone()
    }

    /// The process of a pod's container.
    pub fn process(&self, name: &str, pod: &str) -> i32 {
        self.record(name, pod)["process"]["pid"].as_i64().unwrap() as i32
    }

    /// The JVM that it has started; beside that it may have a shell that watches.
    pub fn jvm_of(&self, name: &str, pod: &str) -> i32 {
        let is_jvm =
            |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "java\n");
        let jvms: Vec<_> = children(self.process(name, pod)).into_iter().filter(is_jvm).collect();
        assert_eq!(jvms.len(), 1, "{pod}: {jvms:?}");
        jvms[0]
    }

    /// That process and all that it has started.
    pub fn processes_of(&self, name: &str, pod: &str) -> Vec<i32> {
        let pid = self.process(name, pod);
        children(pid).into_iter().chain([pid]).collect()
    }

    /// What a file among the logs says; nothing if it is not there.
    pub fn log(&self, name: &str, file: &str) -> String {
        std::fs::read_to_string(self.cluster(name).join("logs").join(file)).unwrap_or_default()
    }

    /// The process of a pod's container, where it may have none at this moment.
    pub fn process_if_any(&self, name: &str, pod: &str) -> Option<i32> {
        self.record(name, pod)["process"]["pid"].as_i64().map(|pid| pid as i32)
    }

    /// With what the marks of the cluster's containers begin: a digest of the cluster's folder.
    pub fn mark(&self, name: &str) -> String {
        let mark = self.seen(name)["pods"][0]["mark"].as_str().unwrap().to_owned();
        mark.splitn(3, '-').take(2).map(|part| format!("{part}-")).collect()
    }

    pub fn address(&self, name: &str, pod: &str) -> String {
        self.record(name, pod)["pod"]["status"]["podIP"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    pub fn supervisor(&self, name: &str) -> i32 {
        let text = std::fs::read_to_string(self.cluster(name).join("supervisor.lock")).unwrap();
        let process: Value = serde_json::from_str(&text).unwrap();
        process["pid"].as_i64().unwrap() as i32
    }

    /// All processes of this home's clusters, with their supervisors.
    pub fn processes(&self) -> Vec<i32> {
        let home = self.folder.path().display().to_string();
        let numbers = std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let ours = |pid: &i32| {
            let read = |file| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let marked = String::from_utf8_lossy(&read("environ")).contains(&format!("SPARKHA_CLUSTER_DIR={home}"));
            let words = read("cmdline");
            marked
                || (String::from_utf8_lossy(&words).contains(&home)
                    && words.windows(9).any(|word| word == b"supervise"))
        };
        numbers.filter(ours).collect()
    }

    /// Nothing runs, and no file is there.
    #[track_caller]
    pub fn is_empty(&self) {
        assert_eq!(self.processes(), Vec::<i32>::new());
        let left: Vec<_> = walk(self.folder.path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }

    /// Who leads the cluster.
    #[track_caller]
    pub fn leader(&self) -> Option<String> {
        leader(&self.status("spark"))
    }

    /// Waits until the cluster is in service; who leads it.
    #[track_caller]
    pub fn whole(&self, within: Duration) -> String {
        let mut leads = None;
        self.wait_for(within, "the cluster to be whole", || {
            let status = self.run(&["status", "-o", "json"]);
            leads = leader(&status.json()).filter(|_| status.code == Some(0));
            leads.is_some()
        });
        leads.unwrap()
    }

    /// Waits for a condition.
    #[track_caller]
    pub fn wait_for(&self, within: Duration, what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + within;
        while !condition() {
            if Instant::now() >= deadline {
                panic!(
                    "{what}: not within {} s\n{}",
                    within.as_secs(),
                    self.run(&["status"]).stdout
                );
            }
            // Most conditions run a command.
            std::thread::sleep(Duration::from_millis(250));
        }
    }
}

pub fn children(pid: i32) -> Vec<i32> {
    let listed = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    listed.split_whitespace().map(|child| child.parse().unwrap()).collect()
}

fn walk(folder: &Path) -> Box<dyn Iterator<Item = PathBuf>> {
    let entries = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    Box::new(entries.flat_map(|path| {
        if path.is_dir() {
            walk(&path)
        } else {
            Box::new(std::iter::once(path))
        }
    }))
}

impl Drop for Home {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for log in walk(self.folder.path()).filter(|path| path.extension().is_some_and(|end| end == "log")) {
                let text = std::fs::read_to_string(&log).unwrap_or_default();
                let last: Vec<_> = text.lines().rev().take(15).collect();
                eprintln!("--- {}", log.display());
                last.iter().rev().for_each(|line| eprintln!("{line}"));
            }
        }
        // Supervisors first, that nothing is started again.
        for _ in 0..2 {
            self.processes().into_iter().for_each(|pid| signal(pid, "KILL"));
        }
    }
}

/// Sends a signal to one process.
pub fn signal(pid: i32, signal: &str) {
    assert!(pid > 0, "{pid} is not one process");
    let _ = Command::new("kill")
        .arg(format!("-{signal}"))
        .arg(pid.to_string())
        .stderr(std::process::Stdio::null())
        .status();
}

pub fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

/// A shell with the environment that drivers need.
pub fn driver(home: &Home, script: &str) -> Command {
    let environment = home.run(&["local", "env"]).exits(0).stdout;
    let mut shell = Command::new("bash");
    shell
        .arg("-c")
        .arg(format!("{environment}\n{script}"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    shell
}

/// Starts a job on the local cluster, and waits until it has printed a word.
pub fn start_job(home: &Home, text: &str, arguments: &str, until: &str) -> (Child, BufReader<ChildStdout>) {
    let (job, errors) = (home.folder.path().join("job.py"), home.folder.path().join("job.err"));
    std::fs::write(&job, text).unwrap();
    let submit = format!(
        "spark-submit --master \"$SPARK_MASTER_URL\" --conf spark.executor.memory=600m --conf spark.cores.max=4 {arguments} 2>'{}'",
        errors.display()
    );
    let mut child = driver(home, &submit.replace("JOB", &format!("'{}'", job.display())))
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !until.is_empty() && !line.contains(until) {
        line.clear();
        if output.read_line(&mut line).unwrap() == 0 {
            panic!("{}", std::fs::read_to_string(&errors).unwrap_or_default());
        }
    }
    (child, output)
}

/// Waits for the end of a job that was started so; what else it printed.
pub fn finish_job(home: &Home, (mut child, mut output): (Child, BufReader<ChildStdout>)) -> String {
    let mut text = String::new();
    std::io::Read::read_to_string(&mut output, &mut text).unwrap();
    let errors = std::fs::read_to_string(home.folder.path().join("job.err")).unwrap_or_default();
    assert!(child.wait().unwrap().success(), "{text}\n{errors}");
    for file in ["job.py", "job.err"] {
        std::fs::remove_file(home.folder.path().join(file)).unwrap();
    }
    text
}
