"""MQTT: who may connect, and the claim by `info/mcu` (contract, sections 7.1 and 7.2)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from blynk_ground import OTHER_TEMPLATE, SECTION, TEMPLATE, BlynkGate, blynk_on
from blynk_talk import connected, ended, info, is_online, noted, until
from inside import PROFILES, NewGate, serving
from lines import stream_context
from plant import Plant
from wires import (
    CONNACK,
    DISCONNECT,
    PUBACK,
    Published,
    connect_packet,
    mqtt,
    provisioned,
    publish_packet,
)

from gateway.core.model import (
    HARDWARE_INFO,
    AttributesSelection,
    Device,
    DeviceProfile,
    Order,
    ProfileTransport,
    Secret,
)
from gateway.core.registry import ProfileDraft

VERSIONS = pytest.mark.parametrize("version", [4, 5])
UNCLAIMED = b"The token is not claimed yet: publish info/mcu with tmpl first."
NO_TEMPLATE = b"Template is not found."
BAD_V4, BAD_V5 = 4, 0x86


async def hardware(blynk: BlynkGate, device: Device) -> dict[str, Any]:
    selection = AttributesSelection((HARDWARE_INFO,), ())
    found = await blynk.gateway.store.attributes(device, selection)
    decoded: dict[str, Any] = json.loads(found.client[HARDWARE_INFO].text)  # type: ignore[union-attr]
    return decoded


# ── 7.1 ───────────────────────────────────────────────────────────────────────────────────────


@VERSIONS
async def test_a_token_opens_a_session(blynk: BlynkGate, version: int) -> None:
    """The device is online then; the session is a new one."""
    token, record = await blynk.born()
    async with mqtt(blynk.ports.mqtt, version) as session:
        session.send(connect_packet(version, "", "device", token))
        assert (await session.expect(CONNACK)).body[:2] == b"\0\0"
        await until(lambda: is_online(blynk, record.device))
    await until(lambda: not is_online(blynk, record.device))


@pytest.mark.parametrize(("version", "code"), [(3, BAD_V4), (4, BAD_V4), (5, BAD_V5)])
async def test_wrong_tokens(blynk: BlynkGate, version: int, code: int) -> None:
    """Return code 4, reason code 0x86: firmware goes back to its set-up then."""
    for username in ("device", "mgmt_device", "oa2-client-id_" + "x" * 32):
        for password in ("x" * 32, "", b"\xff\xfe"):
            async with mqtt(blynk.ports.mqtt, version) as session:
                assert await session.connect("", username, password) == code


async def test_client_ids_have_at_most_64_characters(blynk: BlynkGate) -> None:
    token, _ = await blynk.born()
    for version, code in ((4, 2), (5, 0x85)):
        async with mqtt(blynk.ports.mqtt, version) as session:
            assert await session.connect("c" * 64, "device", token) == 0
        async with mqtt(blynk.ports.mqtt, version) as session:
            assert await session.connect("c" * 65, "device", token) == code


@VERSIONS
async def test_a_second_connection_displaces_the_first(blynk: BlynkGate, version: int) -> None:
    token, record = await blynk.born()
    async with connected(blynk, token, version) as older, connected(blynk, token, version) as newer:
        await ended(older, 0x8E)
        assert await newer.outcome() == []
        assert is_online(blynk, record.device)


async def test_sessions_are_not_kept(blynk: BlynkGate) -> None:
    """Whoever asks for the session of before gets a new one."""
    token, _ = await blynk.born()
    for _ in range(2):
        async with mqtt(blynk.ports.mqtt) as session:
            packet = bytearray(connect_packet(4, "c", "device", token))
            packet[9] &= ~0x02  # clean session
            session.send(bytes(packet))
            assert (await session.expect(CONNACK)).body == b"\0\0"
            session.publish("get/ds", b"Switch")
            assert await session.outcome() == []
            assert await session.subscribe("downlink/#") == [1]


@VERSIONS
async def test_what_may_be_subscribed_to(blynk: BlynkGate, version: int) -> None:
    """Under downlink/ alone, `#` at the end, no `+`; before the claim too."""
    token, _ = await blynk.born()
    no = 0x8F if version == 5 else 0x80
    for one in (token, await blynk.issue()):
        async with connected(blynk, one, version) as session:
            good = ["downlink/#", "downlink/ds/#", "downlink/ds/Switch", "downlink/meta/Any Name"]
            assert await session.subscribe(*good) == [1] * 4
            bad = ["#", "+/ds/#", "downlink/+", "downlink/+/Switch", "ds/Switch", "dev/T/#"]
            assert await session.subscribe(*bad) == [no] * 6
            many = [f"downlink/ds/{number}" for number in range(300)]
            for wanted in many[:100]:
                codes = await session.subscribe(wanted)
            assert codes == [no]


async def test_many_wrong_tokens_close_the_door(blynk: BlynkGate) -> None:
    """Whoever shows many tokens that are nobody's waits, with a good one too."""
    codes = []
    for _ in range(200):
        async with mqtt(blynk.ports.mqtt, 5) as session:
            codes.append(await session.connect("", "device", "x" * 32))
        if codes[-1] == 0x9F:
            break
    assert set(codes[:-1]) == {BAD_V5}
    assert codes[-1] == 0x9F
    async with mqtt(blynk.ports.mqtt) as session:
        assert await session.connect("", "device", await blynk.issue()) == 3


