"""Protobuf on sockets: the fixed messages of any profile, and a profile of schemas (13 and 15)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from inside import Gate
from operating import Operator
from wires import GET, POST, Mqtt, coap, dotted, mqtt

from gateway.core.model import (
    AttributeScope,
    DeviceProfile,
    ProfileTransport,
    ProvisionType,
    Secret,
)
from gateway.core.registry import ProfileDraft
from gateway.dialects.thingsboard import device_api_pb2 as wire

SECTION: dict[str, Any] = {
    "payload": "PROTOBUF",
    "telemetry_schema": 'syntax = "proto3"; message Sent { optional double t = 1; }',
    "attributes_schema": 'syntax = "proto3"; message Known { optional string serial = 1; }',
}
TELEMETRY = b"\x09" + b"\0\0\0\0\0\x80\x35\x40"  # t = 21.5
ATTRIBUTES = b"\x0a\x03x-1"  # serial = "x-1"


async def add(gate: Gate, transport: ProfileTransport, **section: Any) -> str:
    """A device of a profile of schemas; its token."""
    profile = DeviceProfile(
        id=0,
        name="binary",
        provision_type=ProvisionType.CHECK_PRE_PROVISIONED_DEVICES,
        transport=transport,
        sections={"thingsboard": {**SECTION, **section}},
    )
    pair = {"key": Secret("binary-key-0001"), "secret": Secret("binary-secret-0001")}
    await gate.registry.save_profile(ProfileDraft(profile=profile, **pair))
    return await gate.add("d", "binary")


async def answer(session: Mqtt, topic: str, body: bytes) -> tuple[str, bytes]:
    await session.deliver(topic, body)
    where, payload, _ = await session.published()
    return where, payload


async def test_any_device_may_speak_fixed_messages(gate: Gate) -> None:
    """On the `p` topics, whatever its profile; its other topics stay JSON (section 8)."""
    token = await gate.add("d")
    async with mqtt(gate.ports.mqtt, 5) as session:
        assert await session.connect("c", token) == 0
        kv = wire.KeyValueProto(key="t", type=wire.DOUBLE_V, double_v=21.5)
        sent = wire.PostTelemetryMsg(tsKvList=[wire.TsKvListProto(kv=[kv])])
        await session.deliver("v2/t/p", sent.SerializeToString())
        posted = wire.PostAttributeMsg(kv=[kv])
        await session.deliver("v2/a/p", posted.SerializeToString())
        where, payload = await answer(session, "v2/a/req/p/3", b"")
        found = wire.GetAttributeResponseMsg.FromString(payload)
        assert (where, found.requestId) == ("v2/a/res/p/3", 3)
        assert [(one.kv.key, one.kv.double_v) for one in found.clientAttributeList] == [("t", 21.5)]
        assert await session.subscribe("v2/a/p") == [1]
        await Operator(gate).share(n=7)
        where, payload, _ = await session.published()
        told = wire.AttributeUpdateNotificationMsg.FromString(payload)
        assert (where, told.sharedUpdated[0].kv.long_v) == ("v2/a/p", 7)
        _, payload = await answer(session, "v1/devices/me/attributes/request/4", b"{}")
        assert json.loads(payload) == {"client": {"t": 21.5}, "shared": {"n": 7}}
    assert await gate.readings("d") == {"t": 21.5}


@pytest.mark.parametrize("json_downlinks", [False, True])
async def test_a_profile_of_schemas_over_mqtt(gate: Gate, json_downlinks: bool) -> None:
    """v1 and v2 topics are protobuf both ways, `j` is JSON; downlinks of v1 may be JSON too."""
    token = await add(
        gate, ProfileTransport.MQTT, json_downlinks=json_downlinks, json_compatibility=True
    )
    operator = Operator(gate)
    async with mqtt(gate.ports.mqtt, 5) as session:
        assert await session.connect("c", token) == 0
        await session.deliver("v1/devices/me/telemetry", TELEMETRY)
        await session.deliver("v2/a", ATTRIBUTES)
        assert await gate.readings("d") == {"t": 21.5}
        assert await operator.attributes(AttributeScope.CLIENT) == {"serial": "x-1"}
        await session.deliver("v2/t/j", b'{"t":1}')
        assert await gate.readings("d") == {"t": 1}
        await operator.share(n=7)
        _, payload = await answer(session, "v1/devices/me/attributes/request/1", b"")
        if json_downlinks:
            assert json.loads(payload) == {"client": {"serial": "x-1"}, "shared": {"n": 7}}
        else:
            found = wire.GetAttributeResponseMsg.FromString(payload)
            assert found.clientAttributeList[0].kv.string_v == "x-1"
        _, payload = await answer(session, "v2/a/req/2", b"")
        assert (
            wire.GetAttributeResponseMsg.FromString(payload).sharedAttributeList[0].kv.long_v == 7
        )
        assert await session.subscribe("v2/r/req/+") == [1]
        calling = asyncio.create_task(operator.call("set", '{"pin":7}'))
        where, payload, _ = await session.published()
        assert b"set" in payload
        assert not payload.startswith(b"{")
        number = where.rpartition("/")[2]
        await session.deliver(f"v2/r/res/{number}", b'\x0a\x0b{"ok":true}')
        state, response = await calling
        assert state == "SUCCESSFUL"
        assert response is not None
        assert json.loads(response) == {"payload": '{"ok":true}'}


async def test_a_profile_of_schemas_over_coap(gate: Gate) -> None:
    """Requests and answers are protobuf, labelled 42 (section 10)."""
    token = await add(gate, ProfileTransport.COAP)
    async with coap(gate.ports.coap) as device:
        for feature, body in (("telemetry", TELEMETRY), ("attributes", ATTRIBUTES)):
            assert dotted(await device.ask(POST, f"/api/v1/{token}/{feature}", body)) == "2.01"
        assert dotted(await device.ask(POST, f"/api/v1/{token}/telemetry", b"{")) == "4.00"
        found = await device.ask(GET, f"/api/v1/{token}/attributes")
        assert (dotted(found), found.opt.content_format) == ("2.05", 42)
        told = wire.GetAttributeResponseMsg.FromString(bytes(found.payload))
        assert told.clientAttributeList[0].kv.string_v == "x-1"
    assert await gate.readings("d") == {"t": 21.5}


async def test_topics_of_a_profile(gate: Gate) -> None:
    """A profile's own filters on sockets: published to, subscribed to, and pushed under."""
    section = {
        "telemetry_topic": "plant/+/data",
        "attributes_subscribe_topic": "plant/shared",
    }
    profile = DeviceProfile(
        id=0,
        name="plant",
        provision_type=ProvisionType.CHECK_PRE_PROVISIONED_DEVICES,
        transport=ProfileTransport.MQTT,
        sections={"thingsboard": section},
    )
    pair = {"key": Secret("plant-key-0001"), "secret": Secret("plant-secret-0001")}
    await gate.registry.save_profile(ProfileDraft(profile=profile, **pair))
    token = await gate.add("d", "plant")
    async with mqtt(gate.ports.mqtt, 4) as session:
        assert await session.connect("c", token) == 0
        await session.deliver("plant/7/data", b'{"t":1}')
        assert await session.subscribe("v1/devices/me/attributes", "plant/shared") == [0x80, 1]
        await Operator(gate).share(n=1)
        assert await session.published() == ("plant/shared", b'{"n":1}', 1)
    assert await gate.readings("d") == {"t": 1}
