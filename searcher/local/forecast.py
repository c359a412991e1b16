"""What ``run`` and ``submit`` say before they begin: baseline, number of candidates, disk."""

from dataclasses import dataclass

from searcher.jobs.check_task import TaskCheck
from searcher.ledger.tables.search_state import TaskFacts
from searcher.results.formatting import bytes_text
from searcher.search.promotion import TURNOVER
from searcher.spec.campaign import Campaign
from searcher.spec.measurement_plan import screening_plan

SPLITS = ("training", "validation", "test")
FILES_PER_TRAINING = 3
"""The untrained file, the file after short training and that after full training."""
STATES_PER_TRAINING = 2
COPIES_PER_STATE = 3
"""A checkpoint holds the weights and two moments of the optimizer."""


@dataclass(frozen=True)
class Forecast:
    """Numbers of a campaign before it begins. ``baseline_s`` are the shortest and the longest
    training of the baseline on one thread, ``measured_s`` and ``trained_s`` are seconds per
    candidate that is measured, or trained in full by one builder."""

    baseline_s: tuple[float, float]
    measured_s: float
    trained_s: float
    search_s: float
    candidates: int
    disk_bytes: int


def forecast(campaign: Campaign, facts: TaskFacts, builders: int) -> Forecast:
    """Measurements stop the builders; one candidate of ``TURNOVER`` is trained and measured
    again."""
    least, most = facts.baseline_epochs or (0, 0)
    baseline_s = least * facts.epoch_s, most * facts.epoch_s
    search_s = campaign.budget.search_s(baseline_s[0] / builders)
    plan = campaign.plan
    measured_s = screening_plan(plan).max_s + plan.max_s / TURNOVER
    trained_s = facts.epoch_s * facts.epochs["full"]
    each_s = measured_s + trained_s / builders / TURNOVER
    candidates = max(min(campaign.budget.candidates, round(search_s / each_s)), 1)
    trained = -(-candidates // TURNOVER)
    weights_bytes = 4 * facts.parameters
    disk_bytes = (candidates + trained * (FILES_PER_TRAINING - 1)) * facts.file_bytes + (
        trained * (STATES_PER_TRAINING * COPIES_PER_STATE + 1) * weights_bytes)
    return Forecast(baseline_s, measured_s, trained_s, search_s, candidates, disk_bytes)


def statements(campaign: Campaign, check: TaskCheck, builders: int,
               free_bytes: int | None = None) -> list[str]:
    """The warnings of a check, and what the campaign will do, as lines."""
    lines = [f"warning: {row}" for row in check.of("warning")]
    facts = check.facts
    if facts is None:
        return lines
    expected = forecast(campaign, facts, builders)
    samples = " / ".join(f"{facts.samples[split]:,}" for split in SPLITS)
    lines += [f"task: {campaign.task}, {samples} samples ({' / '.join(SPLITS)}), metric "
              f"{facts.metric}",
              _baseline(facts, expected),
              _search(campaign, facts, expected, builders),
              f"disk: about {bytes_text(expected.disk_bytes)} at most, if no file is smaller than "
              f"the baseline's {bytes_text(facts.file_bytes)}, checkpoints included"]
    if free_bytes is not None and free_bytes < expected.disk_bytes:
        lines.append(f"warning: only {bytes_text(free_bytes)} of the disk are free. Free some "
                     "space, or lower candidates in [budget].")
    return lines


def _baseline(facts: TaskFacts, expected: Forecast) -> str:
    if facts.baseline_epochs is None:
        return "baseline: the model as the task gives it; it is not trained"
    least, most = facts.baseline_epochs
    epochs = f"{least} to {most} epochs" if least < most else _times(most, "epoch")
    longest = _duration(expected.baseline_s[1])
    return (f"baseline: trained for {epochs}, at most about {longest} on one core "
            f"({_duration(facts.epoch_s)} per epoch)")


def _search(campaign: Campaign, facts: TaskFacts, expected: Forecast, builders: int) -> str:
    limit = " (the limit of [budget])" if expected.candidates == campaign.budget.candidates else ""
    return (f"search: about {_times(expected.candidates, 'candidate')}{limit} in "
            f"{_duration(expected.search_s)}: each is measured for at most about "
            f"{_duration(expected.measured_s)}, one of {TURNOVER} is trained for "
            f"{facts.epochs['full']} epochs of about {_duration(facts.epoch_s)}, "
            f"{_times(builders, 'builder')}")


def _duration(seconds: float) -> str:
    for unit_s, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * unit_s:
            return f"{seconds / unit_s:.2g} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"


def _times(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")
