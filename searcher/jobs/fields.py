"""Checks of single JSON fields. Errors are ProtocolError (400) and name the field ``where``."""

import math
import re
from collections.abc import Mapping
from typing import TypeVar

from agents import protocol
from searcher.artifacts.formats import registry as formats
from searcher.errors import ProtocolError

Message = TypeVar("Message")
SHA256 = re.compile(r"[0-9a-f]{64}")


def sha256_of(value: object, where: str) -> str:
    if not isinstance(value, str) or not SHA256.fullmatch(value):
        raise ProtocolError(f"{where} = {str(value)[:80]!r} must be 64 hexadecimal digits.")
    return value


def whole_of(value: object, where: str, low: int = 0, high: int = 2**53) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ProtocolError(f"{where} = {str(value)[:80]!r} must be a whole number >= {low}.")
    return value


def number_of(value: object, where: str, low: float = -math.inf) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ProtocolError(f"{where} = {str(value)[:80]!r} must be a number.")
    if not abs(value) <= 1e300 or value < low:
        raise ProtocolError(f"{where} = {str(value)[:80]} must be finite and at least {low:g}.")
    return float(value)


def text_of(value: object, where: str, most: int = 4000) -> str:
    if not isinstance(value, str) or not value or len(value) > most:
        raise ProtocolError(f"{where} = {str(value)[:80]!r} must have 1 to {most} characters.")
    return value.encode("utf-8", "replace").decode()


def table_of(value: object, where: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ProtocolError(f"{where} must be an object, got {str(value)[:80]!r}.")
    return value


def list_of(value: object, where: str, most: int) -> list[object]:
    if not isinstance(value, list) or len(value) > most:
        raise ProtocolError(f"{where} must be a list of at most {most} entries.")
    return value


def message_of(kind: type[Message], payload: Mapping[str, object]) -> Message:
    """Decode ``payload`` as a message of the agents' protocol. Raises ProtocolError (400)."""
    try:
        message: Message = protocol.decode(kind, dict(payload))
    except protocol.ProtocolError as error:
        raise ProtocolError(str(error)) from error
    return message


def check_run(runtime: str, attempt: int, *files: protocol.ArtifactRef) -> None:
    """Check the fields that all jobs of devices have."""
    for file in files:
        sha256_of(file.sha256, "sha256")
        whole_of(file.size_bytes, "size_bytes", 1)
    text_of(runtime, "runtime", 40)
    whole_of(attempt, "attempt")


def format_of(payload: Mapping[str, object]) -> str:
    """The file format of a request, or the default."""
    return text_of(payload.get("format", formats.DEFAULT), "format", 40)
