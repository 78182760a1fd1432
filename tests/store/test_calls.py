"""Calls as they are kept, presence, and notices."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.model import (
    AttributesChange,
    AttributeScope,
    Download,
    EventKind,
    Json,
    NoticeKind,
    PackageKind,
    RpcCall,
    RpcState,
    Secret,
    Wire,
)
from gateway.core.ports import PresenceUpdate
from gateway.store.retention import Retention

pytestmark = pytest.mark.every_database

HOUR = 3_600_000


@pytest.fixture
def save(registrar, clock, event):
    def make(device, **fields):
        given = {"created_at": clock.now, "expires_at": clock.now + HOUR} | fields
        call = RpcCall(device_id=device.id, method="m", **given)
        return registrar.save_call(call, event(EventKind.DEVICE_RPC))

    return make


async def test_a_stored_call_comes_back(store, registrar, device, save, clock):
    """With its numbers and a notice; persistent ones that wait are given oldest first."""
    first = await save(device, params='{"a":1}', persistent=True, retries=3)
    third = await save(device, persistent=True)
    second = await save(device, two_way=False)
    assert (await store.stored_call(first.id)) == first
    assert len(first.uuid) == 36
    assert await store.waiting_calls(device.id, clock.now) == [first, third]
    assert await store.waiting_calls(device.id, clock.now + HOUR) == []
    assert await registrar.calls(device.id, limit=1) == [second]
    notice = (await store.notices(0, 100))[-1]
    assert (notice.kind, notice.call_id) == (NoticeKind.RPC, second.id)
    assert await store.stored_call(99) is None


async def test_nobody_is_called_who_is_not_there(registrar, save, device, event):
    """No call, no event, no notice."""
    await registrar.remove_device(device.id, event(EventKind.DEVICE_REMOVE))
    assert await save(device) is None


async def test_a_call_moves_forward_only(store, device, save):
    """Of many who deliver it one is told yes; nothing moves it back, but it may be sent again."""
    call = await save(device)
    assert await store.mark_call(call.id, RpcState.SENT)
    assert await store.mark_call(call.id, RpcState.SENT)
    marks = await asyncio.gather(*(store.mark_call(call.id, RpcState.DELIVERED) for _ in range(5)))
    assert sorted(marks) == [False] * 4 + [True]
    assert not await store.mark_call(call.id, RpcState.SENT)
    assert await store.mark_call(call.id, RpcState.SUCCESSFUL, response='{"r":1}')
    assert not await store.mark_call(call.id, RpcState.TIMEOUT)
    kept = await store.stored_call(call.id)
    assert (kept.state, kept.response) == (RpcState.SUCCESSFUL, '{"r":1}')
    assert not await store.mark_call(99, RpcState.SENT)


async def test_calls_end_with_their_time(store, device, save, clock):
    """Undelivered ones expire, delivered ones time out, and finished ones stay."""
    calls = [await save(device) for _ in range(4)]
    states = (None, RpcState.SENT, RpcState.DELIVERED, RpcState.SUCCESSFUL)
    for call, state in zip(calls, states, strict=True):
        if state:
            await store.mark_call(call.id, state)
    assert await store.end_calls(clock.now) == 0
    assert await store.end_calls(clock.now + HOUR) == 3
    ended = [(await store.stored_call(call.id)).state.value for call in calls]
    assert ended == ["EXPIRED", "EXPIRED", "TIMEOUT", "SUCCESSFUL"]


async def test_old_calls_notices_and_claims_are_swept(store, device, save, clock, event):
    """Persistent calls stay for a week, others and notices for minutes; open ones are left."""
    brief, lasting, waiting = [
        await save(device, persistent=persistent) for persistent in (False, True, True)
    ]
    for call in (brief, lasting):
        await store.mark_call(call.id, RpcState.SUCCESSFUL)
    retention = Retention(store, clock)
    offered = event(EventKind.DEVICE_CLAIM_OFFER)
    await store.offer_claim(device, Secret("k"), offered, clock.now + HOUR)
    await retention.sweep()
    assert len(await store.driver.rows("notices", 0, 100)) == 4
    assert await store.driver.rows("stored_claim", device.id)
    clock.now += 2 * HOUR
    await retention.sweep()
    assert await store.driver.rows("stored_claim", device.id) == []
    [newest] = await store.driver.rows("notices", 0, 100)
    assert newest[0] == await store.last_notice()
    kept = [await store.stored_call(call.id) is not None for call in (brief, lasting, waiting)]
    assert kept == [False, True, True]
    clock.now += 8 * 24 * HOUR
    await retention.sweep()
    kept = [await store.stored_call(call.id) is not None for call in (brief, lasting, waiting)]
    assert kept == [False, False, True]


# ── notices ───────────────────────────────────────────────────────────────────────────────────


async def test_notices_are_read_on_from_where_one_was(store, registrar, device, event):
    """Values of every kind arrive as they were; when nothing is new nothing comes."""
    begin = await store.last_notice()
    values = {"a": 1, "b": 1.0, "c": True, "d": "x", "e": Json('{"y":[1]}')}
    shared = AttributeScope.SHARED
    await registrar.change_attributes(device.id, shared, AttributesChange(values), event())
    gone = AttributesChange({}, ("a", "b", "never"))
    assert await registrar.change_attributes(device.id, shared, gone, event()) == AttributesChange(
        {}, ("a", "b")
    )
    first, second = await store.notices(begin, 10)
    assert first.kind is NoticeKind.ATTRIBUTES
    assert first.change == AttributesChange(values)
    assert [type(value) for value in first.change.values.values()] == [int, float, bool, str, Json]
    assert second.change == AttributesChange({}, ("a", "b"))
    assert await store.last_notice() == second.seq
    assert await store.notices(second.seq, 10) == []
    assert await store.notices(begin, 1) == [first]


async def test_what_changes_nothing_tells_nothing(store, registrar, device, event, told):
    """Deleting what is not there writes no event and no notice; scopes of others tell nobody."""
    begin = await store.last_notice()
    gone = AttributesChange({}, ("never",))
    changed = await registrar.change_attributes(device.id, AttributeScope.SHARED, gone, event())
    assert changed == AttributesChange()
    assert await told(EventKind.DEVICE_ATTRIBUTES) == []
    server = AttributesChange({"k": 1})
    await registrar.change_attributes(device.id, AttributeScope.SERVER, server, event())
    assert len(await told(EventKind.DEVICE_ATTRIBUTES)) == 1
    assert await store.last_notice() == begin
    assert await registrar.change_attributes(99, AttributeScope.SHARED, server, event()) is None


async def test_profiles_and_removals_are_told(store, registry, registrar, new_fleet, event):
    """A saved profile, a rotated ticket and a removed device write a notice each."""
    fleet = await new_fleet()
    device = await fleet.waiting("x")
    await registry.rotate_secret(fleet.profile)
    await registrar.remove_device(device.id, event(EventKind.DEVICE_REMOVE))
    told = [(one.kind, one.profile_id, one.device_id) for one in await store.notices(0, 10)]
    profile = (NoticeKind.PROFILE, fleet.profile.id, None)
    assert told == [profile, profile, (NoticeKind.REMOVED, None, device.id)]


# ── presence ──────────────────────────────────────────────────────────────────────────────────


async def test_presence_is_written_as_far_as_it_is_known(store, registrar, device, clock):
    """What is not given stays, and the time of activity never goes back."""
    node, now = await store.enter_node(clock.now), clock.now
    here = PresenceUpdate(
        active_at=now, online=True, connected_at=now, wire="mqtt", address="a", gateway_id=7
    )
    await store.save_presence(node, {device.id: here, 99: here}, now)
    await store.save_presence(node, {device.id: PresenceUpdate(active_at=now - 5)}, now)
    found = await registrar.presence([device.id, 99], now)
    assert found.keys() == {device.id}
    one = found[device.id]
    assert (one.online, one.connected_at, one.disconnected_at) == (True, now, 0)
    assert (one.active_at, one.wire, one.address, one.gateway_id) == (now, Wire.MQTT, "a", 7)
    left = PresenceUpdate(active_at=now + 1, online=False, disconnected_at=now + 1)
    await store.save_presence(node, {device.id: left}, now)
    one = (await registrar.presence([device.id], now))[device.id]
    assert (one.online, one.disconnected_at, one.wire) == (False, now + 1, Wire.MQTT)


async def test_a_session_that_moved_is_not_ended_by_the_old_node(store, registrar, device, clock):
    """The device is with the second node when the first says that it left."""
    first, second = await store.enter_node(clock.now), await store.enter_node(clock.now)
    assert second > first
    now = clock.now
    came = PresenceUpdate(active_at=now, online=True, connected_at=now)
    left = PresenceUpdate(active_at=now, online=False, disconnected_at=now)
    await store.save_presence(first, {device.id: came}, now)
    await store.save_presence(second, {device.id: came}, now)
    await store.save_presence(first, {device.id: left}, now)
    one = (await registrar.presence([device.id], now))[device.id]
    assert (one.online, one.disconnected_at) == (True, 0)
    await store.save_presence(second, {device.id: left}, now)
    assert not (await registrar.presence([device.id], now))[device.id].online


async def test_a_device_is_elsewhere_while_the_other_process_lives(store, device, clock):
    """Not at the process that asks, not when it left, and not when the other was killed."""
    first, second = await store.enter_node(clock.now), await store.enter_node(clock.now)
    now = clock.now
    assert not await store.is_elsewhere(device.id, first, now)
    came = PresenceUpdate(active_at=now, online=True, connected_at=now)
    await store.save_presence(second, {device.id: came}, now)
    assert await store.is_elsewhere(device.id, first, now)
    assert not await store.is_elsewhere(device.id, second, now)
    assert not await store.is_elsewhere(device.id, first, now + HOUR)
    left = PresenceUpdate(active_at=now, online=False, disconnected_at=now)
    await store.save_presence(second, {device.id: left}, now)
    assert not await store.is_elsewhere(device.id, first, now)


async def test_devices_of_a_dead_node_are_offline(store, registrar, new_fleet, clock):
    """After 15 s without a word, and for good once a day later another node begins."""
    fleet = await new_fleet()
    here, away = await fleet.waiting("here"), await fleet.waiting("away")
    node = await store.enter_node(clock.now)
    update = PresenceUpdate(active_at=clock.now, online=True)
    await store.save_presence(node, {here.id: update}, clock.now)

    async def online(now):
        page = await registrar.devices(
            after_id=0, limit=10, profile_id=fleet.profile.id, text="", online_at=now
        )
        return [one.device.name for one in page]

    assert await online(clock.now + 15_000) == ["here"]
    assert await online(clock.now + 15_001) == []
    assert not (await registrar.presence([here.id, away.id], clock.now + 15_001))[here.id].online
    clock.now += 2 * 86_400_000
    await store.enter_node(clock.now)
    rows = await store.driver.rows("presence", f"[{here.id}]")
    assert rows[0][1:3] == (0, None)


async def test_what_is_kept_for_a_device_goes_with_it(store, registrar, device, save, clock, event):
    """Nothing of a removed device stays, and nothing late is written for it."""
    node = await store.enter_node(clock.now)
    update = {device.id: PresenceUpdate(active_at=clock.now, online=True)}
    done = Download(kind=PackageKind.FIRMWARE, package_id=1, sent=5, at=clock.now)
    await save(device)
    await store.offer_claim(
        device, Secret("k"), event(EventKind.DEVICE_CLAIM_OFFER), clock.now + HOUR
    )
    await store.save_presence(node, update, clock.now)
    await store.save_downloads({device.id: [done]})
    await store.writer.settled()
    assert await registrar.downloads(device.id) == [done]
    await registrar.remove_device(device.id, event(EventKind.DEVICE_REMOVE))
    await store.save_presence(node, update, clock.now)
    await store.save_downloads({device.id: [done]})
    await store.writer.settled()
    assert await registrar.downloads(device.id) == []
    assert await registrar.calls(device.id, limit=9) == []
    assert await registrar.presence([device.id], clock.now) == {}
    assert await store.driver.rows("stored_claim", device.id) == []
