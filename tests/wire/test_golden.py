"""Messages of protocol 1 as files: whatever changes, both sides must go on reading them.

A file never changes. What a message has gained since is in further files, ``<message>.<field>``.
"""

import hashlib
import json
import os
import struct
import typing

import pytest

from agents import protocol

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "v1")
NAMES = sorted(name[:-len(".json")] for name in os.listdir(FOLDER))


ADDED = {"lease": {"transfer_s": 0.0}, "heartbeat": {"phase": ""},
         "measure_result": {"device_s": None, "reference_nodes": None},
         "measure_payload": {"profile": None}, "lease_request": {"kinds": []},
         "infer_payload": {"outputs": []},
         "infer_result": {"others": [], "name": "", "kind": "<f4"}}
"""What the first messages of protocol 1 did not have, with what its absence means."""
ADDED_WITHIN = {
    "plan": {"energy_s": 0.0, "idle_s": 0.0, "warmup_max_s": 0.0, "start_below_c": 0.0,
             "cool_down_s": 0.0, "cache_flush_bytes": 0, "refuse_doubt": False, "nodes": False},
    "measurements": {"energy": None, "warnings": [], "session_blocks": [], "nodes": None}}
"""The same of messages within messages, by the field that holds them."""
FIRST = {
    # The sha256 of each file as it was first released.
    "enrol":
        "9c174f3be5b1bb6afc426eabeafa6c36448432248f09c0c0540af9f1871202f8",
    "enrolled":
        "4226614ccc13d05806c71416e82bde9a1eb52e89739ee0ce8c1fe2cc8e5e626b",
    "error_answer":
        "a0ffc42c58c4e8c5071dce1b3c59ea322b09ab562fb7408e8f175da24cb0d07f",
    "failure":
        "71f89aad9d93f235008e013a2bce570f0cceb6084c769f4213ec8602359f46b0",
    "heartbeat":
        "125d2eae4d599c663e74812c7e93ee84924bf7792d02db6258cbd2399a780004",
    "heartbeat_answer":
        "b61bc5ebb4adeca5c011d125d95fe55d5cc03e2b26cb8b22531f70d6962c5ed6",
    "lease":
        "28bd16294807a8d18fe4d9b0d84e3d823b43f5fe3f24da4ad8d5f7a0b7aa874f",
    "lease_request":
        "83fd96c66b5b2ff5a74b49fdfc66f6041fc07c6015626c80480d98e196279237",
    "measure_payload":
        "4c661235ec2f12fa3b72fa3849f8e35af0fcf01cec1fe3ec83e7609e765b955a",
    "measure_result":
        "a53680318b2c329cc99188a2598d7d0fa0953cd05451efb433f8572881a53688",
    "result_answer":
        "7b457b9c850354d7046817b34dc109db3ef29fe93e4c941cb3cac1c1f874c618",
    "result_envelope":
        "57dbac7176b88c57342ee1016a80e8e637c8f06c84766599a6a06786b6957618",
}


def class_of(name):
    return getattr(protocol, "".join(word.capitalize() for word in name.split(".")[0].split("_")))


def completed(name, content):
    """The content with what was added since and it does not have."""
    found = dict(ADDED.get(name.partition(".")[0], {}), **content)
    for field in set(ADDED_WITHIN) & set(content):
        inner = content[field]
        found[field] = ([dict(ADDED_WITHIN[field], **one) for one in inner]
                        if isinstance(inner, list) else dict(ADDED_WITHIN[field], **inner))
    return found


def content_of(name):
    with open(os.path.join(FOLDER, name + ".json"), "rb") as stream:
        return stream.read()


def nested_in(cls):
    """The messages inside a message."""
    found = set()
    for kind in typing.get_type_hints(cls).values():
        for one in (kind, *(getattr(kind, "__args__", None) or ())):
            if hasattr(one, "_fields"):
                found |= {one} | nested_in(one)
    return found


def test_every_message_of_the_wire_has_a_golden_file():
    messages = {one for one in vars(protocol).values()
                if isinstance(one, type) and issubclass(one, tuple) and hasattr(one, "_fields")}
    messages.remove(protocol.RuntimeTraits)  # known on both sides, never sent
    golden = {class_of(name) for name in NAMES}
    assert golden | set().union(*map(nested_in, golden)) == messages
    assert len(golden) == 16


def test_every_field_is_in_a_golden_file():
    for cls in {class_of(name) for name in NAMES}:
        seen = [set(json.loads(content_of(name).decode())) for name in NAMES
                if class_of(name) is cls]
        assert set().union(*seen) == set(cls._fields)


@pytest.mark.parametrize("name", sorted(FIRST))
def test_a_golden_file_never_changes(name):
    assert hashlib.sha256(content_of(name)).hexdigest() == FIRST[name]


@pytest.mark.parametrize("name", NAMES)
def test_it_is_read_and_written_back_unchanged(name):
    content = json.loads(content_of(name).decode())
    message = protocol.decode(class_of(name), content_of(name))
    assert json.loads(protocol.encode(message).decode()) == completed(name, content)


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


def test_outputs_packed_long_ago_are_unpacked():
    result = protocol.decode(protocol.InferResult, content_of("infer_result"))
    content = protocol.unpack_bytes(result.outputs, 16)
    assert struct.unpack("<4f", content) == (0.25, 0.75, 0.5, -1.0)


def test_several_outputs_are_unpacked_by_name():
    result = protocol.decode(protocol.InferResult, content_of("infer_result.others"))
    (other,) = result.others
    assert (result.name, other.name, other.kind, other.shape) == ("logits", "class", "<i8", [2])
    assert struct.unpack("<2q", protocol.unpack_bytes(other.outputs, 16)) == (1, 0)


def test_samples_packed_long_ago_are_unpacked():
    result = protocol.decode(protocol.MeasureResult, content_of("measure_result"))
    assert protocol.unpack_samples(result.measurements[0].samples) == [25000, 25100, 26000]


@pytest.mark.parametrize("server", [2, 3, 9])
def test_a_peer_of_the_version_before_is_served(server):
    """Its messages are those without the fields that came later."""
    protocol.check_version(server - 1, server)
    for name, added in ADDED.items():
        content = json.loads(content_of(name).decode())
        assert not set(added) & set(content)
        message = protocol.decode(class_of(name), content)
        assert {field: getattr(message, field) for field in added} == added
        later = "{}.{}".format(name, next(iter(added)))
        assert protocol.decode(class_of(later), content_of(later)) != message


@pytest.mark.parametrize("server", [1, 2, 3, 9])
@pytest.mark.parametrize("ahead, mend", [
    (1, "update the coordinator, or use the agent.pyz it ships"),
    (-2, "update the agent: copy the coordinator's agent.pyz to the device")])
def test_any_other_version_is_refused_with_both_versions_and_the_remedy(server, ahead, mend):
    client = server + ahead
    with pytest.raises(protocol.VersionMismatch) as caught:
        protocol.check_version(client, server)
    spoken = str(server) if server == 1 else "{} and {}".format(server, server - 1)
    assert str(caught.value) == (
        "The coordinator speaks protocol {}, the agent speaks protocol {}: {}.".format(
            spoken, client, mend))
    answer = protocol.ErrorAnswer(str(caught.value), server, client)
    assert protocol.decode(protocol.ErrorAnswer, protocol.encode(answer)) == answer
