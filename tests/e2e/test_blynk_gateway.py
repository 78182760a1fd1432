"""MQTT: gateways that speak for other devices (contract, section 7.4)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from blynk_ground import OTHER_TEMPLATE, TEMPLATE, BlynkGate, blynk_on
from blynk_talk import connected, ended, info, is_online, until
from inside import Gate, NewGate, serving
from operating import Operator
from wires import PUBACK, Mqtt, Published, mqtt

from gateway.clock import now_ms
from gateway.core.model import DeviceProfile, DeviceRecord, Order, Organisation, Secret
from gateway.core.oauth import OAuthClients
from gateway.core.oauth_store import OAuthClient, OAuthScope
from gateway.core.registry import ProfileDraft
from gateway.store.sql_oauth import SqlOAuth

VERSIONS = pytest.mark.parametrize("version", [4, 5])
INVALID = b"Invalid token."


async def born(
    blynk: BlynkGate, template: str = TEMPLATE, where: Organisation | None = None
) -> tuple[str, DeviceRecord]:
    """A device that claimed a token of that organisation."""
    token = await blynk.issue(where)
    assert (await blynk.claim(token, template)).status == 200
    device = await blynk.device(token)
    assert device is not None
    record = await blynk.services.inventory.find(blynk.admin, device.uuid)
    assert record is not None
    return token, record


@asynccontextmanager
async def gateway(
    blynk: BlynkGate, version: int = 4, where: Organisation | None = None
) -> AsyncIterator[tuple[Mqtt, DeviceRecord]]:
    """A gateway of that organisation, logged in as `mgmt_device`."""
    token, record = await born(blynk, OTHER_TEMPLATE, where)
    async with connected(blynk, token, version, username="mgmt_device") as session:
        yield session, record


async def refused(session: Mqtt, topic: str, payload: bytes, code: int = 0x99) -> Published:
    """The note of a publish at QoS 1 that is acknowledged and told of."""
    number = session.publish(topic, payload, 1)
    note = await session.published()
    got = await session.expect(PUBACK)
    assert got.body[:2] == number.to_bytes(2)
    assert got.body[2:3] == (bytes((code,)) if session.version == 5 else b"")
    return note


# ── who may ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("version", "codes"), [(4, (5, 4)), (5, (0x87, 0x86))])
async def test_who_may_be_a_gateway(blynk: BlynkGate, version: int, codes: tuple[int, int]) -> None:
    """A device whose template is enabled for it, once it is claimed."""
    plain, _ = await born(blynk)
    pending = await blynk.issue()
    for token, code in ((plain, codes[0]), (pending, codes[1]), ("x" * 32, codes[1])):
        async with mqtt(blynk.ports.mqtt, version) as session:
            assert await session.connect("", "mgmt_device", token) == code


@VERSIONS
async def test_what_a_gateway_may_subscribe_to(blynk: BlynkGate, version: int) -> None:
    """No wildcard where the token belongs; `#` at the end."""
    token, _ = await born(blynk)
    no = 0x8F if version == 5 else 0x80
    async with gateway(blynk, version) as (session, _):
        good = [f"dev/{token}/#", f"dev/{token}/downlink/#", f"dev/{token}/downlink/ds/Switch"]
        assert await session.subscribe(*good, "downlink/#") == [1] * 4
        bad = ["#", "dev/#", "dev/+/#", "dev/+/downlink/ds/Switch", f"dev/{token}/+", "+/+/#"]
        assert await session.subscribe(*bad) == [no] * 6


# ── devices ───────────────────────────────────────────────────────────────────────────────────


@VERSIONS
async def test_speaking_for_a_device(blynk: BlynkGate, version: int) -> None:
    """Its topics up and down, each after dev/ and its token; it is online through the gateway."""
    token, record = await born(blynk)
    async with gateway(blynk, version) as (session, holder):
        await session.deliver(f"dev/{token}/ds/temperature", b"21.5")
        assert await blynk.gate.readings(record.device.name) == {"temperature": 21.5}
        (place,) = blynk.gateway.sessions.of(record.device.id)
        assert place.gateway_id == holder.device.id
        assert await session.subscribe(f"dev/{token}/downlink/#") == [1]
        session.publish(f"dev/{token}/get/ds", b"temperature")
        want = Published(f"dev/{token}/downlink/ds/temperature", b"21.5", 1)
        assert await session.published() == want
        await blynk.ask("GET", "/external/api/update", token=token, v0="1")
        assert await session.published() == Published(f"dev/{token}/downlink/ds/Switch", b"1", 1)
        operator = Operator(blynk.gate, record.device.name)
        await operator.share(Serial="S")
        assert await session.published() == Published(f"dev/{token}/downlink/meta/Serial", b"S", 1)
        assert await blynk.tickets.order(blynk.admin, record, Order.RECONFIGURE)
        assert await session.published() == Published(f"dev/{token}/downlink/reconfigure", b"", 1)
        await session.deliver(f"dev/{token}/info/mcu", info(ver="3.1"))
        note = await refused(session, f"dev/{token}/ds/nothing", b"1")
        assert note.topic == f"dev/{token}/downlink/diag"
    await until(lambda: not is_online(blynk, record.device))


@VERSIONS
async def test_a_subscription_opens_a_place(blynk: BlynkGate, version: int) -> None:
    """The device is online from then on, and what waited for it is told."""
    token, record = await born(blynk)
    async with gateway(blynk, version) as (session, _):
        assert await session.subscribe(f"dev/{token}/#") == [1]
        await until(lambda: is_online(blynk, record.device))
        await blynk.ask("GET", "/external/api/update", token=token, v0="1")
        assert await session.published() == Published(f"dev/{token}/downlink/ds/Switch", b"1", 1)
        assert await session.unsubscribe(f"dev/{token}/#") in (b"", b"\0")
        await blynk.ask("GET", "/external/api/update", token=token, v0="0")
        assert await session.outcome() == []


async def test_subscriptions_of_one_device_stand_for_themselves(blynk: BlynkGate) -> None:
    """One that is taken back leaves the others, and what was subscribed to again counts also when
    the device was away in between."""
    token, _ = await born(blynk)
    switch = Published(f"dev/{token}/downlink/ds/Switch", b"1", 1)
    async with gateway(blynk, 5) as (session, _):
        assert await session.subscribe(f"dev/{token}/#", f"dev/{token}/downlink/#") == [1, 1]
        assert await session.unsubscribe(f"dev/{token}/#") == b"\0"
        await session.deliver(f"dev/{token}/ds/temperature", b"20")
        await blynk.ask("GET", "/external/api/update", token=token, v0="1")
        assert await session.published() == switch
        assert await session.unsubscribe(f"dev/{token}/downlink/#") == b"\0"
        assert await session.subscribe(f"dev/{token}/downlink/ds/#") == [1]
        async with connected(blynk, token):
            assert (await session.published()).topic == f"dev/{token}/downlink/diag"
        await session.deliver(f"dev/{token}/ds/temperature", b"21")
        await blynk.ask("GET", "/external/api/update", token=token, v0="1")
        assert await session.published() == switch


async def test_good_tokens_behind_many_wrong_ones(blynk: BlynkGate) -> None:
    """They have their turn, somewhat later, and nobody else waits for it."""
    token, record = await born(blynk)
    async with gateway(blynk, 5) as (session, _):
        wrong = [f"dev/{number:032}/#" for number in range(102)]
        assert set(await session.subscribe(*wrong, f"dev/{token}/#")) == {1}
        await until(lambda: is_online(blynk, record.device), 10)
    async with gateway(blynk, 5) as (session, _):
        assert set(await session.subscribe(*wrong, f"dev/{token}/#")) == {1}
        with suppress(AssertionError):  # there are notes before its answer
            await session.unsubscribe(f"dev/{token}/#")
        await asyncio.sleep(2)
        assert not is_online(blynk, record.device)


async def test_a_template_that_is_for_gateways_no_more(blynk: BlynkGate) -> None:
    """Connections of its devices as gateways end; as devices they come back."""
    token, _ = await born(blynk, OTHER_TEMPLATE)
    async with connected(blynk, token, 5, username="mgmt_device") as session:
        profile = DeviceProfile(
            id=0, name="Other", sections={"blynk": {"template_id": OTHER_TEMPLATE}}
        )
        await blynk.gate.registry.save_profile(ProfileDraft(profile=profile))
        await ended(session, 0x98)
    async with mqtt(blynk.ports.mqtt, 5) as session:
        assert await session.connect("", "mgmt_device", token) == 0x87
    async with connected(blynk, token, 5):
        pass


async def test_what_a_gateway_says_of_itself(blynk: BlynkGate) -> None:
    """It is a device too, by the plain topics; and by its own token."""
    token, record = await born(blynk, OTHER_TEMPLATE)
    async with connected(
        blynk, token, 5, "downlink/#", f"dev/{token}/downlink/#", username="mgmt_device"
    ) as session:
        assert is_online(blynk, record.device)
        for prefix in ("", f"dev/{token}/"):
            session.publish(f"{prefix}get/meta", b"Device Name")
            got = await session.published()
            name = record.device.name.encode()
            assert got == Published(f"{prefix}downlink/meta/Device Name", name, 1)
        assert await session.outcome() == []


@VERSIONS
async def test_unknown_tokens(blynk: BlynkGate, version: int) -> None:
    """Nobody's, and one that is not claimed: told, acknowledged, and the connection stays."""
    pending = await blynk.issue()
    async with gateway(blynk, version) as (session, _):
        for token in ("x" * 32, pending):
            note = await refused(session, f"dev/{token}/ds/Switch", b"1")
            assert note == Published(f"dev/{token}/downlink/diag", INVALID, 0)
            assert await session.subscribe(f"dev/{token}/downlink/#") == [1]
            note = await session.published()
            assert note[:2] == (f"dev/{token}/downlink/diag", INVALID)
        note = await refused(session, f"dev/{pending}/info/mcu", info())
        assert note.payload == INVALID
    assert await blynk.device(pending) is None


