"""From a torch module to a clean ONNX graph; the only place that knows torch's exporter."""

import copy
import io
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import onnx
import torch
from onnx import GraphProto, ModelProto, ValueInfoProto
from torch import Tensor, nn
from torch.jit import TracerWarning  # type: ignore[attr-defined]
from torch.nn.utils import parametrize

from strategies.base import StrategyError
from strategies.encoding.graph import check_format, constants, replace, tidy, unsign_zeros
from strategies.signature import input_names, named_outputs
from strategies.target import Target

WEIGHT_SCALES = "fleetfront.weight_scales"
"""Key in the model's metadata: JSON ``{initializer: [scale per output channel]}``, for int8."""


@dataclass(frozen=True)
class Names:
    """The names of inputs and outputs in the file. Empty: those of ``strategies.signature``."""

    inputs: Sequence[str] = ()
    outputs: Sequence[str] = ()


def export_onnx(
    model: nn.Module,
    example_inputs: Sequence[Tensor],
    target: Target,
    weight_scales: Mapping[str, Tensor] | None = None,
    names: Names = Names(),
) -> ModelProto:
    """``model`` in evaluation mode as ONNX; parametrizations are baked into the weights and
    ``model`` itself stays as it is.

    Inputs and outputs are those of ``model``, in order, of the same element types and layout, with
    a free batch axis; the other axes have the sizes of ``example_inputs``, one tensor (n, ...) per
    input. An input that the graph does not read stays an input of the file. ``weight_scales`` maps
    ``<module>.weight`` to the int8 scale of each output channel on whose grid that weight already
    lies. Raises StrategyError(``unsupported_graph``) when the model cannot be exported for
    ``target``.
    """
    plain = baked(model).cpu()
    examples = _one_sample(plain, example_inputs, names)
    outputs = _output_names(plain, examples, names)
    graph = _legacy_export(plain, examples, outputs, target.opset)
    _keep_unread_inputs(graph.graph, examples, outputs)
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
        # A chain may hold several tensors, such as the two of weight normalization.
        if list(constrained[name].parameters(recurse=False)):
            module.register_parameter(name, nn.Parameter(value, requires_grad=False))
        else:
            module.register_buffer(name, value)


_FAILURES = (RuntimeError, ValueError, TypeError, AttributeError, IndexError, KeyError,
             NotImplementedError, torch.onnx.OnnxExporterError)


def _one_sample(model: nn.Module, example_inputs: Sequence[Tensor],
                names: Names) -> dict[str, Tensor]:
    """The first sample (1, ...) of each input, by its name in the file. Raises StrategyError."""
    inputs = tuple(names.inputs) or input_names(model, len(example_inputs))
    if len(inputs) != len(example_inputs):
        raise StrategyError(f"A sample has {len(example_inputs)} inputs, {len(inputs)} names are "
                            f"given ({', '.join(inputs)}).", "unsupported_graph")
    examples = dict(zip(inputs, example_inputs, strict=True))
    single = [name for name, tensor in examples.items() if tensor.ndim == 0]
    if single:
        raise StrategyError(f"The input {single[0]!r} is a single number; the first axis of every "
                            "input must be the samples.", "unsupported_graph")
    return {name: tensor[:1].cpu() for name, tensor in examples.items()}


def _output_names(model: nn.Module, examples: Mapping[str, Tensor],
                  names: Names) -> tuple[str, ...]:
    """The names in the file, from one forward pass. Raises StrategyError."""
    try:
        with torch.no_grad():
            returned = model(*examples.values())
    except _FAILURES as error:
        raise StrategyError(f"{type(model).__name__} does not run on one sample in evaluation "
                            f"mode: {_first_line(error)}", "unsupported_graph") from error
    outputs = tuple(named_outputs(returned, names.outputs))
    twice = sorted({*examples} & {*outputs})
    if twice:
        raise StrategyError(f"An input and an output of the model are both named {twice[0]!r}; a "
                            "file needs another name for one of them.", "unsupported_graph")
    return outputs


def _legacy_export(model: nn.Module, examples: Mapping[str, Tensor], outputs: Sequence[str],
                   opset: int) -> ModelProto:
    """torch's TorchScript exporter: exact opsets and low IR versions, which the newer one lacks."""
    content = io.BytesIO()

    # A hook, not a module around the model: that would rename every weight.
    def flat(module: nn.Module, inputs: object, returned: object) -> tuple[Tensor, ...]:
        return tuple(named_outputs(returned).values())

    # The exporter makes inputs of parameters that have a default.
    forward = model.forward
    model.forward = lambda *inputs: forward(*inputs)
    hook = model.register_forward_hook(flat)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            for category in (DeprecationWarning, UserWarning, TracerWarning):
                warnings.simplefilter("ignore", category)
            torch.onnx.export(
                model, tuple(examples.values()), content,  # type: ignore[arg-type]
                dynamo=False, opset_version=opset,
                input_names=list(examples), output_names=list(outputs),
                dynamic_axes={name: {0: "batch"} for name in (*examples, *outputs)},
            )
    except _FAILURES as error:
        raise StrategyError(
            f"{type(model).__name__} cannot be exported to ONNX opset {opset}: "
            f"{_first_line(error)}", "unsupported_graph") from error
    finally:
        hook.remove()
    return onnx.load_model_from_string(content.getvalue())


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else repr(error)


def _keep_unread_inputs(graph: GraphProto, examples: Mapping[str, Tensor],
                        outputs: Sequence[str]) -> None:
    """In place: the exporter drops inputs that nothing reads, so that a program that feeds all
    inputs of the model could not run the file."""
    read = {value.name: value for value in graph.input}
    odd = [name for name in read if name not in examples]
    if odd or [value.name for value in graph.output] != list(outputs):
        raise StrategyError(
            f"The exported graph has the inputs {', '.join(read)} and the outputs "
            f"{', '.join(value.name for value in graph.output)}, the model has "
            f"{', '.join(examples)} and {', '.join(outputs)}.", "unsupported_graph")
    replace(graph.input, [read.get(name) or _described(name, tensor)
                          for name, tensor in examples.items()])


def _described(name: str, tensor: Tensor) -> ValueInfoProto:
    kind = onnx.helper.np_dtype_to_tensor_dtype(tensor.numpy().dtype)
    return onnx.helper.make_tensor_value_info(name, kind, ["batch", *tensor.shape[1:]])


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
