"""Section 13 of the contract on sockets: values pushed to devices, and profiles of schemas."""

from __future__ import annotations

import asyncio
import json
import struct
from typing import Any

import pytest
from contract import PROTOBUF, save_profile, session_of
from inside import Gate
from operating import Operator
from wires import DISCONNECT, POST, PUBACK, coap, dotted, http, observing

from gateway.core.model import AttributeScope, Json, ProfileTransport
from gateway.dialects.thingsboard import device_api_pb2 as wire

VALUES: dict[str, Any] = {
    "b": False,
    "i": 2**63 - 1,
    "f": 42.0,
    "s": "123",
    "j": Json('{"k":[1.0,null]}'),
}
WRITTEN = b'{"b":false,"i":9223372036854775807,"f":42.0,"s":"123","j":{"k":[1.0,null]}}'
"""The same as a device is told: a text that looks like a number stays one, people meant it."""

SCHEMAS: dict[str, Any] = {
    **PROTOBUF,
    "telemetry_schema": """syntax = "proto3";
        message Values { optional double set = 1; double plain = 2; optional string s = 3; }
        message Sent { optional int64 ts = 1; Values values = 2; }""",
    "attributes_schema": """syntax = "proto3";
        message Known { optional int32 set = 1; int32 plain = 2; string s = 3; }""",
}


@pytest.mark.parametrize("family", ["v1/devices/me/attributes", "v2/a", "v2/a/j", "v2/a/p"])
async def test_what_people_set_is_told_over_mqtt(gate: Gate, family: str) -> None:
    """Values of every kind keep their looks, or their types in protobuf."""
    token = await gate.add("d")
    async with session_of(gate, token) as session:
        assert await session.subscribe(family) == [1]
        await Operator(gate).share(**VALUES)
        topic, payload, _ = await session.published()
        assert topic == family
        if family != "v2/a/p":
            assert json.loads(payload) == json.loads(WRITTEN)
            assert b'"f":42.0' in payload
            assert b'{"k":[1.0,null]}' in payload
            return
        told = {one.kv.key: one.kv for one in told_in(payload)}
        assert (told["b"].type, told["b"].bool_v) == (wire.BOOLEAN_V, False)
        assert (told["i"].type, told["i"].long_v) == (wire.LONG_V, 2**63 - 1)
        assert (told["f"].type, told["f"].double_v) == (wire.DOUBLE_V, 42.0)
        assert (told["s"].type, told["s"].string_v) == (wire.STRING_V, "123")
        assert (told["j"].type, told["j"].json_v) == (wire.JSON_V, '{"k":[1.0,null]}')


def told_in(payload: bytes) -> Any:
    return wire.AttributeUpdateNotificationMsg.FromString(payload).sharedUpdated


async def test_what_people_set_is_told_over_http_and_coap(gate: Gate) -> None:
    """To whoever polls and to whoever observes, in the same words."""
    token = await gate.add("d")
    path = f"/api/v1/{token}/attributes"
    async with http(gate.ports.http) as web, observing(gate.ports.coap) as device:
        observed = device.observe(path)
        await device.next(observed)
        poll = asyncio.create_task(web.ask("GET", f"{path}/updates"))
        await asyncio.sleep(0.1)
        await Operator(gate).share(**VALUES)
        for body in ((await poll).body, (await device.next(observed)).payload):
            assert json.loads(body) == json.loads(WRITTEN)
            assert b'"f":42.0' in body


async def test_scopes_do_not_mix(gate: Gate) -> None:
    """What a device posts under the same key is its own, is not told back, and hides nothing."""
    token = await gate.add("d")
    async with session_of(gate, token) as session:
        assert await session.subscribe("v1/devices/me/attributes") == [1]
        await Operator(gate).share(k=1)
        assert (await session.published()).payload == b'{"k":1}'
        await session.deliver("v1/devices/me/attributes", b'{"k":2}')
        session.publish("v1/devices/me/attributes/request/1", b'{"clientKeys":"k"}')
        assert (await session.published()).payload == b'{"client":{"k":2}}'
        session.publish("v1/devices/me/attributes/request/2", b"{}")
        assert (await session.published()).payload == b'{"client":{"k":2},"shared":{"k":1}}'


def sent(values: bytes, ts: int | None = None) -> bytes:
    time = b"" if ts is None else b"\x08" + bytes((ts,))
    return time + b"\x12" + bytes((len(values),)) + values


async def test_fields_that_are_set_and_fields_that_are_not(gate: Gate) -> None:
    """Of `optional` ones only those set, an explicit default too; of plain ones always."""
    await save_profile(gate, "binary", ProfileTransport.COAP, thingsboard=SCHEMAS)
    token = await gate.add("d", "binary")
    operator = Operator(gate)
    async with coap(gate.ports.coap) as device:

        async def post(feature: str, body: bytes) -> str:
            return dotted(await device.ask(POST, f"api/v1/{token}/{feature}", body))

        assert await post("telemetry", sent(b"", 5)) == "2.01"
        assert await gate.readings("d") == {"plain": 0.0}
        assert await post("telemetry", sent(b"\x09" + bytes(8) + b"\x1a\x0212", 6)) == "2.01"
        assert await gate.readings("d") == {"plain": 0.0, "set": 0.0, "s": 12}
        latest = await gate.registry.latest(await operator.known())
        assert {one.ts for one in latest} == {6}
        # Without a time `values` is a key like any other.
        assert await post("telemetry", sent(b"\x11" + struct.pack("<d", 1.5))) == "2.01"
        assert (await gate.readings("d"))["values"] == Json('{"plain":1.5}')
        assert await post("attributes", b"") == "2.01"
        assert await operator.attributes(AttributeScope.CLIENT) == {"plain": 0, "s": ""}
        assert await post("attributes", b"\x08\x00\x10\x07\x1a\x03abc") == "2.01"
        kept = await operator.attributes(AttributeScope.CLIENT)
        assert kept == {"set": 0, "plain": 7, "s": "abc"}


@pytest.mark.parametrize("compatible", [False, True])
async def test_json_where_protobuf_is_expected(gate: Gate, compatible: bool) -> None:
    """Is taken if the profile is compatible; what is neither is a bad payload in any case."""
    section = {**SCHEMAS, "json_compatibility": compatible}
    await save_profile(gate, "binary", ProfileTransport.MQTT, thingsboard=section)
    async with session_of(gate, await gate.add("d", "binary")) as session:
        for topic in ("v1/devices/me/telemetry", "v1/devices/me/attributes", "v2/t", "v2/a"):
            for body, taken in ((b'{"any":"1.0"}', compatible), (b"{", False), (b"[1]", False)):
                session.publish(topic, body, 1)
                assert await session.outcome() == [(PUBACK, 0 if taken else 0x99)], (topic, body)
        known = await Operator(gate).attributes(AttributeScope.CLIENT)
        assert known == await gate.readings("d") == ({"any": 1.0} if compatible else {})
        session.publish("v1/devices/me/telemetry", b"{")
        assert (await session.outcome())[0] == (DISCONNECT, 0x99)
