"""What a coordinator lets in: a submitted campaign is data, and names only what is there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agents.protocol import draws_of
from profiles import schema
from searcher.errors import UserError, nearest
from searcher.ledger.rows import DeviceRow
from searcher.spec.objectives import ENERGY_OBJECTIVES
from searcher.spec.runtime_options import check_offered
from searcher.tasks.builtin import TASKS

if TYPE_CHECKING:
    # numpy comes with it: the coordinator loads that at the first submission.
    from searcher.ledger.rows import DeviceRow
    from searcher.spec.campaign import Campaign

if TYPE_CHECKING:
    # numpy comes with it: the coordinator loads that at the first submission.
    from searcher.spec.campaign import Campaign


@dataclass(frozen=True)
class Admission:
    """``tasks``: Python tasks that may be imported beside the built-in ones, None for any;
    ``enrolled_only``: campaigns must name devices that are enrolled already."""

    tasks: frozenset[str] | None = None
    enrolled_only: bool = False

    def check_task(self, name: str) -> None:
        """Raises UserError: a task is a program, and the daemon's owner says which ones run."""
        if self.tasks is None or name in TASKS or name in self.tasks:
            return
        allowed = ", ".join([*sorted(TASKS), *sorted(self.tasks)])
        raise UserError(
            f"Task {name[:200]!r} is not allowed here. Allowed: {allowed}. Python tasks run only "
            "if they are installed with the daemon and named when it starts: "
            "fleetfront serve --tasks package.module:factory"
        )

    def check_campaign(self, campaign: "Campaign", devices: Sequence[DeviceRow]) -> None:
        """Raises UserError for what can be known before anything runs."""
        self.check_task(campaign.task)
        if len(campaign.devices) > 1:
            raise UserError(
                f"Campaign {campaign.name!r} names {len(campaign.devices)} devices "
                f"({', '.join(campaign.devices)}); this version searches on one. Submit a campaign "
                "for each, under names of their own: builds that are equal are made once."
            )
        name = campaign.devices[0]
        if name not in campaign.named and name not in schema.names():
            raise UserError(
                f"Unknown device profile {name!r} in [[devices]]. {nearest(name, schema.names())}"
            )
        if self.enrolled_only:
            _check_enrolled(campaign, name, devices)
        for device in devices:
            if device.name == name and device.state != "removed":
                check_offered(campaign.executions[0], name, device.capabilities)
                check_meters(campaign, device)


def _check_enrolled(campaign: "Campaign", name: str, devices: Sequence[DeviceRow]) -> None:
    found = {device.name: device for device in devices if device.state != "removed"}
    if name not in found:
        key = "name" if name in campaign.named else "profile"
        raise UserError(
            f'[[devices]] {key} = "{name}": no such device is enrolled. Enrolled: '
            f"{', '.join(found) or 'none'}. Name one of them (name = \"...\"), or enrol it first: "
            f"fleetfront device enrol {name}"
        )
    if name in campaign.named and found[name].profile not in schema.names():
        raise UserError(
            f"Device {name!r} is enrolled with the profile {found[name].profile!r}, which is "
            f"unknown. Enrol it again with one of: {', '.join(schema.names())}."
        )


def check_meters(campaign: "Campaign", device: "DeviceRow") -> None:
    """Raises UserError with the meters' own reasons where a device cannot tell what is asked: of
    candidates that run on its CPU, a meter of its GPU alone tells nothing."""
    wanted = sorted(ENERGY_OBJECTIVES & {objective.name for objective in campaign.objectives})
    told = device.capabilities.get("energy")
    execution = campaign.executions[0]
    if wanted and not execution.traits.in_process:
        raise UserError(f"Objective {', '.join(wanted)} cannot be measured with the runtime "
                        f"{execution.runtime!r}: it computes in another process than the agent's.")
    part = draws_of(execution.provider)
    if not wanted or (isinstance(told, Mapping) and told.get(part) == "ok"):
        return
    why = ("its agent is of a version that tells nothing of meters: start it anew"
           if not isinstance(told, Mapping) else str(told.get(part, "it has none")))
    raise UserError(
        f"Objective {', '.join(wanted)} needs a meter, and device {device.name!r} has none that "
        f"can be used (nothing is estimated in its place): {why}"
    )
