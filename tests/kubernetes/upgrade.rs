//! Another configuration rolls under a running job, and another version of Spark comes beside it.

use std::time::Duration;

use crate::kit::{Sandbox, pods};

const SOON: Duration = Duration::from_secs(60);

/// Sums in rounds until it is told to end by a file.
const UNTIL_TOLD: &str = r#"
import os, time
from pyspark import SparkContext
context = SparkContext(appName="rounds")
while not os.path.exists("/tmp/end"):
    total = context.parallelize(range(1000), 4).map(lambda x: (x % 10, x * x)).reduceByKey(lambda a, b: a + b, 2).values().sum()
    assert total == 332833500, total
    print("ROUND", flush=True)
    time.sleep(0.5)
"#;

/// Another version, as far as anybody can see: the same image under a name that says none.
const NEXT: &str = "docker.io/apache/spark:next";

#[test]
fn a_roll_and_another_generation_leave_a_job_alone() {
    let sandbox = Sandbox::new("upgrade");
    let before = sandbox.contents();
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = |timeout: u32| {
        format!(
            "masters: {{count: 2}}\nzookeeper: {{count: 1}}\nworkers: {{count: 1}}\nwebUi: {{serviceType: NodePort, nodePort: 30888}}\n\
             sparkConf: {{spark.worker.timeout: {timeout}}}\n"
        )
    };
    std::fs::write(file.path(), text(60)).unwrap();
    let path = file.path().to_str().unwrap();
    sandbox.run(&["create", "-f", path]).exits(0);
    let url = "spark://spark-master-0:7077,spark-master-1:7077";
    pods::start(&sandbox, "rounds", UNTIL_TOLD, url, 0);
    let rounds = || pods::job_log(&sandbox, "rounds").matches("ROUND").count();
    let goes_on = || {
        let before = rounds();
        sandbox.wait_for(SOON, "the job to go on", || rounds() > before + 1);
    };
    goes_on();

    // Another configuration rolls under it.
    std::fs::write(file.path(), text(61)).unwrap();
    sandbox
        .run(&["create", "-f", path, "--yes"])
        .exits(0)
        .says("Pods of spark-master replaced");
    goes_on();

    // Another version is refused under it, and comes beside it.
    sandbox
        .run(&["create", "-f", path, "--image", NEXT, "--yes"])
        .exits(5)
        .says("would kill the running applications");
    let upgrade = ["upgrade", "--side-by-side", "--image", NEXT];
    sandbox
        .run(&[&upgrade[..], &["--drain-timeout", "1s"]].concat())
        .exits(6)
        .says("rounds of ");
    let job = tempfile::Builder::new().suffix(".py").tempfile().unwrap();
    let program = "from pyspark import SparkContext\nprint('SUM', SparkContext().parallelize(range(10), 2).count())\n";
    std::fs::write(job.path(), program).unwrap();
    let submit = [
        "submit",
        "--executor-memory",
        "600m",
        "--",
        job.path().to_str().unwrap(),
    ];
    let run = sandbox.run(&submit).exits(0).says("New jobs of spark run on spark-2");
    assert!(run.stdout.contains("SUM 10"), "{}", run.stdout);
    let of_service =
        |path: &str| sandbox.kubectl(&["get", "service", "spark-master", "-o", &format!("jsonpath={{{path}}}")]);
    let instance = r".spec.selector.app\.kubernetes\.io/instance";
    assert_eq!(of_service(instance), "spark");
    goes_on();

    // Its last application ends the old generation, whose name and port are then the new one's.
    sandbox.kubectl(&["exec", "rounds", "--", "touch", "/tmp/end"]);
    pods::finish_job(&sandbox, "rounds");
    sandbox.run(&upgrade).exits(0).says("In service");
    assert_eq!(of_service(instance), "spark-2");
    assert_eq!(of_service(".spec.ports[0].nodePort"), "30888");
    let state = sandbox.status("spark");
    assert_eq!((&state["name"], &state["alias"]), (&"spark-2".into(), &"spark".into()));
    assert!(sandbox.try_kubectl(&["get", "statefulset", "spark-master"]).is_none());
    sandbox.run(&upgrade).exits(0).says("Nothing to change");

    sandbox.run(&["teardown", "--yes"]).exits(0);
    assert_eq!(sandbox.contents(), before);
}
