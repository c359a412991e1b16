"""Energy and power of a measurement as values with intervals, and what they need.

The agent's figures (``agents/measurement/energy``) are half widths of error, no intervals of a
sample. ``energy_j`` is net of the idle power before and after, ``energy_gross_j`` is not.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from agents.protocol import draws_of
from searcher.errors import UserError

if TYPE_CHECKING:
    # numpy comes with it: the coordinator loads that at the first submission.
    from searcher.campaign import Campaign
    from searcher.ledger.rows import DeviceRow

OBJECTIVES = frozenset({"energy_j", "power_w"})
FIGURES = {"energy_j": ("net_j", "net_error_j"), "energy_gross_j": ("gross_j", "gross_error_j"),
           "power_w": ("power_w", "power_error_w")}


def figures(summary: Mapping[str, Any] | None) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Values and intervals, of what the measurement has."""
    found = (summary or {}).get("energy") or {}
    values, intervals = {}, {}
    for name, (value, error) in FIGURES.items():
        if found.get(value) is not None:
            values[name] = found[value]
            intervals[name] = [found[value] - found[error], found[value] + found[error]]
    return values, intervals


def energy_notes(summary: Mapping[str, Any] | None) -> list[str]:
    """What a reader of the figures must know: why there are none, or of what they are."""
    found = (summary or {}).get("energy")
    if not found:
        return []
    if found["problem"]:
        return [f"no energy: {found['problem']}"]
    idle = f"; no net energy: {found['idle_problem']}" if found["idle_problem"] else ""
    return [f"energy is that of {found['covers']}{idle}"]


def lacking(summary: Mapping[str, Any] | None, wanted: Iterable[str]) -> str | None:
    """Why a measurement does not have an energy or power that is wanted; None when it has all."""
    missing = sorted((OBJECTIVES & set(wanted)) - set(figures(summary)[0]))
    if not missing:
        return None
    found = (summary or {}).get("energy") or {}
    why = found.get("problem") or found.get("idle_problem") or "it was not measured"
    return f"no {', '.join(missing)}: {why}"


def check_meters(campaign: "Campaign", device: "DeviceRow") -> None:
    """Raises UserError with the meters' own reasons where a device cannot tell what is asked: of
    candidates that run on its CPU, a meter of its GPU alone tells nothing."""
    wanted = sorted(OBJECTIVES & {objective.name for objective in campaign.objectives})
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
