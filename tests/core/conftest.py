"""Sessions, calls and an inventory over the real store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from inventory_ground import Ground
from outlets import House

from gateway.core import rpc as calls
from gateway.core.inventory import Inventory
from gateway.core.model import Event, EventKind
from gateway.core.rpc import Rpc
from gateway.store.sql_registrar import SqlRegistrar
from gateway.store.sql_store import SqlStore


@pytest.fixture
async def house(store: SqlStore, clock: Any, new_fleet: Callable[..., Any]) -> House:
    return House(store, clock, await new_fleet())


@pytest.fixture
async def rpc(house: House, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rpc]:
    """One that tries again and sweeps without making anybody wait."""
    monkeypatch.setattr(calls, "RETRY_S", 0.01)
    monkeypatch.setattr(calls, "SWEEP_EVERY_S", 0.01)
    made = Rpc(house.sessions, house.store, house.clock)
    yield made
    await made.stop()


@pytest.fixture
async def ground(store: SqlStore, clock: Any, tokens: Callable[[], str]) -> Ground:
    return await Ground(store, clock, tokens).begin()


@pytest.fixture
def inventory(ground: Ground) -> Inventory:
    return ground.inventory


@pytest.fixture
def events(store: SqlStore) -> Callable[[EventKind], Awaitable[list[Event]]]:
    """Finds the events of a kind, oldest first."""

    async def find(kind: EventKind) -> list[Event]:
        found = await SqlRegistrar(store).events(after_seq=0, limit=1000, device_id=None)
        return [one for one in found if one.kind is kind]

    return find
