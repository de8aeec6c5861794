"""The parts of many_workers.sh: `measure SPARKHA` and `remove`."""

import concurrent.futures
import http.client
import http.server
import json
import os
import ssl
import subprocess
import sys
import tempfile
import threading
import time

from fleet import Api

WORKERS = int(os.environ.get("WORKERS", "1000"))
NAMESPACE = "bench-many-workers"
NODE = "sparkha-bench"
# Of this machine, in many_workers.sh.
NODE_ADDRESS, KUBELET_PORT = "10.98.0.1", 10270
LOG = "2026-01-01T00:00:00.000000000Z 26/01/01 00:00:00 INFO Worker: Successfully registered with master\n" * 10
FILE = f"""
workers:
  count: {WORKERS - 1}
  nodeSelector: {{sparkha-bench: "yes"}}
  tolerations: [{{key: sparkha-bench, operator: Exists}}]
# The program that registers workers has no secret.
authentication: {{enabled: false}}
networkPolicy: {{enabled: false}}
"""
MERGE = "application/merge-patch+json"


def address(ordinal):
    return f"10.99.{ordinal // 250}.{ordinal % 250 + 1}"


class Node:
    """A node without a kubelet: its pods run as soon as they are on it, and are gone as soon as they are deleted."""

    def __init__(self, api, workers):
        self.api, self.workers, self.known = api, workers, set()
        node = {"metadata": {"name": NODE, "labels": {"sparkha-bench": "yes"}},
                "spec": {"taints": [{"key": "sparkha-bench", "effect": "NoSchedule"}]}}
        api.request("POST", "/api/v1/nodes", node, accept=(201, 409))
        self.beat()
        # A new node counts as not ready until the controller has seen it.
        while any(taint["key"] != "sparkha-bench" for taint in api.request("GET", f"/api/v1/nodes/{NODE}")["spec"]["taints"]):
            time.sleep(0.2)
        for task in (self.keep_alive, self.follow):
            threading.Thread(target=task, daemon=True).start()

    def beat(self):
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        size = {"cpu": "9999", "memory": "99Ti", "pods": str(2 * WORKERS), "ephemeral-storage": "99Ti"}
        status = {"capacity": size, "allocatable": size, "addresses": [{"type": "InternalIP", "address": NODE_ADDRESS}],
                  "daemonEndpoints": {"kubeletEndpoint": {"Port": KUBELET_PORT}},
                  "conditions": [{"type": "Ready", "status": "True", "reason": "Bench", "message": "", "lastHeartbeatTime": now,
                                  "lastTransitionTime": "2026-01-01T00:00:00Z"}]}
        self.api.request("PATCH", f"/api/v1/nodes/{NODE}/status", {"status": status}, MERGE)

    def keep_alive(self):
        while True:
            time.sleep(8)
            self.beat()

    def follow(self):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            while True:
                path = f"/api/v1/namespaces/{NAMESPACE}/pods?fieldSelector=spec.nodeName%3D{NODE}&resourceVersion=0"
                list(pool.map(self.serve, self.api.request("GET", path)["items"]))
                time.sleep(0.2)

    def serve(self, pod):
        name = pod["metadata"]["name"]
        path = f"/api/v1/namespaces/{NAMESPACE}/pods/{name}"
        if "deletionTimestamp" in pod["metadata"]:
            self.api.request("DELETE", f"{path}?gracePeriodSeconds=0", accept=(200, 404))
        elif pod["metadata"]["uid"] not in self.known:
            self.known.add(pod["metadata"]["uid"])
            ip = address(int(name.rsplit("-", 1)[1]))
            container = {"name": pod["spec"]["containers"][0]["name"], "image": "i", "imageID": "i", "ready": True, "restartCount": 0,
                         "containerID": f"bench://{name}", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}
            conditions = [{"type": kind, "status": "True"} for kind in ("Initialized", "Ready", "ContainersReady", "PodScheduled")]
            status = {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "hostIP": NODE_ADDRESS, "containerStatuses": [container],
                      "startTime": "2026-01-01T00:00:00Z", "conditions": conditions}
            self.api.request("PATCH", f"{path}/status", {"status": status}, MERGE, accept=(200, 404))
            self.workers.register(ip)


