//! Pods on the real cluster: drivers that a user makes, and what pods may not be.

use std::time::Duration;

use super::Sandbox;

/// A job with a shuffle across all workers: sums squares by key, and takes some seconds.
const JOB: &str = r#"
import sys, time
from pyspark import SparkContext
sc = SparkContext(appName="shuffle")
rounds = int(sys.argv[1])
total = 0
for n in range(rounds):
    pairs = sc.parallelize(range(20000), 8).map(lambda x: (x % 100, x * x))
    total = sum(v for _, v in pairs.reduceByKey(lambda a, b: a + b, 8).collect())
    print("round", n, flush=True)
    time.sleep(0.5)
hosts = sc.parallelize(range(64), 64).map(lambda _: __import__("socket").gethostname()).distinct().collect()
print("RESULT", total, "on", len(hosts), "hosts", flush=True)
"#;

/// A driver pod of the restricted kind, as a user would run one.
pub fn start_job(sandbox: &Sandbox, name: &str, masters: &str, rounds: u32) {
    start(sandbox, name, JOB, masters, rounds);
}

/// The same with another program.
pub fn start(sandbox: &Sandbox, name: &str, program: &str, masters: &str, argument: u32) {
    let job = serde_json::json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"job.py": program},
    });
    let driver = serde_json::json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {
            "app.kubernetes.io/instance": "spark", "app.kubernetes.io/component": "driver",
        }},
        "spec": {
            "restartPolicy": "Never", "enableServiceLinks": false, "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 185, "seccompProfile": {"type": "RuntimeDefault"}},
            "volumes": [{"name": "job", "configMap": {"name": name}}, {"name": "tmp", "emptyDir": {}},
                {"name": "conf", "configMap": {"name": "spark-conf"}}, {"name": "auth", "secret": {"secretName": "spark-auth"}}],
            "containers": [{
                "name": "driver", "image": "docker.io/apache/spark:4.3.0",
                "command": ["bash", "-c", ". /etc/spark/secret.sh; exec /opt/spark/bin/spark-submit \
                    --properties-file \"$(with_secret spark-defaults.conf)\" \"$@\"", "bash", "--master", masters,
                    "--conf", "spark.driver.host=$(POD_IP)", "--conf", "spark.cores.max=2",
                    "--conf", "spark.executor.cores=1", "--conf", "spark.executor.memory=600m",
                    "--conf", "spark.jars.ivy=/tmp/ivy", "/job/job.py", argument.to_string()],
                "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    {"name": "SPARK_CONF_DIR", "value": "/etc/spark"}],
                "resources": {"requests": {"cpu": "50m", "memory": "900Mi"}},
                "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]}},
                "volumeMounts": [{"name": "job", "mountPath": "/job"}, {"name": "tmp", "mountPath": "/tmp"},
                    {"name": "conf", "mountPath": "/etc/spark"}, {"name": "auth", "mountPath": "/etc/spark-auth"}],
            }],
        },
    });
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": [job, driver]});
    sandbox.apply(&list.to_string());
}

/// What the job's driver has written; empty if it cannot be read.
pub fn job_log(sandbox: &Sandbox, name: &str) -> String {
    sandbox.try_kubectl(&["logs", name, "--tail=-1"]).unwrap_or_default()
}

/// Waits for the job's end, and removes it.
pub fn finish_job(sandbox: &Sandbox, name: &str) -> String {
    let phase = || sandbox.kubectl(&["get", "pod", name, "-o", "jsonpath={.status.phase}"]);
    sandbox.wait_for(Duration::from_secs(180), "the job's end", || {
        matches!(phase().as_str(), "Succeeded" | "Failed")
    });
    let log = job_log(sandbox, name);
    assert_eq!(phase(), "Succeeded", "{log}");
    sandbox.kubectl(&["delete", "pod", name, "--grace-period=0", "--force"]);
    sandbox.kubectl(&["delete", "configmap", name]);
    log
}

/// The rules of the restricted Pod Security level, for servers too old to enforce it. How many pods there are.
pub fn every_pod_is_restricted(sandbox: &Sandbox) -> usize {
    let pods: serde_json::Value = serde_json::from_str(&sandbox.kubectl(&["get", "pods", "-o", "json"])).unwrap();
    let pods = pods["items"].as_array().unwrap();
    let admitted = [
        "configMap",
        "emptyDir",
        "secret",
        "persistentVolumeClaim",
        "projected",
        "downwardAPI",
        "csi",
        "ephemeral",
    ];
    for pod in pods {
        let name = pod["metadata"]["name"].as_str().unwrap();
        let spec = &pod["spec"];
        assert_eq!(spec["securityContext"]["runAsNonRoot"], true, "{name}");
        // sparkha's own asks the API server, Spark's never.
        let is_spark_s = pod["metadata"]["labels"]["app.kubernetes.io/name"] == "spark";
        if is_spark_s {
            assert_eq!(spec["securityContext"]["runAsUser"], 185, "{name}");
            assert_eq!(spec["automountServiceAccountToken"], false, "{name}");
        }
        assert_eq!(
            spec["securityContext"]["seccompProfile"]["type"], "RuntimeDefault",
            "{name}"
        );
        assert_eq!(spec["enableServiceLinks"], false, "{name}");
        for host in ["hostNetwork", "hostPID", "hostIPC"] {
            assert!(spec[host].is_null(), "{name}: {host}");
        }
        for volume in spec["volumes"].as_array().unwrap() {
            let kinds: Vec<_> = volume
                .as_object()
                .unwrap()
                .keys()
                .filter(|key| *key != "name")
                .collect();
            assert!(
                kinds.iter().all(|kind| admitted.contains(&kind.as_str())),
                "{name}: {volume}"
            );
        }
        for container in spec["containers"].as_array().unwrap() {
            let security = &container["securityContext"];
            assert_eq!(security["allowPrivilegeEscalation"], false, "{name}");
            assert_eq!(security["readOnlyRootFilesystem"], true, "{name}");
            assert_eq!(security["capabilities"]["drop"], serde_json::json!(["ALL"]), "{name}");
            assert!(security["capabilities"]["add"].is_null(), "{name}");
        }
    }
    pods.len()
}

/// Kills what a pod's entrypoint has started, and not the entrypoint.
pub fn kill_jvm(sandbox: &Sandbox, pod: &str) {
    let kill = "kill -9 $(cat /proc/1/task/1/children)";
    sandbox.kubectl(&["exec", pod, "--", "bash", "-c", kill]);
}
