//! What goes wrong with nodes, caused on one of three and found by `sparkha doctor`: images that each node has built itself, a full disk, a
//! network plugin that is not there, a network that is down.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use crate::kit::doctor::finds_among_others;
use crate::kit::{Sandbox, Undo, file, testbed};

const CLUSTER: &str = "masters: {count: 2}\nzookeeper: {count: 1}\nworkers: {count: 3}\n";
const READY: &str = "jsonpath={.status.conditions[?(@.type=='Ready')].status}";
const FULL: &str = "jsonpath={.status.conditions[?(@.type=='DiskPressure')].status}";

#[test]
fn every_trouble_of_nodes_is_found() {
    let sandbox = Sandbox::new("sick-nodes");
    let file = file(CLUSTER);
    sandbox.run(&["create", "-f", file.path().to_str().unwrap()]).exits(0);
    sandbox.run(&["doctor"]).exits(0);
    each_node_builds_an_image(&sandbox);
    let node = sandbox.kubectl(&["get", "pod", "spark-worker-2", "-o", "jsonpath={.spec.nodeName}"]);
    a_disk_is_full(&sandbox, &node);
    a_network_plugin_is_missing(&sandbox, &node);
    a_node_is_cut_off(&sandbox, &node);
}

fn node_says(sandbox: &Sandbox, node: &str, path: &str, status: &str) {
    sandbox.wait_for(Duration::from_secs(90), "the node to recover", || {
        sandbox.kubectl_cluster(&["get", "node", node, "-o", path]) == status
    });
}

/// Each from another program.
fn each_node_builds_an_image(sandbox: &Sandbox) {
    let image = "sparkha.test/apart:1";
    let builds = [
        ("testbed-1", "/bin/sleep", json!(["3600"])),
        ("testbed-2", "/usr/bin/tail", json!(["-f", "/etc/hosts"])),
    ];
    for (node, program, args) in builds {
        testbed(&["image", program, image, node]);
        let job = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("job-{node}")},
            "spec": {
                "nodeName": node, "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "driver", "image": image, "args": args,
                    "env": [{"name": "MASTER", "value": "spark://spark-master-0:7077"}],
                }],
            },
        });
        sandbox.apply(&job.to_string());
    }
    let apart = format!("warning images: {image} is not the same image in job-testbed-");
    finds_among_others(sandbox, &[(&apart, "")]);
}

/// The disk of all its pods' volumes. Kubernetes ends the pod that has filled it.
fn a_disk_is_full(sandbox: &Sandbox, node: &str) {
    let fill = "cd /var/spark/work; fallocate --length $(($(df -P -k . | awk 'END {print $4}') - 16384))K filler";
    sandbox.kubectl(&["exec", "spark-worker-2", "--", "bash", "-c", fill]);
    let pressure = format!("{node} has DiskPressure: kubelet has disk pressure");
    let evicted = "warning pods: spark-worker-2 was evicted: The node ";
    finds_among_others(sandbox, &[("warning nodes: ", &pressure), (evicted, "")]);
    node_says(sandbox, node, FULL, "False");
}

fn a_network_plugin_is_missing(sandbox: &Sandbox, node: &str) {
    let state = std::env::var_os("SPARKHA_TESTBED_DIR").unwrap_or_else(|| "/var/tmp/sparkha-testbed".into());
    let folder = PathBuf::from(state).join(node).join("cni");
    let (there, away) = (folder.join("net.d/10-testbed.conflist"), folder.join("away"));
    std::fs::rename(&there, &away).unwrap();
    let mut undo = Undo::new();
    // containerd looks at what is written, not at what is moved there.
    undo.add(|| drop(std::fs::copy(&away, &there)));
    let not_ready = format!("warning nodes: {node} is not ready: ");
    finds_among_others(sandbox, &[(&not_ready, "cni plugin not initialized")]);
    drop(undo);
    node_says(sandbox, node, READY, "True");
}

fn a_node_is_cut_off(sandbox: &Sandbox, node: &str) {
    testbed(&["cut", node]);
    let mut undo = Undo::new();
    undo.add(|| testbed(&["regain", node]));
    let silent = format!("warning nodes: {node} is not ready: Kubelet stopped posting node status.");
    let placed = format!("failed placement: node {node} has not answered since ");
    finds_among_others(sandbox, &[(&silent, ""), (&placed, "")]);
    drop(undo);
    node_says(sandbox, node, READY, "True");
}
