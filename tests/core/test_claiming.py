"""A device offers itself, and a customer takes it, once (contract, section 18)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gateway.core.claiming import Claiming
from gateway.core.model import (
    AttributesChange,
    AttributeScope,
    ClaimResult,
    Device,
    Event,
    EventKind,
    Outcome,
    Peer,
    Secret,
    Wire,
)
from gateway.store.sql_registrar import SqlRegistrar
from gateway.store.sql_store import SqlStore

PEER = Peer(Wire.MQTT, "192.0.2.7:50123")
KEY = Secret("open-sesame")


@pytest.fixture
def claiming(store: SqlStore, clock: Any) -> Claiming:
    return Claiming(store, clock, duration_ms=60_000)


@pytest.fixture
def registrar(store: SqlStore) -> SqlRegistrar:
    return SqlRegistrar(store)


@pytest.fixture
async def fleet(new_fleet: Callable[..., Any]) -> Any:
    return await new_fleet()


async def device_of(fleet: Any, name: str = "meter") -> Device:
    await fleet.waiting(name)
    return (await fleet.registry.device(name)).device


async def claimed(
    registrar: SqlRegistrar, clock: Any, device: Device, key: Secret | None, customer: str = "ann"
) -> ClaimResult:
    told = Event(kind=EventKind.DEVICE_CLAIM, at=clock.now, peer=PEER, device_id=device.id)
    return await registrar.claim_for(device.id, customer, key, told)


async def test_who_knows_the_key_takes_the_device_once(
    claiming: Claiming, registrar: SqlRegistrar, fleet: Any, clock: Any
) -> None:
    """SUCCESS for the first, CLAIMED for whoever comes after, and the key is used up."""
    device = await device_of(fleet)
    assert await claiming.offer(device, KEY, 0, PEER)
    assert await claimed(registrar, clock, device, KEY) is ClaimResult.SUCCESS
    assert await claimed(registrar, clock, device, KEY, "bob") is ClaimResult.CLAIMED
    owner = (await fleet.registry.device("meter")).device.customer_id
    assert await registrar.customer_name(owner) == "ann"


async def test_of_many_at_once_one_takes_it(
    claiming: Claiming, registrar: SqlRegistrar, fleet: Any, clock: Any
) -> None:
    """Twenty customers with the right key: one SUCCESS."""
    device = await device_of(fleet)
    await claiming.offer(device, KEY, 0, PEER)
    results = await asyncio.gather(
        *(claimed(registrar, clock, device, KEY, f"c{number}") for number in range(20))
    )
    assert results.count(ClaimResult.SUCCESS) == 1
    assert results.count(ClaimResult.CLAIMED) == 19


async def test_a_wrong_key_fails_and_drops_the_claim(
    claiming: Claiming, registrar: SqlRegistrar, fleet: Any, clock: Any
) -> None:
    """After a wrong guess the right key fails too, until the device offers itself again."""
    device = await device_of(fleet)
    await claiming.offer(device, KEY, 0, PEER)
    assert await claimed(registrar, clock, device, Secret("wrong")) is ClaimResult.FAILURE
    assert await claimed(registrar, clock, device, KEY) is ClaimResult.FAILURE
    assert await claiming.offer(device, KEY, 0, PEER)
    assert await claimed(registrar, clock, device, KEY) is ClaimResult.SUCCESS


async def test_a_claim_expires(
    claiming: Claiming, registrar: SqlRegistrar, fleet: Any, clock: Any
) -> None:
    """What the device said of its duration counts, else what is configured."""
    short, usual = await device_of(fleet, "short"), await device_of(fleet, "usual")
    await claiming.offer(short, KEY, 1_000, PEER)
    await claiming.offer(usual, KEY, 0, PEER)
    clock.now += 30_000
    assert await claimed(registrar, clock, short, KEY) is ClaimResult.FAILURE
    assert await claimed(registrar, clock, usual, KEY) is ClaimResult.SUCCESS


async def test_a_second_offer_is_ignored_while_one_stands(
    claiming: Claiming, registrar: SqlRegistrar, fleet: Any, clock: Any
) -> None:
    """Put if absent: the first key stands until it expires."""
    device = await device_of(fleet)
    assert await claiming.offer(device, KEY, 1_000, PEER)
    assert not await claiming.offer(device, Secret("second"), 1_000, PEER)
    clock.now += 2_000
    assert await claiming.offer(device, Secret("second"), 0, PEER)
    assert await claimed(registrar, clock, device, Secret("second")) is ClaimResult.SUCCESS


async def test_a_profile_may_forbid_claiming_and_an_attribute_allow_it(
    claiming: Claiming, registrar: SqlRegistrar, new_fleet: Callable[..., Any]
) -> None:
    """With `claiming_allowed = false` the server attribute `claimingAllowed` decides."""
    fleet = await new_fleet(name="closed", claiming_allowed=False)
    device = await device_of(fleet)
    assert not await claiming.offer(device, KEY, 0, PEER)
    told = Event(kind=EventKind.DEVICE_ATTRIBUTES, at=1, peer=PEER, device_id=device.id)
    allowed = AttributesChange({"claimingAllowed": True})
    await registrar.change_attributes(device.id, AttributeScope.SERVER, allowed, told)
    assert await claiming.offer(device, KEY, 0, PEER)


async def test_a_claimed_device_cannot_offer_itself_until_it_is_given_back(
    claiming: Claiming, registrar: SqlRegistrar, fleet: Any, clock: Any
) -> None:
    """A customer's device is no one else's to take."""
    device = await device_of(fleet)
    assert await claimed(registrar, clock, device, None) is ClaimResult.SUCCESS
    assert not await claiming.offer(device, KEY, 0, PEER)
    told = Event(kind=EventKind.DEVICE_UNCLAIM, at=1, peer=PEER, device_id=device.id)
    assert await registrar.unclaim(device.id, told)
    assert await claiming.offer(device, KEY, 0, PEER)


async def test_every_attempt_leaves_an_event_without_the_key(
    claiming: Claiming, registrar: SqlRegistrar, fleet: Any, clock: Any
) -> None:
    """People can see who tried; the key is nowhere."""
    device = await device_of(fleet)
    await claiming.offer(device, KEY, 0, PEER)
    await claimed(registrar, clock, device, Secret("wrong-key-0001"))
    events = await registrar.last_events(limit=10, device_id=device.id)
    kinds = [(event.kind, event.outcome) for event in events]
    assert (EventKind.DEVICE_CLAIM_OFFER, Outcome.SUCCESS) in kinds
    assert (EventKind.DEVICE_CLAIM, Outcome.REFUSED) in kinds
    assert "open-sesame" not in repr(events)
    assert "wrong-key-0001" not in repr(events)
