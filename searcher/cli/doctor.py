"""``fleetfront doctor``: check this machine, and show how to correct each problem."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import typer

from searcher.cli.options import HERE, Directory, Format, OutputFormat, emit, print_table


def command(directory: Directory = HERE, format: OutputFormat = Format.table) -> None:
    """Check Python, packages, cores, memory, disk, runtime and power meters of this machine."""
    rows = [{"check": name, "state": state, "found": found, "fix": fix}
            for name, (state, found, fix) in ((c.__name__[1:], c(directory)) for c in CHECKS)]
    emit(rows, rows, format, lambda: print_table(
        "doctor", ("check", "state", "found", "fix"),
        [[row["check"], row["state"], row["found"], row["fix"]] for row in rows]))
    if any(row["state"] == "fails" for row in rows):
        raise typer.Exit(1)


Answer = tuple[str, str, str]


def _python(directory: Path) -> Answer:
    version = ".".join(map(str, sys.version_info[:3]))
    return ("works" if sys.version_info >= (3, 11) else "fails"), version, ""


def _packages(directory: Path) -> Answer:
    from importlib import metadata  # takes a sixth of the start time of every command

    names = ("torch", "onnxruntime", "optuna", "psutil", "sqlite-utils", "torch-pruning")
    missing, found = [], []
    for name in names:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return "fails", f"missing: {', '.join(missing)}", f"pip install {' '.join(missing)}"
    return "works", ", ".join(found), ""


def _processor(directory: Path) -> Answer:
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = psutil.getloadavg()[0]
    if load > 0.5:
        return "warns", f"{cores} cores, load {load:.1f}", (
            "other programs run: measurements wait for quiet periods and may end as busy")
    return "works", f"{cores} cores, load {load:.1f}", ""


def _memory(directory: Path) -> Answer:
    import psutil

    free = psutil.virtual_memory().available
    fix = "" if free > 2e9 else "each builder takes about 0.6 GB: set builders = 1 in the campaign"
    return ("works" if free > 2e9 else "warns"), f"{free / 1e9:.1f} GB available", fix


def _disk(directory: Path) -> Answer:
    place = next(p for p in (directory.absolute(), *directory.absolute().parents) if p.exists())
    free = shutil.disk_usage(place).free
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        return "fails", f"{place}: {error}", "choose a writable folder with --dir"
    fix = "" if free > 1e9 else "free some space, or choose another --dir"
    return ("works" if free > 1e9 else "warns"), f"{free / 1e9:.0f} GB free at {place}", fix


def _runtime(directory: Path) -> Answer:
    """Run one inference: only this proves that the runtime works."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper

    from searcher.artifacts.formats.onnx import session

    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    answer = session(onnx.ModelProto.SerializeToString(model)).run(
        None, {"x": np.ones(1, np.float32)})
    works = bool(answer[0][0] == -1)
    return ("works" if works else "fails"), "onnxruntime computed on the CPU provider", ""


def _meters(directory: Path) -> Answer:
    domains = sorted(Path("/sys/class/powercap").glob("intel-rapl:*/energy_uj"))
    rails = sorted(Path("/sys/bus/i2c/drivers").glob("ina3221*"))
    if not domains and not rails:
        return "none", "no power meter", (
            "energy cannot be measured on this machine; objectives without energy can")
    unreadable = [str(d) for d in domains if not os.access(d, os.R_OK)]
    if unreadable:
        return "warns", f"{unreadable[0]} is not readable", "sudo chmod o+r that file"
    return "works", ", ".join(map(str, [*domains, *rails])), ""


def _extensions(directory: Path) -> Answer:
    """Extensions in installed distributions, except meters, which belong to agents."""
    from agents.protocol import RUNTIMES
    from searcher.artifacts.formats.registry import FORMATS
    from searcher.jobs.registry import KINDS
    from searcher.tasks.metrics.registry import METRICS
    from searcher.workers.registry import POOLS
    from strategies import catalog

    registries = (FORMATS, METRICS, POOLS, KINDS)
    found = [place.name for registry in (catalog, *registries)
             for place in registry.places().values() if place.owner != catalog.OWN]
    problems = [problem.message for registry in (catalog, *registries)
                for problem in registry.problems()]
    problems += RUNTIMES.problems().values()
    if problems:
        return "warns", "; ".join(problems), "upgrade or uninstall these distributions"
    return ("works", ", ".join(found), "") if found else ("none", "no extension", "")


def _npm(directory: Path) -> Answer:
    if shutil.which("npm"):
        return "works", "npm", ""
    return "warns", "no npm", "only full MNIST (lenet5-mnist-full) needs it: apt install npm"


CHECKS: tuple[Callable[[Path], Answer], ...] = (
    _python, _packages, _processor, _memory, _disk, _runtime, _meters, _extensions, _npm)
