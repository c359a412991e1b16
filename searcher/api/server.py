"""The coordinator's process: ``python -m searcher.api.server --dir DIR``.

It takes DIR's lock, opens the ledger, binds, writes ``DIR/coordinator.json`` (address, operator
token, pid; mode 0600) and serves until SIGTERM or SIGINT: whoever finds the file may connect.
Imports neither torch nor optuna.
"""

import argparse
import asyncio
import importlib
import json
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

import uvicorn

from searcher.api.app import create_app
from searcher.coordinator import Coordinator
from searcher.devices.enrolment import Host
from searcher.errors import FleetfrontError, UserError
from searcher.keeping import parse_bytes
from searcher.ledger.clock import steady_clock
from searcher.ledger.store import Store
from searcher.lifeline import die_with_parent
from searcher.ownership import owned
from searcher.workers.base import NoWorkers, Workers
from searcher.workers.process_pool import ProcessPool

LEDGER = "ledger.db"
ADDRESS = "coordinator.json"
BUILDER_COMMAND = (sys.executable, "-m", "searcher.builder_process")
_KEEP_ALIVE_S = 120


class _Server(uvicorn.Server):
    """Stopping does not wait for long polls, and the process outlives it to clean up
    (uvicorn's own handler lets the signal kill the process at the end)."""

    def __init__(self, config: uvicorn.Config, on_exit: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_exit = on_exit

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True
        self._on_exit()


def write_address(folder: Path, url: str, token: str) -> None:
    """Atomically, and readable by the owner only."""
    path, draft = folder / ADDRESS, folder / f"{ADDRESS}.{os.getpid()}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump({"url": url, "token": token, "pid": os.getpid()}, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise UserError(f"Cannot listen on {host} port {port}: {error}. Choose another --port.") \
            from error
    listener.listen(2048)
    return listener


def _crew(options: argparse.Namespace, coordinator: Coordinator, url: str) -> Workers:
    if options.builders == 0:
        return NoWorkers()
    loop = asyncio.get_running_loop()
    command = [
        *(options.builder_command or BUILDER_COMMAND), "--url", url, "--dir", str(options.dir),
        "--parent-pid", str(os.getpid()),
    ]
    return ProcessPool(
        command, options.builders, options.dir / "logs", admit=coordinator.roster.add_builder,
        ended=coordinator.builder_ended, post=lambda run: _soon(loop, run),
    )


def _soon(loop: asyncio.AbstractEventLoop, run: Callable[[], None]) -> None:
    loop.call_soon_threadsafe(run)


def serve(options: argparse.Namespace) -> None:
    """Raises UserError or LedgerError before it serves; returns after a graceful stop."""
    if options.host not in ("127.0.0.1", "::1", "localhost"):
        raise UserError(
            f"--host {options.host}: without TLS the coordinator listens on loopback only."
        )
    folder: Path = options.dir
    with owned(folder):
        (folder / ADDRESS).unlink(missing_ok=True)
        (folder / "artifacts").mkdir(exist_ok=True)
        store = Store(folder / LEDGER)
        try:
            _serve(options, store, _bound(options.host, options.port))
        finally:
            (folder / ADDRESS).unlink(missing_ok=True)
            store.close()


def _serve(options: argparse.Namespace, store: Store, listener: socket.socket) -> None:
    url = _url(options.host, listener)
    coordinator = Coordinator(store, options.dir, steady_clock(), host=Host.here())
    coordinator.keeping.bound_bytes = parse_bytes(options.keep) if options.keep else None
    token = secrets.token_urlsafe(32)

    async def started() -> None:
        coordinator.start(_crew(options, coordinator, url))
        write_address(options.dir, url, token)
        # The first result would otherwise wait for numpy and scipy.
        warm = asyncio.to_thread(importlib.import_module, "searcher.measurement")
        app.state.warming = asyncio.create_task(warm)

    app = create_app(coordinator, token, started)
    config = uvicorn.Config(
        app, access_log=False, log_config=None, lifespan="on",
        timeout_keep_alive=_KEEP_ALIVE_S, timeout_graceful_shutdown=5,
    )
    _Server(config, app.state.bells.close).run(sockets=[listener])


def _url(host: str, listener: socket.socket) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}"


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m searcher.api.server", description=__doc__)
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--builders", type=int, default=1, help="builder processes")
    parser.add_argument("--keep", metavar="SIZE",
                        help="bound on artifacts/ and builds/, such as 50GB; default: none")
    parser.add_argument("--builder-command", action="append", metavar="WORD",
                        help="the builder's command, word by word, instead of the shipped one")
    parser.add_argument("--parent-pid", type=int, help="end when this process, the parent, ends")
    options = parser.parse_args(arguments)
    options.dir = options.dir.absolute()
    if options.builders < 0:
        parser.error(f"--builders {options.builders} must be 0 or more")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    if options.parent_pid is not None:
        die_with_parent(options.parent_pid)
    try:
        serve(options)
    except FleetfrontError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
