"""The API server as the testbed's own daemons use it: plain requests with the administrator's certificate."""

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
        # Set at every event of what is followed.
        self.changed = threading.Event()

    def call(self, method, path, body=None, timeout=10):
        request = urllib.request.Request(self.server + path, method=method)
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        return urllib.request.urlopen(request, context=self.tls, timeout=timeout)

    def items(self, path):
        return json.load(self.call("GET", path))["items"]

    def follow(self, *paths):
        for path in paths:
            threading.Thread(target=self._follow, args=(path,), daemon=True).start()

    def _follow(self, path):
        while True:
            try:
                for _ in self.call("GET", f"{path}?watch=1&timeoutSeconds=300", timeout=310):
                    self.changed.set()
            except OSError:
                time.sleep(0.5)
            self.changed.set()
