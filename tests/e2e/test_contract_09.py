"""Section 9 of the contract on sockets, row by row: one connection that speaks for many devices."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from contract import CLOSED, PROTOBUF, add_gateway, gateway_of, save_profile, session_of, told
from inside import Gate, NewGate
from operating import Operator
from wires import DISCONNECT, PUBACK, Mqtt

from gateway.core.feed import LOOK_EVERY_S
from gateway.core.model import AttributeScope, ClaimResult, ProfileTransport, Secret
from gateway.dialects.thingsboard import device_api_pb2 as wire

VERSIONS = pytest.mark.parametrize("version", [3, 4, 5])
QUALITIES = pytest.mark.parametrize("qos", [0, 1])
CONNECT, DISCONNECTED = "v1/gateway/connect", "v1/gateway/disconnect"
TELEMETRY, ATTRIBUTES = "v1/gateway/telemetry", "v1/gateway/attributes"
REQUEST, RESPONSE = "v1/gateway/attributes/request", "v1/gateway/attributes/response"
RPC, CLAIM = "v1/gateway/rpc", "v1/gateway/claim"


def said(value: Any) -> bytes:
    return json.dumps(value).encode()


async def outcome(session: Mqtt, topic: str, value: Any, qos: int = 1) -> list[tuple[int, int]]:
    body = value if isinstance(value, bytes) else said(value)
    session.publish(topic, body, qos)
    return await session.outcome()


# ── what a gateway says ───────────────────────────────────────────────────────────────────────


@VERSIONS
async def test_devices_come_into_being(gate: Gate, version: int) -> None:
    """By any word that names them: of the type they have, else `default`, and of this gateway."""
    await gate.add("mine")
    async with gateway_of(gate, version) as session:
        await session.deliver(CONNECT, said({"device": "A", "type": "thermostat"}))
        await session.deliver(CONNECT, said({"device": "B"}))
        await session.deliver(CONNECT, said({"device": "N", "type": None}))
        await session.deliver(TELEMETRY, said({"C": [{"ts": 1, "values": {"t": 1}}], "mine": []}))
        await session.deliver(ATTRIBUTES, said({"D": {"k": "v"}}))
        await session.deliver(REQUEST, said({"id": 1, "device": "E", "client": True, "key": "k"}))
        await session.published()
        await session.deliver(RPC, said({"device": "F", "id": 1, "data": {}}))
        await session.deliver(CLAIM, said({"G": {}}))
        await session.deliver(DISCONNECTED, said({"device": "H"}))
        assert await session.outcome() == []
    gateway = await gate.registry.device("gw")
    assert gateway is not None
    for name, kind in (("A", "thermostat"), *((name, "default") for name in "BNCDEFG")):
        known = await gate.registry.device(name)
        assert known is not None, name
        assert known.device.type == kind
        assert known.device.creator_id == gateway.device.id
    assert await gate.registry.device("H") is None
    assert (await Operator(gate, "mine").known()).device.creator_id is None


@VERSIONS
async def test_telemetry_attributes_and_claims(gate: Gate, version: int) -> None:
    """Of many devices in one message; it is on disk when it is acknowledged, once."""
    metadata = {"connector": "c", "receivedTs": 1, "publishedTs": 2}
    entry = {"ts": 5, "values": {"t": "21.5"}, "metadata": metadata}
    sent = {"A": [entry, {"u": 1}], "B": [{"t": 2}], "C": {"t": 3}, "D": []}
    async with gateway_of(gate, version) as session:
        assert await outcome(session, TELEMETRY, sent) == [(PUBACK, 0)]
        assert await gate.readings("A") == {"t": 21.5, "u": 1}
        assert await gate.readings("B") == {"t": 2}
        assert await gate.registry.device("C") is None  # what is no array is skipped
        assert await gate.readings("D") == {}
        sent = {"A": {"k": "v", "n": None}, "B": {"k": 1.0}}
        assert await outcome(session, ATTRIBUTES, sent) == [(PUBACK, 0)]
        assert await Operator(gate, "A").attributes(AttributeScope.CLIENT) == {"k": "v"}
        sent = {"A": {"secretKey": "a", "durationMs": 60000}, "B": {}}
        assert await outcome(session, CLAIM, sent) == [(PUBACK, 0)]
        for name, key in (("A", "a"), ("B", "")):
            known = await gate.registry.device(name)
            assert known is not None
            assert await gate.registry.claim(known, "Acme", Secret(key)) is ClaimResult.SUCCESS
        assert await outcome(session, TELEMETRY, {}) == [(PUBACK, 0)]
        assert await outcome(session, TELEMETRY, {"A": [{"t": 9}]}, 0) == []
    assert await gate.readings("A") == {"t": 9, "u": 1}


@VERSIONS
async def test_attributes_are_asked_for(gate: Gate, version: int) -> None:
    """One key: a value; several: values by key; not found: the id and the device alone."""
    async with gateway_of(gate, version) as session:
        await session.deliver(ATTRIBUTES, said({"A": {"c": 1, "o": {"x": [1.0]}}}))
        await Operator(gate, "A").share(s=42.0, t="x")
        rows: list[tuple[Any, Any]] = [
            ({"client": True, "key": "c"}, {"value": 1}),
            ({"client": True, "key": "o"}, {"value": {"x": [1.0]}}),
            ({"client": False, "key": "s"}, {"value": 42.0}),
            ({"key": "s"}, {"value": 42.0}),
            ({"client": True, "keys": ["c", "none"]}, {"values": {"c": 1}}),
            ({"client": False, "keys": ["s", "t"]}, {"values": {"s": 42.0, "t": "x"}}),
            ({"client": False, "keys": ["s"]}, {"value": 42.0}),
            ({"client": True, "key": "s"}, {}),
            ({"client": False, "keys": ["c", "o"]}, {}),
        ]
        for number, (asked, expected) in enumerate(rows):
            body = said({"id": number, "device": "A", **asked})
            await session.deliver(REQUEST, body)
            topic, payload, qos = await session.published()
            assert (topic, qos) == (RESPONSE, 1)
            assert json.loads(payload) == {"id": number, "device": "A", **expected}, asked
        await session.subscribe(RESPONSE, qos=0)
        session.publish(REQUEST, said({"id": 1, "device": "A", "client": True, "key": "c"}))
        got = await session.published()
        assert (got.payload, got.qos) == (b'{"id":1,"device":"A","value":1}', 0)


# ── what a gateway is told ────────────────────────────────────────────────────────────────────


@VERSIONS
async def test_changes_and_deletions(gate: Gate, version: int) -> None:
    """Of devices that are connected, once the gateway subscribed; not of those that left."""
    operator = Operator(gate, "A")
    async with gateway_of(gate, version) as session:
        await session.deliver(CONNECT, said({"device": "A"}))
        await operator.share(early=1)
        await asyncio.sleep(3 * LOOK_EVERY_S)
        await session.subscribe(ATTRIBUTES)
        await operator.share(k="v")
        assert await told(session) == (ATTRIBUTES, {"device": "A", "data": {"k": "v"}})
        await operator.share("k")
        assert await told(session) == (ATTRIBUTES, {"device": "A", "data": {"deleted": ["k"]}})
        await session.deliver(DISCONNECTED, said({"device": "A"}))
        await operator.share(late=1)
        await asyncio.sleep(3 * LOOK_EVERY_S)
        assert await session.outcome() == []


@VERSIONS
async def test_calls(gate: Gate, version: int) -> None:
    """With the id in the body; the answer is what `data` was."""
    operator = Operator(gate, "A")
    async with gateway_of(gate, version) as session:
        await session.subscribe(RPC)
        await session.deliver(CONNECT, said({"device": "A"}))
        for answer in ({"ok": True}, "text", None, [1]):
            calling = asyncio.create_task(operator.call("set", '{"pin":7}'))
            topic, asked = await told(session)
            number = asked["data"].pop("id")
            expected = {"device": "A", "data": {"method": "set", "params": {"pin": 7}}}
            assert (topic, asked) == (RPC, expected)
            await session.deliver(RPC, said({"device": "A", "id": number, "data": answer}))
            state, text = await calling
            assert (state, json.loads(text or "")) == ("SUCCESSFUL", answer)


@VERSIONS
async def test_a_device_that_is_ended_here(gate: Gate, version: int) -> None:
    """MQTT 5 gateways are told with the reason of a DISCONNECT, older ones nothing."""
    async with gateway_of(gate, version) as session:
        await session.deliver(CONNECT, said({"device": "A"}))
        await session.deliver(CONNECT, said({"device": "B"}))
        known = await Operator(gate, "A").known()
        await gate.registry.remove_device(known)
        if version == 5:
            assert await told(session) == (DISCONNECTED, {"device": "A", "reason": 0x98})
        token = (await Operator(gate, "B").known()).credentials.id.reveal()
        async with session_of(gate, token) as own:
            await own.deliver("v2/t", b'{"a":1}')
            if version == 5:
                assert await told(session) == (DISCONNECTED, {"device": "B", "reason": 0x8E})
            assert await session.outcome() == []
            await session.deliver(TELEMETRY, said({"A": [{"t": 1}], "B": [{"t": 1}]}))
            assert await own.outcome() == [(DISCONNECT, 0x8E), CLOSED]


# ── how it goes wrong ─────────────────────────────────────────────────────────────────────────


@QUALITIES
@VERSIONS
async def test_bad_payloads(gate: Gate, version: int, qos: int) -> None:
    """0x99 to MQTT 5; an older connection is closed. Nobody is born of one."""
    rows: list[tuple[str, bytes]] = [
        (CONNECT, b"{"),
        (CONNECT, b'{"device":""}'),
        (DISCONNECTED, b"[]"),
        (TELEMETRY, b'{"A":[1]}'),
        (TELEMETRY, b'{"A":[{"ts":"x","values":{}}]}'),
        (ATTRIBUTES, b'{"A":[]}'),
        (REQUEST, b'{"id":1,"device":"A"}'),
        (RPC, b'{"device":"A"}'),
        (CLAIM, b'{"A":1}'),
    ]
    token = await add_gateway(gate)
    for topic, body in rows:
        async with session_of(gate, token, version) as session:
            if version != 5:
                expected = [CLOSED]
            else:
                expected = [(PUBACK, 0x99)] if qos else [(DISCONNECT, 0x99), CLOSED]
            assert await outcome(session, topic, body, qos) == expected, (topic, body)
    assert await gate.registry.device("A") is None


@QUALITIES
@VERSIONS
async def test_unknown_topics_and_refused_devices(gate: Gate, version: int, qos: int) -> None:
    """0x90 and 0x80; 0x83 for a request of attributes. Acknowledged in MQTT 3, and it stays."""
    await save_profile(gate, "closed", gateway_may_adopt=False)
    await gate.add("theirs", "closed")
    rows: list[tuple[str, Any, int]] = [
        ("v1/gateway/nothing", {}, 0x90),
        ("v1/gateway/connect/", {}, 0x90),
        ("v1/gateway", {}, 0x90),
        (CONNECT, {"device": "theirs"}, 0x80),
        (CONNECT, {"device": "x" * 300}, 0x80),
        (TELEMETRY, {"A": [{"t": 1}], "theirs": [{"t": 1}]}, 0x80),
        (ATTRIBUTES, {"theirs": {"a": 1}}, 0x80),
        (RPC, {"device": "theirs", "id": 1, "data": 1}, 0x80),
        (CLAIM, {"theirs": {}}, 0x80),
        (REQUEST, {"id": 1, "device": "theirs", "client": True, "key": "k"}, 0x83),
    ]
    async with gateway_of(gate, version) as session:
        for topic, body, code in rows:
            expected = [(PUBACK, code if version == 5 else 0)] * qos
            assert await outcome(session, topic, body, qos) == expected, (topic, body)
    assert await gate.readings("theirs") == {}
    assert await gate.readings("A") == {"t": 1}


@QUALITIES
@VERSIONS
async def test_a_gateway_with_as_many_devices_as_it_may_have(
    new_gate: NewGate, version: int, qos: int
) -> None:
    """0x97, acknowledged in MQTT 3, and the connection stays; those it has are served."""
    gate = await new_gate(limits={"max_children": 2})
    async with gateway_of(gate, version) as session:
        await session.deliver(TELEMETRY, said({"A": [{"t": 1}], "B": [{"t": 1}]}))
        expected = [(PUBACK, 0x97 if version == 5 else 0)] * qos
        assert await outcome(session, CONNECT, {"device": "C"}, qos) == expected
        sent = {"A": [{"t": 2}], "C": [{"t": 2}]}
        assert await outcome(session, TELEMETRY, sent, qos) == expected
        asked = {"id": 1, "device": "C", "client": True, "key": "k"}
        assert await outcome(session, REQUEST, asked, qos) == expected
    assert await gate.readings("A") == {"t": 2}
    assert await gate.registry.device("C") is None


@QUALITIES
@VERSIONS
@pytest.mark.parametrize("whose", ["device", "gateway_devices", "organisation"])
async def test_rate_limits(new_gate: NewGate, version: int, qos: int, whose: str) -> None:
    """0x97 and the door; each device counts for itself, and all count for their gateway (12)."""
    gate = await new_gate(limits={f"{whose}_telemetry_points": "2:60"})
    async with gateway_of(gate, version) as session:
        await session.deliver(TELEMETRY, said({"A": [{"t": 1, "u": 1}]}))
        if whose == "device":
            await session.deliver(TELEMETRY, said({"B": [{"t": 1, "u": 1}]}))
        expected = [CLOSED]
        if version == 5:
            expected = [*[(PUBACK, 0x97)] * qos, (DISCONNECT, 0x97), CLOSED]
        name = "A" if whose == "device" else "B"
        assert await outcome(session, TELEMETRY, {name: [{"t": 3}]}, qos) == expected
    assert await gate.readings("A") == {"t": 1, "u": 1}


async def test_a_gateways_own_traffic_has_limits_of_its_own(new_gate: NewGate) -> None:
    """It is a device as well: its limits are told, and are not those of its devices (8, 12)."""
    gate = await new_gate(
        limits={
            "gateway_telemetry_messages": "1:60",
            "gateway_devices_messages": "100:60",
            "device_messages": "50:60",
        }
    )
    async with gateway_of(gate) as session:
        session.publish("v1/devices/me/rpc/request/1", b'{"method":"getSessionLimits"}')
        _, limits = await told(session)
        assert limits["rateLimits"]["telemetryMessages"] == "1:60"
        assert limits["rateLimits"]["messages"] is None
        assert limits["gatewayRateLimits"]["messages"] == "100:60"
        for _ in range(3):
            await session.deliver(TELEMETRY, said({"A": [{"t": 1}]}))
        await session.deliver("v2/t", b'{"a":1}')
        session.publish("v2/t", b'{"a":1}', 1)
        assert await session.outcome() == [(DISCONNECT, 0x83), CLOSED]


@VERSIONS
async def test_filters(gate: Gate, version: int) -> None:
    """Exact names beside those of a device, and no wildcard."""
    code = 0x8F if version == 5 else 0x80
    async with gateway_of(gate, version) as session:
        granted = (ATTRIBUTES, RESPONSE, RPC, "v1/devices/me/attributes", "v2/r/req/+")
        assert await session.subscribe(*granted) == [1] * 5
        assert await session.subscribe("v1/gateway/+", "v1/gateway/#", CONNECT, qos=0) == [code] * 3


@VERSIONS
async def test_a_device_that_is_no_gateway(gate: Gate, version: int) -> None:
    """Hears nothing, in any quality, whatever it says there; and stays."""
    async with session_of(gate, await gate.add("d"), version) as session:
        for topic in (CONNECT, TELEMETRY, REQUEST, "v1/gateway/x", "v1/gateway"):
            assert await outcome(session, topic, {"device": "A"}) == [], topic
            assert await outcome(session, topic, b"\xff", 0) == [], topic
    assert await gate.registry.device("A") is None


# ── a gateway that speaks protobuf ────────────────────────────────────────────────────────────


async def test_the_same_in_protobuf(gate: Gate) -> None:
    """The fixed messages of section 15, both ways; its own topics are its profile's."""
    token = await add_gateway(gate)
    await save_profile(gate, "create", ProfileTransport.MQTT, thingsboard=PROTOBUF)
    kv = wire.KeyValueProto(key="k", type=wire.LONG_V, long_v=7)
    operator = Operator(gate, "A")
    async with session_of(gate, token) as session:
        assert await session.subscribe(ATTRIBUTES, RPC) == [1, 1]
        await session.deliver(CONNECT, wire.ConnectMsg(deviceName="A").SerializeToString())
        post = wire.PostTelemetryMsg(tsKvList=[wire.TsKvListProto(ts=5, kv=[kv])])
        sent = wire.GatewayTelemetryMsg(msg=[wire.TelemetryMsg(deviceName="A", msg=post)])
        await session.deliver(TELEMETRY, sent.SerializeToString())
        assert await gate.readings("A") == {"k": 7}
        posted = wire.AttributesMsg(deviceName="A", msg=wire.PostAttributeMsg(kv=[kv]))
        await session.deliver(
            ATTRIBUTES, wire.GatewayAttributesMsg(msg=[posted]).SerializeToString()
        )
        asked = wire.GatewayAttributesRequestMsg(id=3, deviceName="A", client=True, keys=["k"])
        await session.deliver(REQUEST, asked.SerializeToString())
        found = wire.GatewayAttributeResponseMsg.FromString((await session.published()).payload)
        assert found.responseMsg.clientAttributeList[0].kv.long_v == 7
        await operator.share(s="x")
        change = wire.GatewayAttributeUpdateNotificationMsg.FromString(
            (await session.published()).payload
        )
        assert change.notificationMsg.sharedUpdated[0].kv.string_v == "x"
        calling = asyncio.create_task(operator.call("m"))
        called = wire.GatewayDeviceRpcRequestMsg.FromString((await session.published()).payload)
        number = called.rpcRequestMsg.requestId
        answer = wire.GatewayRpcResponseMsg(deviceName="A", id=number, data="1")
        await session.deliver(RPC, answer.SerializeToString())
        assert await calling == ("SUCCESSFUL", "1")
        session.publish(TELEMETRY, b'{"A":[{"t":1}]}', 1)
        assert await session.outcome() == [(PUBACK, 0x99)]
        await gate.registry.remove_device(await operator.known())
        gone = wire.GatewayDisconnectDeviceMsg.FromString((await session.published()).payload)
        assert (gone.deviceName, gone.reasonCode) == ("A", 0x98)