@VERSIONS
async def test_what_is_told_without_a_subscription(blynk: BlynkGate, version: int) -> None:
    """Redirect and diagnostics, at QoS 0; reconfigure and reboot need one, and have its QoS."""
    token, record = await blynk.born()
    async with connected(blynk, token, version) as session:
        for order in (Order.RECONFIGURE, Order.REBOOT):
            assert await blynk.tickets.order(blynk.admin, record, order)
        to = "mqtts://other.example:8883"
        assert await blynk.tickets.order(blynk.admin, record, Order.REDIRECT, to)
        assert await session.published() == Published("downlink/redirect", to.encode(), 0)
        session.publish("nowhere", b"")
        assert (await session.published()).topic == "downlink/diag"
        for qos in (0, 1):
            assert await session.subscribe("downlink/#", qos=qos) == [qos]
            for order in (Order.RECONFIGURE, Order.REBOOT):
                await blynk.tickets.order(blynk.admin, record, order)
                assert await session.published() == Published(f"downlink/{order.value}", b"", qos)


# ── 7.2 ───────────────────────────────────────────────────────────────────────────────────────


@VERSIONS
async def test_info_claims(blynk: BlynkGate, version: int) -> None:
    """The device is born and online with the acknowledgement, and the same connection is its."""
    issued = await blynk.tickets.issue(blynk.admin, blynk.admin.organisation, None)
    token, number = issued.token.reveal(), issued.ticket.device_id
    async with connected(blynk, token, version, "downlink/#") as session:
        assert await blynk.device(token) is None
        assert not blynk.gateway.sessions.of(number)
        await session.deliver("info/mcu", info())
        device = await blynk.device(token)
        assert device is not None
        assert (device.id, device.name) == (number, f"Meter {number}")
        assert is_online(blynk, device)
        assert await hardware(blynk, device) == {
            "version": "0.1.2",
            "build": "Jan 19 2024 12:25:30",
            "fwType": TEMPLATE,
            "templateId": TEMPLATE,
            "bufferSize": 1024,
        }
        await session.deliver("ds/Switch", b"1")
        session.publish("get/ds", b"Switch")
        assert await session.published() == Published("downlink/ds/Switch", b"1", 1)


