"""Roles: every route of the coordinator and the roles that may use it.

A route that is not in this table does not exist. A request without a secret has the role
``stranger``; ``agent`` and ``builder`` have secrets, ``operator`` and ``viewer`` have tokens.
"""

from collections.abc import Mapping

STRANGER = "stranger"
ANYONE = frozenset({STRANGER, "agent", "builder", "operator", "viewer"})
WORKERS = frozenset({"agent", "builder"})
OPERATORS = frozenset({"operator"})
READERS = frozenset({"operator", "viewer"})


def not_for(what: str, roles: frozenset[str], role: str) -> str:
    """The error message for a caller whose ``role`` may not use the route."""
    allowed = " and ".join(f"{one}s" for one in sorted(roles))
    return f"{what} is for {allowed}, not for the {role} role."


ROUTES: Mapping[tuple[str, str], frozenset[str]] = {
    ("POST", "/v1/lease"): WORKERS,
    ("POST", "/v1/heartbeat"): WORKERS,
    ("PUT", "/v1/results/{job}/{attempt}"): WORKERS,
    ("GET", "/v1/artifacts/{sha256}"): WORKERS | READERS,
    ("HEAD", "/v1/artifacts/{sha256}"): OPERATORS,
    ("PUT", "/v1/artifacts/{sha256}"): OPERATORS,

    ("GET", "/healthz"): ANYONE,
    ("GET", "/agent.pyz"): ANYONE,
    ("POST", "/v1/agents"): ANYONE,  # its body holds a one-time token

    ("GET", "/metrics"): READERS,
    ("GET", "/v1/openapi.json"): READERS,
    ("GET", "/v1/campaigns"): READERS,
    ("GET", "/v1/campaigns/{name}"): READERS,
    ("GET", "/v1/campaigns/{name}/finished"): READERS,
    ("GET", "/v1/campaigns/{name}/scans"): READERS,
    ("GET", "/v1/campaigns/{name}/trials"): READERS,
    ("GET", "/v1/jobs/{job}"): READERS,
    ("GET", "/v1/devices"): READERS,
    ("GET", "/v1/quiet-levels"): READERS,

    ("POST", "/v1/campaigns"): OPERATORS,
    ("PUT", "/v1/campaigns/{name}/state"): OPERATORS,
    ("PUT", "/v1/campaigns/{name}/search-states/{device}"): OPERATORS,
    ("PUT", "/v1/campaigns/{name}/priority"): OPERATORS,
    ("POST", "/v1/campaigns/{name}/cancellations"): OPERATORS,
    ("POST", "/v1/campaigns/{name}/trials"): OPERATORS,
    ("PUT", "/v1/trials/{trial}"): OPERATORS,
    ("POST", "/v1/jobs"): OPERATORS,
    ("PUT", "/v1/devices/{name}/state"): OPERATORS,
    ("POST", "/v1/enrolments"): OPERATORS,
    ("POST", "/v1/artifacts/{sha256}/rebuild"): OPERATORS,
    ("GET", "/v1/tokens"): OPERATORS,
    ("POST", "/v1/tokens"): OPERATORS,
    ("DELETE", "/v1/tokens/{token}"): OPERATORS,
}
