"""Sessions and calls over the real store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from outlets import House

from gateway.core import rpc as calls
from gateway.core.rpc import Rpc
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
