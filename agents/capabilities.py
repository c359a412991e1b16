"""What this device offers: job kinds, runtimes that start, meters that read."""

import time
from typing import Any, Dict, List

from agents.jobs.catalog import KINDS
from agents.measurement.child_process import ProcessChild, StartChild
from agents.measurement.energy.window import offered
from agents.measurement.runner import LISTEN_S, START_LIMIT_S
from agents.protocol import RUNTIMES

PROOF_LIMIT_S = 600.0
"""A GPU's first inference compiles kernels, for minutes on a small board."""


def runtime_versions(runtime: str, start_child: StartChild) -> Dict[str, Any]:
    """What the runtime says of itself in the child's interpreter; ``{"problem": text}`` if none."""
    try:
        child = start_child(runtime, {"mode": "versions"})
    except OSError as error:
        return {"problem": "it cannot be started: {}".format(error)}
    try:
        for _ in range(int(START_LIMIT_S / LISTEN_S)):
            event = child.next_event(LISTEN_S)
            if event is not None and event["event"] == "ready":
                return dict(event["versions"])
            if event is not None:
                return {"problem": str(event.get("reason", event["event"]))}
            ended = child.ended()
            if ended is not None:
                return {"problem": "{} {}".format(ended, child.last_words()).strip()}
        return {"problem": "it does not start within {:g} s".format(START_LIMIT_S)}
    finally:
        child.close()


def proved(runtime: str, versions: Dict[str, Any], start_child: StartChild) -> Dict[str, Any]:
    """The versions with those ``providers`` that ran a file; the others are ``unproven``, with the
    reason. A child for each: one that crashes says nothing of the next."""
    from agents.measurement.runner import MeasurementFailed
    from agents.measurement.supervision import attend

    providers, unproven = [], {}
    for name in versions["providers"]:
        try:
            attend(runtime, {"mode": "prove", "provider": name}, start_child, time.monotonic,
                   lambda: False, lambda event: None, PROOF_LIMIT_S)
            providers.append(name)
        except MeasurementFailed as error:
            unproven[name] = "{}: {}".format(error.reason, error)
    return dict(versions, providers=providers, unproven=unproven)


def capabilities(runtimes: List[str], python: str) -> Dict[str, Any]:
    """What the agent tells when it enrols. Starts every runtime, once more for each of its
    providers, which takes seconds.
    ``energy`` says for ``cpu`` and ``gpu``: ok, or why no meter tells it. ``extensions`` is there
    if an entry point of a third party cannot be used."""
    def start(runtime: str, request: Dict[str, Any]) -> ProcessChild:
        return ProcessChild(runtime, request, python)

    from agents.meters.catalog import create_meters

    found = {name: runtime_versions(name, start) for name in runtimes}
    created = create_meters()
    problems = {meter.name: meter.problem() or "ok" for meter in created.meters}
    energy = offered(created.power_meters())
    for meter in created.power_meters():
        meter.close()
    broken = _broken_extensions(RUNTIMES.problems(), created.broken)
    return {
        "kinds": list(KINDS),
        "runtimes": {name: proved(name, versions, start) for name, versions in found.items()
                     if "problem" not in versions},
        "missing": {name: versions["problem"] for name, versions in found.items()
                    if "problem" in versions},
        "meters": problems,
        "energy": energy,
        **({"extensions": broken} if broken else {}),
    }


def _broken_extensions(runtimes: Dict[str, str], meters: Dict[str, str]) -> Dict[str, str]:
    """Cause and remedy by ``runtime NAME`` or ``meter NAME``."""
    return {"{} {}".format(kind, name): problem
            for kind, problems in (("runtime", runtimes), ("meter", meters))
            for name, problem in problems.items()}
