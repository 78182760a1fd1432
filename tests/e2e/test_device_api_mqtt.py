"""The device API over MQTT, from socket to store and back: sections 7.4, 8 and 18, row by row."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from inside import Gate
from operating import Operator
from wires import DISCONNECT, PUBACK, Mqtt, mqtt

from gateway.core.feed import LOOK_EVERY_S
from gateway.core.model import AttributeScope, ClaimResult, Secret

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CLOSED = (0, 0)
VERSIONS = pytest.mark.parametrize("version", [3, 4, 5])
FAMILIES = pytest.mark.parametrize("family", ["v1", "v2", "v2j"])

TOPICS: dict[str, dict[str, str]] = {
    "v1": {
        "telemetry": "v1/devices/me/telemetry",
        "attributes": "v1/devices/me/attributes",
        "attributes request": "v1/devices/me/attributes/request/",
        "attributes response": "v1/devices/me/attributes/response/",
        "rpc request": "v1/devices/me/rpc/request/",
        "rpc response": "v1/devices/me/rpc/response/",
    },
    "v2": {
        "telemetry": "v2/t",
        "attributes": "v2/a",
        "attributes request": "v2/a/req/",
        "attributes response": "v2/a/res/",
        "rpc request": "v2/r/req/",
        "rpc response": "v2/r/res/",
    },
    "v2j": {
        "telemetry": "v2/t/j",
        "attributes": "v2/a/j",
        "attributes request": "v2/a/req/j/",
        "attributes response": "v2/a/res/j/",
        "rpc request": "v2/r/req/j/",
        "rpc response": "v2/r/res/j/",
    },
}


@asynccontextmanager
async def device(gate: Gate, version: int = 4, name: str = "d") -> AsyncIterator[Mqtt]:
    """The session of a new device."""
    token = await gate.add(name)
    async with mqtt(gate.ports.mqtt, version) as session:
        assert await session.connect("c", token) == 0
        yield session


async def asked(session: Mqtt, topic: str, body: bytes, qos: int = 1) -> tuple[str, Any]:
    """Publish a question; the topic and the JSON of its answer."""
    if qos:
        await session.deliver(topic, body)
    else:
        session.publish(topic, body)
    where, payload, _ = await session.published()
    return where, json.loads(payload)


# ── section 8, row by row ─────────────────────────────────────────────────────────────────────


@FAMILIES
@VERSIONS
async def test_telemetry_and_attributes(gate: Gate, version: int, family: str) -> None:
    """Both are on disk when they are acknowledged."""
    topics = TOPICS[family]
    async with device(gate, version) as session:
        await session.deliver(topics["telemetry"], b'{"t":21.5}')
        await session.deliver(topics["attributes"], b'{"serial":"x"}')
        assert await session.outcome() == []
    assert await gate.readings("d") == {"t": 21.5}
    assert await Operator(gate).attributes(AttributeScope.CLIENT) == {"serial": "x"}


@FAMILIES
@VERSIONS
async def test_attributes_are_asked_for(gate: Gate, version: int, family: str) -> None:
    """The answer has the request's id and family, subscribed to or not, in the granted quality."""
    topics = TOPICS[family]
    async with device(gate, version) as session:
        await Operator(gate).share(a=1, b=2)
        await session.deliver(topics["attributes"], b'{"serial":"x"}')
        everything = {"client": {"serial": "x"}, "shared": {"a": 1, "b": 2}}
        for number, body, expected in (
            (1, b"", everything),
            (2, b"{}", everything),
            (3, b'{"sharedKeys":"b"}', {"shared": {"b": 2}}),
            (4, b'{"clientKeys":"serial,none"}', {"client": {"serial": "x"}}),
            (5, b'{"clientKeys":"none"}', {}),
        ):
            topic = f"{topics['attributes request']}{number}"
            assert await asked(session, topic, body) == (
                f"{topics['attributes response']}{number}",
                expected,
            )
        assert await session.subscribe(topics["attributes response"] + "+", qos=0) == [0]
        session.publish(topics["attributes request"] + "9", b"")
        assert (await session.published()).qos == 0


@FAMILIES
@VERSIONS
async def test_shared_attributes_are_told(gate: Gate, version: int, family: str) -> None:
    """To whoever subscribed, and not at once: each change, deletions by their keys."""
    topic = TOPICS[family]["attributes"]
    operator = Operator(gate)
    async with device(gate, version) as session:
        await operator.share(before=1)
        await asyncio.sleep(3 * LOOK_EVERY_S)  # nobody is there to hear of it
        assert await session.subscribe(topic) == [1]
        assert await session.outcome() == []
        await operator.share(a=1)
        where, payload, qos = await session.published()
        assert (where, json.loads(payload), qos) == (topic, {"a": 1}, 1)
        await operator.share("a")
        assert json.loads((await session.published()).payload) == {"deleted": ["a"]}
        await session.unsubscribe(topic)
        await operator.share(b=1)
        assert await session.outcome() == []


@FAMILIES
@VERSIONS
async def test_a_device_is_called(gate: Gate, version: int, family: str) -> None:
    """On the family subscribed to, and its answer comes back to whoever called."""
    topics = TOPICS[family]
    async with device(gate, version) as session:
        assert await session.subscribe(topics["rpc request"] + "+") == [1]
        calling = asyncio.create_task(Operator(gate).call("set", '{"pin":7}'))
        where, payload, qos = await session.published()
        assert where.startswith(topics["rpc request"])
        assert (json.loads(payload), qos) == ({"method": "set", "params": {"pin": 7}}, 1)
        number = where.removeprefix(topics["rpc request"])
        await session.deliver(topics["rpc response"] + number, b'{"ok":true}')
        assert await calling == ("SUCCESSFUL", '{"ok":true}')


