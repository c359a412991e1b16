"""Tasks as users write them, from their data to the built file: what gives the same file as arrays
of float32 and int64, what gives a right one, and what is refused with split, sample or field."""

import copy
import dataclasses
from collections import namedtuple
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from searcher.builders.builder import Build, Builder
from searcher.errors import BuildError, TaskError
from searcher.spec.recipe import Recipe, Step
from searcher.tasks.base import SPLITS, BaselineTraining, Split, Task
from strategies.target import Target
from tests.tasks_for_tests import network, tiny

TARGET = Target()
PRUNE = Step.of("channel_pruning", "convolutions", {"keep_ratio": 0.5, "round_to": 1})
DISTIL = Step.of("knowledge_distillation", "model", {
    "learning_rate": 0.01, "temperature": 3.0, "teacher_weight": 0.5})
SMALL = Recipe((PRUNE, DISTIL))
TRAINING = BaselineTraining(learning_rate=1e-2, cycle_epochs=5, max_epochs=5)
SPLIT_OF = tiny().load()
Change = Callable[[np.ndarray, np.ndarray], Any]


def data(change: Change = Split, splits: tuple[str, ...] = SPLITS) -> dict[str, Any]:
    return {name: change(SPLIT_OF[name].inputs, SPLIT_OF[name].targets) for name in splits}


def task(model: Any = network, given: Mapping[str, Any] | None = None, **more: Any) -> Task:
    options: dict[str, Any] = {
        "epochs": {"short": 1, "full": 2}, "batch_size": 20, "augmented_epochs": 2,
        "baseline": TRAINING, **more}
    return Task("own", model, **(data() if given is None else given), **options)


def built(own: Task, folder: Path, recipe: Recipe = SMALL) -> Build:
    return Builder(own, 0, folder).train(recipe, "short", TARGET)


def right_share(own: Task, folder: Path, build: Build) -> float:
    """The accuracy of the module behind ``build`` on validation, computed here."""
    model = Builder(own, 0, folder).model(SMALL, "short").eval()
    right = []
    for batch in own.samples("validation").batches(7):
        with torch.no_grad():
            outputs = model(*batch.inputs)
        if not isinstance(outputs, Tensor):
            outputs = next(iter(outputs.values() if isinstance(outputs, dict) else outputs))
        right += (outputs.argmax(1) == batch.targets).tolist()
    return float(np.mean(right))


# -- what gives the same file --------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.set_num_threads(1)
    return built(task(identity={"a": 1}), tmp_path_factory.mktemp("plain")).sha256


class Pictures:
    """A map-style dataset without torch's base class."""

    def __init__(self, inputs: np.ndarray, targets: np.ndarray) -> None:
        self.inputs, self.targets = inputs, targets

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> Any:
        return torch.from_numpy(self.inputs[index].copy()), int(self.targets[index])


def tensors(x: np.ndarray, y: np.ndarray) -> TensorDataset:
    return TensorDataset(torch.from_numpy(x), torch.from_numpy(y))


@pytest.mark.parametrize("change", [
    lambda x, y: (x, y), lambda x, y: Split(torch.from_numpy(x), torch.from_numpy(y)),
    lambda x, y: Split(x, y.astype(np.int32)), lambda x, y: Split(x, y.astype(np.uint8)),
    lambda x, y: Split(x.astype(np.float64), y), Pictures, tensors,
    lambda x, y: [(a, np.int16(b)) for a, b in zip(x, y, strict=True)],
    lambda x, y: DataLoader(Pictures(x, y), batch_size=3, num_workers=1),
    lambda x, y: [(a.astype(np.float64), b) for a, b in zip(x, y, strict=True)],
], ids=["pair", "tensors", "int32", "uint8 labels", "float64", "dataset", "TensorDataset", "list",
        "loader", "float64 list"])
def test_the_same_data_in_another_form_give_the_same_file(change: Change, plain: str,
                                                          tmp_path: Path) -> None:
    assert built(task(given=data(change), identity={"a": 1}), tmp_path).sha256 == plain


