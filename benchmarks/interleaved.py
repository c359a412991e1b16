"""Times many ONNX files in one interleaved pass against one reference, with the real agent.

    python -m benchmarks.interleaved REFERENCE.onnx CANDIDATE.onnx ... [--plan standard]

Starts a coordinator and an agent (``searcher.local.process_tree.tree``). Each measure job has a few
files and alternates them with the same reference, block by block in one child process. ``busy``
results are measured again."""

import argparse
import random
import secrets
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from searcher.artifacts.store import place_artifact
from searcher.cli.options import print_table
from searcher.local.process_tree import Tree, tree
from searcher.spec.measurement_plan import plan_of
from searcher.spec.runtime_options import LOCAL_DEVICE

SET = 8
ATTEMPTS = 6


@dataclass(frozen=True)
class Ratio:
    """p50 of a file relative to the reference's, with its 95 % interval, over ``n`` blocks;
    ``latency_s`` is the ratio times the reference's quiet level."""

    value: float
    low: float
    high: float
    n: int
    latency_s: float


def measure_together(files: Mapping[str, Path], reference: Path, folder: Path,
                     plan: str = "standard", set_size: int = SET) -> dict[str, Ratio]:
    """Name -> ratio of each of ``files`` to ``reference``, without those that stay busy.

    Sets are drawn at random, so that files of one origin do not share all their sets. The ledger
    in ``folder`` holds the raw samples.
    """
    asked = {name: _file(folder, path) for name, path in files.items()}
    known = _file(folder, reference)
    found: dict[str, Ratio] = {}
    with tree(folder, builders=0, agent=True) as grown:
        level_s = _quiet_level_s(grown, known, plan)
        for attempt in range(ATTEMPTS):
            missing = {entry["sha256"]: entry for name, entry in asked.items()
                       if name not in found}
            waiting = list(missing.values())
            random.Random(attempt).shuffle(waiting)
            for start in range(0, len(waiting), set_size):
                result = _measured(grown, known, waiting[start:start + set_size], plan, level_s)
                ratios = _ratios(result)
                found |= {name: ratios[entry["sha256"]] for name, entry in asked.items()
                          if entry["sha256"] in ratios}
            if len(found) == len(asked):
                break
    for name in asked.keys() - found.keys():
        print(f"not measured in {ATTEMPTS} attempts: {name}")
    return found


def _file(folder: Path, path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    placed = place_artifact(folder / "artifacts", content)
    return {"sha256": placed.name, "size_bytes": len(content)}


def _quiet_level_s(grown: Tree, reference: dict[str, Any], plan: str) -> float | None:
    result = _measured(grown, reference, [reference], plan, None)
    level = result.get("quiet_level_s")
    return None if level is None else float(level)


def _measured(grown: Tree, reference: dict[str, Any], candidates: Sequence[dict[str, Any]],
              plan: str, level_s: float | None) -> dict[str, Any]:
    job = grown.client.submit_job("measure", f"device:{LOCAL_DEVICE}", {
        "reference": reference, "candidates": list(candidates), "runtime": "onnxruntime",
        "options": {"threads": 1, "graph_level": "all", "batch": 1},
        "plan": plan_of(plan)._asdict(), "quiet_level_s": level_s, "input_seed": 0,
        "attempt": secrets.randbelow(2**31)})
    while not job.has_ended:
        grown.check()
        job = grown.client.wait_job(job.job, wait_s=2.0)
    if job.state != "done":
        raise SystemExit(f"The files could not be measured: {job.why}.")
    return dict(job.result or {})


def _ratios(result: Mapping[str, Any]) -> dict[str, Ratio]:
    return {m["sha256"]: Ratio(m["ratio"], m["ratio_low"], m["ratio_high"], m["n"], m["latency_s"])
            for m in result["measurements"] if m["verdict"] == "valid"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reference", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--plan", default="standard", help="quick, standard or strict")
    parser.add_argument("--dir", type=Path, help="keep the ledger here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fleetfront-") as scratch:
        found = measure_together({str(f): f for f in arguments.files}, arguments.reference,
                                 arguments.dir or Path(scratch), arguments.plan)
    print_table(f"against {arguments.reference}", ("file", "p50", "ratio", "x faster", "blocks"), [
        (name, f"{r.latency_s * 1e6:.1f} us", f"{r.value:.4f} [{r.low:.4f}..{r.high:.4f}]",
         f"{1 / r.value:.2f}", str(r.n)) for name, r in found.items()])


if __name__ == "__main__":
    main()
