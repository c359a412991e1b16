import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from searcher.statistics.score_codec import (
    DTYPES,
    LARGEST_SCORES_BYTES,
    fits,
    pack,
    unpack,
)

SHAPES = st.tuples(st.integers(1, 40)) | st.tuples(st.integers(1, 40), st.integers(1, 5))
SCORES = st.sampled_from(["bool", *DTYPES]).flatmap(lambda name: arrays.arrays(
    name, SHAPES, elements=arrays.from_dtype(np.dtype(name), allow_nan=False,
                                             allow_infinity=False)))


@given(SCORES)
def test_unpack_undoes_pack(scores: np.ndarray) -> None:
    content, encoding = pack(scores)
    found = unpack(content, encoding, len(scores))
    assert found.dtype == scores.dtype and np.array_equal(found, scores)
    swapped = scores.astype(scores.dtype.newbyteorder())
    assert pack(swapped) == (content, encoding), "the order of bytes is always the same"


@pytest.mark.parametrize(("scores", "encoding"), [
    (np.ones(9, bool), "bits"), (np.ones((3, 2), bool), "bitsx2"), (np.ones(4), "float64"),
    (np.ones((4, 2), np.uint8), "uint8x2"), (np.ones(4, np.longdouble), "float64")])
def test_the_encoding_names_type_and_columns(scores: np.ndarray, encoding: str) -> None:
    content, found = pack(scores)
    assert found == encoding and np.array_equal(unpack(content, encoding, len(scores)), scores)


def test_bits_are_those_of_older_versions() -> None:
    right = np.array([1, 1, 1, 1, 1, 1, 0, 0, 1], bool)
    assert pack(right) == (np.packbits(right).tobytes(), "bits")


@pytest.mark.parametrize(("scores", "said"), [
    (np.ones((2, 2, 2)), "shape (2, 2, 2)"), (np.float64(1), "shape ()"), (np.ones(0), "(0,)"),
    (np.ones((3, 0)), "(3, 0)"), (np.array([1.0, np.nan]), "not finite"),
    (np.array([np.inf]), "not finite"), (np.ones(2, complex), "type complex128"),
    (np.array(["a"]), "type str"), (np.ones(LARGEST_SCORES_BYTES // 8 + 1), "exceed")])
def test_what_is_no_score_is_refused(scores: np.ndarray, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        pack(scores)
    assert said in str(caught.value)


def test_the_largest_scores_fit() -> None:
    largest = np.zeros(LARGEST_SCORES_BYTES, np.uint8)
    assert fits(largest) and fits(np.zeros(8 * LARGEST_SCORES_BYTES, bool))
    assert not fits(np.zeros(LARGEST_SCORES_BYTES + 1, np.uint8))
    assert len(unpack(*pack(largest), len(largest))) == LARGEST_SCORES_BYTES


FLOATS, ENCODING = pack(np.arange(4.0))


@pytest.mark.parametrize(("content", "encoding", "n", "said"), [
    (FLOATS, "float64", 5, "have 32 bytes, expected 40"),
    (FLOATS, "float64", 3, "have 25 bytes, expected 24"),
    (FLOATS, "float64", 0, "0 rows of float64 exceed"),
    (FLOATS, "float64x2", 2**31, "exceed"), (FLOATS, "float64x1048577", 1, "exceed"),
    (FLOATS, "float128", 4, "unknown encoding"), (FLOATS, "float64x0", 4, "unknown encoding"),
    (FLOATS, "", 4, "unknown encoding"), (FLOATS, "float64\n", 4, "unknown encoding"),
    (FLOATS[:-1], "float64", 4, "end early"), (FLOATS + b"x", "float64", 4, "further bytes"),
    (b"", "float64", 4, "expected 32"), (b"garbage", "float64", 4, "cannot be unpacked"),
    (b"\x00", "bits", 9, "have 1 bytes, expected 2"),
    (zlib.compress(np.array([np.nan]).tobytes()), "float64", 1, "not finite")])
def test_other_bytes_are_refused(content: bytes, encoding: str, n: int, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        unpack(content, encoding, n)
    assert said in str(caught.value)


def test_a_small_message_never_becomes_large() -> None:
    bomb = zlib.compress(bytes(64 * 2**20))
    assert len(bomb) < 100_000
    with pytest.raises(ValueError, match="have 17 bytes, expected 16"):
        unpack(bomb, "float64", 2)


@given(st.binary(max_size=60), st.sampled_from([*DTYPES, "bits", "uint8x3", "bitsx3"]),
       st.integers(-1, 40))
def test_garbage_raises_nothing_else(content: bytes, encoding: str, n: int) -> None:
    try:
        assert len(unpack(content, encoding, n)) == n
    except ValueError as error:
        assert str(error)
