//! A job that counts how often its own tasks ran while workers come and go. It shows tasks that ran twice.

use serde_json::{Value, json};

/// Computes once what it shuffles and what it caches, uses both again and again until so many executors have left, and some
/// times more. Accumulators count the tasks that computed.
pub const LEAVING: &str = r#"
import json, sys, time
from pyspark import SparkContext

sc = SparkContext(appName="leaving")
mapped, kept = sc.accumulator(0), sc.accumulator(0)

def shuffled(part):
    mapped.add(1)
    for x in part:
        yield x % 100, x * x

def cached(part):
    kept.add(1)
    yield from part

def executors():
    return {f"{e.host()}:{e.port()}" for e in sc._jsc.sc().statusTracker().getExecutorInfos()}

pairs = sc.parallelize(range(20000), 8).mapPartitions(shuffled).reduceByKey(lambda a, b: a + b, 8)
numbers = sc.parallelize(range(20000), 8).mapPartitions(cached).cache()

def use():
    total = sum(v for _, v in pairs.collect()) + numbers.sum()
    time.sleep(0.3)
    return total

total, seen, end = use(), executors(), time.time() + 240
print("COMPUTED", flush=True)
while len(seen - executors()) < int(sys.argv[1]) and time.time() < end:
    assert use() == total
    seen |= executors()
    print("SEEN", len(seen), flush=True)
for _ in range(5):
    assert use() == total
print("RESULT " + json.dumps({
    "mapped": mapped.value, "kept": kept.value, "left": len(seen - executors()),
}), flush=True)
"#;

/// Nothing was computed twice. A stage may have been tried once more: executors learn where blocks moved to by failing to fetch them. At least
/// this many executors left: the leader may have started another one on a worker just before it was decommissioned itself.
pub fn assert_unharmed(output: &str, left: u64) {
    let result = output.lines().find_map(|line| line.strip_prefix("RESULT "));
    let result: Value = serde_json::from_str(result.unwrap_or_else(|| panic!("no result:\n{output}"))).unwrap();
    assert_eq!((&result["mapped"], &result["kept"]), (&json!(8), &json!(8)), "{output}");
    assert!(result["left"].as_u64().unwrap() >= left, "{output}");
}
