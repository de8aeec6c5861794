"""What the benches of a local cluster share: its pods and processes, its masters asked for their state each 20 ms.

Two masters ALIVE at once are proved by answers: by one's between two of another that followed one another.
Arguments of each bench: sparkha, the cluster file, the cluster's folder.
"""
import atexit
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

# Who ends a bench wants it to tidy up, too.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
SPARKHA, FILE, CLUSTER = sys.argv[1], sys.argv[2], Path(sys.argv[3])
EVERY = 0.02
SET_UP = 300


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


def jvm(name):
    """The JVM that an entrypoint has started; beside that it may have shells that watch."""
    jvms = [child for child in children(entrypoint(name)) if Path(f"/proc/{child}/comm").read_text() == "java\n"]
    return jvms[0] if len(jvms) == 1 else None


def kill(pids, what):
    for pid in pids:
        try:
            os.kill(pid, what)
        except ProcessLookupError:
            pass


def mode(zookeeper):
    """What a ZooKeeper server does in its quorum; None without one."""
    try:
        with socket.create_connection((address(zookeeper), 2181), timeout=1) as server:
            server.sendall(b"srvr")
            _, found, mode = server.makefile("rb").read().partition(b"Mode: ")
            return mode.split()[0].decode() if found else None
    except OSError:
        return None


def serves(zookeeper):
    """Whether a ZooKeeper server has a quorum. Who takes another away before loses more than a leader."""
    return mode(zookeeper) is not None


class Master(threading.Thread):
    """Asks one master for its state."""

    def __init__(self, name, ip):
        super().__init__(daemon=True)
        self.name, self.ip = name, ip
        # State, when it was asked for, when it answered.
        self.answers = []
        self.workers = 0
        # What it said last: `/json/`.
        self.page = {"workers": [], "activeapps": []}
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
                self.page = page
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
    """All masters at their present addresses, and those that were there before. `of` tells the pods of a part."""

    def __init__(self, of=pods):
        self.pods, self.masters, self.former = of, {}, []
        self.follow()

    def follow(self):
        for name, record in self.pods("master").items():
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
        if not all(serves(record) for record in self.pods("zookeeper").values()):
            return None
        states = sorted(str(master.state()) for master in self.masters.values())
        leaders = self.leaders()
        if states != ["ALIVE", "STANDBY", "STANDBY"] or len(leaders) != 1:
            return None
        return leaders[0] if self.masters[leaders[0]].workers == len(self.pods("worker")) else None

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
        """The longest time in which nobody is known to have led, and when it began."""
        alive = sorted(run for master in self.all() for state, *run in list(master.answers) if state == "ALIVE")
        longest, since, led = 0.0, 0.0, alive[0][0]
        for asked, answered in alive:
            if answered - led > longest:
                longest, since = answered - led, led
            led = max(led, asked)
        return longest, since

    def two_alive(self):
        """Pairs of masters that were ALIVE at the same time, and when."""
        runs = [(master.name, *run) for master in self.all() for run in alive_runs(list(master.answers))]
        pairs = []
        for name, first, last in runs:
            for other, others_first, others_last in runs:
                # Between its first answer and its last question a master was ALIVE all the time; a single answer came from some moment
                # between question and answer.
                since = max(first[1], others_first[1])
                both = name < other and since < min(last[0], others_last[0])
                within = name != other and others_first[1] < first[0] and first[1] < others_last[0] and first == last
                if both or within:
                    pairs.append((since if both else first[1], name, other))
        return sorted(pairs)


def alive_runs(answers):
    """The first and the last of ALIVE answers that followed one another without any other."""
    runs, first, last = [], None, None
    for state, asked, answered in [*answers, (None, 0, 0)]:
        if state == "ALIVE":
            last = (asked, answered)
            first = first or last
        elif first:
            runs.append((first, last))
            first = None
    return runs


def zookeeper_of(master):
    """The server that the master's latest session is with."""
    told = (CLUSTER / "pods" / master / "tmp/zookeeper-sessions").read_text()
    last = told.strip().splitlines()[-1]
    return last.split("on server ")[1].split(".")[0]


def create():
    subprocess.run([SPARKHA, "teardown", "--local", "--yes"], check=True, stderr=subprocess.DEVNULL)
    subprocess.run([SPARKHA, "create", "--local", "-f", FILE], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return Masters()


class Job:
    """An application of the cluster's, started by spark-submit: what it prints, and what its driver logs."""

    def __init__(self, folder, text, *arguments, conf=()):
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "driver.log"
        (folder / "job.py").write_text(text)
        environment = subprocess.run([SPARKHA, "local", "env"], check=True, stdout=subprocess.PIPE, text=True).stdout
        options = " ".join(f"--conf {setting}" for setting in conf)
        words = " ".join(str(argument) for argument in arguments)
        script = f"{environment}\nexec spark-submit --master \"$SPARK_MASTER_URL\" {options} job.py {words} 2>driver.log"
        self.process = subprocess.Popen(["bash", "-c", script], cwd=folder, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        atexit.register(self.process.kill)
        self.lines = []
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def said(self, word):
        return [line for line in list(self.lines) if line.startswith(word)]

    def wait_for(self, word, within):
        until(lambda: self.said(word) or self.process.poll() is not None, within, f"the job to print {word}")
        if not self.said(word):
            sys.exit(f"the job ended before it printed {word}:\n{self.log.read_text()[-3000:]}")

    def end(self, within):
        """Its exit code; None if it had to be killed."""
        try:
            code = self.process.wait(within)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            code = None
        self.reader.join()
        return code

    def logged(self, text):
        return sum(text in line for line in self.log.read_text(errors="replace").splitlines())
