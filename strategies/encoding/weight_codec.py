"""The weight codec: the last pass over a graph, whatever produced its weights.

Each initializer is written in the smallest form that decodes to the same bits; ONNX Runtime folds
the decoding while it loads the file, so a small file runs as fast as a large one. Everything is
opset 11.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType

import numpy as np
from onnx import ModelProto

from strategies.base import StrategyError
from strategies.encoding.expression import (
    Apply,
    Array,
    Codes,
    Constant,
    Expression,
    Writer,
    codes_in,
    evaluate,
    substitute,
)
from strategies.encoding.forms import FORMS, bits, expression_bytes, scaled
from strategies.encoding.graph import constants, has_subgraphs, remove_dead, replace
from strategies.encoding.packing import pack, pools

LOWEST_OPSET = 11
MANY_WEIGHTS = 4_000_000
"""Above this, only the choice that wins on large tensors is written out."""

_DECODER_BYTES = 110
_CODABLE = frozenset(
    np.dtype(kind) for kind in (np.float32, np.float16, np.int8, np.uint8, np.int32, np.int64))


@dataclass(frozen=True)
class Choice:
    """How to break ties that depend on other tensors: what a decoder is assumed to cost each
    stream, and whether streams are shared."""

    stream_bytes: float
    share: bool


_CHOICES = tuple(
    Choice(stream_bytes, share)
    for stream_bytes, share in product((0.0, _DECODER_BYTES / 4, _DECODER_BYTES), (True, False))
) + (Choice(float("inf"), False),)


def encode_weights(
    model: ModelProto, filter_scales: Mapping[str, Sequence[float]] = MappingProxyType({})
) -> ModelProto:
    """A copy of ``model`` whose initializers are written in their smallest forms.
    ``filter_scales`` holds, by initializer, scales of which its filters are exact multiples.

    The copy computes bit by bit what ``model`` does. Raises StrategyError(``gate_decode``) when a
    form does not decode to its weight, which would be a defect of the form.
    """
    opset = max(entry.version for entry in model.opset_import if entry.domain == "")
    coded = ModelProto()
    coded.CopyFrom(model)
    if opset < LOWEST_OPSET or has_subgraphs(model.graph):
        return coded
    returned = {value.name for value in model.graph.output}
    weights = {
        name: array for name, array in constants(model.graph).items()
        if array.dtype in _CODABLE and name not in returned
    }
    written = smallest(weights, opset, filter_scales)
    writer = Writer(opset)
    names = {name: writer.write(expression) for name, expression in written.items()}
    kept = [tensor for tensor in coded.graph.initializer if tensor.name not in names]
    replace(coded.graph.initializer, kept + writer.initializers)
    for node in coded.graph.node:
        replace(node.input, [names.get(name, name) for name in node.input])
    replace(coded.graph.node, writer.nodes + list(coded.graph.node))
    remove_dead(coded.graph)
    return coded


def smallest(
    weights: Mapping[str, Array], opset: int,
    filter_scales: Mapping[str, Sequence[float]] = MappingProxyType({}),
) -> dict[str, Expression]:
    """An expression for every weight, together of the fewest bytes."""
    if not weights:
        return {}
    candidates = {name: _candidates(array, filter_scales.get(name))
                  for name, array in weights.items()}
    products = _products(weights)
    many = sum(array.size for array in weights.values()) > MANY_WEIGHTS
    best: tuple[int, dict[str, Expression]] | None = None
    for choice in _CHOICES[:1] if many else _CHOICES:
        chosen = {name: _cheapest(forms, choice) for name, forms in candidates.items()}
        resolved = _resolve(chosen, choice.share)
        for name, (factor, scalar) in products.items():
            resolved[name] = Apply("Mul", (resolved[factor], resolved[scalar]))
        writer = Writer(opset)
        for expression in resolved.values():
            writer.write(expression)
        size = writer.size_bytes()
        if best is None or size < best[0]:
            best = size, resolved
    assert best is not None
    verify(weights, best[1])
    return best[1]


def _candidates(
    array: Array, scales: Sequence[float] | None
) -> list[tuple[float, int, Expression]]:
    """(bytes, number of streams, expression) of every form that may win."""
    unshaped = array.dtype == np.int64 or array.size < 4
    forms: Iterable[Expression | None] = (
        (Constant(array),) if unshaped else [form(array) for form in FORMS.values()])
    if scales is not None:
        forms = (*forms, scaled(array, np.asarray(scales)))
    return [(expression_bytes(form), len(codes_in(form)), form)
            for form in forms if form is not None]


def _cheapest(forms: list[tuple[float, int, Expression]], choice: Choice) -> Expression:
    def cost(entry: tuple[float, int, Expression]) -> float:
        size, streams, _ = entry
        return size + (streams * choice.stream_bytes if streams else 0.0)

    return min(forms, key=cost)[2]


def _resolve(chosen: Mapping[str, Expression], share: bool) -> dict[str, Expression]:
    """``chosen`` with its codes packed into streams."""
    leaves = list(dict.fromkeys(
        codes for expression in chosen.values() for codes in codes_in(expression)))
    packed: dict[Codes, Expression] = {}
    for members in pools(leaves, share):
        packed.update(pack(members))
    return {name: substitute(expression, packed) for name, expression in chosen.items()}


def _products(weights: Mapping[str, Array]) -> dict[str, tuple[str, str]]:
    """Vectors that are another vector times a scalar, bit by bit: the scale of an int8 bias is
    its weight's scale times its input's."""
    floats = {name: a for name, a in weights.items() if a.dtype == np.float32}
    scalars = {name: a for name, a in floats.items() if a.ndim == 0}
    vectors = {name: a for name, a in floats.items() if a.ndim == 1 and a.size >= 8}
    found: dict[str, tuple[str, str]] = {}
    for name, vector in vectors.items():
        for (factor, other), (scalar, number) in product(vectors.items(), scalars.items()):
            if factor in (name, *found) or other.shape != vector.shape:
                continue
            if number * other[0] == vector[0] and _is_product(vector, other, number):
                found[name] = factor, scalar
                break
    used = {name for pair in found.values() for name in pair}
    return {name: pair for name, pair in found.items() if name not in used}


def _is_product(vector: Array, factor: Array, number: Array) -> bool:
    """Exact, and clear of denormals, which a processor may flush to zero."""
    normal = np.isfinite(vector).all() and (np.abs(vector) >= np.finfo(np.float32).tiny).all()
    return bool(normal) and bool((bits(factor * number) == bits(vector)).all())


def verify(weights: Mapping[str, Array], written: Mapping[str, Expression]) -> None:
    """Raise StrategyError(``gate_decode``) unless every expression decodes to its weight."""
    memo: dict[Expression, Array] = {}
    for name, array in weights.items():
        value = evaluate(written[name], memo)
        if (value.dtype, value.shape) != (array.dtype, array.shape) or not np.array_equal(
            bits(value), bits(array)
        ):
            raise StrategyError(
                f"The coded form of weight {name!r} {array.shape} does not decode to the same "
                "bits; this is a defect of the weight codec.", "gate_decode")
