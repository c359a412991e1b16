"""Packed integers: digits of a small radix in machine words, several tensors in one stream.

``m`` codes below ``radix`` make one word, ``sum(code[i] * radix**i)``; the decoder divides by the
powers and takes the remainder. Three values take 1.6 bits each in a byte, sixteen take 4, eight
take 3.05 in an int64 word. Tensors with radices that fit share one decoder and one Split.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from strategies.encoding.expression import (
    Apply,
    Array,
    Codes,
    Constant,
    Expression,
    Piece,
    cast,
    integers,
    reshape,
)
from strategies.encoding.graph import tensor_proto

POOL_LIMIT = 1 << 24
"""Digits in a shared stream at most: the decoder's buffers stay small while a file loads."""

MANY = 1_000_000
BYTE_TOLERANCE = 1.03
"""Above MANY digits a byte may cost this much more than a longer word, for it loads faster."""

_CAST, _DIVIDE, _FLATTEN, _SPLIT, _PIECE, _RESHAPE = 26, 44, 31, 30, 6, 36


@dataclass(frozen=True)
class Word:
    """A stored integer type and the type its digits are computed in; ``bits`` are usable."""

    stored: type[np.integer]
    computed: type[np.integer]
    bits: int

    @property
    def bytes(self) -> int:
        return int(np.dtype(self.stored).itemsize)

    @property
    def overhead_bytes(self) -> int:
        return 0 if self.stored == self.computed else _CAST


WORDS = (
    Word(np.uint8, np.int32, 8),
    Word(np.uint16, np.int32, 16),
    Word(np.int32, np.int32, 31),
    Word(np.uint32, np.int64, 32),
    Word(np.int64, np.int64, 63),
)


@cache
def digits_per_word(radix: int, bits: int) -> int:
    """The largest m with radix**m <= 2**bits; 0 when not even one digit fits."""
    if radix <= 1:
        return bits
    count, power = 0, radix
    while power <= 1 << bits:
        count, power = count + 1, power * radix
    return count


@cache
def byte_rate(radix: int) -> float:
    """Bytes per digit in the best word."""
    return min(
        word.bytes / digits_per_word(radix, word.bits)
        for word in WORDS
        if digits_per_word(radix, word.bits)
    )


@dataclass(frozen=True)
class Layout:
    """How a stream is cut into words; ``aligned``: every tensor begins with a new word."""

    word: Word
    per_word: int
    aligned: bool
    cost_bytes: int


@cache
def _powers(radix: int, per_word: int, dtype: np.dtype) -> Constant:
    return integers([radix**k for k in range(per_word)], dtype)


def _layout(
    word: Word, per_word: int, radix: int, counts: Sequence[int], direct: bool
) -> Layout:
    aligned = all(count % per_word == 0 for count in counts)
    words = -(-sum(counts) // per_word)
    cost = words * word.bytes + 12 + word.overhead_bytes
    if per_word > 1:
        powers = _powers(radix, per_word, np.dtype(word.computed)).array
        cost += _DIVIDE + int(tensor_proto(powers, "p").ByteSize())
    cost += 0 if aligned else _FLATTEN
    cost += _SPLIT + _PIECE * len(counts) if len(counts) > 1 or not aligned else 0
    return Layout(word, per_word, aligned, cost - (_RESHAPE if direct else 0))


def best_layout(members: Sequence[Codes]) -> Layout:
    """The layout of the fewest bytes for ``members`` in one stream."""
    radix = max(codes.radix for codes in members)
    counts = [codes.digits.size for codes in members]
    layouts = []
    for word in WORDS:
        most = digits_per_word(radix, word.bits)
        if not most:
            continue
        layouts.append(_layout(word, most, radix, counts, False))
        shape = members[0].digits.shape
        if len(members) == 1 and len(shape) > 1 and 0 < shape[-1] <= most:
            layouts.append(_layout(word, shape[-1], radix, counts, True))
    best = min(layouts, key=lambda layout: layout.cost_bytes)
    byte = layouts[0]
    if sum(counts) > MANY and byte.word.bytes == 1:
        best = byte if byte.cost_bytes <= best.cost_bytes * BYTE_TOLERANCE else best
    return best


def pools(leaves: Sequence[Codes], share: bool) -> list[list[Codes]]:
    """``leaves`` in groups that share a stream; neighbours in radix merge while bytes fall."""
    groups = [[codes] for codes in sorted(leaves, key=lambda codes: codes.radix)]
    while share and len(groups) > 1:
        gains = [_gain(left, right) for left, right in zip(groups, groups[1:], strict=False)]
        best = max(range(len(gains)), key=gains.__getitem__)
        if gains[best] <= 0:
            break
        groups[best : best + 2] = [groups[best] + groups[best + 1]]
    return groups


def _gain(left: list[Codes], right: list[Codes]) -> int:
    if sum(codes.digits.size for codes in left + right) > POOL_LIMIT:
        return 0
    apart = best_layout(left).cost_bytes + best_layout(right).cost_bytes
    return apart - best_layout(left + right).cost_bytes


def pack_words(digits: Array, radix: int, word: Word, per_word: int) -> Array:
    """The words of ``digits`` (padded with zeros), shape (n,)."""
    padded = np.zeros(-(-digits.size // per_word) * per_word, dtype=np.int64)
    padded[: digits.size] = digits
    rows = padded.reshape(-1, per_word)
    words = np.zeros(len(rows), dtype=np.int64)
    for column in reversed(range(per_word)):
        words *= radix
        words += rows[:, column]
    return words.astype(word.stored)


def pack(members: Sequence[Codes]) -> dict[Codes, Expression]:
    """An expression for each of ``members``: the same digits, though perhaps in another shape of
    as many elements."""
    layout = best_layout(members)
    radix = max(codes.radix for codes in members)
    digits = np.concatenate([codes.digits.ravel() for codes in members])
    words = pack_words(digits, radix, layout.word, layout.per_word)
    shape = members[0].digits.shape
    if layout.per_word == 1:
        words = words.reshape(shape) if len(members) == 1 else words
    elif len(members) == 1 and len(shape) > 1 and shape[-1] == layout.per_word:
        words = words.reshape(*shape[:-1], 1)
    else:
        words = words.reshape(-1, 1)
    stream = _unpacked(Constant(words), radix, layout)
    if len(members) == 1 and layout.aligned:
        return {members[0]: stream}
    counts = [codes.digits.size for codes in members]
    if layout.aligned:
        counts = [count // layout.per_word for count in counts]
    else:
        stream = reshape(stream, (words.size * layout.per_word,))
        counts.append(words.size * layout.per_word - sum(counts))
    sizes = tuple(count for count in counts if count)
    if len(sizes) == 1:
        return {members[0]: stream}
    return {codes: Piece(stream, sizes, index) for index, codes in enumerate(members)}


def _unpacked(words: Expression, radix: int, layout: Layout) -> Expression:
    if layout.word.stored != layout.word.computed:
        words = cast(words, layout.word.computed)
    if layout.per_word == 1:
        return words
    divided = Apply("Div", (words, _powers(radix, layout.per_word, np.dtype(layout.word.computed))))
    return Apply("Mod", (divided, integers(radix, layout.word.computed)))
