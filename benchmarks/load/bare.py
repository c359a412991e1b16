"""A server that answers lease, heartbeat and result with constants; measures the cost of HTTP.

    python -m benchmarks.load.bare --dir DIR

It uses the coordinator's uvicorn, httptools and uvloop, and responses of the same sizes, without a
ledger. It writes its address to ``DIR/coordinator.json``, as a coordinator does.
"""

import argparse
import json
import logging
import os
import socket
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agents import protocol
from benchmarks.load.prepared import payload
from searcher.client.http import ADDRESS

DIGEST = "c" * 64
"""Digest of an agent, which is a header of every response to a lease request."""


def answers() -> dict[str, bytes]:
    """Second segment of the path -> body."""
    leased = protocol.Lease(10_000, "measure", 1, 10_000, 30.0, 120.0, payload(0))
    return {
        "lease": protocol.encode(leased),
        "heartbeat": protocol.encode(protocol.HeartbeatAnswer("continue")),
        "results": protocol.encode(protocol.ResultAnswer(True)),
        "healthz": b"{}",
    }


def bare_app() -> ASGIApp:
    """An app that reads the whole body, then answers by path."""
    bodies = answers()
    starts: dict[str, Message] = {}
    for part, body in bodies.items():
        headers = [(b"content-type", b"application/json"),
                   (b"content-length", str(len(body)).encode())]
        if part == "lease":
            headers.append((b"x-agent-sha256", DIGEST.encode()))
        starts[part] = {"type": "http.response.start", "status": 200, "headers": headers}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body", False):
            pass
        parts = scope["path"].split("/")
        part = parts[2] if len(parts) > 2 else parts[1]
        await send(starts[part])
        await send({"type": "http.response.body", "body": bodies[part]})

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dir", type=Path, required=True)
    options = parser.parse_args()
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    address = {"url": f"http://127.0.0.1:{listener.getsockname()[1]}", "pid": os.getpid(),
               "token": ""}
    (options.dir / ADDRESS).write_text(json.dumps(address))
    logging.basicConfig(level=logging.WARNING)
    config = uvicorn.Config(
        bare_app(), access_log=False, log_config=None, lifespan="off", loop="uvloop",
        http="httptools", ws="none", proxy_headers=False, server_header=False,
        timeout_keep_alive=120)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
