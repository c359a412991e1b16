"""HTTP to the coordinator over one connection that is kept open. One link per thread."""

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


class LinkError(Exception):
    """The coordinator is away, or too busy to answer: worth another try later."""


class CertificateRefused(LinkError):
    """Who answers is not the coordinator that is trusted; nothing was sent."""


class Refused(Exception):
    """The coordinator answered no; ``status`` is HTTP's, the text is the coordinator's, ``server``
    the protocol version that it names with 426."""

    def __init__(self, message: str, status: int, server: Optional[int] = None) -> None:
        super().__init__(message)
        self.status = status
        self.server = server


class Trust(NamedTuple):
    """Whom to trust under ``https``: the certificate with this SHA-256 (hex, of its DER form), the
    authority in a PEM file, both, or by default the system's authorities."""

    cafile: Optional[str] = None
    fingerprint: Optional[str] = None


class Answer(NamedTuple):
    status: int
    body: bytes


class Backoff:
    """Delays that double from ``first_s`` to ``longest_s``, each drawn from its upper half."""

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


def fingerprint_named(text: str) -> str:
    """``sha256:HEX``, in any case and with or without colons, as 64 digits. Raises ValueError."""
    prefix, _, digits = text.strip().lower().partition(":")
    digits = digits.replace(":", "")
    if prefix != "sha256" or len(digits) != 64 or not set(digits) <= set("0123456789abcdef"):
        raise ValueError("--fingerprint must be sha256: and 64 hexadecimal digits, as the "
                         "coordinator prints it, got {!r}".format(text))
    return digits


class Link:
    """Requests with a bearer secret. Raises LinkError and Refused, nothing else.

    ``offered_sha256`` is the digest of the agent.pyz that the coordinator named last.
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
                headers: Optional[Dict[str, str]] = None, timeout_s: float = TIMEOUT_S) -> Answer:
        """The answer with a status below 300. 408, 429 and 5xx are LinkErrors, 4xx are Refused."""
        response = self._exchange(method, path, body, dict(headers or {}), timeout_s)
        content = self._content(response)
        _raise_for(response.status, content)
        if response.status == 200 and not content and not response.getheader("Content-Length"):
            self.close()  # nor does it mind a head without an end
            raise LinkError("the answer broke off in its head")
        return Answer(response.status, content)

    def download(self, path: str, offset: int,
                 timeout_s: float = TIMEOUT_S) -> Tuple[int, Generator[bytes, None, None]]:
        """Where the body starts (0 when ranges are not honoured), and its pieces."""
        headers = {"Range": "bytes={}-".format(offset)} if offset else {}
        response = self._exchange("GET", path, None, headers, timeout_s)
        if response.status >= 300:
            _raise_for(response.status, self._content(response))
        return (offset if response.status == 206 else 0), self._pieces(response)

    def abort(self) -> None:
        """Ends a request under way, from a signal handler or another thread, and all later ones."""
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
                raise LinkError("the agent is ending")
            reused = self._connection is not None
            try:
                connection = self._connected(timeout_s)
                connection.request(method, self._prefix + path, body=body, headers=headers)
                return self._noted(connection.getresponse())
            except LinkError:
                self.close()
                raise
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if reused and _hung_up(error):
                    continue
                raise LinkError(_text(error)) from error

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
        """The whole body of an answer."""
        content = bytearray()
        for piece in self._pieces(response):
            content += piece
            if len(content) > ANSWER_LIMIT_BYTES:
                self.close()
                raise LinkError("the answer is longer than {} bytes".format(ANSWER_LIMIT_BYTES))
        return bytes(content)

    def _pieces(self, response: http.client.HTTPResponse) -> Generator[bytes, None, None]:
        try:
            while True:
                piece = response.read1(CHUNK_BYTES)
                if not piece:
                    break
                yield piece
            if response.length:  # http.client says nothing of an end that comes too early
                raise LinkError("the answer broke off, {} bytes are missing".format(
                    response.length))
        except (OSError, http.client.HTTPException) as error:
            raise LinkError(_text(error)) from error
        finally:
            if response.length == 0:
                response.close()  # read to its end: the connection is good for the next request
            elif response.length or not response.isclosed():
                self.close()


def _hung_up(error: Exception) -> bool:
    """Whether the other side has closed a kept connection meanwhile; TLS says so in many ways."""
    return isinstance(error, http.client.BadStatusLine) or (
        isinstance(error, OSError) and not isinstance(error, socket.timeout))


def _raise_for(status: int, content: bytes) -> None:
    if status < 300:
        return
    try:
        answer = decode(ErrorAnswer, content)
    except ProtocolError:  # a proxy's page
        answer = ErrorAnswer("HTTP status {}".format(status))
    if status in (408, 429) or status >= 500:
        raise LinkError("the coordinator answers {}: {}".format(status, answer.error))
    raise Refused(answer.error, status, answer.server)


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
