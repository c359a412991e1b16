"""Inspection of uploaded ONNX files: their description, and every reason to refuse one."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from searcher.artifacts.formats import onnx_inspection
from searcher.artifacts.formats.base import Refused
from searcher.artifacts.inspection import refusal
from tests.searcher_tests import models
from tests.searcher_tests.hostile import BRIEF, damaged
from tests.searcher_tests.models import model_of, tensor_of, value_of


def facts(content: bytes) -> dict[str, Any]:
    """As the process prints them."""
    found = dataclasses.asdict(onnx_inspection.facts(content))
    return {"accepted": True, **json.loads(json.dumps(found, allow_nan=False))}


def refused(content: bytes) -> Refused:
    with pytest.raises(Refused) as caught:
        facts(content)
    return caught.value


def test_a_plain_model() -> None:
    assert facts(models.linear().SerializeToString()) == {
        "accepted": True,
        "inputs": [{"name": "x", "format": "float32", "shape": [None, 4]}],
        "outputs": [{"name": "y", "format": "float32", "shape": [None, 3]}],
        "opset": 13, "ir_version": 8, "domains": {"ai.onnx": 13}, "custom_domains": [],
        "parameters": 12, "macs": 12, "number_formats": ["float32"], "notes": []}


def test_formats_and_shapes() -> None:
    weight = numpy_helper.from_array(np.ones((4, 3), np.float16), "w")
    shape = numpy_helper.from_array(np.array([-1, 4], np.int64), "s")
    nodes = [helper.make_node("Reshape", ["x", "s"], ["r"]),
             helper.make_node("MatMul", ["r", "w"], ["y"])]
    found = facts(model_of(
        nodes, [weight, shape], inputs=[value_of("x", [1, 2, 2], TensorProto.FLOAT16)],
        outputs=[value_of("y", [1, 3], TensorProto.FLOAT16)]).SerializeToString())
    assert found["number_formats"] == ["float16"] and found["inputs"][0]["shape"] == [1, 2, 2]


def test_custom_operators_are_reported() -> None:
    node = helper.make_node("Fancy", ["x"], ["y"], domain="acme.vision")
    found = facts(model_of([node], [tensor_of(4, 3)], domains={"": 13, "acme.vision": 2}
                           ).SerializeToString())
    assert found["custom_domains"] == ["acme.vision"]
    assert found["domains"] == {"ai.onnx": 13, "acme.vision": 2}
    assert found["macs"] is None and found["parameters"] == 12
    assert "does not run in ONNX Runtime" in found["notes"][0] and "Fancy" in found["notes"][0]


@pytest.mark.parametrize("place", models.EXTERNAL)
def test_data_outside_of_the_file(place: str) -> None:
    error = refused(models.EXTERNAL[place]().SerializeToString())
    assert error.reason == "external_data" and "as one file" in str(error)


@pytest.mark.parametrize("content", [
    b"", b"this is no model", b"\0" * 1000, b"PK\x03\x04" + b"x" * 100, b"\x08\x08",
    models.linear().SerializeToString()[:-7], b"\xff" * 64], ids=range(7))
def test_content_that_is_not_onnx(content: bytes) -> None:
    assert refused(content).reason == "not_onnx"


def test_nesting_without_end() -> None:
    assert refused(models.nested(200)).reason == "not_onnx"


@pytest.mark.parametrize(("dims", "raw", "kind"), [
    ((10**6, 10**6), b"\0" * 48, models.FLOAT), ((2**62, 4), b"\0" * 48, models.FLOAT),
    ((-1, 3), b"\0" * 48, models.FLOAT), ((4, 3), b"\0" * 47, models.FLOAT),
    ((4, 3), b"", models.FLOAT), ((4, 3), b"\0" * 48, 99), ((4, 3), b"\0" * 48, 0),
    ((10**9, 10**9), b"", TensorProto.STRING)])
def test_weights_that_do_not_hold_what_they_declare(
    dims: tuple[int, ...], raw: bytes, kind: int
) -> None:
    error = refused(models.declares(dims, raw, kind).SerializeToString())
    assert error.reason == "malformed" and "'w'" in str(error)


@pytest.mark.parametrize("shape", [(1, 3, "h", "w"), (1, None), ("n", 0), (0, 4), None])
def test_only_the_batch_may_be_open(shape: models.Shape) -> None:
    error = refused(models.with_shape(shape).SerializeToString())
    assert error.reason == "dynamic_input" and "'x'" in str(error)


@pytest.mark.parametrize("shape", [("n", 4), (None, 4), (7, 4), ("n",)])
def test_the_batch_may_be_open(shape: models.Shape) -> None:
    assert facts(models.with_shape(shape).SerializeToString())["accepted"]


@pytest.mark.parametrize(("shape", "reason"), [
    ((1, 2**40), "too_large"), ((1, 2**60), "too_large"), ((1,) * 40, "malformed"),
    ((1, -5), "malformed")])
def test_impossible_inputs(shape: models.Shape, reason: str) -> None:
    assert refused(models.with_shape(shape).SerializeToString()).reason == reason


def test_no_input_at_all() -> None:
    node = helper.make_node("Identity", ["w"], ["y"])
    error = refused(model_of([node], [tensor_of(4, 3)], inputs=[]).SerializeToString())
    assert error.reason == "malformed" and "0 inputs" in str(error)


def test_inputs_that_are_no_tensors() -> None:
    value: Any = helper.make_tensor_sequence_value_info("x", models.FLOAT, None)
    node = helper.make_node("SequenceLength", ["x"], ["y"])
    error = refused(model_of([node], inputs=[value]).SerializeToString())
    assert error.reason == "malformed" and "no tensor" in str(error)


@pytest.mark.parametrize("nodes", [
    [helper.make_node("MatMul", ["x"], ["y"])], [helper.make_node("NoSuchOp", ["x"], ["y"])],
    [helper.make_node("Relu", ["absent"], ["y"])]])
def test_an_invalid_onnx_graph(nodes: Any) -> None:
    assert refused(model_of(nodes).SerializeToString()).reason == "malformed"


@pytest.mark.parametrize(("field", "value"), [
    ("ir_version", 2**60), ("version", 2**60), ("version", -1), ("domain", "x" * 500)])
def test_impossible_versions(field: str, value: Any) -> None:
    model = models.linear()
    setattr(model if field == "ir_version" else model.opset_import.add(), field, value)
    assert refused(model.SerializeToString()).reason in ("malformed", "not_onnx")


def test_domains_without_end() -> None:
    model = models.linear()
    for number in range(100):
        model.opset_import.add(domain=f"d{number}", version=1)
    assert "101 sets of operators" in str(refused(model.SerializeToString()))


@pytest.mark.parametrize("name", [b"x", b"\x01y", b"acme"])
def test_names_that_are_no_text(name: bytes) -> None:
    node = helper.make_node("Fancy", ["x"], ["y"], domain="acme")
    content = model_of([node], domains={"": 13, "acme": 1}).SerializeToString()
    error = refused(content.replace(name, name[:-1] + b"\xff"))
    assert error.reason == "malformed" and "is no text" in str(error)


@BRIEF
@given(st.sampled_from([models.linear(), models.grows(4), models.loops(), *(
    make() for make in models.EXTERNAL.values())]).flatmap(
        lambda model: damaged(model.SerializeToString())))
def test_files_that_were_damaged(content: bytes) -> None:
    """The file is read but not run; running is left to a child process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_inspection, "_run_once", lambda content, model: "not run")
        try:
            found = facts(content)
        except Refused as error:
            found = refusal(error.reason, str(error))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
