"""What a gateway says of its devices, in JSON: the shapes of section 9, and arbitrary bytes."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.model import AttributesChange, Json, Reading, RpcCall, Secret, Value
from gateway.dialects.thingsboard.gateway_messages import (
    JSON_GATEWAY,
    MOST_DEVICES,
    ChildAttributesRequest,
    gateway_codec_for,
)
from gateway.dialects.thingsboard.gateway_protobuf import PROTOBUF_GATEWAY
from gateway.dialects.thingsboard.profile import PayloadKind, ThingsBoardProfile
from gateway.dialects.thingsboard.readings import MOST_KEYS_ASKED
from gateway.wire.call import BadPayload, Format

NOW = 1_790_000_000_000
bounded = settings(deadline=None, max_examples=80)


def body(told: Any) -> bytes:
    return json.dumps(told).encode()


def test_a_gateways_own_profile_says_which_codec() -> None:
    """JSON, or the fixed protobuf messages."""
    assert gateway_codec_for(ThingsBoardProfile()) is JSON_GATEWAY
    profile = ThingsBoardProfile(payload=PayloadKind.PROTOBUF)
    assert gateway_codec_for(profile) is PROTOBUF_GATEWAY
    assert (JSON_GATEWAY.format, PROTOBUF_GATEWAY.format) == (Format.JSON, Format.PROTOBUF)


# ── from the gateway ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("told", "read"),
    [
        ({"device": "A", "type": "t"}, ("A", "t")),
        ({"device": "A"}, ("A", "")),
        ({"device": "A", "type": None}, ("A", "")),
        ({"device": 7, "type": 8, "more": {}}, ("7", "8")),
    ],
)
def test_connect(told: Any, read: tuple[str, str]) -> None:
    """The type may be left out; a number is taken as it is written."""
    assert JSON_GATEWAY.connect(body(told)) == read
    assert JSON_GATEWAY.disconnect(body(told)) == read[0]


@pytest.mark.parametrize("told", [[], {}, {"device": ""}, {"device": None}, {"device": {}}, "A"])
def test_a_message_of_no_device(told: Any) -> None:
    """Is a bad payload, whatever it is about."""
    for read in (
        JSON_GATEWAY.connect,
        JSON_GATEWAY.disconnect,
        JSON_GATEWAY.rpc_answer,
        JSON_GATEWAY.attributes_request,
    ):
        with pytest.raises(BadPayload):
            read(body(told))


def test_telemetry_is_an_array_for_each_device() -> None:
    """With or without times; also one with space before it; what is no array is skipped."""
    sent = b'{"A": [{"ts":1,"values":{"x":"2"}},{"y":1.5}] , "B":\t[], "C":{"x":1}, "D":null}'
    assert JSON_GATEWAY.telemetry(sent, NOW, 10) == [
        ("A", [Reading(1, "x", 2), Reading(NOW, "y", 1.5)]),
        ("B", []),
    ]


def test_values_are_counted_over_all_devices() -> None:
    """The bound is that of a message."""
    sent = body({"A": [{"x": 1, "y": 1}], "B": [{"x": 1}]})
    assert len(JSON_GATEWAY.telemetry(sent, NOW, 3)) == 2
    with pytest.raises(BadPayload, match="at most 2 values"):
        JSON_GATEWAY.telemetry(sent, NOW, 2)
    sent = body({"A": {"x": 1, "y": 1}, "B": {"x": 1}})
    assert JSON_GATEWAY.attributes(sent, 3) == [("A", {"x": 1, "y": 1}), ("B", {"x": 1})]
    with pytest.raises(BadPayload, match="at most 2 values"):
        JSON_GATEWAY.attributes(sent, 2)


def test_a_message_speaks_of_so_many_devices() -> None:
    """More is a bad payload before any of it is read."""
    sent = {f"d{number}": [] for number in range(MOST_DEVICES)}
    assert len(JSON_GATEWAY.telemetry(body(sent), NOW, 10)) == MOST_DEVICES
    with pytest.raises(BadPayload, match="devices"):
        JSON_GATEWAY.telemetry(body({**sent, "more": []}), NOW, 10)


@pytest.mark.parametrize(
    ("told", "asked"),
    [
        ({"client": True, "key": "k"}, (True, ("k",), True)),
        ({"client": False, "key": "k"}, (False, ("k",), True)),
        ({"key": "k"}, (False, ("k",), True)),
        ({"client": True, "keys": ["k"]}, (True, ("k",), True)),
        ({"client": True, "keys": ["a", "b", "a"]}, (True, ("a", "b"), False)),
        ({"client": True, "key": "k", "keys": ["a", "b"]}, (True, ("k",), True)),
    ],
)
def test_attributes_are_asked_for_by_key_or_keys(told: Any, asked: tuple[Any, ...]) -> None:
    """One key is one, also in a list."""
    client, keys, single = asked
    sent = body({"id": 3, "device": "A", **told})
    expected = ChildAttributesRequest(3, "A", client, keys, single)
    assert JSON_GATEWAY.attributes_request(sent) == expected


@pytest.mark.parametrize(
    "told",
    [
        {"id": 1, "device": "A", "client": True},
        {"id": 1, "device": "A", "client": True, "keys": []},
        {"id": 1, "device": "A", "client": True, "keys": "k"},
        {"id": 1, "device": "A", "client": True, "keys": [1]},
        {"id": 1, "device": "A", "client": True, "keys": ["k"] * (MOST_KEYS_ASKED + 1)},
        {"id": 1, "device": "A", "client": 1, "key": "k"},
        {"id": 2**31, "device": "A", "client": True, "key": "k"},
        {"id": 1.5, "device": "A", "client": True, "key": "k"},
        {"device": "A", "client": True, "key": "k"},
    ],
)
def test_a_request_that_cannot_be_understood(told: Any) -> None:
    """No keys, too many, or an id that is none of 32 bits."""
    with pytest.raises(BadPayload):
        JSON_GATEWAY.attributes_request(body(told))


@pytest.mark.parametrize(
    ("data", "answer"), [('{ "a": 1 }', '{ "a": 1 }'), ('"on"', '"on"'), ("null", "null")]
)
def test_an_answer_is_what_stands_in_data(data: str, answer: str) -> None:
    """As it was written; ids may be negative, and fit 32 bits."""
    sent = f'{{"device":"A","id":-1,"data": {data}}}'.encode()
    assert JSON_GATEWAY.rpc_answer(sent) == ("A", -1, answer)
    assert JSON_GATEWAY.rpc_answer(b'{"device":"A","id":1}') == ("A", 1, "null")
    with pytest.raises(BadPayload, match="32 bits"):
        JSON_GATEWAY.rpc_answer(body({"device": "A", "id": 99999999999}))


def test_claims_name_devices() -> None:
    """Each with its key and duration, or neither."""
    sent = body({"A": {"secretKey": "k", "durationMs": 60000}, "B": {}})
    assert JSON_GATEWAY.claim(sent) == [("A", Secret("k"), 60000), ("B", Secret(""), 0)]


# ── to the gateway ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("keys", "found", "told"),
    [
        (("k",), {"k": 1}, {"value": 1}),
        (("k",), {"k": False}, {"value": False}),
        (("k",), {"k": Json('{"x": [1]}')}, {"value": {"x": [1]}}),
        (("k",), {}, {}),
        (("k", "l"), {"k": 1}, {"values": {"k": 1}}),
        (("k", "l"), {"k": 42.0, "l": Json("[]")}, {"values": {"k": 42.0, "l": []}}),
        (("k", "l"), {}, {}),
    ],
)
def test_attributes_are_answered(
    keys: tuple[str, ...], found: dict[str, Value], told: dict[str, Any]
) -> None:
    """The value of one key, the values of several, or nothing but id and device."""
    asked = ChildAttributesRequest(7, "A", True, keys, len(keys) == 1)
    answer = JSON_GATEWAY.attributes_response(asked, found)
    assert json.loads(answer) == {"id": 7, "device": "A", **told}


def test_what_else_a_gateway_is_told() -> None:
    """Changes, calls and ends, each with the device's name."""
    change = AttributesChange({"k": "v"}, ("x",))
    assert json.loads(JSON_GATEWAY.attributes_update('A"', change)) == {
        "device": 'A"',
        "data": {"k": "v", "deleted": ["x"]},
    }
    call = RpcCall(device_id=1, method="m", params='{"a": 1}')
    assert json.loads(JSON_GATEWAY.rpc_request("A", 5, call)) == {
        "device": "A",
        "data": {"id": 5, "method": "m", "params": {"a": 1}},
    }
    assert json.loads(JSON_GATEWAY.gone("A", 150)) == {"device": "A", "reason": 150}


# ── anything ──────────────────────────────────────────────────────────────────────────────────

_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["device", "id", "key", "keys", "client", "data", "ts", "values", "A"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@bounded
@given(st.one_of(st.binary(max_size=40), _ANY.map(lambda told: json.dumps(told).encode())))
def test_nothing_but_a_bad_payload_comes_of_any_bytes(sent: bytes) -> None:
    """What is read can be told back; all else is one exception that does not repeat it."""
    for read in (
        JSON_GATEWAY.connect,
        JSON_GATEWAY.disconnect,
        JSON_GATEWAY.rpc_answer,
        JSON_GATEWAY.claim,
    ):
        with suppress(BadPayload):
            read(sent)
    with suppress(BadPayload):
        told = JSON_GATEWAY.telemetry(sent, NOW, 4)
        assert sum(len(readings) for _, readings in told) <= 4
    with suppress(BadPayload):
        values = JSON_GATEWAY.attributes(sent, 4)
        assert sum(len(found) for _, found in values) <= 4
    with suppress(BadPayload):
        asked = JSON_GATEWAY.attributes_request(sent)
        answer = json.loads(JSON_GATEWAY.attributes_response(asked, {asked.keys[0]: 1}))
        assert answer["device"] == asked.device
