//! Every link of all web UIs leads somewhere, on this machine.

use std::io::{BufRead, BufReader};

use crate::kit::local::{Home, driver, signal};
use crate::kit::server::Group;
use crate::kit::walk::{JOB, Place, WayIn, walk_after_a_failover};

#[test]
fn every_link_leads_somewhere() {
    let home = Home::new();
    // On a machine that is busy with other tests, too, only the master that is killed stops leading. And Spark would otherwise refuse the
    // attack's requests by itself.
    let settings = "zookeeper: {failoverSeconds: 6}\nsparkConf: {spark.ui.killEnabled: 'true'}\n";
    let file = home.folder.path().join("cluster.yaml");
    std::fs::write(&file, format!("masters: {{count: 2}}\n{settings}")).unwrap();
    home.run(&["create", "-f", file.to_str().unwrap()]).exits(0);
    let job = home.folder.path().join("job.py");
    std::fs::write(&job, JOB).unwrap();
    let submit = format!(
        "spark-submit --master \"$SPARK_MASTER_URL\" '{}' 2>'{}'",
        job.display(),
        home.folder.path().join("job.log").display()
    );
    let mut job = Group::start(&mut driver(&home, &submit));
    let mut round = String::new();
    BufReader::new(job.0.stdout.as_mut().unwrap())
        .read_line(&mut round)
        .unwrap();
    assert_eq!(round, "round\n");
    walk_after_a_failover(&Place {
        test: "local",
        namespace: "default",
        driver: "spark-drivers",
        router: "127.0.9.1",
        reach: "auto",
        command: &|arguments| home.command(arguments),
        way_in: WayIn::Router,
        kill: &|pod| signal(home.process("spark", pod), "KILL"),
    });
}
