"""Tasks as users write them: the example of docs/tasks.md and the modules of examples/."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from searcher.builders.checks.check import check
from searcher.local.build import build_recipe
from searcher.spec import campaign
from strategies.target import Target

REPOSITORY = Path(__file__).parents[1]
RECIPE = """
[[step]]
strategy = "clustering"
layers = "model"
bits = 4

[[step]]
strategy = "finetune"
layers = "model"
learning_rate = 0.003
"""
LEAST = {"own_model": 0.95, "binary_classification": 0.9, "segmentation": 0.9,
         "regression": 0.5}
"""Quality of the baseline; for a metric that is to be small, the largest."""


def errors(found):
    return [str(row) for row in found.rows if row.verdict in ("error", "warning")]


@pytest.mark.parametrize("name", LEAST)
def test_an_example_is_sound_and_can_be_built(name, tmp_path):
    document = campaign.load(REPOSITORY / "examples" / f"{name}.toml")
    found = check(document.task, 0, Target())
    assert errors(found) == [] and found.facts is not None
    (tmp_path / "recipe.toml").write_text(RECIPE)
    figures = build_recipe(str(tmp_path / "recipe.toml"), document.task, "full",
                           tmp_path / "out", 0, tmp_path / "data")
    baseline = figures.baseline.value
    assert baseline < LEAST[name] if name == "regression" else baseline > LEAST[name]
    assert figures.values["file_bytes"] < figures.baseline.file_bytes
    assert json.loads((tmp_path / "out" / "figures.json").read_text())["task"] == document.task


@pytest.fixture
def example(tmp_path, monkeypatch):
    """The source of the example, in a folder with its pictures, which is the current one."""
    page = (REPOSITORY / "docs" / "tasks.md").read_text()
    source = re.search(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)[1]
    (tmp_path / "pictures.py").write_text(source)
    draw = np.random.default_rng(0)
    for split, size in {"training": 60, "validation": 40, "test": 40}.items():
        for label in range(4):
            folder = tmp_path / "pictures" / split / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(size):
                pixels = draw.integers(0, 120, (12, 12), np.uint8)
                row, column = divmod(label, 2)
                pixels[6 * row:6 * row + 6, 6 * column:6 * column + 6] += 60
                Image.fromarray(pixels).save(folder / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield source
    sys.modules.pop("pictures", None)


def save_weights(source):
    """Train the network of the example for a moment."""
    module = {}
    exec(source.replace('model.load_state_dict(torch.load("weights.pt"))', "pass"), module)
    made = module["task"]()
    x, y = zip(*(made.training[i] for i in range(len(made.training))), strict=True)
    x, y = torch.stack(x), torch.tensor(y)
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(made.model.parameters(), 1e-2)
    for _ in range(20):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(made.model(x), y).backward()
        optimizer.step()
    torch.save(made.model.state_dict(), "weights.pt")


def test_the_example_of_the_documentation_is_a_sound_task(example):
    assert len([line for line in example.splitlines() if line.strip()]) <= 30
    save_weights(example)
    found = check("pictures:task", 0, Target())
    assert errors(found) == [] and found.facts.baseline_epochs is None
    baseline = next(row.found for row in found.rows if row.field == "baseline")
    assert baseline.startswith("balanced_accuracy") and found.facts.metric == "balanced_accuracy"


def test_weights_that_are_missing_are_named(example):
    found = check("pictures:task", 0, Target())
    assert "weights.pt" in errors(found)[0]
