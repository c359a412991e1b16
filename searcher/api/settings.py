"""Settings of the server, checked before it opens anything."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from searcher.api.http.limits import LARGEST_UPLOAD_BYTES
from searcher.api.http.logs import LogFormat
from searcher.dispatch.queue import LeaseRules
from searcher.errors import UserError
from searcher.workers.registry import DEFAULT as WORKERS
from searcher.workers.registry import POOLS

DEFAULT_PORT = 8700


@dataclass(frozen=True)
class ServerSettings:
    """Settings of a coordinator.

    ``searches`` and ``builders`` are the largest numbers of processes. ``tasks`` None allows any
    Python task and any device, as in ``fleetfront run``. Otherwise the rules of the daemon apply:
    only these tasks and the built-in ones, only enrolled devices. ``port`` 0 is any free port.
    """

    directory: Path
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    builders: int = 1
    searches: int = 0
    tasks: tuple[str, ...] | None = None
    tls: bool = False
    certificate: Path | None = None
    key: Path | None = None
    insecure_plain_http: bool = False
    advertise: str | None = None
    log_format: LogFormat = "text"
    log_level: str = "info"
    keep_bytes: int | None = None
    builder_command: tuple[str, ...] = ()
    largest_upload_bytes: int = LARGEST_UPLOAD_BYTES
    builder_ttl_s: float = LeaseRules.builder_ttl_s
    device_ttl_s: float = LeaseRules.device_ttl_s
    workers: str = WORKERS
    """The worker pool that runs the builders."""

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise UserError("--certificate and --key belong together: give both, or --tls alone "
                            "for a self-signed certificate.")
        for option, value in (("--builders", self.builders), ("--searches", self.searches)):
            if value < 0:
                raise UserError(f"{option} {value} must be 0 or more.")
        POOLS.get(self.workers)
        if not 0 <= self.port <= 65535:
            raise UserError(f"--port {self.port} must be from 0 to 65535.")
        for task in self.tasks or ():
            if not all(part.isidentifier() for part in task.replace(":", ".", 1).split(".")) \
                    or ":" not in task:
                raise UserError(f"--tasks {task!r} must be written package.module:factory.")
        if self.advertise is not None and not self.advertise.startswith(("http://", "https://")):
            raise UserError(f"--advertise {self.advertise!r} must be a URL, such as "
                            f"https://lab.example:{DEFAULT_PORT}.")
        if not (self.is_loopback or self.encrypted or self.insecure_plain_http):
            raise UserError(
                f"--host {self.host} is reachable over the network, where tokens and models would "
                "be sent without encryption. Add --tls (or --certificate and --key). On a network "
                "that you trust entirely, use --insecure-plain-http."
            )

    @property
    def encrypted(self) -> bool:
        return self.tls or self.certificate is not None

    @property
    def is_daemon(self) -> bool:
        """Whether it accepts submitted campaigns and runs their searches."""
        return self.searches > 0

    @property
    def is_loopback(self) -> bool:
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def url(self, host: str, port: int) -> str:
        shown = f"[{host}]" if ":" in host else host
        return f"{'https' if self.encrypted else 'http'}://{shown}:{port}"

    def local_url(self, port: int) -> str:
        """The URL for processes on this machine."""
        everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}
        return self.url(everywhere.get(self.host, self.host), port)
