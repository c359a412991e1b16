"""The coordinator process: ``fleetfront serve``, and a child process of ``fleetfront run``
(``python -m searcher.api.server --dir DIR``).

It locks DIR, opens the ledger, binds its port, writes ``DIR/coordinator.json`` (address, operator
token, pid; mode 0600) and serves until SIGTERM or SIGINT. A client needs this file to connect. It
imports neither torch nor optuna.

    1st signal   stop leasing, answer long polls, ask searches to end;
                 answer open requests, end builders and searches, commit and close the ledger
    2nd signal   end at once; children end too, and the ledger has all that was acknowledged
"""

import argparse
import asyncio
import importlib
import json
import logging
import os
import resource
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from starlette.types import ASGIApp

from searcher.api.app import create_app
from searcher.api.http import systemd, tls
from searcher.api.http.logs import AccessLog, access_log, configure
from searcher.api.http.request_head import http_protocol
from searcher.api.settings import ServerSettings
from searcher.artifacts.eviction import parse_bytes
from searcher.client.http import ADDRESS
from searcher.devices.enrolment import Host, fresh_secret
from searcher.dispatch.admission import Admission
from searcher.dispatch.coordinator import Coordinator, Rules
from searcher.dispatch.queue import LeaseRules
from searcher.dispatch.search_supervisor import Supervision
from searcher.errors import FleetfrontError, UserError
from searcher.ledger.clock import steady_clock
from searcher.ledger.directory_lock import owned
from searcher.ledger.store import Store
from searcher.workers.base import Builders, NoWorkers, WorkerPool
from searcher.workers.gate import PauseGate
from searcher.workers.parent_death import die_with_parent
from searcher.workers.registry import DEFAULT as WORKERS
from searcher.workers.registry import POOLS
from searcher.workers.search_processes import NoSearches, Searches, SearchProcesses

LEDGER = "ledger.db"
BUILDER_COMMAND = (sys.executable, "-m", "searcher.builders.process")
SEARCH_COMMAND = (sys.executable, "-m", "searcher.search.process")
ANSWER_WITHIN_S = 4
_KEEP_ALIVE_S = 120
_OPEN_FILES = 65_536

log = logging.getLogger(__name__)
Announce = Callable[[dict[str, Any]], None]
Post = Callable[[Callable[[], None]], None]


