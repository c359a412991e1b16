"""How far a campaign is: one document from its row, wherever that was read."""

from collections.abc import Mapping
from typing import Any


def standing(
    row: Mapping[str, Any], trials: Mapping[str, int], wall_minutes: float, now_s: float
) -> dict[str, Any]:
    """The document of ``fleetfront status --format json``; ``row`` has the campaign's columns."""
    searched_s = (row["baseline"] or {}).get("searched_s")
    remaining_s = None if searched_s is None else max(wall_minutes * 60 - searched_s, 0)
    began_s, ended_s = row["started_s"] or row["created_s"], row["ended_s"]
    return {
        "campaign": row["name"], "state": row["state"], "trials": dict(trials),
        "elapsed_s": (ended_s or now_s) - began_s,
        "remaining_s": 0.0 if ended_s else remaining_s,
        "priority": row["priority"], "reason": row["reason"],
    }


def flat(document: Mapping[str, Any]) -> dict[str, Any]:
    """The same as one row."""
    row = {**document, **document["trials"]}
    row.pop("trials")
    return row
