"""A one-time token for a secret."""

from typing import Any, Dict

from agents.coordinator.http import CertificateRefused, Link, Refused
from agents.coordinator.settings import AgentError, Settings
from agents.coordinator.spool import Secret, check_writable, write_secret
from agents.platform.environment import identity
from agents.platform.sysfs import Tree
from agents.protocol import PROTOCOL_VERSION, Enrol, Enrolled, ProtocolError, decode, encode


def enrol(settings: Settings, link: Link, capabilities: Dict[str, Any], tree: Tree) -> Secret:
    """The secret, kept in the spool.

    Raises AgentError; LinkError when it is worth another try; Refused for 426.
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
            "Nothing can be kept in {} ({}): make room or mend its permissions, or give another "
            "folder with --spool. The token is not spent.".format(settings.spool, error)) from error
    message = Enrol(PROTOCOL_VERSION, settings.token, settings.name, identity(tree), capabilities)
    link.secret = None
    try:
        enrolled = decode(Enrolled, link.request("POST", "/v1/agents", encode(message)).body)
    except CertificateRefused as error:
        raise AgentError(str(error)) from error
    except Refused as refusal:
        if refusal.status == 426:
            raise
        raise AgentError("{} does not enrol {!r} (HTTP {}): {}".format(
            settings.coordinator, settings.name, refusal.status, refusal)) from refusal
    except ProtocolError as error:
        raise AgentError("{} is no fleetfront coordinator: {}".format(
            settings.coordinator, error)) from error
    secret = Secret(settings.coordinator, settings.name, enrolled.agent, enrolled.secret,
                    settings.trust.fingerprint or "")
    write_secret(settings.spool, secret)
    return secret
