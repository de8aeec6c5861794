"""Loses the leading master of a local cluster again and again, and measures until one is ALIVE again; called by failover.sh.

Every master is asked for its state each 20 ms over a kept connection.

Ways of losing the leader: `jvm` kills its JVM; `pod` ends its entrypoint as a kubelet does (SIGTERM); `container` kills entrypoint and JVM together;
`node` stops both, as if the machine had gone, and kills them once another leads; `revoked` kills the ZooKeeper server that it is connected to;
`quorum` stops two of the three ZooKeepers until nobody leads, and measures from when they go on; `roll` replaces all masters one after another by a
change of the cluster file, and measures the longest time without a leader in each roll-out.
"""
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

from cluster import EVERY, FILE, SET_UP, SPARKHA, children, create, entrypoint, kill, pods, until, zookeeper_of

TRIALS = int(os.environ.get("TRIALS", 20))
LOAD = float(os.environ.get("LOAD", 0))
WAYS = os.environ.get("WAYS", "jvm pod container node revoked quorum roll").split()
# Median and maximum, in seconds.
GOALS = {"jvm": (3, 3), "pod": (1, 2), "container": (1, 2), "node": (3, 3), "revoked": (3, 3), "quorum": (30, 30), "roll": (1, 1)}
# What ends again and again is restarted after ever longer pauses: after so many trials the cluster is made anew. A container that ends is
# withdrawn when it is restarted: each master's first time only, for in a later pause it is the session's end that counts.
TRIALS_OF_A_CLUSTER = {"container": 3}


def lose(way, leader):
    """Does away with the leader; what is to be done once another leads."""
    pid = entrypoint(leader)
    if way == "jvm":
        kill(children(pid), signal.SIGKILL)
    elif way == "pod":
        kill([pid], signal.SIGTERM)
    elif way == "container":
        kill([*children(pid), pid], signal.SIGKILL)
    elif way == "node":
        both = [pid, *children(pid)]
        kill(both, signal.SIGSTOP)
        return lambda: kill(both, signal.SIGKILL)
    elif way == "revoked":
        server = zookeeper_of(leader)
        kill([entrypoint(server)], signal.SIGKILL)
    elif way == "quorum":
        servers = [entrypoint(server) for server in sorted(pods("zookeeper"))[:2]]
        kill(servers, signal.SIGSTOP)
        return lambda: kill(servers, signal.SIGCONT)
    return lambda: None


def trials(way):
    took, wrong = [], 0
    of_a_cluster = TRIALS_OF_A_CLUSTER.get(way, 6)
    for trial in range(TRIALS):
        if trial % of_a_cluster == 0:
            masters = create()
        leader = masters.wait_settled()
        masters.forget()
        until(masters.leaders, SET_UP, "the leader to answer")
        began = time.monotonic()
        then = lose(way, leader)
        if way == "quorum":
            until(lambda: not masters.leaders(), 60, "the leader to give up")
            began = time.monotonic()
            then()

        def next_leader():
            for name, master in list(masters.masters.items()):
                for state, asked, answered in list(master.answers):
                    # Whoever was revoked may lead again.
                    if state == "ALIVE" and (name != leader or way == "quorum") and asked > began:
                        return answered
            return None

        took.append(until(next_leader, 120, f"{way}: a leader after {leader}") - began)
        time.sleep(0.3)
        then()
        masters.wait_settled()
        wrong += bool(masters.two_alive())
        if (trial + 1) % of_a_cluster == 0 or trial + 1 == TRIALS:
            masters.end()
    return took, wrong


def rolls():
    took, wrong = [], 0
    before = Path(FILE).read_text()
    masters = create()
    for trial in range(TRIALS):
        masters.wait_settled()
        masters.forget()
        Path(FILE).write_text(f"{before}masters: {{annotations: {{roll: '{trial}'}}}}\n")
        change = subprocess.Popen([SPARKHA, "create", "--local", "--yes", "-f", FILE], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while change.poll() is None:
            masters.follow()
            time.sleep(EVERY)
        masters.wait_settled()
        took.append(masters.longest_without()[0])
        wrong += bool(masters.two_alive())
    masters.end()
    Path(FILE).write_text(before)
    return took, wrong


def load():
    """Full load for a while: nobody may lose what it has."""
    masters = create()
    leader = masters.wait_settled()
    before = {name: entrypoint(name) for name in pods("master")}
    busy = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(2 * os.cpu_count())]
    try:
        time.sleep(LOAD)
    finally:
        for process in busy:
            process.kill()
            process.wait()
    after = {name: entrypoint(name) for name in pods("master")}
    false = masters.wait_settled() != leader or before != after
    masters.end()
    print(f"full load for {LOAD:.0f} s: {'FAILED OVER' if false else 'the same leader, no master restarted'}", flush=True)
    return false


def main():
    failed = LOAD > 0 and load()
    print(f"{'way':10} {'trials':>6} {'median':>7} {'min':>6} {'max':>6}  two leaders", flush=True)
    for way in WAYS:
        took, wrong = rolls() if way == "roll" else trials(way)
        median, longest = statistics.median(took), max(took)
        goal = GOALS[way]
        late = median > goal[0] or longest > goal[1]
        failed |= late or wrong > 0
        print(f"{way:10} {len(took):6} {median:7.2f} {min(took):6.2f} {longest:6.2f}  {wrong}{'  TOO SLOW' if late else ''}", flush=True)
    sys.exit(failed)


main()
