//! What the tests have in common: running sparkha and kubectl, a namespace of one's own on the real cluster, and waiting for
//! conditions.

pub mod backend;
pub mod browser;
pub mod certificates;
pub mod client;
pub mod connect;
pub mod cut;
pub mod decommissioning;
pub mod dns;
pub mod doctor;
pub mod documents;
pub mod following;
pub mod handover;
pub mod http;
pub mod local;
pub mod pods;
pub mod proxy;
pub mod s3;
pub mod server;
pub mod submit;
pub mod walk;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long something may take that happens at once on a machine that is not busy.
pub const SOON: Duration = Duration::from_secs(10);

/// A run of sparkha that has ended.
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// Expects an exit code; tells everything if it was another.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "unexpected exit code\n--- stdout\n{}\n--- stderr\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    /// Expects standard error to contain this.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(
            self.stderr.contains(text),
            "not said: {text}\n--- stderr\n{}",
            self.stderr
        );
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap()
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// sparkha with nothing of this machine's own configuration.
pub fn sparkha(arguments: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("sparkha"));
    command
        .args(arguments)
        .env_remove("KUBECONFIG")
        .env("HOME", "/nonexistent")
        .stdin(Stdio::null());
    command
}

/// The command on a terminal; to be completed with the file for what it shows.
pub fn on_terminal(inside: &Command) -> Command {
    let mut terminal = Command::new("script");
    for (name, value) in inside.get_envs() {
        match value {
            Some(value) => terminal.env(name, value),
            None => terminal.env_remove(name),
        };
    }
    let words = std::iter::once(inside.get_program()).chain(inside.get_args());
    let words: Vec<_> = words.map(|word| word.to_str().unwrap()).collect();
    // What a terminal of this size shows, for script's own is none.
    let line = format!("stty rows 40 cols 150; exec {}", words.join(" "));
    terminal.args(["-qec", &line]);
    terminal
}

/// Runs sparkha without any Kubernetes.
pub fn run(arguments: &[&str]) -> Run {
    sparkha(arguments).output().unwrap().into()
}

/// The Roles that sparkha prints: for who looks at clusters, for who runs jobs on them, for who operates one.
pub fn roles() -> [Value; 3] {
    let printed = run(&["render", "--role"]).exits(0).stdout;
    let roles = printed
        .split("\n---\n")
        .map(|role| serde_saphyr::from_str(role).unwrap());
    roles.collect::<Vec<_>>().try_into().unwrap()
}

/// The formats of `route render`.
pub const FORMATS: [&str; 9] = [
    "json",
    "vulcand",
    "nginx",
    "traefik",
    "traefik-kv",
    "ingress",
    "gateway",
    "dnsmasq",
    "coredns",
];

/// The arguments that render the routes of all namespaces.
pub fn render_all(format: &str) -> Vec<&str> {
    let all = ["route", "render", "-A", "--router-address", "192.0.2.7"];
    [&all[..], &["--format", format]].concat()
}

/// The names of the masters with this status, in what `sparkha status -o json` prints.
pub fn masters_in(state: &Value, status: &str) -> Vec<String> {
    let masters = state["masters"].as_array().unwrap();
    let wanted = masters.iter().filter(|master| master["status"] == status);
    wanted
        .map(|master| master["name"].as_str().unwrap().to_owned())
        .collect()
}

/// The name of the master that leads, in the same.
pub fn leader(state: &Value) -> Option<String> {
    masters_in(state, "ALIVE").pop()
}

