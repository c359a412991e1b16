import numpy as np
import pytest

from strategies.base import StrategyError
from strategies.encoding import packing
from strategies.encoding.expression import Codes, Constant, Writer, evaluate
from strategies.encoding.forms import scaled
from strategies.encoding.weight_codec import smallest, verify

random = np.random.default_rng(0)


def bytes_of(expression):
    """All constants under an expression, in bytes."""
    if isinstance(expression, Constant):
        return expression.array.nbytes
    inner = getattr(expression, "inputs", None) or (expression.source,)
    return sum(map(bytes_of, inner))


def test_a_scale_that_is_a_product_is_written_as_one():
    scale = random.random(500).astype(np.float32) + 0.1
    factor = np.float32(0.0123).reshape(())
    written = smallest({"w": scale, "x": factor, "b": scale * factor}, 13)
    assert written["b"].operator == "Mul"
    assert isinstance(written["w"], Constant)


def test_chains_of_products_do_not_bite_their_tails():
    scale = random.random(50).astype(np.float32) + 0.1
    half = np.float32(0.5).reshape(())
    two = np.float32(2.0).reshape(())
    weights = {"a": scale, "b": scale * half, "c": scale * half * half, "h": half, "t": two}
    verify(weights, smallest(weights, 13))


def test_a_wrong_form_is_caught():
    with pytest.raises(StrategyError) as caught:
        verify({"w": np.zeros(3, np.float32)}, {"w": Constant(np.ones(3, np.float32))})
    assert caught.value.reason == "gate_decode"


@pytest.mark.parametrize(
    ("count", "bits"), [(2, 1.0), (3, 1.6), (8, 64 / 21), (16, 4.0), (40, 16 / 3)])
def test_bits_per_weight(count, bits):
    table = random.standard_normal(count).astype(np.float32)
    array = table[random.integers(0, count, (120, 63))]
    expression = smallest({"w": array}, 13)["w"]
    spent = 8 * (bytes_of(expression) - 4 * count)
    assert spent <= array.size * bits * 1.01 + 8 * 190


def test_large_tensors_prefer_bytes_that_load_fast(monkeypatch):
    codes = Codes(np.zeros(4000, dtype=np.int32), 8)
    assert packing.best_layout([codes]).word.bytes > 1
    monkeypatch.setattr(packing, "MANY", 100)
    monkeypatch.setattr(packing, "BYTE_TOLERANCE", 1.5)
    assert packing.best_layout([codes]).word.bytes == 1


def test_streams_of_unlike_radix_stay_apart():
    large = Codes(np.zeros(50_000, dtype=np.int32), 16)
    binary = Codes(np.zeros(50_000, dtype=np.int32), 2)
    assert len(packing.pools([large, binary], share=True)) == 2
    small = Codes(np.zeros(40, dtype=np.int32), 2)
    assert len(packing.pools([large, small], share=True)) == 1
    assert len(packing.pools([large, small], share=False)) == 2


def scaled_integers(filters, columns, largest, generator):
    units = generator.integers(-largest, largest + 1, (filters, columns, 3, 3))
    scales = np.float32(generator.integers(1024, 2048, filters) / 2**16)
    return (units * scales.reshape(-1, 1, 1, 1)).astype(np.float32), scales


@pytest.mark.parametrize(("largest", "bytes_per_weight"), [(127, 1.0), (7, 0.5), (1, 0.2)])
def test_multiples_of_a_scale_per_filter_are_small(largest, bytes_per_weight):
    array, scales = scaled_integers(32, 8, largest, np.random.default_rng(0))
    written = smallest({"w": array}, 13, {"w": scales.tolist()})["w"]
    writer = Writer(13)
    writer.write(written)
    assert writer.size_bytes() < bytes_per_weight * array.size * 1.05 + 2 * 32 + 320
    assert evaluate(written).tobytes() == array.tobytes()


def test_scales_of_which_the_filters_are_no_multiples_are_not_used():
    generator = np.random.default_rng(0)
    array, scales = scaled_integers(6, 4, 127, generator)
    for wrong in (scales * np.float32(1.1), scales[:3], np.zeros(6), scales[:, None]):
        written = smallest({"w": array}, 13, {"w": np.ravel(wrong).tolist()})["w"]
        assert evaluate(written).tobytes() == array.tobytes()
    assert scaled(array, scales * np.float32(1.1)) is None
    assert scaled(array.T.copy(), scales[:3]) is None
    assert scaled(array, scales * 0) is None
