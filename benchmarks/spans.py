"""Wall time from the spans of a ledger: busy time and overlaps."""

from collections.abc import Sequence
from pathlib import Path

from searcher.ledger.tables import spans
from searcher.results.view import Reading

Interval = tuple[float, float]


def union_s(intervals: Sequence[Interval], begin_s: float, end_s: float) -> float:
    """Length of the union of ``intervals`` inside ``begin_s``..``end_s``."""
    covered, reached = 0.0, begin_s
    for start, end in sorted(intervals):
        start, end = max(start, reached), min(end, end_s)
        if end > start:
            covered += end - start
            reached = end
    return covered


def overlaps(first: Sequence[Interval], second: Sequence[Interval]) -> int:
    """Number of intervals of ``first`` that overlap one of ``second``; touching ends do not."""
    return sum(any(a < d and c < b for c, d in second) for a, b in first)


def overhead(directory: Path, campaign: str) -> tuple[float, int, int]:
    """(share of a campaign's wall time in which nothing is built, evaluated or measured, number
    of measurement spans that overlap a build or evaluation, number of measurement spans)."""
    reading = Reading(directory)
    row, _ = reading.campaign(campaign)
    begin_s, end_s = row.created_s, row.ended_s
    if end_s is None:
        raise SystemExit(f"The campaign {campaign} in {directory} has not ended.")
    with reading.ledger() as db:
        rows = spans.history(db)
    timed = [(r.kind, (r.start_s, end_s if r.end_s is None else r.end_s)) for r in rows
             if r.start_s < end_s]
    measured = [interval for kind, interval in timed if kind == "measure"]
    others = [interval for kind, interval in timed if kind != "measure"]
    busy = union_s([interval for _, interval in timed], begin_s, end_s)
    return 1 - busy / (end_s - begin_s), overlaps(measured, others), len(measured)
