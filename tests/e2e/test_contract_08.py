"""Section 8 of the contract on sockets, where no other test has its row: the MQTT device API."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from contract import CLOSED, PROTOBUF, save_profile, session_of, told
from inside import Gate
from operating import Operator
from wires import DISCONNECT, PUBACK, Mqtt

from gateway.core.feed import LOOK_EVERY_S
from gateway.core.model import AttributesChange, AttributeScope, Json, ProfileTransport
from gateway.dialects.thingsboard import device_api_pb2 as wire

VERSIONS = pytest.mark.parametrize("version", [3, 4, 5])
ATTRIBUTES = "v1/devices/me/attributes"
REQUEST, RESPONSE = f"{ATTRIBUTES}/request/", f"{ATTRIBUTES}/response/"
VALUES: dict[str, tuple[Any, bytes]] = {
    "integral double": (42.0, b"42.0"),
    "integer": (42, b"42"),
    "large": (2**63 - 1, b"9223372036854775807"),
    "small": (-0.5, b"-0.5"),
    "text": ("123", b'"123"'),
    "umlaut": ('ü\n"', '"ü\\n\\""'.encode()),
    "true": (True, b"true"),
    "object": (Json('{"a": [1.0, null]}'), b'{"a": [1.0, null]}'),
    "array": (Json("[]"), b"[]"),
    "empty": ("", b'""'),
}
"""What people share, and how a device is told of it."""


async def asked(session: Mqtt, body: bytes, number: int = 1) -> bytes:
    session.publish(f"{REQUEST}{number}", body)
    topic, payload, _ = await session.published()
    assert topic == f"{RESPONSE}{number}"
    return payload


# ── attributes ────────────────────────────────────────────────────────────────────────────────


async def test_what_is_asked_for(gate: Gate) -> None:
    """Both optional; a scope with nothing to say is left out; keys are as written."""
    operator = Operator(gate)
    async with session_of(gate, await gate.add("d")) as session:
        assert await asked(session, b"{}") == b"{}"
        await session.deliver(ATTRIBUTES, b'{"c":1," c ":2,"both":3}')
        await operator.share(s=1, both=4)
        client, shared = {"c": 1, " c ": 2, "both": 3}, {"s": 1, "both": 4}
        both: dict[str, Any] = {"client": client, "shared": shared}
        rows: list[tuple[bytes, Any]] = [
            (b"", both),
            (b"{}", both),
            (b'{"clientKeys":null,"sharedKeys":null}', both),
            (b'{"clientKeys":"","sharedKeys":""}', both),
            (b'{"clientKeys":"c"}', {"client": {"c": 1}}),
            (b'{"clientKeys":"c, c ,,c"}', {"client": {"c": 1, " c ": 2}}),
            (b'{"sharedKeys":"both,none"}', {"shared": {"both": 4}}),
            (
                b'{"clientKeys":"both","sharedKeys":"both"}',
                {"client": {"both": 3}, "shared": {"both": 4}},
            ),
            (b'{"clientKeys":"none","sharedKeys":"s"}', {"shared": {"s": 1}}),
            (b'{"clientKeys":"s","sharedKeys":"c"}', {}),
            (b'{"other":"s"}', both),
        ]
        for number, (body, expected) in enumerate(rows):
            assert json.loads(await asked(session, body, number)) == expected, body


async def test_values_people_share_arrive_as_they_are(gate: Gate) -> None:
    """Pushed or asked for: an integral double stays one, objects are as written (13)."""
    async with session_of(gate, await gate.add("d")) as session:
        await session.subscribe(ATTRIBUTES)
        for value, text in VALUES.values():
            await Operator(gate).share(v=value)
            assert await session.published() == (ATTRIBUTES, b'{"v":%b}' % text, 1)
            assert await asked(session, b'{"sharedKeys":"v"}') == b'{"shared":{"v":%b}}' % text
        await Operator(gate).share("v", "never was")
        assert await session.published() == (ATTRIBUTES, b'{"deleted":["v"]}', 1)
        await Operator(gate).share("v")
        assert await session.outcome() == []


async def test_a_devices_own_values_do_not_come_back(gate: Gate) -> None:
    """Nor do those of people in other scopes: only the shared scope is told."""
    operator = Operator(gate)
    async with session_of(gate, await gate.add("d")) as session:
        await session.subscribe(ATTRIBUTES, "v2/a")
        await session.deliver(ATTRIBUTES, b'{"a":1}')
        for scope in (AttributeScope.CLIENT, AttributeScope.SERVER):
            await gate.registry.change_attributes(
                await operator.known(), scope, AttributesChange({"a": 2})
            )
        await asyncio.sleep(3 * LOOK_EVERY_S)
        assert await session.outcome() == []


# ── families ──────────────────────────────────────────────────────────────────────────────────


async def test_pushes_go_out_on_the_family_subscribed_to_last(gate: Gate) -> None:
    """Once each; subscribing again is subscribing last; without it, the one before."""
    operator = Operator(gate)
    async with session_of(gate, await gate.add("d")) as session:

        async def heard(n: int) -> str:
            await operator.share(n=n)
            topic = (await session.published()).topic
            assert await session.outcome() == []
            return topic

        await session.subscribe(ATTRIBUTES, "v2/a", "v2/a/j")
        assert await heard(1) == "v2/a/j"
        await session.subscribe("v2/a")
        assert await heard(2) == "v2/a"
        await session.unsubscribe("v2/a")
        assert await heard(3) == "v2/a/j"
        await session.unsubscribe("v2/a/j")
        assert await heard(4) == ATTRIBUTES


async def test_calls_of_a_json_profile_in_protobuf(gate: Gate) -> None:
    """Both ways on the `p` topics, in the fixed messages."""
    operator = Operator(gate)
    async with session_of(gate, await gate.add("d")) as session:
        await session.subscribe("v2/r/req/p/+")
        calling = asyncio.create_task(operator.call("set", '{"pin":7}'))
        topic, payload, _ = await session.published()
        asked = wire.ToDeviceRpcRequestMsg.FromString(payload)
        assert (topic, asked.methodName) == (f"v2/r/req/p/{asked.requestId}", "set")
        assert json.loads(asked.params) == {"pin": 7}
        answer = wire.ToServerRpcResponseMsg(requestId=asked.requestId, payload="true")
        await session.deliver(f"v2/r/res/p/{asked.requestId}", answer.SerializeToString())
        assert await calling == ("SUCCESSFUL", "true")
        body = wire.RpcRequest(method="getCurrentTime", params="{}").SerializeToString()
        await session.deliver("v2/r/req/p/7", body)
        topic, payload, _ = await session.published()
        told = wire.ToServerRpcResponseMsg.FromString(payload)
        assert (topic, told.requestId) == ("v2/r/res/p/7", 7)
        assert list(json.loads(told.payload)) == ["currentTime"]
        session.publish("v2/r/req/p/8", b"\xff\xff", 1)
        assert await session.outcome() == [(PUBACK, 0x99)]


async def test_any_text_answers_a_call(gate: Gate) -> None:
    """JSON or not; the caller reads it as it was."""
    async with session_of(gate, await gate.add("d")) as session:
        await session.subscribe("v1/devices/me/rpc/request/+")
        for number, answer in enumerate((b"plain words", b"", b"[1", '"ü"'.encode())):
            calling = asyncio.create_task(Operator(gate).call("m"))
            topic = (await session.published()).topic
            assert topic == f"v1/devices/me/rpc/request/{number}"  # ids count from 0
            await session.deliver(f"v1/devices/me/rpc/response/{number}", answer)
            assert await calling == ("SUCCESSFUL", answer.decode())


async def test_session_limits_are_a_v1_word(gate: Gate) -> None:
    """On the other families `getSessionLimits` is a method like any other, that nobody knows."""
    async with session_of(gate, await gate.add("d")) as session:
        for body in (
            b'{"method":"getSessionLimits"}',
            b'{"method":"getSessionLimits","params":{}}',
        ):
            session.publish("v1/devices/me/rpc/request/1", body)
            assert "rateLimits" in (await told(session))[1]
        session.publish("v2/r/req/1", b'{"method":"getSessionLimits","params":{}}')
        assert await told(session) == ("v2/r/res/1", {"error": "no such method"})


@VERSIONS
async def test_the_filters_of_the_contract(gate: Gate, version: int) -> None:
    """Each is granted, and what the SDK tries for firmware is not (section 16)."""
    granted = [
        "v1/devices/me/attributes",
        "v1/devices/me/attributes/response/+",
        "v1/devices/me/rpc/request/+",
        "v1/devices/me/rpc/response/+",
        *("v2/fw/response/+/chunk/+", "v2/fw/error", "v2/sw/response/+/chunk/+", "v2/sw/error"),
        *(f"v2/a{kind}" for kind in ("", "/j", "/p")),
        *(f"v2/a/res{kind}/+" for kind in ("", "/j", "/p")),
        *(f"v2/r/{way}{kind}/+" for way in ("req", "res") for kind in ("", "/j", "/p")),
    ]
    refused = ["v2/fw/response/+", "v1/devices/me/telemetry", "v2/t", "v2/a/res/1", "v2/#"]
    code = 0x8F if version == 5 else 0x80
    async with session_of(gate, await gate.add("d"), version) as session:
        assert await session.subscribe(*granted) == [1] * len(granted)
        assert await session.subscribe(*refused, qos=0) == [code] * len(refused)
        assert await session.outcome() == []


# ── a profile's own topics and payloads ───────────────────────────────────────────────────────


async def test_own_topics_stand_in_the_place_of_v1(gate: Gate) -> None:
    """With wildcards; the v1 ones mean nothing any more, the other families stay."""
    section = {
        "telemetry_topic": "plant/+/data/#",
        "attributes_topic": "plant/+/state",
        "attributes_subscribe_topic": "plant/+/shared",
    }
    await save_profile(gate, "plant", ProfileTransport.MQTT, thingsboard=section)
    operator = Operator(gate)
    async with session_of(gate, await gate.add("d", "plant")) as session:
        for number, topic in enumerate(("plant/7/data", "plant/7/data/a/b", "plant//data", "v2/t")):
            await session.deliver(topic, b'{"n":%d}' % number)
            assert await gate.readings("d") == {"n": number}
        await session.deliver("plant/7/state", b'{"c":1}')
        assert await operator.attributes(AttributeScope.CLIENT) == {"c": 1}
        for topic in ("v1/devices/me/telemetry", ATTRIBUTES, "plant/7", "plant/7/8/data"):
            session.publish(topic, b'{"n":9}', 1)
            assert await session.outcome() == [(PUBACK, 0x90)], topic
        codes = await session.subscribe("plant/+/shared", "plant/7/shared", ATTRIBUTES)
        assert codes == [1, 0x8F, 0x8F]
        await operator.share(s=1)
        assert await session.published() == ("plant/me/shared", b'{"s":1}', 1)
        assert json.loads(await asked(session, b"{}")) == {"client": {"c": 1}, "shared": {"s": 1}}


@pytest.mark.parametrize("qos", [0, 1])
@VERSIONS
async def test_what_is_no_protobuf(gate: Gate, version: int, qos: int) -> None:
    """Of a profile of schemas it is a bad payload; with `json_compatibility` JSON is tried."""
    await save_profile(gate, "b", ProfileTransport.MQTT, thingsboard=PROTOBUF)
    await save_profile(
        gate, "j", ProfileTransport.MQTT, thingsboard={**PROTOBUF, "json_compatibility": True}
    )
    rows = [("b", b'{"t":1}', False), ("j", b'{"t":1}', True), ("j", b"{", False), ("b", b"", True)]
    for number, (profile, body, good) in enumerate(rows):
        token = await gate.add(f"d{number}", profile)
        async with session_of(gate, token, version) as session:
            session.publish("v1/devices/me/telemetry", body, qos)
            expected = [(PUBACK, 0)] * qos
            if not good and version == 5:
                expected = [(PUBACK, 0x99)] if qos else [(DISCONNECT, 0x99), CLOSED]
            elif not good:
                expected = [CLOSED]
            assert await session.outcome() == expected, (profile, body)


async def test_downlinks_of_a_profile_of_schemas(gate: Gate) -> None:
    """With `json_downlinks` all that goes out on v1 topics is JSON, on v2 protobuf, on j JSON."""
    section = {**PROTOBUF, "json_downlinks": True}
    await save_profile(gate, "b", ProfileTransport.MQTT, thingsboard=section)
    operator = Operator(gate)
    async with session_of(gate, await gate.add("d", "b")) as session:
        for updates, calls, answers, is_json in (
            (ATTRIBUTES, "v1/devices/me/rpc/request/", "v1/devices/me/rpc/response/", True),
            ("v2/a", "v2/r/req/", "v2/r/res/", False),
            ("v2/a/j", "v2/r/req/j/", "v2/r/res/j/", True),
            ("v2/a/p", "v2/r/req/p/", "v2/r/res/p/", False),
        ):
            await session.subscribe(updates, f"{calls}+")
            await operator.share(n=updates)
            topic, payload, _ = await session.published()
            assert (topic, payload.startswith(b"{")) == (updates, is_json)
            calling = asyncio.create_task(operator.call("m"))
            topic, payload, _ = await session.published()
            assert (topic.startswith(calls), payload.startswith(b"{")) == (True, is_json)
            number = topic.rpartition("/")[2]
            body = b"{}" if "/j/" in answers else b"\x0a\x02{}"
            await session.deliver(f"{answers}{number}", body)
            assert (await calling)[0] == "SUCCESSFUL"
            rpc = wire.RpcRequest(method="getCurrentTime").SerializeToString()
            request = calls + "9"
            await session.deliver(
                request, b'{"method":"getCurrentTime"}' if "/j/" in calls else rpc
            )
            topic, payload, _ = await session.published()
            assert (topic, payload.startswith(b"{")) == (f"{answers}9", is_json)
