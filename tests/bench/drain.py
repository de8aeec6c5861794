"""Kills the leading master of a local cluster while a worker is drained under a job; called by drain.sh.

Two workers of two cores, two executors of one core on each: so one executor of the worker that goes ends before the other. The job computes once what it
shuffles and what it caches, and uses both until two executors have left, and five times more. Each trial kills the leader's JVM
another time after the worker was asked to leave (MOMENTS, spread from 0 to LAST seconds), or a little before: then it is asked while nobody leads.
What was computed twice, executors that were killed, and jobs that failed are counted.
"""
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from cluster import CLUSTER, EVERY, FILE, SET_UP, SPARKHA, Job, create, jvm, kill, until

TRIALS = int(os.environ.get("TRIALS", 6))
LAST = float(os.environ.get("LAST", 6))
SEED = int(os.environ.get("SEED", time.time()))
# Each master is killed once in a cluster's life: one that ends again and again is restarted after ever longer pauses.
TRIALS_OF_A_CLUSTER = 3
GOES = "spark-worker-1"

LEAVING = """
import json, sys, time
from pyspark.sql import SparkSession

sc = SparkSession.builder.appName("leaving").getOrCreate().sparkContext
mapped, kept = sc.accumulator(0), sc.accumulator(0)

def shuffled(part):
    mapped.add(1)
    for x in part:
        yield x % 100, x * x

def cached(part):
    kept.add(1)
    yield from part

# Some tasks take longer than others: executors end one after another.
def slowly(index, part):
    time.sleep(index % 4)
    yield from part

def executors():
    return {f"{e.host()}:{e.port()}" for e in sc._jsc.sc().statusTracker().getExecutorInfos()}

pairs = sc.parallelize(range(20000), 16).mapPartitions(shuffled).reduceByKey(lambda a, b: a + b, 8)
numbers = sc.parallelize(range(20000), 16).mapPartitions(cached).cache()

def use():
    return sum(v for _, v in pairs.mapPartitionsWithIndex(slowly).collect()) + numbers.sum()

total, seen, end = use(), executors(), time.time() + 150
print("COMPUTED", flush=True)
while len(seen - executors()) < 2 and time.time() < end:
    assert use() == total
    seen |= executors()
for _ in range(3):
    assert use() == total
print("RESULT " + json.dumps({"mapped": mapped.value, "kept": kept.value, "left": len(seen - executors())}), flush=True)
"""
CONF = ["spark.executor.memory=600m", "spark.executor.cores=1", "spark.cores.max=4"]


def worker_log():
    """The log of the worker that goes, in all its runs."""
    return "".join(log.read_text(errors="replace") for log in (CLUSTER / "logs").glob(f"{GOES}*.log"))


def trial(masters, folder, moment):
    leader = masters.wait_settled()
    masters.forget()
    before = len(worker_log())
    job = Job(folder, LEAVING, conf=CONF)
    job.wait_for("COMPUTED", SET_UP)
    if moment < 0:
        kill([jvm(leader)], signal.SIGKILL)
        time.sleep(-moment / 4)
    scale = subprocess.Popen([SPARKHA, "scale", "--local", "--workers", "1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if moment >= 0:
        until(lambda: "decommissioning the worker's executors" in worker_log()[before:], SET_UP, f"{GOES} to be asked to leave")
        time.sleep(moment)
        kill([jvm(leader)], signal.SIGKILL)
    began = time.monotonic()
    while scale.poll() is None:
        masters.follow()
        time.sleep(EVERY)
    scaled, log = time.monotonic() - began, worker_log()[before:]
    (folder / "worker.log").write_text(log)
    code = job.end(240)
    result = json.loads(job.said("RESULT ")[0][7:]) if code == 0 else None
    what = {
        "computed twice": (result["mapped"] + result["kept"] - 32) if result else None,
        "killed": log.count("Asked to kill executor"),
        "registered anew": log.count("Successfully registered with master"),
        "lost": job.logged("Lost executor"),
        "fetches failed": job.logged("FetchFailed("),
        "resubmitted": job.logged("Resubmitted"),
        "left": result and result["left"],
    }
    subprocess.run([SPARKHA, "scale", "--local", "--workers", "2"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    harmed = code != 0 or scale.returncode != 0 or what["computed twice"] != 0 or what["killed"] > 0
    print(f"{moment:6.2f} s  job {code}, scale {scale.returncode} after {scaled:4.1f} s, "
          + ", ".join(f"{key} {value}" for key, value in what.items()) + ("  HARMED" if harmed else ""), flush=True)
    return harmed


def main():
    print(f"seed {SEED}: when the leader was killed, from when the worker was asked to leave", flush=True)
    moments = [LAST * index / TRIALS - 0.5 for index in range(TRIALS)]
    random.Random(SEED).shuffle(moments)
    harmed = 0
    folder = Path(FILE).parent / "jobs"
    for index, moment in enumerate(moments):
        if index % TRIALS_OF_A_CLUSTER == 0:
            masters = create()
        harmed += trial(masters, folder / str(index), moment)
        if (index + 1) % TRIALS_OF_A_CLUSTER == 0 or index + 1 == TRIALS:
            masters.end()
    print(f"{TRIALS} leaders killed in a drain: {harmed} jobs harmed", flush=True)
    sys.exit(harmed > 0)


main()
