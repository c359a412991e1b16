"""Arrays of numbers without numpy: as bytes with numpy's name of their type."""

import sys
from array import array
from typing import Dict, List, NamedTuple, Sequence

FLOAT32 = "<f4"
KIND_BYTES: Dict[str, int] = {
    "|b1": 1, "|i1": 1, "|u1": 1, "<i2": 2, "<u2": 2, "<i4": 4, "<u4": 4, "<i8": 8, "<u8": 8,
    "<f2": 2, FLOAT32: 4, "<f8": 8}
"""Bytes of one number of each kind that inputs and outputs may have."""


class Values(NamedTuple):
    """An array in C order, little-endian. ``kind`` is a key of ``KIND_BYTES``."""

    kind: str
    shape: List[int]
    content: bytes


def product(sizes: Sequence[int]) -> int:
    count = 1
    for size in sizes:
        count *= size
    return count


def decode_float32(content: bytes) -> "array[float]":
    """The numbers of little-endian float32 bytes."""
    values = array("f", content)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def encode(code: str, numbers: Sequence[float]) -> bytes:
    """Little-endian bytes of ``numbers``; ``code`` is the type code of ``array``."""
    packed = array(code, numbers)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()
