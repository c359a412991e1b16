"""A builder process: lease a job, build or evaluate, put the result; ends with its parent.

    lease --> compress | train | evaluate --> artifact (write, fsync, rename) --> result
      ^                                                                             |
      +-----------------------------------------------------------------------------+
"""

import argparse
import base64
import errno
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from searcher.artifacts import place_artifact
from searcher.builder import Build, Builder
from searcher.errors import BuildError, FleetfrontError
from searcher.evaluation import Evaluation
from searcher.recipe import Recipe
from searcher.tasks.catalog import task as task_of
from strategies.base import Target

BUILDERS_KEPT = 2


class Workshop:
    """Does builder jobs in ``folder`` (the campaign folder); keeps the last builders warm."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._builders: OrderedDict[tuple[str, int], Builder] = OrderedDict()

    def do(self, kind: str, payload: dict[str, Any]) -> dict[str, Any]:
        """The result of one job. Raises FleetfrontError with a reason the ledger can keep."""
        torch.set_num_threads(int(payload.get("threads", 1)))
        builder = self._builder(payload["task"], int(payload.get("seed", 0)))
        if kind == "evaluate":
            path = self.folder / "artifacts" / payload["sha256"]
            return {"evaluation": _evaluation(builder.evaluate(path, payload["split"]))}
        recipe = Recipe.from_list(payload["recipe"])
        target = Target(**{**payload["target"],
                           "number_formats": frozenset(payload["target"]["number_formats"])})
        if kind == "compress":
            return self._result(builder.compress(recipe, target))
        return self._result(builder.train(recipe, payload["fidelity"], target))

    def _builder(self, name: str, seed: int) -> Builder:
        if (name, seed) not in self._builders:
            self._builders[name, seed] = Builder(task_of(name), seed, self.folder / "builds")
        self._builders.move_to_end((name, seed))
        if len(self._builders) > BUILDERS_KEPT:
            self._builders.popitem(last=False)
        return self._builders[name, seed]

    def _result(self, build: Build) -> dict[str, Any]:
        place_artifact(self.folder / "artifacts", build.content)
        return {
            "build_key": build.key, "sha256": build.sha256, "file_bytes": len(build.content),
            "graph_key": build.graph_key, "probe_outputs": build.probe_outputs,
            "report": build.report, "built_steps": build.built_steps,
            "reused_steps": build.reused_steps,
            "evaluation": _evaluation(build.evaluation) if build.evaluation else None,
        }


def _evaluation(evaluation: Evaluation) -> dict[str, Any]:
    bits = base64.b64encode(np.packbits(evaluation.correct).tobytes()).decode()
    return {"metric": evaluation.metric, "value": evaluation.value, "n": evaluation.n,
            "correct": bits}


def outcome(do: Callable[[str, dict[str, Any]], dict[str, Any]], kind: str,
            payload: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """("done", result) or ("failed", {reason, message}): one candidate never ends a builder."""
    try:
        return "done", do(kind, payload)
    except BuildError as error:
        return "failed", {"reason": error.reason, "message": str(error)}
    except FleetfrontError as error:
        return "failed", {"reason": "user", "message": str(error)}
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        mend = " Free space on this disk, then run the same command again." if full else ""
        return "failed", {"reason": "disk_full" if full else "io", "message": f"{error}.{mend}"}
    except Exception as error:  # noqa: BLE001  process boundary: the campaign goes on without it
        return "failed", {"reason": "build", "message": f"{type(error).__name__}: {error}"}


def main() -> None:
    """``python -m searcher.builder_process --url URL --dir DIR`` with the token on stdin."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--parent-pid", type=int, default=0)
    arguments = parser.parse_args()
    print(arguments)


if __name__ == "__main__":
    main()
