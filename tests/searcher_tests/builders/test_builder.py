"""Builds by recipe prefix, with cached prefixes, reproducible byte by byte."""

import dataclasses
import errno
import os
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import searcher.builders.prefix_cache
from searcher.builders.builder import Build, Builder
from searcher.builders.prefix_cache import MEMORY_PREFIXES
from searcher.errors import BuildError
from searcher.spec.recipe import Recipe, Step
from searcher.tasks.base import Task
from strategies.target import Target

TARGET = Target()
PRUNE = Step.of("channel_pruning", "convolutions", {"keep_ratio": 0.5, "round_to": 1})
THIN = Step.of("channel_pruning", "fully_connected", {"keep_ratio": 0.5, "round_to": 1})
SVD = Step.of("svd", "fc1", {"rank_ratio": 0.25})
MASK = Step.of("magnitude_pruning", "fully_connected", {"keep_ratio": 0.3})
CODES = Step.of("clustering", "fully_connected", {"bits": 2})
TUNE = Step.of("finetune", "model", {"learning_rate": 0.01})
DISTIL = Step.of("knowledge_distillation", "model", {
    "learning_rate": 0.01, "temperature": 3.0, "teacher_weight": 0.5})
INT8 = Step.of("int8", "model", {})


def recipe(*steps: Step) -> Recipe:
    return Recipe(steps)


def counts(build: Build) -> tuple[int, int]:
    return build.built_steps, build.reused_steps


# -- what a build is -----------------------------------------------------------------------------


def test_the_baseline(builder: Builder, tiny: Task) -> None:
    build = builder.train(Recipe(), "full", TARGET)
    assert build.report.parameters == 1338 and counts(build) == (0, 0)
    assert build.evaluation is not None and build.evaluation.value > 0.5, "it has learnt"
    assert len(build.content) < 4 * 1338 + 8000
    split = tiny.load()["validation"]
    run = onnxruntime.InferenceSession(build.content, providers=["CPUExecutionProvider"])
    answers = run.run(None, {"input": split.inputs})[0].argmax(1)
    assert np.array_equal(answers == split.targets, build.evaluation.scores)
    assert builder.compress(Recipe(), TARGET).content == build.content


def test_an_untrained_build_has_the_graph_of_the_trained_one(builder: Builder) -> None:
    steps = recipe(PRUNE, TUNE)
    untrained, short = builder.compress(steps, TARGET), builder.train(steps, "short", TARGET)
    assert untrained.graph_key == short.graph_key and untrained.sha256 != short.sha256
    assert untrained.evaluation is None and short.evaluation is not None
    assert untrained.report.macs == short.report.macs
    assert len(short.probe_outputs) == 4


def test_four_strategies_through_all_stages(builder: Builder) -> None:
    build = builder.train(recipe(PRUNE, SVD, MASK, CODES, DISTIL, INT8), "short", TARGET)
    dense = [layer for layer in build.report.layers if layer.op == "Gemm"]
    assert dense and all(layer.distinct_values <= 4 for layer in dense)
    assert all(layer.nonzero_share <= 0.5 for layer in dense)


def test_the_module_behind_a_build_keeps_its_parametrizations(builder: Builder) -> None:
    model = builder.model(recipe(MASK, TUNE, INT8), "short")
    assert torch.nn.utils.parametrize.is_parametrized(model.get_submodule("fc1"), "weight")


# -- the cache -----------------------------------------------------------------------------------


def test_a_shared_prefix_is_built_once(builder: Builder) -> None:
    assert counts(builder.compress(recipe(PRUNE, SVD, TUNE), TARGET)) == (2, 0)
    assert counts(builder.compress(recipe(PRUNE, SVD, MASK, TUNE), TARGET)) == (1, 2)
    assert counts(builder.compress(recipe(PRUNE, THIN, TUNE), TARGET)) == (1, 1)
    assert counts(builder.train(recipe(PRUNE, SVD, TUNE), "short", TARGET)) == (1, 2)
    assert counts(builder.train(recipe(PRUNE, SVD, TUNE), "short", TARGET)) == (0, 3)