async def test_guessing_tokens_is_slowed(blynk: BlynkGate) -> None:
    """After a hundred wrong ones none is looked at for a while; devices that are in go on."""
    good, _ = await born(blynk)
    late, _ = await born(blynk)
    async with gateway(blynk, 5) as (session, _):
        await session.deliver(f"dev/{good}/ds/Switch", b"1")
        codes = set()
        for number in range(200):
            session.publish(f"dev/{number:032}/ds/Switch", b"1", 1)
        while len(codes) < 2:
            got = await session.next()
            assert got is not None
            if got.kind == PUBACK:
                codes.add(got.body[2])
        assert codes == {0x99, 0x97}
    async with gateway(blynk, 5) as (session, _):
        await session.deliver(f"dev/{late}/ds/Switch", b"1")


@VERSIONS
async def test_devices_out_of_reach(blynk: BlynkGate, version: int) -> None:
    """At or below the gateway's organisation they are in reach; others are as if unknown."""
    north, south = await blynk.organisation("North"), await blynk.organisation("South")
    below = await blynk.organisation("Below", north)
    async with gateway(blynk, version, north) as (session, _):
        for where in (north, below):
            token, _ = await born(blynk, where=where)
            await session.deliver(f"dev/{token}/ds/Switch", b"1")
        for other in (south, None):
            token, record = await born(blynk, where=other)
            note = await refused(session, f"dev/{token}/ds/Switch", b"1")
            assert note.payload == INVALID
            assert not await blynk.gate.readings(record.device.name)
            assert not is_online(blynk, record.device)


