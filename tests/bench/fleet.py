"""The parts of fleet.sh: `create SPARKHA`, `masters`, `measure SPARKHA` and `remove`."""

import asyncio
import base64
import concurrent.futures
import http.client
import json
import os
import re
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

CLUSTERS = int(os.environ.get("CLUSTERS", "1000"))
IDLE = int(os.environ.get("SECONDS_IDLE", "30"))
OF_ONE_NAMESPACE = 10
PARTS = [("master", 3), ("zookeeper", 3), ("worker", 2)]
METRICS = 19099
ETCD = "http://127.0.0.1:19379"


def name(number):
    return f"c{number:04}"


def namespace(number):
    return f"fleet-{number // OF_ONE_NAMESPACE}"


def address(number, ordinal):
    """Of a pod, of which each cluster has eight."""
    index = number * 8 + ordinal
    return f"10.99.{index // 250}.{index % 250 + 1}"


class Api:
    """One connection for each thread."""

    def __init__(self):
        view = ["kubectl", "config", "view", "--raw", "--minify", "--flatten", "-o", "json"]
        config = json.loads(subprocess.check_output(view))
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self.server = urllib.parse.urlparse(cluster["server"])
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self.context = ssl.create_default_context(cadata=authority)
        with tempfile.NamedTemporaryFile() as pair:
            pair.write(base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"]))
            pair.flush()
            self.context.load_cert_chain(pair.name)
        self.local = threading.local()

    def request(self, method, path, body=None, kind="application/json", accept=(200, 201)):
        if not hasattr(self.local, "connection"):
            self.local.connection = http.client.HTTPSConnection(self.server.netloc, context=self.context)
        self.local.connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": kind})
        response = self.local.connection.getresponse()
        text = response.read()
        if response.status not in accept:
            raise SystemExit(f"{method} {path}: {response.status} {text[:300]}")
        return json.loads(text)

    def read(self, path, accept):
        connection = http.client.HTTPSConnection(self.server.netloc, context=self.context)
        connection.request("GET", path, headers={"Accept": accept})
        return connection.getresponse().read()


def create(sparkha):
    api = Api()
    rendered = subprocess.check_output([sparkha, "render", name(0)], text=True)
    parsed = subprocess.run(
        ["kubectl", "create", "--dry-run=client", "--validate=false", "-o", "json", "-f", "-"],
        input="---\n".join(part for part in rendered.split("---\n") if re.search("kind: (ConfigMap|StatefulSet)", part)),
        text=True, stdout=subprocess.PIPE, check=True,
    )
    # One document after the other.
    objects = json.loads("[" + re.sub(r"^}\n{", "},\n{", parsed.stdout, flags=re.M) + "]")
    maps = [object for object in objects if object["kind"] == "ConfigMap"]
    templates = {
        object["metadata"]["labels"]["app.kubernetes.io/component"]: object["spec"]["template"]
        for object in objects if object["kind"] == "StatefulSet"
    }
    for object in maps:
        object["metadata"].pop("namespace", None)
    maps, templates = [json.dumps(object) for object in maps], {part: json.dumps(template) for part, template in templates.items()}
    began = time.time()

    def make_namespace(number):
        api.request("POST", "/api/v1/namespaces", {"metadata": {"name": f"fleet-{number}"}}, accept=(201, 409))
        account = f"/api/v1/namespaces/fleet-{number}/serviceaccounts/default"
        while api.request("GET", account, accept=(200, 404)).get("kind") != "ServiceAccount":
            time.sleep(0.1)

    def make_cluster(number):
        base = f"/api/v1/namespaces/{namespace(number)}"
        own = lambda text: json.loads(text.replace(name(0), name(number)))
        for object in maps:
            api.request("POST", f"{base}/configmaps", own(object), accept=(201, 409))
        ordinal = 0
        for part, count in PARTS:
            for member in range(count):
                pod = own(templates[part])
                pod["metadata"]["name"] = f"{name(number)}-{part}-{member}"
                # No scheduler looks at it, so that no kubelet and no node controller does.
                pod["spec"] |= {"schedulerName": "nobody", "serviceAccountName": "default"}
                api.request("POST", f"{base}/pods", pod, accept=(201, 409))
                container = {"name": pod["spec"]["containers"][0]["name"], "image": "i", "imageID": "i", "ready": True,
                             "restartCount": 0, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}
                ip = address(number, ordinal)
                status = {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "containerStatuses": [container],
                          "conditions": [{"type": "Ready", "status": "True"}]}
                path = f"{base}/pods/{pod['metadata']['name']}/status"
                api.request("PATCH", path, {"status": status}, "application/merge-patch+json")
                ordinal += 1

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(make_namespace, range((CLUSTERS + OF_ONE_NAMESPACE - 1) // OF_ONE_NAMESPACE)))
        list(pool.map(make_cluster, range(CLUSTERS)))
    print(f"{CLUSTERS} clusters made in {time.time() - began:.0f} s", flush=True)


def remove():
    api = Api()
    for number in range((CLUSTERS + OF_ONE_NAMESPACE - 1) // OF_ONE_NAMESPACE):
        base = f"/api/v1/namespaces/fleet-{number}"
        api.request("DELETE", f"{base}/pods?gracePeriodSeconds=0", accept=(200, 404))
        api.request("DELETE", base, accept=(200, 404, 409))


async def masters():
    """Ordinal 0 of each cluster leads, until /lead?CLUSTER,ORDINAL lets another one. The number of requests is at /count."""
    count = 0
    leaders = {}
    connections = {}

    def report(number, ordinal):
        leads = leaders.get(number, 0) == ordinal
        workers = [{"id": f"w{n}", "host": address(number, 6 + n), "port": 1, "webuiaddress": "", "cores": 1, "coresused": 0,
                    "coresfree": 1, "memory": 1024, "memoryused": 0, "memoryfree": 1024, "state": "ALIVE"} for n in range(2)]
        return {"url": f"spark://{name(number)}-master-{ordinal}:7077", "workers": workers if leads else [],
                "activeapps": [], "completedapps": [], "status": "ALIVE" if leads else "STANDBY"}

    def lead(number, ordinal):
        """The old leader ends, and its connections with it."""
        old, leaders[number] = leaders.get(number, 0), ordinal
        for writer in connections.pop((number, old), []):
            writer.close()

    def told(path, number, ordinal):
        nonlocal count
        if path == "/count":
            return str(count)
        if path.startswith("/lead?"):
            return lead(*map(int, path.removeprefix("/lead?").split(","))) or ""
        count += 1
        whole, field = report(number, ordinal), path.removeprefix("/json/")
        # As Spark does.
        return json.dumps({field: whole.get(field, "")} if field else whole)

    async def answer(reader, writer):
        here = writer.get_extra_info("sockname")[0].split(".")
        member = divmod(int(here[2]) * 250 + int(here[3]) - 1, 8)
        connections.setdefault(member, set()).add(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                body = told(head.split(b" ")[1].decode(), *member).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            connections.get(member, set()).discard(writer)
            writer.close()

    servers = [await asyncio.start_server(answer, "0.0.0.0", port, backlog=4096) for port in (8080, 8081)]
    await asyncio.gather(*(server.serve_forever() for server in servers))


def ask_masters(path):
    # The address of no master.
    connection = http.client.HTTPConnection(address(0, 7), 8080)
    connection.request("GET", path)
    return connection.getresponse().read()


def measure(sparkha):
    for _ in range(3):
        began = time.time()
        with subprocess.Popen([sparkha, "list", "-A", "-o", "name"], stdout=subprocess.PIPE, text=True) as listing:
            listed = sum(1 for line in listing.stdout if "/c" in line)
            _, status, usage = os.wait4(listing.pid, 0)
            listing.returncode = status
        assert status == 0 and listed >= CLUSTERS, (status, listed)
        print(f"list -A: {time.time() - began:.2f} s, {usage.ru_maxrss / 1024:.0f} MiB (at most 0.7 s and 60 MiB)", flush=True)

    measure_server()
    router = ["router", "--listen", "127.0.0.77", "--port", "18099", "--metrics", f"127.0.0.1:{METRICS}"]
    follow(measure_router, sparkha, router)
    follow(measure_ui, sparkha, ["ui", "--port", "18098"])
    with tempfile.TemporaryDirectory() as folder:
        peers = "http://127.0.0.1:19380"
        etcd = ["etcd", "--data-dir", folder, "--listen-client-urls", ETCD, "--advertise-client-urls", ETCD,
                "--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", f"default={peers}"]
        with subprocess.Popen(etcd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
            try:
                while keys() is None:
                    time.sleep(0.1)
                follow(measure_watch, sparkha, ["route", "watch", "--etcd", ETCD])
            finally:
                server.terminate()


def follow(measure, sparkha, arguments):
    """Measures a command that follows all clusters."""
    with tempfile.TemporaryFile() as log:
        began = time.time()
        with subprocess.Popen([sparkha, *arguments, "-A", "--reach", "direct"], stdout=log, stderr=log) as process:
            try:
                measure(process, began, log)
            finally:
                process.terminate()


def measure_server():
    """What the server alone takes for what `list` reads."""
    api = Api()
    pods = "/api/v1/pods?labelSelector=app.kubernetes.io%2Fmanaged-by%3Dsparkha"
    table = "application/json;as=Table;v=v1;g=meta.k8s.io"
    for what, path, accept in (("pods, whole", pods, "application/json"), ("pods as a table, from its cache", f"{pods}&resourceVersion=0", table)):
        began = time.time()
        size = len(api.read(path, accept))
        print(f"the server alone, {what}: {time.time() - began:.2f} s, {size / 2**20:.0f} MiB", flush=True)


def metrics(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", "/metrics")
    return connection.getresponse().read().decode()


def metric(text, what):
    found = re.search(rf"^{what}(?:{{[^}}]*}})? (\S+)$", text, re.M)
    return float(found[1]) if found else 0


def measure_router(router, began, log):
    settled = None
    while time.time() - began < 120 and settled is None:
        time.sleep(0.1)
        if router.poll() is not None:
            log.seek(0)
            raise SystemExit(log.read().decode())
        try:
            text = metrics(METRICS)
        except OSError:
            continue
        if metric(text, "sparkha_clusters_led") >= CLUSTERS:
            settled = time.time() - began
    print(f"router: settled in {settled and f'{settled:.1f} s'} with {metric(text, 'sparkha_routes'):.0f} routes (at most 5 s)", flush=True)
    at_rest("router", router)
    took = max(routed_after(number) for number in range(10))
    print(f"router: a new leader is routed after at most {took:.2f} s, of 10 (at most 1 s)", flush=True)


def at_rest(what, process, seconds=IDLE):
    cpu = lambda: sum(map(int, open(f"/proc/{process.pid}/stat").read().rsplit(")", 1)[1].split()[11:13])) / os.sysconf("SC_CLK_TCK")
    before, asked = cpu(), int(ask_masters("/count"))
    time.sleep(seconds)
    used, asked = (cpu() - before) / seconds, (int(ask_masters("/count")) - asked) / seconds
    print(f"{what}: {peak(process):.0f} MiB, then {100 * used:.1f} % of a core and {asked:.0f} requests a second to masters"
          " (at most 60 MiB and 2 %)", flush=True)


def status(process, what):
    return int(re.search(rf"{what}:\s+(\d+)", open(f"/proc/{process.pid}/status").read())[1])


def peak(process):
    return status(process, "VmHWM") / 1024


def routed_after(number):
    """How long a cluster's web UI is not that of its new leader."""
    began = time.time()
    ask_masters(f"/lead?{number},1")
    host = f"{name(number)}-master.{namespace(number)}.k8s"
    while time.time() - began < 30:
        connection = http.client.HTTPConnection("127.0.0.77", 18099, timeout=5)
        connection.request("GET", "/json/", headers={"Host": host})
        if b"-master-1:7077" in connection.getresponse().read():
            break
        time.sleep(0.01)
    return time.time() - began


def measure_ui(ui, began, log):
    while time.time() - began < 120 and os.fstat(log.fileno()).st_size == 0:
        time.sleep(0.05)
    print(f"ui: prints all addresses after {time.time() - began:.1f} s (at most 5 s)", flush=True)
    at_rest("ui", ui)


def keys():
    """How many etcd has, and the revision of its last change."""
    everything = {"key": "AA==", "range_end": "AA==", "count_only": True}
    request = urllib.request.Request(f"{ETCD}/v3/kv/range", json.dumps(everything).encode())
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            answer = json.load(response)
            return int(answer.get("count", 0)), answer["header"]["revision"]
    except OSError:
        return None


def measure_watch(watch, began, _log):
    last, settled = (0, None), began
    while last[0] < CLUSTERS or time.time() - settled < 3:
        if watch.poll() is not None or time.time() - began > 120:
            raise SystemExit(f"route watch: {last[0]} keys")
        found = keys()
        if found != last:
            last, settled = found, time.time()
        time.sleep(0.1)
    print(f"route watch: has written {last[0]} keys after {settled - began:.1f} s (at most 5 s)", flush=True)
    # It compares everything once a minute.
    at_rest("route watch", watch, 75)
    assert keys() == last, "what it wrote it found again"


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["create", path]:
            create(path)
        case ["masters"]:
            asyncio.run(masters())
        case ["measure", path]:
            measure(path)
        case ["remove"]:
            remove()
