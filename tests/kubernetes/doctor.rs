//! What goes wrong with clusters, caused in one of them, and found by `sparkha doctor`: each trouble that users of other set-ups told of.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::kit::doctor::{doctor, finds_among_others, line};
use crate::kit::{Run, Sandbox, SmallDisk, Undo, file, kubectl, roles, testbed};

/// Two masters, and a worker for each of two faults. DISK stands for a folder of the node.
const CLUSTER: &str = "masters: {count: 2}
zookeeper: {count: 1, failoverSeconds: 20}
workers:
  count: 2
  shuffle: {emptyDir: {sizeLimit: 256Mi}}
  volumes: [{name: small, mountPath: /data, hostPath: {path: DISK}}]
";
const SPARK: &str = "docker.io/apache/spark:4.3.0";

/// What a check says, in one line, with pods' addresses replaced by their names.
fn lines(sandbox: &Sandbox, checks: &Value) -> Vec<String> {
    let format = "jsonpath={range .items[*]}{.status.podIP} {.metadata.name}{'\\n'}{end}";
    let pods = sandbox.kubectl(&["get", "pods", "-o", format]);
    let services = sandbox.kubectl(&[
        "get",
        "services",
        "-o",
        "jsonpath={range .items[*]}{.spec.clusterIP} {.metadata.name}'s{'\\n'}{end}",
    ]);
    let mut addresses: Vec<_> = pods
        .lines()
        .chain(services.lines())
        .filter_map(|line| line.split_once(' '))
        .collect();
    addresses.retain(|(address, _)| address.contains('.'));
    // Longer ones first: one may be the beginning of another.
    addresses.sort_by_key(|(address, _)| std::cmp::Reverse(address.len()));
    let line = |check: &Value| {
        let mut line = line(check);
        // What the registry says differs from moment to moment, what mount says from kernel to kernel, and restarts go on.
        for end in ["cannot be pulled", "mount failed", "(OOMKilled)"] {
            if let Some(at) = line.find(end) {
                line.truncate(at + end.len());
            }
        }
        // An answer takes time.
        let seconds = (590..=600).map(|seconds| format!(" {seconds} s "));
        for seconds in seconds {
            line = line.replace(&seconds, " 600 s ");
        }
        // An address that nobody has: how long its neighbours look for it decides.
        line = line.replace("(refused)", "(no answer)");
        for (address, name) in &addresses {
            line = line.replace(address, &format!("<{name}>"));
        }
        line
    };
    checks.as_array().unwrap().iter().map(line).collect()
}

/// All but what is well, the same everywhere, or of a busy machine: a probe that came too late.
fn unwell(lines: Vec<String>) -> Vec<String> {
    let is_expected = |line: &String| {
        let restarted = line.starts_with("warning pods:") && line.contains(" restarted ");
        line.starts_with("ok ") || line.starts_with("warning web UIs:") || restarted
    };
    lines.into_iter().filter(|line| !is_expected(line)).collect()
}

/// Runs the doctor until it finds exactly this: pods need time to fall ill, too.
#[track_caller]
fn finds(sandbox: &Sandbox, expected: &[&str]) {
    let mut found = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(180);
    while Instant::now() < deadline {
        let run = doctor(sandbox, &[]);
        found = unwell(lines(sandbox, &run.json()));
        if found == expected {
            run.exits(9);
            return;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    assert_eq!(found, expected);
}

/// The node loses what one address sends to a port of another.
fn lose(undo: &mut Undo, from: &str, to: &str, port: &str) {
    let rule = [
        "FORWARD", "-s", from, "-d", to, "-p", "tcp", "--dport", port, "-j", "DROP",
    ];
    let rule: Vec<_> = rule.map(str::to_owned).into();
    let iptables = |verb: &str, rule: &[String]| Command::new("iptables").arg(verb).args(rule).status();
    assert!(iptables("-I", &rule).unwrap().success(), "iptables needs root");
    undo.add(move || drop(iptables("-D", &rule)));
}

fn address(sandbox: &Sandbox, pod: &str) -> String {
    sandbox.kubectl(&["get", "pod", pod, "-o", "jsonpath={.status.podIP}"])
}

fn patch(sandbox: &Sandbox, object: &str, patch: &Value) {
    sandbox.kubectl(&["patch", object, "--type=strategic", "-p", &patch.to_string()]);
}

/// A user's pod that has to do with the cluster.
fn driver(name: &str, image: &str, service_links: bool) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "enableServiceLinks": service_links, "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "driver", "image": image, "command": ["sleep", "3600"],
                "env": [{"name": "MASTER", "value": "spark://spark-master-0:7077"}],
            }],
        },
    })
}

