"""A pytest plugin that gives kazoo's published tests a server of ours.

kazoo's harness starts Apache's server itself. Here its cluster is one process,
started with the command in INTEROP_SERVER (words separated by tabs, to which
the path of a zoo.cfg is added) on the port INTEROP_PORT.
"""

import faulthandler
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import sys
import time
import types

# The harness imports what it makes certificates with, for its TLS tests.
for name in ("OpenSSL", "jks"):
    sys.modules.setdefault(name, types.ModuleType(name))

from kazoo.testing import harness  # noqa: E402

PATIENCE = 60  # seconds

# Who waits too long for the tests asks with SIGQUIT what they wait for. Pytest
# is about to take standard error for itself.
stderr = os.fdopen(os.dup(2), "w")
faulthandler.register(signal.SIGQUIT, file=stderr)


class Server:
    """One server process, with the methods kazoo's tests call on theirs."""

    def __init__(self):
        self.client_port = int(os.environ["INTEROP_PORT"])
        self.address = "127.0.0.1:%d" % self.client_port
        self.working_path = tempfile.mkdtemp()
        self.log = os.path.join(self.working_path, "server.log")
        self.process = None

    @property
    def running(self):
        return self.process is not None

    def run(self):
        if self.running:
            return
        config = os.path.join(self.working_path, "zoo.cfg")
        with open(config, "w") as f:
            f.write(
                "dataDir=%s/data\n"
                "clientPort=%d\n"
                "tickTime=2000\n"
                "maxClientCnxns=0\n"
                "admin.enableServer=false\n"
                "4lw.commands.whitelist=*\n"
                "DigestAuthenticationProvider.superDigest=super:D/InIHSb7yEEbrWz8b9l71RjZJU=\n"
                % (self.working_path, self.client_port)
            )
        with open(self.log, "a") as log:
            command = os.environ["INTEROP_SERVER"].split("\t") + [config]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.time() + PATIENCE
        while time.time() < deadline:
            if self._mode():
                return
            time.sleep(0.02)
        raise Exception("the server does not serve: %s" % self.get_logs())

    def _mode(self):
        try:
            with socket.create_connection(("127.0.0.1", self.client_port), 2) as s:
                s.sendall(b"srvr")
                answer = b""
                while True:
                    part = s.recv(4096)
                    if not part:
                        return b"Mode: " in answer
                    answer += part
        except OSError:
            return False

    def stop(self):
        if self.running:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(PATIENCE)
            self.process = None

    def reset(self):
        self.stop()
        shutil.rmtree(os.path.join(self.working_path, "data"), ignore_errors=True)

    def get_logs(self, num_lines=100):
        with open(self.log) as f:
            return f.readlines()[-num_lines:]


class Cluster(list):
    def start(self):
        for server in self:
            server.run()

    def stop(self):
        for server in self:
            server.stop()

    def reset(self):
        for server in self:
            server.reset()

    def terminate(self):
        # The harness calls it after each test class; the server may stay.
        pass

    def get_logs(self):
        return [server.get_logs() for server in self]


cluster = Cluster([Server()])
harness.get_global_cluster = lambda: cluster


def pytest_sessionfinish(session, exitstatus):
    cluster.stop()
    for server in cluster:
        shutil.rmtree(server.working_path, ignore_errors=True)
