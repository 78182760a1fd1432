"""Devices with certificates on HTTPS, MQTTS and CoAPS: births from a factory, and logins."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta

import certs
import pytest
from lines import GRANTED, SECURE, Https
from plant import Plant

from gateway.clock import now_ms
from gateway.core.approvals import ApprovalQuery, Approvals
from gateway.core.model import (
    Actor,
    Admission,
    Certificate,
    EventKind,
    Organisation,
    Peer,
    Permission,
    Policy,
    Wire,
)
from gateway.store.sql_approvals import SqlApprovals

secure_wires = pytest.mark.parametrize("wire", SECURE)

OPERATOR = Actor(
    peer=Peer(Wire.SHELL, "ann", actor="ann"),
    organisation=Organisation(id=1, uuid="root", name="root", path="/1/"),
    permissions=frozenset(Permission),
)
REFUSED = {"https": "401", "mqtts": "CONNACK 5", "coaps": "alert 49"}
ENDED = {"https": "401", "mqtts": "CONNACK 5", "coaps": "alert 45"}
UNKNOWN = {"https": "401", "mqtts": "CONNACK 5", "coaps": "alert 46"}


@secure_wires
async def test_a_factory_certificate_is_a_birth(plant: Plant, wire: str) -> None:
    """A device nobody added shows its chain, exists, and tells something without a token."""
    await plant.believe()
    async with plant.entered(wire, plant.factory.issue(f"born-{wire}")) as device:
        await device.tell(t=1)
    assert await plant.gate.readings(f"born-{wire}") == {"t": 1}


async def test_a_factory_device_waits_for_an_operator_on_every_wire(plant: Plant) -> None:
    """Its handshake, or the first it asks, is refused until an operator says yes; the reason is in
    the events. So is one that may not come at all; who was there before is let in."""
    await plant.believe()
    early = plant.factory.issue("early-0")
    async with plant.entered("https", early):
        pass
    admission = Admission(approval=True, deny=("*-denied",))
    await plant.believe(policy=Policy(admission=admission))
    leaves = {wire: plant.factory.issue(f"late-{wire}") for wire in SECURE}
    for wire, leaf in leaves.items():
        assert await plant.answer(wire, leaf) == REFUSED[wire]
        assert await plant.answer(wire, plant.factory.issue(f"{wire}-denied")) == REFUSED[wire]
        assert await plant.answer(wire, early) == GRANTED[wire]
    assert await plant.devices() == {"early-0"}
    told = [(one.subject, one.reason) for one in await plant.events() if one.reason]
    assert sorted(told) == sorted(
        [(f"late-{wire}", "approval_pending") for wire in SECURE]
        + [(f"{wire}-denied", "on_deny_list") for wire in SECURE]
    )
    desk = Approvals(SqlApprovals(plant.gate.gateway.store), clock=now_ms)
    waiting = (await desk.page(OPERATOR, ApprovalQuery())).data
    assert {one.name for one in waiting} == {f"late-{wire}" for wire in SECURE}
    await desk.approve(OPERATOR, [one.id for one in waiting])
    for wire, leaf in leaves.items():
        assert await plant.answer(wire, leaf) == GRANTED[wire]
    assert await plant.devices() == {"early-0"} | {f"late-{wire}" for wire in SECURE}


async def test_a_factory_certificate_is_one_device_on_all_wires(plant: Plant) -> None:
    """Whichever wire it shows its certificate on, and how often, it is the same device."""
    await plant.believe()
    identity = plant.factory.issue("everywhere")
    for wire in (*SECURE, *SECURE):
        async with plant.entered(wire, identity) as device:
            await device.tell(**{wire: True})
    assert await plant.devices() == {"everywhere"}
    assert await plant.gate.readings("everywhere") == dict.fromkeys(SECURE, True)


async def test_a_factory_device_that_comes_many_times_at_once_is_born_once(plant: Plant) -> None:
    """Thirty connections on all wires, the first of their device: one birth, all are let in."""
    await plant.believe()
    identity = plant.factory.issue("eager")
    told = await asyncio.gather(*(plant.answer(wire, identity) for wire in SECURE * 10))
    # Of MQTT sessions the newest stands; those before were let in too.
    assert set(told) == set(GRANTED.values())
    assert await plant.devices() == {"eager"}
    births = [one for one in await plant.events() if one.kind is EventKind.DEVICE_PROVISION]
    assert [one.outcome.value for one in births] == ["success"]


@secure_wires
async def test_a_chain_with_issuers_between_is_believed(plant: Plant, wire: str) -> None:
    """Root, two authorities under it, leaf; sent without the root, and in the wrong order."""
    await plant.believe()
    line = certs.Authority("Line 1", parent=certs.Authority("Works", parent=plant.factory))
    whole = line.issue("whole")
    rootless = certs.Issued(whole.certificate, whole.key, whole.issuers[:-1])
    for identity in (rootless, certs.reordered(plant.factory, "reordered")):
        async with plant.entered(wire, identity):
            pass
    assert await plant.devices() == {"whole", "reordered"}


@secure_wires
async def test_a_new_leaf_of_the_same_device_takes_the_place_of_the_old(
    plant: Plant, wire: str
) -> None:
    """Contract 2.8: another certificate with that name is the device's from now on."""
    await plant.believe()
    old, new = plant.factory.issue("rotates"), plant.factory.issue("rotates")
    async with plant.entered(wire, old) as device:
        await device.tell(old=1)
    async with plant.entered(wire, new) as device:
        await device.tell(new=1)
    assert await plant.devices() == {"rotates"}
    known = await plant.gate.registry.device("rotates")
    assert known is not None
    assert getattr(known.credentials, "text", None) == new.text


