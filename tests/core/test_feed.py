"""The feed: what is changed in the store reaches the sessions of the process."""

from __future__ import annotations

import asyncio

import pytest
from outlets import Heard, House

from gateway.core.feed import Feed
from gateway.core.model import (
    AccessToken,
    AttributesChange,
    AttributeScope,
    Event,
    EventKind,
    Peer,
    RpcCall,
    Secret,
    Wire,
)
from gateway.core.oauth_store import OAuthClient
from gateway.core.rpc import Rpc
from gateway.core.sessions import Cause
from gateway.store.sql_oauth import SqlOAuth
from gateway.store.sql_people import SqlPeople
from gateway.store.sql_registrar import SqlRegistrar
from gateway.store.sql_store import SqlStore

CHANGE = AttributesChange({"rate": 5}, ("old",))


@pytest.fixture
def feed(house: House) -> Feed:
    return Feed(house.store, house.sessions, Rpc(house.sessions, house.store, house.clock))


@pytest.fixture
def registrar(store: SqlStore) -> SqlRegistrar:
    return SqlRegistrar(store)


def event(kind: EventKind, device_id: int | None = None) -> Event:
    return Event(kind=kind, at=1, peer=Peer(Wire.SHELL, "tester"), device_id=device_id)


async def test_a_changed_attribute_is_told_once(
    house: House, feed: Feed, registrar: SqlRegistrar
) -> None:
    """A shared change reaches the subscriber, in the shape it was made, and only once."""
    device, outlet = await house.device(), Heard()
    house.open(device, outlet, wants_attributes=True)
    told = event(EventKind.DEVICE_ATTRIBUTES, device.id)
    await registrar.change_attributes(device.id, AttributeScope.SHARED, CHANGE, told)
    await feed.look()
    await feed.look()
    assert [change.values for change in outlet.changes] == [{"rate": 5}]


async def test_server_attributes_are_nobodys_business(
    house: House, feed: Feed, registrar: SqlRegistrar
) -> None:
    """A change in server scope is not told to the device."""
    device, outlet = await house.device(), Heard()
    house.open(device, outlet, wants_attributes=True)
    told = event(EventKind.DEVICE_ATTRIBUTES, device.id)
    await registrar.change_attributes(device.id, AttributeScope.SERVER, CHANGE, told)
    await feed.look()
    assert outlet.changes == []


async def test_a_change_for_a_profile_reaches_all_its_devices(
    house: House, feed: Feed, registrar: SqlRegistrar
) -> None:
    """One statement, one notice, every subscriber."""
    outlets = [Heard() for _ in range(5)]
    profile_id = 0
    for number, outlet in enumerate(outlets):
        device = await house.device(f"d{number}")
        profile_id = device.profile_id
        house.open(device, outlet, wants_attributes=True)
    told = event(EventKind.DEVICE_ATTRIBUTES)
    changed = await registrar.change_profile_attributes(
        profile_id, AttributeScope.SHARED, AttributesChange({"rate": 5}), told
    )
    await feed.look()
    assert changed == 5
    assert [outlet.changes for outlet in outlets] == [[AttributesChange({"rate": 5})]] * 5


async def test_new_credentials_and_removal_end_the_session(
    house: House, feed: Feed, registrar: SqlRegistrar
) -> None:
    """Each for its own cause."""
    one, other = await house.device("one"), await house.device("other")
    first, second = Heard(), Heard()
    house.open(one, first)
    house.open(other, second)
    fresh = AccessToken(Secret("another-token-000001"))
    await registrar.replace_credentials(one.id, fresh, event(EventKind.DEVICE_CREDENTIALS, one.id))
    await registrar.remove_device(other.id, event(EventKind.DEVICE_REMOVE, other.id))
    await feed.look()
    assert (first.ends, second.ends) == ([Cause.CREDENTIALS_CHANGED], [Cause.REMOVED])


async def test_a_session_with_the_new_credentials_survives_the_notice(
    house: House, feed: Feed, registrar: SqlRegistrar
) -> None:
    """The device may be back with its new login before the notice is read."""
    device, outlet = await house.device(), Heard()
    fresh = AccessToken(Secret("another-token-000001"))
    told = event(EventKind.DEVICE_CREDENTIALS, device.id)
    await registrar.replace_credentials(device.id, fresh, told)
    known = await house.store.find_credentials(fresh.token)
    assert known is not None
    house.open(known.device, outlet)
    await feed.look()
    assert outlet.ends == []


async def test_a_revoked_client_is_told_by_its_number(house: House) -> None:
    """To whoever keeps its connections."""
    revoked: list[int] = []
    rpc = Rpc(house.sessions, house.store, house.clock)
    feed = Feed(house.store, house.sessions, rpc, client_revoked=revoked.append)
    root = await SqlPeople(house.store).organisation_numbered(1)
    assert root is not None
    oauth, draft = (
        SqlOAuth(house.store),
        OAuthClient(name="n", label="l", organisation=root, scopes=frozenset()),
    )
    client = await oauth.add_client(
        draft, Secret("s"), event(EventKind.OAUTH_CLIENT_CREATE), most=1
    )
    await feed.look()
    assert revoked == []
    await oauth.remove_client(client, event(EventKind.OAUTH_CLIENT_REVOKE))
    await feed.look()
    await feed.look()
    assert revoked == [client.id]


async def test_a_stored_call_is_made(house: House, feed: Feed, registrar: SqlRegistrar) -> None:
    """A call that a shell stored reaches the device."""
    device, outlet = await house.device(), Heard()
    house.open(device, outlet, wants_calls=True)
    call = RpcCall(device_id=device.id, method="blink", expires_at=house.clock() + 60_000)
    await registrar.save_call(call, event(EventKind.DEVICE_RPC, device.id))
    await feed.look()
    async with asyncio.timeout(5):
        while not outlet.calls:
            await asyncio.sleep(0.005)
    assert outlet.calls[0][1].method == "blink"


async def test_what_happened_before_the_begin_is_not_told(
    house: House, feed: Feed, registrar: SqlRegistrar
) -> None:
    """A gateway that starts does not push what was changed while it was down: devices ask."""
    device, outlet = await house.device(), Heard()
    told = event(EventKind.DEVICE_ATTRIBUTES, device.id)
    await registrar.change_attributes(device.id, AttributeScope.SHARED, CHANGE, told)
    await feed.begin()
    house.open(device, outlet, wants_attributes=True)
    assert await feed.look() == []
    assert outlet.changes == []


async def test_a_running_feed_hears_of_a_change_within_moments(
    house: House, feed: Feed, registrar: SqlRegistrar
) -> None:
    """Nobody needs to nudge it."""
    device, outlet = await house.device(), Heard()
    house.open(device, outlet, wants_attributes=True)
    running = asyncio.create_task(feed.run())
    told = event(EventKind.DEVICE_ATTRIBUTES, device.id)
    await registrar.change_attributes(device.id, AttributeScope.SHARED, CHANGE, told)
    async with asyncio.timeout(5):
        while not outlet.changes:
            await asyncio.sleep(0.005)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