#[test]
fn every_trouble_of_a_cluster_is_found() {
    let sandbox = Sandbox::new("doctor");
    let namespace = &sandbox.namespace;
    let folder = tempfile::tempdir().unwrap();
    let disk = SmallDisk::at(folder.path().join("disk"), "1m");
    let mut undo = Undo::new();

    // Before there is a cluster.
    let file = file(&CLUSTER.replace("DISK", disk.0.to_str().unwrap()));
    let file = file.path().to_str().unwrap();
    let run = doctor(&sandbox, &["-f", file]).exits(0);
    let before: Vec<_> = run
        .json()
        .as_array()
        .unwrap()
        .iter()
        .map(|check| check["name"].clone())
        .collect();
    let groups = [
        "API server",
        "namespace",
        "permissions",
        "nodes",
        "capacity",
        "storage",
        "DNS",
        "clocks",
        "objects",
        "service links",
    ];
    assert_eq!(before, groups);
    a_disk_cannot_be_shared(&sandbox, &mut undo);

    // One that is well.
    sandbox.run(&["create", "-f", file]).exits(0);
    let run = doctor(&sandbox, &[]).exits(0);
    assert_eq!(unwell(lines(&sandbox, &run.json())), Vec::<String>::new());

    super::logs::logs_of_pods_and_executors(&sandbox);
    what_may_not_be_looked_at_is_skipped(&sandbox);
    workers_end(&sandbox);
    break_everything(&sandbox, &mut undo);
    let class = disk_class(&sandbox);
    let named = [
        format!("warning nodes: {namespace}-hung is not ready: Kubelet never posted node status."),
        format!(
            "failed storage: claim everywhere: storage class {class} (kubernetes.io/gce-pd) provisions disks, and a disk cannot be ReadWriteMany"
        ),
        format!("failed storage: claim nowhere: there is no storage class {namespace}-none"),
    ];
    let mut expected: Vec<&str> = named.iter().map(String::as_str).collect();
    expected.extend([
        "failed DNS: spark-worker-1 cannot resolve spark-master-0, spark-master-1, spark-zookeeper-0.spark-zookeeper",
        "failed clocks: against this machine's clock, spark-master-1 is 600 s behind",
        "warning objects: not in the cluster's inventory, but labelled as its own: Service spark-old",
        "failed service links: driver is given SPARK_MASTER_PORT=tcp://… for a Service of that name",
        concat!(
            "warning versions: the cluster was made by sparkha 99.0.0, this is ",
            env!("CARGO_PKG_VERSION")
        ),
        "warning versions: old-driver has docker.io/apache/spark:3.0.0, and the cluster docker.io/apache/spark:4.3.0",
        "failed images: old-driver: its image cannot be pulled",
        "failed pods: greedy-driver: it crashes: exit code 137 (OOMKilled)",
        "failed pods: nfs-driver: a volume cannot be provisioned or mounted: MountVolume.SetUp failed for volume \"export\" : mount failed",
        EVICTED,
        "warning pods: 1 of 2 pods of spark-master are up to date",
        "warning pods: 1 of 2 pods of spark-worker are up to date",
        "failed disks: /data of spark-worker-0 is full, /data of spark-worker-1 is full",
        "failed Services: spark-master selects no pod (app.kubernetes.io/component=nobody,app.kubernetes.io/instance=spark,\
         app.kubernetes.io/managed-by=sparkha,app.kubernetes.io/name=spark)",
        "failed pod network: spark-master-0 does not reach spark-worker-0 at <spark-worker-0>:7078 (no answer)",
        "failed Service network: spark-worker-0 does not reach Service spark-master-1 at <spark-master-1's>:7077 (no answer), \
         spark-worker-1 does not reach Service spark-master-1 at <spark-master-1's>:7077 (no answer)",
        "failed hairpin: spark-master-0 does not reach Service spark-master-0 at <spark-master-0's>:7077 (no answer), \
         spark-master-1 does not reach Service spark-master-1 at <spark-master-1's>:7077 (no answer)",
        "failed masters: spark-master-1 calls itself spark://<spark-master-1>:7077, but is addressed as spark://spark-master-1:7077: \
         it drops messages of workers and drivers",
        "failed workers: 1 of 2 workers are registered",
        "failed workers: a worker calls itself spark-worker-0, which spark-master-0 cannot resolve: \
         jobs do not reach its executors",
    ]);
    finds(&sandbox, &expected);
    bridges_pass_the_rules_by(&sandbox, &mut undo);

    // Without ZooKeeper.
    sandbox.kubectl(&["scale", "statefulset", "spark-zookeeper", "--replicas=0"]);
    let lost = "failed ZooKeeper: 0 of 1 server is in the quorum (spark-zookeeper-0: not running)";
    finds_among_others(&sandbox, &[(lost, "")]);
}

