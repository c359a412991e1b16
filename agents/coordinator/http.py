"""HTTP requests to the coordinator over one persistent connection."""

import http.client
import os
import random
import socket
from typing import Callable, Dict, Generator, NamedTuple, Optional, Tuple
from urllib.parse import urlsplit

from agents.protocol import ErrorAnswer, ProtocolError, content_sha256, decode

ANSWER_LIMIT_BYTES = 8 << 20
CHUNK_BYTES = 1 << 16
TIMEOUT_S = 30.0


class CoordinatorUnavailable(Exception):
    """The coordinator cannot be reached, or is too busy to answer: retry later."""


class CertificateRejected(CoordinatorUnavailable):
    """The server's certificate is not the trusted one; nothing was sent."""


class RequestRefused(Exception):
    """The coordinator refused a request. ``status`` is the HTTP status, the text is the
    coordinator's, ``server`` its protocol version (with 426 only)."""

    def __init__(self, message: str, status: int, server: Optional[int] = None) -> None:
        super().__init__(message)
        self.status = status
        self.server = server


class Trust(NamedTuple):
    """What to trust under ``https``: the certificate with this SHA-256 fingerprint (hexadecimal, of
    its DER form), the authority in a PEM file, both, or by default the system's authorities."""

    cafile: Optional[str] = None
    fingerprint: Optional[str] = None


class HttpResponse(NamedTuple):
    status: int
    body: bytes


class Backoff:
    """Exponential backoff: delays double from ``first_s`` to ``longest_s``, and each is drawn
    uniformly from its upper half."""

    def __init__(self, first_s: float = 0.25, longest_s: float = 30.0,
                 draw: Callable[[], float] = random.random) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._draw = draw
        self._failures = 0

    def next_s(self) -> float:
        delay = min(self._first_s * 2.0 ** min(self._failures, 60), self._longest_s)
        self._failures += 1
        return delay * (0.5 + 0.5 * self._draw())

    def reset(self) -> None:
        self._failures = 0


NO_TRUST = Trust()


def fingerprint_of(certificate: bytes) -> str:
    return content_sha256(certificate)


def parse_fingerprint(text: str) -> str:
    """The 64 hexadecimal digits of ``sha256:HEX``, which may have colons and capital letters.
    Raises ValueError."""
    prefix, _, digits = text.strip().lower().partition(":")
    digits = digits.replace(":", "")
    if prefix != "sha256" or len(digits) != 64 or not set(digits) <= set("0123456789abcdef"):
        raise ValueError("--fingerprint must be sha256: and 64 hexadecimal digits, as the "
                         "coordinator prints it, got {!r}".format(text))
    return digits


