"""Where chaos.py's cluster runs, and what can be done to its processes: this machine. chaos_nodes.py has nodes of Kubernetes."""
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

from cluster import CLUSTER, FILE, pods

WORK = Path(FILE).parent


class Process:
    """A process that is not another one with its number."""

    def __init__(self, pid):
        self.pid = pid
        self.began = self.stat()[19]

    def stat(self):
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()

    def is_there(self):
        try:
            return self.stat()[19] == self.began and self.stat()[0] != "Z"
        except (OSError, IndexError):
            return False

    def parent(self):
        try:
            return int(self.stat()[1])
        except (OSError, IndexError):
            return 0

    def is_jvm(self):
        try:
            return Path(f"/proc/{self.pid}/comm").read_text() == "java\n"
        except OSError:
            return False

    def signal(self, what):
        if self.is_there():
            try:
                os.kill(self.pid, what)
            except ProcessLookupError:
                pass


def send(processes, what):
    for process in processes:
        process.signal(what)


def bearing(words):
    """The processes that have all these words in their environment."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                environment = Path(f"/proc/{entry}/environ").read_bytes().split(b"\0")
                if all(word in environment for word in words):
                    found.append(Process(int(entry)))
            except (OSError, IndexError):
                pass
    return found


class Ground:
    """What is the same everywhere. `flags` name the cluster to sparkha, `mark` is in the environment of all its processes; `folder` is where jobs find
    what they share, here and `as_jobs_see_it`."""

    as_jobs_see_it = None

    def addresses(self, component):
        """The address of each pod that has one."""
        of = {name: record["pod"].get("status", {}).get("podIP") for name, record in self.pods(component).items()}
        return {name: ip for name, ip in of.items() if ip}

    def processes(self, pod):
        """All of a pod: the entrypoint, its JVM, executors and their Pythons."""
        return bearing([*self.mark, f"HOSTNAME={pod}".encode()])

    def entrypoint(self, pod):
        processes = self.processes(pod)
        pids = {process.pid for process in processes}
        return [process for process in processes if process.parent() not in pids]

    def daemon(self, pod):
        """The JVM of a master, worker or ZooKeeper, without the executors that it started."""
        processes = self.processes(pod)
        jvms = {process.pid for process in processes if process.is_jvm()}
        return [process for process in processes if process.pid in jvms and process.parent() not in jvms]


class Local(Ground):
    """The local platform. A node is what has the same ordinal: a ZooKeeper, a master, and a worker with its executors."""

    flags = ["--local"]
    nodes = ["node-0", "node-1", "node-2"]
    mark = [f"SPARKHA_CLUSTER_DIR={CLUSTER}".encode()]
    pods = staticmethod(pods)
    folder = WORK / "jobs"

    def __init__(self, table):
        self.table = table
        self.folder.mkdir()

    def is_up(self):
        return (CLUSTER / "seen.json").exists()

    def tell_to_end(self, pod):
        send(self.entrypoint(pod), signal.SIGTERM)

    def pods_on(self, node):
        ordinal = node.rpartition("-")[2]
        return [f"chaos-{part}-{ordinal}" for part in ("zookeeper", "master", "worker")]

    def went_with_its_node(self, job):
        """Drivers run where nothing is lost."""
        return False

    def lose(self, node):
        """Stops all of a node, and drops what is sent from or to its sockets, so that nobody gets an answer, not even the kernel's."""
        lost = [process for pod in self.pods_on(node) for process in self.processes(pod)]
        send(lost, signal.SIGSTOP)
        sockets = {at for process in lost for at in sockets_of(process.pid)}
        elements = ", ".join(f"{ip} . {port}" for ip, port in sorted(sockets))
        rules = f"""table inet {self.table} {{
            set lost {{ type ipv4_addr . inet_service; elements = {{ {elements} }}; }}
            chain input {{
                type filter hook input priority 0;
                ip saddr . tcp sport @lost drop
                ip daddr . tcp dport @lost drop
            }}
        }}"""
        subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)

    def keep_lost(self, node):
        """On a node that is lost nobody starts anything; the supervisor, which is on this machine, does."""
        for pod in self.pods_on(node):
            send(self.processes(pod), signal.SIGSTOP)

    def regain(self, node, boots):
        """Its link is back; if it boots, nothing of what ran there."""
        lost = [process for pod in self.pods_on(node) for process in self.processes(pod)]
        if boots:
            send(lost, signal.SIGKILL)
        subprocess.run(["nft", "delete", "table", "inet", self.table], check=False, stderr=subprocess.DEVNULL)
        send(lost, signal.SIGCONT)

    def end(self):
        pass

    def save_logs(self, folder):
        here = CLUSTER
        for log in [*here.glob("logs/*"), here / "supervisor.log", *here.glob("pods/*/work/app-*/*/std*")]:
            if log.is_file():
                name = str(log.relative_to(here)).removeprefix("logs/").removeprefix("pods/").replace("/", "_")
                shutil.copy(log, folder / name)


def sockets_of(pid):
    """Address and port of each TCP socket of a process, those that listen among them."""
    try:
        links = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
        tables = [Path(f"/proc/{pid}/net/{table}").read_text() for table in ("tcp", "tcp6")]
    except OSError:
        return
    inodes = {found[1] for link in links if (found := re.fullmatch(r"socket:\[(\d+)\]", link))}
    for line in "".join(tables).splitlines():
        fields = line.split()
        if len(fields) > 9 and fields[9] in inodes:
            address, _, port = fields[1].partition(":")
            # Of an IPv6 address that stands for an IPv4 address, the last 32 bits; in the machine's own order.
            number = int(address[-8:], 16).to_bytes(4, sys.byteorder)
            if int(port, 16) and any(number):
                yield socket.inet_ntoa(number), int(port, 16)