const EVICTED: &str =
    "warning pods: spark-worker-0 was evicted: Usage of EmptyDir volume \"shuffle\" exceeds the limit \"256Mi\".";

/// One crashes as by a bug in native code, one writes more than its volume may hold. Kubernetes replaces both.
fn workers_end(sandbox: &Sandbox) {
    let exec = |pod: &str, command: &str| sandbox.kubectl(&["exec", pod, "--", "bash", "-c", command]);
    exec("spark-worker-1", "kill -SEGV $(cat /proc/1/task/1/children)");
    exec("spark-worker-0", "fallocate --length 300M /var/spark/shuffle/filler");
    let crashed = (
        "warning pods: spark-worker-1 restarted ",
        "exit code 134 (Error), 1 restart",
    );
    finds_among_others(sandbox, &[crashed, (EVICTED, "")]);
    let log = sandbox.run(&["logs", "spark-worker-1", "--previous"]).exits(0).stdout;
    assert!(log.contains("SIGSEGV"), "{log}");
}

/// What a Service's address became on the way to a pod, it stays on the way back.
fn bridges_pass_the_rules_by(sandbox: &Sandbox, undo: &mut Undo) {
    let key = "/proc/sys/net/bridge/bridge-nf-call-iptables";
    std::fs::write(key, "0").unwrap();
    undo.add(move || drop(std::fs::write(key, "1")));
    let service = "failed Service network: spark-worker-0 does not reach Service spark-master-0 at ";
    finds_among_others(sandbox, &[(service, "")]);
}

/// The name of a storage class of disks.
fn disk_class(sandbox: &Sandbox) -> String {
    format!("{}-disk", sandbox.namespace)
}

/// Told before anything is made.
fn a_disk_cannot_be_shared(sandbox: &Sandbox, undo: &mut Undo) {
    let disk = disk_class(sandbox);
    let class = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": disk},
        "provisioner": "kubernetes.io/gce-pd", "volumeBindingMode": "WaitForFirstConsumer",
    });
    sandbox.apply(&class.to_string());
    let class = disk.clone();
    undo.add(move || drop(kubectl(&["delete", "storageclass", &class], None, None)));
    let file = file(&format!(
        "workers: {{volumes: [{{name: shared, mountPath: /data, newClaim: {{size: 1Gi, storageClassName: {disk}, accessMode: ReadWriteMany}}}}]}}\n"
    ));
    let run = doctor(sandbox, &["-f", file.path().to_str().unwrap()]).exits(8);
    let seen = format!(
        "failed storage: workers.volumes shared: storage class {disk} (kubernetes.io/gce-pd) provisions disks, and a disk cannot be ReadWriteMany"
    );
    let failed: Vec<_> = lines(sandbox, &run.json())
        .into_iter()
        .filter(|line| line.starts_with("failed"))
        .collect();
    assert_eq!(failed, [seen]);
}

