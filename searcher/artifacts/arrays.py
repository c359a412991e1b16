"""Files of arrays whose first axis is the samples: .npy for a single array, .npz for several.

They are written in pieces, so that no array has to fit in memory. Equal arrays give equal bytes.
"""

import io
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

ONLY = ""
"""The name of the array in a .npy file."""
NPY = ".npy"


def write_batches(path: Path, names: Sequence[str], samples: int,
                  batches: Iterable[Sequence["Array"]]) -> None:
    """Write one array of ``samples`` rows for each of ``names`` from ``batches``, which have one
    array (b, ...) for each name. Raises ValueError when the batches differ in shape or type, or
    have another number of rows."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        parts = [Path(folder) / str(number) for number, _ in enumerate(names)]
        streams: list[IO[bytes]] = []
        try:
            streams = [part.open("wb") for part in parts]
            _write_rows(streams, names, samples, batches)
        finally:
            for stream in streams:
                stream.close()
        if len(parts) == 1:
            parts[0].replace(path)
            return
        with path.open("wb") as target:
            _write_zip(target, zip(names, (part.open("rb") for part in parts), strict=True))


def packed(arrays: Mapping[str, "Array"]) -> bytes:
    """The content of a file of ``arrays``."""
    import numpy as np

    def file_of(array: "Array") -> IO[bytes]:
        content = io.BytesIO()
        np.lib.format.write_array(content, np.ascontiguousarray(array), allow_pickle=False)
        content.seek(0)
        return content

    files = [(name, file_of(array)) for name, array in arrays.items()]
    if len(files) == 1:
        return files[0][1].read()
    target = io.BytesIO()
    _write_zip(target, files)
    return target.getvalue()


def read(path: Path) -> dict[str, "Array"]:
    """The arrays of a file by name; ``ONLY`` is that of a .npy file. Raises ValueError and
    OSError."""
    import numpy as np

    found = np.load(path, allow_pickle=False)
    if isinstance(found, np.ndarray):
        return {ONLY: found}
    with found:
        return {name: found[name] for name in found.files}


def _write_rows(streams: Sequence[IO[bytes]], names: Sequence[str], samples: int,
                batches: Iterable[Sequence["Array"]]) -> None:
    import numpy as np

    written, like = 0, []  # type: int, list[tuple[str, tuple[int, ...]]]
    for batch in batches:
        arrays = [np.ascontiguousarray(one, one.dtype.newbyteorder("<")) for one in batch]
        found = [(one.dtype.str, one.shape[1:]) for one in arrays]
        if not like:
            like = found
            for stream, (kind, shape) in zip(streams, found, strict=True):
                np.lib.format.write_array_header_1_0(stream, {
                    "descr": kind, "fortran_order": False, "shape": (samples, *shape)})
        if found != like:
            raise ValueError(f"the batch from sample {written} on has {found} for "
                             f"{', '.join(names)}, the first batch {like}")
        for stream, one in zip(streams, arrays, strict=True):
            stream.write(one.data)
        written += len(arrays[0])
    if written != samples:
        raise ValueError(f"{written} samples came, {samples} were announced")


def _write_zip(target: IO[bytes], files: Iterable[tuple[str, IO[bytes]]]) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, source in files:
            # A ZipInfo by name alone has a fixed date.
            with source, archive.open(zipfile.ZipInfo(name + NPY), "w", force_zip64=True) as entry:
                shutil.copyfileobj(source, entry, 1 << 20)
