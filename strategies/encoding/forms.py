"""The forms in which a weight can be written; each returns an expression, or None if it cannot.

Values are told apart by their bits, so -0.0, NaN payloads and denormals survive. A new form is one
function and one line in ``FORMS``.

    raw      the array itself
    fill     one value, expanded
    narrow   float16 or a shorter integer, cast
    packed   a codebook and packed codes (weight sharing; Han, Mao, Dally 2016, arXiv:1510.00149)
    sparse   packed distances between non-zeros, capped with filler zeros as in the same paper
    mask     one packed bit per weight, its running sum indexes the non-zeros
    scaled   one of the others, times a scale per filter (only where the scales are known)
"""

from collections.abc import Callable, Mapping

import numpy as np

from strategies.encoding.expression import (
    Apply,
    Array,
    Codes,
    Constant,
    Expression,
    cast,
    integers,
    reshape,
    size_bytes,
)
from strategies.encoding.packing import byte_rate

Form = Callable[[Array], Expression | None]

MOST_SHARED = 1 << 16
"""Codebooks longer than this never pay off against raw float32."""

_SAMPLE = 4096
_CAPS = (1, 2, 3, 4, 5, 6, 7, 9, 10, 12, 15, 19, 22, 31, 39, 63, 83, 127, 181, 255)
_POSITIONS_LIMIT = 2**31 - 1


def bits(array: Array) -> Array:
    """``array`` as unsigned integers of the same width."""
    return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}").reshape(array.shape)


def codes_bytes(codes: Codes) -> float:
    return codes.digits.size * byte_rate(codes.radix) + 8


def expression_bytes(expression: Expression) -> float:
    return size_bytes(expression, codes_bytes)


def raw(array: Array) -> Expression | None:
    return Constant(array)


def fill(array: Array) -> Expression | None:
    if array.size < 2 or (bits(array) != bits(array).flat[0]).any():
        return None
    return Apply("Expand", (Constant(array.flat[:1].reshape(())), integers(array.shape)))


def narrow(array: Array) -> Expression | None:
    if array.dtype == np.float32:
        shortened = _as_float16(array)
    elif array.dtype in (np.int32, np.int64):
        shortened = _as_short_integer(array)
    else:
        return None
    return None if shortened is None else cast(Constant(shortened), array.dtype)


def _as_float16(array: Array) -> Array | None:
    """None unless every value is exact in float16, and zero or normal there: conversions of NaN
    payloads and denormals are not alike everywhere."""
    if not np.isfinite(array).all() or (np.abs(array) > 65504).any():
        return None
    half = array.astype(np.float16)
    normal = (np.abs(half) >= np.float16(2**-14)) | (half == 0)
    same = bits(half.astype(np.float32)) == bits(array)
    return half if bool((normal & same).all()) else None


def _as_short_integer(array: Array) -> Array | None:
    if array.size == 0:
        return None
    low, high = int(array.min()), int(array.max())
    for dtype in (np.int8, np.uint8, np.int16, np.int32):
        limits = np.iinfo(dtype)
        if limits.bits < array.dtype.itemsize * 8 and limits.min <= low and high <= limits.max:
            return array.astype(dtype)
    return None


