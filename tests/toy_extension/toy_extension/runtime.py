"""A runtime: ONNX Runtime on the CPU under another name."""

from agents.runtimes.onnxruntime_runner import OrtRuntime


class RUNTIME(OrtRuntime):
    def versions(self):
        return dict(super().versions(), toy="1", providers=["CPUExecutionProvider"])
