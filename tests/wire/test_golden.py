"""Messages of protocol 1 as files: whatever changes, both sides must go on reading them."""

import json
import os

import pytest

from agents import protocol

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "v1")
NAMES = sorted(name[:-len(".json")] for name in os.listdir(FOLDER))


def class_of(name):
    return getattr(protocol, "".join(word.capitalize() for word in name.split("_")))


def content_of(name):
    with open(os.path.join(FOLDER, name + ".json"), "rb") as stream:
        return stream.read()


def test_every_message_of_the_wire_has_a_golden_file():
    assert {class_of(name).__name__ for name in NAMES} == {
        "Enrol", "Enrolled", "LeaseRequest", "Lease", "Heartbeat", "HeartbeatAnswer",
        "ResultEnvelope", "ResultAnswer", "ErrorAnswer", "MeasurePayload", "MeasureResult",
        "Failure"}


@pytest.mark.parametrize("name", NAMES)
def test_it_is_read_and_written_back_unchanged(name):
    message = protocol.decode(class_of(name), content_of(name))
    assert json.loads(protocol.encode(message).decode()) == json.loads(content_of(name).decode())


@pytest.mark.parametrize("name", NAMES)
def test_unknown_fields_are_ignored(name):
    content = json.loads(content_of(name).decode())
    expected = protocol.decode(class_of(name), content)
    assert protocol.decode(class_of(name), dict(content, of_version_2=[1])) == expected


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_field_is_named_unless_it_has_a_default(name):
    cls, content = class_of(name), json.loads(content_of(name).decode())
    for field in cls._fields:
        rest = {key: value for key, value in content.items() if key != field}
        if field in getattr(cls, "_field_defaults", {}):
            assert isinstance(protocol.decode(cls, rest), cls)
        else:
            with pytest.raises(protocol.ProtocolError, match=r"{}\.{} is missing".format(
                    cls.__name__, field)):
                protocol.decode(cls, rest)


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_type_is_named_with_its_value(name):
    cls, content = class_of(name), json.loads(content_of(name).decode())
    for field in cls._fields:
        with pytest.raises(protocol.ProtocolError, match=field) as caught:
            protocol.decode(cls, dict(content, **{field: {"what": 0} if not isinstance(
                content.get(field), dict) else 3}))
        assert "what" in str(caught.value) or "got 3" in str(caught.value)


def test_samples_packed_long_ago_are_unpacked():
    result = protocol.decode(protocol.MeasureResult, content_of("measure_result"))
    assert protocol.unpack_samples(result.measurements[0].samples) == [25000, 25100, 26000]
