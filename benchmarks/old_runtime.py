"""Checks that files load in the installed ONNX Runtime and in 1.11, with the same outputs."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from benchmarks.checks import Check, holds
from searcher.artifacts.formats.number_formats import tolerance
from searcher.errors import UserError
from searcher.statistics.parity import parity

NEWEST_OPSET_OF_111 = 16


def opset_of(file: Path) -> int:
    """The opset of the standard operators."""
    model = onnx.load(file)
    return max(int(entry.version) for entry in model.opset_import
               if entry.domain in ("", "ai.onnx"))


def outputs_now(files: Sequence[Path], inputs: np.ndarray) -> list[np.ndarray]:
    """First output of each file for ``inputs`` in the installed ONNX Runtime, its defaults."""
    found = []
    for file in files:
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        found.append(session.run(None, {session.get_inputs()[0].name: inputs})[0])
    return found


def check_files(files: Sequence[Path], inputs: np.ndarray, label: str) -> list[Check]:
    """Checks that every file loads, and that 1.11 computes the same outputs. The second check fails
    with a message when ``benchmarks/ort111.py`` is missing."""
    now = outputs_now(files, inputs)
    finite = sum(bool(np.isfinite(o).all()) for o in now)
    checks = [holds(f"{label}: files load in ONNX Runtime {onnxruntime.__version__}",
                    finite == len(files), f"{finite} of {len(files)}", "all")]
    try:
        ort111 = importlib.import_module("benchmarks.ort111")
    except ImportError:
        print("benchmarks/ort111.py is missing: ONNX Runtime 1.11 is not checked.")
        return [*checks, holds(f"{label}: same outputs in ONNX Runtime 1.11", False,
                               "not checked", "all")]
    asked = [(f, o) for f, o in zip(files, now, strict=True) if opset_of(f) <= NEWEST_OPSET_OF_111]
    try:
        old = list(ort111.outputs_of_ort111([f for f, _ in asked], inputs))
    except (ort111.Ort111Error, UserError) as error:
        return [*checks, holds(f"{label}: same outputs in ONNX Runtime 1.11", False,
                               str(error)[:300], "all")]
    wrong = [f"{file.name}: {why}" for (file, new), other in zip(asked, old, strict=True)
             if (why := difference(new, other)) is not None]
    for line in wrong:
        print(f"ONNX Runtime 1.11: {line}")
    same = sum(bool(np.array_equal(new, np.asarray(other, np.float32).reshape(new.shape)))
               for (_, new), other in zip(asked, old, strict=True) if np.size(other) == new.size)
    return [*checks, holds(
        f"{label}: same outputs in ONNX Runtime 1.11", not wrong,
        f"{len(asked) - len(wrong)} of {len(asked)} ({same} bit by bit)", "all")]


def difference(new: np.ndarray, old: Any) -> str | None:
    """Difference of the outputs; None when they agree within tolerance with equal classes."""
    other = np.asarray(old, np.float32)
    if other.size != new.size:
        return f"{other.size} values where {new.size} are expected"
    other = other.reshape(new.shape)
    if not np.array_equal(new.argmax(1), other.argmax(1)):
        return f"{int((new.argmax(1) != other.argmax(1)).sum())} answers differ"
    # int8 kernels of 1.11 may round a value differently; the classes are equal.
    return parity(new.ravel().tolist(), other.ravel().tolist(), tolerance("int8"))