class Kubelet(http.server.BaseHTTPRequestHandler):
    """Has logs, and nothing else."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        has_logs = self.path.startswith("/containerLogs/")
        text = LOG.encode() if has_logs else b"no\n"
        self.send_response(200 if has_logs else 404)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_POST = do_GET

    def log_message(self, *_):
        pass


class KubeletServer(http.server.ThreadingHTTPServer):
    request_queue_size = 4096
    daemon_threads = True


def serve_kubelet():
    with tempfile.TemporaryDirectory() as folder:
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={NODE}",
                   "-keyout", f"{folder}/key", "-out", f"{folder}/certificate"]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f"{folder}/certificate", f"{folder}/key")
    server = KubeletServer((NODE_ADDRESS, KUBELET_PORT), Kubelet)
    # Each handshake in its own thread.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()


class Workers:
    """The program that registers workers, once there is a leader."""

    def __init__(self, api):
        self.api, self.waiting, self.program, self.leader = api, [], None, None
        self.lock = threading.Lock()

    def register(self, ip):
        with self.lock:
            self.waiting.append(ip)
            self.flush()

    def flush(self):
        if self.program:
            self.program.stdin.write("".join(f"{ip}\n" for ip in self.waiting))
            self.program.stdin.flush()
            self.waiting.clear()

    def follow_leader(self):
        """Until a master leads; returns its address."""
        selector = "labelSelector=app.kubernetes.io%2Fcomponent%3Dmaster"
        while True:
            for pod in self.api.request("GET", f"/api/v1/namespaces/{NAMESPACE}/pods?{selector}", accept=(200, 404)).get("items", []):
                if (ip := pod["status"].get("podIP")) and ask(ip, "status") == "ALIVE":
                    here = os.path.dirname(os.path.realpath(__file__))
                    command = ["java", "-XX:+UseSerialGC", "-cp", f"{os.environ['SPARK_HOME']}/jars/*", f"{here}/ManyWorkers.java", ip, "7077"]
                    with self.lock:
                        self.program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                                        stderr=subprocess.DEVNULL, text=True)
                        self.flush()
                    self.leader = ip
                    return
            time.sleep(0.2)


def ask(ip, field):
    try:
        connection = http.client.HTTPConnection(ip, 8080, timeout=5)
        connection.request("GET", f"/json/{field}")
        return json.loads(connection.getresponse().read())[field]
    except (OSError, http.client.HTTPException):
        return None


def until_registered(workers, count, end):
    """The time at which the master lists so many workers."""
    while not end.is_set() and (not workers.leader or ask(workers.leader, "aliveworkers") != count):
        time.sleep(0.05)
    return time.time()


def timed(*command, codes=(0,)):
    began = time.time()
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    took = time.time() - began
    if run.returncode not in codes:
        raise SystemExit(f"{' '.join(command)}: {run.returncode}\n{run.stdout[-3000:]}{run.stderr[-3000:]}")
    return took, run.stdout


def waits(workers, command, count):
    """How long after the registration of all workers a command ends that waits for them."""
    end = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        registered = pool.submit(until_registered, workers, count, end)
        try:
            took, _ = timed(*command)
            ended = time.time()
        finally:
            end.set()
        return took, ended - registered.result()


def say(what, took, beyond):
    print(f"{what}: {took:.2f} s, {max(beyond, 0):.2f} s beyond (at most 2 s){'  TOO MUCH' if beyond > 2 else ''}", flush=True)


def measure(sparkha):
    api = Api()
    api.request("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}}, accept=(201, 409))
    serve_kubelet()
    workers = Workers(api)
    Node(api, workers)
    threading.Thread(target=workers.follow_leader, daemon=True).start()
    try:
        measure_waits(sparkha, workers)
        measure_commands(sparkha)
    finally:
        if workers.program:
            workers.program.terminate()


def measure_waits(sparkha, workers):
    where = ["--namespace", NAMESPACE]
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(FILE)
        file.flush()
        took, beyond = waits(workers, [sparkha, "create", *where, "-f", file.name], WORKERS - 1)
    say(f"create of {WORKERS - 1} workers, beyond their registration", took, beyond)
    took, beyond = waits(workers, [sparkha, "scale", "--workers", str(WORKERS), *where], WORKERS)
    say("scale by one worker, beyond its registration", took, beyond)


def measure_commands(sparkha):
    where = ["--namespace", NAMESPACE]
    selector = ["--namespace", NAMESPACE, "--selector", "app.kubernetes.io/instance=spark"]
    for _ in range(3):
        theirs, _ = timed("kubectl", "get", "pods,statefulsets", *selector, "--output", "json")
        took, text = timed(sparkha, "status", *where)
        say(f"status, beyond kubectl's list of the same objects ({theirs:.2f} s)", took, took - theirs)
    for _ in range(3):
        theirs = read_logs(Api())
        took, text = timed(sparkha, "logs", *where, "--tail", "10")
        say(f"logs ({len(text.splitlines())} lines), beyond 64 readers of the same logs ({theirs:.2f} s)", took, took - theirs)
    for _ in range(3):
        # It finds that nothing runs on the node.
        took, _ = timed(sparkha, "doctor", *where, codes=range(256))
        say("doctor", took, took)


def read_logs(api):
    """How long the server takes for all logs."""
    base = f"/api/v1/namespaces/{NAMESPACE}/pods"
    began = time.time()
    pods = api.request("GET", f"{base}?labelSelector=app.kubernetes.io%2Finstance%3Dspark")["items"]
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        list(pool.map(lambda pod: api.read(f"{base}/{pod['metadata']['name']}/log?tailLines=10&timestamps=true", "*/*"), pods))
    return time.time() - began


def remove():
    api = Api()
    api.request("DELETE", f"/api/v1/nodes/{NODE}", accept=(200, 404))
    api.request("DELETE", f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets", accept=(200, 404))
    api.request("DELETE", f"/api/v1/namespaces/{NAMESPACE}/pods?gracePeriodSeconds=0", accept=(200, 404))
    api.request("DELETE", f"/api/v1/namespaces/{NAMESPACE}", accept=(200, 404, 409))


match sys.argv[1:]:
    case ["measure", path]:
        measure(path)
    case ["remove"]:
        remove()
