"""OpenAPI: schemas of the agents' messages, and the refusals of every route."""

from typing import Any, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter

from agents import protocol

MEANINGS = {
    400: "The request is malformed", 401: "Unknown secret",
    403: "The role may not use this route", 404: "Not found", 408: "The body stopped coming",
    409: "Conflict with the current state", 410: "The file was dropped",
    413: "The body is too long", 415: "Unsupported encoding",
    416: "Outside of the file", 426: "Other version of the protocol",
    431: "Address and headers are too long",
    503: "The ledger cannot be written", 507: "The disk is full",
}
ANYWHERE = (408, 413, 431, 503, 507)
"""Statuses that any route may answer: limits of size and time, and the state of the ledger."""


def schema_of(message: type) -> dict[str, Any]:
    """JSON schema of a message of the agents' protocol, as ``protocol.decode`` reads it: an object.
    Fields with a default may be absent; unknown fields are ignored."""
    defaults = getattr(message, "_field_defaults", {})
    properties = {name: _of(kind) for name, kind in get_type_hints(message).items()}
    for name in properties:
        if (message, name) in protocol.CHOICES:
            properties[name]["enum"] = list(protocol.CHOICES[message, name])
    return {"type": "object", "title": message.__name__, "properties": properties,
            "required": [name for name in properties if name not in defaults]}


def _of(kind: Any) -> dict[str, Any]:
    if hasattr(kind, "_fields"):
        return schema_of(kind)
    if get_origin(kind) is Union:
        return {"anyOf": [_of(option) for option in get_args(kind)]}
    if get_origin(kind) is list:
        return {"type": "array", "items": _of(get_args(kind)[0])}
    return TypeAdapter(kind).json_schema()


REFUSAL = schema_of(protocol.ErrorAnswer)


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """``responses`` of a route that may refuse with these statuses."""
    return {status: {
        "description": MEANINGS[status], "content": {"application/json": {"schema": REFUSAL}}}
        for status in statuses}


def body_of(message: type) -> dict[str, Any]:
    """``requestBody`` of a route whose body is a message of the agents' protocol."""
    return {"requestBody": {"required": True, "content": {
        "application/json": {"schema": schema_of(message)}}}}


def with_refusals(document: dict[str, Any]) -> dict[str, Any]:
    """Add to every operation all refusals with which it may answer."""
    for operations in document["paths"].values():
        for operation in operations.values():
            responses = operation["responses"]
            # FastAPI answers 422 to an invalid request; fleetfront answers 400.
            validated = responses.pop("422", None) is not None
            secret = (401, 403) if "security" in operation else ()
            for status, refusal in refusals(
                    *ANYWHERE, *secret, *((400,) if validated else ())).items():
                responses.setdefault(str(status), refusal)
    for unused in ("HTTPValidationError", "ValidationError"):
        document.get("components", {}).get("schemas", {}).pop(unused, None)
    return document
