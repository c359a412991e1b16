"""Energy and power of a measurement, as values with intervals.

The agent computes the figures. An interval is the value plus and minus the agent's error bound, not
a confidence interval. ``energy_j`` excludes the idle power before and after the measurement;
``energy_gross_j`` includes it.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from searcher.spec.objectives import ENERGY_OBJECTIVES

FIGURES = {"energy_j": ("net_j", "net_error_j"), "energy_gross_j": ("gross_j", "gross_error_j"),
           "power_w": ("power_w", "power_error_w")}


def figures(summary: Mapping[str, Any] | None) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Values and intervals of the figures that the measurement has, by name."""
    found = (summary or {}).get("energy") or {}
    values, intervals = {}, {}
    for name, (value, error) in FIGURES.items():
        if found.get(value) is not None:
            values[name] = found[value]
            intervals[name] = [found[value] - found[error], found[value] + found[error]]
    return values, intervals


def energy_notes(summary: Mapping[str, Any] | None) -> list[str]:
    """Notes for people: why energy is missing, or what the figure covers."""
    found = (summary or {}).get("energy")
    if not found:
        return []
    if found["problem"]:
        return [f"no energy: {found['problem']}"]
    idle = f"; no net energy: {found['idle_problem']}" if found["idle_problem"] else ""
    return [f"energy covers {found['covers']}{idle}"]


def missing_energy(summary: Mapping[str, Any] | None, wanted: Iterable[str]) -> str | None:
    """Why a wanted energy or power is missing; None when all are there."""
    missing = sorted((ENERGY_OBJECTIVES & set(wanted)) - set(figures(summary)[0]))
    if not missing:
        return None
    found = (summary or {}).get("energy") or {}
    why = found.get("problem") or found.get("idle_problem") or "it was not measured"
    return f"no {', '.join(missing)}: {why}"