def _codebook(array: Array) -> tuple[Array, Array] | None:
    """(distinct values, code of each element), or None when there are too many or only one."""
    patterns = bits(array).ravel()
    if patterns.size > 16 * _SAMPLE and array.dtype.itemsize > 1:
        sample = patterns[:: patterns.size // _SAMPLE]
        if np.unique(sample).size > sample.size // 2:
            return None
    if array.dtype.itemsize == 1:
        present = np.flatnonzero(np.bincount(patterns, minlength=256))
        table = np.zeros(256, dtype=np.int32)
        table[present] = np.arange(present.size)
        distinct, codes = present.astype(patterns.dtype), table[patterns]
    else:
        distinct, inverse = np.unique(patterns, return_inverse=True)
        codes = inverse.astype(np.int32)
    if not 2 <= distinct.size <= min(MOST_SHARED, array.size - 1):
        return None
    return distinct.view(array.dtype), codes.reshape(array.shape)


def packed(array: Array) -> Expression | None:
    if array.ndim == 0 or array.size < 2:
        return None
    shared = _codebook(array)
    if shared is None:
        return None
    distinct, codes = shared
    tables = [form for form in (raw(distinct), narrow(distinct)) if form is not None]
    table = min(tables, key=expression_bytes)
    looked_up = Apply("Gather", (table, Codes(codes, max(2, distinct.size))))
    return reshape(looked_up, array.shape)


def _values(array: Array) -> Expression:
    """The smallest of the forms that suit an inner vector."""
    forms = (raw(array), fill(array), narrow(array), packed(array))
    return min((form for form in forms if form is not None), key=expression_bytes)


def sparse(array: Array) -> Expression | None:
    patterns = bits(array).ravel()
    positions = np.flatnonzero(patterns)
    if array.ndim == 0 or not 0 < positions.size <= array.size * 0.7:
        return None
    if array.size > _POSITIONS_LIMIT:
        return None
    distances = np.diff(positions, prepend=0)
    cap = _best_cap(distances, byte_rate_of_values(array.ravel()[positions]))
    steps, at = _with_fillers(distances, cap)
    values = np.zeros(steps.size, dtype=array.dtype)
    values[at] = array.ravel()[positions]
    return _scattered(array, steps, int(max(1, steps.max())) + 1, values)


def byte_rate_of_values(values: Array) -> float:
    """Bytes per value that the inner vector will cost, roughly."""
    shared = _codebook(values)
    if shared is None:
        return float(values.dtype.itemsize)
    return min(byte_rate(shared[0].size + 1), float(values.dtype.itemsize))


def _best_cap(distances: Array, value_rate: float) -> int:
    """The largest distance to write in one step; longer ones pass over filler zeros."""
    longest = max(1, int(distances.max()))
    caps = [cap for cap in _CAPS if cap < longest] + [longest]

    def cost(cap: int) -> float:
        steps = distances.size + int((np.maximum(distances - 1, 0) // cap).sum())
        return steps * (byte_rate(cap + 1) + value_rate)

    return min(caps, key=cost)


def _with_fillers(distances: Array, cap: int) -> tuple[Array, Array]:
    """(steps of at most ``cap``, index among them of each non-zero)."""
    fillers = np.maximum(distances - 1, 0) // cap
    at = np.cumsum(fillers + 1) - 1
    steps = np.full(int(at[-1]) + 1, cap, dtype=np.int32)
    steps[at] = distances - fillers * cap
    return steps, at


def _scattered(array: Array, steps: Array, radix: int, values: Array) -> Expression:
    distances = reshape(Codes(steps, radix), steps.shape)
    places = Apply("CumSum", (distances, integers(0, np.int32)))
    zero = Constant(np.zeros((), dtype=array.dtype))
    zeros = Apply("Expand", (zero, integers((array.size,))))
    return reshape(Apply("ScatterElements", (zeros, places, _values(values))), array.shape)


def mask(array: Array) -> Expression | None:
    present = bits(array) != 0
    count = int(present.sum())
    if array.ndim == 0 or not 0 < count < array.size or array.size > _POSITIONS_LIMIT:
        return None
    table = np.zeros(count + 1, dtype=array.dtype)
    table[1:] = array[present]
    flags = reshape(Codes(present.ravel().astype(np.int32), 2), (array.size,))
    rank = Apply("CumSum", (flags, integers(0, np.int32)))
    looked_up = Apply("Gather", (_values(table), Apply("Mul", (flags, rank))))
    return reshape(looked_up, array.shape)


def scaled(array: Array, scales: Array) -> Expression | None:
    """``scales`` (filters,) along the first axis. None unless the products are exact."""
    column = scales.astype(np.float32).reshape(-1, *[1] * (array.ndim - 1))
    if array.dtype != np.float32 or array.ndim < 2 or len(column) != len(array):
        return None
    if not (column >= np.finfo(np.float32).tiny).all():
        return None
    units = array / column
    normal = (np.abs(array) >= np.finfo(np.float32).tiny) | (array == 0)
    if not normal.all() or (bits(units * column) != bits(array)).any():
        return None
    inner = [form for form in (_small_integers(units), packed(units), sparse(units), mask(units))
             if form is not None]
    if not inner:
        return None
    return Apply("Mul", (min(inner, key=expression_bytes), _values(column)))


def _small_integers(array: Array) -> Expression | None:
    if (array != np.rint(array)).any() or (np.abs(array) > 127).any():
        return None
    return cast(Constant(array.astype(np.int8)), array.dtype)


FORMS: Mapping[str, Form] = {
    "raw": raw,
    "fill": fill,
    "narrow": narrow,
    "packed": packed,
    "sparse": sparse,
    "mask": mask,
}
