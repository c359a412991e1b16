"""Fake models on disk, plans that take no real time, and a small coordinator on loopback."""

import gzip
import hashlib
import json
import os
import shutil
import ssl
import threading
import zipapp
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn
from typing import Any

from agents.platform.own_program import location
from agents.protocol import PROTOCOL_VERSION, VersionMismatch, check_version

ROOT = location()
PLAN = {"name": "test", "block_s": 0.004, "min_blocks": 8, "min_s": 0.0, "max_s": 0.2,
        "gate": 0.06, "fresh_session_every_s": 0.1, "warmup_s": 0.005}
WAIT_S = 60.0


def fake_model(**fields):
    return json.dumps(dict({"fake_model": 1}, **fields), sort_keys=True).encode()


def ref_of(content):
    return {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}


def payload_of(contents, runtime="fake", **plan):
    refs = [ref_of(content) for content in contents]
    return {"reference": refs[0], "candidates": refs[1:], "runtime": runtime,
            "options": {"threads": 1, "graph_level": "all", "batch": 1},
            "plan": dict(PLAN, **plan), "quiet_level_s": None, "input_seed": 0, "attempt": 1}


def written(folder, contents):
    """Paths by sha256."""
    paths = {}
    for content in contents:
        path = folder / ref_of(content)["sha256"]
        path.write_bytes(content)
        paths[path.name] = str(path)
    return paths


def built_agent(folder, version=PROTOCOL_VERSION, note=""):
    """The bytes of an agent.pyz; it says ``note``, and that it speaks ``version``."""
    source, archive = str(folder / "source"), str(folder / "built.pyz")
    shutil.copytree(os.path.join(ROOT, "agents"), os.path.join(source, "agents"),
                    ignore=shutil.ignore_patterns("__pycache__"))
    spoken = "PROTOCOL_VERSION = {}\n"
    spoken_in = os.path.join(source, "agents", "protocol", "messages.py")
    with open(spoken_in) as stream:
        text = stream.read()
    assert spoken.format(PROTOCOL_VERSION) in text
    with open(spoken_in, "w") as stream:
        stream.write(text.replace(spoken.format(PROTOCOL_VERSION), spoken.format(version)))
    with open(os.path.join(source, "agents", "__init__.py"), "a") as stream:
        stream.write("# {}\n".format(note))
    zipapp.create_archive(source, archive, main="agents.__main__:main")
    shutil.rmtree(source)
    with open(archive, "rb") as stream:
        return stream.read()


class Coordinator:
    """The coordinator's side of the wire, with knobs to be a bad one."""

    def __init__(self, certificate=None, port=0):
        self.leases: Any = []
        self.artifacts: Any = {}
        self.results: Any = {}
        self.requests: Any = []
        self.heartbeats: Any = []
        self.verdict = "continue"
        self.tokens = {"token-1", "token-2"}
        self.secret = None
        self.drop = 0
        self.statuses: Any = []
        self.cut_after = None
        self.protocol = PROTOCOL_VERSION
        self.agent_file = None
        self.agent_sha256 = None
        self.on_artifact: Any = lambda: None
        self.on_agent_file: Any = lambda: None
        self.changed = threading.Condition()
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.coordinator = self
        self.port = self._server.server_address[1]
        if certificate is not None:
            self.present(certificate)
        self.url = "{}://127.0.0.1:{}".format("https" if certificate else "http", self.port)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def present(self, certificate):
        """TLS with this PEM file of certificate and key, for connections from now on."""
        self._server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._server.context.load_cert_chain(certificate)

    def offer(self, agent_file):
        """Serves this agent.pyz and names its digest."""
        self.agent_file = agent_file
        self.agent_sha256 = hashlib.sha256(agent_file).hexdigest()

    def add(self, contents, job=1, fence=1, ttl_s=30.0, deadline_s=60.0, payload=None,
            transfer_s=None, **plan):
        for content in contents:
            self.artifacts[ref_of(content)["sha256"]] = content
        with self.changed:
            self.leases.append({
                "job": job, "kind": "measure", "attempt": 1, "fence": fence, "ttl_s": ttl_s,
                "deadline_s": deadline_s, "payload": payload or payload_of(contents, **plan)})
            if transfer_s is not None:
                self.leases[-1]["transfer_s"] = transfer_s
            self.changed.notify_all()

    def wait_for(self, condition):
        with self.changed:
            assert self.changed.wait_for(condition, WAIT_S), "the agent did not do it in time"

    def paths(self):
        return [path for _, path, _ in self.requests]


