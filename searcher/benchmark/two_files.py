"""One ONNX file against another on one device, with a decision after every look.

    look 1: a process | open O, M | O M O M ... | open M, O | O M O M ... | ratio M / O
    look 2: another   | open M, O | M O M O ... | open O, M | M O M O ... |        until decided

Calls alternate one by one, and all count that were not interrupted: two files that are much alike
are slowed alike, whatever the machine does. The file that is opened first may be slower or faster
by half a percent, and differently in a fresh process than in a used one. So a look has sessions of
both orders, its ratio is the mean of theirs, and the files change their roles from look to look.
``searcher/statistics/sequential_test.py`` has the interval and the stopping rule. Where MODEL
should be faster and is not, one more short job says why (``searcher/benchmark/explanation.py``).
"""

import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agents.protocol import ArtifactRef, MeasurePayload, MeasurePlan
from searcher.benchmark.explanation import explained
from searcher.client.jobs import EndedJob, reference_problem
from searcher.errors import UserError
from searcher.jobs.measure import MeasureRequest
from searcher.spec.runtime_options import DEFAULT, Execution
from searcher.statistics.measured import FileMeasurement, MeasureResult, Ratio
from searcher.statistics.quiet_level import BUSY_FACTOR
from searcher.statistics.sequential_test import FEWEST_LOOKS, Estimate, estimate, spent

LOOK_S, SHORTEST_SHARE = 0.75, 1 / 8
"""Of the seconds that there are: a look takes half a second more than it measures."""
BLOCK_S, UNINTERRUPTED = 0.0005, 1.0
"""Single calls from half a millisecond on; beside reference calls of at most twice the quiet level.
"""
LONGEST_LOOK_S = 30.0
EXPLAINING_S = 0.1
"""Of pairs, in the job that is about nodes: its ratio is not used."""
FEW_BLOCKS = 8
"""A look with fewer quiet blocks was too short for these files: the next is twice as long."""

RunJob = Callable[[MeasureRequest], EndedJob[MeasureResult]]
"""Runs a measure job to its end."""


@dataclass(frozen=True)
class TimedLook:
    """``ratio`` is None when the look was invalid, for ``warnings``; ``level_s`` is the other
    file's quiet level in it. ``changed``: MODEL was the reference."""

    changed: bool
    ratio: float | None
    level_s: float | None
    blocks: int
    device_s: float
    warnings: tuple[str, ...]


def look_plan(seconds: float) -> MeasurePlan:
    """Always as long as asked, in one process, with fresh sessions in the middle."""
    return MeasurePlan("look", block_s=BLOCK_S, min_blocks=3, min_s=seconds, max_s=seconds,
                gate=UNINTERRUPTED, warmup_s=0.02, fresh_session_every_s=seconds / 2)


@dataclass(frozen=True)
class FileComparison:
    """What ``fleetfront measure --against`` prints. ``ratio`` is MODEL's time over the other's."""

    model: str
    against: str
    ratio: float | None
    interval: Sequence[float] | None
    verdict: str
    looks: Sequence[TimedLook]
    device_s: float
    warnings: Sequence[str]
    measured_with: str
    environment: Mapping[str, object]


