"""Calls of devices' methods, stored by people."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.model import EventKind, NoticeKind, RpcState

pytestmark = pytest.mark.every_database


@pytest.fixture
async def known(registry, new_fleet):
    fleet = await new_fleet()
    await fleet.waiting("d")
    return await registry.device("d")


async def test_a_call_is_awaited_to_its_end(registry, store, known):
    """Whoever waits sees the answer that a gateway wrote, and no longer than it takes."""
    call = await registry.calls.save(known, "m", "[1]", lasts_s=10)
    assert (call.state, call.expires_at - call.created_at) == (RpcState.QUEUED, 10_000)
    waiting = asyncio.create_task(registry.calls.end_of(call, 5))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await store.mark_call(call.id, RpcState.SUCCESSFUL, response="42")
    ended = await waiting
    assert (ended.state, ended.response) == (RpcState.SUCCESSFUL, "42")
    assert await registry.calls.of(known) == [ended]
    [event] = await registry.last_events(limit=1)
    assert (event.kind, event.detail) == (EventKind.DEVICE_RPC, {"method": "m"})


async def test_a_call_nobody_takes_is_given_back_as_it_is(registry, known):
    """After the time it is still waiting in the store."""
    call = await registry.calls.save(known, "m", lasts_s=60, persistent=True, retries=2)
    assert await registry.calls.end_of(call, 0.05) == call
    assert (call.persistent, call.retries) == (True, 2)


async def test_a_call_is_found_by_its_name_and_forgotten_once(store, registry, known):
    """After that its device never gets it; the event says which it was."""
    call = await registry.calls.save(known, "reboot", lasts_s=60, persistent=True)
    assert await registry.calls.named(call.uuid) == call
    assert await registry.calls.named("8d8b4b1e-0000-4000-8000-000000000000") is None
    assert await registry.calls.remove(known, call)
    assert not await registry.calls.remove(known, call)
    assert await store.waiting_calls(known.device.id, 0) == []
    event = (await registry.last_events(limit=1))[0]
    assert (event.kind, event.detail["removed"]) == (EventKind.DEVICE_RPC, call.uuid)
    assert NoticeKind.RPC in {one.kind for one in await store.notices(0, 99)}