@VERSIONS
async def test_a_wrong_template_uses_nothing_up(blynk: BlynkGate, version: int) -> None:
    """Told on downlink/diag; the connection stays, and a right one still claims."""
    token = await blynk.issue()
    async with connected(blynk, token, version) as session:
        bodies = (
            b"{}",
            b'{"tmpl":""}',
            b'{"tmpl":7}',
            info(tmpl="TMPLnobody000"),
        )
        for body in bodies:
            number = session.publish("info/mcu", body, 1)
            assert await noted(session, number, 0x99) == NO_TEMPLATE
        for body in (b"", b"[]", b"{", b"\xff", b"[" * 5000):
            number = session.publish("info/mcu", body, 1)
            assert await noted(session, number, 0x99) == b"info/mcu must be a JSON object."
        assert await blynk.device(token) is None
        await session.deliver("info/mcu", info())
        assert await blynk.device(token) is not None


@VERSIONS
async def test_other_publishes_before_the_claim_are_dropped(blynk: BlynkGate, version: int) -> None:
    """Acknowledged, and told of."""
    token = await blynk.issue()
    async with connected(blynk, token, version, "downlink/#") as session:
        for topic in ("ds/Switch", "batch_ds", "event/overheated", "get/ds/all", "nowhere"):
            number = session.publish(topic, b"1", 1)
            first = await session.published()
            assert (first.topic, first.payload) == ("downlink/diag", UNCLAIMED)
            got = await session.expect(PUBACK)
            assert got.body[:2] == number.to_bytes(2)
            assert got.body[2:3] == (b"\x87" if version == 5 else b"")
        await session.deliver("info/mcu", info())
        device = await blynk.device(token)
        assert device is not None
        assert not await blynk.gateway.store.latest(device)


@VERSIONS
async def test_a_device_need_not_wait(blynk: BlynkGate, version: int) -> None:
    """CONNECT, info/mcu and values in one piece: what follows the claim waits for it."""
    token = await blynk.issue()
    async with mqtt(blynk.ports.mqtt, version) as session:
        session.send(
            connect_packet(version, "", "device", token)
            + publish_packet(version, "info/mcu", info(), 1, 1)
            + publish_packet(version, "ds/Switch", b"1", 1, 2)
            + publish_packet(version, "ds/temperature", b"21.5", 1, 3)
        )
        await session.expect(CONNACK)
        acknowledged = {(await session.expect(PUBACK)).body for _ in range(3)}
        assert acknowledged == {b"\0\1", b"\0\2", b"\0\3"}
    device = await blynk.device(token)
    assert device is not None
    values = {one.key: one.value for one in await blynk.gateway.store.latest(device)}
    assert values == {"Switch": 1, "temperature": 21.5}


@pytest.fixture
async def impatient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[BlynkGate]:
    """A gateway that waits for claims for half a second."""
    async with AsyncExitStack() as stack:
        gate = await stack.enter_async_context(serving(tmp_path))
        gate.gateway.speakers.blynk._mqtt._claim_s = 0.5
        yield await stack.enter_async_context(blynk_on(gate))


@VERSIONS
async def test_without_a_claim_the_connection_ends(impatient: BlynkGate, version: int) -> None:
    """The token stays pending; a claim in time lifts the limit."""
    token = await impatient.issue()
    async with connected(impatient, token, version) as session:
        await ended(session, 0x87)
    assert await impatient.device(token) is None
    async with connected(impatient, token, version) as session:
        await session.deliver("info/mcu", info())
        await asyncio.sleep(2.0)
        assert await session.outcome() == []


@VERSIONS
async def test_two_pending_connections(blynk: BlynkGate, version: int) -> None:
    """The newer of one token stands, and claims."""
    token = await blynk.issue()
    async with connected(blynk, token, version) as older, connected(blynk, token, version) as newer:
        await ended(older, 0x8E)
        await newer.deliver("info/mcu", info())
    assert await blynk.device(token) is not None


@VERSIONS
async def test_a_device_displaces_its_pending_connection(blynk: BlynkGate, version: int) -> None:
    """The claim came by HTTP; the next connection is the device's, the one that waited ends."""
    token = await blynk.issue()
    async with connected(blynk, token, version) as older:
        assert (await blynk.claim(token)).status == 200
        async with connected(blynk, token, version) as newer:
            await ended(older, 0x8E)
            assert await newer.outcome() == []


