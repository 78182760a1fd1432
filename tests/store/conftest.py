"""What the store's tests share: a registrar, a device, events."""

from __future__ import annotations

import pytest

from gateway.core.model import Event, EventKind, Outcome, Peer, Wire
from gateway.store.sql_registrar import SqlRegistrar


@pytest.fixture
def registrar(store):
    return SqlRegistrar(store)


@pytest.fixture
async def device(new_fleet):
    fleet = await new_fleet()
    return await fleet.waiting("d")


@pytest.fixture
def event(clock):
    """Makes an event of now."""

    def make(kind: EventKind = EventKind.DEVICE_ATTRIBUTES, **fields: object) -> Event:
        return Event(kind=kind, at=clock.now, peer=Peer(Wire.SHELL, "tester"), **fields)

    return make


@pytest.fixture
def told(registrar):
    """The events of a kind so far: their outcomes and reasons, and devices."""

    async def find(kind: EventKind) -> list[tuple[Outcome, str, int | None]]:
        events = await registrar.events(after_seq=0, limit=1000, device_id=None)
        return [(one.outcome, one.reason, one.device_id) for one in events if one.kind is kind]

    return find
