import hashlib
import json
import sqlite3
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch

from profiles.schema import profile
from searcher.devices.target import target_of
from searcher.errors import UserError
from searcher.ledger.directory_lock import owned
from searcher.ledger.tables import campaigns, search_state, trials
from searcher.ledger.tables.builds import put_recipe
from searcher.local.build import RecipeFigures, _requested_build, build_recipe
from searcher.spec.fidelity import FIDELITIES
from searcher.spec.recipe import Recipe, Step
from tests.conftest import TINY
from tests.searcher_tests.dispatch.laboratory import SPEC, Laboratory
from tests.searcher_tests.filled import Folder
from tests.searcher_tests.filled import recipe as made

STEPS = Recipe((Step.of("svd", "fc1", {"rank_ratio": 0.25}),
                Step.of("finetune", "model", {"learning_rate": 0.01})))


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    (tmp_path / "recipe.toml").write_text(STEPS.as_toml())
    return str(tmp_path / "recipe.toml")


def built(recipe: str, folder: Path, **changes: Any) -> RecipeFigures:
    given = {"task": TINY, "fidelity": "short", "seed": 0, **changes}
    return build_recipe(recipe, output=folder / "out", directory=folder, **given)


@pytest.mark.parametrize("fidelity", ["untrained", "short"])
def test_the_folder_of_a_build(recipe: str, builds: Path, tmp_path: Path, fidelity: str) -> None:
    figures = built(recipe, tmp_path, fidelity=fidelity)
    out = tmp_path / "out"
    assert sorted(p.name for p in out.iterdir()) == [
        "checkpoint.pt", "figures.json", "model.onnx", "module.pt", "recipe.toml"]
    written = json.loads((out / "figures.json").read_text())
    assert written == json.loads(json.dumps(figures.as_document()))
    content = (out / "model.onnx").read_bytes()
    assert hashlib.sha256(content).hexdigest() == figures.sha256
    assert len(content) == figures.values["file_bytes"]
    assert onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    assert Recipe.from_toml(out / "recipe.toml") == STEPS
    assert "fc1.0.weight" in torch.load(out / "checkpoint.pt", weights_only=True)
    low, high = figures.intervals["accuracy"]
    assert low <= figures.values["accuracy"] <= high
    low, high = figures.intervals["quality_drop"]
    assert low <= figures.values["quality_drop"] <= high
    assert figures.values["quality_drop"] == pytest.approx(
        figures.baseline.value - figures.values["accuracy"])
    assert figures.baseline.sha256 != figures.sha256
    assert figures.file_ratio == figures.baseline.file_bytes / len(content)


def test_building_again_reuses_the_cache(recipe: str, builds: Path, tmp_path: Path) -> None:
    first, again = built(recipe, tmp_path), built(recipe, tmp_path)
    assert again.steps == {"built": 0, "reused": 2}
    assert first.steps == {"built": 2, "reused": 0} and replace(first, steps=again.steps) == again


