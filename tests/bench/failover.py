"""Loses the leading master of a local cluster again and again, and measures until one is ALIVE again; called by failover.sh.

Every master is asked for its state each 20 ms over a kept connection. A second leader is proved by an answer ALIVE to a question that was
sent after another master had already answered so.

Ways of losing the leader: `jvm` kills its JVM; `pod` ends its entrypoint as a kubelet does (SIGTERM); `container` kills entrypoint and JVM together;
`node` stops both, as if the machine had gone, and kills them once another leads; `revoked` kills the ZooKeeper server that it is connected to;
`quorum` stops two of the three ZooKeepers until nobody leads, and measures from when they go on; `roll` replaces all masters one after another by a
change of the cluster file, and measures the longest time without a leader in each roll-out.
"""
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

SPARKHA, FILE, CLUSTER = sys.argv[1], sys.argv[2], Path(sys.argv[3])
TRIALS = int(os.environ.get("TRIALS", 20))
LOAD = float(os.environ.get("LOAD", 0))
WAYS = os.environ.get("WAYS", "jvm pod container node revoked quorum roll").split()
EVERY = 0.02
# Median and maximum, in seconds.
GOALS = {"jvm": (1, 2), "pod": (1, 2), "container": (1, 2), "node": (3, 3), "revoked": (3, 3), "quorum": (30, 30), "roll": (1, 1)}
SET_UP = 120
# What ends again and again is restarted after ever longer pauses: after so many trials the cluster is made anew. A container that ends is
# withdrawn when it is restarted: each master's first time only, for in a later pause it is the session's end that counts.
TRIALS_OF_A_CLUSTER = {"container": 3}


def pods(component):
    seen = json.loads((CLUSTER / "seen.json").read_text())
    of = {record["pod"]["metadata"]["name"]: record for record in seen["pods"]}
    return {name: record for name, record in of.items() if f"-{component}-" in name}


def address(record):
    return record["pod"]["status"]["podIP"]


def entrypoint(name):
    process = pods(name.split("-")[-2])[name].get("process")
    return process["pid"] if process else None


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def kill(pids, what):
    for pid in pids:
        try:
            os.kill(pid, what)
        except ProcessLookupError:
            pass


def serves(zookeeper):
    """Whether a ZooKeeper server has a quorum. Who takes another away before loses more than a leader."""
    try:
        with socket.create_connection((address(zookeeper), 2181), timeout=1) as server:
            server.sendall(b"srvr")
            return b"Mode: " in server.makefile("rb").read()
    except OSError:
        return False


class Master(threading.Thread):
    """Asks one master for its state."""

    def __init__(self, name, ip):
        super().__init__(daemon=True)
        self.name, self.ip = name, ip
        # State, when it was asked for, when it answered.
        self.answers = []
        self.workers = 0
        self.ended = False

    def run(self):
        connection = None
        while not self.ended:
            asked = time.monotonic()
            try:
                connection = connection or http.client.HTTPConnection(self.ip, 8080, timeout=1)
                connection.request("GET", "/json/")
                page = json.loads(connection.getresponse().read())
                state = page["status"]
                self.workers = sum(worker["state"] == "ALIVE" for worker in page["workers"])
            except (OSError, http.client.HTTPException, ValueError):
                connection, state = None, None
            self.answers.append((state, asked, time.monotonic()))
            time.sleep(max(0.0, asked + EVERY - time.monotonic()))

    def state(self):
        return self.answers[-1][0] if self.answers else None


def until(condition, within, what):
    deadline = time.monotonic() + within
    while not (found := condition()):
        if time.monotonic() > deadline:
            sys.exit(f"{what}: not within {within} s")
        time.sleep(EVERY / 2)
    return found


class Masters:
    """All masters at their present addresses, and those that were there before."""

    def __init__(self):
        self.masters, self.former = {}, []
        self.follow()

    def follow(self):
        for name, record in pods("master").items():
            ip = record["pod"]["status"].get("podIP")
            known = self.masters.get(name)
            if ip and (not known or known.ip != ip):
                if known:
                    known.ended = True
                    self.former.append(known)
                self.masters[name] = Master(name, ip)
                self.masters[name].start()

    def end(self):
        for master in self.masters.values():
            master.ended = True

    def all(self):
        return [*self.masters.values(), *self.former]

    def leaders(self):
        return [name for name, master in self.masters.items() if master.state() == "ALIVE"]

    def settled(self):
        """The leader, if all is as it should be: the others stand by, the workers are registered, the ZooKeepers serve."""
        self.follow()
        if not all(serves(record) for record in pods("zookeeper").values()):
            return None
        states = sorted(str(master.state()) for master in self.masters.values())
        leaders = self.leaders()
        if states != ["ALIVE", "STANDBY", "STANDBY"] or len(leaders) != 1:
            return None
        return leaders[0] if self.masters[leaders[0]].workers == len(pods("worker")) else None

    def wait_settled(self):
        def twice():
            leader = self.settled()
            time.sleep(0.3)
            return leader and leader == self.settled() and leader

        return until(twice, SET_UP, "one ALIVE, two STANDBY, all workers and ZooKeepers")

    def forget(self):
        self.former = []
        for master in self.masters.values():
            master.answers = []

    def longest_without(self):
        """The longest time in which nobody is known to have led."""
        alive = sorted((asked, answered)
                       for master in self.all()
                       for state, asked, answered in list(master.answers) if state == "ALIVE")
        longest, led = 0.0, alive[0][0]
        for asked, answered in alive:
            longest, led = max(longest, answered - led), max(led, asked)
        return longest

    def second_leaders(self):
        """Masters that were ALIVE after another one was."""
        alive = [(asked, answered, master)
                 for master in self.all()
                 for state, asked, answered in list(master.answers) if state == "ALIVE"]
        firsts = {}
        for _, answered, master in alive:
            firsts[master] = min(answered, firsts.get(master, answered))
        lasts = {}
        for asked, _, master in alive:
            lasts[master] = max(asked, lasts.get(master, asked))
        return [(old, new) for old in lasts for new in firsts
                if old != new and firsts[old] < firsts[new] < lasts[old]]


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


def zookeeper_of(master):
    """The server that the master's latest session is with."""
    told = (CLUSTER / "pods" / master / "tmp/zookeeper-sessions").read_text()
    last = told.strip().splitlines()[-1]
    return last.split("on server ")[1].split(".")[0]


def create():
    subprocess.run([SPARKHA, "teardown", "--local", "--yes"], check=True, stderr=subprocess.DEVNULL)
    subprocess.run([SPARKHA, "create", "--local", "-f", FILE], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return Masters()


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
        wrong += bool(masters.second_leaders())
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
        took.append(masters.longest_without())
        wrong += bool(masters.second_leaders())
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
