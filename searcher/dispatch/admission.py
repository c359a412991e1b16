"""Checks of a submitted campaign before the coordinator accepts it: task, devices, meters."""

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
    # It imports numpy, which the coordinator loads only at the first submission.
    from searcher.spec.campaign import Campaign


@dataclass(frozen=True)
class Admission:
    """Rules for the acceptance of campaigns.

    ``tasks``: Python tasks that may be imported in addition to the built-in ones, None for any.
    ``enrolled_only``: whether campaigns must name devices that are already enrolled.
    """

    tasks: frozenset[str] | None = None
    enrolled_only: bool = False

    def check_task(self, name: str) -> None:
        """Raises UserError for a task that is not allowed. A task is a program, therefore the
        owner of the daemon decides which tasks run."""
        if self.tasks is None or name in TASKS or name in self.tasks:
            return
        allowed = ", ".join([*sorted(TASKS), *sorted(self.tasks)])
        raise UserError(
            f"Task {name[:200]!r} is not allowed here. Allowed: {allowed}. Python tasks run only "
            "if they are installed with the daemon and named when it starts: "
            "fleetfront serve --tasks package.module:factory"
        )

    def check_campaign(self, campaign: "Campaign", devices: Sequence[DeviceRow]) -> None:
        """Raises UserError for every problem that can be found before anything runs."""
        self.check_task(campaign.task)
        if len(campaign.devices) > 1:
            raise UserError(
                f"Campaign {campaign.name!r} names {len(campaign.devices)} devices "
                f"({', '.join(campaign.devices)}); this version searches on one. Submit one "
                "campaign per device, each with its own name; equal builds run only once."
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
    """Raises UserError when the device has no meter for the energy objectives of the campaign, with
    the reason that the agent reported. The meter must cover the processor that runs candidates:
    a meter of the GPU does not measure candidates on the CPU."""
    wanted = sorted(ENERGY_OBJECTIVES & {objective.name for objective in campaign.objectives})
    reported = device.capabilities.get("energy")
    execution = campaign.executions[0]
    if wanted and not execution.traits.in_process:
        raise UserError(f"Objective {', '.join(wanted)} cannot be measured with the runtime "
                        f"{execution.runtime!r}: it computes in another process than the agent's.")
    part = draws_of(execution.provider)
    if not wanted or (isinstance(reported, Mapping) and reported.get(part) == "ok"):
        return
    why = ("its agent is of an old version that does not report meters: restart it"
           if not isinstance(reported, Mapping) else str(reported.get(part, "it has none")))
    raise UserError(
        f"Objective {', '.join(wanted)} needs a meter, and device {device.name!r} has no usable "
        f"one (energy is never estimated): {why}"
    )
