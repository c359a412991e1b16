"""The suites as a third party uses them: a runtime and a meter from an installed distribution."""

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
EXTENSION = '''
"""A runtime and a meter of somebody else."""

from agents.meters.fake import FakeMeter
from agents.protocol import RuntimeTraits
from agents.runtimes.base import ModelRefused
from agents.runtimes.fake import FakeRuntime

ROW = RuntimeTraits("toy", "toy_extension", (("ToyExecutionProvider", "cpu"),), own_clock=True)


class RUNTIME(FakeRuntime):
    def versions(self):
        return {"toy": "1", "providers": ["ToyExecutionProvider"]}

    def prove(self, provider, model):
        if provider != "ToyExecutionProvider":
            raise ModelRefused("There is no {} here.".format(provider))


class ToyMeter(FakeMeter):
    name = "toy"
'''
SUITE = '''
import json

from fleetfront_testing.meters import PowerMeterContract
from fleetfront_testing.runtimes import RuntimeContract
from toy_extension import ToyMeter


class TestToyRuntime(RuntimeContract):
    name = "toy"

    def model(self, width):
        return json.dumps({"fake_model": 1, "outputs": [0.5] * width}).encode()


class TestToyMeter(PowerMeterContract):
    name = "toy"

    def working(self):
        return ToyMeter([1.0, 2.5])

    def broken(self):
        return ToyMeter(broken="the script is empty: give it values")
'''
ENTRY_POINTS = """
[fleetfront.runtimes]
toy = toy_extension:ROW
[fleetfront.meters]
toy = toy_extension:ToyMeter
"""


def test_an_installed_extension_passes_the_suites(tmp_path: Path) -> None:
    (tmp_path / "toy_extension.py").write_text(EXTENSION)
    (tmp_path / "test_toy.py").write_text(SUITE)
    installed = tmp_path / "toy_extension-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-extension\nVersion: 1\n")
    (installed / "entry_points.txt").write_text(ENTRY_POINTS)
    path = os.pathsep.join([str(tmp_path), str(REPOSITORY)])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_toy.py"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True,
        check=False)
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout and "skipped" not in done.stdout
