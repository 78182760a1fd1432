"""Whose devices are: customers, claims, groups."""

from __future__ import annotations

import asyncio

import pytest
from inventory_ground import caused

from gateway.core.errors import Cause, Invalid
from gateway.core.model import (
    ClaimResult,
    DeviceDraft,
    EventKind,
    Outcome,
    RefusalReason,
    Secret,
)

pytestmark = pytest.mark.every_database


async def test_a_device_is_assigned_and_taken_back(ground, inventory, events):
    """The customer shows in its record, with an event each; whose own it was is forgotten."""
    record = await ground.add("d")
    given = await inventory.assign(ground.root, record, ground.north.organisation)
    assert (given.customer_name, given.customer_uuid) == (
        "north",
        ground.north.organisation.uuid,
    )
    back = await inventory.assign(ground.root, given, None)
    assert (back.customer_name, back.customer_uuid, back.device.customer_id) == ("", "", None)
    assert back.version == 3
    told = [one.detail for one in await events(EventKind.DEVICE_ASSIGN)]
    assert [one.get("customer", "") for one in told] == ["north", ""]
    with pytest.raises(Invalid):
        await inventory.assign(ground.root, back, ground.root.organisation)
    with caused(Cause.GONE):
        await inventory.assign(ground.north, given, ground.south.organisation)


async def test_of_many_people_one_claims(ground, inventory):
    """SUCCESS once, with the device; CLAIMED for the others; it is that person's own."""
    record, key = await ground.add("d"), Secret("the-claim-key")
    await ground.offer(record, key)
    results = await asyncio.gather(
        *(inventory.claim(actor, "d", key) for actor in (ground.north, ground.south) * 3)
    )
    won = [one for result, one in results if result is ClaimResult.SUCCESS]
    assert len(won) == 1
    assert [result for result, _ in results].count(ClaimResult.CLAIMED) == 5
    assert won[0].owner_id in (101, 102)
    assert won[0].customer_name in ("north", "south")


async def test_a_wrong_claim_is_answered_and_told(ground, inventory, events):
    """FAILURE without a device for a wrong key, no offer or no such name: nobody learns which."""
    record = await ground.add("d")
    assert await inventory.claim(ground.north, "d", Secret("k")) == (ClaimResult.FAILURE, None)
    assert await inventory.claim(ground.north, "?", Secret("k")) == (ClaimResult.FAILURE, None)
    await ground.offer(record, Secret("right"))
    assert await inventory.claim(ground.north, "d", Secret("k")) == (ClaimResult.FAILURE, None)
    told = await events(EventKind.DEVICE_CLAIM)
    assert [(one.outcome, one.reason) for one in told] == [
        (Outcome.REFUSED, reason)
        for reason in (
            RefusalReason.NO_CLAIM,
            RefusalReason.NO_SUCH_DEVICE,
            RefusalReason.WRONG_CLAIM_KEY,
        )
    ]
    with pytest.raises(Invalid):
        await inventory.claim(ground.root, "d", Secret("k"))


async def test_a_claimed_device_is_given_back(ground, inventory, events):
    """By its customer or those above, once; it is nobody's own then."""
    record, key = await ground.add("d"), Secret("the-claim-key")
    await ground.offer(record, key)
    await inventory.claim(ground.mill, "d", key)
    assert not await inventory.reclaim(ground.south, "d")
    assert await inventory.reclaim(ground.north, "d")
    assert not await inventory.reclaim(ground.root, "d")
    found = await inventory.find_named(ground.root, "d")
    assert (found.device.customer_id, found.owner_id) == (None, None)
    assert len(await events(EventKind.DEVICE_UNCLAIM)) == 1


async def test_ones_own_stays_ones_own(ground, inventory):
    """A change of the label keeps whose it is; another customer has it from nobody."""
    record, key = await ground.add("d"), Secret("the-claim-key")
    await ground.offer(record, key)
    _, own = await inventory.claim(ground.north, "d", key)
    labelled = await inventory.update(ground.north, own, DeviceDraft(name="d", label="x"))
    assert labelled.owner_id == ground.north.owner_id
    other = DeviceDraft(name="d", customer_id=ground.south.organisation.id)
    assert (await inventory.update(ground.root, labelled, other)).owner_id is None


async def test_a_gateway_given_away_logs_in_anew(ground, inventory, store):
    """Its sessions would bear children for the customer it had; another device's may stay."""
    gateway, sensor = await ground.add("g", gateway=True), await ground.add("s")
    before = await store.last_notice()
    for record in (gateway, sensor):
        await inventory.assign(ground.root, record, ground.north.organisation)
    told = [one.device_id for one in await store.notices(before, 9)]
    assert told == [gateway.device.id]


# ── groups ────────────────────────────────────────────────────────────────────────────────────


async def test_groups_are_made_on_first_mention(ground, inventory, events):
    """A device may be in several; naming one again is nothing; each organisation has its own."""
    record = await ground.add("d", groups=("b", "a"))
    await inventory.put_into(ground.root, record, ["a", "c"])
    found = await inventory.groups(ground.root)
    assert [(one.name, one.devices) for one in found] == [("a", 1), ("b", 1), ("c", 1)]
    assert await inventory.groups(ground.north) == []
    assert await inventory.group_named(ground.north, "a") is None
    assert (await inventory.group_named(ground.root, "a")).organisation_id == 1
    assert [one.detail for one in await events(EventKind.DEVICE_GROUP)] == [{"into": "a, c"}]


async def test_devices_leave_groups(ground, inventory):
    """Taken out, or removed, they are in none; a group that is removed leaves its devices."""
    one, two = await ground.add("one", groups=("g", "h")), await ground.add("two", groups=("g",))
    assert await inventory.take_out(ground.root, one, "g")
    assert not await inventory.take_out(ground.root, one, "g")
    assert not await inventory.take_out(ground.root, one, "nowhere")
    await inventory.remove(ground.root, two)
    assert (await inventory.group_named(ground.root, "g")).devices == 0
    assert await inventory.remove_group(ground.root, "h")
    assert not await inventory.remove_group(ground.root, "h")
    assert await inventory.find_named(ground.root, "one") is not None


async def test_too_many_groups_or_bad_ones_are_invalid(ground, inventory):
    """The bound and the signs of a name are looked at before anything is written."""
    record = await ground.add("d")
    for names in ([""], ["a\n"], [f"g{n}" for n in range(101)]):
        with pytest.raises(Invalid):
            await inventory.put_into(ground.root, record, names)