def test_another_process_finds_the_prefix_on_disk(tiny: Task, builds: Path) -> None:
    steps = recipe(PRUNE, SVD, TUNE)
    first = Builder(tiny, 0, builds).train(steps, "short", TARGET)
    again = Builder(tiny, 0, builds).train(steps, "short", TARGET)
    assert counts(first) == (3, 0) and counts(again) == (0, 3)
    assert again.content == first.content


def test_what_a_caller_does_to_a_model_stays_with_him(builder: Builder) -> None:
    steps = recipe(PRUNE, TUNE)
    before = builder.compress(steps, TARGET).content
    with torch.no_grad():
        for parameter in builder.model(steps, "untrained").parameters():
            parameter.zero_()
        for parameter in builder.model(Recipe(), "full").parameters():
            parameter.zero_()
    assert builder.compress(steps, TARGET).content == before
    assert builder.compress(Recipe(), TARGET).evaluation is not None


def test_memory_holds_a_bounded_number_of_prefixes(builder: Builder) -> None:
    for index in range(MEMORY_PREFIXES + 3):
        builder._cache.keep_module(str(index), nn.Identity())
    assert len(builder._cache._modules) == MEMORY_PREFIXES


def test_training_draws_the_same_numbers_whatever_is_in_memory(
    tiny: Task, builds: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second builder finds the pruned model on the disk and loads the baseline only later."""
    import torch

    from strategies.training.finetune import Finetune

    states, train = [], Finetune.train

    def noted(self: Finetune, *arguments: Any) -> Any:
        states.append(torch.get_rng_state())
        return train(self, *arguments)

    monkeypatch.setattr(Finetune, "train", noted)
    for _ in range(2):
        builder = Builder(tiny, 0, builds)
        builder.train(recipe(PRUNE, TUNE), "short", TARGET)
        (builds / builder.build_key((PRUNE, TUNE), "short") / "state.pt").unlink()
    assert len(states) == 2 and torch.equal(*states)


def test_operations_are_those_of_the_exported_graph(builder: Builder) -> None:
    whole = builder._operations(builder._baseline())
    pruned = builder._operations(builder.model(recipe(PRUNE), "untrained"))
    assert builder.compress(recipe(PRUNE), TARGET).report.macs == pruned < whole


@pytest.mark.parametrize("steps", [
    recipe(PRUNE, SVD, TUNE), recipe(MASK, CODES, DISTIL), recipe(THIN, CODES, TUNE, INT8),
], ids=["structure", "weights", "int8"])
def test_rebuilt_from_nothing_a_recipe_gives_the_same_bytes(
    tiny: Task, tmp_path: Path, builds: Path, steps: Recipe
) -> None:
    there = Builder(tiny, 0, builds)
    there.train(recipe(SVD, TUNE), "short", TARGET)
    first = there.train(steps, "short", TARGET)
    again = Builder(tiny, 0, tmp_path / "elsewhere").train(steps, "short", TARGET)
    assert again.content == first.content and again.key == first.key


def test_the_int8_twin_reuses_the_training(builder: Builder, epochs: list[int]) -> None:
    plain = builder.train(recipe(PRUNE, TUNE), "short", TARGET)
    twin = builder.train(recipe(PRUNE, TUNE, INT8), "short", TARGET)
    assert epochs == [0] and counts(twin) == (1, 2) and twin.key != plain.key


def test_a_codebook_for_int8_is_trained_apart(builder: Builder, epochs: list[int]) -> None:
    builder.train(recipe(CODES, TUNE), "short", TARGET)
    builder.train(recipe(CODES, TUNE, INT8), "short", TARGET)
    assert epochs == [0, 0], "its values lie on the grid of int8"


def test_a_structure_after_training_starts_from_the_trained(builder: Builder,
                                                            epochs: list[int]) -> None:
    build = builder.train(recipe(PRUNE, TUNE, SVD, TUNE), "short", TARGET)
    assert epochs == [0, 0] and counts(build) == (4, 0)


# -- identities ----------------------------------------------------------------------------------


def test_the_build_key_tells_everything_apart(tiny: Task, tmp_path: Path,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    def key(task: Task = tiny, seed: int = 0, steps: tuple[Step, ...] = (PRUNE, TUNE),
            fidelity: str = "short", number_format: str = "float32") -> str:
        return Builder(task, seed, tmp_path).build_key(steps, fidelity, number_format)

    others = [
        key(seed=1), key(fidelity="full"), key(fidelity="untrained"), key(number_format="int8"),
        key(steps=(TUNE, PRUNE)), key(steps=(PRUNE,)),
        key(steps=(Step.of("channel_pruning", "convolutions", {"keep_ratio": 0.6, "round_to": 1}),
                   TUNE)),
        key(dataclasses.replace(tiny, identity={"pictures": "bars-1"})),
        key(dataclasses.replace(tiny, epochs={"short": 2, "full": 3})),
    ]
    from strategies.training.finetune import Finetune

    before = key()
    monkeypatch.setattr(Finetune, "version", 99)
    assert Counter([before, *others, key()]).most_common(1)[0][1] == 1, "one means another"
    monkeypatch.undo()
    assert key() == before


@pytest.mark.parametrize("change", [
    {"name": "other"}, {"identity": {"a": 1}}, {"epochs": {"short": 1, "full": 4}},
    {"metric": "top5"}, {"batch_size": 7}, {"epoch_samples": 5}, {"augmented_epochs": 9},
    {"longest_full": 3.0}])
def test_the_digest_of_a_task(tiny: Task, change: dict[str, Any]) -> None:
    assert dataclasses.replace(tiny, **change).digest != tiny.digest
    assert dataclasses.replace(tiny).digest == tiny.digest


# -- what cannot be built ------------------------------------------------------------------------


@pytest.mark.parametrize(("steps", "reason"), [
    (recipe(TUNE, INT8, TUNE), "impossible_order"),
    (recipe(MASK, PRUNE, TUNE), "impossible_order"),
    (recipe(Step.of("tuker", "model", {})), "unknown_strategy"),
    (recipe(Step.of("svd", "fc1", {"rank": 0.5})), "bad_parameters"),
    (recipe(Step.of("svd", "fc1", {"rank_ratio": 7.0})), "bad_parameters"),
    (recipe(Step.of("svd", "fc9", {"rank_ratio": 0.5})), "unknown_layers"),
    (recipe(Step.of("channel_pruning", "fc1", {"keep_ratio": 1.0})), "nothing_to_do"),
])
def test_an_impossible_recipe_has_a_reason(builder: Builder, steps: Recipe, reason: str) -> None:
    with pytest.raises(BuildError) as caught:
        builder.compress(steps, TARGET)
    assert caught.value.reason == reason
    assert re.match(r"step \d \(\w+", str(caught.value)), "it says which step"
    assert builder.compress(recipe(PRUNE), TARGET).content, "the builder continues"


def test_a_failure_names_the_step_and_its_layers(
        builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BuildError, match=r"^step 2 \(channel_pruning on fc1\): channel_pruning "):
        builder.compress(recipe(PRUNE, Step.of("channel_pruning", "fc1", {"keep_ratio": 1.0})),
                         TARGET)

    def broken(*arguments: object) -> None:
        raise ValueError("no such axis")

    monkeypatch.setattr("strategies.structure.svd.Svd.apply", broken)
    with pytest.raises(ValueError, match="no such axis") as caught:
        builder.compress(recipe(PRUNE, SVD), TARGET)
    assert caught.value.__notes__ == ["step 2 (svd on fc1)"]


def no_number(outputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(outputs, targets) * float("nan")


def test_a_loss_that_is_not_a_number(tiny: Task, builds: Path) -> None:
    broken = dataclasses.replace(tiny, loss=no_number)
    with pytest.raises(BuildError, match="try a lower learning_rate") as caught:
        Builder(broken, 0, builds).train(recipe(PRUNE, TUNE), "short", TARGET)
    assert caught.value.reason == "nan_loss"
    assert counts(Builder(tiny, 0, builds).train(recipe(PRUNE, TUNE), "short", TARGET)) == (1, 1)


class Spectrum(nn.Module):
    """No ONNX operator of opset 13 computes this."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(144, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(torch.fft.fft2(x).abs().flatten(1))


def test_a_graph_that_cannot_be_exported(tiny: Task, tmp_path: Path) -> None:
    task = dataclasses.replace(tiny, name="spectrum", model=Spectrum)
    with pytest.raises(BuildError, match="cannot be exported to ONNX opset 13") as caught:
        Builder(task, 0, tmp_path).compress(Recipe(), TARGET)
    assert caught.value.reason == "unsupported_graph"


class Sliced(nn.Module):
    """Channels are split with a fixed number, which pruning does not support."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3)
        self.dense = nn.Linear(4 * 100, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.dense((y[:, :4] * y[:, 4:]).flatten(1))


def test_a_graph_that_cannot_be_pruned(tiny: Task, tmp_path: Path) -> None:
    task = dataclasses.replace(tiny, name="sliced", model=Sliced)
    builder = Builder(task, 0, tmp_path)
    with pytest.raises(BuildError) as caught:
        builder.compress(recipe(PRUNE), TARGET)
    assert caught.value.reason == "unsupported_graph"
    assert builder.compress(Recipe(), TARGET).content


def test_a_full_disk_leaves_no_half_file(builder: Builder, builds: Path,
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    steps = recipe(PRUNE, TUNE)
    with monkeypatch.context() as context:
        context.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            builder.train(steps, "short", TARGET)
    key = builder.build_key(steps.steps, "short")
    assert not (builds / key / "state.pt").exists()
    assert not list(builds.glob("*/*.partial")), "what was half written takes no room"
    assert Builder(builder.task, 0, builds).train(steps, "short", TARGET).evaluation is not None


def test_the_same_bytes_after_the_cache_was_deleted(tiny: Task, tmp_path: Path) -> None:
    steps = recipe(PRUNE, CODES, TUNE, INT8)
    first = Builder(tiny, 0, tmp_path).train(steps, "full", TARGET)
    kept = sum(f.stat().st_size for f in tmp_path.rglob("*.pt"))
    assert first.cached_bytes == kept > 0
    for folder in list(tmp_path.iterdir()):
        shutil.rmtree(folder)
    again = Builder(tiny, 0, tmp_path).train(steps, "full", TARGET)
    assert again.content == first.content
    assert (counts(again), again.cached_bytes) == ((4, 0), kept)
    reused = Builder(tiny, 0, tmp_path).train(steps, "full", TARGET)
    assert (reused.content, reused.cached_bytes) == (first.content, 0)


def test_what_is_used_again_is_young_again(builder: Builder, builds: Path) -> None:
    steps = recipe(PRUNE, TUNE)
    builder.train(steps, "short", TARGET)
    for file in builds.rglob("*.pt"):
        os.utime(file, (1.0, 1.0))
    Builder(builder.task, 0, builds).train(steps, "short", TARGET)
    old = {f.parent.name for f in builds.rglob("*.pt") if f.stat().st_mtime == 1.0}
    assert builder.build_key(steps.steps, "short") not in old
    assert builder.build_key(steps.steps[:1], "untrained") not in old


@pytest.mark.parametrize("gone", ["short", "full", "structure"])
def test_the_cache_may_go_while_a_builder_builds(
        tiny: Task, builds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        gone: str) -> None:
    """The folder of a file is deleted just after the file was written or found."""
    steps = recipe(PRUNE, TUNE)
    whole = Builder(tiny, 0, tmp_path / "apart").train(steps, "full", TARGET)
    builder = Builder(tiny, 0, builds)
    keys = {"short": builder.build_key(steps.steps, "short"),
            "full": builder.build_key(steps.steps, "full"),
            "structure": builder.build_key(steps.steps[:1], "untrained")}
    write, deleted = searcher.builders.prefix_cache._write, []

    def lost(file: Path, content: Any) -> int:
        size = write(file, content)
        if file.parent.name == keys[gone] and not deleted:
            deleted.append(file)
            shutil.rmtree(file.parent)
        return size

    monkeypatch.setattr(searcher.builders.prefix_cache, "_write", lost)
    assert builder.train(steps, "full", TARGET).content == whole.content
    assert deleted
