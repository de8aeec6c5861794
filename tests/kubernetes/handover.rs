//! A leader that ends hands over: another leads long before its session would have expired. The drill finds the same.

use std::time::{Duration, Instant};

use crate::kit::handover::{SAYS, SESSION, WHOLE, WITHDRAWN, cluster_file, drill_succeeded};
use crate::kit::pods::kill_jvm;
use crate::kit::{Sandbox, leader};

#[test]
fn a_leader_that_ends_hands_over_at_once() {
    let sandbox = Sandbox::unmade("handover");
    let file = cluster_file();
    let path = file.path().to_str().unwrap();
    sandbox.run(&["create", "-f", path]).exits(0);
    let whole = |sandbox: &Sandbox| {
        sandbox.wait_for(WHOLE, "the cluster to be whole", || {
            sandbox.status("spark")["ready"] == true
        });
        leader(&sandbox.status("spark")).unwrap()
    };
    let another_leads = |old: &str| {
        sandbox.wait_for(WITHDRAWN, "another leader", || {
            leader(&sandbox.status("spark")).is_some_and(|leader| leader != old)
        });
    };

    let first = whole(&sandbox);
    kill_jvm(&sandbox, &first);
    another_leads(&first);

    // The drill deletes the leader's pod, and a job goes on.
    let second = whole(&sandbox);
    let log = sandbox.kubectl(&["logs", &first, "--previous"]);
    assert!(log.contains(SAYS), "{log}");
    let report = drill_succeeded(sandbox.run(&["failover", "--yes", "-o", "json"]), &second, WITHDRAWN);
    assert_eq!(report["victim"], second.as_str());
    assert_eq!(report["canary"]["wentOn"], true, "{report}");
    assert!(report["canary"]["results"].as_u64() > Some(1), "{report}");
    let drivers = ["get", "pods", "-l", "app.kubernetes.io/component=driver", "-o", "name"];
    sandbox.wait_for(WHOLE, "its driver's end", || sandbox.kubectl(&drivers).is_empty());
    let third = whole(&sandbox);
    let run = sandbox.run(&["failover", "--hard", "--no-canary", "--yes", "-o", "json"]);
    // Network policies know the pod no more, so its entrypoint may not reach ZooKeeper.
    drill_succeeded(run, &third, SESSION + WITHDRAWN);

    // Masters are replaced one by one, the leader too. No time without a leader is as long as a session.
    whole(&sandbox);
    sandbox.kubectl(&["rollout", "restart", "statefulset/spark-master"]);
    let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
    sandbox.wait_for(WHOLE * 2, "the roll-out", || {
        let state = sandbox.status("spark");
        if leader(&state).is_some() {
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
        state["ready"] == true && state["rollouts"] == serde_json::json!([])
    });
    println!("rolled out; no leader for {:.1} s at most", longest.as_secs_f64());
    assert!(longest < WITHDRAWN, "{longest:?}");
    sandbox.run(&["teardown"]).exits(0);
}