class _Server(ThreadingMixIn, HTTPServer):
    daemon_threads = True
    coordinator: Any = None
    context: Any = None

    def get_request(self):
        connection, address = super().get_request()
        if self.context is not None:
            connection = self.context.wrap_socket(connection, server_side=True)
        return connection, address

    def handle_error(self, request, client_address):
        pass  # an agent that is killed leaves a broken connection


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        self._serve()

    do_POST = do_PUT = do_GET

    def _serve(self):
        server: Any = self.server
        owner = server.coordinator
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with owner.changed:
            owner.requests.append((self.command, self.path, dict(self.headers)))
            owner.changed.notify_all()
            if owner.drop:
                owner.drop -= 1
                self.close_connection = True
                return
            if owner.statuses:
                self._answer(owner.statuses.pop(0), {"error": "scripted"})
                return
        secret = self.headers.get("Authorization")
        if self.path == "/agent.pyz":
            owner.on_agent_file()
            self._send_bytes(200, owner.agent_file)
        elif self.path != "/v1/agents" and secret != "Bearer {}".format(owner.secret):
            self._answer(401, {"error": "unknown secret"})
        elif self.path.startswith("/v1/artifacts/"):
            self._artifact(owner, self.path.split("/")[-1])
        elif self.path.startswith("/v1/results/"):
            self._result(owner, body)
        else:
            getattr(self, "_" + self.path.split("/")[-1])(owner, json.loads(body.decode()))

    def _agents(self, owner, message):
        if self._outdated(owner, message):
            return
        if message["token"] not in owner.tokens:
            self._answer(401, {"error": "the token is spent"})
        else:
            owner.tokens.discard(message["token"])
            owner.secret = "secret-of-" + message["token"]
            self._answer(200, {"agent": message["name"], "secret": owner.secret, "protocol": 1})

    def _outdated(self, owner, message):
        try:
            check_version(message["protocol"], owner.protocol)
            return False
        except VersionMismatch as error:
            self._answer(426, {"error": str(error), "server": error.server,
                               "client": error.client})
            return True

    def _lease(self, owner, message):
        if self._outdated(owner, message):
            return
        with owner.changed:
            owner.changed.wait_for(lambda: owner.leases, min(message["wait_s"], 0.3))
            lease = owner.leases.pop(0) if owner.leases else None
        self._answer(200, lease) if lease else self._answer(204, None)

    def _heartbeat(self, owner, message):
        with owner.changed:
            owner.heartbeats.append(message)
            owner.changed.notify_all()
        if owner.verdict == "stale":
            self._answer(409, {"error": "stale fence"})
        else:
            self._answer(200, {"verdict": owner.verdict})

    def _result(self, owner, body):
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if hashlib.sha256(body).hexdigest() != self.headers["X-Content-Sha256"]:
            self._answer(400, {"error": "digest"})
            return
        with owner.changed:
            owner.results[self.path] = json.loads(body.decode())
            owner.changed.notify_all()
        self._answer(200, {"accepted": True})

    def _artifact(self, owner, sha256):
        content = owner.artifacts.get(sha256)
        if content is None:
            self._answer(404, {"error": "no such artifact"})
            return
        owner.on_artifact()
        start = 0
        if "Range" in self.headers:
            start = int(self.headers["Range"][len("bytes="):].rstrip("-"))
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        rest = content[start:]
        if owner.cut_after is not None:
            rest, owner.cut_after = rest[:owner.cut_after], None
            self.close_connection = True
        self.wfile.write(rest)

    def _answer(self, status, content):
        self._send_bytes(status, b"" if content is None else json.dumps(content).encode())

    def _send_bytes(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        agent_sha256 = self.server.coordinator.agent_sha256
        if agent_sha256 and (self.path == "/v1/lease" or status == 426):
            self.send_header("X-Agent-Sha256", agent_sha256)
        self.end_headers()
        self.wfile.write(body)
