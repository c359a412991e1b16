"""The shell line with which a device joins: it downloads, verifies and starts the agent."""

import ipaddress
import shlex
from dataclasses import dataclass
from urllib.parse import urlsplit

from searcher.errors import UserError

FILE = "agent.pyz"


@dataclass(frozen=True)
class Invitation:
    """``agent_sha256``: digest of the coordinator's agent.pyz. ``fingerprint`` (``sha256:HEX``):
    that of the coordinator's self-signed certificate, which the agent pins."""

    name: str
    token: str
    agent_sha256: str
    fingerprint: str | None = None

    def line(self, url: str) -> str:
        """For a POSIX shell with python3, sha256sum, and curl or wget.

        The line verifies the digest of the download. Options of the agent may be appended to it.
        Raises UserError for an invalid URL.
        """
        _check(url)
        pinned = url.startswith("https:") and self.fingerprint is not None
        source, draft = shlex.quote(f"{url.rstrip('/')}/{FILE}"), f"{FILE}.new"
        curl = f"curl {'-kfsS' if pinned else '-fsS'} -o {draft} {source}"
        wget = f"wget {'--no-check-certificate ' if pinned else ''}-qO {draft} {source}"
        # The secret may begin with a dash, hence "=".
        agent = (f"python3 {FILE} --coordinator {shlex.quote(url.rstrip('/'))} "
                 f"--name {shlex.quote(self.name)} {shlex.quote('--token=' + self.token)}")
        if pinned:
            agent += f" --fingerprint {self.fingerprint}"
        return (f"{{ {curl} || {wget}; }} && echo '{self.agent_sha256}  {draft}' | sha256sum -c - "
                f"&& mv {draft} {FILE} && {agent}")


def _check(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"{url!r} is not the address of a coordinator. Write http://HOST:PORT "
                        "or https://HOST:PORT.")


def is_loopback(url: str) -> bool:
    """Whether the address is reachable from this machine only."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
