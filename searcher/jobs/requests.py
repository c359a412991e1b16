"""What a job may ask for: pools, kinds, and the shape of their payloads."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agents import protocol
from searcher.errors import ProtocolError, UserError
from searcher.jobs.fields import list_of, number_of, sha256_of, table_of, text_of, whole_of
from searcher.ledger.rows import text
from searcher.spec.fidelity import TRAINED
from searcher.spec.recipe import Recipe

POOL = re.compile(r"builder|device:[A-Za-z0-9][A-Za-z0-9_.-]{0,79}")
BUILDER = "builder"
KINDS = {"builder": ("compress", "train", "evaluate", "inspect"), "device": protocol.DEVICE_KINDS}
MOST_CANDIDATES = 64
BUILD_DEADLINE_S = 86_400.0
INSPECT_DEADLINE_S = 600.0
INFER_DEADLINE_S = 3600.0
PREPARE_DEADLINE_S = 7200.0


_DEADLINES_S = {"inspect": INSPECT_DEADLINE_S, "infer": INFER_DEADLINE_S,
                "prepare": PREPARE_DEADLINE_S}


def key_of(kind: str, pool: str, payload: Mapping[str, Any]) -> str:
    """The identity of a job: equal requests have equal keys. Raises ProtocolError for NaN."""
    try:
        document = text([kind, pool, payload])
    except ValueError as error:
        raise ProtocolError(f"The payload is no plain JSON: {error}.") from error
    return hashlib.sha256(document.encode()).hexdigest()


def check(kind: str, pool: str, payload: Mapping[str, Any]) -> None:
    """Raises ProtocolError (400) unless this is a job that a builder or device can understand."""
    if not POOL.fullmatch(pool):
        raise ProtocolError(f"pool = {pool[:120]!r} must be \"builder\" or \"device:<name>\".")
    kinds = KINDS["builder" if pool == BUILDER else "device"]
    if kind not in kinds:
        raise ProtocolError(
            f"kind = {kind[:40]!r} does not run in pool {pool!r}. Use: {', '.join(kinds)}."
        )
    if kind == "measure":
        measure_request(payload)
    elif kind == "infer":
        infer_request(payload)
    elif kind == "prepare":
        prepare_request(payload)
    elif kind == "evaluate":
        EvaluateRequest.of(payload)
    elif kind == "inspect":
        sha256_of(payload.get("sha256"), "sha256")
    else:
        BuildRequest.of(kind, payload)


@dataclass(frozen=True)
class BuildRequest:
    """The payload of ``compress`` and ``train``."""

    task: str
    recipe: Recipe
    seed: int
    fidelity: str
    target: dict[str, Any]

    @classmethod
    def of(cls, kind: str, payload: Mapping[str, Any]) -> "BuildRequest":
        fidelity = "untrained"
        if kind == "train":
            fidelity = text_of(payload.get("fidelity"), "fidelity", 20)
            if fidelity not in TRAINED:
                raise ProtocolError(f"fidelity = {fidelity!r} must be one of {list(TRAINED)}.")
        steps = list_of(payload.get("recipe"), "recipe", 64)
        try:
            recipe = Recipe.from_list([table_of(step, "recipe step") for step in steps])
        except UserError as error:
            raise ProtocolError(str(error)) from error
        return cls(
            text_of(payload.get("task"), "task"), recipe,
            whole_of(payload.get("seed"), "seed"), fidelity,
            table_of(payload.get("target"), "target"),
        )


@dataclass(frozen=True)
class EvaluateRequest:
    """The payload of ``evaluate``: the file as the host runs it, or, with ``outputs``, as a device
    did: (the job of kind ``infer``, the sha256 of what it gave)."""

    task: str
    sha256: str
    split: str
    outputs: tuple[int, str] | None = None

    @classmethod
    def of(cls, payload: Mapping[str, Any]) -> "EvaluateRequest":
        split = text_of(payload.get("split"), "split", 20)
        if split not in ("validation", "test"):
            raise ProtocolError(f"split = {split!r} must be \"validation\" or \"test\".")
        outputs = None
        if payload.get("outputs") is not None:
            found = table_of(payload["outputs"], "outputs")
            outputs = (whole_of(found.get("job"), "outputs.job"),
                       sha256_of(found.get("sha256"), "outputs.sha256"))
        return cls(
            text_of(payload.get("task"), "task"), sha256_of(payload.get("sha256"), "sha256"), split,
            outputs)


def measure_request(payload: Mapping[str, Any]) -> protocol.MeasurePayload:
    """The payload of ``measure`` as the agent will read it. Raises ProtocolError (400)."""
    try:
        request = protocol.decode(protocol.MeasurePayload, dict(payload))
    except protocol.ProtocolError as error:
        raise ProtocolError(str(error)) from error
    if not 1 <= len(request.candidates) <= MOST_CANDIDATES:
        raise ProtocolError(
            f"candidates must name 1 to {MOST_CANDIDATES} files, got {len(request.candidates)}."
        )
    for file in (request.reference, *request.candidates):
        sha256_of(file.sha256, "sha256")
        whole_of(file.size_bytes, "size_bytes", 1)
    number_of(request.plan.max_s, "plan.max_s", 0.0)
    number_of(request.plan.gate, "plan.gate", 0.0)
    number_of(request.plan.energy_s, "plan.energy_s", 0.0)
    number_of(request.plan.idle_s, "plan.idle_s", 0.0)
    text_of(request.runtime, "runtime", 40)
    whole_of(request.attempt, "attempt")
    return request


def infer_request(payload: Mapping[str, Any]) -> protocol.InferPayload:
    """The payload of ``infer`` as the agent will read it. Raises ProtocolError (400)."""
    try:
        request = protocol.decode(protocol.InferPayload, dict(payload))
    except protocol.ProtocolError as error:
        raise ProtocolError(str(error)) from error
    _check_files(request, request.model, request.inputs)
    return request


def prepare_request(payload: Mapping[str, Any]) -> protocol.PreparePayload:
    """The payload of ``prepare`` as the agent will read it. Raises ProtocolError (400)."""
    try:
        request = protocol.decode(protocol.PreparePayload, dict(payload))
    except protocol.ProtocolError as error:
        raise ProtocolError(str(error)) from error
    _check_files(request, request.model)
    return request


def _check_files(request: protocol.InferPayload | protocol.PreparePayload,
                 *files: protocol.ArtifactRef) -> None:
    for file in files:
        sha256_of(file.sha256, "sha256")
        whole_of(file.size_bytes, "size_bytes", 1)
    text_of(request.runtime, "runtime", 40)
    whole_of(request.attempt, "attempt")


def stored_measure_request(payload: Mapping[str, Any]) -> protocol.MeasurePayload:
    """The same of a payload that was checked when it was submitted: without looking again."""
    def made(message: Any, found: Mapping[str, Any]) -> Any:
        return message(**{name: found[name] for name in message._fields if name in found})

    return made(protocol.MeasurePayload, {  # type: ignore[no-any-return]
        **payload, "plan": made(protocol.MeasurePlan, payload["plan"]),
        "reference": made(protocol.ArtifactRef, payload["reference"]),
        "candidates": [made(protocol.ArtifactRef, file) for file in payload["candidates"]]})


def device_of(pool: str) -> str:
    return pool.removeprefix("device:")


def files_of(kind: str, payload: Mapping[str, Any]) -> tuple[str, ...]:
    """The artifacts that whoever gets the job will read, by sha256; models first."""
    if kind == "evaluate":
        request = EvaluateRequest.of(payload)
        return (request.sha256 if request.outputs is None else request.outputs[1],)
    if kind == "infer":
        asked = infer_request(payload)
        return asked.model.sha256, asked.inputs.sha256
    if kind == "prepare":
        return (prepare_request(payload).model.sha256,)
    if kind == "inspect":
        return (sha256_of(payload.get("sha256"), "sha256"),)
    if kind == "measure":
        measured = measure_request(payload)
        return tuple(file.sha256 for file in (measured.reference, *measured.candidates))
    return ()


def models_of(kind: str, payload: Mapping[str, Any]) -> tuple[str, ...]:
    """Those of ``files_of`` that are run, and therefore have to be inspected; data are not."""
    files = files_of(kind, payload)
    if kind == "evaluate" and EvaluateRequest.of(payload).outputs is not None:
        return ()
    return () if kind == "inspect" else files[:1] if kind == "infer" else files


def deadline_s(kind: str, payload: Mapping[str, Any]) -> float:
    """How long a lease of this job may last, heartbeats or not.

    For a measurement: the plan's longest, its wait for a cool device, and a wide margin for
    downloads, loading and children that crash and are started anew.
    """
    if kind != "measure":
        return _DEADLINES_S.get(kind, BUILD_DEADLINE_S)
    # The payload was checked when the job was submitted.
    plan = payload["plan"]
    longest_s = (plan["max_s"] + plan.get("processes", 1) * plan.get("warmup_max_s", 0.0)
                 + plan.get("energy_s", 0.0) + 2 * plan.get("idle_s", 0.0))
    return float(120.0 + plan.get("cool_down_s", 0.0)
                 + len(payload["candidates"]) * (3.0 * longest_s + 30.0))
