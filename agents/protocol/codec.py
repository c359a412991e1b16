"""Encodes messages as JSON and decodes them; an invalid message is refused with its field.

A message is a NamedTuple of strings, numbers, lists, objects and messages. ``CHOICES`` lists the
allowed values of a field, by class and field.
"""

import hashlib
import json
import math
from typing import (
    Any,
    Callable,
    Dict,
    List,
    Tuple,
    Type,
    TypeVar,
    Union,
    get_type_hints,
)

T = TypeVar("T")
JsonObject = Dict[str, object]
"""A JSON object whose keys the protocol does not fix, such as the options of a runtime."""
CHOICES: Dict[Tuple[type, str], Tuple[str, ...]] = {}


class ProtocolError(ValueError):
    """An invalid message; the text names the field and the value."""


def encode(message: Any) -> bytes:
    """Canonical JSON of a message. Raises ProtocolError for NaN and infinity."""
    return canonical_json(as_json(message))


def as_json(value: Any) -> Any:
    """``value`` with all messages in it as dicts."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {name: as_json(getattr(value, name)) for name in value._fields}
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    return value


def decode(cls: Type[T], content: object) -> T:
    """A message of type ``cls`` from JSON text (bytes or str) or a parsed object. Raises
    ProtocolError only."""
    value = parse_json(content) if isinstance(content, (bytes, bytearray, str)) else content
    try:
        message: T = _message(cls, value, cls.__name__)
    except RecursionError:
        raise ProtocolError("{}: the message is nested too deeply.".format(cls.__name__)) from None
    return message


def parse_json(content: Union[bytes, bytearray, str]) -> Any:
    """Parses JSON as in RFC 8259, without NaN and infinity. Raises ProtocolError."""
    try:
        text = content if isinstance(content, str) else bytes(content).decode("utf-8")
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ProtocolError("The message is nested too deeply to be read.") from None
    except ValueError as error:
        raise ProtocolError("The message is not JSON ({}): {}".format(
            error, short(content))) from None


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys, without spaces, in ASCII: equal values give equal bytes. Raises
    ProtocolError."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ProtocolError("Cannot be written as JSON ({}): {}".format(
            error, short(value))) from None


def content_sha256(content: bytes) -> str:
    """Hexadecimal SHA-256 of ``content``."""
    return hashlib.sha256(content).hexdigest()


def _message(cls: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise ProtocolError("{}: expected an object, got {}".format(where, short(value)))
    found = {}
    for name, kind, optional, allowed in _fields(cls):
        if name not in value:
            if not optional:
                raise ProtocolError("{}.{} is missing; the message has the fields {}".format(
                    where, name, short(sorted(map(str, value)))))
            continue
        given = value[name]
        # A fast path for values of exactly this type.
        plain = type(given) is kind and (
            kind in _PLAIN or kind is float and math.isfinite(given))
        found[name] = given if plain else _checked(kind, given, where, name)
        if allowed and found[name] not in allowed:
            raise ProtocolError("{}.{} must be one of {}, got {}".format(
                where, name, ", ".join(allowed), short(value[name])))
    return cls(**found)


_PLAIN = frozenset((str, bool, int))
_FIELDS: Dict[Any, List[Tuple[str, Any, bool, Tuple[str, ...]]]] = {}


def _fields(cls: Any) -> List[Tuple[str, Any, bool, Tuple[str, ...]]]:
    """(name, type, whether optional, allowed values) per field; cached, as type hints are slow."""
    if cls not in _FIELDS:
        defaults = getattr(cls, "_field_defaults", {})
        _FIELDS[cls] = [(name, kind, name in defaults, CHOICES.get((cls, name), ()))
                        for name, kind in get_type_hints(cls).items()]
    return _FIELDS[cls]


def _checked(kind: Any, value: Any, parent: str, name: str) -> Any:
    """``value`` converted to ``kind``: an integer is accepted for a float. Raises ProtocolError."""
    where = parent + "." + name
    origin = getattr(kind, "__origin__", None)
    if origin is Union:
        inner = [option for option in kind.__args__ if option is not type(None)]
        return None if value is None else _checked(inner[0], value, parent, name)
    if origin in (list, List):
        if not isinstance(value, list):
            raise _wrong(where, "a list", value)
        if _all_of(kind.__args__[0], value):
            return value
        return [_checked(kind.__args__[0], item, parent, "{}[{}]".format(name, position))
                for position, item in enumerate(value)]
    if origin in (dict, Dict):
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise _wrong(where, "an object", value)
        return value
    if kind in _SCALARS:
        return _SCALARS[kind](value, where)
    return _message(kind, value, where)


def _all_of(kind: Any, values: List[Any]) -> bool:
    """Whether all values are of this scalar type and finite; a fast path for long lists."""
    if kind not in (float, int, str) or not {kind}.issuperset(map(type, values)):
        return False
    return kind is not float or all(map(math.isfinite, values))


def _integer(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong(where, "an integer", value)
    return value


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _wrong(where, "a number", value)
    try:
        number = float(value)
    except OverflowError:
        raise _wrong(where, "a finite number", value) from None
    if not math.isfinite(number):
        raise _wrong(where, "a finite number", value)
    return number


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise _wrong(where, "a string", value)
    return value


def _truth(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise _wrong(where, "true or false", value)
    return value


_SCALARS: Dict[Any, Callable[[Any, str], Any]] = {
    int: _integer, float: _number, str: _text, bool: _truth}


def _wrong(where: str, expected: str, value: Any) -> ProtocolError:
    return ProtocolError("{} must be {}, got {}".format(where, expected, short(value)))


def short(value: Any) -> str:
    """``repr`` of a value, cut to 80 characters."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):
        text = "a {} that cannot be shown".format(type(value).__name__)
    return text if len(text) <= 80 else text[:77] + "..."


def _refuse_constant(name: str) -> Any:
    raise ValueError("{} is not a JSON number".format(name))
