"""Who is here, and when each was last heard of."""

from __future__ import annotations

from typing import Any

from outlets import PEER, Heard, House

from gateway.core.model import Presence, Wire
from gateway.core.sessions import Slot
from gateway.store.sql_registrar import SqlRegistrar


async def presence_of(house: House, device_id: int) -> Presence:
    await house.attendance.write(everything=True)
    await house.store.writer.settled()
    found = await SqlRegistrar(house.store).presence([device_id], house.clock())
    return found.get(device_id, Presence())


async def test_a_session_is_seen_to_come_and_go(house: House, clock: Any) -> None:
    """Online with its wire and address while it lasts, offline with the times afterwards."""
    await house.attendance.enter()
    device = await house.device()
    came = clock.now
    session = house.open(device, Heard())
    here = await presence_of(house, device.id)
    assert (here.online, here.connected_at) == (True, came)
    assert (here.wire, here.address) == (Wire.MQTT, PEER.address)
    clock.now += 5_000
    house.sessions.close(session)
    gone = await presence_of(house, device.id)
    assert (gone.online, gone.connected_at, gone.disconnected_at) == (False, came, came + 5_000)


async def test_activity_is_noted_without_a_session(house: House, clock: Any) -> None:
    """A device that only posts over HTTP is never online, but was heard of."""
    await house.attendance.enter()
    device = await house.device()
    house.attendance.heard(device.id)
    heard = await presence_of(house, device.id)
    assert (heard.online, heard.active_at) == (False, clock.now)


async def test_a_device_stays_online_while_one_of_its_sessions_does(house: House) -> None:
    """A live session that ends beside an observation leaves the device online; a poll does not."""
    await house.attendance.enter()
    device = await house.device()
    live = house.open(device, Heard())
    observing = house.open(device, Heard(), slot=Slot.OBSERVED_ATTRIBUTES)
    house.open(device, Heard(), slot=Slot.POLL)
    house.sessions.close(live)
    assert (await presence_of(house, device.id)).online
    house.sessions.close(observing)
    assert not (await presence_of(house, device.id)).online


async def test_a_device_that_was_taken_over_stays_online(house: House) -> None:
    """The end of the older session does not mark the newer one as gone."""
    await house.attendance.enter()
    device = await house.device()
    house.open(device, Heard())
    house.open(device, Heard())
    assert (await presence_of(house, device.id)).online


async def test_what_a_killed_process_held_is_offline_soon(house: House, clock: Any) -> None:
    """A process that no longer writes is not believed for long."""
    await house.attendance.enter()
    device = await house.device()
    house.open(device, Heard())
    await presence_of(house, device.id)
    clock.now += 60_000
    found = await SqlRegistrar(house.store).presence([device.id], clock.now)
    assert not found[device.id].online


async def test_the_way_through_a_gateway_is_noted(house: House) -> None:
    """A child's presence names the gateway it came through."""
    await house.attendance.enter()
    gateway, child = await house.device("gate"), await house.device("child")
    house.open(child, Heard(), gateway_id=gateway.id)
    assert (await presence_of(house, child.id)).gateway_id == gateway.id
