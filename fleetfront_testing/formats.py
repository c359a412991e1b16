"""What every file format promises."""

from pathlib import Path

import numpy as np
import pytest

from fleetfront_testing.networks import EXAMPLE, plain
from searcher.artifacts.formats.base import ArtifactFormat, Refused
from searcher.builders.probe import probe_input
from searcher.errors import BuildError, UserError
from strategies.encoding.export import export_onnx
from strategies.encoding.finish import finish
from strategies.encoding.gates import load
from strategies.target import Target

PARAMETERS = 160 + 3480 + 4656 + 490
"""Of ``networks.plain``."""


def onnx_file() -> bytes:
    """A finished ONNX file of ``networks.plain``."""
    return finish(export_onnx(plain(), (EXAMPLE[:1],), Target()), Target()).content


class FormatContract:
    """Subclass it with a fixture or parameter ``implementation``: the class of a format."""

    @pytest.fixture
    def made(self, implementation: type[ArtifactFormat]) -> ArtifactFormat:
        return implementation()

    @pytest.fixture
    def content(self, made: ArtifactFormat) -> bytes:
        return made.from_onnx(onnx_file())

    def test_it_has_a_name_and_a_suffix(self, made: ArtifactFormat) -> None:
        assert made.name and made.name == made.name.strip().lower()
        assert made.suffix.startswith(".") and len(made.suffix) > 1

    def test_equal_models_give_equal_bytes(self, made: ArtifactFormat) -> None:
        assert made.from_onnx(onnx_file()) == made.from_onnx(onnx_file())

    def test_the_host_computes_what_the_onnx_file_computes(
            self, made: ArtifactFormat, content: bytes, tmp_path: Path) -> None:
        path = tmp_path / f"model{made.suffix}"
        path.write_bytes(content)
        (expected,) = load(onnx_file()).run({"input": EXAMPLE.numpy()})
        for source in (content, path):
            model = made.load(source)
            (found,) = model.run({model.inputs[0].name: EXAMPLE.numpy()}).values()
            assert found.shape == expected.shape == (2, 10)
            assert float(np.abs(found - expected).max()) <= 1e-2 * float(np.abs(expected).max())

    def test_the_inputs_take_the_probe(self, made: ArtifactFormat, content: bytes) -> None:
        model = made.load(content)
        assert len(model.inputs) == 1
        sizes = [size if isinstance(size, int) and size > 0 else 1
                 for size in model.inputs[0].shape]
        assert sizes == [1, 1, 12, 12]
        feeds = {i.name: probe_input(i.shape, dtype=i.dtype) for i in model.inputs}
        one, other = model.run(feeds), made.load(content).run(feeds)
        assert list(one) == list(other)
        assert all(np.array_equal(one[name], other[name]) for name in one)

    def test_complexity(self, made: ArtifactFormat, content: bytes, tmp_path: Path) -> None:
        path = tmp_path / f"model{made.suffix}"
        path.write_bytes(content)
        found = made.complexity(content)
        assert found == made.complexity(path)
        assert found.parameters == PARAMETERS and found.macs > found.parameters

    def test_the_facts_of_a_sound_file(self, made: ArtifactFormat, content: bytes) -> None:
        found = made.inspect(content)
        assert len(found.inputs) == len(found.outputs) == 1
        assert found.parameters == PARAMETERS and found.number_formats

    @pytest.mark.parametrize("broken", [b"", b"garbage", None], ids=["empty", "garbage", "half"])
    def test_a_broken_file_is_refused(self, made: ArtifactFormat, content: bytes,
                                      broken: bytes | None) -> None:
        bad = content[:len(content) // 2] if broken is None else broken
        with pytest.raises(BuildError) as caught:
            made.load(bad)
        assert caught.value.reason == "unloadable"
        if bad:
            with pytest.raises(UserError):
                made.complexity(bad)
        with pytest.raises(Refused) as refused:
            made.inspect(bad)
        assert refused.value.reason.isidentifier() and str(refused.value)
