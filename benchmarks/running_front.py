"""Which candidates were on the front at any time of a search, and what training the others cost."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from searcher.ledger.rows import TrialRow
from searcher.ledger.tables import trials
from searcher.pareto.front import front_indices, losses
from searcher.results.view import Reading
from searcher.spec.objectives import resolved
from searcher.spec.recipe import Recipe


@dataclass(frozen=True)
class Entry:
    """A finished candidate: ``losses`` of its objectives (smaller is better), None where it may not
    stand on a front. ``finished_s`` counts from the start of the first candidate."""

    number: int
    recipe: str
    sha256: str
    finished_s: float
    losses: tuple[float, ...] | None


def ever_on_front(entries: Iterable[Entry]) -> list[Entry]:
    """The entries that no entry finished before them dominates or equals, in the order of time."""
    found: list[Entry] = []
    front: list[tuple[float, ...]] = []
    for entry in sorted(entries, key=lambda e: e.finished_s):
        if entry.losses is None:
            continue
        joined = [*front, entry.losses]
        chosen = front_indices(joined)
        if len(joined) - 1 in chosen:
            found.append(entry)
        front = [joined[i] for i in chosen]
    return found


def share_off_front(training_s: Mapping[str, float], on_front: Iterable[str]) -> float | None:
    """Share of the training seconds, by recipe, of recipes that were never on a front; None without
    any training."""
    total, kept = sum(training_s.values()), set(on_front)
    if total <= 0:
        return None
    return sum(spent for recipe, spent in training_s.items() if recipe not in kept) / total


def entries_of(directory: Path, campaign: str) -> list[Entry]:
    """Every finished candidate of a campaign on its first device."""
    reading = Reading(directory)
    _, spec = reading.campaign(campaign)
    state = reading.search_states(campaign)[spec.devices[0]]
    objectives = resolved(spec.objectives, state.quality)
    with reading.ledger() as db:
        rows = [trial for trial in trials.history(db, campaign, limit=1_000_000)
                if trial.device == spec.devices[0] and trial.finished_s is not None]
    began_s = min((trial.started_s for trial in rows), default=0.0)

    def entry(trial: TrialRow) -> Entry:
        values = trial.values or {}
        sound = (trial.state == "complete"
                 and all(v <= 0 for v in (trial.constraints or {}).values())
                 and all(o.name in values for o in objectives))
        return Entry(trial.number, trial.recipe, trial.sha256 or "",
                     (trial.finished_s or 0.0) - began_s,
                     losses(values, objectives) if sound else None)

    return [entry(trial) for trial in rows]


def training_seconds(directory: Path, campaign: str) -> dict[str, float]:
    """Seconds of training jobs by recipe hash, without the baseline's."""
    found: dict[str, float] = {}
    with Reading(directory).ledger() as db:
        rows = db.execute("""SELECT payload, finished_s - started_s FROM jobs WHERE campaign = ?
                             AND kind = 'train' AND started_s IS NOT NULL
                             AND finished_s IS NOT NULL""", [campaign]).fetchall()
    for payload, spent_s in rows:
        recipe = Recipe.from_list(json.loads(payload)["recipe"])
        if recipe.steps:
            found[recipe.hash] = found.get(recipe.hash, 0.0) + float(spent_s)
    return found


def wasted_share(directory: Path, campaign: str) -> float | None:
    """Share of a campaign's training seconds on candidates that never were on a front."""
    on_front = [entry.recipe for entry in ever_on_front(entries_of(directory, campaign))]
    return share_off_front(training_seconds(directory, campaign), on_front)