/// Somebody with all Roles, less three resources.
fn what_may_not_be_looked_at_is_skipped(sandbox: &Sandbox) {
    let less = ["poddisruptionbudgets", "serviceaccounts", "pods/exec"];
    let mut roles = roles();
    for role in &mut roles {
        let rules = role["rules"].as_array_mut().unwrap();
        rules.retain(|rule| !less.contains(&rule["resources"][0].as_str().unwrap()));
    }
    let clerk = sandbox.kubeconfig_of("clerk", &roles);
    let mut command = sandbox.command(&["doctor", "-o", "json"]);
    let run = Run::from(command.env("KUBECONFIG", clerk.path()).output().unwrap()).exits(9);
    let namespace = &sandbox.namespace;
    let expected = [
        &format!(
            "warning permissions: you may not get, list, create, patch, delete poddisruptionbudgets in namespace {namespace}; it is needed to create, change and remove the cluster"
        ),
        &format!(
            "failed permissions: you may not get, list, create, patch, delete serviceaccounts in namespace {namespace}; it is needed to create, change and remove the cluster"
        ),
        "skipped nodes: you may not list nodes",
        "skipped capacity: you may not list nodes and the pods of all namespaces",
        "skipped DNS: you may not list the pods of kube-system; you may not run commands in its pods (create pods/exec)",
        "skipped placement: you may not list nodes",
        "skipped disks: you may not run commands in its pods (create pods/exec)",
        "skipped pod network: you may not run commands in its pods (create pods/exec)",
        "skipped Service network: you may not run commands in its pods (create pods/exec)",
        "skipped hairpin: you may not run commands in its pods (create pods/exec)",
    ];
    assert_eq!(unwell(lines(sandbox, &run.json())), expected);
}

