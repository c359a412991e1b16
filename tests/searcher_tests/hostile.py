"""hypothesis strategies for invalid input: values, documents with one error, bodies."""

import copy
import json
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

BRIEF = settings(max_examples=150)
"""Number of examples in normal test runs."""

FEW = settings(BRIEF, max_examples=40)
"""Number of examples that consist of several requests."""

ODD = [
    None, True, False, 0, -1, 2**31, 2**53 + 1, 2**63, 2**64, -(2**70), 10**400, 0.0, -0.0, 1e308,
    5e-324, float("nan"), float("inf"), float("-inf"), "", " ", "\0", "../../etc/passwd", "\ud800",
    "a" * 5000, "NaN", "1", "ä²", [], {}, [[]], {"": {}}, [None] * 100,
]
ATOMS = st.sampled_from(ODD) | st.text(max_size=20) | st.integers() | st.floats()
VALUES = st.recursive(
    ATOMS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.text(max_size=10), inner, max_size=3), max_leaves=6)


def places(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Path of every value in ``document``, beginning with the whole."""
    found = [path]
    if isinstance(document, dict | list):
        pairs = document.items() if isinstance(document, dict) else enumerate(document)
        for key, value in pairs:
            found += places(value, (*path, key))
    return found


@st.composite
def spoilt(draw: Any, document: Any, changes: int = 2) -> Any:
    """``document`` with a few values replaced, removed, renamed or added."""
    changed = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, changes))):
        *way, last = draw(st.sampled_from(places(changed)[1:] or [("x",)]))
        holder = changed
        for key in way:
            holder = holder[key]
        if not isinstance(holder, dict | list):
            continue
        what = draw(st.sampled_from(("replace", "replace", "remove", "add")))
        if what == "replace":
            holder[last] = copy.deepcopy(draw(VALUES))
        elif what == "remove":
            del holder[last]
        elif isinstance(holder, dict):
            holder[draw(st.text(max_size=10))] = copy.deepcopy(draw(VALUES))
        else:
            holder.append(copy.deepcopy(draw(VALUES)))
        if not isinstance(changed, dict) or not changed:
            break
    return changed


def nested(depth: int, inner: str = "1") -> str:
    return '{"x":' * depth + inner + "}" * depth


def as_body(document: Any) -> bytes:
    """JSON that may contain NaN and lone surrogates."""
    return json.dumps(document).encode()


@st.composite
def damaged(draw: Any, content: bytes) -> bytes:
    """``content`` truncated, with changed bytes, or with inserted bytes."""
    start = draw(st.integers(0, len(content)))
    stop = draw(st.integers(start, min(len(content), start + 40)))
    return content[:start] + draw(st.binary(max_size=20)) + content[stop:]
