"""The baseline: trained, evaluated and measured before anything is compared with it."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from searcher.client.jobs import JobFlow, entry_of
from searcher.errors import BuildError
from searcher.search.payloads import Requests
from searcher.spec.recipe import Recipe
from searcher.statistics.energy import figures, missing_energy
from searcher.statistics.intervals import paired_difference, wilson

PRIORITY = 50
ATTEMPTS = 20
FEWEST_BLOCKS = 40
"""The baseline is measured against itself for longer than a candidate: it is how the device's
quiet level is learnt."""


@dataclass(frozen=True)
class Baseline:
    """The reference of every comparison; ``document`` is what the ledger keeps of it."""

    document: dict[str, Any]
    correct: np.ndarray

    @property
    def sha256(self) -> str:
        return str(self.document["sha256"])

    @property
    def values(self) -> Mapping[str, float]:
        values: Mapping[str, float] = self.document["values"]
        return values

    @property
    def quiet_level_s(self) -> float:
        return float(self.document["quiet_level_s"])


def establish(flow: JobFlow, requests: Requests, known: Mapping[str, Any],
              threads: int) -> Baseline:
    """Train or find the baseline, measure it unless ``known`` holds its figures. It trains on
    ``threads``: nothing can go on beside it.

    Raises BuildError when it cannot be built or measured: without it there is no campaign.
    """
    built = flow.wait_for("train", requests.train(Recipe(), "full", threads), PRIORITY)
    if built["state"] != "done":
        raise BuildError(f"The baseline could not be built: {built.get('message')}",
                         built.get("reason") or "build")
    build = built["result"]
    evaluation = build["evaluation"]
    document = {**known, "sha256": build["sha256"], "file_bytes": build["file_bytes"]}
    if "values" not in known:
        document |= _figures(build, evaluation, _measure(flow, requests, build))
    return Baseline(document, unpack_bits(evaluation["correct"], evaluation["n"]))


def _measure(flow: JobFlow, requests: Requests, build: Mapping[str, Any]) -> Mapping[str, Any]:
    plan = requests.campaign.plan
    longer = replace(plan, min_blocks=max(plan.min_blocks, FEWEST_BLOCKS), max_s=2 * plan.max_s)
    for attempt in range(1, ATTEMPTS + 1):
        payload = requests.measure(build, [build], longer, attempt)
        entry = entry_of(flow.wait_for("measure", payload, PRIORITY), build["sha256"])
        without = missing_energy(
            entry.get("summary"), (o.name for o in requests.campaign.objectives))
        if entry["verdict"] == "valid" and without is None:
            return entry
    reasons = [*entry["reasons"], *([without] if without else [])]
    raise BuildError(f"The baseline could not be measured: {', '.join(reasons)}.",
                     "baseline_not_measured")


def _figures(build: Mapping[str, Any], evaluation: Mapping[str, Any],
             entry: Mapping[str, Any]) -> dict[str, Any]:
    level = entry["quiet_level_s"]
    hits = round(evaluation["value"] * evaluation["n"])
    energy, energy_intervals = figures(entry.get("summary"))
    return {
        "quiet_level_s": level, "measurement": entry.get("measurement"),
        "values": {"accuracy": evaluation["value"], "accuracy_drop": 0.0, "latency_ratio": 1.0,
                   "latency_s": level, "file_bytes": build["file_bytes"],
                   "macs": build["report"]["macs"], **energy},
        "intervals": {"accuracy": list(wilson(hits, evaluation["n"])),
                      "latency_s": [level * entry["ratio_low"], level * entry["ratio_high"]],
                      **energy_intervals},
    }


def accuracy_of(evaluation: Mapping[str, Any], baseline: np.ndarray
                ) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Accuracy and what is lost against what the ``baseline`` had right, in pairs, and their
    intervals."""
    correct = unpack_bits(evaluation["correct"], evaluation["n"])
    drop, low, high = paired_difference(baseline, correct)
    return {"accuracy": evaluation["value"], "accuracy_drop": drop}, {
        "accuracy": list(wilson(int(correct.sum()), evaluation["n"])),
        "accuracy_drop": [low, high]}


def unpack_bits(correct: str, n: int) -> np.ndarray:
    """Booleans of an evaluation as it travels."""
    return np.unpackbits(np.frombuffer(base64.b64decode(correct), np.uint8), count=n).astype(bool)
