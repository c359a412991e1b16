"""What users give as a split, read sample by sample, and what is refused."""

from collections import namedtuple
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from searcher.errors import TaskError
from searcher.tasks.data.layout import Forward, Layout, layout_of
from searcher.tasks.data.source import Source, source_of
from searcher.tasks.data.splits import Split

ONE = Forward(("x",), 1, False)
LAYOUT = Layout(("x",))


class Items(Dataset[Any]):
    """A dataset of a list; an exception in it is raised."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        if isinstance(self.items[index], Exception):
            raise self.items[index]
        return self.items[index]


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield 1, 2


def read(source: Source, positions: list[int], layout: Layout | None = None) -> Any:
    layout = layout or layout_of(source.form(), ONE, (), None, "training")
    return source.read(positions, layout, 0, 0)


ROWS = [(np.float32([i, i]), i) for i in range(6)]
INPUTS = np.stack([row for row, _ in ROWS])
LABELS = np.arange(6)
Pair = namedtuple("Pair", "input target")


@pytest.mark.parametrize("given", [
    Items(ROWS), ROWS, Items([Pair(*row) for row in ROWS]),
    Items([(torch.from_numpy(x), torch.tensor(y)) for x, y in ROWS]),
    Items([(x, np.int32(y)) for x, y in ROWS]),
    TensorDataset(torch.from_numpy(INPUTS), torch.from_numpy(LABELS)),
    DataLoader(Items(ROWS), batch_size=4, shuffle=True),
    (INPUTS, LABELS), (torch.from_numpy(INPUTS), LABELS), Split(INPUTS, LABELS),
    Split(torch.from_numpy(INPUTS), torch.from_numpy(LABELS)),
    Split(INPUTS[::-1][::-1], LABELS.astype(np.uint8)),
    Split(INPUTS.astype(">f4"), LABELS),
])
def test_every_form_gives_the_same_rows(given: Any) -> None:
    source = source_of("training", given)
    (inputs,), targets = read(source, [4, 1])
    assert len(source) == 6
    assert inputs.dtype == torch.float32 and inputs.tolist() == [[4, 4], [1, 1]]
    assert targets.tolist() == [4, 1]


def test_arrays_that_cannot_be_written_are_read_without_a_warning() -> None:
    inputs = INPUTS.copy()
    inputs.setflags(write=False)
    for given in ((inputs, LABELS), Items([(row, 1) for row in inputs])):
        (rows,), _ = read(source_of("training", given), [2])
        rows += 1
        assert inputs[2].tolist() == [2, 2], "a copy"


def test_a_loader_with_a_subset_sampler_is_that_subset() -> None:
    loader = DataLoader(Items(ROWS), sampler=SubsetRandomSampler([5, 1]))
    (inputs,), _ = read(source_of("training", loader), [0, 1])
    assert inputs[:, 0].tolist() == [1, 5]
    (inputs,), _ = read(source_of("training", Subset(Items(ROWS), [3, 2])), [0, 1])
    assert inputs[:, 0].tolist() == [3, 2]


def padded(samples: list[Any]) -> Any:
    longest = max(len(x) for x, _ in samples)
    return (np.stack([np.pad(x, (0, longest - len(x))) for x, _ in samples]),
            torch.tensor([y for _, y in samples]))


def test_the_users_collate_fn_is_used() -> None:
    ragged = Items([(np.ones(n, np.float32), n) for n in (2, 5, 3)])
    (inputs,), targets = read(source_of("training", DataLoader(ragged, collate_fn=padded)), [0, 2])
    assert inputs.tolist() == [[1, 1, 0], [1, 1, 1]] and targets.tolist() == [2, 3]


def test_structures_of_inputs_and_targets() -> None:
    items = Items([(({"a": np.zeros(2), "b": 1.5}), {"boxes": [1, 2], "label": True})
                   for _ in range(3)])
    layout = Layout(("a", "b"), ("a", "b"))
    (a, b), targets = read(source_of("training", items), [0, 1], layout)
    assert a.shape == (2, 2) and b.tolist() == [1.5, 1.5]
    assert [part.tolist() for part in targets["boxes"]] == [[1, 1], [2, 2]]
    assert targets["label"].dtype == torch.bool


PICTURE = Image.new("RGB", (4, 4))


@pytest.mark.parametrize(("given", "said"), [
    (Stream(), "Stream is an IterableDataset, whose samples have no numbers. Expected a map-style"),
    ((row for row in ROWS), "found generator. Expected a map-style Dataset"),
    ({"a": 1}, "Expected a map-style Dataset"),
    (7, "found int 7"),
    ((INPUTS, LABELS, LABELS), "a tuple of 3"),
    (DataLoader(Stream()), "IterableDataset"),
    (DataLoader(Items(ROWS), batch_size=None), "batch_size=None"),
    (DataLoader(Items(ROWS), sampler=WeightedRandomSampler([1.0] * 6, 6)),
     "draws its samples by WeightedRandomSampler"),
    ((INPUTS, LABELS[:5]), "the numbers of samples differ: inputs 6, targets 5"),
    ((INPUTS, list(LABELS)), "targets is a list of 6"),
    ((INPUTS, np.array(3)), "targets is int64 array of shape ()"),
    ((np.array(["a", "b"]), LABELS[:2]), "inputs is <U1 array of shape (2,). Expected numbers"),
    ((np.array([[1], [1, 2]], dtype=object), LABELS[:2]), "samples of different shapes"),
    (({"a": INPUTS, "b": INPUTS[:4]}, LABELS),
     "inputs['a'] 6, inputs['b'] 4, targets 6"),
])
def test_splits_that_are_refused(given: Any, said: str) -> None:
    with pytest.raises(TaskError) as caught:
        source_of("validation", given)
    assert str(caught.value).startswith("validation: ") and said in str(caught.value)


GOOD = (np.zeros(2), 1)


@pytest.mark.parametrize(("bad", "said"), [
    (ValueError("broken file"), "training[1]: ValueError: broken file. The dataset raised it"),
    (KeyError("cat"), "training[1]: KeyError: 'cat'."),
    ((np.zeros(3), 1), "training[1]: input 'x' has shape (3,), expected (2,) as in training[0]"),
    ((PICTURE, 1), "training[1]: input 'x' is PIL.Image.Image, but float64 array"),
    ((None, 1), "training[1]: input 'x' is None"),
    ((np.zeros(2), None), "training[1]: the target is None"),
    ((np.zeros(2), "cat"), "training[1]: the target is the text 'cat'"),
    ((np.zeros(2), [1, 2]), "training[1]: the target is a list of 2"),
    (([np.zeros(2)], 1), "training[1]: input 'x' is a list of 1"),
    ((np.array(["a", "b"]), 1), "training[1]: input 'x' is <U1 array"),
    (7, "training[1]: found int 7. Expected (input, target)"),
])
def test_a_sample_that_is_wrong_is_named(bad: Any, said: str) -> None:
    source = source_of("training", Items([GOOD, bad, GOOD]))
    with pytest.raises(TaskError) as caught:
        source.read([0, 1], LAYOUT, 0, 0)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(("first", "said"), [
    ((PICTURE, 1), "training[0]: input 'x' is PIL.Image.Image. Expected a tensor, a numpy array or "
                   "a number: convert pictures to tensors in the dataset"),
    ((None, 1), "leave it out of the sample"),
    (("a review", 1), "encode them as numbers"),
    ((np.zeros(2), {"name": "a"}), "the target['name'] is the text 'a'"),
])
def test_what_no_tensor_can_be_made_of(first: Any, said: str) -> None:
    with pytest.raises(TaskError) as caught:
        source_of("training", Items([first])).read([0], LAYOUT, 0, 0)
    assert said in str(caught.value)


def test_the_number_of_a_wrong_sample_is_that_in_the_dataset() -> None:
    loader = DataLoader(Items([*ROWS[:5], ValueError("bad")]), sampler=SubsetRandomSampler([5, 1]))
    with pytest.raises(TaskError, match=r"^training\[5\]: ValueError: bad") as caught:
        source_of("training", loader).read([1], LAYOUT, 0, 0)
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize(("collate", "said"), [
    (lambda samples: 1 / 0, "collate_fn <lambda>: ZeroDivisionError"),
    (lambda samples: torch.zeros(2, 2), "the batch that collate_fn makes: found float32 tensor"),
    (lambda samples: (torch.zeros(9, 2), torch.zeros(2)), "expected 2 rows, one for each sample"),
    (lambda samples: ([[1.0]], torch.zeros(2)), "collate_fn makes: input 'x' is a list of 1"),
    (lambda samples: (torch.zeros(2, 2), ["a", "b"]), "the target[0] is the text 'a'"),
])
def test_a_collate_fn_that_is_wrong(collate: Any, said: str) -> None:
    source = source_of("training", DataLoader(Items(ROWS), collate_fn=collate))
    with pytest.raises(TaskError) as caught:
        source.read([0, 1], LAYOUT, 0, 0)
    assert str(caught.value).startswith("training: ")
    assert said in str(caught.value)


def test_a_dataset_whose_length_fails() -> None:
    class Endless(Items):
        def __len__(self) -> int:
            raise NotImplementedError("unknown length")

    with pytest.raises(TaskError, match=r"^training: len\(\) of Endless: NotImplementedError"):
        source_of("training", Endless([]))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), MemoryError()])
def test_what_is_not_the_users_error_passes(error: BaseException) -> None:
    class Ends(Items):
        def __getitem__(self, index: int) -> Any:
            raise error

    with pytest.raises(type(error)):
        source_of("training", Ends(ROWS)).read([0], LAYOUT, 0, 0)
