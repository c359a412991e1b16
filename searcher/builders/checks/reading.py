"""Rows about reading: speed, repeatability, worker processes, and the digest of a second load."""

import hashlib
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field

from searcher.builders.checks import data
from searcher.builders.checks.look import Look
from searcher.builders.checks.rows import Table
from searcher.tasks.base import SPLITS, Samples, Task
from searcher.tasks.catalog import task as task_of
from searcher.tasks.digest import digest_of
from searcher.tasks.user_code import raised

SLOW_LOAD_S = 120.0


@dataclass(frozen=True)
class Digest:
    """The digest of a task and those of its parts."""

    whole: str
    parts: Mapping[str, str] = field(default_factory=dict)


def check_reading(table: Table, task: Task, samples: Mapping[str, Samples],
                  looks: Mapping[str, Look]) -> None:
    """Rows of samples that are read twice, of processes that read, and of the speed."""
    table.attempt("samples", lambda: data.check_repeatable(table, looks, samples))
    _check_pickled(table, task)
    rates = {split: look.seen / max(look.seconds, 1e-9) for split, look in looks.items()}
    said = ", ".join(f"{split} {rate:,.0f} per second" for split, rate in rates.items())
    table.ok("reading", f"{said}" + (
        f", with {task.workers} processes" if task.workers else ""))


def _check_pickled(table: Table, task: Task) -> None:
    """A warning where processes that are spawned could not read a split; those of a DataLoader on
    Linux are forked, and read it nevertheless."""
    for split in SPLITS:
        given = getattr(task, split)
        workers = task.workers or getattr(given, "num_workers", 0)
        dataset = getattr(given, "dataset", given)
        if not workers or not hasattr(dataset, "__getitem__") or isinstance(dataset, tuple):
            continue
        try:
            pickle.dumps((dataset, getattr(given, "collate_fn", None)))
        except Exception as error:  # noqa: BLE001  a user's objects may raise anything
            table.warn(f"{split} workers", f"The dataset cannot be pickled: {raised(error)} "
                       f"Reading with {workers} processes works only where they are forked.",
                       "Define the dataset and its functions at the top of a module, not as lambda "
                       "or inside a function.")


def check_digest(table: Table, name: str, task: Task, load_s: float) -> Digest | None:
    """A row of the digest, which a second load must give again; None where it cannot be
    computed."""
    whole = table.attempt("digest", lambda: task.digest)
    if whole is None:
        return None
    parts = _parts(task)
    if load_s > SLOW_LOAD_S:
        table.skip(("digest",), f"{whole[:12]}; a second load would take over {SLOW_LOAD_S:g} s")
        return Digest(whole, parts)
    again = table.attempt("digest", lambda: _loaded_again(name))
    if again is None:
        return None
    if again.whole != whole:
        changed = [name for name in parts if again.parts.get(name) != parts[name]]
        table.fail("digest", f"{whole[:12]} and, when the task is loaded again, "
                   f"{again.whole[:12]}; what differs: {', '.join(changed)}. Builders load the "
                   "task in their own processes and must agree.",
                   "Make weights and data from fixed seeds or files, or give "
                   "identity={...} that names their version.")
        return None
    table.ok("digest", f"{whole[:12]}, the same when the task is loaded again")
    return Digest(whole, parts)


def _loaded_again(name: str) -> Digest:
    task = task_of.__wrapped__(name)
    return Digest(task.digest, _parts(task))


def _parts(task: Task) -> dict[str, str]:
    """``configuration``, and either ``identity`` or the parts of the fingerprint."""
    configuration = {"configuration": digest_of(task, {})}
    if task.identity is None:
        return {**configuration, **task.fingerprint}
    return {**configuration, "identity": hashlib.sha256(
        json.dumps(dict(task.identity), sort_keys=True).encode()).hexdigest()}
