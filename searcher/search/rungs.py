"""How long candidates are trained: epochs of each fidelity from measured seconds and the budget."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from searcher.ledger.tables.search_state import TaskFacts

FULL_FRACTION = 0.08
"""Full training of the baseline takes this fraction of the builders' search time. Candidates have
fewer operations: about 20 to 40 can be trained. With 0.02 a residual network of eight minutes had
one epoch each, and nothing won back more than half of its loss."""
MOST_EPOCHS = 30
"""Of full training: more win back little (Blalock et al. 2020, What is the State of Neural Network
Pruning?), and long campaigns would rather try more candidates."""
SHORT, EXTENDED = 0.25, 2.0
"""Epochs of short and extended training, relative to full training."""
LONGEST_EPOCH = 0.1
"""Where one epoch takes more of the builders' search time, nothing is trained."""
UNKNOWN_S = 60.0
"""Expected duration of full training where the task was not checked."""


@dataclass(frozen=True)
class Rungs:
    """``epochs`` of each fidelity; empty: those of the task. ``full_s`` is the expected duration of
    full training of the baseline. ``why_not`` says why nothing is trained, None if candidates
    are."""

    epochs: Mapping[str, int] = field(default_factory=dict)
    full_s: float = UNKNOWN_S
    why_not: str | None = None


def rungs_of(facts: TaskFacts | None, states_epochs: bool, builders_s: float) -> Rungs:
    """For a task whose author ``states_epochs`` or leaves them to the search, which has
    ``builders_s`` seconds of all builders together."""
    if facts is None:
        return Rungs()
    if facts.epoch_s > LONGEST_EPOCH * builders_s:
        return Rungs({}, facts.epoch_s, (
            f"nothing is trained: one epoch takes {facts.epoch_s:.0f} s, and the builders have "
            f"{builders_s:.0f} s; the front has repaired candidates"))
    if states_epochs:
        return Rungs({}, facts.epoch_s * facts.epochs["full"])
    full = min(max(round(FULL_FRACTION * builders_s / facts.epoch_s), 1), MOST_EPOCHS)
    return Rungs({"short": max(round(SHORT * full), 1), "full": full,
                  "extended": round(EXTENDED * full)}, facts.epoch_s * full)


def known_rungs(epochs: Mapping[str, int], facts: TaskFacts | None, found: Rungs) -> Rungs:
    """``found`` with the epochs that an earlier search process of the campaign chose."""
    if facts is None or not epochs:
        return found
    return Rungs(epochs, facts.epoch_s * epochs["full"])
