"""What the search asks builders and devices for, as payloads of jobs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from searcher.spec.campaign import Campaign
from searcher.spec.measurement_plan import Plan
from searcher.spec.recipe import Recipe
from searcher.spec.runtime_options import Execution


@dataclass(frozen=True)
class Requests:
    """Payloads of one campaign; equal requests are equal documents, so that jobs are shared."""

    campaign: Campaign
    target: Mapping[str, Any]

    @property
    def execution(self) -> Execution:
        return self.campaign.executions[0]

    def compress(self, recipe: Recipe) -> dict[str, Any]:
        return {"task": self.campaign.task, "recipe": recipe.as_list(),
                "seed": self.campaign.seed, "target": dict(self.target)}

    def train(self, recipe: Recipe, fidelity: str, threads: int = 1) -> dict[str, Any]:
        """One thread while anything else runs: several would wait for each other."""
        return {**self.compress(recipe), "fidelity": fidelity, "threads": threads}

    def evaluate(self, sha256: str, split: str) -> dict[str, Any]:
        return {"task": self.campaign.task, "sha256": sha256, "split": split}

    def infer(self, model: Mapping[str, Any], inputs: Mapping[str, Any],
              attempt: int) -> dict[str, Any]:
        """``model`` and ``inputs`` hold sha256 and size_bytes. It runs as it is measured, many
        samples at once."""
        return {"model": dict(model), "inputs": dict(inputs), "runtime": self.execution.runtime,
                "options": self.execution.infer_options, "attempt": attempt}

    def measure(self, baseline: Mapping[str, Any], builds: Sequence[Mapping[str, Any]],
                plan: Plan, attempt: int, own_level: bool = False) -> dict[str, Any]:
        """``baseline`` and ``builds`` hold sha256 and file_bytes; the baseline's quiet level is
        sent along once it is known, unless the job is to go by its ``own_level``."""
        # Two recipes may give the same file; it is measured once.
        sizes = {build["sha256"]: build["file_bytes"] for build in builds}
        return {
            "reference": {"sha256": baseline["sha256"], "size_bytes": baseline["file_bytes"]},
            "candidates": [{"sha256": s, "size_bytes": size} for s, size in sizes.items()],
            "runtime": self.execution.runtime, "plan": plan.as_dict(),
            "options": self.execution.options,
            "quiet_level_s": None if own_level else baseline.get("quiet_level_s"),
            "input_seed": 0, "attempt": attempt,
        }