class _Server(uvicorn.Server):
    """A server whose stop does not wait for long polls, and whose process then cleans up.
    uvicorn's own handler would end the process with the signal."""

    def __init__(
        self, config: uvicorn.Config, first: Callable[[], None], second: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._first, self._second = first, second

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            self._second()
            os._exit(128 + sig)
        self.should_exit = True
        self._first()


def write_address(folder: Path, address: dict[str, Any]) -> None:
    """Write the file atomically, readable by its owner only."""
    path, draft = folder / ADDRESS, folder / f"{ADDRESS}.{os.getpid()}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(address, file)
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


def _certificate(settings: ServerSettings) -> tls.Certificate | None:
    now = datetime.now(UTC)
    if settings.certificate is not None and settings.key is not None:
        return tls.given_certificate(settings.certificate, settings.key, now)
    if not settings.tls:
        return None
    advertised = urlsplit(settings.advertise or "").hostname or ""
    names = tls.names_of_this_host(settings.host, advertised)
    return tls.own_certificate(settings.directory / "tls", names, now)


def serve(settings: ServerSettings, announce: Announce = lambda address: None) -> None:
    """Serve until a graceful stop. ``announce`` gets the address (without the token) when the
    server is ready. Raises UserError or LedgerError before it serves."""
    folder = settings.directory
    with owned(folder):
        (folder / ADDRESS).unlink(missing_ok=True)
        (folder / "artifacts").mkdir(exist_ok=True)
        certificate = _certificate(settings)
        store = Store(folder / LEDGER)
        try:
            listener = _bound(settings.host, settings.port)
            _Service(settings, store, listener, certificate, announce).run()
        finally:
            (folder / ADDRESS).unlink(missing_ok=True)
            store.close()


class _Service:
    """A coordinator with its app and its child processes."""

    def __init__(
        self, settings: ServerSettings, store: Store, listener: socket.socket,
        certificate: tls.Certificate | None, announce: Announce,
    ) -> None:
        allowed = None if settings.tasks is None else frozenset(settings.tasks)
        self._coordinator = Coordinator(
            store, settings.directory, steady_clock(), host=Host.here(),
            rules=Rules(LeaseRules(settings.builder_ttl_s, settings.device_ttl_s)),
            admission=Admission(allowed, enrolled_only=allowed is not None))
        self._coordinator.eviction_policy.bound_bytes = settings.keep_bytes
        self._supervision = Supervision(self._coordinator)
        self._settings, self._listener, self._certificate = settings, listener, certificate
        self._address = _address(settings, listener.getsockname()[1], certificate)
        self._announce = announce
        self._token = fresh_secret()
        self._app = create_app(
            self._coordinator, self._token, self._started, settings.largest_upload_bytes)
        self._app.state.fingerprint = self._address["fingerprint"]
        self._app.state.advertised = self._address["advertised"]
        self._post: Post = lambda run: None

    def run(self) -> None:
        certificate = self._certificate
        app: ASGIApp = self._app
        config = uvicorn.Config(
            AccessLog(app) if access_log.isEnabledFor(logging.DEBUG) else app,
            access_log=False, log_config=None, lifespan="on", loop="uvloop", http=http_protocol(),
            ws="none", proxy_headers=False, server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S, timeout_graceful_shutdown=ANSWER_WITHIN_S,
            ssl_certfile=None if certificate is None else str(certificate.path),
            ssl_keyfile=None if certificate is None else str(certificate.key),
        )
        _allow_many_connections()
        try:
            _Server(config, self._on_first_signal, self._on_second_signal).run(
                sockets=[self._listener])
        finally:
            self._supervision.searches.stop()

    async def _started(self) -> None:
        self._post = _poster()
        folder = self._settings.directory
        self._coordinator.start(
            _crew(self._settings, self._coordinator, self._address, self._post))
        write_address(folder, {**self._address, "token": self._token})
        self._supervision.start(_searches(self._settings, self._supervision, self._post))
        systemd.notify("READY=1")
        self._announce(self._address)

    def _on_first_signal(self) -> None:
        """Runs in the signal handler, where objects of the event loop must not be used."""
        self._post(self._begin_stop)

    def _begin_stop(self) -> None:
        systemd.notify("STOPPING=1")
        self._app.state.notifications.close()
        self._supervision.searches.ask_to_stop()

    def _on_second_signal(self) -> None:
        with suppress(OSError):
            (self._settings.directory / ADDRESS).unlink(missing_ok=True)


def _address(
    settings: ServerSettings, port: int, certificate: tls.Certificate | None
) -> dict[str, Any]:
    url = settings.local_url(port)
    host = socket.gethostname() if settings.host in ("0.0.0.0", "::") else settings.host
    return {
        "url": url, "pid": os.getpid(), "daemon": settings.is_daemon,
        "advertised": settings.advertise or settings.url(host, port),
        "fingerprint": None if certificate is None else certificate.fingerprint,
    }


def _allow_many_connections() -> None:
    """Raise the limit of open files: every waiting device has a connection."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _crew(
    settings: ServerSettings, coordinator: Coordinator, address: dict[str, Any], post: Post
) -> WorkerPool:
    if settings.builders == 0:
        return NoWorkers()
    pinned = ["--fingerprint", address["fingerprint"]] if address["fingerprint"] else []
    command = [
        *(settings.builder_command or BUILDER_COMMAND), "--url", address["url"],
        "--dir", str(settings.directory), "--parent-pid", str(os.getpid()), *pinned,
    ]

    def loop(gate: PauseGate, secret: str) -> None:
        # By name: it brings torch into this process, which a pool of threads wants and no other.
        program = importlib.import_module(BUILDER_COMMAND[-1])
        program.serve(address["url"], secret, settings.directory, address["fingerprint"], gate)

    return POOLS.get(settings.workers)(Builders(
        settings.builders, tuple(command), loop, settings.directory / "logs",
        admit=coordinator.roster.add_builder, ended=coordinator.builder_ended, post=post))


def _searches(settings: ServerSettings, supervision: Supervision, post: Post) -> Searches:
    if not settings.is_daemon:
        return NoSearches()
    command = [*SEARCH_COMMAND, "--dir", str(settings.directory),
               "--parent-pid", str(os.getpid())]
    return SearchProcesses(
        command, settings.searches, settings.directory / "logs", supervision, post=post)


def _poster() -> Post:
    """A function that runs a callback in this event loop, from any thread, unless it is closed."""
    loop = asyncio.get_running_loop()

    def post(run: Callable[[], None]) -> None:
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(run)

    return post


def _settings(arguments: Sequence[str]) -> tuple[ServerSettings, int | None]:
    parser = argparse.ArgumentParser(
        prog="python -m searcher.api.server",
        description="The coordinator of fleetfront run: any task, any device, no search.")
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("--builders", type=int, default=1, help="builder processes")
    parser.add_argument("--workers", metavar="NAME", default=WORKERS,
                        help="the worker pool that runs them: " + ", ".join(POOLS.names()))
    parser.add_argument("--keep", metavar="SIZE",
                        help="bound on artifacts/ and builds/, such as 50GB; default: none")
    parser.add_argument("--builder-command", action="append", metavar="WORD", default=[],
                        help="a word of the builder's command; repeat it for each word")
    parser.add_argument("--largest-upload", type=int, default=ServerSettings.largest_upload_bytes,
                        metavar="BYTES", help="the largest file that operators may upload")
    parser.add_argument("--parent-pid", type=int, help="end when this process, the parent, ends")
    for name in ("builder_ttl_s", "device_ttl_s"):  # for tests that cannot wait for an expiry
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, help=argparse.SUPPRESS,
                            default=getattr(LeaseRules, name))
    options = parser.parse_args(arguments)
    settings = ServerSettings(
        options.dir.absolute(), options.host, options.port, options.builders,
        builder_command=tuple(options.builder_command),
        largest_upload_bytes=options.largest_upload, builder_ttl_s=options.builder_ttl_s,
        keep_bytes=None if options.keep is None else parse_bytes(options.keep),
        device_ttl_s=options.device_ttl_s, workers=options.workers)
    return settings, options.parent_pid


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        settings, parent_pid = _settings(sys.argv[1:] if arguments is None else arguments)
        configure(settings.log_format, settings.log_level)
        if parent_pid is not None:
            die_with_parent(parent_pid)
        serve(settings)
    except FleetfrontError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
