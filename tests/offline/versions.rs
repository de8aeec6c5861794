//! `sparkha version`, where it takes the commit from, and clusters that a newer sparkha wrote: this one reads what it can, and neither writes
//! nor deletes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::kit::documents::{files_below, root};
use crate::kit::http::{HttpServer, Request};
use crate::kit::{Run, run, sparkha};

const OWN: &str = env!("CARGO_PKG_VERSION");

/// Every command that changes a cluster.
const CHANGING: [&[&str]; 11] = [
    &["create", "etl", "--yes"],
    &[
        "create",
        "etl",
        "--yes",
        "--masters",
        "1",
        "--skip-preflight",
        "--force",
    ],
    &["create", "etl", "--dry-run"],
    &["scale", "etl", "--workers", "1"],
    &["upgrade", "etl", "--image", "spark:4.3.1", "--yes"],
    &["upgrade", "etl", "--side-by-side", "--image", "spark:4.3.1", "--yes"],
    &["rotate-secret", "etl", "--yes"],
    &["teardown", "etl", "--yes", "--force"],
    &["submit", "etl", "--", "demo/job.py"],
    &["jobs", "etl", "--kill", "etl-driver"],
    &["failover", "etl", "--yes"],
];

/// The objects of cluster `etl`, with an inventory that a newer sparkha wrote.
fn written(change: impl FnOnce(&mut Value)) -> Vec<Value> {
    let rendered = run(&["render", "etl", "--masters", "1"]).exits(0).stdout;
    let objects = rendered
        .split("\n---\n")
        .map(|text| serde_saphyr::from_str(text).unwrap());
    let mut objects: Vec<Value> = objects.collect();
    let is_inventory = |object: &&mut Value| object["metadata"]["name"] == "etl-sparkha";
    let text = &mut objects.iter_mut().find(is_inventory).unwrap()["data"]["cluster.json"];
    let mut cluster: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
    cluster["format"] = json!(2);
    cluster["sparkhaVersion"] = json!("99.0.0");
    change(&mut cluster);
    *text = json!(cluster.to_string());
    objects
}

/// A home with that cluster on this machine.
fn home(objects: &[Value]) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let resources = objects.iter().map(|object| {
        let (kind, name) = (&object["kind"], &object["metadata"]["name"]);
        json!({"kind": kind, "name": name, "object": object})
    });
    let software = json!({
        "spark_home": "/opt/spark", "spark_version": "4.3.0", "java_home": null, "java_version": 17, "path": ""
    });
    let desired = json!({"software": software, "resources": resources.collect::<Vec<_>>()});
    let folder = home.path().join("state/sparkha/clusters/default/etl");
    std::fs::create_dir_all(folder.join("claims/data-etl-master-0")).unwrap();
    std::fs::write(folder.join("claims/data-etl-master-0/data.json"), "precious").unwrap();
    std::fs::write(folder.join("wanted.json"), desired.to_string()).unwrap();
    home
}

/// One that holds all that this sparkha knows, one in which a value means something else, and one with another kind of object.
fn homes() -> [tempfile::TempDir; 3] {
    let gizmo = json!({"kind": "Gizmo", "metadata": {"name": "etl"}});
    let with_gizmo = [vec![gizmo], written(|_| {})].concat();
    [
        home(&written(|_| {})),
        home(&written(|cluster| cluster["zookeeper"] = json!("another"))),
        home(&with_gizmo),
    ]
}

fn local(home: &Path, arguments: &[&str]) -> Run {
    let mut command = sparkha(&[&["--local"], arguments].concat());
    let command = command.env("XDG_STATE_HOME", home.join("state")).current_dir(root());
    command.output().unwrap().into()
}

/// The files of the cluster and its data.
fn contents(home: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = files_below(home, "json").into_iter();
    files
        .map(|file| (file.clone(), std::fs::read(&file).unwrap()))
        .collect()
}

#[track_caller]
fn is_refused(run: Run) {
    run.exits(5)
        .says("cluster etl was written by sparkha 99.0.0, in format 2 of the inventory")
        .says("install sparkha 99.0.0 or a newer one");
}

