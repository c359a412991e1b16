"""Runtimes and meters of third parties: a toy distribution that is really installed."""

import subprocess
import sys

import pytest

from agents.capabilities import capabilities, start_runtime
from agents.doctor import extension_findings
from agents.measurement.child_process import ProcessChild
from agents.meters.catalog import MeterRegistry
from agents.protocol import RuntimeRegistry
from agents.protocol.extensions import METER_GROUP, RUNTIME_GROUP, load_extensions
from tests.agents_tests.fakes import ROOT

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 8), reason="importlib.metadata is there from Python 3.8 on")

MODULE = """
from agents.meters.fake import FakeMeter
from agents.protocol import RuntimeTraits
from agents.runtimes.fake import FakeRuntime

ROW = RuntimeTraits("toy", "toy_extension", (("ToyProvider", "gpu"),), formats=("toy",))
TAKEN = ROW._replace(name="fake")
BARE = ROW._replace(name="bare", hardware=())


class RUNTIME(FakeRuntime):
    def versions(self):
        return {"toy": "7", "providers": ["ToyProvider"]}


class ToyMeter(FakeMeter):
    name = "toy"


class Needy(FakeMeter):
    name = "needy"

    def __init__(self, address):
        pass


class Second(FakeMeter):
    name = "memory"
"""
GOOD = {RUNTIME_GROUP: {"toy": "toy_extension:ROW"}, METER_GROUP: {"toy": "toy_extension:ToyMeter"}}


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs a distribution with these entry points on this and every child's path."""
    def installed(entry_points):
        (tmp_path / "toy_extension.py").write_text(MODULE)
        folder = tmp_path / "toy_extension-1.0.dist-info"
        folder.mkdir(exist_ok=True)
        (folder / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: toy-extension\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text("\n".join(
            "[{}]\n{}".format(group, "\n".join("{} = {}".format(*one) for one in rows.items()))
            for group, rows in entry_points.items()))
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    yield installed
    sys.modules.pop("toy_extension", None)


def test_a_registered_runtime_is_a_row_like_a_built_in_one(install):
    install(GOOD)
    registry = RuntimeRegistry()
    assert "toy" in registry and list(registry)[:1] == ["onnxruntime"] and len(registry) == 4
    row = registry["toy"]
    assert row.providers == ("ToyProvider",) and row.formats == ("toy",)
    assert registry.draws_of("ToyProvider") == "gpu" and registry.draws_of("Other") == "cpu"
    assert registry.problems() == {}


def test_a_registered_runtime_runs_in_a_measuring_child(install):
    install(GOOD)
    start = start_runtime("toy", ProcessChild)
    assert start.versions == {"toy": "7", "providers": ["ToyProvider"]} and start.problem is None


def test_a_registered_meter_is_read_like_a_built_in_one(install):
    install(GOOD)
    created = MeterRegistry().create()
    assert created.meters[-1].name == "toy" and created.broken == {}
    assert created.power_meters()[-1].rail_values() == [1.0]


@pytest.mark.parametrize("name, target, problem", [
    ("absent", "no_such_module:ROW", "cannot be loaded (ModuleNotFoundError: No module named"),
    ("absent", "toy_extension:NOTHING", "cannot be loaded (AttributeError"),
    ("toy", "toy_extension:ToyMeter", "loads a type, not a RuntimeTraits"),
    ("other", "toy_extension:ROW", "loads a row for the runtime 'toy'"),
    ("fake", "toy_extension:TAKEN", "names a runtime that exists already"),
    ("bare", "toy_extension:BARE", "loads a row with the hardware ()"),
])
def test_a_runtime_that_cannot_be_used_is_named_with_the_remedy(install, name, target, problem):
    install({RUNTIME_GROUP: {name: target}})
    registry = RuntimeRegistry()
    assert sorted(registry) == ["fake", "onnxruntime", "trtexec"]
    found = registry.problems()[name]
    assert found.startswith("the entry point {!r} ({}) {}".format(name, target, problem))
    assert found.endswith("repair, upgrade or uninstall the package that installs it")


@pytest.mark.parametrize("name, target, problem", [
    ("absent", "no_such_module:Meter", "cannot be loaded (ModuleNotFoundError: No module named"),
    ("toy", "toy_extension:ROW", "not a subclass of agents.meters.base.Meter"),
    ("other", "toy_extension:ToyMeter", "loads a meter named 'toy'"),
    ("memory", "toy_extension:Second", "names a meter that exists already"),
    ("needy", "toy_extension:Needy", "cannot be created without arguments (TypeError"),
])
def test_a_meter_that_cannot_be_used_is_named_with_the_remedy(install, name, target, problem):
    install({METER_GROUP: {name: target}})
    created = MeterRegistry().create()
    assert len(created.meters) == len({meter.name for meter in created.meters})
    assert problem in created.broken[name] and "uninstall the package" in created.broken[name]


def test_the_doctor_and_the_capabilities_show_what_is_broken(install, monkeypatch):
    install({RUNTIME_GROUP: {"absent": "no_such_module:ROW"},
             METER_GROUP: {"needy": "toy_extension:Needy"}})
    monkeypatch.setattr("agents.capabilities.RUNTIMES", RuntimeRegistry())
    monkeypatch.setattr("agents.meters.catalog.REGISTRY", MeterRegistry())
    found = capabilities(["fake"], sys.executable)
    assert sorted(found.extensions) == ["meter needy", "runtime absent"]
    findings = extension_findings(found)
    assert [one.state for one in findings] == ["lacks", "lacks"]
    assert all("uninstall the package" in one.text for one in findings)


def test_a_distribution_with_unreadable_metadata_hides_no_other(install, tmp_path):
    install(GOOD)
    folder = tmp_path / "odd-1.0.dist-info"
    folder.mkdir()
    (folder / "entry_points.txt").write_bytes(b"[x]\nno equals sign\n\xff")
    assert [one.name for one in load_extensions(RUNTIME_GROUP)] == ["toy"]


def test_a_child_with_a_built_in_runtime_does_not_look_for_others():
    code = ("import sys\nimport agents.child.program\nfrom agents.runtimes import runtime_named\n"
            "runtime_named('fake').versions()\n"
            "print(' '.join(name for name in sys.modules if name.startswith('agents.')))\n"
            "assert 'importlib.metadata' not in sys.modules, 'it did'")
    loaded = set(subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=ROOT, stdout=subprocess.PIPE,
        check=True).stdout.decode().split())
    assert {"agents.runtimes.fake", "agents.meters.memory"} <= loaded
    unwanted = ("agents.measurement", "agents.coordinator", "agents.jobs", "agents.meters.catalog",
                "agents.runtimes.trtexec", "agents.runtimes.onnxruntime_runner",
                "agents.child.node_times", "agents.child.dataset_inference")
    assert [name for name in loaded if name.startswith(unwanted)] == []
