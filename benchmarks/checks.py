"""Pass or fail of one figure against what it must reach, and the table of all of them."""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from searcher.cli.options import print_table

RELATIONS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, "<=": operator.le, "<": operator.lt, ">": operator.gt, "==": operator.eq,
}


@dataclass(frozen=True)
class Check:
    """``found`` and ``wanted`` are for the reader, with units."""

    what: str
    found: str
    wanted: str
    passed: bool


def against(what: str, found: float | None, relation: str, bound: float, unit: str = "",
            digits: int = 3) -> Check:
    """A figure against a bound; a figure that is not there fails."""
    wanted = f"{relation} {bound:g}{unit}"
    if found is None:
        return Check(what, "none", wanted, False)
    return Check(what, f"{found:.{digits}f}{unit}", wanted, RELATIONS[relation](found, bound))


def holds(what: str, passed: bool, found: str, wanted: str) -> Check:
    """A check that is no comparison of two numbers."""
    return Check(what, found, wanted, passed)


def conclude(checks: Sequence[Check], title: str = "all checks") -> int:
    """Print every check; the exit code: 0 when all passed, 1 otherwise."""
    print_table(title, ("check", "found", "wanted", ""), [
        (c.what, c.found, c.wanted, "pass" if c.passed else "FAIL") for c in checks])
    failed = sum(not c.passed for c in checks)
    print(f"{len(checks) - failed} of {len(checks)} passed")
    return 1 if failed or not checks else 0
