"""Keeps the machine busy beside a local cluster with a job, and counts what is taken for lost though it is not; called by false_alarms.sh.

LOAD busy loops run for MINUTES. In the middle the driver is paused for PAUSE seconds, as by a collection of garbage. Counted are masters that ended (their entrypoints kill what
was paused for longer than its session lives), changes of leaders, also of the ZooKeeper servers', workers and executors that were given up, and how long a leader's recovery took.
"""
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from cluster import FILE, SET_UP, Job, children, create, jvm, kill, mode, pods, until
from takeover import CONF, ENDLESS, logs, wait_for_executors

LOAD = int(os.environ.get("LOAD", 4 * os.cpu_count()))
MINUTES = float(os.environ.get("MINUTES", 10))
PAUSE = float(os.environ.get("PAUSE", 20))


@contextmanager
def busy():
    """Busy loops beside what is done meanwhile."""
    loops = [subprocess.Popen(["bash", "-c", "while :; do :; done"]) for _ in range(LOAD)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def descendants(pid):
    return [pid, *(each for child in children(pid) for each in descendants(child))]


def main():
    masters = create()
    leader = masters.wait_settled()
    jvms = {name: jvm(name) for name in pods("master")}
    job = Job(Path(FILE).parent / "job", ENDLESS, conf=CONF)
    wait_for_executors(job)
    leads = [name for name, record in pods("zookeeper").items() if mode(record) == "leader"]
    before = {part: len(logs(part)) for part in ("master", "worker")}
    with busy():
        time.sleep(MINUTES * 30)
        driver = descendants(job.process.pid)
        kill(driver, signal.SIGSTOP)
        time.sleep(PAUSE)
        kill(driver, signal.SIGCONT)
        time.sleep(MINUTES * 30)
        load = os.getloadavg()[0]
    rounds = len(job.said("ROUND"))
    until(lambda: len(job.said("ROUND")) > rounds, SET_UP, "the job to go on")
    log = {part: logs(part)[length:] for part, length in before.items()}
    what = {
        "masters ended": sum(jvm(name) != pid for name, pid in jvms.items()),
        "other leader": masters.leaders() != [leader],
        "other leader of ZooKeepers": [name for name, record in pods("zookeeper").items() if mode(record) == "leader"] != leads,
        "workers lost": log["master"].count("Removing worker"),
        "executors killed": log["worker"].count("Asked to kill executor"),
        "executors lost": job.logged("Lost executor"),
    }
    job.process.kill()
    job.process.wait()
    print(f"load {load:.0f}, {rounds} rounds: " + ", ".join(f"{key} {int(value)}" for key, value in what.items()))
    # And how long those that live take to answer a new leader on a machine that busy.
    with busy():
        job = Job(Path(FILE).parent / "second", ENDLESS, conf=CONF)
        wait_for_executors(job, 5 * SET_UP)
        kill([jvm(masters.leaders()[0])], signal.SIGKILL)
        time.sleep(5)
        until(masters.leaders, SET_UP, "another leader")
    took = [int(ms) for ms in re.findall(r"Recovery complete in (\d+) ms", logs("master"))]
    print(f"recovery of the next leader: {max(took, default=0)} ms")
    job.process.kill()
    job.process.wait()
    masters.end()
    sys.exit(any(what.values()))


main()
