"""Samples of every form, matched with the parameters of a model's forward."""

from typing import Any

import pytest
from torch import Tensor, nn

from searcher.errors import TaskError
from searcher.tasks.data.layout import Forward, Layout, layout_of

ONE = Forward(("x",), 1, False)
TWO = Forward(("image", "mask"), 2, False)
OPTIONAL = Forward(("image", "mask"), 1, False)
IDS = Forward(("input_ids", "token_types", "attention"), 1, False)


class Late(nn.Module):
    def forward(self, image: Tensor, mask: Tensor, scale: float = 1.0, *more: Tensor) -> Tensor:
        return image * mask * scale


def test_parameters_of_forward() -> None:
    assert Forward.of(Late()) == Forward(("image", "mask", "scale"), 2, True)
    assert Forward.of(nn.Sequential(nn.ReLU())) == Forward(("input",), 1, False)
    assert Forward.of(Late()).first(5, "here") == (
        "image", "mask", "scale", "input_3", "input_4")


@pytest.mark.parametrize(("sample", "forward", "more", "names", "picked"), [
    ((1, 2), ONE, {}, ("x",), ((1,), 2)),
    ([1, 2], ONE, {}, ("x",), ((1,), 2)),
    (((1, 2), 3), TWO, {}, ("image", "mask"), ((1, 2), 3)),
    ((1, 3), OPTIONAL, {}, ("image",), ((1,), 3)),
    (({"mask": 2, "image": 1}, 3), TWO, {}, ("image", "mask"), ((1, 2), 3)),
    ({"mask": 2, "image": 1, "y": 3, "path": "a"}, TWO, {"target": "y"}, ("image", "mask"),
     ((1, 2), 3)),
    ({"picture": 1, "y": 3}, ONE, {"target": "y"}, ("x",), ((1,), 3)),
    ({"b": 2, "a": 1, "y": 3}, TWO, {"target": "y", "inputs": ("a", "b")}, ("a", "b"),
     ((1, 2), 3)),
    ({"mask": 2, "image": 1, "y": 3}, TWO, {"target": "y", "inputs": ("mask", "image")},
     ("image", "mask"), ((1, 2), 3)),
    ((1, 3), ONE, {"inputs": ("pixels",)}, ("pixels",), ((1,), 3)),
    ((1, {"boxes": 2, "labels": 3}), ONE, {}, ("x",), ((1,), {"boxes": 2, "labels": 3})),
])
def test_forms_of_samples(sample: Any, forward: Forward, more: dict[str, Any],
                          names: tuple[str, ...], picked: Any) -> None:
    layout = layout_of(sample, forward, more.get("inputs", ()), more.get("target"), "training[0]")
    assert layout.names == names and layout.pick(sample, "training[0]") == picked


@pytest.mark.parametrize(("sample", "forward", "more", "said"), [
    (5, ONE, {}, "int 5. Expected (input, target)"),
    ((1, 2, 3), ONE, {}, "a tuple of 3"),
    ("text", ONE, {}, "the text 'text'"),
    (((1, 2), 3), ONE, {}, "it gives 2 inputs, but the model's forward takes (x)"),
    ((1, 3), TWO, {}, "it gives 1 input, but the model's forward takes (image, mask)"),
    ({"image": 1, "y": 3}, ONE, {}, "Name the key of the target: Task(target=...)"),
    ({"image": 1, "label": 3}, ONE, {"target": "labels"}, "Did you mean 'label'?"),
    ({"a": 1, "b": 2, "y": 3}, TWO, {"target": "y"}, "none of the keys a, b is a parameter"),
    ({"image": 1, "mask": 2, "y": 3}, TWO, {"target": "y", "inputs": ("image", "msk")},
     "names 'msk', which is no key of it. Did you mean 'mask'?"),
    ({"input_ids": 1, "attention": 2, "y": 3}, IDS, {"target": "y"},
     "no key for the parameter 'token_types'"),
    ((1, 3), ONE, {"inputs": ("a", "b")}, "Task.inputs names 2 inputs (a, b), found 1 input"),
])
def test_samples_that_do_not_fit(sample: Any, forward: Forward, more: dict[str, Any],
                                 said: str) -> None:
    with pytest.raises(TaskError) as caught:
        layout_of(sample, forward, more.get("inputs", ()), more.get("target"), "training[0]")
    assert str(caught.value).startswith("training[0]: ") and said in str(caught.value)


@pytest.mark.parametrize(("layout", "sample", "said"), [
    (Layout(("x",)), {"x": 1}, "Expected (input, target)"),
    (Layout(("x", "y"), several=True), ((1,), 2), "expected 2 inputs as in the first sample"),
    (Layout(("x",), ("x",), "label"), {"x": 1}, "the key 'label' is missing. Found: x"),
    (Layout(("x",), ("x",)), (1, 2), "expected a dictionary as in the first sample"),
])
def test_a_later_sample_of_another_form(layout: Layout, sample: Any, said: str) -> None:
    with pytest.raises(TaskError) as caught:
        layout.pick(sample, "training[7]")
    assert str(caught.value).startswith("training[7]: ") and said in str(caught.value)