#[test]
fn no_command_changes_a_local_cluster_that_a_newer_version_wrote() {
    for home in homes() {
        let home = home.path();
        let before = contents(home);
        assert_eq!(before.len(), 2, "{:?}", before.keys());
        for arguments in CHANGING {
            println!("{arguments:?}");
            is_refused(local(home, arguments));
            assert_eq!(contents(home), before, "{arguments:?}");
        }
    }
}

/// A file that is damaged keeps nobody from removing the cluster.
#[test]
fn a_damaged_local_cluster_can_still_be_removed() {
    let home = home(&written(|_| {}));
    let file = home.path().join("state/sparkha/clusters/default/etl/wanted.json");
    std::fs::write(&file, "{").unwrap();
    local(home.path(), &["teardown", "etl", "--yes"]).exits(0);
    assert!(!file.exists());
}

#[test]
fn what_can_be_read_of_a_newer_version_is_shown() {
    let [readable, other_value, other_kind] = homes();
    let status = local(readable.path(), &["status", "etl"]).exits(9).stdout;
    assert!(status.contains("was written by sparkha 99.0.0"), "{status}");
    assert!(status.contains("Master URL spark://etl-master-0:7077"), "{status}");
    let list = |home: &Path| {
        local(home, &["list", "-o", "name"])
            .exits(0)
            .says("sparkha 99.0.0")
            .stdout
    };
    assert_eq!(list(readable.path()), "default/etl\n");
    let version = local(readable.path(), &["version", "etl", "-o", "json"])
        .exits(0)
        .json();
    assert_eq!(version["cluster"]["sparkha"], "99.0.0");
    assert_eq!(version["cluster"]["inventoryFormat"], 2);
    let message = version["skew"][0]["message"].as_str().unwrap();
    assert!(message.contains("written by sparkha 99.0.0"), "{message}");
    for unreadable in [other_value, other_kind] {
        is_refused(local(unreadable.path(), &["status", "etl"]));
        assert_eq!(list(unreadable.path()), "");
        let version = local(unreadable.path(), &["version", "etl", "-o", "json"]);
        assert_eq!(version.json()["sparkha"], OWN);
        is_refused(version);
    }
}

/// An API server that has one inventory, and all requests that would change something there.
struct ApiServer {
    address: &'static str,
    writes: Arc<Mutex<Vec<String>>>,
    kubeconfig: tempfile::NamedTempFile,
    _server: HttpServer,
}

impl ApiServer {
    fn start(address: &'static str, objects: &[Value]) -> Self {
        let is_inventory = |object: &&Value| object["metadata"]["name"] == "etl-sparkha";
        let mut inventory = objects.iter().find(is_inventory).unwrap().clone();
        inventory["metadata"]["namespace"] = json!("data");
        inventory["metadata"]["resourceVersion"] = json!("7");
        let writes = Arc::new(Mutex::new(vec![]));
        let seen = writes.clone();
        let answer = move |request: &Request| {
            let path = request.path.split('?').next().unwrap();
            let reviews = path.starts_with("/apis/authorization.k8s.io/");
            if request.method != "GET" && !reviews {
                seen.lock().unwrap().push(format!("{} {path}", request.method));
            }
            // A list, and the table of it.
            let list = |items: &[&Value]| {
                json!({
                    "kind": "List", "apiVersion": "v1", "metadata": {}, "items": items,
                    "columnDefinitions": [{"name": "Ready"}], "rows": []
                })
            };
            let found = match path {
                "/version" => Some(json!({
                    "major": "1", "minor": "19", "gitVersion": "v1.19.3", "gitCommit": "", "gitTreeState": "",
                    "buildDate": "", "goVersion": "", "compiler": "", "platform": ""
                })),
                "/api/v1/namespaces/data/configmaps/etl-sparkha" => Some(inventory.clone()),
                "/api/v1/namespaces/data/configmaps" => Some(list(&[&inventory])),
                "/api/v1/namespaces/data/pods" | "/apis/apps/v1/namespaces/data/statefulsets" => Some(list(&[])),
                _ => None,
            };
            let missing =
                json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "message": path, "code": 404});
            let code = if found.is_some() { 200 } else { 404 };
            (code, found.unwrap_or(missing).to_string())
        };
        let server = HttpServer::start(address, answer);
        let kubeconfig = tempfile::NamedTempFile::new().unwrap();
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "data"}}],
        });
        std::fs::write(kubeconfig.path(), config.to_string()).unwrap();
        Self {
            address,
            writes,
            kubeconfig,
            _server: server,
        }
    }

    fn run(&self, arguments: &[&str]) -> Run {
        println!("{}: {arguments:?}", self.address);
        let mut command = sparkha(arguments);
        let command = command.env("KUBECONFIG", self.kubeconfig.path()).current_dir(root());
        command.output().unwrap().into()
    }
}

