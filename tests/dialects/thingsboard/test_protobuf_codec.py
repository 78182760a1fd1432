"""The device API in protobuf: the profile's own schemas, the fixed messages, arbitrary bytes."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.model import (
    Attributes,
    AttributesChange,
    AttributeScope,
    AttributesSelection,
    Json,
    ProfileTransport,
    Reading,
    RpcCall,
    Secret,
    Value,
)
from gateway.dialects.thingsboard import device_api_pb2 as wire
from gateway.dialects.thingsboard.codecs import JSON, Codec
from gateway.dialects.thingsboard.profile import (
    PayloadKind,
    Schemas,
    ThingsBoardProfile,
    read_section,
)
from gateway.dialects.thingsboard.protobuf_codec import V2_PROTOBUF, ProtobufCodec, codec_for
from gateway.wire.call import BadPayload, Format, Status

if TYPE_CHECKING:
    from conftest import House

NOW = 1_790_000_000_000
SECTION: dict[str, Any] = {
    "payload": "PROTOBUF",
    "telemetry_schema": """
        syntax = "proto3";
        message Values { optional double temperature = 1; string note = 2; }
        message Telemetry { optional int64 ts = 1; Values values = 2; }
    """,
    "attributes_schema": """
        syntax = "proto3";
        message Attributes { optional string serial = 1; optional int64 revision = 2; }
    """,
}
PROFILE = read_section(SECTION)
CODEC = codec_for(PROFILE)
LENIENT = codec_for(read_section({**SECTION, "json_compatibility": True}))
VALUES: dict[str, Value] = {
    "b": True,
    "i": -(2**63),
    "d": 42.0,
    "s": "12",
    "j": Json('{"x": [1]}'),
    "zero": 0,
    "no": False,
}

bounded = settings(deadline=None, max_examples=60)


def schemas() -> Schemas:
    return PROFILE.schemas()


def telemetry_body(told: dict[str, Any]) -> bytes:
    return schemas().telemetry.from_json(told)


def pair(key: str, kind: Any, **value: Any) -> wire.KeyValueProto:
    return wire.KeyValueProto(key=key, type=kind, **value)


# ── by the profile's schemas ──────────────────────────────────────────────────────────────────


def test_telemetry_follows_the_schema_and_then_the_rules_of_json() -> None:
    """A field `ts` beside `values` is the time; without it the message is of now."""
    body = telemetry_body({"ts": 5, "values": {"temperature": 21.5, "note": "12"}})
    assert CODEC.telemetry(body, NOW, 10) == [
        Reading(5, "temperature", 21.5),
        Reading(5, "note", 12),  # a text that looks like a number becomes one
    ]
    flat = codec_for(
        read_section(
            {**SECTION, "telemetry_schema": 'syntax="proto3"; message T { sint32 t = 1; }'}
        )
    )
    assert flat.telemetry(b"\x08\x05", NOW, 10) == [Reading(NOW, "t", -3)]
    assert flat.telemetry(b"", NOW, 10) == [Reading(NOW, "t", 0)]
    with pytest.raises(BadPayload, match="at most 1 values"):
        CODEC.telemetry(body, NOW, 1)


def test_attributes_follow_their_own_schema() -> None:
    """Optional fields appear when they are set, also to their default."""
    body = schemas().attributes.from_json({"serial": "", "revision": 2**60})
    assert CODEC.attributes(body, 10) == {"serial": "", "revision": 2**60}
    assert CODEC.attributes(b"", 10) == {}


@pytest.mark.parametrize(
    ("params", "shown"),
    [('{"pin": 1}', '{"pin":1}'), ('"text"', "text"), ("7", "7"), ("null", "")],
)
def test_a_call_is_a_message_of_the_request_schema(params: str, shown: str) -> None:
    """It has the id whatever the wire; ThingsBoard's own schema has params as text."""
    call = RpcCall(device_id=1, method="set", params=params)
    for with_id in (False, True):
        body = CODEC.rpc_request(7, call, with_id=with_id)
        told = json.loads(schemas().rpc_request.to_json(body))
        assert (told["method"], told["requestId"], told.get("params", "")) == ("set", 7, shown)


@pytest.mark.parametrize("params", ["{", "", '"\ud800"'])
def test_a_call_that_does_not_fit_is_refused(params: str) -> None:
    """As is an id of more than 32 bits."""
    with suppress(UnicodeEncodeError), pytest.raises(BadPayload):
        CODEC.rpc_request(1, RpcCall(device_id=1, method="m", params=params), with_id=False)
    with pytest.raises(BadPayload):
        CODEC.rpc_request(2**31, RpcCall(device_id=1, method="m"), with_id=False)