@VERSIONS
async def test_a_device_that_comes_itself(blynk: BlynkGate, version: int) -> None:
    """The newer stands: the gateway is told, and may name the device again."""
    token, record = await born(blynk)
    async with gateway(blynk, version) as (session, _):
        await session.deliver(f"dev/{token}/ds/Switch", b"1")
        async with connected(blynk, token, version) as own:
            note = await session.published()
            assert note.topic == f"dev/{token}/downlink/diag"
            assert note.payload == b"The device is connected elsewhere."
            await session.deliver(f"dev/{token}/ds/Switch", b"0")
            await ended(own, 0x8E)
        assert is_online(blynk, record.device)


@VERSIONS
async def test_a_device_that_is_removed(blynk: BlynkGate, version: int) -> None:
    """Its token is nobody's then; the gateway goes on."""
    token, record = await born(blynk)
    other, _ = await born(blynk)
    async with gateway(blynk, version) as (session, _):
        await session.deliver(f"dev/{token}/ds/Switch", b"1")
        await blynk.services.inventory.remove(blynk.admin, record)
        note = await session.published()
        assert (note.topic, note.payload) == (f"dev/{token}/downlink/diag", INVALID)
        note = await refused(session, f"dev/{token}/ds/Switch", b"1")
        assert note.payload == INVALID
        await session.deliver(f"dev/{other}/ds/Switch", b"1")


