"""Stored calls when the store is away, devices dawdle, or two processes hear of the same call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from outlets import Heard, House, running, state_of, stored, until, unwritable

from gateway.core.model import (
    RpcCall,
    RpcState,
)
from gateway.core.rpc import MOST_UNDELIVERED, Rpc
from gateway.core.sessions import Slot
from gateway.store.sql_store import SqlStore


async def test_a_call_is_offered_again_once_the_store_is_back(house: House, rpc: Rpc) -> None:
    """A subscription during an outage loses no call, though the session stays."""
    device, outlet = await house.device(), Heard()
    call = await stored(house, device)
    session = house.open(device, outlet, wants_calls=True)
    async with unwritable(house.store):
        rpc.offer_soon(session)
        await asyncio.sleep(0.05)
        assert outlet.calls == []

    async def sent() -> bool:
        return [one.id for _, one in outlet.calls] == [call.id]

    await until(sent)


async def test_an_acknowledgement_during_an_outage_is_not_forgotten(house: House, rpc: Rpc) -> None:
    """The device has the call: that is written as soon as the store can."""
    device, outlet = await house.device(), Heard()
    call = await stored(house, device)
    await rpc.offer(house.open(device, outlet, wants_calls=True))
    async with unwritable(house.store):
        outlet.acknowledge[0]()
        await asyncio.sleep(0.05)

    async def delivered() -> bool:
        return await state_of(house, call) is RpcState.DELIVERED

    await until(delivered)


async def test_calls_made_one_by_one_wait_for_their_turn_too(house: House, rpc: Rpc) -> None:
    """A device that acknowledges nothing is sent so many calls and no more, the oldest first."""
    device, outlet = await house.device(), Heard()
    house.open(device, outlet, wants_calls=True)
    made = [await stored(house, device) for _ in range(MOST_UNDELIVERED + 5)]
    for call in made:
        await rpc.take(call.id)

    async def full() -> bool:
        return len(outlet.calls) >= MOST_UNDELIVERED

    await until(full)
    await asyncio.sleep(0.05)
    assert [one.id for _, one in outlet.calls] == [one.id for one in made[:MOST_UNDELIVERED]]
    outlet.acknowledge[0]()

    async def next_one() -> bool:
        return [one.id for _, one in outlet.calls] == [
            one.id for one in made[: MOST_UNDELIVERED + 1]
        ]

    await until(next_one)


async def test_calls_nobody_acknowledged_make_room_when_their_time_is_over(
    house: House, rpc: Rpc, clock: Any
) -> None:
    """A device that acknowledges nothing is still sent later calls, when the old ones are over."""
    device, outlet = await house.device(), Heard()
    session = house.open(device, outlet, wants_calls=True)
    for _ in range(MOST_UNDELIVERED):
        await stored(house, device)
    await rpc.offer(session)
    last = await stored(house, device, expires_at=house.clock() + 600_000)
    clock.now += 60_001
    async with running(rpc.sweep()):

        async def sent() -> bool:
            return outlet.calls[-1][1].id == last.id

        await until(sent)


async def test_answers_that_come_before_their_acknowledgements_make_room(
    house: House, rpc: Rpc
) -> None:
    """Clients that answer from within their callback acknowledge after it: nothing stalls."""
    device, outlet = await house.device(), Heard()
    made = [await stored(house, device) for _ in range(2 * MOST_UNDELIVERED + 5)]
    await rpc.offer(house.open(device, outlet, wants_calls=True))
    answered = 0
    async with asyncio.timeout(5):
        while answered < len(made):
            while answered == len(outlet.calls):
                await asyncio.sleep(0.005)
            assert await rpc.answered(device, outlet.calls[answered][0], "1")
            outlet.acknowledge[answered]()
            answered += 1
    assert [one.id for _, one in outlet.calls] == [one.id for one in made]


async def test_a_poll_leaves_the_calls_it_does_not_take_as_they_were(
    house: House, rpc: Rpc
) -> None:
    """A long poll takes one call; the next is not said to have been sent."""
    device, outlet = await house.device(), Heard()
    first, second = await stored(house, device), await stored(house, device)
    await rpc.offer(house.open(device, outlet, slot=Slot.POLL, wants_calls=True))
    assert [one.id for _, one in outlet.calls] == [first.id]
    assert await state_of(house, second) is RpcState.QUEUED


async def test_a_gateway_without_the_device_does_not_fail_the_call_of_one_that_has_it(
    house: House, rpc: Rpc, store: SqlStore, clock: Any
) -> None:
    """Two processes on one store hear of a call: only that with the session says how it ended."""
    device = await house.device()
    there = House(store, clock, None)
    for one in (house, there):
        await one.attendance.enter()
    outlet = Heard()
    there.open(device, outlet, wants_calls=True)
    await there.attendance.write()
    call = await stored(house, device, persistent=False)
    await rpc.take(call.id)
    await asyncio.sleep(0.05)
    assert await state_of(house, call) is RpcState.QUEUED
    other = Rpc(there.sessions, store, clock)
    await other.take(call.id)

    async def asked() -> bool:
        return bool(outlet.calls)

    await until(asked)
    assert await other.answered(device, outlet.calls[0][0], '"yes"')

    async def done() -> bool:
        return await state_of(house, call) is RpcState.SUCCESSFUL

    await until(done)
    clock.now += 20_000  # the other process is no more
    late = await stored(house, device, persistent=False)
    await rpc.take(late.id)

    async def failed() -> bool:
        return await state_of(house, late) is RpcState.FAILED

    await until(failed)


async def test_calls_that_cannot_be_sent_are_not_tried_without_end(house: House, rpc: Rpc) -> None:
    """All but one place are taken, and what comes next is too large for the device."""
    device, outlet = await house.device(), Heard()
    for _ in range(MOST_UNDELIVERED + 2):
        await stored(house, device)
    session = house.open(device, outlet, wants_calls=True)
    tried = []
    send = outlet.call

    def call(request_id: int, call: RpcCall, delivered: Callable[[], None]) -> bool:
        tried.append(call.id)
        return len(outlet.calls) < MOST_UNDELIVERED - 1 and send(request_id, call, delivered)

    outlet.call = call  # type: ignore[method-assign]
    async with asyncio.timeout(10):
        await rpc.offer(session)
        while len(tried) < MOST_UNDELIVERED + 2:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    assert len(tried) == MOST_UNDELIVERED + 2


async def test_many_offers_at_once_read_the_store_once(house: House, rpc: Rpc) -> None:
    """A client that subscribes thousands of times makes no thousands of tasks."""
    device, outlet = await house.device(), Heard()
    session = house.open(device, outlet, wants_calls=True)
    before = len(asyncio.all_tasks())
    for _ in range(1000):
        rpc.offer_soon(session)
    assert len(asyncio.all_tasks()) - before <= 1


async def test_how_often_a_call_was_sent_is_known_after_its_device_was_away(
    house: House, rpc: Rpc
) -> None:
    """A call that makes its device restart is not sent to it for ever."""
    device = await house.device()
    call = await stored(house, device, retries=1)
    outlets = [Heard() for _ in range(3)]
    async with running(rpc.sweep()):
        for outlet in outlets:
            session = house.open(device, outlet, wants_calls=True)
            await rpc.offer(session)
            house.sessions.close(session)
            await asyncio.sleep(0.05)  # longer than the sweep takes to forget who is gone
    assert [len(outlet.calls) for outlet in outlets] == [1, 1, 0]
    assert await state_of(house, call) is RpcState.FAILED


async def test_nothing_is_kept_of_calls_that_are_over(house: House, rpc: Rpc, clock: Any) -> None:
    """Delivered and never answered, and the device gone: the process remembers none of it."""
    device, outlet = await house.device(), Heard(acknowledges=True)
    for _ in range(30):
        await stored(house, device, retries=3)
    session = house.open(device, outlet, wants_calls=True)
    await rpc.offer(session)

    async def all_sent() -> bool:
        return len(outlet.calls) == 30

    await until(all_sent)
    await asyncio.sleep(0.05)
    house.sessions.close(session)
    clock.now += 60_001
    async with running(rpc.sweep()):
        await asyncio.sleep(0.1)
    kept = {name: value for name, value in vars(rpc).items() if isinstance(value, dict)}
    assert kept == {name: {} for name in kept}


async def test_a_call_that_was_on_its_way_to_a_session_that_closed_goes_to_the_next(
    house: House, rpc: Rpc
) -> None:
    """The session closes while the call is marked; the newer one is sent it once."""
    device, second = await house.device(), Heard()
    await stored(house, device)
    session = house.open(device, Heard(takes=False), wants_calls=True)
    first_offer = asyncio.create_task(rpc.offer(session))
    await asyncio.sleep(0)
    house.sessions.close(session)
    newer = house.open(device, second, wants_calls=True)
    await asyncio.gather(first_offer, rpc.offer(newer))
    await rpc.offer(newer)
    assert len(second.calls) == 1


async def test_a_closed_session_is_sent_no_call(house: House, rpc: Rpc) -> None:
    """A child whose gateway reported it gone while its call was being marked."""
    device, outlet = await house.device(), Heard()
    call = await stored(house, device)
    session = house.open(device, outlet, wants_calls=True)
    offer = asyncio.create_task(rpc.offer(session))
    await asyncio.sleep(0)
    house.sessions.close(session)
    await offer
    assert outlet.calls == []
    waiting = await house.store.waiting_calls(device.id, house.clock())
    assert [one.id for one in waiting] == [call.id]
