"""States of a device and the transitions between them.

    active --drain--> draining        gets no new job; its current job ends normally
    active --strikes--> quarantined   the same; its queued jobs wait
    draining, quarantined --release--> active
    any --remove--> removed           its agent is revoked, its jobs fail; enrolment adds it again
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from sqlite_utils import Database

from agents import protocol
from searcher.devices import profile_check
from searcher.errors import ProtocolError
from searcher.jobs.base import BUILDER, device_of
from searcher.ledger.rows import DeviceRow, JobRow
from searcher.ledger.tables import credentials, devices

log = logging.getLogger(__name__)

State = Literal["active", "draining", "quarantined", "removed"]

BLAMES_DEVICE = ("runtime", "disk", "artifact", "deadline", "defect", "malformed_result")
"""Failure reasons that do not concern the candidate: the runtime does not start, the disk is full,
a download failed, the device is too slow, or the agent has a defect."""

_FROM: Mapping[State, tuple[str, ...]] = {
    "active": ("active", "draining", "quarantined"),
    "draining": ("active", "draining"),
    "quarantined": ("active", "draining", "quarantined"),
    "removed": ("active", "draining", "quarantined", "removed"),
}


@dataclass(frozen=True)
class DeviceRules:
    """Number of consecutive strikes, by more than one job, that quarantine a device.

    A strike is a lost lease or a failure with a reason in ``BLAMES_DEVICE``. A result resets the
    number.
    """

    most_strikes: int = 3

    def quarantine(self, device: DeviceRow, job: JobRow) -> bool:
        """Whether one more strike, by ``job``, quarantines the device. Strikes by one job alone do
        not: then the job is at fault."""
        others = device.strikes - job.strikes
        return device.strikes + 1 >= self.most_strikes and others > 0


def enrolled_device(db: Database, name: str) -> DeviceRow:
    """Raises ProtocolError (404)."""
    device = devices.device(db, name)
    if device is None:
        raise ProtocolError(
            f"There is no device {name[:100]!r}. See `fleetfront devices`; add one with "
            f"`fleetfront device enrol`.", 404
        )
    return device


def change(db: Database, name: str, state: State, reason: str | None, now_s: float) -> DeviceRow:
    """Apply an operator's decision. Raises ProtocolError (404, 409)."""
    device = enrolled_device(db, name)
    if device.state not in _FROM[state]:
        raise ProtocolError(
            f"Device {name!r} is {device.state} and cannot become {state}; only "
            f"{', '.join(_FROM[state])} devices can."
            + (" Enrol it again." if device.state == "removed" else ""), 409
        )
    if state == "removed":
        for agent in credentials.agents_of_device(db, name):
            credentials.revoke_agent(db, agent.id, now_s)
    if state == "quarantined" and reason is None:
        reason = device.reason or "by an operator"
    devices.set_device_state(db, name, state, reason, 0 if state == "active" else None)
    return enrolled_device(db, name)


def check_kind(db: Database, kind: str, pool: str) -> None:
    """Raises ProtocolError (409) for a kind of job that the device's agent does not support."""
    if pool == BUILDER or kind == "measure":
        return
    name = device_of(pool)
    device = devices.device(db, name)
    kinds = [] if device is None else known_kinds(device)
    if device is not None and kind not in kinds:
        raise ProtocolError(
            f"The agent of device {name!r} cannot do jobs of kind {kind!r}; it offers "
            f"{', '.join(kinds) or 'none'}. It is older than this coordinator: "
            "start the coordinator's /agent.pyz on the device, then send this again.", 409)


def known_kinds(device: DeviceRow) -> list[str]:
    """The kinds of jobs that the device's agent reported."""
    reported = device.capabilities.get("kinds")
    return [str(kind) for kind in reported] if isinstance(reported, list) else []


def learn_kinds(db: Database, name: str, kinds: Sequence[str]) -> None:
    """Store the kinds of jobs that the device's agent supports, if they changed."""
    device = devices.device(db, name)
    known = [kind for kind in protocol.DEVICE_KINDS if kind in kinds]
    if device is not None and device.capabilities.get("kinds") != known:
        devices.set_capabilities(db, name, {**device.capabilities, "kinds": known})


def succeeded(db: Database, pool: str) -> None:
    """A job of ``pool`` succeeded: reset the strikes of its device."""
    if pool != BUILDER:
        devices.set_strikes(db, device_of(pool), 0)


def failed(db: Database, job: JobRow, reason: str, message: str, rules: DeviceRules) -> bool:
    """Count a reported failure. Returns whether the device is now quarantined. A missing runtime is
    the fault of the request, not of the device."""
    if job.pool == BUILDER or reason not in BLAMES_DEVICE:
        return False
    if reason == "runtime" and _lacks_runtime(db, job):
        return False
    return struck(db, job, f"job {job.id} failed ({reason}): {message}", rules)


def struck(db: Database, job: JobRow, why: str, rules: DeviceRules) -> bool:
    """Count a strike against the device of ``job``. Returns whether it is now quarantined."""
    if job.pool == BUILDER:
        return False
    name = device_of(job.pool)
    device = devices.device(db, name)
    if device is None:
        return False
    if device.state == "active" and rules.quarantine(device, job):
        why = f"{device.strikes + 1} consecutive strikes; the last: {why}"[:1000]
        devices.set_device_state(db, name, "quarantined", why, device.strikes + 1)
        log.warning("device %s is quarantined: %s", name, why)
        return True
    devices.set_strikes(db, name, device.strikes + 1)
    return False


def _lacks_runtime(db: Database, job: JobRow) -> bool:
    device = devices.device(db, device_of(job.pool))
    runtimes = None if device is None else device.capabilities.get("runtimes")
    return isinstance(runtimes, Mapping) and job.payload.get("runtime") not in runtimes


def absence(db: Database, name: str, now_s: float) -> str:
    """For people: why the device may not have leased a job."""
    device = devices.device(db, name)
    if device is None:
        return f"device {name!r} never enrolled"
    if device.state != "active":
        return f"device {name!r} is {device.state}" + (f" ({device.reason})" if device.reason
                                                       else "")
    seen_s = now_s - (device.last_seen_s or device.created_s)
    return f"device {name!r} was last seen {max(seen_s, 0.0):.0f} s ago"


def described(device: DeviceRow, job: JobRow | None) -> dict[str, object]:
    """The document of a device for clients. ``job`` is its current job; the state of a draining
    device without one is ``drained``; ``contradictions`` are those to its profile."""
    shown = {**asdict(device), "job": None if job is None else job.id,
             "contradictions": profile_check.contradictions(
                 device.profile, device.fingerprint, device.capabilities)}
    if job is not None:
        shown["last_seen_s"] = max(device.last_seen_s or 0.0, job.heartbeat_s or 0.0)
    elif device.state == "draining":
        shown["state"] = "drained"
    return shown
