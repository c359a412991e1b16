"""Certificates: created once, stored, pinned; damaged ones are refused with the file's name."""

import socket
import ssl
import stat
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from searcher.api.http import tls
from searcher.client.http import CoordinatorClient
from searcher.client.pinned_tls import checked_fingerprint, fingerprint_of, pinned_context
from searcher.errors import UserError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = ["localhost", "lab.example", "127.0.0.1", "::1"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tls.Certificate:
    return tls.own_certificate(tmp_path_factory.mktemp("lab") / "tls", NAMES, datetime.now(UTC))


def test_it_is_made_once(tmp_path: Path) -> None:
    first = tls.own_certificate(tmp_path / "tls", NAMES, NOW)
    again = tls.own_certificate(tmp_path / "tls", ["other.example"], NOW + timedelta(days=3000))
    assert again == first
    assert stat.S_IMODE(first.key.stat().st_mode) == 0o600
    assert stat.S_IMODE(first.path.parent.stat().st_mode) == 0o700


def test_what_it_says(tmp_path: Path) -> None:
    own = tls.own_certificate(tmp_path / "tls", NAMES, NOW)
    found = x509.load_pem_x509_certificate(own.path.read_bytes())
    assert own.fingerprint == fingerprint_of(found.public_bytes(serialization.Encoding.DER))
    assert own.fingerprint == f"sha256:{found.fingerprint(hashes.SHA256()).hex()}"
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == NAMES
    assert found.not_valid_before_utc < NOW < found.not_valid_after_utc
    assert (found.not_valid_after_utc - NOW).days >= 3652


def test_the_names_of_this_host() -> None:
    names = tls.names_of_this_host("0.0.0.0", "lab.example")
    assert {"localhost", "127.0.0.1", socket.gethostname(), "lab.example"} <= set(names)
    assert "0.0.0.0" not in names and len(names) == len(set(names))


def other_key(folder: Path) -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption())


def locked_key(folder: Path) -> bytes:
    secret = serialization.load_pem_private_key((folder / "key.pem").read_bytes(), None)
    return secret.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"passphrase"))


@pytest.mark.parametrize(("file", "content", "said"), [
    ("certificate.pem", lambda folder: b"no certificate", "cannot be read as PEM"),
    ("key.pem", lambda folder: b"no key", "without a passphrase"),
    ("key.pem", locked_key, "without a passphrase"),
    ("key.pem", other_key, "does not belong to the certificate"),
])
def test_broken_files_are_named(
    tmp_path: Path, file: str, content: Callable[[Path], bytes], said: str
) -> None:
    own = tls.own_certificate(tmp_path, NAMES, NOW)
    (tmp_path / file).write_bytes(content(tmp_path))
    with pytest.raises(UserError, match=said) as refused:
        tls.given_certificate(own.path, own.key, NOW)
    assert str(tmp_path / file) in str(refused.value)


def test_missing_and_expired(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        tls.given_certificate(tmp_path / "none.pem", tmp_path / "none.key", NOW)
    own = tls.own_certificate(tmp_path, NAMES, NOW)
    with pytest.raises(UserError, match="expired on 2036-01-01"):
        tls.given_certificate(own.path, own.key, NOW + timedelta(days=4000))


# -- the client's side ---------------------------------------------------------------------------


@pytest.fixture
def url(made: tls.Certificate) -> Iterator[str]:
    """A server that answers every request with an empty list."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.path, made.key)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_answer, args=(listener, context), daemon=True).start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def _answer(listener: socket.socket, context: ssl.SSLContext) -> None:
    while True:
        try:
            plain, _ = listener.accept()
        except OSError:
            return
        try:
            with context.wrap_socket(plain, server_side=True) as connection:
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")
        except OSError:
            plain.close()


def test_the_pinned_certificate_is_trusted(url: str, made: tls.Certificate) -> None:
    written = made.fingerprint.upper().replace("SHA256:", "")
    for fingerprint in (made.fingerprint, written):
        with CoordinatorClient(url, "t", fingerprint=fingerprint) as client:
            assert client.campaigns() == [] and client.healthy()


@pytest.mark.parametrize("fingerprint", [None, "sha256:" + "0" * 64])
def test_another_is_refused_at_once(url: str, fingerprint: str | None) -> None:
    slept: list[float] = []
    with CoordinatorClient(url, "t", fingerprint=fingerprint, sleep=slept.append) as client:
        with pytest.raises(UserError, match="is not trusted.*FLEETFRONT_FINGERPRINT"):
            client.campaigns()
        assert not client.healthy()
    assert slept == []


def test_no_byte_is_sent_before_the_pin_holds(url: str) -> None:
    with httpx.Client(verify=pinned_context("sha256:" + "1" * 64), trust_env=False) as client, \
            pytest.raises(httpx.ConnectError, match="fingerprint"):
        client.get(url)


@pytest.mark.parametrize("text", ["", "sha256:", "md5:" + "0" * 32, "sha256:" + "g" * 64, "0" * 63])
def test_a_fingerprint_that_is_none(text: str) -> None:
    with pytest.raises(UserError, match="64 hexadecimal digits"):
        checked_fingerprint(text)
