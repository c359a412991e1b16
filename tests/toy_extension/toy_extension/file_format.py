"""A file format: an ONNX file, compressed behind four letters."""

import zlib

from searcher.artifacts.formats.base import ArtifactFormat, Refused
from searcher.artifacts.formats.onnx import Onnx
from searcher.errors import BuildError, UserError

MAGIC = b"TOY1"


def unpacked(content):
    """The ONNX file inside. Raises ValueError."""
    content = content if isinstance(content, bytes) else content.read_bytes()
    if not content.startswith(MAGIC):
        raise ValueError("it does not begin with TOY1")
    try:
        return zlib.decompress(content[len(MAGIC):])
    except zlib.error as error:
        raise ValueError(str(error)) from error


class Toy(ArtifactFormat):
    name = "toy"
    suffix = ".toy"

    def from_onnx(self, content):
        return MAGIC + zlib.compress(content, 9)

    def load(self, content, threads=1):
        try:
            return Onnx().load(unpacked(content), threads)
        except ValueError as error:
            raise BuildError(f"It is no toy file: {error}", "unloadable") from error

    def complexity(self, content):
        try:
            return Onnx().complexity(unpacked(content))
        except ValueError as error:
            raise UserError(f"It is no toy file: {error}") from error

    def inspect(self, content):
        try:
            return Onnx().inspect(unpacked(content))
        except ValueError as error:
            raise Refused("not_toy", f"It is no toy file: {error}") from error
