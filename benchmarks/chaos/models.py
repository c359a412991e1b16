"""Model files of the agents' fake runtime; equal job payloads give equal files."""

import base64
import hashlib
import json
import random
from collections.abc import Mapping
from typing import Any

from agents.protocol import canonical_json

SAMPLES = 200
BASELINE = {"latency_s": 1e-4, "outputs": 400, "accuracy": 0.95}
WORST_DROP = 0.08


def fake_model(latency_s: float, outputs: int, seed: int) -> bytes:
    """A model file of the fake runtime; more ``outputs`` make it larger."""
    draw = random.Random(seed)
    return canonical_json({"fake_model": 1, "latency_s": latency_s, "load_s": 0.0005,
                           "outputs": [round(draw.random(), 6) for _ in range(outputs)]})


def built(kind: str, payload: Mapping[str, Any]) -> tuple[bytes, dict[str, Any]]:
    """The file and the result of a ``compress`` or ``train`` job."""
    fidelity = str(payload.get("fidelity", "untrained"))
    recipe = payload["recipe"]
    seed = _seed([payload["task"], recipe, payload["seed"]])
    draw = random.Random(seed)
    latency_s = BASELINE["latency_s"] * (draw.uniform(0.2, 1.1) if recipe else 1.0)
    outputs = round(BASELINE["outputs"] * (draw.uniform(0.1, 1.0) if recipe else 1.0))
    drop = draw.uniform(0, WORST_DROP) if recipe else 0.0
    content = fake_model(round(latency_s, 9), outputs, _seed([seed, fidelity]))
    accuracy = BASELINE["accuracy"] - drop - (0.01 if fidelity == "short" else 0.0)
    macs = round(1e6 * latency_s / BASELINE["latency_s"])
    return content, {
        "build_key": hashlib.sha256(canonical_json([kind, payload])).hexdigest()[:32],
        "sha256": hashlib.sha256(content).hexdigest(), "file_bytes": len(content),
        "graph_key": f"{seed:x}", "probe_outputs": json.loads(content)["outputs"],
        "report": {"macs": macs, "parameters": outputs, "layers": []},
        "evaluation": None if fidelity == "untrained" else evaluation(accuracy, seed),
        "built_steps": len(recipe), "reused_steps": 0}


def evaluation(accuracy: float, seed: int) -> dict[str, Any]:
    """Evaluation as a builder reports it; ``seed`` selects which of ``SAMPLES`` are correct."""
    correct = random.Random(seed).sample(range(SAMPLES), round(accuracy * SAMPLES))
    bits = bytearray((SAMPLES + 7) // 8)
    for index in correct:
        bits[index // 8] |= 128 >> index % 8
    return {"metric": "accuracy", "value": len(correct) / SAMPLES, "n": SAMPLES,
            "encoding": "bits", "scores": base64.b64encode(bytes(bits)).decode()}


def evaluated(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The result of an ``evaluate`` job."""
    seed = _seed([payload["sha256"], payload["split"]])
    return {"evaluation": evaluation(random.Random(seed).uniform(0.85, 0.95), seed)}


def checked(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The result of a ``check_task`` job: one row, and facts that are the same for each check."""
    return {"rows": [{"field": "task", "found": str(payload["task"])}],
            "facts": {
                "digest": f"{_seed(payload['task']):x}", "parts": {}, "metric": "accuracy",
                "samples": {"training": SAMPLES, "validation": SAMPLES, "test": SAMPLES},
                "epochs": {"short": 1, "full": 2}, "baseline_epochs": None, "parameters": 1000,
                "file_bytes": 4000, "step_s": 0.01, "epoch_s": 0.1, "data_bytes": 0}}


def _seed(value: Any) -> int:
    return int.from_bytes(hashlib.sha256(canonical_json(value)).digest()[:6], "big")
