"""What a gateway says of its devices, in protobuf: the messages of section 15, arbitrary bytes."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.model import AttributesChange, Json, Reading, RpcCall, Secret, Value
from gateway.dialects.thingsboard import device_api_pb2 as wire
from gateway.dialects.thingsboard.gateway_messages import MOST_DEVICES, ChildAttributesRequest
from gateway.dialects.thingsboard.gateway_protobuf import PROTOBUF_GATEWAY as CODEC
from gateway.dialects.thingsboard.readings import MOST_KEYS_ASKED
from gateway.wire.call import BadPayload

NOW = 1_790_000_000_000
ONE = wire.KeyValueProto(key="x", type=wire.LONG_V, long_v=1)
TWO = wire.KeyValueProto(key="y", type=wire.STRING_V, string_v="2")


def field(number: int, content: bytes | int) -> bytes:
    """One field as the wire has it: a varint below 128, or up to 127 bytes."""
    if isinstance(content, int):
        return bytes([number << 3, content])
    return bytes([number << 3 | 2, len(content)]) + content


def series(*pairs: wire.KeyValueProto, ts: int = 0) -> wire.PostTelemetryMsg:
    return wire.PostTelemetryMsg(tsKvList=[wire.TsKvListProto(ts=ts, kv=pairs)])


def test_messages_are_read_by_their_field_numbers() -> None:
    """Bytes put together by hand: `TelemetryMsg` has its readings in field 3."""
    pair = field(1, b"x") + field(2, 1) + field(4, 5)
    readings = field(1, field(1, 7) + field(2, pair))
    sent = field(1, field(1, b"A") + field(3, readings))
    assert CODEC.telemetry(sent, NOW, 10) == [("A", [Reading(7, "x", 5)])]
    assert CODEC.connect(b"\n\x01A\x12\x01t") == ("A", "t")
    assert CODEC.rpc_answer(b"\n\x01A\x10\x05\x1a\x02on") == ("A", 5, "on")


def test_connect_and_disconnect() -> None:
    """The type may be left out."""
    assert CODEC.connect(wire.ConnectMsg(deviceName="A").SerializeToString()) == ("A", "")
    assert CODEC.disconnect(wire.DisconnectMsg(deviceName="A").SerializeToString()) == "A"


def test_telemetry_and_attributes_of_many_devices() -> None:
    """Values keep their types; a device named twice is one; readings without a time are of now."""
    sent = wire.GatewayTelemetryMsg(
        msg=[
            wire.TelemetryMsg(deviceName="A", msg=series(ONE, TWO, ts=5)),
            wire.TelemetryMsg(deviceName="B", msg=series(ONE)),
            wire.TelemetryMsg(deviceName="A", msg=series(TWO)),
        ]
    ).SerializeToString()
    assert CODEC.telemetry(sent, NOW, 4) == [
        ("A", [Reading(5, "x", 1), Reading(5, "y", "2"), Reading(NOW, "y", "2")]),
        ("B", [Reading(NOW, "x", 1)]),
    ]
    with pytest.raises(BadPayload, match="too many values"):
        CODEC.telemetry(sent, NOW, 3)
    sent = wire.GatewayAttributesMsg(
        msg=[
            wire.AttributesMsg(deviceName=name, msg=wire.PostAttributeMsg(kv=kv))
            for name, kv in (("A", [ONE]), ("B", [TWO]), ("A", [TWO]))
        ]
    ).SerializeToString()
    assert CODEC.attributes(sent, 3) == [("A", {"x": 1, "y": "2"}), ("B", {"y": "2"})]
    with pytest.raises(BadPayload, match="too many values"):
        CODEC.attributes(sent, 2)


def test_claims_name_devices() -> None:
    """Of two for one device the first stands."""
    claims = [
        wire.ClaimDeviceMsg(deviceName=name, claimRequest=wire.ClaimDevice(secretKey=key))
        for name, key in (("A", "one"), ("B", ""), ("A", "two"))
    ]
    sent = wire.GatewayClaimMsg(msg=claims).SerializeToString()
    assert CODEC.claim(sent) == [("A", Secret("one"), 0), ("B", Secret(""), 0)]


def test_attributes_are_asked_for_and_answered() -> None:
    """In the scope that was asked for; whether several were asked for is said, not found."""
    asked = wire.GatewayAttributesRequestMsg(id=3, deviceName="A", client=True, keys=["k", "l"])
    read = CODEC.attributes_request(asked.SerializeToString())
    assert read == ChildAttributesRequest(3, "A", True, ("k", "l"), False)
    values: dict[str, Value] = {"k": Json("[1]")}
    answer = wire.GatewayAttributeResponseMsg.FromString(CODEC.attributes_response(read, values))
    assert (answer.deviceName, answer.responseMsg.requestId) == ("A", 3)
    assert answer.responseMsg.isMultipleAttributesRequest
    assert [one.kv.json_v for one in answer.responseMsg.clientAttributeList] == ["[1]"]
    assert not answer.responseMsg.sharedAttributeList
    shared = ChildAttributesRequest(3, "A", False, ("k",), True)
    answer = wire.GatewayAttributeResponseMsg.FromString(CODEC.attributes_response(shared, values))
    assert not answer.responseMsg.isMultipleAttributesRequest
    assert [one.kv.key for one in answer.responseMsg.sharedAttributeList] == ["k"]


def test_what_else_a_gateway_is_told() -> None:
    """Changes, calls and ends, each with the device's name."""
    body = CODEC.attributes_update("A", AttributesChange({"k": 1.5}, ("x",)))
    update = wire.GatewayAttributeUpdateNotificationMsg.FromString(body)
    assert update.deviceName == "A"
    assert update.notificationMsg.sharedUpdated[0].kv.double_v == 1.5
    assert list(update.notificationMsg.sharedDeleted) == ["x"]
    call = RpcCall(device_id=1, method="m", params='{"a": 1}', expires_at=NOW)
    told = wire.GatewayDeviceRpcRequestMsg.FromString(CODEC.rpc_request("A", 5, call))
    request = told.rpcRequestMsg
    assert (told.deviceName, request.requestId, request.methodName) == ("A", 5, "m")
    assert (request.params, request.expirationTime, request.oneway) == ('{"a": 1}', NOW, False)
    gone = wire.GatewayDisconnectDeviceMsg.FromString(CODEC.gone("A", 0x98))
    assert (gone.deviceName, gone.reasonCode) == ("A", 0x98)


