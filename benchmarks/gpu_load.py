"""Load of ``benchmarks.gpu``: an ONNX file on ONNX Runtime's CUDA provider, or a torch model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Run = Callable[[], object]
IMAGE = (3, 224, 224)


@dataclass(frozen=True)
class Backend:
    """``describe`` says which backend runs, and why."""

    name: str
    describe: str


def choose_backend(model: str) -> Backend:
    """ONNX Runtime if it has CUDA and a file is given, otherwise torch. Raises SystemExit."""
    lacking = "no --model was given"
    if model:
        try:
            import onnxruntime
            if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
                return Backend("onnxruntime", f"ONNX Runtime {onnxruntime.__version__}, CUDA "
                                              f"provider, {model}")
            lacking = f"ONNX Runtime {onnxruntime.__version__} has no CUDA provider"
        except ImportError:
            lacking = "ONNX Runtime is not installed"
    try:
        import torch
    except ImportError:
        raise SystemExit(f"Nothing to run: {lacking}, and torch is not installed.") from None
    if not torch.cuda.is_available():
        raise SystemExit(f"Nothing to run: {lacking}, and torch {torch.__version__} finds no CUDA.")
    return Backend("torch", f"torch {torch.__version__} on CUDA, ResNet-18 with random weights, "
                            f"float32 without TF32, eager ({lacking})")


def backend_named(name: str) -> Callable[[str, int, int], Run]:
    return {"onnxruntime": _onnxruntime, "torch": _torch}[name]


def _onnxruntime(model: str, batch: int, index: int) -> Run:
    """Raises SystemExit when the provider fell back to the CPU."""
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=[
        ("CUDAExecutionProvider", {"device_id": index})])
    if session.get_providers()[0] != "CUDAExecutionProvider":
        raise SystemExit(f"ONNX Runtime fell back to {session.get_providers()[0]}.")
    feeds = {one.name: np.random.default_rng(0).random(
        [batch if not isinstance(size, int) else size for size in one.shape], np.float32)
        for one in session.get_inputs()}
    return lambda: session.run(None, feeds)


def _torch(model: str, batch: int, index: int) -> Run:
    """The input stays on the GPU; a call ends when the GPU has finished."""
    import torch

    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    device = torch.device("cuda", index)
    network = residual_network().eval().to(device)
    images = torch.rand(batch, *IMAGE, device=device)

    def run() -> None:
        with torch.inference_mode():
            network(images)
        torch.cuda.synchronize(device)

    return run


def residual_network() -> Any:
    """ResNet-18 (He et al. 2016, arXiv 1512.03385) with random weights."""
    from torch import nn
    from torch.nn.functional import relu

    def convolution(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(outputs))

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.body = nn.Sequential(convolution(inputs, outputs, 3, stride), nn.ReLU(),
                                      convolution(outputs, outputs, 3, 1))
            self.skip = (nn.Identity() if inputs == outputs
                         else convolution(inputs, outputs, 1, stride))

        def forward(self, images: Any) -> Any:
            return relu(self.body(images) + self.skip(images))

    blocks = [Block(inputs, outputs, stride) for inputs, outputs, stride in (
        (64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1),
        (128, 256, 2), (256, 256, 1), (256, 512, 2), (512, 512, 1))]
    return nn.Sequential(convolution(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1), *blocks,
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000))
