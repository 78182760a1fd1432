"""Sections 12, 13 and 18 of the contract on sockets: rates, data rules and claiming."""

from __future__ import annotations

import json
from typing import Any

import pytest
from contract import CLOSED, PROTOBUF, save_profile, session_of
from inside import Gate, NewGate
from operating import Operator
from wires import (
    DISCONNECT,
    POST,
    PUBACK,
    coap,
    connect_packet,
    dotted,
    http,
    mqtt,
    observing,
    provisioned,
)

from gateway.core.model import (
    AttributesChange,
    AttributeScope,
    ClaimResult,
    Json,
    ProfileTransport,
    Secret,
)

WIRES = pytest.mark.parametrize("way", ["http", "coap", "mqtt"])
SERVER = AttributeScope.SERVER


async def posted(gate: Gate, way: str, token: str, feature: str, body: bytes) -> bool:
    """Send telemetry, attributes or a claim by one of the wires; whether it was taken."""
    path = f"/api/v1/{token}/{feature}"
    if way == "http":
        async with http(gate.ports.http) as web:
            return (await web.ask("POST", path, body)).status == 200
    if way == "coap":
        async with coap(gate.ports.coap) as device:
            return dotted(await device.ask(POST, path, body)) == "2.01"
    async with session_of(gate, token) as session:
        session.publish(f"v1/devices/me/{feature}", body, 1)
        return await session.outcome() == [(PUBACK, 0)]


# ── 12: rates ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("scope", ["device", "organisation"])
@WIRES
async def test_what_counts(new_gate: NewGate, way: str, scope: str) -> None:
    """Telemetry and attributes take one telemetry message and their values; a claim a message."""
    gate = await new_gate(
        limits={
            f"{scope}_messages": "3:600",
            f"{scope}_telemetry_messages": "3:600",
            f"{scope}_telemetry_points": "5:600",
        }
    )
    token = await gate.add("d")
    connects = way == "mqtt"  # which takes a message each time
    assert await posted(gate, way, token, "telemetry", b'[{"a":1,"n":null},{"ts":1,"values":{}}]')
    assert await posted(gate, way, token, "attributes", b'{"a":1,"b":2,"c":3}')
    assert not await posted(gate, way, token, "attributes", b'{"a":1,"b":2}')
    known = await Operator(gate).attributes(AttributeScope.CLIENT)
    assert known == {"a": 1, "b": 2, "c": 3}
    if not connects:
        assert await posted(gate, way, token, "telemetry", b'{"a":2}')
        assert not await posted(gate, way, token, "telemetry", b"{}")
        assert [await posted(gate, way, token, "claim", b"") for _ in range(4)] == [
            *(True, True, True),
            False,
        ]
    other = await gate.add("other")
    if not connects:
        taken = await posted(gate, way, other, "telemetry", b"{}")
        assert taken is (scope == "device")
    async with mqtt(gate.ports.mqtt, 5) as session:
        session.send(connect_packet(5, "c", token))
        told = await session.next()
        assert told is not None
        assert told.body[1] == 0x9F


async def test_what_does_not_count(new_gate: NewGate) -> None:
    """Provisioning, `getSessionLimits`, pings, subscriptions, bad payloads and wrong tokens."""
    gate = await new_gate(limits={"device_messages": "1:600", "organisation_messages": "1:600"})
    for number in range(3):
        answer = await provisioned(gate.ports, "http", gate.request(f"d{number}"))
        assert answer["status"] == "SUCCESS"
    async with session_of(gate, answer["credentialsValue"]) as session:
        for _ in range(3):
            session.publish("v1/devices/me/rpc/request/1", b'{"method":"getSessionLimits"}')
            assert b"rateLimits" in (await session.published()).payload
            await session.subscribe("v1/devices/me/attributes")
            session.publish("v1/devices/me/claim", b"{", 1)
            assert await session.outcome() == [(PUBACK, 0x99)]
        session.publish("v1/devices/me/claim", b"", 1)
        assert await session.outcome() == [(DISCONNECT, 0x83), CLOSED]