#[test]
fn no_command_changes_a_kubernetes_cluster_that_a_newer_version_wrote() {
    let readable = ApiServer::start("127.0.7.31:6443", &written(|_| {}));
    let other = written(|cluster| cluster["zookeeper"] = json!("another"));
    let unreadable = ApiServer::start("127.0.7.32:6443", &other);
    for server in [&readable, &unreadable] {
        for arguments in CHANGING {
            is_refused(server.run(arguments));
            assert_eq!(*server.writes.lock().unwrap(), [""; 0], "{arguments:?}");
        }
    }
    let status = readable.run(&["status", "etl"]).exits(9).stdout;
    assert!(status.contains("was written by sparkha 99.0.0"), "{status}");
    is_refused(unreadable.run(&["status", "etl"]));
    for (server, listed) in [(readable, "data/etl\n"), (unreadable, "")] {
        let list = server.run(&["list", "-o", "name"]).exits(0).says("sparkha 99.0.0");
        assert_eq!(list.stdout, listed);
    }
}

#[test]
fn version_without_a_cluster_asks_no_server() {
    let own = run(&["version", "-o", "json"]).exits(0).json();
    assert_eq!(own["sparkha"], OWN);
    assert_eq!(own["inventoryFormat"], 1);
    assert!(own.get("cluster").is_none() && own.get("skew").is_none(), "{own}");
    let shown = run(&["version"]).exits(0).stdout;
    for supported in own["supported"].as_object().unwrap().values() {
        assert!(shown.contains(supported.as_str().unwrap()), "{shown}");
    }
    assert_eq!(run(&["version", "-o", "name"]).exits(0).stdout, format!("{OWN}\n"));
    assert!(
        run(&["version", "-o", "yaml"])
            .exits(0)
            .stdout
            .contains(&format!("sparkha: \"{OWN}\"\n"))
    );
    assert_eq!(run(&["--version"]).exits(0).stdout, format!("sparkha {OWN}\n"));
}

#[test]
fn version_prints_its_own_part_where_the_cluster_cannot_be_read() {
    let unreachable = run(&["version", "etl"]).exits(3);
    assert!(
        unreachable.stdout.starts_with(&format!("sparkha    {OWN}\n")),
        "{}",
        unreachable.stdout
    );
    let home = tempfile::tempdir().unwrap();
    let missing = local(home.path(), &["version"]).exits(7);
    assert!(missing.stdout.contains("Kubernetes 1.20"), "{}", missing.stdout);
    let server = ApiServer::start("127.0.7.33:6443", &written(|_| {}));
    let missing = server.run(&["version", "other"]).exits(7);
    let oldest = "! the API server is v1.19.3; sparkha supports Kubernetes 1.20 and later";
    assert!(missing.stdout.contains(oldest), "{}", missing.stdout);
    let found = server.run(&["version", "etl"]).exits(0).stdout;
    assert!(
        found.contains("Cluster    data/etl\nMade by    sparkha 99.0.0, inventory format 2\n"),
        "{found}"
    );
}