async def test_a_claim_by_another_wire(blynk: BlynkGate) -> None:
    """A connection that was pending meanwhile becomes the device's by its own info/mcu."""
    token = await blynk.issue()
    async with connected(blynk, token, 4, "downlink/#") as session:
        assert (await blynk.claim(token)).status == 200
        device = await blynk.device(token)
        assert device is not None
        assert not is_online(blynk, device)
        await session.deliver("info/mcu", info(ver="7"))
        assert is_online(blynk, device)
        assert (await hardware(blynk, device))["version"] == "7"


@VERSIONS
async def test_a_ticket_that_is_revoked_meanwhile(blynk: BlynkGate, version: int) -> None:
    """Its connection is told, and ends."""
    issued = await blynk.tickets.issue(blynk.admin, blynk.admin.organisation, None)
    async with connected(blynk, issued.token.reveal(), version) as session:
        record = await blynk.tickets.find(blynk.admin, issued.ticket.id)
        assert record is not None
        await blynk.tickets.revoke(blynk.admin, record)
        session.publish("info/mcu", info(), 0)
        assert await session.published() == Published("downlink/diag", b"Invalid token.", 0)
        await ended(session, 0x87)
    async with mqtt(blynk.ports.mqtt, version) as session:
        code = BAD_V5 if version == 5 else BAD_V4
        assert await session.connect("", "device", issued.token.reveal()) == code


async def test_info_of_a_device_that_is_there(blynk: BlynkGate) -> None:
    """Its hardware is noted; with another template, or none, nothing changes."""
    token, record = await blynk.born()
    async with connected(blynk, token, 5) as session:
        await session.deliver("info/mcu", info(ver="2.0"))
        assert (await hardware(blynk, record.device))["version"] == "2.0"
        for body in (info(tmpl=OTHER_TEMPLATE, ver="3.0"), b'{"ver":"3.0"}'):
            number = session.publish("info/mcu", body, 1)
            assert await noted(session, number, 0x99) == NO_TEMPLATE
        assert (await hardware(blynk, record.device))["version"] == "2.0"
        assert await session.outcome() == []
    again = await blynk.device(token)
    assert again is not None
    assert again.profile_id == record.device.profile_id


async def test_a_template_for_another_transport(blynk: BlynkGate) -> None:
    """Its tokens may be claimed here, and no more: nor does a connection outlast the change."""

    async def save(transport: ProfileTransport) -> None:
        profile = DeviceProfile(
            id=0, name="Water Meter", transport=transport, sections={"blynk": SECTION}
        )
        await blynk.gate.registry.save_profile(ProfileDraft(profile=profile))

    old, _ = await blynk.born()
    async with connected(blynk, old, 5) as session:
        await session.deliver("ds/Switch", b"1")
        await save(ProfileTransport.COAP)
        await ended(session, 0x98)
    token = await blynk.issue()
    async with connected(blynk, token, 5) as session:
        session.publish("info/mcu", info(), 1)
        assert (await session.expect(PUBACK)).body[:2] == b"\0\1"
        await ended(session, 0x98)
    assert await blynk.device(token) is not None
    for one in (token, old):
        async with mqtt(blynk.ports.mqtt, 5) as session:
            assert await session.connect("", "device", one) == 0x88
    await save(ProfileTransport.DEFAULT)
    async with connected(blynk, token, 5) as session:
        await session.deliver("ds/Switch", b"1")


# ── provisioned anew ──────────────────────────────────────────────────────────────────────────


