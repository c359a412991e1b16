"""The device that builders train on. There is no CUDA device where the tests run."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from searcher.builders.compute_device import on_host, resolved
from searcher.errors import TaskError
from strategies.training.precision import Precision


def test_auto_and_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolved("auto") == resolved("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolved("auto") == resolved("cuda") == torch.device("cuda")
    assert resolved("cpu") == torch.device("cpu")


@pytest.mark.parametrize(("build", "said"), [
    (None, "this torch was built without CUDA"), ("12.8", "torch for CUDA 12.8 finds no device")])
def test_cuda_without_a_device(build: str | None, said: str,
                               monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", build)
    with pytest.raises(TaskError) as caught:
        resolved("cuda")
    assert str(caught.value).startswith(f"device: found 'cuda', but {said}.")
    assert 'Task(device="auto")' in str(caught.value)


def test_states_go_to_the_host_whole() -> None:
    state = {"epoch": 3, "optimizer": {"state": {0: {"step": torch.tensor(1.0)}},
                                       "groups": [{"betas": (0.9, 0.99), "params": [0]}]}}
    assert on_host(state) == state


class OnCuda(nn.Module):
    """Claims to be on a CUDA device."""

    def parameters(self, recurse: bool = True) -> Iterator[Any]:
        yield type("Parameter", (), {"device": torch.device("cuda")})()


def test_precision_is_mixed_on_cuda_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Precision.of(nn.Linear(2, 2)).dtype is None
    assert Precision.of(nn.Identity()).dtype is None
    for supported, dtype in ((True, torch.bfloat16), (False, torch.float16)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda found=supported: found)
        assert Precision.of(OnCuda()).dtype is dtype


def test_on_the_cpu_nothing_is_scaled_or_cast() -> None:
    precision = Precision.of(nn.Linear(2, 2))
    scaler = precision.scaler()
    with precision.forward():
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == torch.float32 and not scaler.is_enabled()
    loss = torch.tensor(3.0)
    assert scaler.scale(loss) is loss
