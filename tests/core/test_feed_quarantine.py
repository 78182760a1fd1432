"""A quarantine reaches the sessions of the process, also of those that were let in before it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from outlets import Heard, House

from gateway.core import feed as feeds
from gateway.core.errors import StoreUnavailable
from gateway.core.feed import Feed
from gateway.core.fleet_custody import FleetSecrets
from gateway.core.model import (
    Actor,
    Device,
    FleetTicket,
    Organisation,
    Peer,
    Permission,
    Provisioned,
    Wire,
)
from gateway.core.provisioning import Provisioner
from gateway.core.registry import Registry
from gateway.core.rpc import Rpc
from gateway.core.sessions import Cause
from gateway.core.tokens import new_token
from gateway.store.retention import Retention
from gateway.store.sql_fleet_tickets import SqlFleetTickets
from gateway.store.sql_store import SqlStore

OPERATOR = Actor(
    peer=Peer(Wire.SHELL, "tester", actor="tester"),
    organisation=Organisation(id=1, uuid="", name="root", path="/1/"),
    permissions=frozenset(Permission),
)


@pytest.fixture
def forgotten() -> list[int]:
    return []


@pytest.fixture
async def feed(house: House, forgotten: list[int]) -> AsyncIterator[Feed]:
    """One that runs, as in a gateway."""
    rpc = Rpc(house.sessions, house.store, house.clock)
    made = Feed(house.store, house.sessions, rpc, forget=lambda: forgotten.append(1))
    await made.begin()
    running = asyncio.create_task(made.run())
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
def secrets(store: SqlStore, clock: Any) -> FleetSecrets:
    return FleetSecrets(SqlFleetTickets(store), clock=clock, new_token=new_token)


@pytest.fixture
async def born(provisioner: Provisioner, house: House) -> list[Device]:
    fleet = house._fleet
    results = [await provisioner.provision(fleet.request(f"b{n}")) for n in range(3)]
    assert all(isinstance(one, Provisioned) for one in results)
    return [one.device for one in results if isinstance(one, Provisioned)]


def ticket_of(house: House) -> FleetTicket:
    ticket: FleetTicket = house._fleet.ticket
    return ticket


async def until(what: Any) -> None:
    async with asyncio.timeout(5):
        while not what():
            await asyncio.sleep(0.01)


async def test_sessions_of_the_suspended_end(
    house: House,
    feed: Feed,
    secrets: FleetSecrets,
    born: list[Device],
    forgotten: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All of them, in chunks, and nobody else's; what was kept of logins is forgotten first; and
    with the release they may come again at once."""
    monkeypatch.setattr(feeds, "MOST_ASKED", 2)
    heard = {one.id: Heard() for one in born}
    for device in born:
        house.open(device, heard[device.id])
    bystander = Heard()
    house.open(await house.device("bystander"), bystander)
    await secrets.quarantine(OPERATOR, ticket_of(house))
    feed.nudge()
    await until(lambda: all(one.ends for one in heard.values()))
    assert [one.ends for one in heard.values()] == [[Cause.CREDENTIALS_CHANGED]] * 3
    assert bystander.ends == []
    assert forgotten
    await secrets.release(OPERATOR, ticket_of(house))
    await feed.look()
    again = Heard()
    house.open(born[0], again)
    await feed.look()
    assert again.ends == []


async def test_a_session_that_began_meanwhile_ends_too(
    house: House,
    feed: Feed,
    secrets: FleetSecrets,
    born: list[Device],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its login was looked at before the quarantine, and it opened after the first look."""
    monkeypatch.setattr(feeds, "ONCE_MORE_S", 0.2)
    seen = await house.store.last_notice()
    await secrets.quarantine(OPERATOR, ticket_of(house))
    await until(lambda: feed._seen > seen)
    late = Heard()
    house.open(born[0], late)
    assert late.ends == []
    await until(lambda: late.ends)
    assert not feed._once_more


async def test_who_missed_what_was_forgotten_begins_anew(
    house: House, store: SqlStore, secrets: FleetSecrets, born: list[Device], clock: Any
) -> None:
    """A gateway that stood still for longer than notices are kept: the quarantine was among them,
    or something else. All its sessions end, once, and what was kept of logins is forgotten."""
    forgotten: list[int] = []
    rpc = Rpc(house.sessions, store, clock)
    missed: list[int] = []
    feed = Feed(
        store,
        house.sessions,
        rpc,
        forget=lambda: forgotten.append(1),
        missed=lambda: missed.append(1),
    )
    await feed.begin()
    suspended, bystander = Heard(), Heard()
    house.open(born[0], suspended)
    house.open(await house.device("bystander"), bystander)
    await secrets.quarantine(OPERATOR, ticket_of(house))
    await secrets.release(OPERATOR, ticket_of(house))
    clock.now += 11 * 60_000
    await Retention(store, clock).sweep()
    await feed.look()
    assert suspended.ends == bystander.ends == [Cause.CREDENTIALS_CHANGED]
    assert forgotten
    assert missed == [1]
    again = Heard()
    house.open(born[0], again)
    await secrets.quarantine(OPERATOR, ticket_of(house))
    await secrets.release(OPERATOR, ticket_of(house))
    clock.now += 9 * 60_000
    await Retention(store, clock).sweep()
    await feed.look()
    assert again.ends == []


class Out(Rpc):
    """Cannot look calls up: its store is gone again."""

    async def take(self, call_id: int) -> None:
        raise StoreUnavailable("gone")


async def test_who_begins_anew_does_so_once(
    house: House,
    store: SqlStore,
    registry: Registry,
    secrets: FleetSecrets,
    born: list[Device],
    clock: Any,
) -> None:
    """Also where the first notice that is left cannot be heeded at once: it is looked at twenty
    times a second, and nobody may be logged out as often."""
    feed = Feed(store, house.sessions, Out(house.sessions, store, clock))
    await feed.begin()
    await secrets.quarantine(OPERATOR, ticket_of(house))
    await secrets.release(OPERATOR, ticket_of(house))
    clock.now += 11 * 60_000
    known = await store.known_device(born[0].id)
    assert known is not None
    await registry.calls.save(known, "open", lasts_s=60)
    await Retention(store, clock).sweep()
    heard = []
    for _ in range(2):
        heard.append(Heard())
        house.open(born[0], heard[-1])
        with pytest.raises(StoreUnavailable):
            await feed.look()
    assert [one.ends for one in heard] == [[Cause.CREDENTIALS_CHANGED], []]
