"""The part of fleet.sh that measures a router under load: `soak.py measure SPARKHA`."""

import os
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import fleet
from fleet import Api, ask_masters, name, namespace

MINUTES = float(os.environ.get("MINUTES", "60"))
ROUTER = ("127.0.0.78", 18097)
METRICS = 19097
# Of these, leaders change; those of the others are what the load requests, and no request for them may fail.
RESTLESS = range(fleet.CLUSTERS // 2)
STEADY = range(fleet.CLUSTERS // 2, fleet.CLUSTERS)
# Addresses of pods that come later.
FIRST_FREE = fleet.CLUSTERS * 8

LOAD = """
local hosts = {%s}
local next = 0
request = function()
  next = next %% #hosts + 1
  return wrk.format("GET", "/json/", {Host = hosts[next]})
end
-- Milliseconds before each request of a connection: a steady load that leaves time to others.
delay = function() return 30 end
"""


def leader_host(number):
    return f"{name(number)}-master.{namespace(number)}.k8s"


class Changes(threading.Thread):
    """Worker pods that come and go, a few each second, and a leader that changes every five seconds."""

    def __init__(self, ended):
        super().__init__(daemon=True)
        self.ended, self.api, self.pods, self.leaders, self.failed = ended, Api(), 0, 0, None
        self.worker = "spark-10-99-0-7.fleet-0.k8s"

    def run(self):
        try:
            number = 0
            while not self.ended.wait(0.25):
                self.replace(random.choice(range(fleet.CLUSTERS)), random.randrange(2), FIRST_FREE + number % 20000)
                number += 1
                if number % 20 == 0:
                    ask_masters(f"/lead?{random.choice(RESTLESS)},{random.randrange(3)}")
                    self.leaders += 1
        except BaseException as error:
            self.failed = error
            raise

    def replace(self, number, member, index):
        pods = f"/api/v1/namespaces/{namespace(number)}/pods"
        pod = self.api.request("GET", f"{pods}/{name(number)}-worker-{member}")
        status = pod.pop("status")
        for field in ("uid", "resourceVersion", "creationTimestamp", "managedFields"):
            pod["metadata"].pop(field, None)
        self.api.request("DELETE", f"{pods}/{pod['metadata']['name']}?gracePeriodSeconds=0")
        self.api.request("POST", pods, pod)
        ip = f"10.99.{index // 250}.{index % 250 + 1}"
        status |= {"podIP": ip, "podIPs": [{"ip": ip}]}
        path = f"{pods}/{pod['metadata']['name']}/status"
        self.api.request("PATCH", path, {"status": status}, "application/merge-patch+json")
        self.worker = f"spark-{ip.replace('.', '-')}.{namespace(number)}.k8s"
        self.pods += 1


class Visitors(threading.Thread):
    """Clients as they come: they connect for one request, go away in the middle, or ask for hosts that are not there."""

    def __init__(self, ended, changes):
        super().__init__(daemon=True)
        self.ended, self.changes, self.visits, self.failed = ended, changes, 0, 0

    def run(self):
        close = "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        while not self.ended.wait(0.02):
            kind, host = self.visits % 6, leader_host(random.choice(STEADY))
            try:
                with socket.create_connection(ROUTER, timeout=10) as client:
                    match kind:
                        case 0:
                            pass
                        case 1:
                            client.sendall(b"GET / HT")
                        case 2:
                            client.sendall(b"GET / HTTP/1.1\r\nHost: nobody.ns.k8s\r\nConnection: close\r\n\r\n")
                            client.recv(4096)
                        case 3:
                            # Gone before the answer.
                            client.sendall(f"GET /json/ HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                        case 4:
                            client.sendall(close.format(path="/json/", host=host).encode())
                            self.failed += not client.recv(4096).startswith(b"HTTP/1.1 200")
                        case 5:
                            # A worker that may just have gone.
                            client.sendall(close.format(path="/", host=self.changes.worker).encode())
                            client.recv(4096)
            except OSError:
                self.failed += kind == 4
            self.visits += 1


def is_settled():
    try:
        return fleet.metric(fleet.metrics(METRICS), "sparkha_clusters_led") >= fleet.CLUSTERS
    except OSError:
        return False


def state(process):
    memory, threads = (fleet.status(process, what) for what in ("VmRSS", "Threads"))
    return memory / 1024, len(os.listdir(f"/proc/{process.pid}/fd")), threads


def wait_for(what, done, seconds=60):
    until = time.time() + seconds
    while not done():
        if time.time() > until:
            raise SystemExit(f"{what}: not within {seconds} s")
        time.sleep(0.2)


def soak(router, log):
    wait_for("the router has all leaders", is_settled)
    before = state(router)
    print(f"{'minute':>6} {'MiB':>7} {'files':>6} {'threads':>8}", flush=True)
    line = lambda minute, now: print(f"{minute:6.1f} {now[0]:7.1f} {now[1]:6} {now[2]:8}", flush=True)
    line(0, before)
    ended = threading.Event()
    changes = Changes(ended)
    visitors = Visitors(ended, changes)
    changes.start()
    visitors.start()
    began, seen = time.time(), []
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(LOAD % ", ".join(f'"{leader_host(number)}"' for number in STEADY))
        script.flush()
        url = f"http://{ROUTER[0]}:{ROUTER[1]}/"
        # A machine that does other things, too, may let a request wait.
        wrk = ["wrk", "-t", "1", "-c", "32", "--timeout", "30s", "-d", f"{int(MINUTES * 60)}s", "-s", script.name, url]
        load = subprocess.Popen(wrk, stdout=subprocess.PIPE, text=True)
        try:
            while load.poll() is None:
                time.sleep(min(60, MINUTES * 60 / 20))
                if router.poll() is not None or changes.failed:
                    log.seek(0)
                    raise SystemExit(f"ended: {changes.failed} {log.read().decode()[-2000:]}")
                seen.append(state(router))
                line((time.time() - began) / 60, seen[-1])
        finally:
            load.kill()
            said = load.stdout.read()
            ended.set()
            changes.join()
            visitors.join()
    # Connections that nobody uses are closed.
    wait_for(f"no more files open than before ({before[1]})", lambda: state(router)[1] <= before[1] + 2, 150)
    after = state(router)
    line((time.time() - began) / 60, after)
    report(said, seen, changes, visitors)


def report(said, seen, changes, visitors):
    requests = int(re.search(r"(\d+) requests in", said)[1])
    failed = re.findall(r"(Non-2xx.*|Socket errors.*)", said)
    third = max(1, len(seen) // 3)
    memory = [statistics.median(now[0] for now in part) for part in (seen[third:2 * third], seen[-third:])]
    print(f"{requests} requests, failed: {failed or 'none'}; {visitors.visits} visitors, failed: {visitors.failed}; "
          f"{changes.pods} pods replaced, {changes.leaders} leaders changed")
    print(f"memory in the second and the last third: {memory[0]:.1f} and {memory[1]:.1f} MiB (at most 1.05 times as much)")
    if failed or visitors.failed or memory[1] > 1.05 * memory[0]:
        raise SystemExit(1)


if __name__ == "__main__":
    # Ended from outside, it ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    command = [sys.argv[2], "router", "-A", "--reach", "direct", "--listen", ROUTER[0], "--port", str(ROUTER[1]),
               "--metrics", f"127.0.0.1:{METRICS}", "--no-access-log"]
    with tempfile.TemporaryFile() as log, subprocess.Popen(command, stdout=log, stderr=log) as router:
        try:
            soak(router, log)
        finally:
            router.terminate()
