import zipfile
from pathlib import Path

import numpy as np
import pytest

from agents.timing.dataset import ONLY, Dataset
from searcher.artifacts import arrays

PICTURES = np.arange(7 * 4, dtype=np.uint8).reshape(7, 2, 2)
TOKENS = np.arange(21).reshape(7, 3)


def written(path: Path, *columns: np.ndarray, size: int = 3) -> Path:
    names = ("pictures", "tokens")[:len(columns)]
    arrays.write_batches(path, names, 7, (
        [column[start:start + size] for column in columns] for start in range(0, 7, size)))
    return path


def test_one_array_is_the_file_that_numpy_writes(tmp_path: Path) -> None:
    path = written(tmp_path / "one", TOKENS)
    np.save(tmp_path / "numpy.npy", TOKENS)
    assert path.read_bytes() == (tmp_path / "numpy.npy").read_bytes()
    assert path.read_bytes() == arrays.packed({"tokens": TOKENS})
    assert np.array_equal(arrays.read(path)[arrays.ONLY], TOKENS)


def test_several_arrays_are_read_back_by_name(tmp_path: Path) -> None:
    found = arrays.read(written(tmp_path / "two", PICTURES, TOKENS))
    assert list(found) == ["pictures", "tokens"]
    for name, wanted in (("pictures", PICTURES), ("tokens", TOKENS)):
        assert np.array_equal(found[name], wanted) and found[name].dtype == wanted.dtype


def test_equal_arrays_give_equal_bytes_whatever_the_batches(tmp_path: Path) -> None:
    contents = {written(tmp_path / str(size), PICTURES, TOKENS, size=size).read_bytes()
                for size in (1, 2, 7)}
    assert len(contents) == 1
    assert {entry.name for entry in tmp_path.iterdir()} == {"1", "2", "7"}, "nothing is left"
    again = arrays.packed({"pictures": PICTURES, "tokens": TOKENS})
    with zipfile.ZipFile(tmp_path / "1") as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    (tmp_path / "packed").write_bytes(again)
    assert again == contents.pop()


@pytest.mark.parametrize("size", [1, 3, 7, 9])
def test_a_device_reads_them_in_batches(tmp_path: Path, size: int) -> None:
    samples = Dataset(str(written(tmp_path / "two", PICTURES, TOKENS)))
    assert samples.samples == 7
    for _ in range(2):
        found: dict[str, list[np.ndarray]] = {"pictures": [], "tokens": []}
        for feeds, count in samples.batches(size):
            for name, values in feeds.items():
                assert values.shape[0] == count
                found[name].append(
                    np.frombuffer(values.content, values.kind).reshape(values.shape))
        assert np.array_equal(np.concatenate(found["pictures"]), PICTURES)
        assert np.array_equal(np.concatenate(found["tokens"]), TOKENS)
    samples.close()
    assert list(Dataset(str(written(tmp_path / "one", TOKENS))).columns) == [ONLY]


@pytest.mark.parametrize(("batches", "words"), [
    ([[TOKENS[:3]], [TOKENS[3:].astype(np.int32)]], "from sample 3 on has"),
    ([[TOKENS[:3]], [TOKENS[3:, :2]]], "from sample 3 on has"),
    ([[TOKENS[:3]]], "3 samples came, 7 were announced"),
])
def test_batches_that_do_not_fit_together_are_named(
        tmp_path: Path, batches: list[list[np.ndarray]], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        arrays.write_batches(tmp_path / "file", ["tokens"], 7, batches)
    assert list(tmp_path.iterdir()) == []
