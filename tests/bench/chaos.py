"""Faults at random under three kinds of jobs; called by chaos.sh. Exit code 1 if a job was lost, a result was wrong, two masters were ALIVE at once, or the
cluster did not come back.

The faults, their order, the pauses between them and what they do follow from SEED alone. A fault waits until the cluster can survive it by
design: another master stands by, a quorum and a worker remain. One that cannot happen for two minutes is skipped, and counted as such.

    leader     the leading master's JVM is killed, its whole container, or its pod is told to end
    pause      a master, mostly the leader, is stopped for 5 to 90 s: its JVM, or its whole container
    zookeeper  a server is killed
    worker     a worker's JVM is killed, or its whole container with the executors
    scale      another number of workers, 2 to 4; other faults go on meanwhile
    node       a ZooKeeper, a master and a worker with its executors are gone at once for 10 to 90 s, link and all; then they go on, or start anew

A job is lost if it ends with another exit code than 0, or if nothing of it ends for HANG seconds in which a master led and a worker was there; on several
nodes (NODES=3) not if its driver was on a node that was lost. A stream goes on from its checkpoint then.
"""
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter

from chaos_ground import WORK, Local, send
from chaos_load import HANG, Jobs, wrong_numbers
from chaos_nodes import Nodes
from cluster import FILE, SET_UP, SPARKHA, Masters, serves, until

MINUTES = float(os.environ.get("MINUTES", 30))
SEED = int(os.environ.get("SEED") or random.randrange(1_000_000))
WEIGHTS = {"leader": 3, "pause": 2, "zookeeper": 2, "worker": 2, "scale": 2, "node": 1}
FAULTS = os.environ.get("FAULTS", " ".join(WEIGHTS)).split()
KINDS = os.environ.get("JOBS", "batch cached streaming").split()
# How long a fault waits for a cluster that can survive it.
PATIENCE = 120
# A container that ends again and again is restarted after up to five minutes.
RECOVERY = 420


def clock(moment):
    return time.strftime("%H:%M:%S", time.localtime(time.time() - time.monotonic() + moment))


def say(text):
    print(text, flush=True)


class Fault:
    """What will happen. Each takes the same number of random numbers, so that what one does with them changes nothing about the next."""

    def __init__(self, chance):
        self.kind = chance.choices(FAULTS, [WEIGHTS[kind] for kind in FAULTS])[0]
        self.gap = chance.uniform(4, 16)
        self.which, self.how, self.length = chance.random(), chance.random(), chance.random()

    def one_of(self, things):
        things = sorted(things)
        return things[int(self.which * len(things))]

    def seconds(self, least, most):
        return least + self.length * (most - least)


