"""Reads a data set from a .npy file batch by batch, without numpy: float32, samples first."""

import ast
import os
import struct
import sys
from array import array
from typing import BinaryIO, Iterator, List, Sequence, Tuple

MAGIC = b"\x93NUMPY"
HEADER_BYTES = 1 << 16
"""Longest accepted header, which holds a shape and two words."""
VALUE_BYTES = 4


class DatasetError(Exception):
    """The file is not a data set of this form; the text says what it is."""


class Dataset:
    """An open data set; ``shape`` is (samples, ...)."""

    def __init__(self, path: str) -> None:
        """Raises DatasetError and OSError."""
        self._stream = open(path, "rb")
        try:
            self.shape = _shape(self._stream)
            self._start = self._stream.tell()
            self.sample_bytes = VALUE_BYTES * _product(self.shape[1:])
            expected = self._start + self.shape[0] * self.sample_bytes
            if os.fstat(self._stream.fileno()).st_size != expected:
                raise DatasetError("The data set of shape {} must have {} bytes, it has {}.".format(
                    self.shape, expected, os.fstat(self._stream.fileno()).st_size))
        except BaseException:
            self._stream.close()
            raise

    def batches(self, size: int) -> Iterator[Tuple[bytes, int]]:
        """Yields (values, count) of ``size`` samples each; the last batch may have fewer."""
        self._stream.seek(self._start)
        for first in range(0, self.shape[0], size):
            count = min(size, self.shape[0] - first)
            yield self._stream.read(count * self.sample_bytes), count

    def close(self) -> None:
        self._stream.close()


def _shape(stream: BinaryIO) -> List[int]:
    """The shape in the header (format: ``numpy.lib.format``). Leaves ``stream`` at the first
    value."""
    start = stream.read(len(MAGIC) + 2)
    if start[:len(MAGIC)] != MAGIC or len(start) < len(MAGIC) + 2:
        raise DatasetError("The data set is not a .npy file.")
    size = struct.Struct("<H" if start[len(MAGIC)] == 1 else "<I")
    length = stream.read(size.size)
    header_bytes = size.unpack(length)[0] if len(length) == size.size else HEADER_BYTES + 1
    header = stream.read(header_bytes) if header_bytes <= HEADER_BYTES else b""
    try:
        found = ast.literal_eval(header.decode("latin-1").strip())
        kind, turned, shape = found["descr"], found["fortran_order"], list(found["shape"])
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError):
        raise DatasetError("The data set has a header that cannot be read.") from None
    if kind != "<f4" or turned is not False:
        raise DatasetError("The data set must be float32, little-endian, in C order, got "
                           "{!r}{}.".format(kind, " in Fortran order" if turned else ""))
    if len(shape) < 2 or not all(type(one) is int and one > 0 for one in shape):
        raise DatasetError("The data set must have the shape (samples, ...), got {}.".format(shape))
    return shape


def _product(sizes: Sequence[int]) -> int:
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
