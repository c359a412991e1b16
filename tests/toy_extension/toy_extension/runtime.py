"""A runtime: ONNX Runtime on the CPU under another name."""

from agents.runtimes import onnxruntime_runner


class RUNTIME(onnxruntime_runner.RUNTIME):
    def versions(self):
        return dict(super().versions(), toy="1", providers=["CPUExecutionProvider"])
