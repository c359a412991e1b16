"""Comparison of two ONNX files on one device: a sequential test with a decision after every look.

    look 1: a process | open O, M | O M O M ... | open M, O | O M O M ... | ratio M / O
    look 2: another   | open M, O | M O M O ... | open O, M | M O M O ... |        until decided

Single calls of both files alternate, and all calls without an interruption count: a disturbance of
the machine slows similar files by similar factors. The file that is opened first may differ by half
a percent, with another sign in a new process than in a used one. A look therefore has sessions of
both orders, its ratio is the mean of their ratios, and the files swap roles between looks. The
interval and the stopping rule are in ``searcher/statistics/sequential_test.py``. If MODEL is
compressed but not faster, another short job explains why (``searcher/benchmark/explanation.py``).
"""

import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agents.protocol import ArtifactRef, MeasurePayload, MeasurePlan
from searcher.benchmark.explanation import explanation_of
from searcher.client.jobs import EndedJob, reference_problem
from searcher.errors import UserError
from searcher.jobs.measure import MeasureRequest
from searcher.spec.runtime_options import DEFAULT, Execution
from searcher.statistics.measured import FileMeasurement, MeasureResult, Ratio
from searcher.statistics.quiet_level import BUSY_FACTOR
from searcher.statistics.sequential_test import FEWEST_LOOKS, Estimate, estimate, spent

LOOK_S, SHORTEST_SHARE = 0.75, 1 / 8
"""As fractions of the given seconds. A job of one look takes half a second longer than its
measurement."""
BLOCK_S, UNINTERRUPTED = 0.0005, 1.0
"""Blocks of one call for files of half a millisecond or more; a block counts when the reference
calls beside it take at most twice the quiet level."""
LONGEST_LOOK_S = 30.0
EXPLAINING_S = 0.1
"""Seconds of paired calls in the job that times nodes; its ratio is not used."""
FEW_BLOCKS = 8
"""A look with fewer quiet blocks was too short for these files; the next one is twice as long."""

RunJob = Callable[[MeasureRequest], EndedJob[MeasureResult]]
"""Runs a measure job to its end."""


@dataclass(frozen=True)
class TimedLook:
    """One look. ``ratio`` is None for an invalid look, with the reasons in ``warnings``.
    ``level_s`` is the quiet level of OTHER. ``changed``: the roles were swapped, so that MODEL was
    the reference."""

    changed: bool
    ratio: float | None
    level_s: float | None
    blocks: int
    device_s: float
    warnings: tuple[str, ...]


def look_plan(seconds: float) -> MeasurePlan:
    """Plan of a look: fixed duration, one process, new sessions after half of the time."""
    return MeasurePlan("look", block_s=BLOCK_S, min_blocks=3, min_s=seconds, max_s=seconds,
                gate=UNINTERRUPTED, warmup_s=0.02, fresh_session_every_s=seconds / 2)


@dataclass(frozen=True)
class FileComparison:
    """The result that ``fleetfront measure --against`` prints. ``ratio`` is the latency of MODEL
    divided by that of the other file."""

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
    """Compare MODEL with OTHER until the verdict is decided or the time is used.

    ``files`` are MODEL and OTHER. ``seconds`` limits the device time, excluding the job that
    explains why a compressed model is not faster. Raises UserError when a file cannot be measured.
    """
    request = _request(files, execution)
    looks: list[TimedLook] = []
    environment: Mapping[str, object] = {}
    found: Estimate | None = None
    used_s, spent_alpha, look_s = 0.0, 0.0, min(LOOK_S, seconds * SHORTEST_SHARE)
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
        now = _estimate(looks, allowed - spent_alpha) if look.ratio is not None else None
        if now is not None:
            found, spent_alpha = now, allowed
            say(f"{now.ratio:.4f} [{now.low:.4f} .. {now.high:.4f}] {now.verdict} "
                f"after {used_s:.1f} s")

    def profile() -> MeasureResult | None:
        return run_job(_asked(request, look_plan(EXPLAINING_S)._replace(nodes=True))).result

    why = [] if found is None else explanation_of(
        model, other, Ratio(found.ratio, found.low, found.high), profile)
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
    """Geometric mean of the sessions' ratios; the overall ratio for older agents, which do not
    report sessions."""
    sessions = () if entry.summary is None else entry.summary.session_ratios
    if not sessions:
        return entry.ratio
    return math.exp(sum(map(math.log, sessions)) / len(sessions))


def _estimate(looks: list[TimedLook], alpha: float) -> Estimate | None:
    valid = [look for look in looks if look.ratio is not None]
    return estimate([look.ratio for look in valid if look.ratio is not None],
                    [look.changed for look in valid], alpha)


def _warnings(looks: list[TimedLook]) -> list[str]:
    """Each kind of warning once, with the number of looks that had it, and whether the machine's
    speed changed between looks."""
    kinds: dict[str, int] = {}
    for look in looks:
        for kind in {warning.partition(":")[0] for warning in look.warnings}:
            if kind.replace(" ", "").isalpha():
                kinds[kind] = kinds.get(kind, 0) + 1
    found = [f"{kind} (in {count} of {len(looks)} looks)" for kind, count in sorted(kinds.items())]
    valid = sum(look.ratio is not None for look in looks)
    if valid < FEWEST_LOOKS:
        found.append(f"{valid} of {len(looks)} looks gave a ratio, and an interval needs "
                     f"{FEWEST_LOOKS}: use more --seconds, or a quieter machine")
    levels = [look.level_s for look in looks if look.ratio is not None and look.level_s]
    if levels and max(levels) > BUSY_FACTOR * min(levels):
        found.append(f"between looks the machine's speed changed by {max(levels) / min(levels):.2g}"
                     ": the ratio is over all its states")
    return found
