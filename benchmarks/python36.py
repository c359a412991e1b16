"""Runs the agent with Python 3.6 and the newest ONNX Runtime for it, from enrolment to measurement.

    python -m benchmarks.python36

The first run creates an environment in the user's cache folder with pip. The device enrols as a
Jetson TX2; its reported facts (another processor, ONNX Runtime 1.10) determine the exported files.
Requires Python 3.6: ``$PYTHON36``, pyenv's, or ``python3.6`` on the ``PATH``.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from agents.protocol import PROTOCOL_VERSION
from benchmarks.agent import old_python
from benchmarks.checks import Check, conclude, holds
from benchmarks.old_runtime import outputs_now
from benchmarks.tx2_files import TX2, files, format_of, pictures
from profiles.schema import profile
from searcher.artifacts.formats.number_formats import tolerance
from searcher.artifacts.store import place_artifact
from searcher.benchmark.one_file import FileBenchmark, file_benchmark, job_runner, measure_request
from searcher.client.http import CoordinatorClient
from searcher.client.records import Device
from searcher.devices.profile_check import compared
from searcher.devices.target import target_of
from searcher.local.process_tree import Tree, build_agent, tree
from searcher.spec.measurement_plan import plan_of
from searcher.statistics.parity import parity
from searcher.tasks.datasets.pinned_files import cache_folder

PACKAGES = ("onnxruntime==1.10.0", "numpy==1.19.5")
NAME = "python36"
ENROL_S = 120.0
ATTEMPTS = 8
"""Number of attempts on a busy machine."""

OUTPUTS = """
import sys, numpy, onnxruntime
inputs = numpy.load(sys.argv[1])
for path in sys.argv[2:]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    numpy.save(path + ".npy", session.run(None, {session.get_inputs()[0].name: inputs})[0])
"""


def environment() -> Path:
    """An interpreter that has ``PACKAGES``."""
    found = old_python()
    if found is None:
        raise SystemExit("There is no Python 3.6 here: set PYTHON36 to one, or: pyenv install 3.6")
    folder = cache_folder() / "python36-onnxruntime-1.10.0"
    python = folder / "bin" / "python"
    try:
        subprocess.run([python, "-c", "import onnxruntime, numpy"], check=True,
                       capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        for command in ([found, "-m", "venv", "--clear", folder], [*pip, "pip==21.3.1"],
                        [*pip, *PACKAGES]):
            subprocess.run([str(word) for word in command], check=True)
    return python


def enrolled(grown: Tree, python: Path) -> Device:
    """Starts the agent with ``python``; returns its device as the coordinator shows it."""
    archive = grown.directory / "agent.pyz"
    build_agent(archive)
    token = grown.client.create_enrolment(NAME, "agent", TX2).token
    file = grown.directory / "token"
    file.write_text(token)
    file.chmod(0o600)
    grown.spawn("device", [
        str(python), str(archive), "--coordinator", grown.client.url, "--token-file", str(file),
        "--name", NAME, "--spool", str(grown.directory / "device"),
        "--parent-pid", str(os.getpid())])
    ends_s = time.monotonic() + ENROL_S
    while time.monotonic() < ends_s:
        for row in grown.client.devices():
            if row.name == NAME:
                return row
        time.sleep(0.2)
    raise SystemExit(f"The agent did not enrol within {ENROL_S:g} s; see {grown.directory}/logs.")


def measured(client: CoordinatorClient, folder: Path, file: Path) -> FileBenchmark:
    """Measures as ``fleetfront measure`` does, up to ``ATTEMPTS`` times on a busy machine."""
    content = file.read_bytes()
    sha256 = place_artifact(folder / "artifacts", content).name
    run_job = job_runner(client, NAME)
    for _ in range(ATTEMPTS):
        found = file_benchmark(
            file, run_job(measure_request(sha256, len(content), plan_of("quick"))))
        if found.verdict == "valid":
            break
    return found


def alike(python: Path, made: list[Path], folder: Path) -> list[str]:
    """Differences between the outputs of the old and the installed runtime, one per file."""
    inputs = pictures(4).numpy()
    np.save(folder / "inputs.npy", inputs)
    subprocess.run([str(python), "-c", OUTPUTS, str(folder / "inputs.npy"), *map(str, made)],
                   check=True, env={**os.environ, "ORT_DISABLE_TELEMETRY": "1"})
    old = [np.load(f"{file}.npy") for file in made]
    differences = (parity(new.ravel().tolist(), other.ravel().tolist(), tolerance("float32"))
                   for new, other in zip(outputs_now(made, inputs), old, strict=True))
    return [f"{file.name}: {why}" for file, why in zip(made, differences, strict=True) if why]


def checks(python: Path, folder: Path) -> list[Check]:
    with tree(folder, builders=0, agent=False) as grown:
        row = enrolled(grown, python)
        known = compared(profile(TX2), row.fingerprint, row.capabilities)
        for told in known.contradictions:
            print(f"{NAME}: {told}")
        target = target_of(known.profile)
        (folder / "files").mkdir()
        made = files(target, folder / "files")
        formats = sorted({format_of(file) for file in made.values()})
        chosen = {name: file for name, file in made.items() if name.startswith("lenet5")}
        benchmarks = {name: measured(grown.client, folder, file) for name, file in chosen.items()}
    for name, found in benchmarks.items():
        latency_s = found.values["latency_s"]
        shown = "no quiet blocks" if latency_s is None else f"{latency_s * 1e6:.1f} us"
        print(f"{name}: {found.verdict}, {shown}")
    valid = sum(found.verdict == "valid" for found in benchmarks.values())
    environments: list[Any] = [found.environment for found in benchmarks.values()]
    pythons = {environment["identity"]["python"] for environment in environments}
    runtimes = {environment["runtime"]["onnxruntime"] for environment in environments}
    differences = alike(python, list(made.values()), folder)
    return [
        holds("Python of the agent", {p.rpartition(".")[0] for p in pythons} == {"3.6"},
              ", ".join(pythons), "3.6"),
        holds("ONNX Runtime that measured", runtimes == {"1.10.0"}, ", ".join(runtimes), "1.10.0"),
        holds("opset and IR version of the files", formats == [(15, 8)],
              ", ".join(f"{opset}/{ir}" for opset, ir in formats), "15/8"),
        holds(f"files measured, protocol {PROTOCOL_VERSION}", valid == len(benchmarks),
              f"{valid} of {len(benchmarks)} valid", "all"),
        holds("files that compute the same as today", not differences,
              "; ".join(differences)[:300] or f"{len(made)} of {len(made)}", "all"),
    ]


def main() -> int:
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    python = environment()
    with tempfile.TemporaryDirectory(prefix="fleetfront-") as folder:
        return conclude(checks(python, Path(folder)), "the agent under Python 3.6")


if __name__ == "__main__":
    sys.exit(main())
