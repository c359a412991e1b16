"""Enrolment: the exchange of a one-time token for a secret."""


from agents.coordinator.http import CertificateRejected, HttpClient, RequestRefused
from agents.coordinator.settings import AgentError, AgentSettings
from agents.coordinator.spool import Secret, check_writable, write_secret
from agents.platform.environment import machine_identity
from agents.platform.sysfs import SystemTree
from agents.protocol import (
    PROTOCOL_VERSION,
    Enrol,
    Enrolled,
    JsonObject,
    ProtocolError,
    as_json,
    decode,
    encode,
)


def enrol(settings: AgentSettings, client: HttpClient, capabilities: JsonObject,
          tree: SystemTree) -> Secret:
    """Enrols the agent; returns the secret, which is stored in the spool.

    Raises AgentError; LinkError when it is worth another try; RequestRefused for 426.
    """
    if settings.token is None:
        raise AgentError(
            "This agent is not enrolled at {}: get a token there with `fleetfront device enrol "
            "{}` and start the agent with --token or --token-file.".format(
                settings.coordinator, settings.name))
    try:
        check_writable(settings.spool)
    except OSError as error:
        raise AgentError(
            "The folder {} cannot store the secret ({}): free some space or correct its "
            "permissions, or give another folder with --spool. The token is not used up.".format(
                settings.spool, error)) from error
    message = Enrol(PROTOCOL_VERSION, settings.token, settings.name,
                    as_json(machine_identity(tree)),
                    capabilities)
    client.secret = None
    try:
        enrolled = decode(Enrolled, client.request("POST", "/v1/agents", encode(message)).body)
    except CertificateRejected as error:
        raise AgentError(str(error)) from error
    except RequestRefused as refusal:
        if refusal.status == 426:
            raise
        raise AgentError("{} refuses to enrol {!r} (HTTP {}): {}".format(
            settings.coordinator, settings.name, refusal.status, refusal)) from refusal
    except ProtocolError as error:
        raise AgentError("{} is not a fleetfront coordinator: {}".format(
            settings.coordinator, error)) from error
    secret = Secret(settings.coordinator, settings.name, enrolled.agent, enrolled.secret,
                    settings.trust.fingerprint or "")
    write_secret(settings.spool, secret)
    return secret
