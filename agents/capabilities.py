"""The capabilities of this device: job kinds, runtimes that start, meters that can be read."""

import time
from typing import Dict, List

from agents.jobs.catalog import KINDS
from agents.measurement.child_process import ProcessChild, StartChild
from agents.measurement.energy.window import energy_support
from agents.measurement.supervision import LISTEN_S, START_LIMIT_S
from agents.protocol import RUNTIMES, JsonObject

PROOF_LIMIT_S = 600.0
"""Longest proof: the first inference of a GPU compiles kernels, for minutes on a small board."""


def runtime_versions(runtime: str, start_child: StartChild) -> JsonObject:
    """The versions that the runtime reports in a child, or ``{"problem": text}``."""
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
                return {"problem": "{} {}".format(ended, child.last_stderr_line()).strip()}
        return {"problem": "it does not start within {:g} s".format(START_LIMIT_S)}
    finally:
        child.close()


def prove_providers(runtime: str, versions: JsonObject, start_child: StartChild) -> JsonObject:
    """The versions with the ``providers`` that ran a model; the others are ``unproven``, each with
    its reason. Each provider runs in a child of its own, so that a crash affects no other."""
    from agents.measurement.supervision import JobFailed, supervise

    providers, unproven = [], {}
    for name in versions["providers"]:
        try:
            supervise(runtime, {"mode": "prove", "provider": name}, start_child, time.monotonic,
                      lambda: False, lambda event: None, PROOF_LIMIT_S)
            providers.append(name)
        except JobFailed as error:
            unproven[name] = "{}: {}".format(error.reason, error)
    return dict(versions, providers=providers, unproven=unproven)


def capabilities(runtimes: List[str], python: str) -> JsonObject:
    """What the agent reports when it enrols, as JSON. Takes seconds: it starts every runtime, and
    again for each of its providers.

    ``missing`` maps a runtime that does not start to the cause, ``meters`` a meter to ``ok`` or its
    problem, ``energy`` cpu and gpu to ``ok`` or why no meter covers them. ``extensions`` is present
    if an entry point of a third party cannot be used.
    """
    def start(runtime: str, request: JsonObject) -> ProcessChild:
        return ProcessChild(runtime, request, python)

    from agents.meters.catalog import create_meters

    found = {name: runtime_versions(name, start) for name in runtimes}
    created = create_meters()
    problems = {meter.name: meter.problem() or "ok" for meter in created.meters}
    energy = energy_support(created.power_meters())
    for meter in created.power_meters():
        meter.close()
    broken = _broken_extensions(RUNTIMES.problems(), created.broken)
    return {
        "kinds": list(KINDS),
        "runtimes": {name: prove_providers(name, versions, start)
                     for name, versions in found.items() if "problem" not in versions},
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