@VERSIONS
async def test_the_old_token_works_until_the_new_one_is_claimed(
    blynk: BlynkGate, version: int
) -> None:
    """Both are connected until then; the claim ends the older session."""
    token, record = await blynk.born()
    async with connected(blynk, token, version) as older:
        issued = await blynk.tickets.reprovision(blynk.admin, record)
        fresh = issued.token.reveal()
        async with connected(blynk, fresh, version) as newer:
            await older.deliver("ds/Switch", b"1")
            number = newer.publish("info/mcu", info(tmpl=OTHER_TEMPLATE), 1)
            assert await noted(newer, number, 0x99) == NO_TEMPLATE
            assert await older.outcome() == []
            await newer.deliver("info/mcu", info())
            got = await older.next()
            assert got is None or got.kind == DISCONNECT
            assert await newer.outcome() == []
            assert is_online(blynk, record.device)
    assert (await blynk.device(fresh)) is not None
    async with mqtt(blynk.ports.mqtt, version) as session:
        code = BAD_V5 if version == 5 else BAD_V4
        assert await session.connect("", "device", token) == code


async def test_a_device_that_is_removed(blynk: BlynkGate) -> None:
    token, record = await blynk.born()
    async with connected(blynk, token, 5) as session:
        await blynk.services.inventory.remove(blynk.admin, record)
        await ended(session, 0x98)
    async with mqtt(blynk.ports.mqtt, 4) as session:
        assert await session.connect("", "device", token) == BAD_V4


# ── many at once, restarts, TLS ───────────────────────────────────────────────────────────────


@VERSIONS
async def test_a_hundred_claims_of_one_ticket(blynk: BlynkGate, version: int) -> None:
    """All who send CONNECT and info/mcu in one piece are let in and acknowledged; there is one
    device, and the newest connection stands."""
    token = await blynk.issue()

    async def claim() -> tuple[int, bytes, bool]:
        async with mqtt(blynk.ports.mqtt, version) as session:
            session.send(
                connect_packet(version, "", "device", token)
                + publish_packet(version, "info/mcu", info(), 1, 1)
            )
            code = (await session.expect(CONNACK)).body[1]
            acknowledged = (await session.expect(PUBACK)).body
            await asyncio.sleep(0.3)
            session.send(b"\xc0\x00")
            got = await session.next()
            return code, acknowledged, got is not None and got.kind != DISCONNECT

    outcomes = await asyncio.gather(*(claim() for _ in range(100)))
    assert {(code, body) for code, body, _ in outcomes} == {(0, b"\0\1")}
    assert sum(stays for *_, stays in outcomes) == 1
    assert await blynk.gateway.store.driver.rows("count_devices") == [(1,)]


async def test_a_hundred_that_wait_for_their_connack(blynk: BlynkGate) -> None:
    """Of these the older are displaced before they claim; one claims, and there is one device."""
    token = await blynk.issue()

    async def claim() -> bool:
        async with mqtt(blynk.ports.mqtt, 5) as session:
            assert await session.connect("", "device", token) == 0
            session.publish("info/mcu", info(), 1)
            got = await session.next()
            if got is None or got.kind == DISCONNECT:
                return False
            assert got.kind == PUBACK
            return True

    assert any(await asyncio.gather(*(claim() for _ in range(100))))
    assert await blynk.gateway.store.driver.rows("count_devices") == [(1,)]


async def test_a_restart_between_connect_and_claim(tmp_path: Path) -> None:
    """The token is pending still, and claims after it."""
    async with serving(tmp_path) as gate, blynk_on(gate) as blynk:
        token = await blynk.issue()
        async with connected(blynk, token) as session:
            await gate.gateway.mqtt.stop(1.0)  # type: ignore[union-attr]
            assert await session.next() is None
    async with serving(tmp_path) as gate, blynk_on(gate) as blynk:
        assert await blynk.device(token) is None
        async with connected(blynk, token) as session:
            await session.deliver("info/mcu", info())
        assert await blynk.device(token) is not None


@VERSIONS
async def test_the_same_over_tls(plant: Plant, version: int) -> None:
    async with blynk_on(plant.gate) as blynk:
        token = await blynk.issue()
        async with mqtt(plant.ports.mqtts, version, stream_context(plant.trusted)) as session:
            assert await session.connect("", "device", token) == 0
            assert await session.subscribe("downlink/#") == [1]
            await session.deliver("info/mcu", info())
            await session.deliver("ds/Switch", b"1")
            session.publish("get/ds", b"Switch")
            assert await session.published() == Published("downlink/ds/Switch", b"1", 1)
        device = await blynk.device(token)
        assert device is not None


