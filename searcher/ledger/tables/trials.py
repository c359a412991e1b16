"""Trials: one candidate of one campaign on one device."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from sqlite_utils import Database

from searcher.ledger.rows import DOCUMENTS, TrialRow, first, select, text

STATES = ("running", "complete", "pruned", "failed")

_COLUMNS = {
    "values": '"values"', "intervals": "intervals", "constraints": "constraints",
    "reason": "reason", "message": "message", "sha256": "sha256", "evaluations": "evaluations",
    "measurement": "measurement",
}
_DOCUMENTS = {"values", "intervals", "constraints", "evaluations"}


def get(db: Database, trial_id: int) -> TrialRow | None:
    return first(db, TrialRow, "trials", "WHERE id = ?", [trial_id])


def find(
    db: Database, campaign: str, device: str, recipe: str, options: Mapping[str, Any]
) -> TrialRow | None:
    return first(
        db, TrialRow, "trials",
        "WHERE campaign = ? AND device = ? AND recipe = ? AND options = ?",
        [campaign, device, recipe, text(options)],
    )


def create(
    db: Database, campaign: str, device: str, recipe: str, options: Mapping[str, Any],
    parameters: Mapping[str, object], now_s: float,
) -> int:
    """Insert a running trial with the next number of its campaign and device, from 0."""
    cursor = db.execute(
        """INSERT INTO trials (campaign, device, number, recipe, options, parameters, state,
             started_s)
           VALUES (?1, ?2, coalesce((SELECT max(number) FROM trials WHERE campaign = ?1
             AND device = ?2) + 1, 0), ?3, ?4, ?5, 'running', ?6)""",
        [campaign, device, recipe, text(options), text(parameters), now_s],
    )
    return int(cursor.lastrowid or 0)


def tell(
    db: Database, trial_id: int, state: str, changes: Mapping[str, Any], now_s: float
) -> None:
    """Set ``state`` and the given columns. The first final state sets ``finished_s``."""
    assignments = ["state = ?"]
    parameters: list[Any] = [state]
    for name, value in changes.items():
        assignments.append(f"{_COLUMNS[name]} = ?")
        parameters.append(text(value) if name in _DOCUMENTS and value is not None else value)
    if state != "running":
        assignments.append("finished_s = coalesce(finished_s, ?)")
        parameters.append(now_s)
    db.execute(f"UPDATE trials SET {', '.join(assignments)} WHERE id = ?", [*parameters, trial_id])


def history(
    db: Database, campaign: str, device: str | None = None, states: Sequence[str] = STATES,
    after: int = 0, limit: int = 10_000,
) -> list[TrialRow]:
    """Trials with an id above ``after``, oldest first."""
    return select(
        db, TrialRow, "trials",
        f"""WHERE campaign = ? AND (? IS NULL OR device = ?)
            AND state IN ({', '.join('?' * len(states))}) AND id > ? ORDER BY id LIMIT ?""",
        [campaign, device, device, *states, after, limit],
    )


def as_json(
    db: Database, campaign: str, device: str | None = None, states: Sequence[str] = STATES,
    after: int = 0, limit: int = 10_000,
) -> list[str]:
    """The trials of ``history`` as JSON texts.

    Each also has the ``steps`` of its recipe, and ``measured``: whether its own file was measured.
    Stored JSON is copied without decoding, because a long campaign has megabytes of it.
    """
    # The inner query selects a page by index alone; sorting whole rows would read all rows for
    # every page.
    names = [field.name for field in fields(TrialRow)]
    columns = ", ".join(f't."{name}"' for name in names)
    found = db.execute(
        f"""SELECT {columns}, r.steps, coalesce(m.sha256 = t.sha256, 0)
            FROM trials t LEFT JOIN recipes r ON r.hash = t.recipe
              LEFT JOIN measurements m ON m.id = t.measurement
            WHERE t.id IN (
              SELECT id FROM trials WHERE campaign = ? AND (? IS NULL OR device = ?)
                AND state IN ({', '.join('?' * len(states))}) AND id > ? ORDER BY id LIMIT ?)
            ORDER BY t.id""",
        [campaign, device, device, *states, after, limit])
    keys = [f'"{name}":' for name in (*names, "steps")]
    stored = [*(name in DOCUMENTS for name in names), True]
    return [
        "{" + ",".join(
            key + ("null" if value is None else value if is_json else json.dumps(value))
            for key, is_json, value in zip(keys, stored, row[:-1], strict=True)
        ) + (',"measured":true}' if row[-1] else ',"measured":false}')
        for row in found
    ]


def counts(db: Database, campaign: str) -> dict[str, int]:
    """Number of trials by state; every state has an entry."""
    found = {row[0]: row[1] for row in db.execute(
        "SELECT state, count(*) FROM trials WHERE campaign = ? GROUP BY state", [campaign])}
    return {state: found.get(state, 0) for state in STATES}


def failures(db: Database, campaign: str) -> dict[str, int]:
    """Number of failed trials by reason, the most frequent first. A reason with details, such as
    ``crashed: signal 9``, counts under the part before its colon."""
    return {str(reason): int(count) for reason, count in db.execute(
        """SELECT CASE WHEN reason IS NULL THEN 'unknown' WHEN instr(reason, ': ') = 0 THEN reason
             ELSE substr(reason, 1, instr(reason, ': ') - 1) END AS word, count(*) AS failed
           FROM trials WHERE campaign = ? AND state = 'failed'
           GROUP BY word ORDER BY failed DESC, word""", [campaign])}
