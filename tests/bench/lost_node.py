"""Loses a node of a local cluster under a running job, and measures how long nobody leads and how long the job stands still; called by lost_node.sh.

A node is here what runs at some pods' addresses. It is lost as a machine that has gone is: its processes are stopped, and every packet from and to
its addresses, and of the connections that its processes had, is dropped at the loopback interface by an nftables table of its own. So nobody gets a
reset: connections are black holes. The supervisor is stopped meanwhile, for it would kill and restart what does not answer, as a kubelet of the lost
node could not.

Ways: `leader` loses the leading master, a worker with an executor of the job, and a ZooKeeper server that follows; `quorum` the same with the one that leads; `worker` loses no master. The job has
an executor on each worker, and in each round a shuffle among all of them and a cached RDD read; whatever else it loses is a false alarm.
"""
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cluster import CLUSTER, SPARKHA, address, create, kill, mode, pods, until

TRIALS = int(os.environ.get("TRIALS", 3))
WAYS = os.environ.get("WAYS", "leader quorum worker").split()
# How long a lost node is watched at most.
WATCHED = float(os.environ.get("WATCHED", 240))
SEED = int(os.environ.get("SEED", time.time()))
SUBMIT = os.environ.get("SUBMIT", "").split()
# Seconds without a leader and of stand-still, at most.
GOALS = {"leader": (float("inf"), 30), "quorum": (float("inf"), 30), "worker": (float("inf"), 30)}
TABLE = f"sparkha_lost_node_{os.getpid()}"
SET_UP = 300

JOB = '''
import sys, time
from pyspark.sql import SparkSession
sc = SparkSession.builder.appName("lost-node").getOrCreate().sparkContext
def slow(part):
    time.sleep(0.2)
    for x in part:
        yield x % 10, x
cached = sc.parallelize(range(60), 6).map(lambda x: x * x).cache()
until = time.monotonic() + float(sys.argv[2])
with open(sys.argv[1], "w", buffering=1) as told:
    while time.monotonic() < until:
        sums = dict(sc.parallelize(range(600), 6).mapPartitions(slow).reduceByKey(lambda a, b: a + b, 6).collect())
        right = sums == {k: sum(range(k, 600, 10)) for k in range(10)} and cached.sum() == sum(x * x for x in range(60))
        told.write(f"{time.monotonic()} {right}\\n")
'''


