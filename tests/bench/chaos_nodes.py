"""Several real nodes as chaos.py's ground: the testbed's, with the cluster's pods in a namespace of its own."""
import json
import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

from chaos_ground import Ground, send

TESTBED = Path(__file__).parent.parent / "testbed/testbed.sh"
ROLE = "app.kubernetes.io/component"


def kubectl(*arguments):
    return subprocess.run(["kubectl", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def testbed(*arguments):
    return subprocess.run([TESTBED, *arguments], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout


class Nodes(Ground):
    """Jobs share a volume that all nodes see."""

    as_jobs_see_it = Path("/chaos")

    def __init__(self, namespace):
        self.namespace = namespace
        self.flags = ["--namespace", namespace]
        self.mark = [f"POD_NAMESPACE={namespace}".encode()]
        self.nodes = [line.split()[0] for line in testbed("nodes").splitlines()]
        volume = kubectl("get", "pv", "-o", f"jsonpath={{.items[?(@.spec.claimRef.namespace=='{namespace}')].spec.hostPath.path}}")
        self.folder = Path(volume)
        # Pods as the API server tells of them; the node of each that there ever was; when which node was lost.
        self.known, self.node_of, self.losses = {}, {}, []
        self.watching, self.ended = None, False
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self):
        """The API server ends each watch after a while."""
        while not self.ended:
            known, text, decoder = {}, "", json.JSONDecoder()
            command = ["kubectl", "-n", self.namespace, "get", "pods", "-o", "json", "--watch", "--output-watch-events"]
            self.watching = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            while piece := os.read(self.watching.stdout.fileno(), 1 << 16):
                text = (text + piece.decode()).lstrip()
                while text:
                    try:
                        event, end = decoder.raw_decode(text)
                    except ValueError:
                        break
                    text = text[end:].lstrip()
                    self.learn(known, event)
                self.known = dict(known)
            self.watching.wait()
            time.sleep(0.2)

    def learn(self, known, event):
        pod = event["object"]
        name = pod["metadata"]["name"]
        if event["type"] == "DELETED":
            known.pop(name, None)
        else:
            known[name] = pod
        if node := pod["spec"].get("nodeName"):
            self.node_of[name] = node

    def is_up(self):
        return len(self.pods("master")) == 3

    def pods(self, component):
        return {name: {"pod": pod} for name, pod in self.known.items() if pod["metadata"].get("labels", {}).get(ROLE) == component}

    def pods_on(self, node):
        return sorted(name for name, pod in self.known.items() if pod["spec"].get("nodeName") == node)

    def tell_to_end(self, pod):
        kubectl("-n", self.namespace, "delete", "pod", pod, "--wait=false")

    def went_with_its_node(self, job):
        """Whether the job's driver was on a node while that was lost: nothing keeps a driver's work."""
        drivers = re.findall(r"\bchaos-driver-[0-9a-f]{8}\b", job.log.read_text(errors="replace"))
        return any(self.node_of.get(driver) == node and ended > job.submitted for driver in drivers for node, ended in self.losses)

    def lose(self, node):
        self.losses.append((node, float("inf")))
        testbed("lose", node)

    def keep_lost(self, node):
        """What could start something is stopped, too."""

    def regain(self, node, boots):
        """After a boot the kubelet starts the containers of the pods that it had."""
        if boots:
            send([process for pod in self.pods_on(node) for process in self.processes(pod)], signal.SIGKILL)
        testbed("regain", node)
        self.losses[-1] = (node, time.monotonic())

    def end(self):
        self.ended = True
        self.watching.terminate()

    def save_logs(self, folder):
        for what, arguments in (("pods", ["get", "pods", "-o", "wide"]), ("events", ["get", "events", "--sort-by=.lastTimestamp"])):
            (folder / f"{what}.txt").write_text(kubectl("-n", self.namespace, *arguments))
        for pod in list(self.known):
            for which in ("false", "true"):
                log = subprocess.run(["kubectl", "-n", self.namespace, "logs", pod, f"--previous={which}"], capture_output=True, check=False)
                if log.returncode == 0:
                    (folder / (pod + (".previous" if which == "true" else "") + ".log")).write_bytes(log.stdout)
