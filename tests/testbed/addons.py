"""Cluster DNS and a storage provisioner for the testbed: Debian packages neither.

DNS is dnsmasq with a hosts file that is written anew whenever a Service or its Endpoints change. The provisioner gives every
pending claim of class "testbed" a folder of the node, and removes it when its volume is released.

usage: addons.py SERVER STATE-DIRECTORY DNS-ADDRESS
"""

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error

from api import Api

SERVER, STATE, ADDRESS = sys.argv[1:]
HOSTS = f"{STATE}/hosts"
DOMAIN = "cluster.local"
STORAGE_CLASS = "testbed"

api = Api(SERVER, STATE)


def records():
    """Lines of the hosts file: services by their address, headless ones and their named pods by the pods' addresses."""
    services = {}
    for service in api.items("/api/v1/services"):
        meta, spec = service["metadata"], service["spec"]
        services[meta["namespace"], meta["name"]] = spec
        if spec.get("clusterIP", "None") != "None":
            yield spec["clusterIP"], f"{meta['name']}.{meta['namespace']}.svc.{DOMAIN}"
    for endpoints in api.items("/api/v1/endpoints"):
        namespace, name = endpoints["metadata"]["namespace"], endpoints["metadata"]["name"]
        spec = services.get((namespace, name))
        if spec is None:
            continue
        suffix = f"{name}.{namespace}.svc.{DOMAIN}"
        for subset in endpoints.get("subsets") or []:
            addresses = list(subset.get("addresses") or [])
            if spec.get("publishNotReadyAddresses"):
                addresses += subset.get("notReadyAddresses") or []
            for address in addresses:
                if spec.get("clusterIP") == "None":
                    yield address["ip"], suffix
                if "hostname" in address:
                    yield address["ip"], f"{address['hostname']}.{suffix}"


def write_hosts(dnsmasq):
    text = "".join(f"{ip} {name}\n" for ip, name in sorted(set(records())))
    try:
        with open(HOSTS) as file:
            if file.read() == text:
                return
    except FileNotFoundError:
        pass
    with open(HOSTS + ".new", "w") as file:
        file.write(text or "# no service yet\n")
    os.replace(HOSTS + ".new", HOSTS)
    dnsmasq.send_signal(signal.SIGHUP)


def change(method, path, body=None):
    """What was done already, and is not known here yet, is no error."""
    try:
        api.call(method, path, body)
    except urllib.error.HTTPError as error:
        if error.code not in (404, 409):
            raise


def provision():
    volumes = "/api/v1/persistentvolumes"
    known = {volume["metadata"]["name"]: volume for volume in api.items(volumes)}
    for claim in api.items("/api/v1/persistentvolumeclaims"):
        meta, spec = claim["metadata"], claim["spec"]
        name = f"testbed-{meta['uid']}"
        if spec.get("storageClassName") != STORAGE_CLASS or spec.get("volumeName") or name in known:
            continue
        folder = f"{STATE}/volumes/{name}"
        os.makedirs(folder, exist_ok=True)
        os.chmod(folder, 0o777)
        claimed = {"kind": "PersistentVolumeClaim", "apiVersion": "v1", "name": meta["name"],
                   "namespace": meta["namespace"], "uid": meta["uid"]}
        change("POST", volumes, {
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
            "spec": {"capacity": spec["resources"]["requests"], "accessModes": spec["accessModes"],
                     "persistentVolumeReclaimPolicy": "Retain", "storageClassName": STORAGE_CLASS,
                     "hostPath": {"path": folder, "type": "Directory"}, "claimRef": claimed}})
    for name, volume in known.items():
        if name.startswith("testbed-") and volume.get("status", {}).get("phase") == "Released":
            shutil.rmtree(f"{STATE}/volumes/{name}", ignore_errors=True)
            change("DELETE", f"{volumes}/{name}")


def main():
    open(HOSTS, "a").close()
    dnsmasq = subprocess.Popen([
        "dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", f"--addn-hosts={HOSTS}", "--user=root",
        f"--listen-address={ADDRESS}", "--bind-interfaces", f"--local=/{DOMAIN}/", "--no-negcache", "--local-ttl=0",
        "--pid-file", "--conf-file=/dev/null"],
        # It takes a moment until it listens to signals; one that comes before must not end it.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    api.follow("/api/v1/services", "/api/v1/endpoints", "/api/v1/persistentvolumeclaims", "/api/v1/persistentvolumes")
    while dnsmasq.poll() is None:
        api.changed.wait(timeout=30)
        api.changed.clear()
        try:
            write_hosts(dnsmasq)
            provision()
        except (OSError, urllib.error.URLError) as error:
            print(error, flush=True)
            time.sleep(0.5)
            api.changed.set()
    sys.exit(dnsmasq.returncode)


main()
