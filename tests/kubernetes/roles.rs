//! The Roles that `sparkha render --role` prints: each is enough for what it is for, and for nothing beyond.

use crate::kit::{Run, Sandbox, kubectl, roles};

const FILE: &str = "masters: {count: 2}\nzookeeper: {count: 1}\n";
const JOB: &str = r#"
from pyspark import SparkContext
print("RESULT", SparkContext().parallelize(range(1000), 2).count(), flush=True)
"#;

/// Somebody in a sandbox, by what he may do.
struct Member<'a> {
    sandbox: &'a Sandbox,
    config: tempfile::NamedTempFile,
    folder: tempfile::TempDir,
}

impl<'a> Member<'a> {
    fn new(sandbox: &'a Sandbox, account: &str, role: serde_json::Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cluster.yaml"), FILE).unwrap();
        std::fs::write(folder.path().join("job.py"), JOB).unwrap();
        Self {
            sandbox,
            config: sandbox.kubeconfig_of(account, &[role]),
            folder,
        }
    }

    fn run(&self, arguments: &[&str]) -> Run {
        let mut command = self.sandbox.command(arguments);
        command.env("KUBECONFIG", self.config.path()).current_dir(&self.folder);
        command.output().unwrap().into()
    }

    #[track_caller]
    fn shows(&self, arguments: &[&str], text: &str) {
        let Run { stdout, .. } = self.run(arguments).exits(0);
        assert!(stdout.contains(text), "{stdout}");
    }

    /// Whether he may do what `kubectl auth can-i` is asked for.
    fn may(&self, what: &str) -> bool {
        let config = format!("--kubeconfig={}", self.config.path().display());
        let question: Vec<_> = ["auth", "can-i"]
            .into_iter()
            .chain(what.split(' '))
            .chain([config.as_str()])
            .collect();
        kubectl(&question, Some(&self.sandbox.namespace), None)
            .stdout
            .starts_with(b"yes")
    }

    #[track_caller]
    fn may_not(&self, questions: &[&str]) {
        for what in questions {
            assert!(!self.may(what), "{what}");
        }
    }
}

#[test]
fn each_role_is_enough_and_goes_no_further() {
    let sandbox = Sandbox::new("roles");
    let [view, submit, operate] = roles();
    let viewer = Member::new(&sandbox, "viewer", view);
    let submitter = Member::new(&sandbox, "submitter", submit);
    let operator = Member::new(&sandbox, "operator", operate);
    let before = sandbox.contents();

    operator
        .run(&["create", "-f", "cluster.yaml", "--workers", "1"])
        .exits(0);
    operator
        .run(&["create", "-f", "cluster.yaml", "--workers", "2"])
        .exits(0);
    operator.run(&["status"]).exits(0);
    operator.run(&["list"]).exits(0);

    who_views_sees_all_and_changes_nothing(&sandbox, &viewer);
    who_submits_runs_jobs_and_changes_no_cluster(&sandbox, &submitter);
    what_others_have_is_closed_to_who_operates(&operator);
    a_secret_is_changed_when_told_only(&sandbox, &operator);

    operator.run(&["teardown"]).exits(0);
    assert_eq!(sandbox.contents(), before);
}

/// Secret, objects and pods of the cluster.
fn cluster(sandbox: &Sandbox) -> (String, String, String) {
    let secret = sandbox.kubectl(&["get", "secret", "spark-auth", "-o", "jsonpath={.data}"]);
    let versions = "jsonpath={.items[*].metadata.generation} {.items[*].metadata.name}";
    let sets = sandbox.kubectl(&["get", "statefulsets", "-o", versions]);
    let pods = sandbox.kubectl(&[
        "get",
        "pods",
        "-l",
        "app.kubernetes.io/name=spark",
        "-o",
        "jsonpath={.items[*].metadata.uid}",
    ]);
    (secret, sets, pods)
}

