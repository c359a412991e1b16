"""The coordinator's TLS certificate: self-signed, created once, or the user's own."""

import datetime
import ipaddress
import os
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from searcher.client.pinned_tls import fingerprint_of
from searcher.errors import UserError

VALID_DAYS = 3652
"""Ten years, because devices pin the fingerprint: a new certificate affects all of them."""


@dataclass(frozen=True)
class Certificate:
    """A certificate (PEM, with its chain), its key, and its fingerprint, which clients may pin."""

    path: Path
    key: Path
    fingerprint: str


def own_certificate(folder: Path, names: Iterable[str], now: datetime.datetime) -> Certificate:
    """The self-signed certificate in ``folder``. The first call creates it for these host names and
    addresses. Raises UserError when the files there are invalid."""
    path, key = folder / "certificate.pem", folder / "key.pem"
    if not (path.exists() and key.exists()):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make(path, key, names, now)
    return given_certificate(path, key, now)


def _make(path: Path, key: Path, names: Iterable[str], now: datetime.datetime) -> None:
    secret = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fleetfront coordinator")])
    certificate = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject)
        .public_key(secret.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName([_general_name(n) for n in names]), False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .sign(secret, hashes.SHA256())
    )
    _write(key, secret.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption()))
    _write(path, certificate.public_bytes(serialization.Encoding.PEM))


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write(path: Path, content: bytes) -> None:
    """Write the file atomically, readable by its owner only."""
    draft = path.with_suffix(f".{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def given_certificate(path: Path, key: Path, now: datetime.datetime) -> Certificate:
    """The user's certificate. Raises UserError that names the file and the problem."""
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"The certificate {path} cannot be read as PEM: {error}.") from error
    try:
        secret = serialization.load_pem_private_key(key.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"The key {key} cannot be read as PEM without a passphrase: {error}."
        ) from error
    if _public(secret.public_key()) != _public(certificate.public_key()):
        raise UserError(f"The key {key} does not belong to the certificate {path}.")
    if certificate.not_valid_after_utc <= now:
        raise UserError(
            f"The certificate {path} expired on {certificate.not_valid_after_utc:%Y-%m-%d}. "
            "Replace it; if fleetfront created it, delete it and its key. Devices then need the "
            "new fingerprint."
        )
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path, key)
    except (OSError, ssl.SSLError) as error:
        raise UserError(f"{path} and {key} cannot be used for TLS: {error}.") from error
    der = certificate.public_bytes(serialization.Encoding.DER)
    return Certificate(path, key, fingerprint_of(der))


def _public(key: object) -> bytes:
    encode = getattr(key, "public_bytes")  # noqa: B009  all public keys have it
    found: bytes = encode(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return found


def names_of_this_host(*more: str) -> list[str]:
    """Host names and addresses of this machine, and ``more``."""
    found = dict.fromkeys(["localhost", "127.0.0.1", "::1", socket.gethostname()])
    for addresses in psutil.net_if_addrs().values():
        for address in addresses:
            if address.family in (socket.AF_INET, socket.AF_INET6):
                found[address.address.partition("%")[0]] = None
    found |= dict.fromkeys(name for name in more if name)
    return [name for name in found if name not in ("0.0.0.0", "::") and name.isascii()]
