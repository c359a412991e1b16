"""One contract over every form of the weight codec: it decodes to the same bits, in our reference
and in ONNX Runtime with and without optimization, and ONNX Runtime folds it away."""

import copy

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from strategies.encoding.expression import Writer, codes_in, evaluate, substitute
from strategies.encoding.forms import FORMS, bits
from strategies.encoding.graph import shorten_names, tensor_proto
from strategies.encoding.packing import WORDS, digits_per_word, pack, pack_words, pools
from strategies.encoding.weight_codec import encode_weights

random = np.random.default_rng(0)


def levels(count, shape, dtype=np.float32):
    table = np.arange(count) - count // 2
    table = table.astype(dtype) if np.dtype(dtype).kind == "i" else np.float32(table * 0.37 + 0.1)
    return table[random.integers(0, count, shape)]


def thinned(array, share):
    return np.where(random.random(array.shape) < share, array, np.zeros_like(array))


ODD_BITS = np.array(
    [0x7FC00001, 0xFFC12345, 0x80000000, 0, 1, 0x80000001, 0x7F800000, 0xFF800000],
    dtype=np.uint32,
).view(np.float32)

ARRAYS = {
    "scalar": np.float32(3.5).reshape(()),
    "empty": np.zeros((0, 3), dtype=np.float32),
    "one": np.ones((1,), dtype=np.float32),
    "zeros": np.zeros((4, 5), dtype=np.float32),
    "all_equal": np.full((3, 7), -0.25, dtype=np.float32),
    "negative_zeros": np.full((5, 5), -0.0, dtype=np.float32),
    "odd_bits": ODD_BITS[random.integers(0, 8, (7, 9))],
    "two": levels(2, (10, 3, 5, 5)),
    "three": levels(3, (11, 13)),
    "sixteen": levels(16, (20, 30)),
    "sixteen_uneven": levels(16, (7, 5, 3)),
    "forty": levels(40, (50, 10)),
    "256": levels(256, (40, 40)),
    "300": levels(300, (80, 40)),
    "float16_values": levels(16, (20, 9)).astype(np.float16).astype(np.float32),
    "sparse": thinned(random.standard_normal((40, 50)).astype(np.float32), 0.1),
    "sparse_shared": thinned(levels(16, (40, 50)), 0.08),
    "very_sparse": thinned(levels(16, (90, 80)), 0.003),
    "first_and_last": np.eye(9, dtype=np.float32),
    "dense_zeros": thinned(random.standard_normal((30, 31)).astype(np.float32), 0.6),
    "int8": random.integers(-127, 128, (30, 30)).astype(np.int8),
    "int8_shared": levels(16, (16, 4, 3, 3), np.int8),
    "int8_sparse": thinned(levels(16, (60, 31), np.int8), 0.1),
    "int8_zeros": np.zeros(64, dtype=np.int8),
    "int32_short": random.integers(-30000, 30000, 50).astype(np.int32),
    "int32_long": random.integers(-(2**31), 2**31, 50).astype(np.int32),
}


def resolved(expression):
    packed = {}
    for members in pools(codes_in(expression), share=True):
        packed.update(pack(members))
    return substitute(expression, packed)


def model_of(arrays, opset, writer=None, names=()):
    """A model whose outputs are ``arrays``: written by ``writer``, or copied."""
    nodes = list(writer.nodes) if writer else []
    initializers = list(writer.initializers) if writer else []
    inputs, outputs = [], []
    for index, array in enumerate(arrays):
        name = names[index] if writer else f"weight{index}"
        if not writer:
            initializers.append(tensor_proto(array, name))
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        # An input at run time keeps the reader itself from being folded.
        nodes.append(helper.make_node("Reshape", [name, f"shape{index}"], [f"output{index}"]))
        inputs.append(helper.make_tensor_value_info(
            f"shape{index}", TensorProto.INT64, [array.ndim]))
        outputs.append(helper.make_tensor_value_info(f"output{index}", kind, array.shape))
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=6)


