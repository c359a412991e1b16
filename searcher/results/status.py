"""How far a campaign is: one document from its row, wherever that was read."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from searcher.spec.campaign import Budget  # numpy comes with it


def standing(
    row: Mapping[str, Any], trials: Mapping[str, int], budget: "Budget", now_s: float
) -> dict[str, Any]:
    """The document of ``fleetfront status --format json``; ``row`` has the campaign's columns."""
    known = row["baseline"] or {}
    searched_s = known.get("searched_s")
    remaining_s = None if searched_s is None else max(
        budget.search_s(known.get("baseline_s", 0.0)) - searched_s, 0)
    began_s, ended_s = row["started_s"] or row["created_s"], row["ended_s"]
    return {
        "campaign": row["name"], "state": row["state"], "trials": dict(trials),
        "elapsed_s": (ended_s or now_s) - began_s,
        "remaining_s": 0.0 if ended_s else remaining_s,
        "priority": row["priority"], "reason": row["reason"], "notes": known.get("notes", []),
    }


def flat(document: Mapping[str, Any]) -> dict[str, Any]:
    """The same as one row."""
    row = {**document, **document["trials"]}
    row.pop("trials")
    row["notes"] = "; ".join(document["notes"]) or None
    return row
