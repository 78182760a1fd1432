"""Decisions on trial: decided as ever, and taken back."""

from __future__ import annotations

import asyncio

import pytest
from msgspec import structs

from gateway.core.errors import CredentialsGone
from gateway.core.model import AttributeScope, EventKind
from gateway.store.writer import on_trial

pytestmark = pytest.mark.every_database


async def test_what_is_decided_on_trial_is_answered_and_taken_back(
    store, registrar, new_fleet, event, told
):
    """Results are the true ones, errors are raised, events and notices are not written; outside
    of it everything stays."""
    fleet = await new_fleet()
    device = await fleet.waiting("d")
    notices = await store.last_notice()
    with on_trial():
        assert await registrar.remove_device(device.id, event(EventKind.DEVICE_REMOVE))
        assert not await registrar.remove_device(99, event(EventKind.DEVICE_REMOVE))
        await store.record(event(EventKind.DEVICE_LOGIN))
        await store.save_attributes(device, AttributeScope.SHARED, {"a": 1}, 1)
        gone = await store.known_device(device.id)
        assert gone is not None
        stale = structs.replace(device, credentials_row=7)
        with pytest.raises(CredentialsGone):
            await store.save_attributes(stale, AttributeScope.SHARED, {"a": 1}, 1)
        await store.writer.settled()
    await store.writer.settled()
    assert (await registrar.find_device("d")).device.name == "d"
    assert await registrar.device_attributes(device.id) == []
    assert await told(EventKind.DEVICE_REMOVE) == []
    assert await told(EventKind.DEVICE_LOGIN) == []
    assert await store.last_notice() == notices


async def test_neighbours_in_one_commit_are_not_touched(store, registrar, new_fleet):
    """Trials and deeds that share a transaction: the deeds are done, in other tasks too."""
    fleet = await new_fleet()
    device = await fleet.waiting("d")

    async def save(key, *, trial):
        values = {key: key}
        if not trial:
            await store.save_attributes(device, AttributeScope.SERVER, values, 1)
            return
        with on_trial():
            await store.save_attributes(device, AttributeScope.SERVER, values, 1)

    await asyncio.gather(*(save(f"k{n}", trial=n % 2 == 0) for n in range(40)))
    found = {one.key for one in await registrar.device_attributes(device.id)}
    assert found == {f"k{n}" for n in range(1, 40, 2)}
