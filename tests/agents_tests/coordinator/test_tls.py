"""TLS trust of the agent: real TLS with self-signed certificates on loopback.

``certificates/*.pem``, key and certificate, are for these tests only: openssl req -x509 -nodes
-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 36500 -addext
subjectAltName=IP:127.0.0.1,DNS:localhost
"""

import hashlib
import os
import ssl

import pytest

from agents.agent import Agent
from agents.coordinator.http import (
    Backoff,
    CertificateRejected,
    CoordinatorUnavailable,
    HttpClient,
    Trust,
    parse_fingerprint,
)
from agents.coordinator.settings import AgentError, AgentSettings
from agents.coordinator.spool import read_secret
from agents.measurement.child_process import ProcessChild
from agents.platform.sysfs import SystemTree
from tests.agents_tests.fakes import Coordinator, fake_model
from tests.agents_tests.test_agent import CAPABLE

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "certificates")
ONE, OTHER = os.path.join(FOLDER, "one.pem"), os.path.join(FOLDER, "other.pem")
REFERENCE = fake_model(latency_s=1e-4)


def pin(certificate):
    with open(certificate) as stream:
        text = stream.read()
    start = text.index("-----BEGIN CERTIFICATE")
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(text[start:])).hexdigest()


@pytest.fixture
def secure():
    one = Coordinator(certificate=ONE)
    one.secret = "s"
    yield one
    one.close()


def asked(coordinator, trust):
    link = HttpClient(coordinator.url, "s", trust)
    try:
        return link.request("POST", "/v1/heartbeat", b"{}").status
    finally:
        link.close()


def test_the_pinned_certificate_is_trusted_without_an_authority(secure):
    assert asked(secure, Trust(fingerprint=pin(ONE))) == 200


def test_an_authority_in_a_file_is_trusted(secure):
    assert asked(secure, Trust(cafile=ONE)) == 200
    assert asked(secure, Trust(cafile=ONE, fingerprint=pin(ONE))) == 200


@pytest.mark.parametrize("trust, words", [
    (Trust(), "not trusted .*--fingerprint"),
    (Trust(cafile=OTHER), "not trusted .*--fingerprint"),
    (Trust(fingerprint=pin(OTHER)), "sha256:{}, and sha256:{}".format(pin(ONE), pin(OTHER))),
    (Trust(cafile=ONE, fingerprint=pin(OTHER)), "sha256:{}".format(pin(OTHER))),
    (Trust(cafile=OTHER, fingerprint=pin(ONE)), "not trusted"),
])
def test_any_other_certificate_is_refused_before_anything_is_sent(secure, trust, words):
    with pytest.raises(CertificateRejected, match=words):
        asked(secure, trust)
    assert secure.requests == []


def test_a_wrong_host_name_is_refused(secure):
    """The certificate is for 127.0.0.1 and localhost, and not for this way to write it."""
    with pytest.raises(CertificateRejected):
        HttpClient("https://127.1:{}".format(secure.port), "s", Trust(cafile=ONE)).request("GET",
                                                                                           "/")
    assert secure.requests == []


def test_every_connection_is_checked(secure):
    link = HttpClient(secure.url, "s", Trust(fingerprint=pin(ONE)))
    assert link.request("POST", "/v1/heartbeat", b"{}").status == 200
    secure.present(OTHER)
    secure.drop = 1  # the kept connection ends, and the next one has another certificate
    with pytest.raises(CertificateRejected):
        link.request("POST", "/v1/heartbeat", b"{}")
    answered = len(secure.requests)
    with pytest.raises(CertificateRejected):
        link.request("POST", "/v1/heartbeat", b"{}")
    assert len(secure.requests) == answered
    secure.present(ONE)
    assert link.request("POST", "/v1/heartbeat", b"{}").status == 200
    link.close()


def test_no_tls_at_the_server_is_a_connection_error(coordinator):
    url = coordinator.url.replace("http:", "https:")
    with pytest.raises(CoordinatorUnavailable):
        HttpClient(url, "s", Trust(fingerprint=pin(ONE))).request("GET", "/")
    assert coordinator.requests == []


def agent_of(coordinator, tmp_path, **settings):
    defaults = {"coordinator": coordinator.url, "name": "desk", "spool": str(tmp_path),
                "once": True, "runtimes": ("fake",)}
    return Agent(AgentSettings(**dict(defaults, **settings)), lambda: CAPABLE, ProcessChild,
                 SystemTree(str(tmp_path)), backoff=Backoff(0.001, 0.01))


def test_a_restart_needs_neither_token_nor_fingerprint(secure, tmp_path):
    secure.add([REFERENCE])
    agent_of(secure, tmp_path, token="token-1", trust=Trust(fingerprint=pin(ONE))).run()
    assert read_secret(str(tmp_path)).fingerprint == pin(ONE)
    secure.add([REFERENCE], job=2)
    agent_of(secure, tmp_path).run()
    assert len(secure.results) == 2


def test_a_wrong_fingerprint_at_the_first_start_ends_it_and_spends_no_token(secure, tmp_path):
    with pytest.raises(AgentError, match=pin(OTHER)):
        agent_of(secure, tmp_path, token="token-1", trust=Trust(fingerprint=pin(OTHER))).run()
    assert secure.tokens == {"token-1", "token-2"} and read_secret(str(tmp_path)) is None


def test_a_renewed_certificate_is_retried_and_a_new_fingerprint_is_stored(secure, tmp_path):
    secure.add([REFERENCE])
    agent_of(secure, tmp_path, token="token-1", trust=Trust(fingerprint=pin(ONE))).run()
    secure.present(OTHER)
    agent, tries = agent_of(secure, tmp_path), []
    answered = len(secure.requests)

    def wait(delay_s):
        tries.append(delay_s)
        if len(tries) == 3:
            agent.finish.set()

    agent._wait = wait
    assert agent.run() == 0
    assert len(tries) == 3 and len(secure.requests) == answered
    for words in ({"trust": Trust(fingerprint=pin(OTHER))}, {}):
        secure.add([REFERENCE], job=2)
        agent_of(secure, tmp_path, **words).run()
    assert read_secret(str(tmp_path)).fingerprint == pin(OTHER)


def test_a_secret_of_a_pinned_coordinator_is_never_sent_unencrypted(coordinator, secure, tmp_path):
    secure.add([REFERENCE])
    agent_of(secure, tmp_path, token="token-1", trust=Trust(fingerprint=pin(ONE))).run()
    with pytest.raises(AgentError, match="unencrypted"):
        agent_of(coordinator, tmp_path)
    coordinator.add([REFERENCE])
    assert agent_of(coordinator, tmp_path, token="token-1").run() == 1


@pytest.mark.parametrize("text", [
    "sha256:" + "ab" * 32, "SHA256:" + "AB" * 32, "sha256:" + ":".join(["ab"] * 32),
    " sha256:" + "ab" * 32 + "\n"])
def test_fingerprints_are_read_as_tools_print_them(text):
    assert parse_fingerprint(text) == "ab" * 32


@pytest.mark.parametrize("text", ["", "ab" * 32, "sha1:" + "ab" * 20, "sha256:" + "xy" * 32])
def test_an_invalid_fingerprint_is_refused(text):
    with pytest.raises(ValueError, match="sha256: and 64 hexadecimal digits"):
        parse_fingerprint(text)
