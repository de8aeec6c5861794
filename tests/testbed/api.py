"""The API server as the testbed's own daemons use it: plain requests with the administrator's certificate."""

import http.client
import json
import ssl
import threading
import time
import urllib.request


class Api:
    def __init__(self, server, state):
        self.server = server
        self.tls = ssl.create_default_context(cafile=f"{state}/pki/ca.crt")
        self.tls.load_cert_chain(f"{state}/pki/admin.crt", f"{state}/pki/admin.key")
        # Set at every change of what is followed.
        self.changed = threading.Event()
        # By path, then by UID.
        self.known = {}

    def call(self, method, path, body=None, timeout=10):
        request = urllib.request.Request(self.server + path, method=method)
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        return urllib.request.urlopen(request, context=self.tls, timeout=timeout)

    def items(self, path):
        """The objects of a path that is followed."""
        return list(self.known[path].values())

    def follow(self, *paths):
        """Lists them, and watches them from then on: to list everything at every change would take the node a tenth of its time."""
        for path in paths:
            threading.Thread(target=self._follow, args=(path,), daemon=True).start()
        while any(path not in self.known for path in paths):
            time.sleep(0.05)

    def _follow(self, path):
        version = None
        while True:
            try:
                if version is None:
                    version = self._list(path)
                version = self._watch(path, version)
            except (OSError, ValueError, http.client.HTTPException) as error:
                print(f"{path}: {error}", flush=True)
                version = None
                time.sleep(0.5)

    def _list(self, path):
        listed = json.load(self.call("GET", path))
        self.known[path] = {item["metadata"]["uid"]: item for item in listed["items"]}
        self.changed.set()
        return listed["metadata"]["resourceVersion"]

    def _watch(self, path, version):
        """Until the server ends it: the version to go on with, or None."""
        watch = f"{path}?watch=1&timeoutSeconds=300&resourceVersion={version}"
        for line in self.call("GET", watch, timeout=310):
            event = json.loads(line)
            item = event["object"]
            match event["type"]:
                case "ADDED" | "MODIFIED":
                    self.known[path][item["metadata"]["uid"]] = item
                case "DELETED":
                    self.known[path].pop(item["metadata"]["uid"], None)
                case _:
                    return None
            version = item["metadata"]["resourceVersion"]
            self.changed.set()
        return version
