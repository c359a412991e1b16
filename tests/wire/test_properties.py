"""decode undoes encode, and garbage raises ProtocolError only."""

import base64
import json
import typing

import pytest

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from agents import protocol  # noqa: E402

MESSAGES = [
    protocol.Enrol, protocol.Enrolled, protocol.LeaseRequest, protocol.Lease, protocol.Heartbeat,
    protocol.HeartbeatAnswer, protocol.ResultEnvelope, protocol.Failure, protocol.ResultAnswer,
    protocol.ErrorAnswer, protocol.MeasurePayload, protocol.MeasureResult,
    protocol.InferPayload, protocol.InferResult, protocol.PreparePayload, protocol.PrepareResult,
]
FINITE = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FINITE | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8)
SCALARS = {int: st.integers(), float: FINITE, str: st.text(), bool: st.booleans()}


def values_of(kind):
    origin = getattr(kind, "__origin__", None)
    if origin is typing.Union:
        return st.none() | values_of(kind.__args__[0])
    if origin in (list, typing.List):
        return st.lists(values_of(kind.__args__[0]), max_size=3)
    if origin in (dict, typing.Dict):
        return st.dictionaries(st.text(), JSON, max_size=3)
    return SCALARS[kind] if kind in SCALARS else messages_of(kind)


def messages_of(cls):
    fields = {name: values_of(kind) for name, kind in typing.get_type_hints(cls).items()}
    for (owner, name), allowed in protocol.CHOICES.items():
        if owner is cls:
            fields[name] = st.sampled_from(allowed)
    return st.builds(cls, **fields)


@given(st.one_of([messages_of(cls) for cls in MESSAGES]))
def test_decode_undoes_encode(message):
    assert protocol.decode(type(message), protocol.encode(message)) == message


@given(st.sampled_from(MESSAGES), st.binary() | st.text() | JSON.map(json.dumps) | JSON)
def test_garbage_raises_protocol_errors_only(cls, garbage):
    try:
        assert isinstance(protocol.decode(cls, garbage), cls)
    except protocol.ProtocolError as error:
        assert str(error)


@given(st.data())
def test_a_message_with_one_field_of_garbage_raises_protocol_errors_only(data):
    cls = data.draw(st.sampled_from(MESSAGES))
    content = protocol.as_json(data.draw(messages_of(cls)))
    content[data.draw(st.sampled_from(cls._fields))] = data.draw(JSON)
    try:
        assert isinstance(protocol.decode(cls, content), cls)
    except protocol.ProtocolError as error:
        assert cls.__name__ in str(error)


@given(st.binary(max_size=300))
def test_bytes_come_back_if_they_are_not_too_many(content):
    packed = protocol.pack_bytes(content)
    assert protocol.unpack_bytes(packed, 300) == content
    with pytest.raises(protocol.ProtocolError, match="over 2|end early"):
        protocol.unpack_bytes(protocol.pack_bytes(content + b"abc"), 2)


@given(st.text() | st.binary().map(lambda raw: base64.b64encode(raw).decode()))
def test_bytes_of_garbage_raise_protocol_errors_only(text):
    try:
        protocol.unpack_bytes(text, 100)
    except protocol.ProtocolError as error:
        assert "Bytes" in str(error)


@given(st.lists(st.integers(min_value=0, max_value=2**64 - 1)))
def test_samples_come_back(samples):
    assert protocol.unpack_samples(protocol.pack_samples(samples)) == samples


@given(st.text())
def test_samples_of_garbage_raise_protocol_errors_only(text):
    try:
        protocol.unpack_samples(text)
    except protocol.ProtocolError as error:
        assert "unpacked" in str(error)