class HttpClient:
    """Requests with a bearer secret; not thread-safe. Raises CoordinatorUnavailable and
    RequestRefused, nothing else.

    ``offered_sha256`` is the digest of agent.pyz in the coordinator's latest answer.
    """

    def __init__(self, url: str, secret: Optional[str] = None, trust: Trust = NO_TRUST) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("--coordinator must be http://HOST:PORT or https://HOST:PORT, "
                             "got {!r}".format(url))
        if parts.scheme == "http" and (trust.fingerprint or trust.cafile):
            raise ValueError("--fingerprint and --cafile are for https, but --coordinator is "
                             "{!r}".format(url))
        if trust.cafile is not None and not os.access(trust.cafile, os.R_OK):
            raise ValueError("--cafile {!r} cannot be read: give a PEM file".format(trust.cafile))
        self._scheme, self._host, self._port = parts.scheme, parts.hostname, parts.port
        self._prefix = parts.path.rstrip("/")
        self._trust = trust
        self.secret = secret
        self.offered_sha256: Optional[str] = None
        self._connection: Optional[http.client.HTTPConnection] = None
        self._aborted = False

    def request(self, method: str, path: str, body: Optional[bytes] = None,
                headers: Optional[Dict[str, str]] = None,
                timeout_s: float = TIMEOUT_S) -> HttpResponse:
        """The response, whose status is below 300. Raises CoordinatorUnavailable for 408, 429 and
        5xx, and RequestRefused for other statuses from 300."""
        response = self._exchange(method, path, body, dict(headers or {}), timeout_s)
        content = self._content(response)
        _raise_for(response.status, content)
        if response.status == 200 and not content and not response.getheader("Content-Length"):
            self.close()  # http.client accepts a truncated header
            raise CoordinatorUnavailable("the answer ended within its header")
        return HttpResponse(response.status, content)

    def download(self, path: str, offset: int,
                 timeout_s: float = TIMEOUT_S) -> Tuple[int, Generator[bytes, None, None]]:
        """The offset of the body (0 if the coordinator ignores ranges), and its chunks."""
        headers = {"Range": "bytes={}-".format(offset)} if offset else {}
        response = self._exchange("GET", path, None, headers, timeout_s)
        if response.status >= 300:
            _raise_for(response.status, self._content(response))
        return (offset if response.status == 206 else 0), self._pieces(response)

    def abort(self) -> None:
        """Ends the current request and all later ones; for signal handlers and other threads."""
        self._aborted = True
        connection = self._connection
        sock = connection.sock if connection is not None else None
        if sock is not None:
            try:
                # Not SSLSocket's own, which takes the ground from under a thread that reads.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            except OSError:
                pass  # it was closed already

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _exchange(self, method: str, path: str, body: Optional[bytes], headers: Dict[str, str],
                  timeout_s: float) -> http.client.HTTPResponse:
        if self.secret is not None:
            headers["Authorization"] = "Bearer " + self.secret
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
        while True:
            if self._aborted:
                raise CoordinatorUnavailable("the agent is shutting down")
            reused = self._connection is not None
            try:
                connection = self._connected(timeout_s)
                connection.request(method, self._prefix + path, body=body, headers=headers)
                return self._noted(connection.getresponse())
            except CoordinatorUnavailable:
                self.close()
                raise
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if reused and _hung_up(error):
                    continue
                raise CoordinatorUnavailable(_text(error)) from error

    def _connected(self, timeout_s: float) -> http.client.HTTPConnection:
        if self._connection is None:
            if self._scheme == "https":
                from agents.coordinator.tls import TlsConnection
                self._connection = TlsConnection(self._host, self._port, timeout_s, self._trust)
            else:
                self._connection = http.client.HTTPConnection(
                    self._host, self._port, timeout=timeout_s)
        self._connection.timeout = timeout_s
        if self._connection.sock is not None:
            self._connection.sock.settimeout(timeout_s)
        return self._connection

    def _noted(self, response: http.client.HTTPResponse) -> http.client.HTTPResponse:
        self.offered_sha256 = response.getheader("X-Agent-Sha256") or self.offered_sha256
        return response

    def _content(self, response: http.client.HTTPResponse) -> bytes:
        """The whole body of a response. Raises CoordinatorUnavailable."""
        content = bytearray()
        for piece in self._pieces(response):
            content += piece
            if len(content) > ANSWER_LIMIT_BYTES:
                self.close()
                raise CoordinatorUnavailable(
                    "the answer is longer than {} bytes".format(ANSWER_LIMIT_BYTES))
        return bytes(content)

    def _pieces(self, response: http.client.HTTPResponse) -> Generator[bytes, None, None]:
        try:
            while True:
                piece = response.read1(CHUNK_BYTES)
                if not piece:
                    break
                yield piece
            if response.length:  # http.client does not report a truncated body
                raise CoordinatorUnavailable("the answer ended early, {} bytes are missing".format(
                    response.length))
        except (OSError, http.client.HTTPException) as error:
            raise CoordinatorUnavailable(_text(error)) from error
        finally:
            if response.length == 0:
                response.close()  # read completely: the connection can be reused
            elif response.length or not response.isclosed():
                self.close()


def _hung_up(error: Exception) -> bool:
    """Whether the server has closed an idle connection; TLS reports that by various errors."""
    return isinstance(error, http.client.BadStatusLine) or (
        isinstance(error, OSError) and not isinstance(error, socket.timeout))


def _raise_for(status: int, content: bytes) -> None:
    if status < 300:
        return
    try:
        answer = decode(ErrorAnswer, content)
    except ProtocolError:  # such as the page of a proxy
        answer = ErrorAnswer("HTTP status {}".format(status))
    if status in (408, 429) or status >= 500:
        raise CoordinatorUnavailable("the coordinator answers {}: {}".format(status, answer.error))
    raise RequestRefused(answer.error, status, answer.server)


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
