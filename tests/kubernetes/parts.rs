//! What a cluster has beside masters and workers if its file says so: the history server, Spark Connect, metrics, TLS.

use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::kit::connect::{JOB, READY, client, refused};
use crate::kit::server::Server;
use crate::kit::{Sandbox, certificates, kubeconfig};

#[test]
fn history_and_connect_serve_their_users() {
    let sandbox = Sandbox::new("parts");
    let before = sandbox.contents();
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = "masters: {count: 1}\nworkers: {count: 1, cores: 2, memory: 3Gi, resources: {requests: {cpu: 100m}}}\nmetrics: {podMonitor: true}\n\
                history: {eventLogs: {newClaim: {size: 1Gi}}}\n\
                connect: {executorMemory: 600m, resources: {requests: {cpu: 100m}}}\ntls: {secret: spark-tls}\n";
    std::fs::write(file.path(), text).unwrap();
    let folder = tempfile::tempdir().unwrap();
    certificates::secret(folder.path());
    let keys = ["tls.crt", "tls.key", "ca.crt"].map(|key| format!("--from-file={}", folder.path().join(key).display()));
    let create_secret = ["create", "secret", "generic", "spark-tls"];
    sandbox.kubectl(
        &create_secret
            .into_iter()
            .chain(keys.iter().map(String::as_str))
            .collect::<Vec<_>>(),
    );
    let create = ["create", "-f", file.path().to_str().unwrap(), "-o", "json"];
    let created = sandbox.run(&create).exits(0).says("does not serve PodMonitor");
    assert_eq!(created.json()["history"]["ready"], true);
    let url = format!("sc://spark-connect.{}:15002", sandbox.namespace);
    assert_eq!(created.json()["connect"]["url"], url);

    let forward = created.json()["connect"]["forward"].as_str().unwrap().to_owned();
    clients_from_outside_need_the_token(&sandbox, &forward);

    sandbox.apply(&job_pod().to_string());
    let phase = || sandbox.kubectl(&["get", "pod", "job", "-o", "jsonpath={.status.phase}"]);
    sandbox.wait_for(Duration::from_secs(180), "the job's end", || {
        matches!(phase().as_str(), "Succeeded" | "Failed")
    });
    let log = sandbox.kubectl(&["logs", "job"]);
    assert_eq!(phase(), "Succeeded", "{log}");
    assert!(log.contains("RPC SSL enabled"), "{log}");
    let path = format!(
        "/api/v1/namespaces/{}/services/spark-history:18080/proxy/api/v1/applications?status=completed",
        sandbox.namespace
    );
    sandbox.wait_for(READY, "the job's history", || {
        let listed = sandbox.try_kubectl(&["get", "--raw", &path]).unwrap_or_default();
        listed.contains("\"squares\"")
    });
    sandbox.kubectl(&["delete", "pod/job", "configmap/job", "--grace-period=0", "--force"]);

    sandbox
        .run(&["teardown", "--keep-data"])
        .exits(0)
        .says("1 volume claim kept");
    let kept = "persistentvolumeclaim/events-spark-history-0";
    assert!(sandbox.contents().iter().any(|object| object == kept));
    sandbox.kubectl(&["delete", kept, "secret/spark-tls"]);
    assert_eq!(sandbox.contents(), before);
}

fn clients_from_outside_need_the_token(sandbox: &Sandbox, forward: &str) {
    // As it is told, but for a port that somebody else may have.
    let forward = forward.replace(" 15002", " 15902:15002");
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &format!("exec {forward}")])
        .env("KUBECONFIG", kubeconfig());
    let _forward = Server::start(&mut shell);
    sandbox.wait_for(READY, "the port-forward", || {
        TcpStream::connect(("127.0.0.1", 15902)).is_ok()
    });
    let url = sandbox.run(&["connect-url", "--forwarded"]).exits(0).stdout;
    let url = url.trim_end().replace(":15002", ":15902");
    let said = client(&[&url]).exits(0).stdout;
    assert!(said.contains("RESULT 499500"), "{said}");
    refused("sc://localhost:15902");
    // In clients' own words for a token, which they send to this host alone without TLS.
    let said = client(&[&url.replace("authorization=Bearer%20", "token=")])
        .exits(0)
        .stdout;
    assert!(said.contains("RESULT 499500"), "{said}");
}

/// A user's own driver, as docs/jobs.md has it: the cluster's configuration, and the volume with event logs.
fn job_pod() -> Value {
    let job = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "job"}, "data": {"job.py": JOB}});
    let driver = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "job", "labels": {
            "app.kubernetes.io/instance": "spark", "app.kubernetes.io/component": "driver",
        }},
        "spec": {
            "restartPolicy": "Never", "enableServiceLinks": false, "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 185, "runAsGroup": 185, "fsGroup": 185,
                "seccompProfile": {"type": "RuntimeDefault"}},
            "volumes": [
                {"name": "job", "configMap": {"name": "job"}}, {"name": "tmp", "emptyDir": {}},
                {"name": "conf", "configMap": {"name": "spark-conf"}}, {"name": "auth", "secret": {"secretName": "spark-auth"}},
                {"name": "tls", "secret": {"secretName": "spark-tls"}},
                {"name": "events", "persistentVolumeClaim": {"claimName": "events-spark-history-0"}},
            ],
            "containers": [{
                "name": "driver", "image": "docker.io/apache/spark:4.3.0",
                "command": ["bash", "-c", ". /etc/spark/secret.sh; exec /opt/spark/bin/spark-submit \
                    --properties-file \"$(with_secret spark-defaults.conf)\" --master spark://spark-master-0:7077 \
                    --conf spark.driver.host=$POD_IP --conf spark.jars.ivy=/tmp/ivy /job/job.py"],
                "env": [
                    {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    {"name": "SPARK_CONF_DIR", "value": "/etc/spark"},
                ],
                "resources": {"requests": {"cpu": "50m", "memory": "900Mi"}},
                "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]}},
                "volumeMounts": [
                    {"name": "job", "mountPath": "/job"}, {"name": "tmp", "mountPath": "/tmp"},
                    {"name": "conf", "mountPath": "/etc/spark"}, {"name": "auth", "mountPath": "/etc/spark-auth"},
                    {"name": "tls", "mountPath": "/etc/spark-tls"},
                    {"name": "events", "mountPath": "/var/spark/events"},
                ],
            }],
        },
    });
    json!({"apiVersion": "v1", "kind": "List", "items": [job, driver]})
}