async def test_a_profiles_own_rates(new_gate: NewGate) -> None:
    """Stand in the place of the configured ones, for its devices, from now on; and are told."""
    gate = await new_gate(limits={"device_telemetry_points": "1:600"})
    await save_profile(gate, "p", limits={"telemetry_points": "3:600", "messages": "50:60"})
    token = await gate.add("d", "p")
    async with session_of(gate, token) as session:
        await session.deliver("v2/t", b'{"a":1,"b":2,"c":3}')
        session.publish("v1/devices/me/rpc/request/1", b'{"method":"getSessionLimits"}')
        told = json.loads((await session.published()).payload)["rateLimits"]
        assert told == {
            "messages": "50:60",
            "telemetryMessages": None,
            "telemetryDataPoints": "3:600",
        }
        session.publish("v2/t", b'{"a":1}', 1)
        assert await session.outcome() == [(DISCONNECT, 0x83), CLOSED]


async def test_limited_observations(new_gate: NewGate) -> None:
    """An observation that is too much is 4.29 and does not begin; those that stand go on."""
    gate = await new_gate(limits={"device_messages": "2:600"})
    token = await gate.add("d")
    async with observing(gate.ports.coap) as device:
        stands = device.observe(f"api/v1/{token}/attributes")
        await device.next(stands)
        for feature, code in (("rpc", "2.03"), ("rpc", "4.29"), ("attributes", "4.29")):
            fresh = device.observe(f"api/v1/{token}/{feature}")
            answer = await device.next(fresh)
            assert (dotted(answer), answer.opt.observe) == (code, 0 if code == "2.03" else None)
        await Operator(gate).share(n=1)
        assert (await device.next(stands)).payload == b'{"n":1}'


# ── 13: data rules ────────────────────────────────────────────────────────────────────────────


@WIRES
async def test_values(gate: Gate, way: str) -> None:
    """Each rule for telemetry and for attributes, and what the device is told of the latter."""
    rows: list[tuple[str, Any]] = [
        ("true", True),
        ('"text"', "text"),
        ('{"a": [1.0]}', Json('{"a": [1.0]}')),
        ("[]", Json("[]")),
        ("10", 10),
        ("1E+1", 10),
        ("10.0", 10.0),
        ("42.0", 42.0),
        ("-0.0", 0.0),
        ("0.1234567890123456", 0.1234567890123456),
        ("0.12345678901234567", "0.12345678901234567"),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", "9223372036854775808"),
        ("1E19", "10000000000000000000"),
        ('"123"', 123),
        ('"-1.50"', -1.5),
        ('"1e5"', "1e5"),
        ('"+1"', "+1"),
        ('" 1"', " 1"),
        ('""', ""),
        ('"9223372036854775808"', "9223372036854775808"),
    ]
    token = await gate.add("d")
    members = ",".join(f'"k{number}":{text}' for number, (text, _) in enumerate(rows))
    body = f'{{{members},"n":null}}'
    expected = {f"k{number}": value for number, (_, value) in enumerate(rows)}
    for feature in ("telemetry", "attributes"):
        assert await posted(gate, way, token, feature, body.encode())
    kept = await gate.readings("d"), await Operator(gate).attributes(AttributeScope.CLIENT)
    for found in kept:
        assert found == expected
        assert {key: type(value) for key, value in found.items()} == {
            key: type(value) for key, value in expected.items()
        }
    async with http(gate.ports.http) as web:
        told = (await web.ask("GET", f"/api/v1/{token}/attributes")).body
    for part in (b'"k6":10.0', b'"k2":{"a": [1.0]}', b'"k14":123', b'"k13":"10000000000000000000"'):
        assert part in told


