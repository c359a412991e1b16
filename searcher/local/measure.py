"""``fleetfront measure`` without a running coordinator: on this machine, in a process tree that the
command starts and ends."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from agents.protocol import ArtifactRef, MeasurePlan
from searcher.artifacts.store import place_artifact
from searcher.benchmark import two_files
from searcher.benchmark.one_file import (
    FileBenchmark,
    compare_on,
    device_of,
    file_benchmark,
    inspect,
    job_runner,
    measure_request,
)
from searcher.benchmark.two_files import FileComparison
from searcher.client.upload import checked_size
from searcher.errors import ProtocolError
from searcher.jobs.measure import MeasureRequest
from searcher.local.process_tree import Tree, await_agent, tree
from searcher.spec.runtime_options import DEFAULT, LOCAL_DEVICE, Execution


def measure_file(model: Path, directory: Path, plan: MeasurePlan,
                 execution: Execution = DEFAULT) -> FileBenchmark:
    """Benchmark one ONNX file on this machine, in its own process tree. Raises UserError."""
    size_bytes = checked_size(model)
    sha256 = place_artifact(directory / "artifacts", model.read_bytes()).name
    request = measure_request(sha256, size_bytes, plan, execution)
    try:
        return _measured(model, directory, request, execution, inspect_first=None)
    except ProtocolError as error:
        if error.status != 409:
            raise
    # The file was uploaded to this folder earlier and is not inspected yet.
    return _measured(model, directory, request, execution, inspect_first=sha256)


def _measured(
    model: Path, directory: Path, request: MeasureRequest, execution: Execution,
    inspect_first: str | None,
) -> FileBenchmark:
    with _processes(directory, 0 if inspect_first is None else 1, execution) as processes:
        if inspect_first is not None:
            inspect(processes.client, model, inspect_first, lambda text: processes.check())
        run_job = job_runner(processes.client, LOCAL_DEVICE, say=lambda text: processes.check())
        job = run_job(request)
    return file_benchmark(model, job, execution)


@contextmanager
def _processes(directory: Path, builders: int, execution: Execution) -> Iterator[Tree]:
    """A process tree whose agent offers ``execution``. Raises UserError when it does not."""
    with tree(directory, builders, agent=True, runtime=execution.runtime) as processes:
        if execution != DEFAULT:
            await_agent(processes)
            device_of(processes.client, LOCAL_DEVICE, execution)
        yield processes


def compare_files(model: Path, other: Path, directory: Path, seconds: float,
                  say: Callable[[str], None], execution: Execution = DEFAULT) -> FileComparison:
    """Compare two ONNX files on this machine, in its own process tree. Raises UserError."""
    own, reference = (
        ArtifactRef(place_artifact(directory / "artifacts", path.read_bytes()).name,
                    checked_size(path))
        for path in (model, other))
    try:
        with _processes(directory, 0, execution) as processes:
            run_job = job_runner(processes.client, LOCAL_DEVICE, say=lambda text: processes.check())
            return two_files.compare_files(
                model, other, (own, reference), run_job, seconds, say, execution)
    except ProtocolError as error:
        if error.status != 409:
            raise
    # One of the files was uploaded to this folder earlier and is not inspected yet.
    with _processes(directory, 1, execution) as processes:
        return compare_on(processes.client, model, other, LOCAL_DEVICE, seconds, say,
                          execution=execution)
