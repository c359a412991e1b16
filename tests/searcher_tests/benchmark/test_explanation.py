"""Explanations of two real files with given node times."""

from dataclasses import replace
from pathlib import Path

import pytest

from agents.protocol import NodesMeasured, NodeTime
from searcher.benchmark.explanation import explanation_of
from searcher.statistics.measured import FileMeasurement, MeasureResult, Ratio
from tests.searcher_tests.statistics.test_bottlenecks import layers
from tests.searcher_tests.statistics.test_energy import WITHOUT


def result(op: str = "Sin") -> MeasureResult:
    def timed(name: str) -> NodesMeasured:
        return NodesMeasured("", nodes=[NodeTime("n", name, "CPUExecutionProvider", 1e-3)])

    entry = FileMeasurement(verdict="valid", summary=replace(WITHOUT, nodes=timed(op)))
    return MeasureResult((entry,), reference_nodes=timed("MatMul"))


class Files:
    def __init__(self, folder: Path) -> None:
        self.thin, self.wide, self.int8 = (folder / f"{name}.onnx" for name in ("t", "w", "i"))
        self.thin.write_bytes(layers(8, 1).SerializeToString())
        self.wide.write_bytes(layers(16, 1).SerializeToString())
        self.int8.write_bytes(layers(16, 1, int8=True).SerializeToString())
        self.asked = 0

    def why(self, model: Path, other: Path, low: float = 1.0,
            profiled: MeasureResult | None = None) -> list[str]:
        def timed() -> MeasureResult | None:
            self.asked += 1
            return profiled

        return explanation_of(model, other, Ratio(1.0, low, 1.1), timed)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_fewer_macs_without_a_gain(files: Files) -> None:
    (found,) = files.why(files.thin, files.wide, profiled=result())
    assert found.startswith("compressed but not faster: 75% fewer multiply-accumulates")
    assert found.endswith("the longest nodes are Sin n 100%")


def test_integer_operators_without_a_gain(files: Files) -> None:
    (found,) = files.why(files.int8, files.wide, profiled=result("DequantizeLinear"))
    assert "int8 against the reference" in found and "unfused: DequantizeLinear" in found


def test_no_profiling_without_need(files: Files) -> None:
    assert files.why(files.wide, files.thin, profiled=result()) == []
    assert files.why(files.wide, files.wide, profiled=result()) == []
    assert files.why(files.thin, files.wide, low=0.9, profiled=result()) == []
    assert files.why(files.thin.with_name("absent.onnx"), files.wide, profiled=result()) == []
    assert files.asked == 0


@pytest.mark.parametrize("profiled", [
    None, MeasureResult(), MeasureResult((FileMeasurement(verdict="valid"),))])
def test_a_job_without_node_times(files: Files, profiled: MeasureResult | None) -> None:
    (found,) = files.why(files.thin, files.wide, profiled=profiled)
    assert found.endswith("; the cause is unknown: no node was reported")
