"""The wheel: what it puts where, and that the command runs from it."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
OURS = {"agents", "fleetfront_testing", "profiles", "strategies", "searcher", "fleetfront"}
SOURCES = ("agents", "fleetfront_testing", "profiles", "strategies", "searcher", "fleetfront.py",
           "pyproject.toml", "README.md", "LICENSE")
CLEAN = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
WHERE = """
import importlib, json, sys
print(json.dumps({name: importlib.import_module(name).__file__ for name in sys.argv[1:]}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from links to the sources, so that no earlier ``build`` folder slips in."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        (tree / name).symlink_to(REPOSITORY / name)
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out),
         str(tree)], check=True, capture_output=True, env=CLEAN)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A fresh environment with the wheel; dependencies come from the one that runs the tests.

    Those are appended to the path by a plain folder entry, under which no ``.pth`` file counts:
    the editable installation there stays unseen.
    """
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False, symlinks=True)
    site = next(home.glob("lib/python*/site-packages"))
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python"), "install",
         "--no-deps", "--no-index", "--quiet", str(wheel)], check=True, capture_output=True,
        env=CLEAN)
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home, site


def test_only_ours_lands_at_the_top_level(wheel):
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}
    assert {top.removesuffix(".py") for top in tops if not top.endswith(".dist-info")} == OURS


def test_every_source_file_and_profile_is_in(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    wanted = {str(file.relative_to(REPOSITORY)) for package in OURS - {"fleetfront"}
              for pattern in ("*.py", "*.toml")
              for file in (REPOSITORY / package).rglob(pattern)}
    assert wanted <= packed


def test_packages_resolve_to_the_installed_place(installed, tmp_path):
    home, site = installed
    done = subprocess.run([home / "bin" / "python", "-c", WHERE, *sorted(OURS)], text=True,
                          cwd=tmp_path, capture_output=True, check=True, env=CLEAN)
    found = json.loads(done.stdout)
    assert all(Path(place).is_relative_to(site) for place in found.values()), found


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"]])
def test_the_command_runs(installed, tmp_path, arguments):
    home, _ = installed
    done = subprocess.run([home / "bin" / "fleetfront", *arguments], cwd=tmp_path, text=True,
                          capture_output=True, check=False, env=CLEAN)
    assert done.returncode == 0, done.stderr
    assert "Usage: fleetfront" in done.stdout
