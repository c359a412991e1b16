"""Wrong input on the command line: exit code 1, which value, and what to do.

What a command refuses by itself is run in this process, once per command in a real one; what comes
from its children is always run in real processes.
"""

import os
import subprocess

import pytest

from agents.meters.catalog import power_meters
from tests.searcher_tests.cli.conftest import Run, run
from tests.system.real import FLEETFRONT, campaign_file, fleetfront

__all__ = ["run"]
ALL = "channel_pruning clustering int8"


def refused(*arguments):
    """What a command says that must end with exit code 1 and without a traceback."""
    done = fleetfront(*arguments)
    return checked(done.returncode, done.stdout + done.stderr)


def checked(code, said):
    assert code == 1, said
    assert "Traceback" not in said and "defect of fleetfront" not in said, said
    return said


@pytest.fixture
def refused_here(run: Run):
    """As ``refused``, in this process."""
    def call(*arguments):
        code, out, err = run(*arguments)
        return checked(code, out + err)
    return call


def campaign(folder, line, instead):
    file = campaign_file(folder, "task", 4, ALL)
    text = file.read_text()
    assert line in text
    file.write_text(text.replace(line, instead))
    return file


@pytest.mark.parametrize(("line", "instead", "value", "remedy"), [
    ("wall_minutes = 3", "wall_minuts = 3", "'wall_minuts'", "'wall_minutes'"),
    ('"clustering"', '"clusterin"', "'clusterin'", "'clustering'"),
    ("candidates = 4", "candidates = 0", "candidates = 0", "from 1"),
    ("[search]", "[search", "TOML", "line"),
])
def test_a_wrong_campaign_file(refused_here, tmp_path, line, instead, value, remedy):
    file = campaign(tmp_path, line, instead)
    said = refused_here("run", file, "--dir", tmp_path / "data")
    assert str(file) in said or "clusterin" in said
    assert value in said and remedy in said


@pytest.mark.skipif(
    any(meter.problem() is None for meter in power_meters()), reason="this machine has a meter")
def test_energy_of_a_machine_without_a_meter(tmp_path):
    """Refused before anything is built, with what each meter lacks."""
    file = campaign(tmp_path, "[measurement]\nplan = {",
                    '[objectives]\naccuracy = "maximize"\nenergy_j = "minimize"\n'
                    "[measurement]\nplan = {energy_s = 20, idle_s = 5, ")
    said = refused("run", file, "--dir", tmp_path / "data")
    assert "energy_j" in said and "nvml" in said
    assert not (tmp_path / "data" / "builds").exists()


def test_data_of_another_digest(tmp_path):
    """Refused by the builder process, reported by the command."""
    file = campaign_file(tmp_path, "wrong_digest", 4, ALL)
    said = refused("run", file, "--dir", tmp_path / "data")
    assert "expected " + "0" * 64 in said and "put the file at" in said


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    file = tmp_path_factory.mktemp("recipe") / "recipe.toml"
    file.write_text("step = []\n")
    return file


@pytest.mark.parametrize(("task", "value", "remedy"), [
    ("no_such_package.tasks:make", "no_such_package", "Install its package"),
    ("tests.system.tiny_task:unreachable", "https://127.0.0.1:9/stripes.npz",
     "Connect to one of these sources"),
    ("tests.system.tiny_task:no_graph", "bessel", "opset 13"),
])
def test_a_task_that_cannot_be_built(refused_here, tmp_path, recipe, task, value, remedy):
    said = refused_here("build", recipe, "--task", task,
                        "--dir", tmp_path / "data", "-o", tmp_path / "out")
    assert value in said and remedy in said


def test_a_recipe_with_an_unknown_strategy(refused_here, tmp_path):
    file = tmp_path / "recipe.toml"
    file.write_text('[[step]]\nstrategy = "tuker"\nrank_ratio = 0.5\n')
    said = refused_here("build", file, "--task", "tests.system.tiny_task:task",
                        "--dir", tmp_path / "data", "-o", tmp_path / "out")
    assert "'tuker'" in said and "'tucker'" in said


def test_measuring_what_is_no_onnx(tmp_path):
    file = tmp_path / "model.onnx"
    file.write_bytes(b"this is no model")
    said = refused("measure", file, "--dir", tmp_path / "data", "--plan", "quick")
    assert f"{file} could not be measured" in said and "unloadable" in said


def test_measuring_what_is_not_there(refused_here, tmp_path):
    said = refused_here("measure", tmp_path / "none.onnx", "--dir", tmp_path / "data")
    assert "none.onnx" in said


def test_wrong_usage():
    said = refused("front", "--formatt", "json")
    assert "--formatt" in said
    assert "--queue-s" in refused("measure", "model.onnx", "--queue-s", "-1")


def test_a_task_is_found_in_the_folder_of_the_command(tmp_path, recipe):
    """Without PYTHONPATH: what the message about an import promises."""
    (tmp_path / "mine.py").write_text("def make():\n    return 7\n")
    done = subprocess.run(
        [FLEETFRONT, "build", recipe, "--task", "mine:make", "--dir", tmp_path / "data"],
        cwd=tmp_path, env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"}, text=True,
        capture_output=True, check=False)
    assert done.returncode == 1 and "make() gave int" in done.stderr, done.stderr
