"""``--where``: conditions on the figures of a candidate."""

import re
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from searcher.errors import UserError, nearest
from searcher.spec.objectives import ALIASES, COSTS, DROP, QUALITY, TEST_DROP, Quality

_TERM = re.compile(r"\s*([A-Za-z_0-9.]+)\s*(<=|>=|<|>)\s*([0-9.eE+-]+)\s*")


def condition(text: str | None, quality: Quality) -> Callable[[Mapping[str, float]], bool]:
    """A predicate on values from ``"latency_s<0.002 and file_bytes<1e6"``. ``quality`` and
    ``quality_test`` stand for the figures of the campaign's metric. Raises UserError."""
    names = {**ALIASES, QUALITY: quality.name, f"{QUALITY}_test": quality.test_name}
    known = {*names, *COSTS, DROP, TEST_DROP, quality.name, quality.test_name, "latency_ratio"}
    terms: list[tuple[str, str, float]] = []
    for part in re.split(r"\band\b", text) if text else ():
        match = _TERM.fullmatch(part)
        if match is None:
            raise UserError(f"--where {part.strip()!r} must read like latency_s<0.002, joined by "
                            "`and`.")
        if match[1] not in known:
            raise UserError(f"--where: unknown figure {match[1]!r}. {nearest(match[1], known)}")
        try:
            terms.append((names.get(match[1], match[1]), match[2], float(match[3])))
        except ValueError as error:
            raise UserError(f"--where: {match[3]!r} is no number.") from error
    return lambda values: _holds(values, terms)


def _holds(values: Mapping[str, float], terms: Iterable[tuple[str, str, float]]) -> bool:
    compare = {"<": np.less, ">": np.greater, "<=": np.less_equal, ">=": np.greater_equal}
    return all(name in values and bool(compare[sign](values[name], bound))
               for name, sign, bound in terms)