@WIRES
async def test_shapes(gate: Gate, way: str) -> None:
    """Timestamped only with both members; arrays of either; `ts` may have a fraction."""
    token = await gate.add("d")
    for body, found in (
        (b'{"ts":5}', {"ts": 5}),
        (b'{"values":{"x":1}}', {"values": Json('{"x":1}')}),
        (b'{"ts":1795219296308.456,"values":{"f":1},"other":2}', {"f": 1}),
        (b'{"ts":"7","values":{"g":1}}', {"g": 1}),
        (b'[{"ts":5,"values":{"h":1}},{"i":2}]', {"h": 1, "i": 2}),
        (b"[]", {}),
        (b"{}", {}),
    ):
        before = await gate.readings("d")
        assert await posted(gate, way, token, "telemetry", body), body
        assert await gate.readings("d") == before | found
    for body in (b"", b"1", b"null", b'"x"', b"[[]]", b"[1]", b'{"ts":1,"values":[]}', b"{}{}"):
        assert not await posted(gate, way, token, "telemetry", body), body
        if not body.startswith(b'{"ts"'):  # whose members are keys like any other there
            assert not await posted(gate, way, token, "attributes", body), body


async def test_protobuf_values_follow_the_same_rules(gate: Gate) -> None:
    """A message of schemas is turned into JSON: explicit defaults are stored, unset ones not."""
    schema = """syntax = "proto3";
    message Sent {
      optional int64 ts = 1;
      message Values { optional double d = 1; int64 i = 2; optional string s = 3; bool b = 4; }
      Values values = 2;
    }"""
    section = {**PROTOBUF, "telemetry_schema": schema}
    await save_profile(gate, "b", ProfileTransport.MQTT, thingsboard=section)
    async with session_of(gate, await gate.add("d", "b")) as session:
        values = b"\x09" + bytes(8) + b"\x1a\x03123"
        await session.deliver(
            "v1/devices/me/telemetry", b"\x08\x05\x12" + bytes((len(values),)) + values
        )
    assert await gate.readings("d") == {"d": 0.0, "i": 0, "s": 123, "b": False}
    latest = await gate.registry.latest(await Operator(gate).known())
    assert {one.ts for one in latest} == {5}


# ── 18: claiming ──────────────────────────────────────────────────────────────────────────────


@WIRES
async def test_claims(gate: Gate, way: str) -> None:
    """The first stands until it fails; a wrong key drops it; a claimed device offers nothing."""
    token = await gate.add("d")

    async def claimed(key: str) -> ClaimResult:
        known = await gate.registry.device("d")
        assert known is not None
        return await gate.registry.claim(known, "Acme", Secret(key))

    assert await claimed("") is ClaimResult.FAILURE  # nothing is stored
    for body in (b'{"secretKey":"first"}', b'{"secretKey":"second"}', b"{}", b""):
        assert await posted(gate, way, token, "claim", body), body
    assert await claimed("second") is ClaimResult.FAILURE
    assert await claimed("first") is ClaimResult.FAILURE  # dropped
    assert await posted(gate, way, token, "claim", b'{"durationMs":60000}')
    assert await claimed("") is ClaimResult.SUCCESS
    assert await claimed("") is ClaimResult.CLAIMED
    assert await posted(gate, way, token, "claim", b'{"secretKey":"x"}')  # it is not told
    assert await claimed("x") is ClaimResult.CLAIMED


@WIRES
async def test_claiming_that_is_off(gate: Gate, way: str) -> None:
    """The device is not told; the server attribute `claimingAllowed` allows it."""
    await save_profile(gate, "off", claiming_allowed=False)
    token = await gate.add("d", "off")
    known = await Operator(gate).known()
    assert await posted(gate, way, token, "claim", b'{"secretKey":"k"}')
    assert await gate.registry.claim(known, "Acme", Secret("k")) is ClaimResult.FAILURE
    allowed = AttributesChange({"claimingAllowed": True})
    await gate.registry.change_attributes(known, SERVER, allowed)
    assert await posted(gate, way, token, "claim", b'{"secretKey":"k"}')
    assert await gate.registry.claim(known, "Acme", Secret("k")) is ClaimResult.SUCCESS