@FAMILIES
@VERSIONS
async def test_a_device_calls(gate: Gate, version: int, family: str) -> None:
    """The answer is published with the id of the request."""
    topics = TOPICS[family]
    async with device(gate, version) as session:
        where, answer = await asked(
            session, topics["rpc request"] + "5", b'{"method":"getCurrentTime","params":{}}'
        )
        assert where == topics["rpc response"] + "5"
        assert list(answer) == ["currentTime"]
        body = b'{"method":"nobody knows it","params":{}}'
        _, answer = await asked(session, topics["rpc request"] + "6", body, qos=0)
        assert answer == {"error": "no such method"}


@VERSIONS
async def test_session_limits(gate: Gate, version: int) -> None:
    """What the official SDK asks for at once, at QoS 0 (section 8)."""
    async with device(gate, version) as session:
        session.publish("v1/devices/me/rpc/request/1", b'{"method":"getSessionLimits"}')
        where, payload, _ = await session.published()
    assert where == "v1/devices/me/rpc/response/1"
    assert json.loads(payload) == {
        "maxPayloadSize": 65536,
        "maxInflightMessages": 100,
        "rateLimits": {"messages": None, "telemetryMessages": None, "telemetryDataPoints": None},
    }


@VERSIONS
async def test_a_device_offers_itself(gate: Gate, version: int) -> None:
    """And is claimed with its key; a second offer is acknowledged and changes nothing (18)."""
    async with device(gate, version) as session:
        await session.deliver("v1/devices/me/claim", b'{"secretKey":"a","durationMs":60000}')
        await session.deliver("v1/devices/me/claim", b'{"secretKey":"b"}')
        await session.deliver("v1/devices/me/claim", b"")
    known = await gate.registry.device("d")
    assert known is not None
    assert await gate.registry.claim(known, "Acme", Secret("a")) is ClaimResult.SUCCESS


async def test_a_call_waits_for_its_device(gate: Gate) -> None:
    """A persistent one is sent when the device subscribes, and its answer kept."""
    token = await gate.add("d")
    operator = Operator(gate)
    stored = await operator.store_call("reboot")
    async with mqtt(gate.ports.mqtt, 5) as session:
        assert await session.connect("c", token) == 0
        assert await session.subscribe("v1/devices/me/rpc/request/+") == [1]
        where, payload, _ = await session.published()
        assert json.loads(payload)["method"] == "reboot"
        number = where.rpartition("/")[2]
        await session.deliver(f"v1/devices/me/rpc/response/{number}", b'"done"')
    assert await operator.ended(stored) == ("SUCCESSFUL", '"done"')


# ── section 7.4: how sessions go wrong, and end ───────────────────────────────────────────────


@pytest.mark.parametrize("qos", [0, 1])
@VERSIONS
async def test_bad_payloads(gate: Gate, version: int, qos: int) -> None:
    """MQTT 5 hears 0x99, as PUBACK or DISCONNECT; an older connection is closed."""
    rows = [
        ("v1/devices/me/telemetry", b"{"),
        ("v2/t/j", b"[1]"),
        ("v2/a", b"[]"),
        ("v2/a/req/j/x", b"{}"),
        ("v1/devices/me/attributes/request/2147483648", b"{}"),
        ("v2/r/req/1", b'{"params":{}}'),
        ("v1/devices/me/rpc/response/x", b"{}"),
        ("v1/devices/me/rpc/response/1", b"\xff"),
        ("v1/devices/me/claim", b'{"durationMs":-1}'),
    ]
    token = await gate.add("d")
    for topic, body in rows:
        async with mqtt(gate.ports.mqtt, version) as session:
            assert await session.connect("c", token) == 0
            session.publish(topic, body, qos)
            if version != 5:
                expected = [CLOSED]
            else:
                expected = [(PUBACK, 0x99)] if qos else [(DISCONNECT, 0x99), CLOSED]
            assert await session.outcome() == expected, topic


@VERSIONS
async def test_a_device_that_is_no_gateway_gets_no_answer_there(gate: Gate, version: int) -> None:
    """No PUBACK and no end (section 9); its filters are refused."""
    async with device(gate, version) as session:
        for topic in ("v1/gateway/telemetry", "v1/gateway/connect", "v1/gateway/nothing"):
            session.publish(topic, b'{"device":"A"}', 1)
        assert await session.outcome() == []
        refused = 0x8F if version == 5 else 0x80
        assert await session.subscribe("v1/gateway/rpc", "v1/gateway/attributes") == [refused] * 2


@VERSIONS
@pytest.mark.parametrize("change", ["credentials", "removed"])
async def test_a_session_ends_with_its_login(gate: Gate, version: int, change: str) -> None:
    """0x98 to MQTT 5, the plain end to older ones, within moments."""
    async with device(gate, version) as session:
        assert await session.outcome() == []
        known = await gate.registry.device("d")
        assert known is not None
        if change == "credentials":
            await gate.registry.replace_credentials(known)
        else:
            await gate.registry.remove_device(known)
        packet = await session.next()
        if version == 5:
            assert packet is not None
            assert (packet.kind, packet.body[0]) == (DISCONNECT, 0x98)
            packet = await session.next()
        assert packet is None