async def test_a_gateway_that_is_removed(blynk: BlynkGate) -> None:
    """Its connection ends, and its devices are reached by it no more."""
    token, record = await born(blynk)
    async with gateway(blynk, 5) as (session, holder):
        await session.deliver(f"dev/{token}/ds/Switch", b"1")
        await blynk.services.inventory.remove(blynk.admin, holder)
        await ended(session, 0x98)
        assert not is_online(blynk, record.device)


async def test_devices_are_bounded(new_gate: NewGate) -> None:
    """Beyond the bound a gateway is told; those that are in go on."""
    gate = await new_gate(limits={"max_children": 2})
    async with blynk_on(gate) as blynk:
        tokens = [(await born(blynk))[0] for _ in range(3)]
        async with gateway(blynk, 5) as (session, _):
            for token in tokens[:2]:
                await session.deliver(f"dev/{token}/ds/Switch", b"1")
            note = await refused(session, f"dev/{tokens[2]}/ds/Switch", b"1", 0x97)
            assert note.payload == b"This gateway speaks for as many devices as it may."
            await session.deliver(f"dev/{tokens[0]}/ds/Switch", b"0")


async def test_tokens_are_not_logged(blynk: BlynkGate, capsys: pytest.CaptureFixture[str]) -> None:
    """Though they are in topics: not when all goes well, and not when it does not."""
    token, _ = await born(blynk)
    async with gateway(blynk) as (session, _):
        assert await session.subscribe(f"dev/{token}/#", "dev/wrong-token/#") == [1, 1]
        session.publish(f"dev/{token}/info/mcu", info())
        session.publish(f"dev/{token}/ds/nothing", b"1")
        session.publish(f"dev/{token}/nowhere", b"1")
        session.publish("dev/wrong-token/ds/Switch", b"1")
        await asyncio.sleep(0.3)
    said = capsys.readouterr()
    events = repr(await blynk.gateway.registry.events(limit=1000))
    for secret in (token, "wrong-token"):
        assert secret not in said.out + said.err + events


# ── OAuth clients ─────────────────────────────────────────────────────────────────────────────


def clients_of(gate: Gate) -> OAuthClients:
    return OAuthClients(SqlOAuth(gate.gateway.store), clock=now_ms)


