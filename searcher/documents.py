"""JSON documents and frozen dataclasses: a document is parsed once, at the edge where it comes in.

Fields that a dataclass does not have are ignored, so that a newer program's document can be read.
"""

from typing import TypeVar, cast

from pydantic import TypeAdapter, ValidationError

Kind = TypeVar("Kind")

_adapters: dict[object, object] = {}


def _adapter(kind: type[Kind]) -> TypeAdapter[Kind]:
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return cast(TypeAdapter[Kind], _adapters[kind])


def parse(kind: type[Kind], document: object) -> Kind:
    """``document`` (plain JSON) as ``kind``. Raises ValueError, which names the field."""
    try:
        return _adapter(kind).validate_python(document)
    except ValidationError as error:
        raise _named(kind, error) from error


def parse_text(kind: type[Kind], text: bytes) -> Kind:
    """JSON text as ``kind``, for long texts: takes as long as the JSON alone. Raises ValueError."""
    try:
        return _adapter(kind).validate_json(text)
    except ValidationError as error:
        raise _named(kind, error) from error


def _named(kind: type[Kind], error: ValidationError) -> ValueError:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or kind.__name__
    return ValueError(f"{where}: {first['msg']}")


def plain(value: object) -> dict[str, object]:
    """The dataclass ``value`` as plain JSON; ``parse`` reads it back."""
    return cast(dict[str, object], _adapter(type(value)).dump_python(value, mode="json"))