def short(model):
    model = copy.deepcopy(model)
    shorten_names(model.graph)
    return model


def run(model, arrays, level, folder=None):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    if folder:
        options.optimized_model_filepath = str(folder / "optimized.onnx")
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {
        f"shape{k}": np.array(array.shape, dtype=np.int64) for k, array in enumerate(arrays)})


def assert_same_bits(left, right):
    assert left.dtype == right.dtype
    assert left.shape == right.shape
    assert np.array_equal(bits(left), bits(right))


@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("form", FORMS)
def test_a_form_decodes_to_the_same_bits(form, name, opset, tmp_path):
    array = ARRAYS[name]
    expression = FORMS[form](array)
    if expression is None:
        return
    expression = resolved(expression)
    assert_same_bits(evaluate(expression), array)
    writer = Writer(opset)
    written = writer.write(expression)
    model = model_of([array], opset, writer, [written])
    onnx.checker.check_model(model)
    levels = onnxruntime.GraphOptimizationLevel
    for level, folder in ((levels.ORT_ENABLE_ALL, tmp_path), (levels.ORT_DISABLE_ALL, None)):
        (value,) = run(model, [array], level, folder)
        assert_same_bits(value, array)
    optimized = onnx.load(tmp_path / "optimized.onnx")
    assert [node.op_type for node in optimized.graph.node] == ["Reshape"]


@pytest.mark.parametrize("form", sorted(set(FORMS) - {"raw"}))
def test_every_form_applies_to_something(form):
    assert any(FORMS[form](array) is not None for array in ARRAYS.values())


@pytest.mark.parametrize("radix", [2, 3, 5, 8, 16, 17, 40, 181, 256, 300, 65536])
@pytest.mark.parametrize("word", WORDS, ids=lambda word: np.dtype(word.stored).name)
def test_words_hold_as_many_digits_as_fit(radix, word):
    count = digits_per_word(radix, word.bits)
    assert radix**count <= 2**word.bits < radix ** (count + 1)
    if count:
        digits = np.full(count, radix - 1)
        (packed,) = pack_words(digits, radix, word, count)
        assert int(packed) == radix**count - 1


@st.composite
def weights(draw):
    dtype = draw(st.sampled_from([np.float32, np.int32]))
    shape = tuple(draw(st.lists(st.integers(0, 9), min_size=0, max_size=4)))
    patterns = draw(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=20))
    table = np.array([0, *patterns], dtype=np.uint32).view(dtype)
    generator = np.random.default_rng(draw(st.integers(0, 1000)))
    array = table[generator.integers(0, len(table), shape)].reshape(shape)
    kept = generator.random(shape) < draw(st.sampled_from([0.05, 0.5, 1.0]))
    return np.where(kept, array, np.zeros((), dtype=dtype)).astype(dtype).reshape(shape)


@settings(max_examples=30)
@given(arrays=st.lists(weights(), min_size=1, max_size=4), opset=st.sampled_from([11, 13]))
def test_a_coded_model_gives_the_same_bits(arrays, opset):
    model = model_of(arrays, opset)
    coded = encode_weights(model)
    assert short(coded).ByteSize() <= short(model).ByteSize()
    for level in (
        onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
        onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    ):
        for value, array in zip(run(coded, arrays, level), arrays, strict=True):
            assert_same_bits(value, array)


def test_tensors_share_a_stream_of_words():
    arrays = [levels(16, (20, 31)), levels(15, (7, 9)), levels(16, (40, 10))]
    coded = encode_weights(model_of(arrays, 13))
    operators = [node.op_type for node in coded.graph.node]
    assert operators.count("Split") == 1
    assert operators.count("Mod") == 1
    apart = [short(encode_weights(model_of([array], 13))).ByteSize() for array in arrays]
    assert short(coded).ByteSize() < sum(apart) - 150