def test_an_answer_is_the_json_of_the_response_schema() -> None:
    """The whole message, as ThingsBoard gives it to whoever called."""
    assert json.loads(CODEC.rpc_answer(b"\n\x02on")) == {"payload": "on"}


def test_with_compatibility_what_is_no_protobuf_is_tried_as_json() -> None:
    """For everything a device sends; without it the same is a bad payload."""
    assert LENIENT.telemetry(b'{"a":1}', NOW, 10) == [Reading(NOW, "a", 1)]
    assert LENIENT.attributes(b'{"a":1}', 10) == {"a": 1}
    assert LENIENT.attributes_request(b'{"clientKeys":"a"}') == AttributesSelection(("a",), ())
    assert LENIENT.rpc_answer(b'{"done":true}') == '{"done":true}'
    assert LENIENT.client_rpc(b'{"method":"m","params":[1]}') == ("m", "[1]")
    assert LENIENT.claim(b'{"secretKey":"k"}') == (Secret("k"), 0)
    for read in (CODEC.attributes_request, CODEC.rpc_answer, CODEC.client_rpc, CODEC.claim):
        with pytest.raises(BadPayload):
            read(b'{"method":"m"}')
    for read_many in (CODEC.attributes, LENIENT.attributes):
        with pytest.raises(BadPayload) as caught:
            read_many(b"{'a':1}", 10)
        assert caught.value.undecodable


def test_what_is_protobuf_and_too_much_is_not_tried_as_json() -> None:
    """The reason is the one that matters."""
    body = telemetry_body({"ts": 5, "values": {"temperature": 1.5}})
    with pytest.raises(BadPayload, match="at most 1 values"):
        LENIENT.telemetry(body, NOW, 1)


def test_a_profile_has_one_codec() -> None:
    """Equal profiles share it; one of JSON is the JSON codec."""
    assert codec_for(read_section(dict(SECTION))) is CODEC
    assert isinstance(CODEC, ProtobufCodec)
    assert (CODEC.format, V2_PROTOBUF.format) == (Format.PROTOBUF, Format.PROTOBUF)
    assert codec_for(ThingsBoardProfile()) is JSON


def test_a_schema_that_cannot_be_compiled_says_where() -> None:
    """The key at fault comes first, as for whoever reads the profile."""
    profile = ThingsBoardProfile(
        payload=PayloadKind.PROTOBUF, telemetry_schema="nonsense", attributes_schema="nonsense"
    )
    with pytest.raises(ValueError, match=r"^telemetry_schema: line 1"):
        codec_for(profile)


# ── the fixed messages ────────────────────────────────────────────────────────────────────────

both = pytest.mark.parametrize("codec", [V2_PROTOBUF, CODEC])


@both
def test_attributes_are_asked_for_by_comma_separated_names(codec: Codec) -> None:
    """`AttributesRequest`: both empty asks for everything."""
    asked = wire.AttributesRequest(clientKeys="a,b", sharedKeys="c")
    selection = codec.attributes_request(asked.SerializeToString())
    assert selection == AttributesSelection(("a", "b"), ("c",))
    assert codec.attributes_request(b"") == AttributesSelection()


@both
def test_attributes_are_told_with_their_types(codec: Codec) -> None:
    """`GetAttributeResponseMsg` and `AttributeUpdateNotificationMsg`, a value of each kind."""
    answer = wire.GetAttributeResponseMsg.FromString(
        codec.attributes_response(9, Attributes(VALUES, {"c": 1}))
    )
    assert (answer.requestId, answer.isMultipleAttributesRequest) == (9, True)
    told = [
        pair("b", wire.BOOLEAN_V, bool_v=True),
        pair("i", wire.LONG_V, long_v=-(2**63)),
        pair("d", wire.DOUBLE_V, double_v=42.0),
        pair("s", wire.STRING_V, string_v="12"),
        pair("j", wire.JSON_V, json_v='{"x": [1]}'),
        pair("zero", wire.LONG_V),
        pair("no", wire.BOOLEAN_V),
    ]
    assert [one.kv for one in answer.clientAttributeList] == told
    assert [one.kv.key for one in answer.sharedAttributeList] == ["c"]
    update = wire.AttributeUpdateNotificationMsg.FromString(
        codec.attributes_update(AttributesChange(VALUES, ("x", "y")))
    )
    assert [one.kv for one in update.sharedUpdated] == told
    assert list(update.sharedDeleted) == ["x", "y"]


