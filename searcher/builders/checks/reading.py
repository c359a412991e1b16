"""Rows about reading: speed, repeatability, worker processes, and the digest of a second load."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from searcher.builders.checks import data
from searcher.builders.checks.look import Look
from searcher.builders.checks.rows import Table
from searcher.tasks.base import Samples, Task
from searcher.tasks.catalog import task as task_of

SLOW_LOAD_S = 120.0


@dataclass(frozen=True)
class Digest:
    """The digest of a task and those of its parts."""

    whole: str
    parts: Mapping[str, str] = field(default_factory=dict)


def check_reading(table: Table, task: Task, samples: Mapping[str, Samples],
                  looks: Mapping[str, Look]) -> None:
    """Rows of samples that are read twice, and of the speed of one process."""
    table.attempt("samples", lambda: data.check_repeatable(table, looks, samples))
    rates = {split: look.seen / max(look.seconds, 1e-9) for split, look in looks.items()}
    said = ", ".join(f"{split} {rate:,.0f} per second" for split, rate in rates.items())
    table.ok("reading", f"{said}, in one process" + (
        f"; training reads with {task.workers} more" if task.workers else ""))


def check_digest(table: Table, name: str, task: Task, load_s: float) -> Digest | None:
    """A row of the digest, which a second load must give again; None where it cannot be
    computed."""
    whole = table.attempt("digest", lambda: task.digest)
    if whole is None:
        return None
    if load_s > SLOW_LOAD_S:
        table.skip(("digest",), f"{whole[:12]}; a second load would take over {SLOW_LOAD_S:g} s")
        return Digest(whole)
    again = table.attempt("digest", lambda: task_of.__wrapped__(name).digest)
    if again is None:
        return None
    if again != whole:
        table.fail("digest", f"{whole[:12]} and, when the task is loaded again, {again[:12]}. "
                   "Builders load the task in their own processes and must agree.",
                   "Make weights and data from fixed seeds or files, or give "
                   "identity={...} that names their version.")
        return None
    table.ok("digest", f"{whole[:12]}, the same when the task is loaded again")
    return Digest(whole)