/// The documents name the versions that the program supports.
#[test]
fn documents_name_the_supported_versions() {
    let supported = run(&["version", "-o", "json"]).exits(0).json()["supported"].clone();
    for file in ["README.md", "docs/upgrades.md"] {
        let text = std::fs::read_to_string(root().join(file)).unwrap().replace('\n', " ");
        for program in ["spark", "kubernetes"] {
            let range = supported[program].as_str().unwrap();
            assert!(text.contains(range), "{file} does not say {range}");
        }
    }
    let kubernetes = supported["kubernetes"].as_str().unwrap().split(',').next().unwrap();
    for (file, range) in [
        ("NOTES.md", kubernetes.to_owned()),
        ("docs/quick-start.md", kubernetes.replace(" and", " or")),
    ] {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        assert!(text.contains(&range), "{file} does not say {range}");
    }
}

/// What the build script prints as the commit, in a folder.
fn commit(script: &Path, folder: &Path, environment: &[(&str, &str)]) -> String {
    let mut command = Command::new(script);
    command
        .current_dir(folder)
        .env_remove("SPARKHA_COMMIT")
        .envs(environment.iter().copied());
    let printed: Run = command.output().unwrap().into();
    let printed = printed.exits(0).stdout;
    let mut lines = printed.lines();
    let commit = lines.find_map(|line| line.strip_prefix("cargo::rustc-env=SPARKHA_COMMIT="));
    commit.unwrap().to_owned()
}

#[test]
fn the_commit_comes_from_the_environment_the_package_or_git() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("build-script");
    let mut compile = Command::new("rustc");
    compile.args(["--edition=2024", "build.rs", "-o"]).arg(&script);
    let compiled: Run = compile.current_dir(root()).output().unwrap().into();
    compiled.exits(0);
    let sources = folder.path().join("sources");
    std::fs::create_dir_all(sources.join("unpacked")).unwrap();
    let release = ("PROFILE", "release");
    let nowhere = ("PATH", "/nonexistent");
    // Without git, and without a repository.
    assert_eq!(commit(&script, &sources, &[release, nowhere]), "");
    assert_eq!(commit(&script, &sources, &[release]), "");
    let git = |arguments: &str| {
        let mut git = Command::new("git");
        git.current_dir(&sources)
            .args(["-c", "user.name=a", "-c", "user.email=a@b"])
            .args(arguments.split(' '));
        let done: Run = git.output().unwrap().into();
        done.exits(0).stdout.trim().to_owned()
    };
    std::fs::write(sources.join("file"), "a").unwrap();
    for step in ["init -q", "add file", "commit -qm first"] {
        git(step);
    }
    let head = git("rev-parse HEAD");
    assert_eq!(commit(&script, &sources, &[release]), head);
    assert_eq!(commit(&script, &sources, &[release]), head, "it is reproducible");
    // Sources below another repository, and builds for development.
    assert_eq!(commit(&script, &sources.join("unpacked"), &[release]), "");
    assert_eq!(commit(&script, &sources, &[("PROFILE", "debug")]), "");
    std::fs::write(sources.join("file"), "b").unwrap();
    assert_eq!(commit(&script, &sources, &[release]), format!("{head}-dirty"));
    // What `cargo package` adds names the commit of the package, wherever it is built.
    let packaged = "0123456789abcdef0123456789abcdef01234567";
    let info = json!({"git": {"sha1": packaged}, "path_in_vcs": ""});
    std::fs::write(
        sources.join(".cargo_vcs_info.json"),
        serde_json::to_string_pretty(&info).unwrap(),
    )
    .unwrap();
    assert_eq!(commit(&script, &sources, &[release, nowhere]), packaged);
    let named = ("SPARKHA_COMMIT", "fedcba9876543210");
    assert_eq!(commit(&script, &sources, &[release, named]), "fedcba9876543210");
    let hostile = ("SPARKHA_COMMIT", "x\ncargo::rustc-link-arg=y");
    assert_eq!(commit(&script, &sources, &[release, hostile]), "");
}