@secure_wires
async def test_a_session_of_the_old_leaf_ends_when_a_new_one_is_shown(
    plant: Plant, wire: str
) -> None:
    """The old login is gone, and what was connected with it."""
    await plant.believe()
    async with (
        plant.entered(wire, plant.factory.issue("twice")) as old,
        plant.entered("https", plant.factory.issue("twice")) as new,
    ):
        await old.ended()
        await new.tell(n=1)


@secure_wires
async def test_without_the_create_flag_a_chain_admits_only_devices_that_are_there(
    plant: Plant, wire: str
) -> None:
    """Contract 2.8: an unknown name is refused, and one with a token keeps it; one that has a
    certificate gets the new one."""
    await plant.believe(create=False)
    for name in ("token", "expected"):
        await plant.gate.add(name, "factory")
    known = await plant.gate.registry.device("expected")
    assert known is not None
    first = Certificate(certs.self_signed("expected").text)
    assert await plant.gate.registry.replace_credentials(known, first)
    for name in ("unexpected", "token"):
        assert await plant.answer(wire, plant.factory.issue(name)) == UNKNOWN[wire]
    async with plant.entered(wire, plant.factory.issue("expected")) as device:
        await device.tell(n=1)
    assert await plant.devices() == {"token", "expected"}
    assert await plant.refusals() == ["no_such_device", "unknown_certificate"]


@secure_wires
async def test_a_self_made_certificate_that_was_registered_logs_in(plant: Plant, wire: str) -> None:
    """Contract 7.2: known by its hash, whoever signed it."""
    identity = certs.self_signed("nobody's")
    await plant.registered("pinned", identity)
    async with plant.entered(wire, identity) as device:
        await device.tell(n=1)
    assert await plant.gate.readings("pinned") == {"n": 1}


@secure_wires
async def test_a_registered_certificate_counts_in_its_time_only(plant: Plant, wire: str) -> None:
    """Expired, or not valid yet: refused with its reason, though its hash is known."""
    now = datetime.now(UTC)
    day = timedelta(days=1)
    ended = certs.self_signed("ended", not_after=now - day)
    early = certs.self_signed("early", not_before=now + day)
    for identity, name in ((ended, "ended"), (early, "early")):
        await plant.registered(name, identity)
    assert await plant.answer(wire, ended) == ENDED[wire]
    assert await plant.answer(wire, early) == UNKNOWN[wire]
    assert await plant.refusals() == ["expired_leaf", "not_yet_valid"]


@secure_wires
async def test_a_connection_goes_no_further_than_its_certificate(plant: Plant, wire: str) -> None:
    """Who logged in while it was valid is cut at its end."""
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2)
    identity = certs.self_signed("short", not_after=end)
    await plant.registered("short", identity)
    async with plant.entered(wire, identity) as device:
        left = (end - datetime.now(UTC)).total_seconds()
        async with asyncio.timeout(left + 2):
            await device.ended()
    assert datetime.now(UTC) >= end


@secure_wires
async def test_a_device_without_a_certificate_uses_its_token(plant: Plant, wire: str) -> None:
    """Secure wires serve what the plain ones do, in the same words."""
    token = await plant.gate.add("plain")
    async with plant.entered(wire, token=token) as device:
        await device.tell(n=1)
    async with plant.line(wire, token="not-one-that-is-known") as device:
        assert await device.enter() in ("401", "CONNACK 2", "CONNACK 5", "4.01")
    assert await plant.gate.readings("plain") == {"n": 1}


@secure_wires
async def test_nobody_is_nobody(plant: Plant, wire: str) -> None:
    """Neither a certificate nor a token: the path without a token opens nothing."""
    async with plant.line(wire) as device:
        assert await device.enter() in ("401", "404", "CONNACK 5", "CONNACK 2", "4.01", "4.04")


@pytest.mark.parametrize("wire", ["https", "coaps"])
async def test_a_devices_certificate_does_not_open_anothers_token(plant: Plant, wire: str) -> None:
    """What the handshake proved and what the path says must be the same device."""
    token = await plant.gate.add("victim")
    identity = await plant.signed("attacker")
    async with plant.line(wire, identity, token=token) as device:
        assert await device.enter() in ("401", "4.01")


async def test_a_refused_certificate_is_told_in_the_dialects_words(plant: Plant) -> None:
    """HTTPS: whatever is asked, 401 with ThingsBoard's error body, and the connection is closed."""
    stranger = certs.self_signed("stranger")
    asked = plant.gate.request("stranger")
    for method, path, body in (
        ("GET", "/api/v1/attributes", b""),
        ("POST", "/api/v1/telemetry", b'{"n":1}'),
        ("POST", "/api/v1/provision", json.dumps(asked).encode()),
    ):
        async with plant.line("https", stranger) as device:
            assert isinstance(device, Https)
            reply = await device.web.ask(method, path, body)
            assert (reply.status, reply.headers["connection"]) == (401, "close")
            told = json.loads(reply.body)
            assert (told["status"], told["errorCode"]) == (401, 10)
            await device.ended()
    assert await plant.devices() == set()