const CHANGES: [&[&str]; 4] = [
    &["create", "-f", "cluster.yaml", "--workers", "3"],
    &["scale", "--workers", "1"],
    &["rotate-secret", "--yes"],
    &["teardown", "--yes"],
];

fn who_views_sees_all_and_changes_nothing(sandbox: &Sandbox, viewer: &Member<'_>) {
    viewer.shows(&["status"], "in service");
    viewer.shows(&["list"], "spark");
    viewer.run(&["jobs"]).exits(0);
    viewer.run(&["logs", "--tail", "5", "spark-worker-0"]).exits(0);
    viewer.shows(&["route", "render", "--format", "nginx"], "spark-master");
    let doctor = viewer.run(&["doctor"]);
    assert!(!doctor.stdout.contains("no cluster"), "{}", doctor.stdout);

    let there = cluster(sandbox);
    for change in CHANGES {
        viewer.run(change).exits(4).says("render --role");
    }
    viewer.run(&["submit", "--", "job.py"]).exits(4).says("render --role");
    assert_eq!(cluster(sandbox), there);
    viewer.may_not(&[
        "get secrets/spark-auth",
        "list secrets",
        "create configmaps",
        "patch configmaps/spark-conf",
        "patch statefulsets/spark-worker",
        "create pods",
        "delete pods",
        "create pods --subresource=exec",
        "get pods --subresource=exec",
        "create rolebindings",
    ]);
}

fn who_submits_runs_jobs_and_changes_no_cluster(sandbox: &Sandbox, submitter: &Member<'_>) {
    submitter.shows(&["submit", "--", "job.py"], "RESULT 1000");
    submitter.run(&["jobs"]).exits(0);
    submitter.run(&["status"]).exits(0);
    let there = cluster(sandbox);
    for change in CHANGES {
        submitter.run(change).exits(4).says("render --role");
    }
    assert_eq!(cluster(sandbox), there);
    submitter.may_not(&[
        "get secrets/spark-auth",
        "list secrets",
        "create configmaps",
        "patch configmaps/spark-conf",
        "patch statefulsets/spark-worker",
        "create services",
        "create rolebindings",
    ]);
}

fn what_others_have_is_closed_to_who_operates(operator: &Member<'_>) {
    assert!(operator.may("delete statefulsets/spark-worker") && operator.may("get secrets/spark-auth"));
    operator.may_not(&[
        "get secrets/other",
        "list secrets",
        "patch configmaps/other",
        "delete configmaps/other",
        "delete services/other",
        "delete statefulsets/other",
        "patch networkpolicies/other",
        "delete serviceaccounts/other",
        "create pods",
        "create pods --subresource=exec",
        "create rolebindings",
    ]);
    operator
        .run(&["create", "other", "--workers", "1"])
        .exits(4)
        .says("statefulsets")
        .says("sparkha render other --role");
    operator.run(&["submit", "--", "job.py"]).exits(4).says("render --role");
}

fn a_secret_is_changed_when_told_only(sandbox: &Sandbox, operator: &Member<'_>) {
    let (secret, sets, pods) = cluster(sandbox);
    operator
        .run(&["rotate-secret"])
        .exits(2)
        .says("nothing was changed")
        .says("--yes");
    assert_eq!(cluster(sandbox), (secret.clone(), sets, pods.clone()));
    // Registered again: all know the new one.
    operator
        .run(&["rotate-secret", "--yes"])
        .exits(0)
        .says("2 of 2 registered");
    let (new_secret, _, new_pods) = cluster(sandbox);
    let keys = |text: &str| serde_json::from_str::<std::collections::BTreeMap<String, String>>(text).unwrap();
    let (old, new) = (keys(&secret), keys(&new_secret));
    let names: Vec<_> = new.keys().map(String::as_str).collect();
    assert_eq!(names, ["spark.authenticate.secret", "zookeeper.password"]);
    assert!(new.iter().all(|(key, value)| old[key] != *value));
    assert!(new_pods.split(' ').all(|pod| !pods.contains(pod)), "{pods} {new_pods}");
}