/// Waits for a condition.
#[track_caller]
pub fn until(within: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within {} s", within.as_secs());
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Waits for a condition that holds at once, but for a busy machine.
#[track_caller]
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether tests run on the cluster of a KUBECONFIG instead of the testbed.
pub fn is_existing() -> bool {
    std::env::var("SPARKHA_TEST_CLUSTER").is_ok_and(|value| value == "existing")
}

/// The kubeconfig of the real cluster.
pub fn kubeconfig() -> PathBuf {
    let path = if is_existing() {
        std::env::var_os("KUBECONFIG").map(PathBuf::from)
    } else {
        let state = std::env::var_os("SPARKHA_TESTBED_DIR").unwrap_or_else(|| "/var/tmp/sparkha-testbed".into());
        Some(PathBuf::from(state).join("kubeconfig"))
    };
    let path = path.expect("SPARKHA_TEST_CLUSTER=existing needs KUBECONFIG");
    assert!(path.exists(), "there is no cluster to test on: run `make testbed-up`");
    path
}

/// A namespace on the real cluster, for one test alone. Removed with everything in it, also when the test fails.
pub struct Sandbox {
    pub namespace: String,
    has_pods: bool,
}

impl Sandbox {
    /// The namespace does not exist yet.
    pub fn unmade(name: &str) -> Self {
        Self::named(name, true)
    }

    /// The namespace exists, and is not sparkha's.
    pub fn new(name: &str) -> Self {
        Self::unmade(name).made()
    }

    /// As [`Sandbox::new`], for a test that runs no pods.
    pub fn without_pods(name: &str) -> Self {
        Self::named(name, false).made()
    }

    fn named(name: &str, has_pods: bool) -> Self {
        let sandbox = Self {
            namespace: format!("test-{name}-{}", std::process::id()),
            has_pods,
        };
        sandbox.remove();
        sandbox
    }

    fn made(self) -> Self {
        self.kubectl_cluster(&["create", "namespace", &self.namespace]);
        self.wait_for(Duration::from_secs(30), "its service account", || {
            self.try_kubectl(&["get", "serviceaccount", "default"]).is_some()
        });
        self
    }

    /// sparkha on the real cluster, in this namespace.
    pub fn command(&self, arguments: &[&str]) -> Command {
        // Before the arguments: what follows `--` is a job's.
        let mut command = sparkha(&[&["--namespace", &self.namespace], arguments].concat());
        command.env("KUBECONFIG", kubeconfig());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Run {
        self.command(arguments).output().unwrap().into()
    }

    /// `sparkha status -o json`.
    pub fn status(&self, name: &str) -> Value {
        self.run(&["status", name, "-o", "json"]).json()
    }

    /// kubectl in this namespace; its output.
    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let output = kubectl(arguments, Some(&self.namespace), None);
        assert!(
            output.status.success(),
            "kubectl {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// kubectl in this namespace; `None` if it failed.
    pub fn try_kubectl(&self, arguments: &[&str]) -> Option<String> {
        let output = kubectl(arguments, Some(&self.namespace), None);
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// kubectl without a namespace.
    #[track_caller]
    pub fn kubectl_cluster(&self, arguments: &[&str]) -> String {
        let output = kubectl(arguments, None, None);
        assert!(
            output.status.success(),
            "kubectl {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// `kubectl apply -f -` of these objects.
    #[track_caller]
    pub fn apply(&self, objects: &str) {
        self.apply_in(&self.namespace, objects);
    }

    /// The same in another namespace.
    #[track_caller]
    pub fn apply_in(&self, namespace: &str, objects: &str) {
        let output = kubectl(&["apply", "-f", "-"], Some(namespace), Some(objects));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// The kubeconfig of an account to which these Roles are bound: the cluster's own with its token instead of the administrator's certificate.
    pub fn kubeconfig_of(&self, account: &str, roles: &[Value]) -> tempfile::NamedTempFile {
        self.kubectl(&["create", "serviceaccount", account]);
        let subject = format!("--serviceaccount={}:{account}", self.namespace);
        for role in roles {
            self.apply(&role.to_string());
            let name = role["metadata"]["name"].as_str().unwrap();
            let binding = format!("{account}-{name}");
            self.kubectl(&["create", "rolebinding", &binding, &format!("--role={name}"), &subject]);
        }
        // A Secret of this type is the way that servers of all versions know.
        self.apply(&format!(
            "apiVersion: v1\nkind: Secret\ntype: kubernetes.io/service-account-token\n\
             metadata: {{name: token-of-{account}, annotations: {{kubernetes.io/service-account.name: {account}}}}}\n"
        ));
        let secret = format!("token-of-{account}");
        let template = "go-template={{with .data}}{{with .token}}{{. | base64decode}}{{end}}{{end}}";
        let token = || self.kubectl(&["get", "secret", &secret, "-o", template]);
        self.wait_for(Duration::from_secs(20), "the token", || !token().is_empty());
        let view = kubectl(
            &["config", "view", "--raw", "--minify", "--flatten", "-o", "json"],
            None,
            None,
        );
        let mut config: Value = serde_json::from_slice(&view.stdout).unwrap();
        config["users"][0]["user"] = json!({"token": token()});
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), config.to_string()).unwrap();
        file
    }

    /// Everything in the namespace that a cluster could leave behind, as `kind/name` lines. What Kubernetes and its distributions put into every
    /// namespace, at some time after it was made, is not listed: accounts, certificates, and the Secrets of any account, which go after it.
    pub fn contents(&self) -> Vec<String> {
        static EVERYWHERE: OnceLock<Vec<String>> = OnceLock::new();
        // Nobody else puts anything there.
        let everywhere = EVERYWHERE.get_or_init(|| in_namespace("kube-node-lease", "configmaps,serviceaccounts"));
        let kinds =
            "statefulsets,pods,services,networkpolicies,configmaps,secrets,serviceaccounts,persistentvolumeclaims";
        let mut contents = in_namespace(&self.namespace, kinds);
        contents.retain(|line| !everywhere.contains(line) && !is_token_of_account(line));
        contents
    }

    /// A namespace with a quota that admits no pod: clusters of objects alone.
    pub fn bare(name: &str) -> Self {
        let sandbox = Self::without_pods(name);
        sandbox.quota(&json!({"pods": "0"}));
        sandbox
    }

    /// Makes the ResourceQuota `narrow`.
    pub fn quota(&self, hard: &Value) {
        let quota = json!({
            "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "narrow"}, "spec": {"hard": hard},
        });
        self.apply(&quota.to_string());
        self.wait_for(Duration::from_secs(30), "the quota", || {
            let known = self.kubectl(&["get", "resourcequota", "narrow", "-o", "jsonpath={.status.used}"]);
            !known.is_empty()
        });
    }

    /// Waits for a condition.
    #[track_caller]
    pub fn wait_for(&self, within: Duration, what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + within;
        while !condition() {
            if Instant::now() >= deadline {
                let pods = self.try_kubectl(&["get", "pods"]).unwrap_or_default();
                panic!("{what}: not within {} s\n{pods}", within.as_secs());
            }
            // Most conditions run kubectl, which takes a tenth of a second of processor time, half of it the server's.
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    fn remove(&self) {
        let namespace = &self.namespace;
        // Where nothing runs there is nothing to wait for.
        let wait = if self.has_pods {
            "--timeout=120s"
        } else {
            "--wait=false"
        };
        if self.has_pods {
            // A namespace whose pods have a long grace period is looked at again only after half of it, though they have long gone.
            let delete = |what: &[&str]| kubectl(&[&["--namespace", namespace, "delete"], what].concat(), None, None);
            delete(&["statefulsets", "--all", "--cascade=orphan"]);
            delete(&["pods", "--all", "--grace-period=1"]);
        }
        let output = kubectl(
            &["delete", "namespace", namespace, "--ignore-not-found", wait],
            None,
            None,
        );
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let show = |arguments: &[&str]| eprintln!("{}", self.try_kubectl(arguments).unwrap_or_default());
            show(&["get", "pods", "-o", "wide"]);
            let pods = self.try_kubectl(&["get", "pods", "-o", "name"]).unwrap_or_default();
            for pod in pods.lines() {
                show(&["logs", pod, "--all-containers", "--prefix", "--tail=20"]);
            }
            show(&["get", "events", "--sort-by=.lastTimestamp"]);
        }
        self.remove();
    }
}

/// The objects of these kinds, as `kind/name` lines.
#[track_caller]
fn in_namespace(namespace: &str, kinds: &str) -> Vec<String> {
    let output = kubectl(&["get", kinds, "-o", "name"], Some(namespace), None);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found = String::from_utf8(output.stdout).unwrap();
    found.lines().map(str::to_owned).collect()
}

/// A Secret that a controller of Kubernetes or of its distribution makes for an account, and removes some time after the account.
fn is_token_of_account(line: &str) -> bool {
    let generated = line.starts_with("secret/").then(|| line.rsplit_once('-')).flatten();
    generated
        .is_some_and(|(start, end)| end.len() == 5 && ["-token", "-dockercfg"].iter().any(|what| start.ends_with(what)))
}

pub fn kubectl(arguments: &[&str], namespace: Option<&str>, input: Option<&str>) -> Output {
    use std::io::Write;
    let cached = std::env::var_os("SPARKHA_KUBECTL").unwrap_or_else(|| "kubectl".into());
    let mut command = Command::new(cached);
    // It ends before a collection of Go's garbage would help.
    command.envs([("GOGC", "off"), ("GOMAXPROCS", "1")]);
    let kubeconfig = kubeconfig();
    command.arg("--kubeconfig").arg(&kubeconfig);
    if !is_existing() {
        // The testbed of another day may have been of another version, at the same address.
        command.arg("--cache-dir").arg(kubeconfig.with_file_name("kubectl"));
    }
    if let Some(namespace) = namespace {
        command.args(["--namespace", namespace]);
    }
    command.args(arguments);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.unwrap_or_default().as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

/// A cluster file with this text.
pub fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

/// A file system of its own, unmounted when dropped.
pub struct SmallDisk(pub PathBuf);

impl SmallDisk {
    pub fn at(path: PathBuf, size: &str) -> Self {
        std::fs::create_dir_all(&path).unwrap();
        let options = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(&path)
            .status()
            .unwrap();
        assert!(mounted.success(), "mounting needs root");
        Self(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// The testbed's script, which pauses daemons and cuts nodes off.
pub fn testbed(arguments: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testbed/testbed.sh");
    let done = Command::new(script).args(arguments).status().unwrap();
    assert!(done.success() || std::thread::panicking(), "{arguments:?}");
}

/// What undoes changes of the cluster or machine when the test ends, however it does. It must not panic: the test may have done so already.
pub struct Undo<'a>(Vec<Box<dyn FnOnce() + 'a>>);

impl<'a> Undo<'a> {
    pub fn new() -> Self {
        Self(Vec::new())
    }

    pub fn add(&mut self, undo: impl FnOnce() + 'a) {
        self.0.push(Box::new(undo));
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        for undo in self.0.drain(..).rev() {
            undo();
        }
    }
}
