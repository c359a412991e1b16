"""Unpacks and checks the raw samples of a measurement."""

import base64
import binascii
import sys
import zlib
from array import array
from collections.abc import Sequence

from agents import protocol
from searcher.errors import ProtocolError
from searcher.ledger.tables.measurements import RawSamples

MOST_SAMPLE_BYTES = 128 * 2**20


def samples_of(measured: protocol.Measured) -> RawSamples:
    """The raw samples of a measurement. Raises ProtocolError unless the numbers of blocks and calls
    agree and all durations are above 0."""
    blocks, per_block = measured.blocks, measured.sample_blocks
    lengths = {len(blocks.candidate_s), len(blocks.before_s), len(blocks.after_s), len(per_block)}
    if len(lengths) > 1:
        raise ProtocolError(
            f"The blocks of {measured.sha256} differ in number: {sorted(lengths)}."
        )
    for seconds in blocks:
        if seconds and min(seconds) <= 0:
            raise ProtocolError(f"A block of {measured.sha256} has a duration that is not above 0.")
    calls = unpacked(measured.samples)
    if measured.session_blocks and (
            min(measured.session_blocks) < 0 or sum(measured.session_blocks) != len(per_block)):
        raise ProtocolError(f"The sessions of {measured.sha256} do not match its blocks.")
    if (per_block and min(per_block) < 1) or sum(per_block) != len(calls):
        raise ProtocolError(
            f"{measured.sha256} has {len(calls)} timed calls, but its blocks have {sum(per_block)}."
        )
    return RawSamples(blocks.candidate_s, blocks.before_s, blocks.after_s, per_block, calls)


def unpacked(samples: str) -> Sequence[int]:
    """Inverse of ``protocol.pack_samples``, in nanoseconds, with bounded size. Raises
    ProtocolError."""
    if not samples:
        return array("I")
    wide = samples.startswith("Q:")
    unpacker = zlib.decompressobj()
    try:
        packed = base64.b64decode(samples[2:] if wide else samples, validate=True)
        content = unpacker.decompress(packed, MOST_SAMPLE_BYTES)
        if not unpacker.eof:
            raise ProtocolError(f"Samples unpack to over {MOST_SAMPLE_BYTES} bytes, or end early.")
        values: array[int] = array("Q" if wide else "I")
        values.frombytes(content)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise ProtocolError(f"Samples cannot be unpacked: {error}.") from error
    if sys.byteorder == "big":
        values.byteswap()
    return values
