"""What the core does when the store is away, and what it must not forget, lose or keep for ever."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from outlets import PEER, Heard, House, event, running, stored, until, unwritable

from gateway.core import presence
from gateway.core.errors import StoreUnavailable
from gateway.core.feed import Feed
from gateway.core.model import (
    AccessToken,
    AttributesChange,
    AttributeScope,
    Device,
    EventKind,
    Secret,
)
from gateway.core.rpc import Rpc
from gateway.core.sessions import Cause
from gateway.store.sql_registrar import SqlRegistrar


async def change(house: House, device: Device, **values: Any) -> None:
    await SqlRegistrar(house.store).change_attributes(
        device.id,
        AttributeScope.SHARED,
        AttributesChange(values),
        event(EventKind.DEVICE_ATTRIBUTES, device),
    )


class Breaks(Heard):
    """An outlet that raises: a mistake in a dialect."""

    def attributes_changed(self, change: AttributesChange) -> None:
        raise RuntimeError("a mistake")


# ── the feed ──────────────────────────────────────────────────────────────────────────────────


async def test_a_broken_outlet_does_not_end_the_feed(house: House, rpc: Rpc) -> None:
    """An unexpected error in one session costs its own notice, and no other session's."""
    broken, device, outlet = await house.device("broken"), await house.device(), Heard()
    house.open(broken, Breaks(), wants_attributes=True)
    house.open(device, outlet, wants_attributes=True)
    feed = Feed(house.store, house.sessions, rpc)
    await feed.begin()
    async with running(feed.run()):
        await change(house, broken, a=1)
        await change(house, device, a=2)

        async def heard() -> bool:
            return [one.values for one in outlet.changes] == [{"a": 2}]

        await until(heard)


async def test_one_broken_session_of_a_profile_does_not_keep_the_others_from_hearing(
    house: House, rpc: Rpc
) -> None:
    """A change for a profile reaches the sessions after the one that broke."""
    outlets: list[Heard] = [Heard(), Breaks(), Heard()]
    profile_id = 0
    for number, outlet in enumerate(outlets):
        device = await house.device(f"d{number}")
        profile_id = device.profile_id
        house.open(device, outlet, wants_attributes=True)
    house.sessions.attributes_changed(
        AttributesChange({"a": 1}), device_id=None, profile_id=profile_id
    )
    assert len(outlets[0].changes) == len(outlets[2].changes) == 1


async def test_a_call_survives_a_store_that_is_away_when_its_notice_comes(
    house: House, rpc: Rpc
) -> None:
    """The device is here, the store cannot be written for a while: the call goes out afterwards."""
    device, outlet = await house.device(), Heard()
    house.open(device, outlet, wants_calls=True)
    feed = Feed(house.store, house.sessions, rpc)
    await feed.begin()
    call = await stored(house, device)
    async with running(feed.run()):
        async with unwritable(house.store):
            feed.nudge()
            await asyncio.sleep(0.1)
            assert outlet.calls == []

        async def sent() -> bool:
            return [one.id for _, one in outlet.calls] == [call.id]

        await until(sent)


async def test_a_notice_is_heeded_though_the_store_cannot_write(house: House, rpc: Rpc) -> None:
    """A call that cannot be marked does not hold up the notices after it."""
    device, outlet = await house.device(), Heard()
    house.open(device, outlet, wants_calls=True, wants_attributes=True)
    feed = Feed(house.store, house.sessions, rpc)
    await feed.begin()
    await stored(house, device)
    await change(house, device, a=1)
    async with unwritable(house.store):
        await feed.look()
        assert len(outlet.changes) == 1


# ── logins that changed while a session was being opened ──────────────────────────────────────


async def test_a_session_opened_with_a_login_that_was_changed_meanwhile_is_ended(
    house: House, rpc: Rpc
) -> None:
    """The credentials are read, changed, and the change is heard; then the session is opened."""
    device, outlet = await house.device(), Heard()
    feed = Feed(house.store, house.sessions, rpc)
    await feed.begin()
    changed = await SqlRegistrar(house.store).replace_credentials(
        device.id, AccessToken(Secret("another")), event(EventKind.DEVICE_CREDENTIALS, device)
    )
    assert changed
    await feed.look()
    session = house.open(device, outlet, wants_calls=True, wants_attributes=True)
    assert outlet.ends == [Cause.CREDENTIALS_CHANGED]
    assert session.closed
    fresh = msgspec.structs.replace(device, credentials_row=device.credentials_row + 1)
    assert not house.open(fresh, Heard()).closed


async def test_a_session_opened_for_a_device_that_was_removed_meanwhile_is_ended(
    house: House, rpc: Rpc
) -> None:
    """The same, when the device is gone altogether."""
    device, outlet = await house.device(), Heard()
    feed = Feed(house.store, house.sessions, rpc)
    await feed.begin()
    removed = event(EventKind.DEVICE_REMOVE, device)
    assert await SqlRegistrar(house.store).remove_device(device.id, removed)
    await feed.look()
    assert house.open(device, outlet).closed
    assert outlet.ends == [Cause.REMOVED]
    assert len(house.sessions) == 0


async def test_a_login_newer_than_the_notice_survives_it(house: House) -> None:
    """Two changes in a row: who already logged in by the second is not ended by the first."""
    device, outlet = await house.device(), Heard()
    newest = msgspec.structs.replace(device, credentials_row=3)
    house.open(newest, outlet)
    house.sessions.end(device.id, Cause.CREDENTIALS_CHANGED, but_generation=2)
    assert outlet.ends == []


# ── tasks that must not end ───────────────────────────────────────────────────────────────────


async def test_presence_survives_an_unexpected_error(
    house: House, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be written is written later, and the task lives on."""
    monkeypatch.setattr(presence, "WRITE_EVERY_S", 0.01)

    def broken() -> int:
        raise RuntimeError("a mistake")

    working = [False]
    attendance = presence.Attendance(house.store, lambda: clock() if working[0] else broken())
    attendance.node = await house.store.enter_node(clock())
    device = await house.device()
    working[0] = True
    attendance.connected(device.id, PEER, None)
    working[0] = False
    async with running(attendance.run()) as task:
        await asyncio.sleep(0.05)
        assert not task.done()
        working[0] = True

        async def online() -> bool:
            found = await SqlRegistrar(house.store).presence([device.id], clock())
            return device.id in found and found[device.id].online

        await until(online)


async def test_a_connect_is_not_lost_by_a_failed_write(house: House, clock: Any) -> None:
    """A device came before the write that failed and went during it: both times are kept."""
    await house.attendance.enter()
    device = await house.device()
    came = clock.now
    session = house.open(device, Heard())
    async with unwritable(house.store):
        write = asyncio.create_task(house.attendance.write())
        await asyncio.sleep(0)
        clock.now += 1000
        house.sessions.close(session)
        with suppress(StoreUnavailable):
            await write
    await house.attendance.write()
    found = (await SqlRegistrar(house.store).presence([device.id], clock.now))[device.id]
    assert (found.online, found.connected_at, found.disconnected_at) == (False, came, came + 1000)
    assert found.address == PEER.address
