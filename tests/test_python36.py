"""The agents' own tests under a real Python 3.6, as it runs on old boards."""

import os
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
SCRIPT = REPOSITORY / "tests" / "python36.sh"
FOLDER = REPOSITORY / ".venv" / "python36"


@pytest.fixture(scope="module")
def python36(tmp_path_factory):
    """The interpreter that ``make test`` prepared; prepared now when it did not."""
    folder = FOLDER if FOLDER.parent.is_dir() else tmp_path_factory.mktemp("python36")
    python = folder / "environment" / "bin" / "python"
    if not python.exists():
        subprocess.run(["sh", SCRIPT, folder], check=True, capture_output=True)
    if (folder / "absent").exists():
        pytest.skip((folder / "absent").read_text().strip())
    return python


def test_agents_and_wire_pass_on_python_36(python36):
    environment = {key: value for key, value in os.environ.items()
                   if key not in ("PYTHONPATH", "PYTEST_ADDOPTS", "PYTEST_CURRENT_TEST")}
    # The project's pytest settings, plugin and other fixtures are for newer versions.
    done = subprocess.run(
        [python36, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", str(REPOSITORY),
         "-p", "no:cacheprovider", "-p", "no:fleetfront", "--noconftest",
         "-p", "tests.agents_tests.conftest", "tests/agents_tests", "tests/wire"],
        cwd=REPOSITORY, env={**environment, "PYTHONDONTWRITEBYTECODE": "1"}, text=True,
        capture_output=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


def test_without_one_the_script_says_why(tmp_path):
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYENV_ROOT": str(tmp_path)}
    done = subprocess.run(["sh", SCRIPT, tmp_path / "x"], env=environment, text=True,
                          capture_output=True, check=False)
    if (tmp_path / "x" / "environment").exists():
        pytest.skip("this system has a python3.6 in /usr/bin")
    assert done.returncode == 0
    assert "PYTHON36" in (tmp_path / "x" / "absent").read_text()
