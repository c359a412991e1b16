"""Rows of scores as bytes: what messages and the ledger hold of an evaluation.

The encoding is a text such as ``bits`` (booleans, one bit each, as ``numpy.packbits``), ``float64``
or ``uint8x2`` (two columns). All but bits are little-endian arrays in C order, compressed by zlib.
"""

import re
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy import dtype
    from numpy.typing import NDArray

    Array = NDArray[Any]

LARGEST_SCORES_BYTES = 8 * 2**20
"""Largest size of the scores of one evaluation, before compression. Rows of a split that take more
are not kept: the value is computed batch by batch, without an interval or a paired difference."""
BITS = "bits"
DTYPES = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16",
          "float32", "float64")
MOST_COLUMNS = 2**20
_ENCODING = re.compile(rf"({BITS}|{'|'.join(DTYPES)})(?:x([1-9][0-9]{{0,6}}))?")


def fits(scores: "Array") -> bool:
    """Whether scores are small enough to be stored."""
    return _stored_bytes(scores.dtype, scores.size) <= LARGEST_SCORES_BYTES


def pack(scores: "Array") -> tuple[bytes, str]:
    """Scores (n,) or (n, width) and their encoding. Raises ValueError for other shapes, for types
    that are not numbers, for values that are not finite, and for too many bytes."""
    import numpy as np

    if scores.ndim not in (1, 2) or 0 in scores.shape:
        raise ValueError(f"scores of shape {scores.shape} must be (n,) or (n, width)")
    width = "" if scores.ndim == 1 else f"x{scores.shape[1]}"
    if not fits(scores):
        raise ValueError(f"scores of {scores.nbytes} bytes exceed {LARGEST_SCORES_BYTES}")
    if scores.dtype == bool:
        return np.packbits(scores).tobytes(), BITS + width
    if scores.dtype.kind == "f" and scores.dtype.itemsize > 8:
        scores = scores.astype(float)
    name = scores.dtype.name
    if name not in DTYPES:
        raise ValueError(f"scores of type {name} must be bool or one of {', '.join(DTYPES)}")
    _check_finite(scores)
    content = np.ascontiguousarray(scores, scores.dtype.newbyteorder("<")).tobytes()
    return zlib.compress(content), name + width


def unpack(content: bytes, encoding: str, n: int) -> "Array":
    """The ``n`` rows of scores that ``pack`` made into ``content``. Raises ValueError for an
    unknown encoding, for another number of bytes, and for values that are not finite. It never
    allocates more than ``LARGEST_SCORES_BYTES``, whatever ``content`` is."""
    import numpy as np

    found = _ENCODING.fullmatch(encoding)
    if found is None:
        raise ValueError(f"unknown encoding of scores {encoding[:40]!r}")
    name, columns = found.groups()
    width = 1 if columns is None else int(columns)
    dtype = np.dtype(bool if name == BITS else name).newbyteorder("<")
    if n < 1 or width > MOST_COLUMNS or _stored_bytes(dtype, n * width) > LARGEST_SCORES_BYTES:
        raise ValueError(f"{n} rows of {encoding} exceed {LARGEST_SCORES_BYTES} bytes")
    shape = (n,) if columns is None else (n, width)
    if name == BITS:
        _check_length(content, _stored_bytes(dtype, n * width))
        bits = np.unpackbits(np.frombuffer(content, np.uint8), count=n * width)
        return bits.astype(bool).reshape(shape)
    expected = n * width * dtype.itemsize
    unpacker = zlib.decompressobj()
    try:
        unpacked = unpacker.decompress(content, expected + 1)
    except zlib.error as error:
        raise ValueError(f"scores cannot be unpacked: {error}") from error
    _check_length(unpacked, expected)
    if not unpacker.eof or unpacker.unused_data:
        raise ValueError("scores end early, or have further bytes")
    scores = np.frombuffer(unpacked, dtype).astype(dtype.newbyteorder("=")).reshape(shape)
    _check_finite(scores)
    return scores


def _stored_bytes(dtype: "dtype[Any]", count: int) -> int:
    return -(-count // 8) if dtype.kind == "b" else count * dtype.itemsize


def _check_length(content: bytes, expected: int) -> None:
    if len(content) != expected:
        raise ValueError(f"scores have {len(content)} bytes, expected {expected}")


def _check_finite(scores: "Array") -> None:
    import numpy as np

    if scores.dtype.kind == "f" and not np.isfinite(scores).all():
        raise ValueError("scores are not finite")
