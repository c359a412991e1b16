"""Energy and power of a measurement, as values with intervals.

The agent computes the figures. An interval is the value plus and minus the agent's error bound, not
a confidence interval. ``energy_j`` excludes the idle power before and after the measurement;
``energy_gross_j`` includes it.
"""

from collections.abc import Iterable

from searcher.spec.objectives import ENERGY_OBJECTIVES
from searcher.statistics.measured import Summary


def figures(summary: Summary | None) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Values and intervals of the energies and powers that the measurement has."""
    found = None if summary is None else summary.energy
    if found is None:
        return {}, {}
    told = {"energy_j": (found.net_j, found.net_error_j),
            "energy_gross_j": (found.gross_j, found.gross_error_j),
            "power_w": (found.power_w, found.power_error_w)}
    known = {name: (value, error or 0.0) for name, (value, error) in told.items()
             if value is not None}
    return ({name: value for name, (value, _) in known.items()},
            {name: [value - error, value + error] for name, (value, error) in known.items()})


def energy_notes(summary: Summary | None) -> list[str]:
    """Notes for people: why energy is missing, or what the figures cover."""
    found = None if summary is None else summary.energy
    if found is None:
        return []
    if found.problem:
        return [f"no energy: {found.problem}"]
    idle = f"; no net energy: {found.idle_problem}" if found.idle_problem else ""
    return [f"energy covers {found.covers}{idle}"]


def missing_energy(summary: Summary | None, wanted: Iterable[str]) -> str | None:
    """Why a wanted energy or power is missing; None when all are there."""
    missing = sorted((ENERGY_OBJECTIVES & set(wanted)) - set(figures(summary)[0]))
    if not missing:
        return None
    found = None if summary is None else summary.energy
    why = "" if found is None else found.problem or found.idle_problem
    return f"no {', '.join(missing)}: {why or 'it was not measured'}"