@pytest.mark.parametrize(("change", "said"), [
    ({"fidelity": "ful"}, "fidelity 'ful' is unknown. Did you mean 'full'?"),
    ({"task": None}, "A recipe file needs --task"),
    ({"task": "lenet"}, "Unknown task 'lenet'"),
])
def test_wrong_arguments(recipe: str, tmp_path: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        built(recipe, tmp_path, **change)
    assert said in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_recipe_that_cannot_be_built_says_why(builds: Path, tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(Recipe((Step.of("svd", "fc7", {"rank_ratio": 0.2}),)).as_toml())
    with pytest.raises(UserError, match=r"cannot be built \(unknown_layers\).*fc7"):
        built(str(file), tmp_path)
    with pytest.raises(UserError, match="absent.toml"):
        built(str(tmp_path / "absent.toml"), tmp_path)


def test_a_folder_in_use_is_refused(recipe: str, tmp_path: Path) -> None:
    with owned(tmp_path), pytest.raises(UserError, match="belongs to the running process"):
        built(recipe, tmp_path)


@pytest.mark.parametrize(("name", "opset", "ir_version", "activations"), [
    ("jetson_tx2", 16, 8, None), ("jetson_agx_orin", 16, 8, "int8"),
    ("raspberry_pi_4", 16, 8, "int8"),
    ("desktop_gpu", 13, 7, "int8"), ("desktop_cpu", 13, 7, "uint8"), ("phone_page", 13, 7, None)])
def test_the_target_of_each_kind_of_device(
    name: str, opset: int, ir_version: int, activations: str | None
) -> None:
    target = target_of(profile(name))
    assert (target.format, target.opset, target.ir_version) == ("onnx", opset, ir_version)
    assert ("int8" in target.number_formats) == (activations is not None)
    assert activations in (None, target.int8_activations)


def test_a_device_without_a_runtime_has_no_target() -> None:
    with pytest.raises(UserError, match=r"jetson_tk1.*Enrol a device"):
        target_of(profile("jetson_tk1"))


def test_the_target_is_the_profiles() -> None:
    target = target_of(profile("local_cpu"))
    assert (target.opset, target.ir_version) == (13, 7)
    assert "int8" in target.number_formats and target.int8_activations == "uint8"


@pytest.fixture
def enrolled(tmp_path: Path) -> Path:
    """A campaign on the device "lab", enrolled as a TX2 with an older runtime, and a candidate."""
    lab = Laboratory.open(tmp_path)
    token, _ = lab.coordinator.roster.invite("lab", "agent", "jetson_tx2", 60.0)
    lab.coordinator.enrol(token, "lab", {"hostname": "tx2", "machine": "aarch64"},
                          {"runtimes": {"onnxruntime": {"onnxruntime": "1.9.0"}}})
    spec = {**SPEC, "name": "named", "task": TINY, "devices": [{"name": "lab"}]}
    with lab.store.atomic() as db:
        campaigns.create(db, "named", spec, lab.clock())
        put_recipe(db, STEPS.hash, STEPS.as_list())
        trials.create(db, "named", "lab", STEPS.hash, {}, {}, lab.clock())
    lab.store.close()
    return tmp_path


def test_a_candidate_is_built_for_its_device_as_it_is_enrolled(
    enrolled: Path, builds: Path
) -> None:
    figures = built("named/0", enrolled, task=None, fidelity="untrained")
    assert asdict(figures.target) == {
        "device": "lab", "profile": "jetson_tx2", "opset": 15, "ir_version": 8,
        "number_formats": ["float16", "float32"], "contradictions": [
            "it reports ONNX Runtime 1.9.0, the profile says 1.11.0: files for it have at most "
            "opset 15 and IR 8, not 16 and 8"]}
    other = built("named/0", enrolled, task=None, fidelity="untrained", profile="local_cpu")
    assert (other.target.device, other.target.opset) == (None, 13)


@pytest.mark.parametrize("fidelity", FIDELITIES)
def test_a_candidate_is_built_as_it_was_trained(tmp_path: Path, fidelity: str) -> None:
    folder = Folder(tmp_path)
    folder.campaign()
    folder.trial(0)
    folder.db.execute("UPDATE builds SET fidelity = ?", [fidelity])
    folder.close()
    wanted = _requested_build("digits/0", None, 7, tmp_path)
    assert (wanted.fidelity, wanted.seed, wanted.dropped) == (fidelity, 0, None)
    (tmp_path / "r.toml").write_text(STEPS.as_toml())
    assert _requested_build(str(tmp_path / "r.toml"), TINY, 7, tmp_path).fidelity == "full"


def test_a_candidate_that_was_repaired_only_can_be_trained_as_its_search_would(
        tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.campaign()
    folder.trial(0, repaired=True)
    state = search_state.get(folder.db, "digits", "local_cpu")
    assert state is not None
    epochs = {"short": 3, "full": 12}
    search_state.put(folder.db, "digits", "local_cpu", replace(state, epochs=epochs), 130.0)
    folder.close()
    as_it_is = _requested_build("digits/0", None, 0, tmp_path)
    assert (as_it_is.fidelity, as_it_is.recipe.steps) == ("repaired", made(0).steps[:-1])
    trained = _requested_build("digits/0", None, 0, tmp_path, "full")
    assert (trained.recipe, trained.fidelity, trained.repair) == (made(0), "full", True)
    assert trained.epochs == epochs


def test_a_device_without_a_profile_is_reported(enrolled: Path) -> None:
    with closing(sqlite3.connect(enrolled / "ledger.db")) as connection, connection:
        connection.execute("UPDATE devices SET profile = NULL")
    with pytest.raises(UserError, match="'lab' is not enrolled with a profile.*--profile"):
        built("named/0", enrolled, task=None)
