import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from searcher.tasks.datasets import mnist

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
LABELS = np.array([3, 1, 4, 1, 5], np.uint8)


def test_the_table_of_the_wheel(tmp_path: Path) -> None:
    path = tmp_path / "digits.csv.gz"
    rows = np.column_stack([IMAGES.reshape(5, -1), LABELS])
    with gzip.open(path, "wt") as stream:
        stream.writelines(",".join(map(str, row)) + "\n" for row in rows.tolist())
    images, labels = mnist.read_csv(path)
    assert images.dtype == np.uint8 and labels.dtype == np.int64
    assert np.array_equal(images, IMAGES) and labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_idx_files(tmp_path: Path, pack: type[bytes]) -> None:
    (tmp_path / "images").write_bytes(
        pack(struct.pack(">IIII", 2051, 5, 28, 28) + IMAGES.tobytes()))
    (tmp_path / "labels").write_bytes(pack(struct.pack(">II", 2049, 5) + LABELS.tobytes()))
    images, labels = mnist.read_idx(tmp_path / "images", tmp_path / "labels")
    assert np.array_equal(images, IMAGES) and labels.dtype == np.int64
    assert labels.tolist() == LABELS.tolist()


def test_every_file_is_pinned() -> None:
    files = (mnist.MNIST_5K, *mnist.MNIST, *mnist.FASHION_MNIST)
    assert len({f.sha256 for f in files}) == len(files) == 9
    assert all(len(f.sha256) == 64 and f.sources for f in files)