def _nameless() -> list[tuple[Any, Any]]:
    claim = wire.ClaimDeviceMsg(claimRequest=wire.ClaimDevice(secretKey="k"))
    attributes = wire.AttributesMsg(msg=wire.PostAttributeMsg(kv=[ONE]))
    return [
        (CODEC.connect, wire.ConnectMsg(deviceType="t")),
        (CODEC.disconnect, wire.DisconnectMsg()),
        (CODEC.rpc_answer, wire.GatewayRpcResponseMsg(id=1)),
        (CODEC.attributes_request, wire.GatewayAttributesRequestMsg(keys=["k"])),
        (CODEC.claim, wire.GatewayClaimMsg(msg=[claim])),
        (lambda body: CODEC.attributes(body, 9), wire.GatewayAttributesMsg(msg=[attributes])),
        (
            lambda body: CODEC.telemetry(body, NOW, 9),
            wire.GatewayTelemetryMsg(msg=[wire.TelemetryMsg(msg=series(ONE))]),
        ),
    ]


@pytest.mark.parametrize(("read", "message"), _nameless())
def test_a_message_of_no_device(read: Any, message: Any) -> None:
    """Is a bad payload; so is one of unknown fields alone, and an empty one."""
    with pytest.raises(BadPayload, match="deviceName is missing"):
        read(message.SerializeToString())
    for body in (b"", b"\x7a\x01x"):
        with pytest.raises(BadPayload):
            read(body)


def test_bounds() -> None:
    """Devices of one message and keys of one request."""
    devices = [wire.ClaimDeviceMsg(deviceName=f"d{number}") for number in range(MOST_DEVICES)]
    assert len(CODEC.claim(wire.GatewayClaimMsg(msg=devices).SerializeToString())) == MOST_DEVICES
    devices.append(wire.ClaimDeviceMsg(deviceName="more"))
    with pytest.raises(BadPayload, match="devices"):
        CODEC.claim(wire.GatewayClaimMsg(msg=devices).SerializeToString())
    for count in (0, MOST_KEYS_ASKED + 1):
        keys = [f"k{number}" for number in range(count)]
        asked = wire.GatewayAttributesRequestMsg(deviceName="A", keys=keys)
        with pytest.raises(BadPayload, match="keys"):
            CODEC.attributes_request(asked.SerializeToString())


_FIELDS = st.lists(
    st.tuples(st.integers(1, 5), st.one_of(st.integers(0, 127), st.binary(max_size=12))),
    max_size=4,
).map(lambda fields: b"".join(field(number, content) for number, content in fields))


@settings(deadline=None, max_examples=80)
@given(st.one_of(st.binary(max_size=60), _FIELDS))
def test_nothing_but_a_bad_payload_comes_of_any_bytes(sent: bytes) -> None:
    """Also of messages that are nearly right."""
    nested = field(1, b"A") + field(2, sent) + field(3, sent)
    for body in (sent, nested, field(1, nested[:127])):
        for read in (
            CODEC.connect,
            CODEC.disconnect,
            CODEC.rpc_answer,
            CODEC.claim,
            CODEC.attributes_request,
        ):
            with suppress(BadPayload):
                read(body)
        with suppress(BadPayload):
            CODEC.telemetry(body, NOW, 3)
        with suppress(BadPayload):
            CODEC.attributes(body, 3)