@both
@pytest.mark.parametrize(
    ("params", "told"),
    [("", ""), ('{"a": 1}', '{"a": 1}'), ("7", "7"), ("on", '"on"'), ('{"a"', '"{\\"a\\""')],
)
def test_a_device_calls_with_json_or_text(codec: Codec, params: str, told: str) -> None:
    """`RpcRequest`: what comes out is JSON in any case, or empty."""
    body = wire.RpcRequest(method="m", params=params).SerializeToString()
    assert codec.client_rpc(body) == ("m", told)
    with pytest.raises(BadPayload, match="method"):
        codec.client_rpc(wire.RpcRequest(params=params).SerializeToString())


@both
@pytest.mark.parametrize(
    ("answer", "payload", "error"),
    [
        (b'{"a":1}', '{"a":1}', ""),
        (b'{"error":"timeout"}', "", "timeout"),
        (b'{"error":"x","more":1}', '{"error":"x","more":1}', ""),
        (b'{"error":5}', '{"error":5}', ""),
        (b"null", "null", ""),
    ],
)
def test_a_device_is_answered(codec: Codec, answer: bytes, payload: str, error: str) -> None:
    """`ToServerRpcResponseMsg`: what is an error and nothing else is one."""
    told = wire.ToServerRpcResponseMsg.FromString(codec.client_rpc_response(3, answer))
    assert (told.requestId, told.payload, told.error) == (3, payload, error)


@both
def test_a_claim(codec: Codec) -> None:
    """`ClaimDevice`: nothing given is nothing, a duration below zero is a bad payload."""
    body = wire.ClaimDevice(secretKey="k", durationMs=60000).SerializeToString()
    assert codec.claim(body) == (Secret("k"), 60000)
    assert codec.claim(b"") == (Secret(""), 0)
    with pytest.raises(BadPayload, match="below zero"):
        codec.claim(wire.ClaimDevice(durationMs=-1).SerializeToString())


def test_default_telemetry_and_attributes_have_typed_values() -> None:
    """`PostTelemetryMsg`, `PostAttributeMsg`: no text becomes a number, no time means now."""
    pairs = [
        pair("b", wire.BOOLEAN_V, bool_v=True),
        pair("i", wire.LONG_V, long_v=2**63 - 1),
        pair("d", wire.DOUBLE_V, double_v=-0.0),
        pair("s", wire.STRING_V, string_v="12"),
        pair("j", wire.JSON_V, json_v=' {"x": [1]} '),
        pair("n", wire.JSON_V, json_v="null"),
        pair("v", wire.JSON_V, json_v="5"),
    ]
    sent = wire.PostTelemetryMsg(
        tsKvList=[wire.TsKvListProto(ts=5, kv=pairs), wire.TsKvListProto(kv=pairs[:1])]
    )
    readings = V2_PROTOBUF.telemetry(sent.SerializeToString(), NOW, 8)
    found = {"b": True, "i": 2**63 - 1, "d": 0.0, "s": "12", "j": Json('{"x": [1]}'), "v": 5}
    assert readings == [
        *(Reading(5, key, value) for key, value in found.items()),
        Reading(NOW, "b", True),
    ]
    assert str(readings[2].value) == "0.0"
    sent = wire.PostTelemetryMsg(tsKvList=[wire.TsKvListProto(kv=pairs[:1])] * 2)
    with pytest.raises(BadPayload, match="too many values"):
        V2_PROTOBUF.telemetry(sent.SerializeToString(), NOW, 1)
    body = wire.PostAttributeMsg(kv=pairs).SerializeToString()
    assert V2_PROTOBUF.attributes(body, 7) == found
    with pytest.raises(BadPayload, match="too many values"):
        V2_PROTOBUF.attributes(body, 6)


@pytest.mark.parametrize(
    "one",
    [
        pair("", wire.LONG_V, long_v=1),
        pair("k" * 256, wire.LONG_V, long_v=1),
        pair("k", wire.DOUBLE_V, double_v=float("nan")),
        pair("k", wire.DOUBLE_V, double_v=float("-inf")),
        pair("k", wire.JSON_V, json_v="{"),
        pair("k", wire.JSON_V),
        pair("k", 9),
        None,
    ],
)
def test_values_that_are_none(one: wire.KeyValueProto | None) -> None:
    """Also a message without any: that is what bytes of another message look like."""
    kv = [one] if one is not None else []
    body = wire.PostAttributeMsg(kv=kv).SerializeToString()
    with pytest.raises(BadPayload):
        V2_PROTOBUF.attributes(body, 10)
    sent = wire.PostTelemetryMsg(tsKvList=[wire.TsKvListProto(kv=kv)])
    for body in (sent.SerializeToString(), b"", b"\x7a\x01x"):
        with pytest.raises(BadPayload):
            V2_PROTOBUF.telemetry(body, NOW, 10)


