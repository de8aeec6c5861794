"""Pauses the leading master of a local cluster under a job, lets it go on, and looks for traces of two masters that act; called by pause_leader.sh.

Ways of pausing: `jvm` stops the JVM alone (SIGSTOP); `pod` freezes the JVM and its entrypoint together (a freezer control group), so that both go on at the same
moment, as when a container, a virtual machine or a node was suspended. A pause shorter than a session lives must change nothing; after a longer one
the job must go on with the executors that it had, its driver may hear of no lost worker, no two masters are ALIVE, and ZooKeeper
has a znode for each worker and application that the leader knows. A master that wakes together with its entrypoint may answer a question before it is
killed: that is told, and harm only if it answers what was asked more than half a second later.
"""
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from cluster import FILE, SET_UP, Job, address, create, entrypoint, jvm, kill, children, pods, until

WAYS = os.environ.get("WAYS", "jvm pod").split()
# Seconds of each pause; those below a session's length change nothing.
PAUSES = [float(pause) for pause in os.environ.get("PAUSES", "0.5 3 10 30 90").split()]
SESSION = 2
TRIALS = int(os.environ.get("TRIALS", len(WAYS) * len(PAUSES)))
FIRST = int(os.environ.get("FIRST", 0))
# Each master ends once in a cluster's life: see drain.py.
TRIALS_OF_A_CLUSTER = 3
FREEZER = Path("/sys/fs/cgroup/freezer")

ENDLESS = """
import time
from pyspark.sql import SparkSession

sc = SparkSession.builder.appName("endless").getOrCreate().sparkContext
executors = lambda: sorted(e.host() + ":" + str(e.port()) for e in sc._jsc.sc().statusTracker().getExecutorInfos())
while True:
    began = time.time()
    sc.parallelize(range(1000), 4).map(lambda x: (x % 10, x)).reduceByKey(lambda a, b: a + b, 4).collect()
    print("ROUND", *executors(), flush=True)
    time.sleep(0.5)
"""


class Frozen:
    """Processes that stand still until they are let go."""

    def __init__(self, way, leader):
        self.leader = leader
        self.pids = [jvm(leader)]
        self.group = None
        if way == "pod":
            self.pids = [entrypoint(leader), *children(entrypoint(leader))]
            self.group = FREEZER / f"sparkha-bench-{os.getpid()}"
            self.group.mkdir()
            for pid in self.pids:
                (self.group / "cgroup.procs").write_text(str(pid))
            (self.group / "freezer.state").write_text("FROZEN")
        else:
            kill(self.pids, signal.SIGSTOP)

    def thaw(self):
        if self.group:
            (self.group / "freezer.state").write_text("THAWED")
            for pid in (self.group / "cgroup.procs").read_text().split():
                try:
                    (FREEZER / "cgroup.procs").write_text(pid)
                except OSError:
                    pass
            try:
                self.group.rmdir()
            except OSError:
                until(self.rmdir, 30, "the frozen processes to end")
        else:
            kill(self.pids, signal.SIGCONT)

    def rmdir(self):
        try:
            for pid in (self.group / "cgroup.procs").read_text().split():
                (FREEZER / "cgroup.procs").write_text(pid)
            self.group.rmdir()
            return True
        except OSError:
            return False


def znodes(master):
    """What ZooKeeper has of workers and applications, asked as the master's own entrypoint asks."""
    environment = dict(line.split("=", 1) for line in Path(f"/proc/{entrypoint(master)}/environ").read_text().split("\0") if "=" in line)
    script = '''
        . "$SPARK_CONF_DIR/secret.sh"; . "$SPARK_CONF_DIR/zookeeper-client.sh"
        open_session "$1:2181"; begin 3 8; string "$2/master_status"; request+=00; operate
        at=8
        children=$answer
        while [ $at -lt ${#children} ]; do
          length=$((16#${children:at:8} * 2))
          bytes_of "${children:at+8:length}"
          printf "$bytes\\n"
          at=$((at + 8 + length))
        done
        close_session'''
    server = address(next(iter(pods("zookeeper").values())))
    listed = subprocess.run(["bash", "-c", script, "znodes", server, "/spark"], env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return set(listed.stdout.split())


def known(master):
    """What a leader knows of workers and applications, by the names of their znodes."""
    connection = http.client.HTTPConnection(master.ip, 8080, timeout=5)
    connection.request("GET", "/json/")
    page = json.loads(connection.getresponse().read())
    workers = {"worker_" + worker["id"] for worker in page["workers"] if worker["state"] == "ALIVE"}
    return workers | {"app_" + app["id"] for app in page["activeapps"]}


def trial(masters, job, way, pause):
    leader = masters.wait_settled()
    masters.forget()
    rounds, logged, processes = len(job.lines), job.log.stat().st_size, jvm(leader)
    executors = job.lines[-1]
    frozen = Frozen(way, leader)
    began = time.monotonic()
    other = None
    try:
        while time.monotonic() - began < pause:
            if not other and [name for name in masters.leaders() if name != leader]:
                other = time.monotonic() - began
            time.sleep(0.02)
    finally:
        frozen.thaw()
    woke, woken = time.monotonic(), masters.masters[leader]
    time.sleep(3)
    after = masters.wait_settled()
    went_on = len(job.lines)
    until(lambda: len(job.lines) > went_on + 3 or job.process.poll() is not None, 60, "the job to go on")
    told = [line for line in job.log.read_bytes()[logged:].decode(errors="replace").splitlines()
            if any(word in line for word in ("Lost executor", "worker lost", "Not receiving heartbeat", "got disassociated", "Worker removed"))]
    late = [(asked - woke, answered - woke) for state, asked, answered in list(woken.answers) if other and state == "ALIVE" and answered > woke]
    missing = known(masters.masters[after]) - znodes(after)
    wrong = {
        "job ended": job.process.poll() is not None,
        "executors changed": job.lines[-1] != executors,
        "driver heard of a lost worker": bool(told),
        "znodes missing": bool(missing),
        "two ALIVE": any(asked > 0.5 for asked, _ in late) if way == "pod" else bool(masters.two_alive()),
        "failed over": pause < SESSION / 2 and (after != leader or jvm(leader) != processes),
    }
    harm = [name for name, is_so in wrong.items() if is_so]
    print(f"{way:4} {pause:5.1f} s  another led after {other or 0:5.2f} s; {', '.join(harm) or 'well'}", *([f"(answered ALIVE until {late[-1][1]:.3f} s after it woke)"] if late else []),
          *told[:3], *sorted(missing), flush=True)
    return bool(harm)


def main():
    harmed = 0
    cases = [(way, pause) for pause in PAUSES for way in WAYS]
    folder = Path(FILE).parent / "jobs"
    job = None
    for index in range(TRIALS):
        if index % TRIALS_OF_A_CLUSTER == 0:
            if job:
                job.process.kill()
                job.end(30)
                masters.end()
            masters = create()
            masters.wait_settled()
            job = Job(folder / str(index), ENDLESS, conf=["spark.executor.memory=600m"])
            job.wait_for("ROUND", SET_UP)
            until(lambda: len(job.lines) > 5, SET_UP, "the job to run")
        harmed += trial(masters, job, *cases[(FIRST + index) % len(cases)])
    job.process.kill()
    job.end(30)
    masters.end()
    print(f"{TRIALS} pauses: {harmed} with harm", flush=True)
    sys.exit(harmed > 0)


main()
