"""Networks and data of the benchmark, and that the independent script repeats their rules."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from benchmarks import plain_compression as plain
from benchmarks import recompute_models
from benchmarks.networks import fashion, photographs, storage
from benchmarks.networks.architectures import MobileNetV2, Residual, VisionTransformer, vgg
from benchmarks.plain_optuna import quarters

TABLE = Path(photographs.__file__).with_name("photographs.tsv").read_text()


def test_the_independent_script_imports_nothing_of_ours() -> None:
    tree = ast.parse(Path(recompute_models.__file__).read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import)
             for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    roots = {name.split(".")[0] for name in names}
    assert not roots & {"searcher", "strategies", "benchmarks", "agents", "torch"}


def test_photographs_are_split_in_one_order_by_both() -> None:
    names = photographs.photograph_names()
    assert len(names) == 92
    assert recompute_models.photograph_order(TABLE) == names
    numbers = photographs.crop_numbers()
    for split in ("validation", "test"):
        rows, groups = recompute_models.rows_of_crops(len(names), split)
        expected = [(row, number) for row, number in enumerate(numbers)
                    if photographs.split_of(number, len(names)) == split]
        assert list(zip(rows.tolist(), groups.tolist(), strict=True)) == expected
    of = Counter(photographs.split_of(i, 92) for i in range(92))
    assert of == {"validation": 18, "test": 18, "training": 56}


def test_inputs_are_standardised_alike() -> None:
    draw = np.random.default_rng(0)
    digits = draw.integers(0, 256, (3, 28, 28), dtype=np.uint8)
    assert np.array_equal(recompute_models.inputs_of(digits), fashion.standardised(digits))
    crops = draw.integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    expected = np.stack([photographs.standardised(crop) for crop in crops])
    assert np.array_equal(recompute_models.inputs_of(crops), expected)
    assert expected.dtype == np.float32


def test_an_interval_by_photograph_is_wider_than_one_by_crop() -> None:
    right = np.repeat([True, True, True, False], 16)
    groups = np.repeat(np.arange(4), 16)
    low, high = recompute_models.interval_by_group(right, groups, 2000)
    alone, high_alone = recompute_models.interval_by_group(right, np.arange(64), 2000)
    assert low < alone < 0.75 < high_alone < high


def test_crops_have_one_size_and_depend_on_the_seed_alone() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    pictures = [Image.fromarray(pixels)]
    first, again = (photographs.crops_of(pictures, 3, 7) for _ in range(2))
    assert [crop.shape for crop in first] == [(224, 224, 3)] * 3
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], photographs.crops_of(pictures, 1, 8)[0])


def test_an_interrupted_file_is_made_again(tmp_path: Path,
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(storage.VARIABLE, str(tmp_path))

    def broken(target: Path) -> None:
        target.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        storage.kept("a.pt", broken)
    path = storage.kept("a.pt", lambda target: target.write_bytes(b"whole") and None)
    assert path.read_bytes() == b"whole"


@pytest.mark.parametrize(("make", "parameters", "shape"), [
    (Residual, 381_610, (1, 28, 28)), (vgg, 881_898, (1, 28, 28)),
    (VisionTransformer, 204_938, (1, 28, 28)), (MobileNetV2, 3_504_872, (3, 224, 224))])
def test_sizes_of_the_networks(make: type[nn.Module], parameters: int,
                               shape: tuple[int, ...]) -> None:
    net = make().eval()
    assert sum(p.numel() for p in net.parameters()) == parameters
    with torch.no_grad():
        assert net(torch.zeros(2, *shape)).shape[0] == 2


@pytest.fixture(autouse=True)
def fused_attention() -> Iterator[None]:
    """The plain script switches it off for its process."""
    before = torch.backends.mha.get_fastpath_enabled()
    yield
    torch.backends.mha.set_fastpath_enabled(before)


def test_the_plain_script_prunes_channels_but_no_answers() -> None:
    net, example = Residual().eval(), torch.zeros(1, 1, 28, 28)
    small = plain.pruned(net, example, 0.5)
    convolutions = [m.out_channels for m in small.modules() if isinstance(m, nn.Conv2d)]
    assert convolutions[:2] == [16, 32] and small(example).shape == (1, 10)
    halves = plain.pruned(net, example, {m: 0.5 for m in plain.prunable(net)[:1]})
    assert halves.stem[0].out_channels == 16
    assert halves.blocks[4].body[0].out_channels == 128


def test_only_the_hidden_units_of_encoder_layers_are_pruned() -> None:
    net, example = VisionTransformer().eval(), torch.zeros(1, 1, 28, 28)
    small = plain.pruned(net, example, 0.5)
    linear = {name: m.out_features for name, m in small.named_modules()
              if isinstance(m, nn.Linear)}
    assert {width for name, width in linear.items() if name.endswith("linear1")} == {128}
    assert {width for name, width in linear.items() if name.endswith("linear2")} == {64}


def test_quarters_hold_every_layer_once() -> None:
    layers: list[nn.Module] = [nn.Identity() for _ in range(7)]
    parts = quarters(layers)
    assert [m for part in parts for m in part] == layers
    assert [len(part) for part in parts] == [2, 2, 1, 2]
    assert [len(part) for part in quarters(layers[:2])] == [1, 1]