@pytest.mark.parametrize("given", [
    lambda: {"load": data},
    lambda: data(lambda x, y: [{"input": a, "y": b, "name": "?"} for a, b in zip(
        x, y, strict=True)]) | {"target": "y"},
    lambda: data(lambda x, y: Split({"input": x}, y)),
    lambda: data(lambda x, y: Split((x,), y)),
], ids=["load", "dictionaries", "arrays by name", "tuple of arrays"])
def test_dictionaries_of_samples(given: Any, plain: str, tmp_path: Path) -> None:
    assert built(task(given=given(), identity={"a": 1}), tmp_path).sha256 == plain


def test_a_module_is_trained_from_its_weights_and_stays_as_it_is(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = network().train()
    before = copy.deepcopy(model.state_dict())
    own = task(model=model)
    build = built(own, tmp_path, Recipe())
    assert build.evaluation is not None and build.evaluation.value > 0.5
    assert model.training and all(p.grad is None for p in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


# -- a model that is trained already -------------------------------------------------------------


class Normalized(nn.Module):
    """A convolution with BatchNorm and dropout whose statistics are not the initial ones."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.conv, self.norm, self.drop = nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.Dropout(0.3)
        self.head = nn.Linear(6, 4)
        nn.init.uniform_(self.norm.running_mean)
        nn.init.uniform_(self.norm.running_var, 0.5, 1.5)

    def forward(self, pictures: Tensor) -> Tensor:
        hidden = self.drop(self.norm(self.conv(pictures)).relu())
        return self.head(hidden.mean((2, 3)))


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("factory", [False, True])
def test_a_trained_model_is_the_baseline_as_it_is(factory: bool, frozen: bool,
                                                  tmp_path: Path) -> None:
    model = Normalized().requires_grad_(not frozen).train()
    inputs = torch.from_numpy(SPLIT_OF["validation"].inputs)
    with torch.no_grad():
        expected = copy.deepcopy(model).eval()(inputs)
    own = task(model=(lambda: model) if factory else model, baseline=None)
    builder = Builder(own, 0, tmp_path)
    with torch.no_grad():
        assert torch.equal(builder.model(Recipe(), "full")(inputs), expected)
    build = builder.train(Recipe(), "full", TARGET)
    assert build.evaluation is not None
    assert build.evaluation.value == float(
        (expected.argmax(1).numpy() == SPLIT_OF["validation"].targets).mean())
    trained = builder.train(SMALL, "short", TARGET)
    assert trained.sha256 != builder.compress(SMALL, TARGET).sha256, "a frozen model is trained"
    assert model.training and all(p.requires_grad is not frozen for p in model.parameters())


# -- inputs --------------------------------------------------------------------------------------


class Bytes(nn.Module):
    """Takes pictures of whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def forward(self, pictures: Tensor) -> Tensor:
        return self.inner(pictures.float() / 255)


class Masked(nn.Module):
    """Two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def forward(self, picture: Tensor, mask: Tensor, scale: float = 1.0) -> Tensor:
        return self.inner(picture * mask * scale)


def masked(x: np.ndarray, y: np.ndarray) -> Any:
    return [((a, np.ones_like(a)), b) for a, b in zip(x, y, strict=True)]


@pytest.mark.parametrize(("model", "change", "names"), [
    (network, lambda x, y: Split((x - 0.2) / 0.3, y), ("input",)),
    (network, lambda x, y: Split(x * 1000 - 300, y), ("input",)),
    (Bytes, lambda x, y: Split((x * 255).astype(np.uint8), y), ("pictures",)),
    (Masked, masked, ("picture", "mask")),
    (Masked, lambda x, y: Split({"mask": np.ones_like(x), "picture": x}, y), ("picture", "mask")),
], ids=["standardized", "raw", "uint8", "two inputs", "two by name"])
def test_inputs_of_any_range_type_and_number(model: Any, change: Change, names: tuple[str, ...],
                                             tmp_path: Path) -> None:
    own = task(model, data(change))
    assert own.input_names == names
    base, small = built(own, tmp_path, Recipe()), built(own, tmp_path)
    assert base.evaluation is not None and base.evaluation.value > 0.5, "it has learnt"
    assert small.evaluation is not None
    assert small.evaluation.value == right_share(own, tmp_path, small)


# -- outputs -------------------------------------------------------------------------------------

Answer = namedtuple("Answer", "logits hidden")


class Answers(nn.Module):
    """``form`` makes the answer of the logits, of a function that gives more, and of the mode."""

    def __init__(self, form: Callable[[Tensor, Callable[[], Tensor], bool], Any]) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3)
        self.aux, self.head, self.form = nn.Linear(8, 4), nn.Linear(8, 4), form

    def forward(self, x: Tensor) -> Any:
        x = self.a(x).relu()
        return self.form(self.head(self.b(x).relu().mean((2, 3))), lambda: self.aux(x.mean((2, 3))),
                         self.training)


def loss(outputs: Any, targets: Tensor) -> Tensor:
    parts = outputs.values() if isinstance(outputs, dict) else (
        (outputs,) if isinstance(outputs, Tensor) else outputs)
    return sum((nn.functional.cross_entropy(part, targets) for part in parts), torch.zeros(()))


@pytest.mark.parametrize("form", [
    lambda y, aux, training: {"logits": y}, lambda y, aux, training: (y, aux()),
    lambda y, aux, training: [y, aux()], lambda y, aux, training: Answer(y, aux()),
    lambda y, aux, training: {"logits": y, "aux": aux()},
    lambda y, aux, training: (y, aux()) if training else y,
    lambda y, aux, training: {"logits": y, "aux": aux()} if training else {"logits": y},
], ids=["dict", "tuple", "list", "namedtuple", "two keys", "aux in training", "aux key"])
def test_outputs_of_any_form(form: Any, tmp_path: Path) -> None:
    own = task(lambda: Answers(form), loss=loss)
    small = built(own, tmp_path)
    assert small.evaluation is not None
    assert small.evaluation.value == right_share(own, tmp_path, small)


def test_the_output_that_is_judged_is_chosen_by_name(tmp_path: Path) -> None:
    def form(y: Tensor, aux: Callable[[], Tensor], training: bool) -> Any:
        return {"other": aux() * 0, "logits": y}

    def of_logits(outputs: Any, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs["logits"], targets)

    own = task(lambda: Answers(form), loss=of_logits, output="logits")
    first = dataclasses.replace(own, output=None)
    chosen, zeros = (built(each, tmp_path / str(n), Recipe()) for n, each in enumerate(
        (own, first)))
    assert chosen.evaluation is not None and zeros.evaluation is not None
    assert zeros.evaluation.value == 0.25 < chosen.evaluation.value


# -- splits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [
    lambda: data(splits=("training", "validation")),
    lambda: data() | {"test": Split(SPLIT_OF["test"].inputs[:0], SPLIT_OF["test"].targets[:0])},
], ids=["two splits", "empty test"])
def test_a_missing_test_split_is_carved_and_said(given: Any, tmp_path: Path) -> None:
    own = task(given=given())
    assert [len(own.samples(split)) for split in SPLITS] == [180, 30, 30]
    assert own.carved is not None and "30 of the 60 validation samples" in own.carved
    builder = Builder(own, 0, tmp_path)
    content = builder.train(Recipe(), "full", TARGET).content
    assert builder.evaluate(content, "test").n == 30
    assert task().carved is None


class Squeezed(nn.Module):
    """BatchNorm over single numbers: it raises for a batch of one sample."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(1, 8, 3), nn.BatchNorm1d(8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.conv(x).mean((2, 3))).relu())


def test_one_sample_left_over(tmp_path: Path) -> None:
    given = data() | {"training": Split(SPLIT_OF["training"].inputs[:161],
                                        SPLIT_OF["training"].targets[:161])}
    assert built(task(Squeezed, given), tmp_path).evaluation is not None


# -- the user's errors ---------------------------------------------------------------------------


class Broken(Pictures):
    def __getitem__(self, index: int) -> Any:
        if index == 113:
            raise ValueError("cannot identify image file")
        return super().__getitem__(index)


class Raises(nn.Module):
    """``when``: in evaluation, in training, or never; in the latter case its output is spoilt."""

    def __init__(self, when: bool | None = None, spoil: float = 1.0) -> None:
        super().__init__()
        self.inner, self.when, self.spoil = network(), when, spoil

    def forward(self, x: Tensor) -> Tensor:
        if self.training is self.when:
            raise IndexError("my own bug")
        return self.inner(x) * self.spoil


def spoilt(x: np.ndarray, y: np.ndarray) -> Split:
    x = x.copy()
    x[::7, 0, 3, 3] = np.nan
    return Split(x, y)


def raising() -> nn.Module:
    raise FileNotFoundError("weights.pt")


@pytest.mark.parametrize(("own", "said"), [
    (lambda: task(given=data() | {"training": Broken(
        SPLIT_OF["training"].inputs, SPLIT_OF["training"].targets)}, identity={}),
     r"^training\[113\]: ValueError: cannot identify image file\."),
    (lambda: task(raising, identity={}), r"^model: raising\(\): FileNotFoundError: weights.pt"),
    (lambda: task(lambda: 3, identity={}), "^model: .* gave int 3, expected a torch.nn.Module"),
    (lambda: task(lambda: Raises(False)),
     r"^model: Raises.forward in evaluation mode: IndexError: my own bug\. It got float32 tensor "
     r"of shape \(2, 1, 12, 12\)"),
    (lambda: task(lambda: Raises(True)), "^baseline: training of own: IndexError: my own bug"),
    (lambda: task(lambda: Raises(True), baseline=None),
     "^model: Raises.forward in training mode: IndexError: my own bug"),
    (lambda: task(given=data(spoilt)), "^baseline: The loss is nan in epoch 1.*inputs"),
    (lambda: task(given=data(lambda x, y: Split(x, y + 9))),
     r"^loss: IndexError: Target \d+ is out of bounds\. It got outputs: float32 tensor of shape "
     r"\(20, 4\); targets: int64"),
    (lambda: task(given=data(lambda x, y: Split(x, y[:, None]))), "^loss: .*targets: int64 tensor"),
    (lambda: task(given=data(lambda x, y: Split((x * 255).astype(np.uint8), y))),
     "^model: Sequential.forward in evaluation mode: RuntimeError.*It got uint8 tensor"),
    (lambda: task(given=data(lambda x, y: Split(x[:, :, :5], y))),
     r"^model: Sequential.forward.*It got float32 tensor of shape \(2, 1, 5, 12\)"),
    (lambda: task(output="logits", model=lambda: Answers(lambda y, aux, t: (y, aux()))),
     "^output: found 'logits', the model returns output_0, output_1"),
    (lambda: task(device="cuda"), "^device: found 'cuda'"),
])
def test_errors_of_the_user_name_their_place(own: Callable[[], Task], said: str, tmp_path: Path,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(TaskError, match=said):
        built(own(), tmp_path)


class Half(nn.Module):
    """Its forward relies on the number of channels, so that only the compressed one fails."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.inner.conv1.out_channels != 6:
            raise RuntimeError("six channels, please")
        return self.inner(x)


def test_what_only_the_candidate_raises_is_its_own_failure(tmp_path: Path) -> None:
    builder = Builder(task(Half), 0, tmp_path)
    with pytest.raises(BuildError, match="^Training raised RuntimeError: six") as caught:
        builder.train(SMALL, "short", TARGET)
    assert caught.value.reason == "training"
    assert builder.train(Recipe(), "full", TARGET).content, "the builder continues"


def test_another_model_under_the_same_identity(tmp_path: Path) -> None:
    built(task(identity={"a": 1}), tmp_path, Recipe())
    with pytest.raises(TaskError, match="^identity: a baseline with other layers"):
        built(task(Squeezed, identity={"a": 1}), tmp_path, Recipe())
