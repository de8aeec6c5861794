//! A job for the history server, and clients of Spark Connect.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::Run;
use super::local::spark_home;

pub const READY: Duration = Duration::from_secs(180);

pub const JOB: &str = "
from pyspark import SparkConf, SparkContext
sc = SparkContext(conf=SparkConf().setAppName('squares').set('spark.executor.memory', '600m'))
print('RESULT', sc.parallelize(range(1000), 4).map(lambda x: x * x).sum())
sc.stop()
";

/// A remote client: it has no Java. Says the sum of some numbers, and if it is told to in which container a worker of the cluster computes.
const CLIENT: &str = "
import os, sys
from pyspark.sql import SparkSession, functions as F
spark = SparkSession.builder.remote(sys.argv[1]).getOrCreate()
assert 'connect' in type(spark).__module__, type(spark)
print('RESULT', spark.range(1000).agg(F.sum('id')).first()[0])
if len(sys.argv) > 2:
    variable = sys.argv[2]
    place = F.udf(lambda _: os.environ.get(variable, 'nowhere'), useArrow=False)
    print('COMPUTED IN', spark.range(4).select(F.max(place('id'))).first()[0])
spark.stop()
";

/// Python with what a remote client needs beside PySpark itself, kept with the testbed's artefacts.
fn client_python() -> PathBuf {
    let spark = spark_home().file_name().unwrap().display().to_string();
    let folder = spark_home().with_file_name(format!("connect-client-{spark}"));
    let python = folder.join("bin/python");
    if python.exists() {
        return python;
    }
    let new = folder.with_extension(std::process::id().to_string());
    let run = |program: &Path, arguments: &[&str]| Command::new(program).args(arguments).status().unwrap().success();
    assert!(run(Path::new("python3"), &["-m", "venv", new.to_str().unwrap()]));
    let packages = ["pandas<3", "pyarrow", "grpcio", "grpcio-status", "zstandard"];
    let install = [
        &["-m", "pip", "install", "--quiet", "--retries=10", "--only-binary=:all:"],
        &packages[..],
    ]
    .concat();
    let installed = (0..3).any(|_| run(&new.join("bin/python"), &install));
    assert!(installed, "the client's packages cannot be fetched");
    // Another test may have been faster.
    let _ = std::fs::rename(&new, &folder);
    python
}

/// Runs the remote client.
pub fn client(arguments: &[&str]) -> Run {
    let script = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(script.path(), CLIENT).unwrap();
    let libraries = spark_home().join("python");
    let py4j = std::fs::read_dir(libraries.join("lib"))
        .unwrap()
        .flatten()
        .map(|entry| entry.path());
    let py4j = py4j.filter(|path| path.to_str().unwrap().contains("py4j"));
    let path = std::env::join_paths(py4j.chain([libraries])).unwrap();
    let mut python = Command::new(client_python());
    python
        .arg(script.path())
        .args(arguments)
        .env_clear()
        .env("PYTHONPATH", path);
    python.output().unwrap().into()
}

/// A client of this address is told that it needs a token.
pub fn refused(url: &str) {
    let refused = client(&[url]);
    assert!(
        refused.code != Some(0) && refused.stderr.contains("UNAUTHENTICATED"),
        "{}",
        refused.stderr
    );
}
