"""ONNX files, by ONNX Runtime on the host."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from onnxruntime.capi import onnxruntime_pybind11_state as state

from searcher.artifacts.complexity import Complexity
from searcher.artifacts.formats.base import (
    Array,
    ArtifactFormat,
    HostInput,
    HostModel,
    ModelFacts,
)
from searcher.artifacts.formats.onnx_inspection import facts
from searcher.artifacts.onnx_complexity import complexity
from searcher.errors import BuildError, UserError

LOAD_ERRORS = (RuntimeError, OSError, state.EPFail, state.Fail, state.InvalidArgument,
               state.InvalidGraph, state.InvalidProtobuf, state.NoModel, state.NoSuchFile,
               state.NotImplemented, state.RuntimeException)


def session(content: bytes | Path, threads: int = 1) -> onnxruntime.InferenceSession:
    """A CPU session with every graph optimization. Raises BuildError(``unloadable``)."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            content if isinstance(content, bytes) else str(content), options,
            providers=["CPUExecutionProvider"])
    except LOAD_ERRORS as error:
        raise BuildError(f"ONNX Runtime cannot load the file: {error}", "unloadable") from error


class OnnxModel(HostModel):
    """A session."""

    def __init__(self, loaded: onnxruntime.InferenceSession) -> None:
        self._session = loaded
        self._outputs = [output.name for output in loaded.get_outputs()]

    @property
    def inputs(self) -> tuple[HostInput, ...]:
        return tuple(HostInput(i.name, tuple(i.shape), _dtype(i.type))
                     for i in self._session.get_inputs())

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        try:
            found = self._session.run(self._outputs, dict(feeds))
        except (*LOAD_ERRORS, ValueError) as error:
            raise BuildError(f"ONNX Runtime cannot run the file: {error}", "outputs") from error
        return dict(zip(self._outputs, map(np.asarray, found), strict=True))


def _dtype(tensor: str) -> str:
    """``float32`` of ``tensor(float)``; ONNX Runtime calls others as numpy does."""
    name = tensor.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64", "string": "str"}.get(name, name)


class Onnx(ArtifactFormat):
    """See ``searcher.artifacts.formats.base.ArtifactFormat``."""

    name = "onnx"
    suffix = ".onnx"

    def from_onnx(self, content: bytes) -> bytes:
        return content

    def load(self, content: bytes | Path, threads: int = 1) -> HostModel:
        return OnnxModel(session(content, threads))

    def complexity(self, content: bytes | Path) -> Complexity:
        if not isinstance(content, bytes):
            return complexity(content)
        try:
            return complexity(onnx.load_model_from_string(content))
        except DecodeError as error:
            raise UserError(f"The content is no ONNX file: {error}") from error

    def inspect(self, content: bytes) -> ModelFacts:
        return facts(content)
