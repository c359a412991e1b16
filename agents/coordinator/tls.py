"""TLS to the coordinator, verified by a certificate authority or by a pinned certificate.

Nothing is sent before the certificate has been verified. The HTTPS connection of ``http.client``
does not support pinning. This module is imported for ``https`` URLs only, because ``ssl`` costs an
idle agent several megabytes.
"""

import functools
import http.client
import ssl
from typing import Optional

from agents.coordinator.http import CertificateRejected, Trust, fingerprint_of


@functools.lru_cache(maxsize=4)
def context_of(trust: Trust) -> ssl.SSLContext:
    """Raises OSError and ssl.SSLError for a ``cafile`` that cannot be read."""
    if trust.fingerprint is None or trust.cafile is not None:
        return ssl.create_default_context(cafile=trust.cafile)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the pinned fingerprint is checked instead
    return context


class TlsConnection(http.client.HTTPConnection):
    """An HTTP connection that opens only if the server's certificate is trusted."""

    default_port = 443

    def __init__(self, host: str, port: Optional[int], timeout_s: float, trust: Trust) -> None:
        super().__init__(host, port, timeout=timeout_s)
        self._trust = trust

    def connect(self) -> None:
        """Raises CertificateRejected and OSError."""
        super().connect()
        try:
            wrapped = context_of(self._trust).wrap_socket(self.sock, server_hostname=self.host)
            self.sock = wrapped
            self._check_pin(wrapped.getpeercert(binary_form=True) or b"")
        except (ssl.SSLError, ssl.CertificateError) as error:
            self.close()
            if not _about_certificate(error):
                raise
            raise CertificateRejected(
                "The certificate of {}:{} is not trusted ({}): start the agent with --fingerprint "
                "as the coordinator prints it, or with --cafile.".format(
                    self.host, self.port, error)) from error
        except (OSError, CertificateRejected):
            self.close()
            raise

    def _check_pin(self, certificate: bytes) -> None:
        found = fingerprint_of(certificate)
        if self._trust.fingerprint not in (None, found):
            raise CertificateRejected(
                "The certificate of {}:{} has the fingerprint sha256:{}, and sha256:{} is the "
                "trusted one. If the coordinator's certificate was renewed and it prints the new "
                "one, start the agent with --fingerprint sha256:... as printed there; if not, "
                "the connection is being intercepted.".format(
                    self.host, self.port, found, self._trust.fingerprint))


def _about_certificate(error: Exception) -> bool:
    # Until Python 3.6 a wrong host name is a ValueError, later it is an SSLError.
    return (isinstance(error, ssl.CertificateError)
            or "CERTIFICATE_VERIFY_FAILED" in str(getattr(error, "reason", "")))
