"""TLS that trusts one certificate, identified by its fingerprint, without authorities."""

import hashlib
import re
import ssl
from typing import Any

from searcher.errors import UserError

_FINGERPRINT = re.compile(r"sha256:[0-9a-f]{64}")


class WrongCertificate(ssl.SSLCertVerificationError):
    """The server has another certificate than the pinned one."""


def fingerprint_of(der: bytes) -> str:
    """``sha256:`` and the hexadecimal digest of a certificate in DER."""
    return f"sha256:{hashlib.sha256(der).hexdigest()}"


def checked_fingerprint(text: str) -> str:
    """``text`` in the form of ``fingerprint_of``; it may have colons between bytes and capital
    letters. Raises UserError."""
    digits = text.strip().lower().removeprefix("sha256:").replace(":", "")
    found = f"sha256:{digits}"
    if not _FINGERPRINT.fullmatch(found):
        raise UserError(
            f"The fingerprint {text[:100]!r} must be sha256: and 64 hexadecimal digits, as "
            "`fleetfront serve` prints it."
        )
    return found


class _Pinned(ssl.SSLContext):
    """A context whose handshake succeeds only with one certificate."""

    fingerprint: str

    def wrap_socket(self, *arguments: Any, **options: Any) -> ssl.SSLSocket:
        wrapped = super().wrap_socket(*arguments, **options)
        found = fingerprint_of(wrapped.getpeercert(binary_form=True) or b"")
        if found != self.fingerprint:
            wrapped.close()
            raise WrongCertificate(
                f"its certificate has the fingerprint {found}, expected {self.fingerprint}"
            )
        return wrapped


def pinned_context(fingerprint: str) -> ssl.SSLContext:
    """A context for blocking sockets that checks the fingerprint instead of name and authority."""
    context = _Pinned(ssl.PROTOCOL_TLS_CLIENT)
    context.fingerprint = fingerprint
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def refuse_certificate(url: str, error: BaseException) -> None:
    """Raises UserError if the certificate is the cause of ``error``, which no retry can change."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise UserError(
                f"{url} is not trusted: {cause.verify_message if cause.errno else cause}. If "
                "this is your coordinator, set FLEETFRONT_FINGERPRINT to the fingerprint that its "
                "`fleetfront serve` prints."
            ) from error
        cause = cause.__cause__ or cause.__context__