@VERSIONS
async def test_an_oauth_client(blynk: BlynkGate, version: int) -> None:
    """Client id and secret; it reaches the devices of its organisation and below."""
    north = await blynk.organisation("North")
    clients = clients_of(blynk.gate)
    client, secret = await clients.add(blynk.admin, north, "north", (OAuthScope.GATEWAY_API,))
    other, other_secret = await clients.add(blynk.admin, north, "other")
    wrong = 0x86 if version == 5 else 4
    for name, shown in (
        (client.name, other_secret),
        (client.name, Secret("")),
        (other.name, other_secret),  # without the scope
        ("oa2-client-id_" + "x" * 32, secret),
    ):
        async with mqtt(blynk.ports.mqtt, version) as session:
            assert await session.connect("", name, shown.reveal()) == wrong
    token, record = await born(blynk, where=north)
    outside, _ = await born(blynk)
    async with connected(
        blynk, secret.reveal(), version, f"dev/{token}/#", username=client.name
    ) as session:
        await session.deliver(f"dev/{token}/ds/Switch", b"1")
        assert is_online(blynk, record.device)
        session.publish(f"dev/{token}/get/ds", b"Switch")
        assert await session.published() == Published(f"dev/{token}/downlink/ds/Switch", b"1", 1)
        note = await refused(session, f"dev/{outside}/ds/Switch", b"1")
        assert note.payload == INVALID
        note = await refused(session, "ds/Switch", b"1", 0x90)
        assert note.topic == "downlink/diag"
        no = 0x8F if version == 5 else 0x80
        assert await session.subscribe("downlink/#") == [no]


@VERSIONS
async def test_a_client_that_is_revoked(tmp_path: Path, version: int) -> None:
    """All its connections end at once, in every process; those of another client go on."""
    async with (
        serving(tmp_path) as here,
        serving(tmp_path) as there,
        blynk_on(here) as blynk,
    ):
        token, record = await born(blynk)
        root, clients = blynk.admin.organisation, clients_of(here)
        one, one_secret = await clients.add(blynk.admin, root, "one", (OAuthScope.GATEWAY_API,))
        two, two_secret = await clients.add(blynk.admin, root, "two", (OAuthScope.GATEWAY_API,))
        async with AsyncExitStack() as stack:
            ends, stays = [], []
            for gate in (here, there, there):
                for name, secret, kept in (
                    (one.name, one_secret, ends),
                    (two.name, two_secret, stays),
                ):
                    session = await stack.enter_async_context(mqtt(gate.ports.mqtt, version))
                    assert await session.connect("", name, secret.reveal()) == 0
                    kept.append(session)
            await ends[-1].deliver(f"dev/{token}/ds/Switch", b"1")
            assert there.gateway.sessions.of(record.device.id)
            await clients_of(there).revoke(blynk.admin, one)
            for session in ends:
                await ended(session, 0x98)
            await until(lambda: not there.gateway.sessions.of(record.device.id))
            for session in stays:
                await session.deliver(f"dev/{token}/ds/Switch", b"0")
        async with mqtt(there.ports.mqtt, version) as session:
            code = await session.connect("", one.name, one_secret.reveal())
            assert code == (0x86 if version == 5 else 4)


async def test_a_client_whose_organisation_is_removed(blynk: BlynkGate) -> None:
    """Its connection ends with it."""
    north = await blynk.organisation("North")
    client, secret = await clients_of(blynk.gate).add(
        blynk.admin, north, "north", (OAuthScope.GATEWAY_API,)
    )
    async with connected(blynk, secret.reveal(), 5, username=client.name) as session:
        await blynk.services.people.remove_organisation(blynk.admin, north)
        await ended(session, 0x98)


async def test_a_client_that_is_revoked_while_it_connects(blynk: BlynkGate) -> None:
    """Between the look at its secret and the CONNACK: the connection ends all the same."""
    root, clients = blynk.admin.organisation, clients_of(blynk.gate)
    client, secret = await clients.add(blynk.admin, root, "one", (OAuthScope.GATEWAY_API,))
    found = blynk.gateway.speakers.blynk._mqtt._clients
    assert found is not None

    class Slow:
        """Whoever was found is told of a while later."""

        async def authenticate(self, *shown: Any) -> OAuthClient | None:
            one = await found.authenticate(*shown)
            await clients.revoke(blynk.admin, client)
            await blynk.gateway.feed.look()
            return one

    blynk.gateway.speakers.blynk._mqtt._clients = Slow()
    async with connected(blynk, secret.reveal(), 5, username=client.name) as session:
        await ended(session, 0x98)