def compare_files(
    model: Path, other: Path, files: tuple[ArtifactRef, ArtifactRef],
    run_job: RunJob, seconds: float, say: Callable[[str], None] = lambda text: None,
    execution: Execution = DEFAULT,
) -> FileComparison:
    """``files`` are MODEL and OTHER. ``seconds`` is the longest device time of the comparison,
    the explanation of a model that should be faster apart. Raises UserError when a file cannot be
    measured.
    """
    request = _request(files, execution)
    looks: list[TimedLook] = []
    environment: Mapping[str, object] = {}
    found: Estimate | None = None
    used_s, paid, look_s = 0.0, 0.0, min(LOOK_S, seconds * SHORTEST_SHARE)
    last = False
    while not last and (found is None or found.verdict == "undecided"):
        changed = len(looks) % 2 == 1
        look, environment = (
            _look(other, model, _request(files[::-1], execution), run_job, look_s, changed)
            if changed else _look(model, other, request, run_job, look_s, changed))
        looks.append(look)
        used_s += look.device_s
        if look.blocks < FEW_BLOCKS:
            look_s = min(2 * look_s, LONGEST_LOOK_S)
        last = used_s + max(look.device_s, look_s) > seconds
        allowed = spent(1.0 if last else used_s / seconds)
        now = _estimate(looks, allowed - paid) if look.ratio is not None else None
        if now is not None:
            found, paid = now, allowed
            say(f"{now.ratio:.4f} [{now.low:.4f} .. {now.high:.4f}] {now.verdict} "
                f"after {used_s:.1f} s")

    def timed() -> MeasureResult | None:
        return run_job(_asked(request, look_plan(EXPLAINING_S)._replace(nodes=True))).result

    why = [] if found is None else explained(
        model, other, Ratio(found.ratio, found.low, found.high), timed)
    return FileComparison(
        str(model), str(other), found.ratio if found else None,
        [found.low, found.high] if found else None, found.verdict if found else "undecided",
        looks, used_s, [*why, *_warnings(looks)], str(execution), environment)


def _look(own: Path, reference: Path, request: MeasurePayload, run_job: RunJob, seconds: float,
          changed: bool) -> tuple[TimedLook, Mapping[str, object]]:
    plan = look_plan(seconds)
    job = run_job(_asked(request, plan))
    if job.result is None:
        broken = reference_problem(job)
        if broken is not None:
            raise UserError(f"{reference} could not be measured: {broken}.")
        raise UserError(f"{own} could not be compared: {job.why}.")
    (entry,) = job.result.measurements
    if entry.verdict == "failed":
        raise UserError(f"{own} could not be measured: {', '.join(entry.reasons)}.")
    ratio, level_s = _ratio(entry), job.result.own_level_s
    device_s = job.result.device_s
    if changed and ratio:
        ratio, level_s = 1 / ratio, level_s and level_s * ratio
    doubts = () if entry.summary is None else entry.summary.warnings
    return TimedLook(changed, ratio, level_s, entry.n or 0,
                     plan.max_s if device_s is None else device_s,
                     (*entry.reasons, *doubts)), job.result.environment


def _request(files: tuple[ArtifactRef, ArtifactRef], execution: Execution) -> MeasurePayload:
    own, other = files
    return MeasurePayload(other, [own], execution.runtime, execution.options,
                          look_plan(LOOK_S))


def _asked(request: MeasurePayload, plan: MeasurePlan) -> MeasureRequest:
    return MeasureRequest(request._replace(
        plan=plan, attempt=secrets.randbelow(2**31)))


def _ratio(entry: FileMeasurement) -> float | None:
    """The geometric mean of the sessions; an older agent does not tell them apart."""
    sessions = () if entry.summary is None else entry.summary.session_ratios
    if not sessions:
        return entry.ratio
    return math.exp(sum(map(math.log, sessions)) / len(sessions))


def _estimate(looks: list[TimedLook], alpha: float) -> Estimate | None:
    valid = [look for look in looks if look.ratio is not None]
    return estimate([look.ratio for look in valid if look.ratio is not None],
                    [look.changed for look in valid], alpha)


def _warnings(looks: list[TimedLook]) -> list[str]:
    """Each kind once, with how many looks had it; and whether the machine changed in between."""
    kinds: dict[str, int] = {}
    for look in looks:
        for kind in {warning.partition(":")[0] for warning in look.warnings}:
            if kind.replace(" ", "").isalpha():
                kinds[kind] = kinds.get(kind, 0) + 1
    found = [f"{kind} (in {count} of {len(looks)} looks)" for kind, count in sorted(kinds.items())]
    valid = sum(look.ratio is not None for look in looks)
    if valid < FEWEST_LOOKS:
        found.append(f"{valid} of {len(looks)} looks gave a ratio, and an interval needs "
                     f"{FEWEST_LOOKS}: give it more seconds, or a quieter machine")
    levels = [look.level_s for look in looks if look.ratio is not None and look.level_s]
    if levels and max(levels) > BUSY_FACTOR * min(levels):
        found.append(f"between looks the machine's speed changed by {max(levels) / min(levels):.2g}"
                     ": the ratio is over all its states")
    return found