def test_default_calls() -> None:
    """`ToDeviceRpcRequestMsg`, and the answer in the twin of `ToServerRpcResponseMsg`."""
    call = RpcCall(device_id=1, method="set", params="[1]", expires_at=NOW, two_way=False)
    told = wire.ToDeviceRpcRequestMsg.FromString(V2_PROTOBUF.rpc_request(7, call, with_id=False))
    assert (told.requestId, told.methodName, told.params) == (7, "set", "[1]")
    assert (told.expirationTime, told.oneway, told.persisted) == (NOW, True, False)
    answer = wire.ToServerRpcResponseMsg(payload='{"x":1}')
    assert V2_PROTOBUF.rpc_answer(answer.SerializeToString()) == '{"x":1}'
    answer = wire.ToServerRpcResponseMsg(error="broken")
    assert json.loads(V2_PROTOBUF.rpc_answer(answer.SerializeToString())) == {"error": "broken"}
    for body in (b"", b"\x7b"):
        with pytest.raises(BadPayload):
            V2_PROTOBUF.rpc_answer(body)


@pytest.mark.parametrize("change", [{"k": 2**63}, {"k": "\ud800"}, {"\ud800": 1}])
def test_what_no_message_can_hold_is_said_without_repeating_it(change: dict[str, Value]) -> None:
    """It is refused by one exception."""
    with pytest.raises(BadPayload) as caught:
        V2_PROTOBUF.attributes_update(AttributesChange(change))
    assert str(caught.value) == "a value does not fit its protobuf message"


# ── anything ──────────────────────────────────────────────────────────────────────────────────

_PAIRS = st.builds(
    wire.KeyValueProto,
    key=st.text(st.characters(codec="utf-8"), max_size=3),
    type=st.integers(0, 6),
    long_v=st.integers(-(2**63), 2**63 - 1),
    double_v=st.floats(),
    json_v=st.sampled_from(["", "{", "[1]", "null", "1e999", "1e99999", "[" * 2000, "01", '"x"']),
)
_MESSAGES = st.builds(
    lambda pairs: wire.PostAttributeMsg(kv=pairs).SerializeToString(), st.lists(_PAIRS, max_size=3)
)


@bounded
@given(st.one_of(st.binary(max_size=60), _MESSAGES))
def test_nothing_but_a_bad_payload_comes_of_any_bytes(body: bytes) -> None:
    """Whatever a device sends, to whichever decoder of whichever codec."""
    nested = b"\n" + len(body).to_bytes(1, "big") + body if len(body) < 128 else body
    for codec in (V2_PROTOBUF, CODEC, LENIENT):
        for sent in (body, nested):
            for read in (codec.attributes_request, codec.rpc_answer, codec.client_rpc, codec.claim):
                with suppress(BadPayload):
                    read(sent)
            with suppress(BadPayload):
                assert all(reading.key for reading in codec.telemetry(sent, NOW, 3))
            with suppress(BadPayload):
                assert len(codec.attributes(sent, 3)) <= 3


# ── in the house ──────────────────────────────────────────────────────────────────────────────


async def test_a_device_of_a_protobuf_profile(house: House) -> None:
    """What it sends on its topics is kept, and what it is told on them is protobuf."""
    await house.profile("meters", transport=ProfileTransport.MQTT, thingsboard=SECTION)
    client = await house.connect(await house.add())
    body = telemetry_body({"ts": NOW, "values": {"temperature": 21.5, "note": "n"}})
    reply = await client.publish("v1/devices/me/telemetry", body)
    assert reply.status is Status.OK
    assert await house.readings() == {"temperature": 21.5, "note": "n"}
    body = schemas().attributes.from_json({"serial": "x"})
    assert (await client.publish("v1/devices/me/attributes", body)).status is Status.OK
    assert await house.attributes(AttributeScope.CLIENT) == {"serial": "x"}
    reply = await client.publish("v1/devices/me/attributes/request/4")
    answer = wire.GetAttributeResponseMsg.FromString(reply.body)
    assert (answer.requestId, answer.clientAttributeList[0].kv.string_v) == (4, "x")
    client.subscribe("v1/devices/me/attributes")
    await house.share(k=5)
    [(_, told)] = client.link.sent
    assert wire.AttributeUpdateNotificationMsg.FromString(told).sharedUpdated[0].kv.long_v == 5


def test_json_alone_never_loads_the_protobuf_runtime() -> None:
    """Neither the dialect nor the codecs of a JSON profile import it."""
    check = """
import sys
import gateway.dialects.thingsboard
from gateway.dialects.thingsboard.gateway_messages import gateway_codec_for
from gateway.dialects.thingsboard.profile import ThingsBoardProfile
gateway_codec_for(ThingsBoardProfile())
sys.exit(any(name.startswith("google.protobuf") for name in sys.modules))
"""
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
