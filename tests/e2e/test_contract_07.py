"""Section 7 of the contract on sockets, where no other test has its row: logins and sessions."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from contract import CLOSED, PROTOBUF, gateway_of, save_profile, session_of, told
from inside import Gate
from operating import Operator
from wires import (
    DISCONNECT,
    GET,
    PUBACK,
    connect_packet,
    dotted,
    http,
    mqtt,
    observing,
    provisioned,
)

from gateway.core.model import ProfileTransport
from gateway.dialects.thingsboard import device_api_pb2 as wire

VERSIONS = pytest.mark.parametrize("version", [3, 4, 5])
TELEMETRY = "v1/devices/me/telemetry"


async def born(gate: Gate, name: str, **credentials: Any) -> dict[str, Any]:
    """A device with credentials of its own choice."""
    answer = await provisioned(gate.ports, "http", gate.request(name, **credentials))
    assert answer["status"] == "SUCCESS", answer
    return answer


# ── 7.1: who may connect ──────────────────────────────────────────────────────────────────────


@VERSIONS
async def test_password_modes(gate: Gate, version: int) -> None:
    """Each step of section 7.1, in its order; stored empty members are not checked."""
    basic = {"credentialsType": "MQTT_BASIC"}
    await born(gate, "id alone", **basic, clientId="C1")
    await born(gate, "name alone", **basic, username="U2")
    await born(gate, "name and password", **basic, username="U3", password="P3")
    await born(gate, "all", **basic, clientId="C4", username="U4", password="P4")
    await born(gate, "both", **basic, clientId="C", username="U1")
    await born(gate, "token", token="U1")
    rows: list[tuple[tuple[str, str | None, str | None], str | None]] = [
        (("C1", None, None), "id alone"),
        (("C2", None, None), None),
        (("anything", "U2", None), "name alone"),
        (("anything", "U2", "anything"), "name alone"),
        (("x", "U3", "P3"), "name and password"),
        (("x", "U3", "P"), None),
        (("x", "U3", None), None),
        (("C4", "U4", "P4"), "all"),
        (("C4", "U4", "wrong"), None),
        (("C", "U4", "P4"), None),
        (("C4", None, None), None),
        (("C", "U1", None), "both"),
        (("other", "U1", None), "token"),
    ]
    for number, (login, name) in enumerate(rows):
        async with mqtt(gate.ports.mqtt, version) as session:
            session.send(connect_packet(version, *login))
            connack = await session.next()
            assert connack is not None
            assert (connack.body[1] == 0) is (name is not None), login
            if name is not None:
                await session.deliver(TELEMETRY, b'{"row":%d}' % number)
                assert await gate.readings(name) == {"row": number}
            else:
                assert await session.next() is None


async def test_only_tokens_open_http_and_coap(gate: Gate) -> None:
    """The user name of a triple is its id, and yet no token."""
    await born(gate, "d", credentialsType="MQTT_BASIC", username="U")
    async with http(gate.ports.http) as web, observing(gate.ports.coap) as device:
        assert (await web.ask("POST", "/api/v1/U/telemetry", b'{"a":1}')).status == 401
        assert dotted(await device.ask(GET, "/api/v1/U/attributes")) == "4.01"


# ── 7.3: profiles for one transport ───────────────────────────────────────────────────────────


@pytest.mark.parametrize("transport", list(ProfileTransport))
async def test_profiles_are_for_transports(gate: Gate, transport: ProfileTransport) -> None:
    """DEFAULT is for all, MQTT and COAP for themselves and HTTP, which never checks."""
    await save_profile(gate, "p", transport)
    token = await gate.add("d", "p")
    async with http(gate.ports.http) as web, observing(gate.ports.coap) as device:
        assert (await web.ask("GET", f"/api/v1/{token}/attributes")).status == 200
        code = "5.00" if transport is ProfileTransport.MQTT else "4.04"
        assert dotted(await device.ask(GET, f"/api/v1/{token}/attributes")) == code
    for version in (4, 5):
        async with mqtt(gate.ports.mqtt, version) as session:
            session.send(connect_packet(version, "c", token))
            connack = await session.next()
            refused = (3 if version == 4 else 0x88) if transport is ProfileTransport.COAP else 0
            assert connack is not None
            assert connack.body[1] == refused


@VERSIONS
async def test_a_profile_made_one_for_coap_ends_mqtt_sessions(gate: Gate, version: int) -> None:
    """Of devices and gateways: an open session is no better than a new one."""
    await save_profile(gate, "p")
    token = await gate.add("d", "p")
    async with session_of(gate, token, version) as session:
        await session.deliver(TELEMETRY, b'{"a":1}')
        await save_profile(gate, "p", ProfileTransport.COAP)
        await gate.told()
        ended = [(DISCONNECT, 0x98), CLOSED] if version == 5 else [CLOSED]
        assert await session.outcome() == ended


@pytest.mark.parametrize("feature", ["attributes", "rpc"])
async def test_a_profile_made_one_for_mqtt_ends_observations(gate: Gate, feature: str) -> None:
    """With 2.02; further requests are 5.00."""
    await save_profile(gate, "p")
    token = await gate.add("d", "p")
    path = f"/api/v1/{token}/{feature}"
    async with observing(gate.ports.coap) as device:
        observation = device.observe(path)
        await device.next(observation)
        await save_profile(gate, "p", ProfileTransport.MQTT)
        assert dotted(await device.next(observation)) == "2.02"
        assert dotted(await device.ask(GET, path)) == "5.00"
        await save_profile(gate, "p")
        await gate.told()
        again = device.observe(path)
        assert (await device.next(again)).opt.observe == 0


# ── 7.4: what happens in a session ────────────────────────────────────────────────────────────


@pytest.mark.parametrize("qos", [0, 1])
@VERSIONS
async def test_lenient_profiles(gate: Gate, version: int, qos: int) -> None:
    """With `send_ack_on_validation_exception` a bad payload costs no older client its session."""
    await save_profile(
        gate,
        "p",
        ProfileTransport.MQTT,
        thingsboard={"send_ack_on_validation_exception": True},
    )
    token = await gate.add("d", "p")
    for topic, body in (
        (TELEMETRY, b"{"),
        (TELEMETRY, b'{"ts":"x","values":{}}'),
        ("v2/a", b"1"),
        ("v1/devices/me/rpc/request/1", b"{}"),
    ):
        async with session_of(gate, token, version) as session:
            session.publish(topic, body, qos)
            expected = [(PUBACK, 0x99 if version == 5 else 0)] * qos
            if version == 5 and not qos:
                expected = [(DISCONNECT, 0x99), CLOSED]
            assert await session.outcome() == expected, (topic, body)


@pytest.mark.parametrize("qos", [0, 1])
@VERSIONS
async def test_a_time_that_is_none_is_a_bad_payload(gate: Gate, version: int, qos: int) -> None:
    """Like any other; ThingsBoard breaks and says that it is shutting down."""
    token = await gate.add("d")
    for ts in (b'"x"', b"true", b"{}", b"null", b"1e300"):
        async with session_of(gate, token, version) as session:
            session.publish(TELEMETRY, b'{"ts":%b,"values":{"a":1}}' % ts, qos)
            if version != 5:
                expected = [CLOSED]
            else:
                expected = [(PUBACK, 0x99)] if qos else [(DISCONNECT, 0x99), CLOSED]
            assert await session.outcome() == expected, ts
    assert await gate.readings("d") == {}


@VERSIONS
async def test_unsubscribe(gate: Gate, version: int) -> None:
    """0 for what was subscribed to, 0x11 for what was not, to MQTT 5; no codes before."""
    async with session_of(gate, await gate.add("d"), version) as session:
        topic = "v1/devices/me/attributes"
        await session.subscribe(topic)
        for code in (b"\0", b"\x11"):
            assert await session.unsubscribe(topic) == (code if version == 5 else b"")
        assert await session.unsubscribe("any/thing") == (b"\x11" if version == 5 else b"")


@VERSIONS
async def test_replies_have_the_quality_of_their_subscription(gate: Gate, version: int) -> None:
    """1 without any; the one granted last with one, for every kind of downlink."""
    async with session_of(gate, await gate.add("d"), version) as session:
        asked = ("v1/devices/me/rpc/request/1", b'{"method":"x"}')
        filters = ("v1/devices/me/rpc/response/+", "v1/devices/me/attributes")
        session.publish(*asked)
        assert (await session.published()).qos == 1
        for qos in (0, 1, 0):
            await session.subscribe(*filters, qos=qos)
            session.publish(*asked)
            assert (await session.published()).qos == qos
            await Operator(gate).share(a=qos, b=str(qos))
            while True:
                got = await session.published()
                assert got.qos == qos
                if json.loads(got.payload).get("b") == str(qos):
                    break
        await session.unsubscribe(filters[0])
        session.publish(*asked)
        assert (await session.published()).qos == 1


@VERSIONS
async def test_qos_2_of_telemetry(gate: Gate, version: int) -> None:
    """An older client gets PUBREC; MQTT 5 was told that there is none."""
    async with session_of(gate, await gate.add("d"), version) as session:
        session.publish(TELEMETRY, b'{"a":1}', 2)
        got = await session.next()
        assert got is not None
        assert got.kind == (DISCONNECT if version == 5 else 0x50)


@VERSIONS
async def test_topics_that_are_nearly_ours(gate: Gate, version: int) -> None:
    """Unknown ones are acknowledged (0x90 to MQTT 5), the session stays and nothing is kept."""
    topics = [
        "/v1/devices/me/telemetry",
        "v1/devices/me/telemetry/",
        "V1/devices/me/telemetry",
        "v1/devices/me/attributes/request/",
        "v1/devices/me/rpc/request/1/2",
        "v1/devices/you/telemetry",
        "v2/t/x",
        "v2/a/req/x/1",
        "v2/fw/request/1/chunk",
        "$SYS/x",
        "a",
    ]
    async with session_of(gate, await gate.add("d"), version) as session:
        for topic in topics:
            session.publish(topic, b'{"a":1}', 1)
        code = 0x90 if version == 5 else 0
        assert await session.outcome() == [(PUBACK, code)] * len(topics)
    assert await gate.readings("d") == {}


@VERSIONS
async def test_one_session_for_a_device_and_its_place(gate: Gate, version: int) -> None:
    """A gateway that connects anew takes its own session over; its devices come with it."""
    async with gateway_of(gate, version) as older:
        await older.deliver("v1/gateway/connect", b'{"device":"A"}')
        known = await gate.registry.device("gw")
        assert known is not None
        async with session_of(gate, known.credentials.id.reveal(), version) as newer:
            ended = [(DISCONNECT, 0x8E), CLOSED] if version == 5 else [CLOSED]
            assert await older.outcome() == ended
            await newer.subscribe("v1/gateway/attributes")
            await newer.deliver("v1/gateway/connect", b'{"device":"A"}')
            await Operator(gate, "A").share(a=1)
            assert await told(newer) == (
                "v1/gateway/attributes",
                {"device": "A", "data": {"a": 1}},
            )


async def test_a_changed_profile_holds_at_once(gate: Gate) -> None:
    """Topics, filters and formats of open sessions, a gateway's format for its devices too."""
    await save_profile(gate, "create-mqtt", ProfileTransport.MQTT)
    token = await gate.add("d", "create-mqtt")
    async with session_of(gate, token) as session:
        await session.subscribe("v1/devices/me/attributes")
        await save_profile(gate, "create-mqtt", ProfileTransport.MQTT, thingsboard=PROTOBUF)
        await gate.told()
        async with asyncio.timeout(5):  # its schemas are compiled meanwhile
            while True:
                number = session.publish(TELEMETRY, b"\x09" + b"\0\0\0\0\0\x80\x35\x40", 1)
                got = await session.expect(PUBACK)
                assert got.body[:2] == number.to_bytes(2)
                if len(got.body) == 2:
                    break
                await asyncio.sleep(0.05)
        await Operator(gate).share(n=7)
        changed = wire.AttributeUpdateNotificationMsg.FromString(
            (await session.published()).payload
        )
        assert changed.sharedUpdated[0].kv.long_v == 7
    assert await gate.readings("d") == {"t": 21.5}


async def test_a_gateways_format_follows_its_profile(gate: Gate) -> None:
    """JSON for its devices until the profile says protobuf, in the session that is open."""
    async with gateway_of(gate) as session:
        await session.subscribe("v1/gateway/attributes")
        await session.deliver("v1/gateway/connect", b'{"device":"A"}')
        await save_profile(gate, "create", ProfileTransport.MQTT, thingsboard=PROTOBUF)
        body = wire.ConnectMsg(deviceName="B").SerializeToString()
        async with asyncio.timeout(5):
            while True:
                session.publish("v1/gateway/connect", body, 1)
                if len((await session.expect(PUBACK)).body) == 2:
                    break
                await asyncio.sleep(0.05)
        for name in ("A", "B"):
            await Operator(gate, name).share(n=7)
            change = wire.GatewayAttributeUpdateNotificationMsg.FromString(
                (await session.published()).payload
            )
            assert change.deviceName == name
            assert change.notificationMsg.sharedUpdated[0].kv.long_v == 7
