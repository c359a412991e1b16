"""Reads a data set batch by batch, without numpy.

It is a .npy file for a model with one input, or a .npz file of ``numpy.savez`` with one array for
each input, under its name. Each array has the samples on its first axis.
"""

import ast
import struct
import zipfile
import zlib
from typing import IO, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

from agents.timing.arrays import KIND_BYTES, Values, product

MAGIC = b"\x93NUMPY"
ZIP_MAGIC = b"PK\x03\x04"
HEADER_BYTES = 1 << 16
"""Longest accepted header, which holds a shape and two words."""
MOST_ARRAYS = 64
NPY = ".npy"
ONLY = ""
"""The name of the array in a .npy file: it is for the model's only input."""

_BROKEN = (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


class DatasetError(Exception):
    """The file is not a data set of this form; the text says what it is."""


class Column(NamedTuple):
    """One array; ``open`` gives a stream at its first byte, ``start`` is the first value's."""

    kind: str
    shape: List[int]
    start: int
    open: Callable[[], IO[bytes]]

    @property
    def sample_bytes(self) -> int:
        return KIND_BYTES[self.kind] * product(self.shape[1:])


class Dataset:
    """An open data set of ``samples`` samples; ``columns`` are its arrays by input."""

    def __init__(self, path: str) -> None:
        """Raises DatasetError and OSError."""
        self._zip: Optional[zipfile.ZipFile] = None
        with open(path, "rb") as stream:
            start = stream.read(len(ZIP_MAGIC))
            stream.seek(0, 2)
            size = stream.tell()
        if start == ZIP_MAGIC:
            self.columns = self._of_zip(path)
        else:
            self.columns = {ONLY: _column("The data set", lambda: open(path, "rb"), size)}
        lengths = {name: column.shape[0] for name, column in self.columns.items()}
        self.samples = next(iter(lengths.values()))
        if len(set(lengths.values())) != 1:
            self.close()
            raise DatasetError("The arrays of the data set differ in samples: {}.".format(
                ", ".join("{!r} has {}".format(*one) for one in sorted(lengths.items()))))

    def _of_zip(self, path: str) -> Dict[str, Column]:
        try:
            archive = self._zip = zipfile.ZipFile(path)
            members = archive.infolist()
            if not 1 <= len(members) <= MOST_ARRAYS:
                raise DatasetError("The data set has {} arrays, 1 to {} are read.".format(
                    len(members), MOST_ARRAYS))
            columns = {}
            for member in members:
                if not member.filename.endswith(NPY):
                    raise DatasetError("The data set has a file {!r} that is no array.".format(
                        member.filename))
                name = member.filename[:-len(NPY)]

                def opened(member: zipfile.ZipInfo = member) -> IO[bytes]:
                    return archive.open(member)

                columns[name] = _column("The array {!r} of the data set".format(name), opened,
                                        member.file_size)
            return columns
        except _BROKEN as error:
            self.close()
            raise DatasetError("The data set cannot be read: {}".format(error)) from error
        except DatasetError:
            self.close()
            raise

    def batches(self, size: int) -> Iterator[Tuple[Dict[str, Values], int]]:
        """Yields (values by input, count) of ``size`` samples each; the last batch may have fewer.
        Raises DatasetError."""
        streams = {}
        try:
            for name, column in self.columns.items():
                streams[name] = column.open()
                streams[name].read(column.start)
            for first in range(0, self.samples, size):
                count = min(size, self.samples - first)
                yield {name: _read(streams[name], column, count)
                       for name, column in self.columns.items()}, count
        except _BROKEN as error:
            raise DatasetError("The data set cannot be read: {}".format(error)) from error
        finally:
            for stream in streams.values():
                stream.close()

    def close(self) -> None:
        if self._zip is not None:
            self._zip.close()


def _read(stream: IO[bytes], column: Column, count: int) -> Values:
    content = stream.read(count * column.sample_bytes)
    if len(content) != count * column.sample_bytes:
        raise DatasetError("The data set ends early.")
    return Values(column.kind, [count] + column.shape[1:], content)


def _column(what: str, opened: Callable[[], IO[bytes]], size: int) -> Column:
    """The array of ``size`` bytes. Raises DatasetError."""
    with opened() as stream:
        kind, shape, start = _header(what, stream)
    column = Column(kind, shape, start, opened)
    expected = start + shape[0] * column.sample_bytes
    if size != expected:
        raise DatasetError("{} of shape {} must have {} bytes, it has {}.".format(
            what, shape, expected, size))
    return column


def _header(what: str, stream: IO[bytes]) -> Tuple[str, List[int], int]:
    """Kind, shape and length of the header (format: ``numpy.lib.format``)."""
    start = stream.read(len(MAGIC) + 2)
    if start[:len(MAGIC)] != MAGIC or len(start) < len(MAGIC) + 2:
        raise DatasetError("{} is not a .npy file.".format(what))
    size = struct.Struct("<H" if start[len(MAGIC)] == 1 else "<I")
    length = stream.read(size.size)
    header_bytes = size.unpack(length)[0] if len(length) == size.size else HEADER_BYTES + 1
    header = stream.read(header_bytes) if header_bytes <= HEADER_BYTES else b""
    try:
        found = ast.literal_eval(header.decode("latin-1").strip())
        kind, turned, shape = found["descr"], found["fortran_order"], list(found["shape"])
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError):
        raise DatasetError("{} has a header that cannot be read.".format(what)) from None
    if not isinstance(kind, str) or kind not in KIND_BYTES or turned is not False:
        turned_text = " in Fortran order" if turned else ""
        raise DatasetError("{} must hold numbers, little-endian, in C order ({}), got {!r}{}."
                           .format(what, ", ".join(KIND_BYTES), kind, turned_text))
    if not shape or not all(type(one) is int and one > 0 for one in shape):
        raise DatasetError("{} must have the shape (samples, ...), got {}.".format(what, shape))
    return kind, shape, len(start) + size.size + header_bytes