class Chaos:
    def __init__(self, ground):
        self.ground = ground
        self.masters = Masters(ground.pods)
        self.workers = 3
        # Who led, and which nodes could be lost, when a fault was found survivable.
        self.led_by, self.losable = None, []
        # When there was no leader or no worker for the last time.
        self.lacked = time.monotonic()
        # Faults that are not over: until when, what undoes them; and the running `scale`.
        self.paused, self.lost_node, self.scaling = None, None, None
        self.log, self.counts, self.skipped, self.refused = [], Counter(), Counter(), []
        self.looked = 0.0

    def tell(self, text):
        now = time.monotonic()
        self.log.append((now, text))
        say(f"{clock(now)}  {text}")

    # What there is.

    def leader(self):
        leaders = self.masters.leaders()
        return leaders[0] if len(leaders) == 1 else None

    def has_standby(self):
        return any(master.state() == "STANDBY" for master in self.masters.masters.values())

    def zookeepers(self):
        return sum(bool(serves(server)) for server in self.ground.pods("zookeeper").values())

    def alive_workers(self):
        """Those that the leader has and that are not gone without its knowing."""
        leader = self.leader()
        if not leader:
            return []
        has = [worker["host"] for worker in self.masters.masters[leader].page["workers"] if worker["state"] == "ALIVE"]
        lost = self.ground.pods_on(self.lost_node[0]) if self.lost_node else []
        return [name for name, ip in self.ground.addresses("worker").items() if ip in has and name not in lost]

    def can_survive(self, fault):
        self.led_by = self.leader()
        if fault.kind == "scale":
            return not self.scaling and not self.lost_node
        if not self.led_by or self.zookeepers() < 2:
            return False
        if fault.kind == "zookeeper":
            return not self.lost_node and self.zookeepers() == 3
        if fault.kind == "worker":
            return len(self.alive_workers()) >= 2
        if not self.has_standby():
            return False
        if fault.kind == "leader":
            return True
        if fault.kind == "pause":
            return not self.paused and not self.lost_node
        states = sorted(str(master.state()) for master in self.masters.masters.values())
        whole = states == ["ALIVE", "STANDBY", "STANDBY"] and self.zookeepers() == 3 and len(self.alive_workers()) >= 2
        self.losable = self.find_losable() if whole and not (self.paused or self.lost_node or self.scaling) else []
        return bool(self.losable)

    def find_losable(self):
        """The nodes without which a quorum, a master that stands by or leads, and a worker are left."""
        def left(node, names):
            return len(set(names) - set(self.ground.pods_on(node)))

        return [node for node in self.ground.nodes
                if left(node, self.ground.addresses("zookeeper")) >= 2
                and left(node, self.masters.masters) and left(node, self.alive_workers())]

    def node_for(self, fault):
        """The leader's node in half of the cases, else any."""
        leaders = [node for node in self.losable if self.led_by in self.ground.pods_on(node)]
        return fault.one_of(leaders if leaders and fault.how < 0.5 else self.losable)

    # What happens.

    def happen(self, fault):
        leader, ground = self.led_by, self.ground
        if fault.kind == "leader":
            way = ["JVM killed", "container killed", "pod told to end"][int(fault.how * 3)]
            self.tell(f"leader {leader}: {way}")
            if way == "JVM killed":
                send(ground.daemon(leader), signal.SIGKILL)
            elif way == "container killed":
                send(ground.processes(leader), signal.SIGKILL)
            else:
                ground.tell_to_end(leader)
        elif fault.kind == "pause":
            seconds = fault.seconds(5, 90)
            name = leader if fault.which < 0.8 else min(set(self.masters.masters) - {leader})
            whole = fault.how < 0.5
            stopped = ground.processes(name) if whole else ground.daemon(name)
            self.tell(f"{'leader' if name == leader else 'standby'} {name}: {'container' if whole else 'JVM'} paused for {seconds:.0f} s")
            send(stopped, signal.SIGSTOP)
            self.paused = (name, stopped, time.monotonic() + seconds)
        elif fault.kind == "zookeeper":
            server = fault.one_of(ground.addresses("zookeeper"))
            self.tell(f"{server} killed")
            send(ground.processes(server), signal.SIGKILL)
        elif fault.kind == "worker":
            worker, whole = fault.one_of(self.alive_workers()), fault.how < 0.5
            self.tell(f"{worker}: {'container with executors' if whole else 'JVM'} killed")
            send(ground.processes(worker) if whole else ground.daemon(worker), signal.SIGKILL)
        elif fault.kind == "scale":
            self.scale(fault.one_of({2, 3, 4} - {self.workers}))
        else:
            node, seconds, boots = self.node_for(fault), fault.seconds(10, 90), fault.which < 0.5
            there = ", ".join(ground.pods_on(node))
            self.tell(f"{node} lost for {seconds:.0f} s, {'then boots' if boots else 'then goes on'} ({there}; leader {leader})")
            self.lost_node = (node, boots, time.monotonic() + seconds)
            ground.lose(node)

    def scale(self, workers):
        self.tell(f"scale from {self.workers} to {workers} workers")
        self.workers = workers
        command = [SPARKHA, "scale", "chaos", *self.ground.flags, "--workers", str(workers)]
        self.scaling = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)

    def go_on(self, at_once=False):
        """Ends what has lasted long enough, and looks at what there is."""
        now = time.monotonic()
        if self.paused and (at_once or now >= self.paused[2]):
            name, stopped, _ = self.paused
            there = [process for process in stopped if process.is_there()]
            self.tell(f"{name} goes on" if there else f"{name} was restarted meanwhile")
            send(there, signal.SIGCONT)
            self.paused = None
        if self.lost_node and (at_once or now >= self.lost_node[2]):
            node, boots, _ = self.lost_node
            self.tell(f"{node} {'boots' if boots else 'goes on'}")
            self.ground.regain(node, boots)
            self.lost_node = None
        if self.scaling and self.scaling.poll() is not None:
            errors = self.scaling.communicate()[1].strip()
            self.tell(f"scale to {self.workers} ended with {self.scaling.returncode}")
            if self.scaling.returncode != 0:
                self.refused.append(f"scale to {self.workers}: exit code {self.scaling.returncode}: {errors[-500:]}")
            self.scaling = None
        if now - self.looked > 1:
            self.looked = now
            self.masters.follow()
            if self.lost_node:
                self.ground.keep_lost(self.lost_node[0])
            if not self.alive_workers():
                self.lacked = now

    def wait(self, within, condition=lambda: False):
        """Whether the condition came true in time."""
        deadline = time.monotonic() + within
        while not (found := condition()) and time.monotonic() < deadline:
            self.go_on()
            time.sleep(0.2)
        return bool(found)

    def cause_faults(self, seconds):
        chance, end = random.Random(SEED), time.monotonic() + seconds

        def left(most):
            return min(most, max(0.0, end - time.monotonic()))

        while True:
            fault = Fault(chance)
            self.wait(left(fault.gap))
            survivable = self.wait(left(PATIENCE), lambda fault=fault: self.can_survive(fault))
            if time.monotonic() >= end:
                return
            (self.counts if survivable else self.skipped)[fault.kind] += 1
            if survivable:
                self.happen(fault)
            else:
                self.tell(f"skipped: {fault.kind}")

    def in_service(self):
        command = [SPARKHA, "status", "chaos", *self.ground.flags]
        return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0

    def is_free(self):
        """No application is left, and nobody's cores are taken."""
        leader = self.leader()
        page = self.masters.masters[leader].page if leader else None
        return page is not None and not page["activeapps"] and page.get("coresused") == 0

    def before(self, moment, until):
        """The faults that something may follow from: those meanwhile, and the last one before."""
        causes = [(at, text) for at, text in self.log if at <= until]
        first = max((at for at, _ in causes if at <= moment + 1), default=moment)
        return "; ".join(f"{clock(at)} {text}" for at, text in causes if at >= first) or "no fault before"


