"""The capabilities of this device: job kinds, runtimes that start, meters that can be read."""

import time
from typing import Dict, List, NamedTuple, Optional

from agents.child.events import Ready, parse_event
from agents.child.request import ChildRequest
from agents.jobs.catalog import KINDS
from agents.measurement.child_process import ProcessChild, StartChild
from agents.measurement.energy.window import energy_support
from agents.measurement.supervision import LISTEN_S, START_LIMIT_S
from agents.protocol import RUNTIMES, JsonObject, decode

PROOF_LIMIT_S = 600.0
"""Longest proof: the first inference of a GPU compiles kernels, for minutes on a small board."""


class _Reported(NamedTuple):
    """The part of ``Runtime.versions`` that every runtime has."""

    providers: List[str]


class RuntimeStart(NamedTuple):
    """How a runtime starts. ``versions`` is what it reports, ``problem`` why it does not start.
    ``unproven`` maps a provider that did not run a model to the reason."""

    versions: JsonObject = {}
    providers: List[str] = []
    unproven: Dict[str, str] = {}
    problem: Optional[str] = None

    def as_json(self) -> JsonObject:
        return dict(self.versions, providers=self.providers, unproven=self.unproven)


class Capabilities(NamedTuple):
    """What the agent reports when it enrols.

    ``runtimes`` are those that start, by name. ``missing`` maps the others to the cause,
    ``meters`` a meter to ``ok`` or its problem, ``energy`` cpu and gpu to ``ok`` or why no meter
    covers them, ``extensions`` an entry point of a third party that cannot be used to the cause.
    """

    kinds: List[str]
    runtimes: Dict[str, RuntimeStart]
    missing: Dict[str, str]
    meters: Dict[str, str]
    energy: Dict[str, str]
    extensions: Dict[str, str]

    def as_json(self) -> JsonObject:
        """As it is sent; ``extensions`` is absent if all can be used."""
        content: JsonObject = dict(self._asdict(), runtimes={
            name: start.as_json() for name, start in self.runtimes.items()})
        if not self.extensions:
            del content["extensions"]
        return content


def start_runtime(runtime: str, start_child: StartChild) -> RuntimeStart:
    """What the runtime reports in a child, or why it does not start."""
    try:
        child = start_child(runtime, ChildRequest("versions"))
    except OSError as error:
        return RuntimeStart(problem="it cannot be started: {}".format(error))
    try:
        for _ in range(int(START_LIMIT_S / LISTEN_S)):
            content = child.next_event(LISTEN_S)
            if content is not None:
                event = parse_event(content)
                if isinstance(event, Ready):
                    return runtime_start(event.versions)
                return RuntimeStart(problem=str(content.get("reason", content.get("event"))))
            ended = child.ended()
            if ended is not None:
                return RuntimeStart(
                    problem="{} {}".format(ended, child.last_stderr_line()).strip())
        return RuntimeStart(problem="it does not start within {:g} s".format(START_LIMIT_S))
    finally:
        child.close()


def runtime_start(versions: JsonObject) -> RuntimeStart:
    """A runtime that reports ``versions``. Raises ProtocolError if ``providers`` is no list of
    names."""
    return RuntimeStart(versions, decode(_Reported, versions).providers)


def prove_providers(runtime: str, start: RuntimeStart, start_child: StartChild) -> RuntimeStart:
    """``start`` with the ``providers`` that ran a model; the others are ``unproven``, each with
    its reason. Each provider runs in a child of its own, so that a crash affects no other."""
    from agents.measurement.supervision import JobFailed, supervise

    providers: List[str] = []
    unproven: Dict[str, str] = {}
    for name in start.providers:
        try:
            supervise(runtime, ChildRequest("prove", provider=name), start_child, time.monotonic,
                      lambda: False, lambda event: None, PROOF_LIMIT_S)
            providers.append(name)
        except JobFailed as error:
            unproven[name] = "{}: {}".format(error.reason, error)
    return start._replace(providers=providers, unproven=unproven)


def capabilities(runtimes: List[str], python: str) -> Capabilities:
    """The capabilities of this device. Takes seconds: it starts every runtime, and again for each
    of its providers."""
    def start(runtime: str, request: ChildRequest) -> ProcessChild:
        return ProcessChild(runtime, request, python)

    from agents.meters.catalog import create_meters

    found = {name: start_runtime(name, start) for name in runtimes}
    created = create_meters()
    problems = {meter.name: meter.problem() or "ok" for meter in created.meters}
    energy = energy_support(created.power_meters())
    for meter in created.power_meters():
        meter.close()
    return Capabilities(
        kinds=list(KINDS),
        runtimes={name: prove_providers(name, one, start)
                  for name, one in found.items() if one.problem is None},
        missing={name: one.problem for name, one in found.items() if one.problem is not None},
        meters=problems,
        energy=energy,
        extensions=_broken_extensions(RUNTIMES.problems(), created.broken))


def _broken_extensions(runtimes: Dict[str, str], meters: Dict[str, str]) -> Dict[str, str]:
    """Cause and remedy by ``runtime NAME`` or ``meter NAME``."""
    return {"{} {}".format(kind, name): problem
            for kind, problems in (("runtime", runtimes), ("meter", meters))
            for name, problem in problems.items()}
