"""Packs long lists of numbers into compressed text, so that a message can carry all samples."""

import base64
import binascii
import sys
import zlib
from array import array
from typing import Iterable, List

from agents.protocol.codec import ProtocolError, short


def pack_samples(samples_ns: Iterable[int]) -> str:
    """``base64(zlib(little-endian uint32))``; with the prefix ``Q:`` uint64, for samples over 4.29
    s."""
    values = list(samples_ns)
    wide = max(values, default=0) >= 2**32
    packed = array("Q" if wide else "I", values)
    if sys.byteorder == "big":
        packed.byteswap()
    text = base64.b64encode(zlib.compress(packed.tobytes(), 6)).decode("ascii")
    return "Q:" + text if wide else text


def unpack_samples(text: str) -> List[int]:
    """The nanoseconds that ``pack_samples`` packed; none for ``""``. Raises ProtocolError."""
    if not text:
        return []
    wide = text.startswith("Q:")
    packed = array("Q" if wide else "I")
    try:
        packed.frombytes(zlib.decompress(base64.b64decode(text[2:] if wide else text,
                                                          validate=True)))
    except (binascii.Error, zlib.error, ValueError) as error:
        raise ProtocolError("Samples cannot be unpacked ({}): {}".format(
            error, short(text))) from None
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tolist()


def pack_values(values: Iterable[float]) -> str:
    """``base64(zlib(little-endian float64))``; NaN stays NaN."""
    packed = array("d", values)
    if sys.byteorder == "big":
        packed.byteswap()
    return base64.b64encode(zlib.compress(packed.tobytes(), 6)).decode("ascii")


def unpack_values(text: str) -> List[float]:
    """The values that ``pack_values`` packed; none for ``""``. Raises ProtocolError."""
    packed = array("d")
    try:
        packed.frombytes(zlib.decompress(base64.b64decode(text, validate=True)) if text else b"")
    except (binascii.Error, zlib.error, ValueError) as error:
        raise ProtocolError("Values cannot be unpacked ({}): {}".format(
            error, short(text))) from None
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tolist()


def pack_bytes(content: bytes) -> str:
    """``base64(zlib(content))``."""
    return base64.b64encode(zlib.compress(content, 6)).decode("ascii")


def unpack_bytes(text: str, most: int) -> bytes:
    """The bytes that ``pack_bytes`` packed. Raises ProtocolError, also for over ``most`` bytes."""
    unpacker = zlib.decompressobj()
    try:
        content = unpacker.decompress(base64.b64decode(text, validate=True), most)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise ProtocolError("Bytes cannot be unpacked ({}): {}".format(
            error, short(text))) from None
    if not unpacker.eof and unpacker.decompress(unpacker.unconsumed_tail, 1):
        raise ProtocolError("Bytes unpack to over {}.".format(most))
    if not unpacker.eof:
        raise ProtocolError("Bytes end early: {}".format(short(text)))
    return content
