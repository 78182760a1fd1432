"""Calls to devices: answered, given up, kept for those that are away."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from outlets import Heard, House

from gateway.core.model import Device, Event, EventKind, Peer, RpcCall, RpcState, Wire
from gateway.core.rpc import FIRST_PERSISTENT, MOST_TO_ONE, Rpc, RpcOutcome, RpcResult
from gateway.store.sql_registrar import SqlRegistrar


@pytest.fixture
def rpc(house: House) -> Rpc:
    return Rpc(house.sessions, house.store, house.clock)


def call_of(device: Device, **more: Any) -> RpcCall:
    return RpcCall(device_id=device.id, method="blink", params='{"n":3}', **more)


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(5):
        while not await true():
            await asyncio.sleep(0.005)


async def stored(house: House, device: Device, **more: Any) -> RpcCall:
    """A call in the store, as a command in a shell leaves it."""
    now = house.clock()
    call = call_of(device, created_at=now, **{"expires_at": now + 60_000, **more})
    event = Event(
        kind=EventKind.DEVICE_RPC, at=now, peer=Peer(Wire.SHELL, "tester"), device_id=device.id
    )
    saved = await SqlRegistrar(house.store).save_call(call, event)
    assert saved is not None
    return saved


async def state_of(house: House, call: RpcCall) -> RpcState:
    found = await house.store.stored_call(call.id)
    assert found is not None
    return found.state


# ── here and now ──────────────────────────────────────────────────────────────────────────────


async def test_a_two_way_call_gives_the_answer_of_the_device(house: House, rpc: Rpc) -> None:
    """The first request id is 0, the second 1, and each answer comes to its own caller."""
    device, outlet = await house.device(), Heard()
    house.open(device, outlet, wants_calls=True)
    calls = [asyncio.create_task(rpc.call(call_of(device), 5)) for _ in range(2)]
    await asyncio.sleep(0)
    assert [number for number, _ in outlet.calls] == [0, 1]
    assert await rpc.answered(device, 1, '"b"')
    assert await rpc.answered(device, 0, '"a"')
    assert await asyncio.gather(*calls) == [
        RpcResult(RpcOutcome.ANSWERED, '"a"'),
        RpcResult(RpcOutcome.ANSWERED, '"b"'),
    ]


async def test_a_one_way_call_does_not_wait(house: House, rpc: Rpc) -> None:
    """It is over when it left."""
    device, outlet = await house.device(), Heard()
    house.open(device, outlet, wants_calls=True)
    assert (await rpc.call(call_of(device, two_way=False), 5)).outcome is RpcOutcome.SENT
    assert len(outlet.calls) == 1


async def test_a_device_that_does_not_listen_is_not_connected(house: House, rpc: Rpc) -> None:
    """Without a session, and with one that wants no calls, the caller is told at once."""
    device = await house.device()
    assert (await rpc.call(call_of(device), 5)).outcome is RpcOutcome.NOT_CONNECTED
    house.open(device, Heard())
    assert (await rpc.call(call_of(device), 5)).outcome is RpcOutcome.NOT_CONNECTED


async def test_the_newest_session_that_can_takes_the_call(house: House, rpc: Rpc) -> None:
    """One whose queue is full is passed over, and the call goes out once."""
    from gateway.core.sessions import Slot

    device, oldest, middle, newest = await house.device(), Heard(), Heard(), Heard(takes=False)
    for outlet in (oldest, middle, newest):
        house.open(device, outlet, slot=Slot.POLL, wants_calls=True)
    await rpc.call(call_of(device, two_way=False), 5)
    assert [len(outlet.calls) for outlet in (oldest, middle, newest)] == [0, 1, 0]


async def test_an_answer_that_is_late_or_a_strangers_is_for_nobody(house: House, rpc: Rpc) -> None:
    """After the time-out the answer finds nobody; another device's answer never counts."""
    device, other, outlet = await house.device(), await house.device("other"), Heard()
    house.open(device, outlet, wants_calls=True)
    assert (await rpc.call(call_of(device), 0.01)).outcome is RpcOutcome.TIMED_OUT
    assert not await rpc.answered(device, 0, "1")
    waiting = asyncio.create_task(rpc.call(call_of(device), 0.05))
    await asyncio.sleep(0)
    assert not await rpc.answered(other, outlet.calls[-1][0], "1")
    assert (await waiting).outcome is RpcOutcome.TIMED_OUT


async def test_calls_to_one_device_are_bounded(house: House, rpc: Rpc) -> None:
    """More than may wait for one device are refused at once."""
    device = await house.device()
    house.open(device, Heard(), wants_calls=True)
    waiting = [asyncio.create_task(rpc.call(call_of(device), 5)) for _ in range(MOST_TO_ONE)]
    await asyncio.sleep(0)
    assert (await rpc.call(call_of(device), 5)).outcome is RpcOutcome.TOO_MANY
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


# ── stored calls ──────────────────────────────────────────────────────────────────────────────


async def test_a_stored_call_that_does_not_wait_ends_with_its_answer(
    house: House, rpc: Rpc
) -> None:
    """Whoever stored it reads the device's answer from the store."""
    device, outlet = await house.device(), Heard()
    house.open(device, outlet, wants_calls=True)
    call = await stored(house, device)
    await rpc.take(call.id)
    await asyncio.sleep(0)
    await rpc.answered(device, outlet.calls[0][0], '{"ok":true}')

    async def over() -> bool:
        return (await state_of(house, call)).final

    await until(over)
    kept = await house.store.stored_call(call.id)
    assert kept is not None
    assert (kept.state, kept.response) == (RpcState.SUCCESSFUL, '{"ok":true}')