async def test_names_of_others_stay_theirs(new_gate: NewGate) -> None:
    """A device of ThingsBoard's with the user name `device` logs in as before."""
    gate = await new_gate()
    request = gate.request(
        "basic", credentialsType="MQTT_BASIC", username="device", password="secret-1"
    )
    assert (await provisioned(gate.ports, "http", request))["status"] == "SUCCESS"
    async with mqtt(gate.ports.mqtt) as session:
        assert await session.connect("", "device", "secret-1") == 0
        assert await session.subscribe("v1/devices/me/attributes") == [1]


async def test_names_of_others_are_no_wrong_tokens(blynk: BlynkGate) -> None:
    """However many of them log in, devices of ours may from the same address; and one that sends
    too much hears that, not that it is unknown."""
    await blynk.gate.registry.save_profile(
        ProfileDraft(
            profile=DeviceProfile(
                id=0, name="slow", limits={"messages": "1:3600"}, **PROFILES["create"]
            ),
            key=Secret("slow-key-0001"),
            secret=Secret("slow-secret-0001"),
        )
    )
    for name, secret in (("basic", "create"), ("slow", "slow")):
        request = {
            "deviceName": name,
            "provisionDeviceKey": f"{secret}-key-0001",
            "provisionDeviceSecret": f"{secret}-secret-0001",
            "credentialsType": "MQTT_BASIC",
            "clientId": name,
            "username": "device",
            "password": f"{name}-1",
        }
        assert (await provisioned(blynk.ports, "http", request))["status"] == "SUCCESS"
    for _ in range(150):
        async with mqtt(blynk.ports.mqtt) as session:
            assert await session.connect("basic", "device", "basic-1") == 0
    async with connected(blynk, await blynk.issue()):
        pass
    codes = []
    for _ in range(3):
        async with mqtt(blynk.ports.mqtt) as session:
            codes.append(await session.connect("slow", "device", "slow-1"))
    assert codes == [0, 3, 3]


@VERSIONS
async def test_a_device_of_thingsboard_as_one_of_ours(blynk: BlynkGate, version: int) -> None:
    """Its access token opens a session; without a template it has no datastreams."""
    answer = await provisioned(blynk.ports, "http", blynk.gate.request("meter"))
    token = answer["credentialsValue"]
    async with connected(blynk, token, version, "downlink/#") as session:
        device = await blynk.device(token)
        assert device is not None
        assert is_online(blynk, device)
        number = session.publish("ds/Switch", b"1", 1)
        told = await session.published()
        assert told.payload == b"Requested dataStream doesn't exist in the product create"
        assert (await session.expect(PUBACK)).body[:2] == number.to_bytes(2)
        session.publish("get/meta", b"Device Name")
        assert (await session.published())[:2] == ("downlink/meta/Device Name", b"meter")
        number = session.publish("info/mcu", info(), 1)
        assert (await session.published()).payload == NO_TEMPLATE
        await session.expect(PUBACK)
    async with mqtt(blynk.ports.mqtt, version) as session:
        code = await session.connect("", "mgmt_device", token)
        assert code == (0x87 if version == 5 else 5)


async def test_tokens_are_not_logged(blynk: BlynkGate, capsys: pytest.CaptureFixture[str]) -> None:
    """Not by a claim, a mistake, or an end."""
    token = await blynk.issue()
    async with connected(blynk, token) as session:
        session.publish("info/mcu", b"{}", 0)
        await session.published()
        await session.deliver("info/mcu", info())
        await session.deliver("ds/Switch", b"1")
    events = await blynk.gateway.registry.events(limit=1000)
    assert token not in repr(events)
    said = capsys.readouterr()
    assert token not in said.out + said.err
