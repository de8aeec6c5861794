"""Ends the leading master of a local cluster under a job that runs all the time, and counts the executors that the job lost; called by takeover.sh.

WAYS of ending, in turn: `pod` sends SIGTERM to the entrypoint, as a kubelet does; `jvm` kills the JVM. Each master was restarted before in a cluster's second and third
trial, so workers have to connect to it anew.
"""
import os
import signal
import sys
from pathlib import Path

from cluster import CLUSTER, FILE, SET_UP, Job, create, entrypoint, jvm, kill, until

WAYS = os.environ.get("WAYS", "pod jvm").split()
TRIALS = int(os.environ.get("TRIALS", 6))
TRIALS_OF_A_CLUSTER = 3

ENDLESS = """
import time
from pyspark.sql import SparkSession

sc = SparkSession.builder.appName("endless").getOrCreate().sparkContext
executors = lambda: sorted(e.host() + ":" + str(e.port()) for e in sc._jsc.sc().statusTracker().getExecutorInfos())
while True:
    sc.parallelize(range(1000), 8).map(lambda x: (x % 10, x)).reduceByKey(lambda a, b: a + b, 4).collect()
    print("ROUND", *executors(), flush=True)
    time.sleep(0.2)
"""
CONF = ["spark.executor.memory=600m", "spark.executor.cores=1", "spark.cores.max=4"]


def logs(part):
    return "".join(log.read_text(errors="replace") for log in sorted((CLUSTER / "logs").glob(f"spark-{part}-*.log")))


def wait_for_executors(job, within=SET_UP):
    until(lambda: job.said("ROUND") and len(job.said("ROUND")[-1].split()) == 6, within, "four executors and the driver")


def trial(way, masters, job):
    leader = masters.wait_settled()
    wait_for_executors(job)
    masters.forget()
    until(lambda: masters.leaders() == [leader], SET_UP, "its answer")
    before = len(logs("worker"))
    lost = job.logged("Lost executor")
    if way == "jvm":
        kill([jvm(leader)], signal.SIGKILL)
    else:
        kill([entrypoint(leader)], signal.SIGTERM)
    until(lambda: masters.leaders() and masters.leaders()[0] != leader, SET_UP, "another leader")
    masters.wait_settled()
    rounds = len(job.said("ROUND"))
    until(lambda: len(job.said("ROUND")) > rounds + 1, SET_UP, "the job to go on")
    log = logs("worker")[before:]
    both = masters.two_alive()
    what = {"": way, "two ALIVE": len(both), "without a leader": f"{masters.longest_without()[0]:.2f} s", "duplicate": log.count("Duplicate registration"),
            "killed": log.count("Asked to kill executor"), "lost": job.logged("Lost executor") - lost}
    print(", ".join(f"{key} {value}".strip() for key, value in what.items()) + ("  HARMED" if what["killed"] or what["lost"] or both else ""), flush=True)
    return bool(what["killed"] or what["lost"] or both)


def main():
    harmed = 0
    folder = Path(FILE).parent / "jobs"
    for index in range(TRIALS):
        if index % TRIALS_OF_A_CLUSTER == 0:
            masters = create()
            job = Job(folder / str(index), ENDLESS, conf=CONF)
        harmed += trial(WAYS[index % len(WAYS)], masters, job)
        if (index + 1) % TRIALS_OF_A_CLUSTER == 0 or index + 1 == TRIALS:
            job.process.kill()
            job.process.wait()
            masters.end()
    print(f"{TRIALS} leaders ended: executors lost in {harmed}", flush=True)
    sys.exit(harmed > 0)


if __name__ == "__main__":
    main()
