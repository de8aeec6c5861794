//! Every link of all web UIs leads somewhere, on Kubernetes.

use crate::kit::pods::job_log;
use crate::kit::walk::{JOB, Place, READY, WayIn, walk_after_a_failover};
use crate::kit::{Sandbox, file};

#[test]
fn every_link_leads_somewhere() {
    let sandbox = Sandbox::unmade("browser");
    // On a machine that is busy with other tests, too, only the master that is killed stops leading.
    let file = file("zookeeper: {failoverSeconds: 6}\n");
    sandbox.run(&["create", "-f", file.path().to_str().unwrap()]).exits(0);
    let job = serde_json::json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "job"}, "data": {"job.py": JOB},
    });
    sandbox.apply(&job.to_string());
    sandbox.apply(include_str!("../../demo/driver.yaml"));
    sandbox.wait_for(READY, "the application's first round", || {
        job_log(&sandbox, "driver").contains("round")
    });
    walk_after_a_failover(&Place {
        test: "kubernetes",
        namespace: &sandbox.namespace,
        driver: "driver",
        router: "127.0.9.2",
        reach: "direct",
        command: &|arguments| sandbox.command(arguments),
        way_in: WayIn::Ui,
        kill: &|pod| drop(sandbox.kubectl(&["delete", "pod", pod, "--grace-period=0", "--force"])),
    });
    sandbox.kubectl(&["delete", "pod", "driver", "--grace-period=0", "--force"]);
    // The leader may not know of its end yet.
    sandbox.run(&["teardown", "--yes"]).exits(0);
}