def descendants(pid):
    """A process and all that it has started."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += [int(child) for child in task.read_text().split()]
            except (FileNotFoundError, ProcessLookupError):
                pass
    return found


class Node:
    """What some pods run, and their addresses."""

    def __init__(self, names):
        self.names = names
        every = {name: record for part in ("master", "worker", "zookeeper") for name, record in pods(part).items()}
        self.pids = [pid for name in names for pid in descendants(every[name]["process"]["pid"])]
        self.addresses = [address(every[name]) for name in names]

    def lose(self):
        kill(self.pids, signal.SIGSTOP)
        # A process's own end of a connection may have another address than its pod's.
        listed = subprocess.run(["ss", "-Htnp", "state", "established"], check=True, capture_output=True, text=True).stdout
        ends = set()
        for line in listed.splitlines():
            owners = {int(pid) for pid in re.findall(r"pid=(\d+)", line)}
            if owners & set(self.pids):
                here, there = (end.removeprefix("[::ffff:").replace("]", "").rsplit(":", 1) for end in line.split()[2:4])
                ends.add(f"{here[0]} . {here[1]} . {there[0]} . {there[1]}")
                ends.add(f"{there[0]} . {there[1]} . {here[0]} . {here[1]}")
        addresses = ", ".join(self.addresses)
        connections = f"elements = {{ {', '.join(sorted(ends))} }}" if ends else ""
        # Where they arrive: a packet dropped where it leaves would be an error to the sender.
        nft(f"""table ip {TABLE} {{
            set connections {{ type ipv4_addr . inet_service . ipv4_addr . inet_service; {connections} }}
            chain input {{
                type filter hook input priority -10;
                ip saddr {{ {addresses} }} drop
                ip daddr {{ {addresses} }} drop
                ip saddr . tcp sport . ip daddr . tcp dport @connections drop
            }}
        }}""")

    def remove(self):
        """The machine will not come back."""
        kill(self.pids, signal.SIGKILL)
        reach()


def nft(script):
    subprocess.run(["nft", "-f", "-"], input=script, text=True, check=True)


def reach():
    subprocess.run(["nft", "delete", "table", "ip", TABLE], stderr=subprocess.DEVNULL)


class Job:
    """A submitted job that tells when each of its rounds ended."""

    def __init__(self, folder, seconds):
        self.folder = Path(folder)
        (self.folder / "job.py").write_text(JOB)
        self.told = self.folder / "told"
        command = [SPARKHA, "submit", "--local", "--detach", "--executor-memory", "512m", "--driver-memory", "512m", *SUBMIT]
        command += ["--", str(self.folder / "job.py"), str(self.told), str(seconds)]
        self.driver = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]

    def rounds(self):
        """When each round ended, and whether its result was right."""
        lines = self.told.read_text().split("\n")[:-1] if self.told.exists() else []
        return [(float(line.split()[0]), line.endswith("True")) for line in lines]

    def log(self):
        path = CLUSTER / "logs" / f"{self.driver}.log"
        return path.read_text() if path.exists() else ""

    def lost_executors(self):
        """Executor IDs that the driver gave up."""
        return set(re.findall(r"Lost executor (\d+) on", self.log()))

    def stand_still(self, since):
        """The longest time without the end of a round, beginning with the last before `since`; what runs still counts."""
        ends = [end for end, _ in self.rounds()]
        ends = [max([end for end in ends if end < since], default=since), *(end for end in ends if end >= since)]
        return max((b - a for a, b in zip(ends, [*ends[1:], time.monotonic()])), default=0.0)


def leader_page(masters):
    import http.client
    leaders = masters.leaders()
    if not leaders:
        return None
    connection = http.client.HTTPConnection(masters.masters[leaders[0]].ip, 8080, timeout=2)
    try:
        connection.request("GET", "/json/")
        return json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return None


def started(masters, folder, seconds):
    job = Job(folder, seconds)
    workers = len(pods("worker"))

    def runs():
        page = leader_page(masters)
        busy = page and sum(worker["coresused"] > 0 for worker in page["workers"])
        return busy == workers and len(job.rounds()) >= 6
    try:
        until(runs, SET_UP, "the job to run on every worker")
    except SystemExit:
        print("".join(job.log().splitlines(True)[-30:]), file=sys.stderr)
        keep_logs("set-up")
        raise
    return job


def keep_logs(name):
    if "KEEP_LOGS" in os.environ:
        subprocess.run(["cp", "-r", str(CLUSTER / "logs"), os.path.join(os.environ["KEEP_LOGS"], name)], check=False)


def lost(way, trial):
    masters = create()
    leader = masters.wait_settled()
    with tempfile.TemporaryDirectory() as folder:
        job = started(masters, folder, WATCHED + 60)
        wanted = "leader" if way == "quorum" else "follower"
        zookeepers = [name for name, record in pods("zookeeper").items() if mode(record) == wanted]
        chosen = [random.choice(sorted(pods("worker"))), random.choice(sorted(zookeepers))]
        node = Node(chosen if way == "worker" else [leader, *chosen])
        masters.forget()
        supervisor = json.loads((CLUSTER / "supervisor.lock").read_text())["pid"]
        before = time.monotonic()
        kill([supervisor], signal.SIGSTOP)
        try:
            node.lose()
            lost_at = time.monotonic()

            def first(states):
                answers = [(answered, state) for name, master in masters.masters.items() if name not in node.names
                           for state, asked, answered in list(master.answers) if asked > lost_at and state in states]
                return min(answers)[0] - before if answers else None

            def goes_on():
                late = [end for end, _ in job.rounds() if end > lost_at]
                # Rounds that do not need what was lost end in between: it goes on once it has lost its executor, and five more have ended.
                given_up = bool(job.lost_executors())
                return given_up and first(["ALIVE"]) and job.stand_still(before) > 0 and len(late) >= 5 and time.monotonic() - late[-5] < 15
            deadline = before + WATCHED
            while not goes_on() and time.monotonic() < deadline:
                time.sleep(0.1)
            elected, alive = first(["RECOVERING", "COMPLETING_RECOVERY", "ALIVE"]), first(["ALIVE"])
            result = {
                "elected": elected, "alive": alive, "still": job.stand_still(before),
                "false": len(job.lost_executors()) - 1, "wrong": sum(not right for _, right in job.rounds()),
                "two": bool(masters.two_alive()),
            }
        finally:
            node.remove()
            kill([supervisor], signal.SIGCONT)
            masters.end()
        keep_logs(f"{way}-{trial}")
    return result, node.names


def main():
    print(f"seed {SEED}", flush=True)
    random.seed(SEED)
    failed = False
    for way in WAYS:
        results = []
        for trial in range(TRIALS):
            result, names = lost(way, trial)
            results.append(result)
            told = ", ".join(f"{key} {value:.2f}" if isinstance(value, float) else f"{key} {value}" for key, value in result.items())
            print(f"{way} {trial}: {told}  ({' '.join(names)})", flush=True)
        for key, goal in zip(("alive", "still"), GOALS[way]):
            took = [result[key] if result[key] is not None else WATCHED for result in results]
            late = max(took) > goal
            failed |= late
            print(f"{way:8} {key:6} median {statistics.median(took):7.2f} min {min(took):7.2f} max {max(took):7.2f}{'  TOO SLOW' if late else ''}", flush=True)
        failed |= any(result["false"] or result["wrong"] or result["two"] for result in results)
    sys.exit(failed)


if __name__ == "__main__":
    main()
