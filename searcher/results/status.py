"""How far a campaign is, from its row, wherever that was read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlite_utils import Database

from searcher.ledger.rows import CampaignRow
from searcher.ledger.tables import search_state
from searcher.ledger.tables import trials as trial_table
from searcher.ledger.tables.search_state import SearchState
from searcher.results.failures import counts_text

if TYPE_CHECKING:
    from searcher.spec.campaign import Budget  # numpy comes with it

Cell = str | int | float | None


@dataclass(frozen=True)
class CampaignStatus:
    """``trials`` counts candidates by state, ``failures`` those that failed by reason, the most
    frequent first. ``remaining_s`` is None until the baseline is measured."""

    campaign: str
    state: str
    trials: Mapping[str, int]
    elapsed_s: float
    remaining_s: float | None
    priority: int
    reason: str | None
    notes: Sequence[str]
    failures: Mapping[str, int]

    def as_document(self) -> dict[str, object]:
        """Plain JSON: what ``fleetfront status --format json`` prints."""
        return {**vars(self), "trials": dict(self.trials), "notes": list(self.notes),
                "failures": dict(self.failures)}

    def as_row(self) -> dict[str, Cell]:
        """The same as one flat row, one column for each state of a candidate."""
        return {"campaign": self.campaign, "state": self.state, "elapsed_s": self.elapsed_s,
                "remaining_s": self.remaining_s, "priority": self.priority, "reason": self.reason,
                "notes": "; ".join(self.notes) or None, **self.trials,
                "failures": counts_text(self.failures) or None}


def status_of(
    row: CampaignRow, trials: Mapping[str, int], failures: Mapping[str, int],
    states: Mapping[str, SearchState], budget: "Budget", now_s: float,
) -> CampaignStatus:
    """``states`` are those of the campaign's searches, by device."""
    remaining_s = max((max(budget.search_s(state.baseline_s) - state.searched_s, 0.0)
                       for state in states.values()), default=None)
    began_s = row.started_s or row.created_s
    return CampaignStatus(
        row.name, row.state, trials, (row.ended_s or now_s) - began_s,
        0.0 if row.ended_s else remaining_s, row.priority, row.reason,
        [note for state in states.values() for note in state.notes], failures)


def stored_status(db: Database, row: CampaignRow, now_s: float) -> CampaignStatus:
    """Of a campaign of this ledger."""
    from searcher.spec.campaign import from_document

    return status_of(
        row, trial_table.counts(db, row.name), trial_table.failures(db, row.name),
        search_state.of_campaign(db, row.name), from_document(row.spec).budget, now_s)
