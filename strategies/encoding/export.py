"""From a torch module to a clean ONNX graph; the only place that knows torch's exporter."""

import copy
import io
import json
import warnings
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import onnx
import torch
from onnx import ModelProto
from torch import Tensor, nn
from torch.jit import TracerWarning  # type: ignore[attr-defined]
from torch.nn.utils import parametrize

from strategies.base import StrategyError
from strategies.encoding.graph import check_format, constants, tidy, unsign_zeros
from strategies.target import Target

WEIGHT_SCALES = "fleetfront.weight_scales"
"""Key in the model's metadata: JSON ``{initializer: [scale per output channel]}``, for int8."""


def export_onnx(
    model: nn.Module,
    example_input: Tensor,
    target: Target,
    weight_scales: Mapping[str, Tensor] | None = None,
) -> ModelProto:
    """``model`` in evaluation mode as ONNX with input ``input``, output ``output`` and a free
    batch axis; parametrizations are baked into the weights and ``model`` itself stays as it is.

    ``weight_scales`` maps ``<module>.weight`` to the int8 scale of each output channel on whose
    grid that weight already lies. Raises StrategyError(``unsupported_graph``) when the model
    cannot be exported for ``target``.
    """
    plain = baked(model)
    graph = _legacy_export(plain, example_input, target.opset)
    tidy(graph)
    unsign_zeros(graph.graph)
    graph.graph.name = "g"
    graph.ir_version = min(graph.ir_version, target.ir_version)
    wrong = check_format(graph, target.opset, target.ir_version)
    if wrong:
        raise StrategyError(f"The exported model does not fit the target: {wrong}.",
                            "unsupported_graph")
    try:
        onnx.checker.check_model(graph)
    except onnx.checker.ValidationError as error:
        raise StrategyError(f"The exported model is not valid ONNX: {error}.",
                            "unsupported_graph") from error
    if weight_scales:
        carry_weight_scales(graph, plain, weight_scales)
    return graph


def baked(model: nn.Module) -> nn.Module:
    """A copy of ``model`` in evaluation mode whose weights are plain tensors."""
    plain = copy.deepcopy(model).eval()
    for module in list(plain.modules()):
        if parametrize.is_parametrized(module):
            _bake(module)
    return plain


def _bake(module: nn.Module) -> None:
    """torch's ``remove_parametrizations`` would delete the property from the class, which a deep
    copy shares with its original."""
    constrained = cast(Any, module).parametrizations
    values = {name: getattr(module, name).detach().clone() for name in constrained}
    module.__class__ = type(module).__bases__[0]
    del module._modules["parametrizations"]
    for name, value in values.items():
        if isinstance(constrained[name].original, nn.Parameter):
            module.register_parameter(name, nn.Parameter(value, requires_grad=False))
        else:
            module.register_buffer(name, value)


def _legacy_export(model: nn.Module, example_input: Tensor, opset: int) -> ModelProto:
    """torch's TorchScript exporter: exact opsets and low IR versions, which the newer one lacks."""
    content = io.BytesIO()
    free_batch = {"input": {0: "batch"}, "output": {0: "batch"}}
    try:
        with warnings.catch_warnings(), torch.no_grad():
            for category in (DeprecationWarning, UserWarning, TracerWarning):
                warnings.simplefilter("ignore", category)
            torch.onnx.export(
                model, (example_input[:1],), content,  # type: ignore[arg-type]
                dynamo=False, opset_version=opset,
                input_names=["input"], output_names=["output"], dynamic_axes=free_batch,
            )
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError,
            NotImplementedError, torch.onnx.OnnxExporterError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise StrategyError(
            f"{type(model).__name__} cannot be exported to ONNX opset {opset}: {first_line}",
            "unsupported_graph",
        ) from error
    return onnx.load_model_from_string(content.getvalue())


def carry_weight_scales(
    graph: ModelProto, model: nn.Module, weight_scales: Mapping[str, Tensor]
) -> None:
    """Write ``weight_scales`` into the graph's metadata under the names of its initializers.

    The exporter may rename a weight, so one that is missing by name is looked for by content.
    """
    values = constants(graph.graph)
    state = model.state_dict()
    named: dict[str, list[float]] = {}
    for weight, scales in weight_scales.items():
        name = weight if weight in values else None
        if name is None and weight in state:
            wanted = state[weight].detach().cpu().numpy()
            name = next((n for n, v in values.items() if _same_weight(v, wanted)), None)
        if name is None:
            raise StrategyError(
                f"The weight {weight!r} that has int8 scales is not in the exported graph; "
                "fold normalization into it before clustering.", "unsupported_graph",
            )
        named[name] = scales.detach().cpu().to(torch.float32).flatten().tolist()
    entry = graph.metadata_props.add()
    entry.key, entry.value = WEIGHT_SCALES, json.dumps(named)


def _same_weight(value: np.ndarray, wanted: np.ndarray) -> bool:
    if value.dtype != wanted.dtype:
        return False
    return np.array_equal(value, wanted) or (
        wanted.ndim == 2 and np.array_equal(value, wanted.T))


def read_weight_scales(graph: ModelProto) -> dict[str, list[float]]:
    """What ``carry_weight_scales`` wrote, or nothing."""
    for entry in graph.metadata_props:
        if entry.key == WEIGHT_SCALES:
            return dict(json.loads(entry.value))
    return {}