def report(chaos, all_jobs, troubles):
    masters = chaos.masters
    seconds, since = masters.longest_without()
    both = masters.two_alive()
    lost = [lost for jobs in all_jobs for lost in jobs.lost]
    wrong = [f"{job.name}: {wrong}" for jobs in all_jobs for job in jobs.jobs for wrong in job.wrong]
    numbers = 0
    if "streaming" in KINDS:
        wrong_ones, numbers = wrong_numbers(chaos.ground.folder)
        wrong += [f"streaming: {wrong}" for wrong in wrong_ones]
        if not numbers:
            wrong.append("streaming: it has written nothing")
    say(f"\nseed {SEED}, {MINUTES:g} minutes; load of the machine at the end {os.getloadavg()[1]:.1f} (5 minutes)")
    for kind in FAULTS:
        say(f"  {kind:10} {chaos.counts[kind]:4} faults, {chaos.skipped[kind]} skipped")
    for jobs in all_jobs:
        went = f", {len(jobs.went)} drivers lost with their node" if jobs.went else ""
        say(f"  {jobs.kind:10} {len(jobs.jobs):4} jobs, {len(jobs.lost)} lost" + (f", {numbers} numbers" if jobs.kind == "streaming" else "") + went)
    say(f"jobs lost                        {len(lost)}")
    say(f"wrong results                    {len(wrong)}")
    say(f"two masters ALIVE at once        {len(both)}")
    say(f"longest time without a leader    {seconds:.2f} s, from {clock(since)} ({chaos.before(since, since + seconds)})")
    every = [job for jobs in all_jobs for job in jobs.jobs]
    start, name = max(((job.progress[0] if job.progress else job.ended or time.monotonic()) - job.submitted, job.name) for job in every)
    say(f"longest start of a job           {start:.1f} s ({name})")
    stills = sorted(((*job.stand_still(), job.name) for job in every), reverse=True)[:3]
    for at, (still, began, name) in enumerate(stills):
        what = "longest stand-still of a job    " if at == 0 else "  and then                      "
        say(f"{what} {still:.1f} s ({name}, from {clock(began)}: {chaos.before(began, began + still)})")
    for what in [*lost, *wrong[:20], *(f"{clock(at)}: {one} and {other} were ALIVE at once" for at, one, other in both), *troubles]:
        say(f"  FAILED: {what}")
    for what in chaos.refused:
        say(f"  {what}")
    return bool(lost or wrong or both or troubles)


