"""Rate limits on every wire, from the configuration to what a device sees (section 12)."""

from __future__ import annotations

import asyncio
import json

import pytest
from inside import NewGate
from wires import DISCONNECT, GET, POST, coap, connect_packet, dotted, http, mqtt

CLOSED = (0, 0)
PLENTY = {"device_messages": "1000:1"}


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("version", [3, 4, 5])
async def test_mqtt_sessions_end(new_gate: NewGate, version: int, qos: int) -> None:
    """Without a PUBACK; MQTT 5 is told 0x83 and why (section 7.4)."""
    gate = await new_gate(limits={**PLENTY, "device_telemetry_points": "2:60"})
    token = await gate.add("d")
    async with mqtt(gate.ports.mqtt, version) as session:
        assert await session.connect("c", token) == 0
        await session.deliver("v2/t", b'{"a":1,"b":2}')
        session.publish("v2/t", b'{"c":3}', qos)
        packet = await session.next()
        if version == 5:
            assert packet is not None
            assert (packet.kind, packet.body[0]) == (DISCONNECT, 0x83)
            assert b"rate limit" in packet.body
            packet = await session.next()
        assert packet is None
    assert await gate.readings("d") == {"a": 1, "b": 2}


@pytest.mark.parametrize("version", [3, 4, 5])
async def test_mqtt_connecting_too_often(new_gate: NewGate, version: int) -> None:
    """3 to older clients, 0x9F to MQTT 5 (section 7.3)."""
    gate = await new_gate(limits={"device_messages": "1:60"})
    token = await gate.add("d")
    for code in (0, 0x9F if version == 5 else 3):
        async with mqtt(gate.ports.mqtt, version) as session:
            session.send(connect_packet(version, "c", token))
            told = await session.next()
            assert told is not None
            assert told.body[1] == code


async def test_http(new_gate: NewGate) -> None:
    """What ThingsBoard answers is 500 and empty; what it never answers is 429 (section 11)."""
    gate = await new_gate(limits={"device_messages": "1:60", "device_telemetry_messages": "1:60"})
    token = await gate.add("d")
    async with http(gate.ports.http) as web:
        for path, body, status in (
            ("telemetry", b'{"a":1}', 200),
            ("telemetry", b'{"a":2}', 500),
            ("attributes", b'{"a":2}', 500),
            ("claim", b"", 200),
            ("claim", b"", 500),
            ("rpc/1", b"{}", 500),
            ("rpc", b'{"method":"m","params":{}}', 429),
        ):
            reply = await web.ask("POST", f"/api/v1/{token}/{path}", body)
            assert reply.status == status, path
            assert status == 429 or reply.body == b"", path
        for path in ("attributes", "attributes/updates", "rpc"):
            reply = await web.ask("GET", f"/api/v1/{token}/{path}")
            assert reply.status == 429, path
            assert 1 <= int(reply.headers["retry-after"]) <= 60
            assert json.loads(reply.body)["errorCode"] == 33
    assert await gate.readings("d") == {"a": 1}


async def test_coap(new_gate: NewGate) -> None:
    """5.00 where ThingsBoard says so, and 4.29 with Max-Age for questions (section 10)."""
    gate = await new_gate(limits={"device_messages": "1:60", "device_telemetry_messages": "1:60"})
    token = await gate.add("d")
    async with coap(gate.ports.coap) as device:
        for path, body, code in (
            ("telemetry", b'{"a":1}', "2.01"),
            ("telemetry", b'{"a":2}', "5.00"),
            ("attributes", b'{"a":2}', "5.00"),
            ("claim", b"", "2.01"),
            ("claim", b"", "5.00"),
            ("rpc/1", b"{}", "5.00"),
            ("rpc", b'{"method":"m","params":{}}', "4.29"),
        ):
            answer = await device.ask(POST, f"/api/v1/{token}/{path}", body)
            assert dotted(answer) == code, path
        for observe in ({}, {"observe": 0}):
            answer = await device.ask(GET, f"/api/v1/{token}/attributes", **observe)
            assert dotted(answer) == "4.29"
            assert 1 <= answer.opt.max_age <= 60
            assert answer.opt.observe is None


async def test_session_limits_are_those_of_the_configuration(new_gate: NewGate) -> None:
    """Texts for what is limited, null for what is not (section 8)."""
    gate = await new_gate(limits={"device_messages": "10:1,60:60"}, mqtt={"max_inflight": 7})
    token = await gate.add("d")
    async with mqtt(gate.ports.mqtt) as session:
        assert await session.connect("c", token) == 0
        session.publish("v1/devices/me/rpc/request/1", b'{"method":"getSessionLimits"}')
        told = json.loads((await session.published()).payload)
    assert told["maxInflightMessages"] == 7
    assert told["rateLimits"]["messages"] == "10:1,60:60"
    assert told["rateLimits"]["telemetryMessages"] is None


async def test_a_silent_device_is_closed(new_gate: NewGate) -> None:
    """0xA0 after the configured time, and a ping counts as a word (section 7.4)."""
    gate = await new_gate(mqtt={"session_idle_s": 1})
    token = await gate.add("d")
    async with mqtt(gate.ports.mqtt, 5) as session:
        assert await session.connect("c", token) == 0
        for _ in range(3):
            await asyncio.sleep(0.5)
            assert await session.outcome() == []
        packet = await session.next()
        assert packet is not None
        assert (packet.kind, packet.body[0]) == (DISCONNECT, 0xA0)
        assert await session.next() is None
