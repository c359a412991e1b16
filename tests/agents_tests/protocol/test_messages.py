import base64
import zlib

import pytest

from agents.protocol import (
    Enrolled,
    ErrorAnswer,
    Heartbeat,
    Lease,
    MeasureResult,
    ProtocolError,
    ResultEnvelope,
    VersionMismatch,
    accepts,
    canonical_json,
    check_version,
    content_sha256,
    decode,
    encode,
    pack_samples,
    unpack_samples,
)

LEASE = {"job": 1, "kind": "measure", "attempt": 1, "fence": 2, "ttl_s": 20, "deadline_s": 60.5,
         "payload": {"x": [1]}}


def test_an_integer_passes_for_a_float_and_becomes_one():
    lease = decode(Lease, LEASE)
    assert lease.ttl_s == 20.0 and isinstance(lease.ttl_s, float)


@pytest.mark.parametrize("field, value", [
    ("job", "1"), ("job", True), ("job", 1.0), ("job", None), ("kind", 3), ("ttl_s", "20"),
    ("ttl_s", 10**400), ("payload", [1]),
])
def test_a_wrong_type_names_field_and_value(field, value):
    with pytest.raises(ProtocolError, match=r"Lease\." + field) as caught:
        decode(Lease, dict(LEASE, **{field: value}))
    assert "got" in str(caught.value)


def test_a_nested_field_is_named_with_its_place():
    with pytest.raises(ProtocolError, match=r"MeasureResult\.measurements\[0\]\.sha256 is missing"):
        decode(MeasureResult, {"quiet_level_s": None, "reference_blocks": 0, "quiet_share": 0.0,
                               "environment": {}, "measurements": [{}]})


@pytest.mark.parametrize("content", [
    b"", b"[]", b"null", b"\xff\xfe", b'{"job": NaN}', b"[" * 100000, "[", b'{"a":' * 100000, 3,
    None, b"1e999",
])
def test_garbage_is_a_protocol_error(content):
    with pytest.raises(ProtocolError):
        decode(Heartbeat, content)


def test_a_value_outside_its_choices_is_refused():
    with pytest.raises(ProtocolError, match="must be one of done, failed, got 'maybe'"):
        decode(ResultEnvelope, {"state": "maybe", "result": {}})


def test_nan_is_never_written():
    with pytest.raises(ProtocolError):
        encode(ResultEnvelope("done", {"outputs": [float("nan")]}))


def test_optional_fields_take_null():
    assert decode(ErrorAnswer, {"error": "no", "server": None}).server is None


def test_canonical_json_ignores_order_and_has_a_digest():
    one, other = canonical_json({"b": 1, "a": [1.5]}), canonical_json({"a": [1.5], "b": 1})
    assert one == other == b'{"a":[1.5],"b":1}'
    assert content_sha256(b"") == (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    assert encode(Enrolled("a", "s", 1)) == b'{"agent":"a","protocol":1,"secret":"s"}'


def test_this_version_and_the_one_before_are_accepted():
    assert [accepts(client, server=3) for client in (0, 1, 2, 3, 4)] == [
        False, False, True, True, False]
    assert not accepts(0, server=1)
    check_version(2, server=3)


@pytest.mark.parametrize("client, mend", [(1, "agent.pyz"), (4, "update the coordinator")])
def test_a_mismatch_names_both_versions_and_the_remedy(client, mend):
    with pytest.raises(VersionMismatch, match=mend) as caught:
        check_version(client, server=3)
    assert "protocol 3 and 2" in str(caught.value)
    assert "protocol {}:".format(client) in str(caught.value)
    assert (caught.value.server, caught.value.client) == (3, client)


@pytest.mark.parametrize("samples", [[], [0], [1, 2**32 - 1], [5, 2**32], [2**63]])
def test_samples_come_back(samples):
    assert unpack_samples(pack_samples(samples)) == samples


@pytest.mark.parametrize("text", [
    "!", "AAAA", "Q:AAAA", "\u00e9", base64.b64encode(zlib.compress(b"abc")).decode()])
def test_samples_that_cannot_be_unpacked_are_named(text):
    with pytest.raises(ProtocolError, match="cannot be unpacked"):
        unpack_samples(text)
