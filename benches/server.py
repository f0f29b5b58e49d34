"""A server to measure: its process, its administrator's requests, its end. Used by the scripts beside it."""

import base64
import http.client
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import time

IMAGE = "orch.local/orch:latest"
DEADLINE = 60


class Server:
    """A server on an empty directory; times are counted from just before its process is made."""

    def __init__(self, orch, data, prefix=()):
        self.data = data
        self.kubeconfig = data + ".yaml"
        self.log = open(data + ".log", "wb")
        subprocess.run([orch, "image", "--data-dir", data, "self-image", IMAGE], check=True, stdout=subprocess.DEVNULL)
        self.command = [*prefix, orch, "server", "--data-dir", data, "--write-kubeconfig", self.kubeconfig]
        self.context = ssl.create_default_context()
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE
        self.start()

    def start(self):
        self.begun = time.monotonic()
        self.process = subprocess.Popen(self.command, stdout=self.log, stderr=self.log)

    def since(self):
        return time.monotonic() - self.begun

    def connection(self):
        return http.client.HTTPSConnection("127.0.0.1", 6443, context=self.context, timeout=DEADLINE)

    def call(self, method, path, body=None, connection=None):
        connection = connection or self.connection()
        text = json.dumps(body) if body is not None else None
        connection.request(method, path, body=text, headers={"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
        return answer.status, json.loads(content) if content[:1] == b"{" else content

    def retry(self, attempt):
        while True:
            try:
                if value := attempt():
                    return value
            except OSError:
                pass
            if self.process.poll() is not None or self.since() > DEADLINE:
                sys.exit(f"the server is not ready; see its log:\n{open(self.data + '.log').read()[-4000:]}")
            time.sleep(0.002)

    def wait_ready(self):
        self.retry(lambda: self.call("GET", "/readyz")[0] == 200)
        return self.since()

    def log_in(self):
        """Takes the administrator's certificate from the kubeconfig."""
        text = open(self.kubeconfig).read()
        for field in ["client-certificate-data", "client-key-data"]:
            value = re.search(field + r":\s*\"?([A-Za-z0-9+/=]+)", text).group(1)
            with open(f"{self.data}.{field}", "wb") as file:
                file.write(base64.b64decode(value))
        self.context.load_cert_chain(self.data + ".client-certificate-data", self.data + ".client-key-data")

    def wait_node(self):
        def ready():
            status, node = self.call("GET", f"/api/v1/nodes/{os.uname().nodename}", connection=connection)
            conditions = node.get("status", {}).get("conditions", []) if status == 200 else []
            return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

        connection = self.connection()
        self.retry(ready)
        return self.since()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(DEADLINE)
