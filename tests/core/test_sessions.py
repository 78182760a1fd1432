"""Sessions: one of a kind for each device, told what they asked to be told."""

from __future__ import annotations

from outlets import Heard, House

from gateway.core.model import AttributesChange
from gateway.core.sessions import MOST_POLLS, Cause, Slot

CHANGE = AttributesChange({"rate": 5})


async def test_the_newer_session_of_a_device_stands(house: House) -> None:
    """A second live session ends the first, which is told so once, and is the only one left."""
    device, older, newer = await house.device(), Heard(), Heard()
    first = house.open(device, older)
    second = house.open(device, newer)
    assert older.ends == [Cause.TAKEN_OVER]
    assert newer.ends == []
    assert first.closed
    assert house.sessions.of(device.id) == (second,)


async def test_slots_do_not_displace_each_other_and_polls_not_even_their_own(house: House) -> None:
    """A live session, two observations and any number of polls of one device live together."""
    device = await house.device()
    slots = [Slot.LIVE, Slot.OBSERVED_ATTRIBUTES, Slot.OBSERVED_CALLS, Slot.POLL, Slot.POLL]
    outlets = [Heard() for _ in slots]
    for slot, outlet in zip(slots, outlets, strict=True):
        house.open(device, outlet, slot=slot)
    assert len(house.sessions.of(device.id)) == 5
    assert not any(outlet.ends for outlet in outlets)


async def test_polls_of_one_device_are_bounded(house: House) -> None:
    """One more than may wait ends the oldest, and no other."""
    device = await house.device()
    outlets = [Heard() for _ in range(MOST_POLLS + 1)]
    for outlet in outlets:
        house.open(device, outlet, slot=Slot.POLL)
    assert [outlet.ends for outlet in outlets] == [[Cause.TAKEN_OVER]] + [[]] * MOST_POLLS
    assert len(house.sessions.of(device.id)) == MOST_POLLS


async def test_a_change_reaches_whoever_subscribed_and_nobody_else(house: House) -> None:
    """Of two devices of a profile, a change of one is told to it alone, of the profile to both."""
    one, other = await house.device("one"), await house.device("other")
    wants, silent, neighbour = Heard(), Heard(), Heard()
    house.open(one, wants, wants_attributes=True)
    house.open(one, silent, slot=Slot.POLL)
    house.open(other, neighbour, wants_attributes=True)
    house.sessions.attributes_changed(CHANGE, device_id=one.id, profile_id=None)
    assert (wants.changes, silent.changes, neighbour.changes) == ([CHANGE], [], [])
    house.sessions.attributes_changed(CHANGE, device_id=None, profile_id=one.profile_id)
    assert (len(wants.changes), len(neighbour.changes)) == (2, 1)
    house.sessions.attributes_changed(CHANGE, device_id=None, profile_id=one.profile_id + 1)
    assert (len(wants.changes), len(neighbour.changes)) == (2, 1)


async def test_new_credentials_end_the_sessions_of_the_old_ones_alone(house: House) -> None:
    """A session that logged in with the new credentials already is left alone."""
    device, outlet = await house.device(), Heard()
    house.open(device, outlet)
    house.sessions.end(device.id, Cause.CREDENTIALS_CHANGED, but_generation=device.credentials_row)
    assert outlet.ends == []
    house.sessions.end(
        device.id, Cause.CREDENTIALS_CHANGED, but_generation=device.credentials_row + 1
    )
    assert outlet.ends == [Cause.CREDENTIALS_CHANGED]
    assert len(house.sessions) == 0


async def test_a_closed_session_is_told_nothing_and_may_be_closed_again(house: House) -> None:
    """After its close a session hears of no change, and a second close does no harm."""
    device, outlet = await house.device(), Heard()
    session = house.open(device, outlet, wants_attributes=True)
    house.sessions.close(session)
    house.sessions.close(session)
    house.sessions.attributes_changed(CHANGE, device_id=device.id, profile_id=None)
    house.sessions.end(device.id, Cause.REMOVED)
    assert (outlet.changes, outlet.ends) == ([], [])


async def test_a_changed_profile_is_told_to_its_sessions(house: House) -> None:
    """Each session of the profile hears once that its settings are others."""
    device, outlet = await house.device(), Heard()
    house.open(device, outlet)
    house.sessions.profile_changed(device.profile_id + 1)
    house.sessions.profile_changed(device.profile_id)
    assert outlet.profiles_changed == 1
