"""Entry points of installed distributions: found lazily, broken and taken ones reported."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from searcher import entry_points
from searcher.artifacts.formats.registry import FORMATS
from searcher.entry_points import Registry
from searcher.errors import UserError
from searcher.tasks.metrics.accuracy import Accuracy
from strategies import catalog

MODULE = """
from searcher.tasks.metrics.accuracy import Accuracy


class Good(Accuracy):
    name = "good"


class Stranger:
    name = "stranger"
"""
METRICS = """
[fleetfront.metrics]
good = toy_points:Good
accuracy = toy_points:Good
misnamed = toy_points:Good
stranger = toy_points:Stranger
absent = toy_points:Absent
missing = no_such_module:Good
"""
STRATEGIES = """
[fleetfront.strategies]
svd = toy_points:Good
stranger = toy_points:Stranger
missing = no_such_module:Strategy
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A distribution ``toy-points`` on the path of this process."""
    (tmp_path / "toy_points.py").write_text(MODULE)
    folder = tmp_path / "toy_points-1.2.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-points\nVersion: 1.2\n")
    (folder / "entry_points.txt").write_text(METRICS + STRATEGIES)
    monkeypatch.syspath_prepend(str(tmp_path))
    caches = (entry_points.offers, catalog._offered, catalog.strategy)
    for cached in caches:
        cached.cache_clear()
    yield tmp_path
    for cached in caches:
        cached.cache_clear()
    sys.modules.pop("toy_points", None)


@pytest.fixture
def metrics() -> Registry:
    return Registry("fleetfront.metrics", "metric", "searcher.tasks.metrics.base:Metric",
                    {"accuracy": "searcher.tasks.metrics.accuracy:Accuracy"})


def test_names_import_nothing(toy: Path, metrics: Registry) -> None:
    assert metrics.names() == ("accuracy", "absent", "good", "misnamed", "missing", "stranger")
    assert "toy_points" not in sys.modules
    assert metrics.get("good").name == "good"


def test_fleetfronts_own_name_stays_its_own(toy: Path, metrics: Registry) -> None:
    assert metrics.get("accuracy") is Accuracy
    (taken,) = [p for p in metrics.problems() if p.name == "accuracy"]
    assert "toy-points 1.2 is not used: fleetfront has that name already" in taken.message


def test_of_two_distributions_the_first_keeps_a_name(
        toy: Path, tmp_path: Path, metrics: Registry) -> None:
    other = toy / "a_rival-2.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: a-rival\nVersion: 2.0\n")
    (other / "entry_points.txt").write_text("[fleetfront.metrics]\ngood = toy_points:Good\n")
    entry_points.offers.cache_clear()
    assert metrics.places()["good"].owner == "a-rival 2.0"
    (taken,) = [p for p in metrics.problems() if p.name == "good"]
    assert "toy-points 1.2" in taken.message and "a-rival 2.0 has that name" in taken.message


@pytest.mark.parametrize(("name", "said"), [
    ("missing", "ModuleNotFoundError"), ("absent", "AttributeError"),
    ("stranger", "must be a subclass of searcher.tasks.metrics.base:Metric"),
    ("misnamed", "with name = 'misnamed'"),
])
def test_a_broken_one_is_reported_with_its_owner(
        toy: Path, metrics: Registry, name: str, said: str) -> None:
    with pytest.raises(UserError, match="toy-points 1.2") as caught:
        metrics.get(name)
    assert said in str(caught.value) and "uninstall" in str(caught.value)
    assert str(caught.value) in [problem.message for problem in metrics.problems()]


def test_an_unknown_name_gets_the_nearest(metrics: Registry) -> None:
    with pytest.raises(UserError, match="Unknown metric 'acuracy'. Did you mean 'accuracy'?"):
        metrics.get("acuracy")
    with pytest.raises(UserError, match="Unknown file format 'onx'. Did you mean 'onnx'?"):
        FORMATS.get("onx")


def test_broken_strategies_break_no_others(toy: Path) -> None:
    assert {"missing", "stranger"} <= set(catalog.names())
    usable = [cls.name for cls in catalog.all_strategies()]
    assert usable == [name for name, _, _ in catalog.MODULES]
    assert catalog.strategy("svd").__module__ == "strategies.structure.svd"
    said = {problem.name: problem.message for problem in catalog.problems()}
    assert set(said) == {"svd", "missing", "stranger"}
    assert "fleetfront has that name already" in said["svd"]
    assert "toy-points 1.2" in said["missing"] and "uninstall" in said["missing"]
    with pytest.raises(catalog.UnknownStrategyError, match="ModuleNotFoundError"):
        catalog.strategy("missing")


@pytest.mark.parametrize("command", ["strategies", "doctor"])
def test_the_commands_show_what_is_broken(toy: Path, command: str) -> None:
    code = (f"import sys; sys.path.insert(0, {str(toy)!r}); sys.argv = ['fleetfront', "
            f"{command!r}]; from searcher.cli import main; main()")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          check=False, cwd=toy)
    said = " ".join((done.stdout + done.stderr).split())
    assert "toy-points 1.2" in said and "no_such_module" in said
