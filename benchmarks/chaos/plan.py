"""Kinds, counts and order of the faults, as a function of their number and a seed."""

import random
from collections.abc import Iterable

from benchmarks.chaos.proxy import FAULTS as WIRE

KILL, JUMP = "SIGKILL coordinator", "clock jumped"
SHARES = {
    KILL: 0.18, "SIGKILL builder": 0.04, "SIGKILL agent": 0.04,
    "SIGKILL child": 0.05, "SIGKILL search": 0.01, "SIGSTOP coordinator": 0.01,
    "SIGSTOP builder": 0.01, "SIGSTOP agent": 0.015, "SIGSTOP search": 0.005, JUMP: 0.03,
    "disk full": 0.015, "ledger read-only": 0.015,
}
"""Fraction of each fault outside the wire; faults of the wire share the rest equally."""


def counts(faults: int) -> dict[str, int]:
    """Number of faults of each kind, summing to ``faults``; at least one each if possible."""
    share = (1 - sum(SHARES.values())) / len(WIRE)
    shares = {**SHARES, **dict.fromkeys(WIRE, share)}
    least = 1 if faults >= len(shares) else 0
    found = {kind: max(round(faults * part), least) for kind, part in shares.items()}
    while (over := sum(found.values()) - faults) != 0:
        # Rounding is corrected in the faults of the wire; process faults keep their number.
        kind = max(WIRE, key=lambda k: found[k]) if over > 0 else min(WIRE, key=lambda k: found[k])
        if found[kind] <= least and over > 0:
            kind = max(found, key=lambda k: found[k])
        found[kind] -= 1 if over > 0 else -1
    return found


def order(faults: int, seed: int, of: Iterable[str]) -> list[str]:
    """The faults of these kinds, shuffled."""
    chosen = counts(faults)
    listed = [kind for kind in of for _ in range(chosen[kind])]
    random.Random(seed).shuffle(listed)
    return listed