async def test_a_stored_call_to_nobody_fails(house: House, rpc: Rpc) -> None:
    """A device that is not there fails a call which does not wait for it."""
    call = await stored(house, await house.device())
    await rpc.take(call.id)

    async def failed() -> bool:
        return await state_of(house, call) is RpcState.FAILED

    await until(failed)


async def test_a_persistent_call_waits_for_its_device(house: House, rpc: Rpc) -> None:
    """QUEUED while the device is away, SENT when it wants calls, DELIVERED when acknowledged, and
    SUCCESSFUL with its answer, which is on disk when `answered` returns."""
    device, outlet = await house.device(), Heard()
    call = await stored(house, device, persistent=True)
    await rpc.take(call.id)
    assert await state_of(house, call) is RpcState.QUEUED
    session = house.open(device, outlet, wants_calls=True)
    await rpc.offer(session)
    assert [number for number, _ in outlet.calls] == [FIRST_PERSISTENT + call.id]
    assert await state_of(house, call) is RpcState.SENT
    outlet.acknowledge[0]()

    async def delivered() -> bool:
        return await state_of(house, call) is RpcState.DELIVERED

    await until(delivered)
    assert await rpc.answered(device, FIRST_PERSISTENT + call.id, '"done"')
    kept = await house.store.stored_call(call.id)
    assert kept is not None
    assert (kept.state, kept.response) == (RpcState.SUCCESSFUL, '"done"')
    assert not await rpc.answered(device, FIRST_PERSISTENT + call.id, '"again"')


async def test_a_one_way_persistent_call_succeeds_with_its_acknowledgement(
    house: House, rpc: Rpc
) -> None:
    """Nothing but the acknowledgement is waited for."""
    device = await house.device()
    session = house.open(device, Heard(acknowledges=True), wants_calls=True)
    call = await stored(house, device, persistent=True, two_way=False)
    await rpc.offer(session)

    async def done() -> bool:
        return await state_of(house, call) is RpcState.SUCCESSFUL

    await until(done)


async def test_an_unacknowledged_call_is_sent_again_after_a_reconnect(
    house: House, rpc: Rpc
) -> None:
    """A call that was sent into a dying connection goes out again, with the same id, and an
    answer finds it after a restart of the process too."""
    device, first, second = await house.device(), Heard(), Heard()
    call = await stored(house, device, persistent=True)
    session = house.open(device, first, wants_calls=True)
    await rpc.take(call.id)
    await rpc.offer(session)
    assert len(first.calls) == 1, "the same session is not sent it twice"
    house.sessions.close(session)
    await rpc.offer(house.open(device, second, wants_calls=True))
    assert [number for number, _ in second.calls] == [FIRST_PERSISTENT + call.id]
    restarted = Rpc(house.sessions, house.store, house.clock)
    assert await restarted.answered(device, FIRST_PERSISTENT + call.id, "1")
    assert await state_of(house, call) is RpcState.SUCCESSFUL


async def test_retries_bound_how_often_a_call_is_sent(house: House, rpc: Rpc) -> None:
    """With one retry the third connection is not sent the call: it has failed."""
    device = await house.device()
    call = await stored(house, device, persistent=True, retries=1)
    outlets = [Heard() for _ in range(3)]
    for outlet in outlets:
        await rpc.offer(house.open(device, outlet, wants_calls=True))
    assert [len(outlet.calls) for outlet in outlets] == [1, 1, 0]
    assert await state_of(house, call) is RpcState.FAILED


async def test_another_device_cannot_answer_a_stored_call(house: House, rpc: Rpc) -> None:
    """The number of a stored call is no secret; whose it is counts."""
    device, other = await house.device(), await house.device("other")
    call = await stored(house, device, persistent=True)
    await rpc.offer(house.open(device, Heard(), wants_calls=True))
    assert not await rpc.answered(other, FIRST_PERSISTENT + call.id, "1")
    assert await state_of(house, call) is RpcState.SENT


@pytest.mark.parametrize(
    ("acknowledged", "expected"), [(False, RpcState.EXPIRED), (True, RpcState.TIMEOUT)]
)
async def test_time_ends_what_nobody_answered(
    house: House, rpc: Rpc, clock: Any, acknowledged: bool, expected: RpcState
) -> None:
    """A call never delivered expires, one never answered times out."""
    device, outlet = await house.device(), Heard(acknowledges=acknowledged)
    call = await stored(house, device, persistent=True)
    await rpc.offer(house.open(device, outlet, wants_calls=True))
    await until_marked(house, call, RpcState.DELIVERED if acknowledged else RpcState.SENT)
    clock.now += 60_001
    await house.store.end_calls(clock.now)
    assert await state_of(house, call) is expected
    assert await house.store.waiting_calls(device.id, clock.now) == []


async def until_marked(house: House, call: RpcCall, state: RpcState) -> None:
    async def there() -> bool:
        return await state_of(house, call) is state

    await until(there)


async def test_a_call_shows_no_more_than_it_must(house: House) -> None:
    """A call encodes its fields and nothing hidden; its number is 0 until it is stored."""
    call = call_of(await house.device())
    assert call.id == 0
    assert msgspec.to_builtins(call)["method"] == "blink"


async def test_a_stop_drops_what_had_no_turn_yet(rpc: Rpc) -> None:
    """Work that was begun a moment before ends without a word."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        rpc._begin(asyncio.sleep(0))
        await rpc.stop()
        gc.collect()
    assert [str(one.message) for one in told] == []