def save(chaos):
    """What one needs to find out what happened."""
    folder = WORK / "report"
    folder.mkdir()
    (folder / "faults.log").write_text("".join(f"{clock(at)}  {text}\n" for at, text in chaos.log))
    lines = []
    for master in chaos.masters.all():
        before = ""
        for state, asked, answered in list(master.answers):
            if state != before:
                lines.append((asked, f"{clock(asked)} to {answered - asked:5.3f} s later  {master.name} {state}\n"))
            before = state
    (folder / "masters.log").write_text("".join(line for _, line in sorted(lines)))
    for log in chaos.ground.folder.glob("*.log"):
        shutil.move(log, folder)
    chaos.ground.save_logs(folder)
    say(f"the logs are in {folder}")


def run(ground):
    say(f"seed {SEED}, {MINUTES:g} minutes")
    chaos, all_jobs, failed = Chaos(ground), [], True
    try:
        # Where everything starts slowly, containers that are taken for dead are started again: a create that waits would give up.
        if not chaos.wait(RECOVERY, chaos.in_service):
            sys.exit(f"the cluster is not in service after {RECOVERY} s")
        submit = [SPARKHA, "submit", "chaos", *ground.flags]
        all_jobs += [Jobs(kind, submit, ground, lambda: chaos.lacked, chaos.tell) for kind in KINDS]
        # Each kind is at work before anything happens.
        if not chaos.wait(300, lambda: all(jobs.jobs and len(jobs.jobs[0].progress) > 1 for jobs in all_jobs)):
            sys.exit("the first jobs did not start")
        chaos.cause_faults(MINUTES * 60)
        chaos.go_on(at_once=True)
        began, troubles = time.monotonic(), []
        chaos.wait(RECOVERY, lambda: not chaos.scaling)
        if chaos.wait(RECOVERY, chaos.in_service):
            chaos.tell(f"in service {time.monotonic() - began:.1f} s after the last fault was over")
        else:
            troubles.append(f"the cluster is not in service {RECOVERY} s after the last fault")
        (ground.folder / "stop").touch()
        for jobs in all_jobs:
            jobs.end(interrupted=False)
        chaos.wait(HANG + 120, lambda: not any(jobs.is_alive() for jobs in all_jobs))
        if not chaos.wait(60, chaos.is_free):
            troubles.append("the leader lists applications or taken cores though no job is left")
        failed = report(chaos, all_jobs, troubles)
    finally:
        for jobs in all_jobs:
            jobs.end(interrupted=True)
        chaos.go_on(at_once=True)
        for jobs in all_jobs:
            jobs.join(120)
        if failed or os.environ.get("KEEP"):
            save(chaos)
        chaos.masters.end()
        ground.end()
    return failed


def main():
    # As Ctrl-C: everything is undone.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    namespace = os.environ.get("CHAOS_NAMESPACE")
    ground = Nodes(namespace) if namespace else Local(os.environ["CHAOS_TABLE"])
    # The workers' memory is their limit: all together take about 6 GiB.
    create = [SPARKHA, "create", *ground.flags, "--skip-preflight", "--no-wait", "-f", FILE]
    created = subprocess.run(create, capture_output=True, text=True, check=False)
    if created.returncode:
        sys.exit(created.stderr)
    until(ground.is_up, SET_UP, "the masters' pods")
    sys.exit(run(ground))


main()