fn break_everything(sandbox: &Sandbox, undo: &mut Undo) {
    // It learns no address of a new pod.
    testbed(&["pause", "kube-proxy"]);
    undo.add(|| testbed(&["resume", "kube-proxy"]));
    a_node_hangs_on_joining(sandbox, undo);

    // The wrong names: of a worker that only its own pod knows, of a master that binds to what nobody calls. The master's clock
    // is slow.
    let last_only = json!({"rollingUpdate": {"partition": 1}});
    patch(
        sandbox,
        "statefulset/spark-worker",
        &json!({"spec": {"template": {"spec": {"containers": [{"name": "worker", "env": [
            {"name": "SPARK_LOCAL_HOSTNAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        ]}]}}}}),
    );
    sandbox.kubectl(&["create", "configmap", "slow", "--from-file", &slow_clock()]);
    let slow = |key: &str, value: &str| json!({"name": key, "value": value});
    patch(
        sandbox,
        "statefulset/spark-master",
        &json!({"spec": {"updateStrategy": last_only, "template": {"spec": {
            "volumes": [{"name": "slow", "configMap": {"name": "slow"}}],
            "containers": [{
                "name": "master", "volumeMounts": [{"name": "slow", "mountPath": "/slow"}],
                "env": [
                    {"name": "SPARK_MASTER_HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    slow("LD_PRELOAD", "/slow/libfaketime.so.1"), slow("FAKETIME", "-10m"),
                    // A JVM waits by the other clock, which is left as it is.
                    slow("FAKETIME_DONT_FAKE_MONOTONIC", "1"), slow("FAKETIME_FORCE_MONOTONIC_FIX", "0"),
                ],
            }],
        }}}}),
    );

    // A Service that leads nowhere, and one that nobody needs.
    patch(
        sandbox,
        "service/spark-master",
        &json!({"spec": {"selector": {"app.kubernetes.io/component": "nobody"}}}),
    );
    let labels = json!({"app.kubernetes.io/managed-by": "sparkha", "app.kubernetes.io/instance": "spark"});
    let old = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "spark-old", "labels": labels},
        "spec": {"selector": {"statefulset.kubernetes.io/pod-name": "spark-master-0"}, "ports": [{"port": 1}]},
    });
    // A volume for many on a disk for one, and one of a class that is not there.
    let claim = |name: &str, class: &str, mode: &str| {
        json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
            "spec": {"storageClassName": class, "accessModes": [mode], "resources": {"requests": {"storage": "1Gi"}}},
        })
    };
    // An image that is not there, of another Spark, and variables that Spark takes for its own.
    let mut items = vec![
        old,
        claim("everywhere", &disk_class(sandbox), "ReadWriteMany"),
        claim("nowhere", &format!("{}-none", sandbox.namespace), "ReadWriteOnce"),
        driver("driver", SPARK, true),
        driver("old-driver", "docker.io/apache/spark:3.0.0", false),
    ];
    // One that needs more memory than it may have, and one whose node cannot mount its volume.
    let mut greedy = driver("greedy-driver", SPARK, false);
    greedy["spec"]["containers"][0]["command"] = json!(["python3", "-c", "b'x' * (1 << 30)"]);
    greedy["spec"]["containers"][0]["resources"] = json!({"limits": {"memory": "64Mi"}});
    let mut nfs = driver("nfs-driver", SPARK, false);
    nfs["spec"]["volumes"] = json!([{"name": "export", "nfs": {"server": "127.0.0.1", "path": "/export"}}]);
    nfs["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "export", "mountPath": "/export"}]);
    items.extend([greedy, nfs]);
    sandbox.apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string());

    // Another sparkha has been here.
    let cluster = sandbox.kubectl(&[
        "get",
        "configmap",
        "spark-sparkha",
        "-o",
        "jsonpath={.data.cluster\\.json}",
    ]);
    let version = |version: &str| format!(r#""sparkhaVersion": "{version}""#);
    let newer = cluster.replace(&version(env!("CARGO_PKG_VERSION")), &version("99.0.0"));
    assert_ne!(newer, cluster);
    patch(
        sandbox,
        "configmap/spark-sparkha",
        &json!({"data": {"cluster.json": newer}}),
    );

    // One worker that cannot resolve any name, when both have their new name.
    sandbox.wait_for(Duration::from_secs(180), "the workers' new names", || {
        let path = "jsonpath={.status.updatedReplicas} {.status.readyReplicas} {.status.currentRevision}={.status.updateRevision}";
        let status = sandbox.kubectl(&["get", "statefulset", "spark-worker", "-o", path]);
        let revisions = status.rsplit(' ').next().and_then(|both| both.split_once('='));
        status.contains("2 ") && revisions.is_some_and(|(one, other)| one == other)
    });
    patch(
        sandbox,
        "statefulset/spark-worker",
        &json!({"spec": {"updateStrategy": last_only, "template": {"spec":
        {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["127.0.0.1"]}}}}}),
    );

    // A network that does not lead a master's traffic back to it, and one that loses what a master sends to a worker.
    let (master, worker) = (address(sandbox, "spark-master-0"), address(sandbox, "spark-worker-0"));
    lose(undo, &master, &master, "7077");
    lose(undo, &master, &worker, "7078");

    // A volume that takes no more.
    let fill = "dd if=/dev/zero of=/data/filler bs=4k 2>&1 | grep 'No space left on device'";
    sandbox.kubectl(&["exec", "spark-worker-0", "--", "bash", "-c", fill]);
}

/// The library that gives a process another time: Linux has one wall clock for all containers of a node.
fn slow_clock() -> String {
    let folders = std::fs::read_dir("/usr/lib").unwrap();
    let mut libraries = folders.map(|folder| folder.unwrap().path().join("faketime/libfaketime.so.1"));
    let library = libraries.find(|library| library.exists());
    library.expect("this needs libfaketime").to_str().unwrap().to_owned()
}

/// It is known, and its kubelet has never said anything.
fn a_node_hangs_on_joining(sandbox: &Sandbox, undo: &mut Undo) {
    let name = format!("{}-hung", sandbox.namespace);
    sandbox.apply(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}).to_string());
    undo.add(move || drop(kubectl(&["delete", "node", &name], None, None)));
}
