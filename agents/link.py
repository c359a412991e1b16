"""HTTP to the coordinator over one connection that is kept open. One link per thread."""

import http.client
import json
import random
import socket
import ssl
from typing import Callable, Dict, Iterator, NamedTuple, Optional, Tuple
from urllib.parse import urlsplit

ANSWER_LIMIT_BYTES = 64 << 20
CHUNK_BYTES = 1 << 18
TIMEOUT_S = 30.0


class LinkError(Exception):
    """The coordinator is away, or too busy to answer: worth another try later."""


class Refused(Exception):
    """The coordinator answered no; ``status`` is HTTP's, the text is the coordinator's."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


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


class Link:
    """Requests with a bearer secret. Raises LinkError and Refused, nothing else."""

    def __init__(
        self, url: str, secret: Optional[str] = None, cafile: Optional[str] = None
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("--coordinator must be http://HOST:PORT or https://HOST:PORT, "
                             "got {!r}".format(url))
        self._scheme, self._host, self._port = parts.scheme, parts.hostname, parts.port
        self._prefix = parts.path.rstrip("/")
        self._cafile = cafile
        self.secret = secret
        self._connection: Optional[http.client.HTTPConnection] = None
        self._aborted = False

    def request(self, method: str, path: str, body: Optional[bytes] = None,
                headers: Optional[Dict[str, str]] = None, timeout_s: float = TIMEOUT_S) -> Answer:
        """The answer with a status below 300. 408, 429 and 5xx are LinkErrors, 4xx are Refused."""
        response = self._exchange(method, path, body, dict(headers or {}), timeout_s)
        try:
            content = response.read(ANSWER_LIMIT_BYTES)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise LinkError(_text(error)) from error
        if response.length and len(content) < ANSWER_LIMIT_BYTES:  # read(n) does not mind
            self.close()
            raise LinkError("the answer broke off {} bytes before its end".format(response.length))
        _raise_for(response.status, content)
        if response.status == 200 and not content and not response.getheader("Content-Length"):
            self.close()  # nor does it mind a head without an end
            raise LinkError("the answer broke off in its head")
        return Answer(response.status, content)

    def download(self, path: str, offset: int) -> Tuple[int, Iterator[bytes]]:
        """Where the body starts (0 when ranges are not honoured), and its pieces."""
        headers = {"Range": "bytes={}-".format(offset)} if offset else {}
        response = self._exchange("GET", path, None, headers, TIMEOUT_S)
        if response.status >= 300:
            content = response.read(ANSWER_LIMIT_BYTES)
            _raise_for(response.status, content)
        return (offset if response.status == 206 else 0), self._pieces(response)

    def abort(self) -> None:
        """Ends a request under way, from a signal handler or another thread, and all later ones."""
        self._aborted = True
        connection = self._connection
        sock = connection.sock if connection is not None else None
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
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
                return connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                self.close()
                # A kept connection may have been closed by the other side meanwhile.
                if reused and isinstance(error, (ConnectionError, http.client.BadStatusLine)):
                    continue
                raise LinkError(_text(error)) from error

    def _connected(self, timeout_s: float) -> http.client.HTTPConnection:
        if self._connection is None:
            if self._scheme == "https":
                self._connection = http.client.HTTPSConnection(
                    self._host, self._port, timeout=timeout_s,
                    context=ssl.create_default_context(cafile=self._cafile))
            else:
                self._connection = http.client.HTTPConnection(
                    self._host, self._port, timeout=timeout_s)
        self._connection.timeout = timeout_s
        if self._connection.sock is not None:
            self._connection.sock.settimeout(timeout_s)
        return self._connection

    def _pieces(self, response: http.client.HTTPResponse) -> Iterator[bytes]:
        try:
            while True:
                piece = response.read(CHUNK_BYTES)
                if not piece:
                    return
                yield piece
        except (OSError, http.client.HTTPException) as error:
            raise LinkError(_text(error)) from error
        finally:
            if not response.isclosed():
                self.close()


def _raise_for(status: int, content: bytes) -> None:
    if status < 300:
        return
    text = _error_text(content) or "HTTP status {}".format(status)
    if status in (408, 429) or status >= 500:
        raise LinkError("the coordinator answers {}: {}".format(status, text))
    raise Refused(text, status)


def _error_text(content: bytes) -> str:
    try:
        return str(json.loads(content.decode("utf-8"))["error"])
    except (ValueError, KeyError, TypeError):
        return ""


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
