"""A session's other side that remembers what it was told, and devices to open sessions for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from gateway.core.model import (
    AttributesChange,
    Device,
    Event,
    EventKind,
    Peer,
    Provisioned,
    RpcCall,
    RpcState,
    Wire,
)
from gateway.core.presence import Attendance
from gateway.core.sessions import Cause, Session, Sessions
from gateway.store.sql_registrar import SqlRegistrar
from gateway.store.sql_store import SqlStore

PEER = Peer(Wire.MQTT, "192.0.2.7:50123")


class Heard:
    """An outlet. `takes` is whether it can send calls; `acknowledges`, whether at once."""

    def __init__(self, *, takes: bool = True, acknowledges: bool = False) -> None:
        self.takes = takes
        self.acknowledges = acknowledges
        self.changes: list[AttributesChange] = []
        self.calls: list[tuple[int, RpcCall]] = []
        self.acknowledge: list[Callable[[], None]] = []
        self.ends: list[Cause] = []
        self.profiles_changed = 0

    def attributes_changed(self, change: AttributesChange) -> None:
        self.changes.append(change)

    def call(self, request_id: int, call: RpcCall, delivered: Callable[[], None]) -> bool:
        if not self.takes:
            return False
        self.calls.append((request_id, call))
        self.acknowledge.append(delivered)
        if self.acknowledges:
            delivered()
        return True

    def profile_changed(self) -> None:
        self.profiles_changed += 1

    def end(self, cause: Cause) -> None:
        self.ends.append(cause)


class House:
    """Sessions over a real store, and devices of one fleet."""

    def __init__(self, store: SqlStore, clock: Callable[[], int], fleet: Any) -> None:
        self.store = store
        self.clock = clock
        self.attendance = Attendance(store, clock)
        self.sessions = Sessions(self.attendance)
        self._fleet = fleet

    async def device(self, name: str = "meter") -> Device:
        added = await self._fleet.registry.add_device(self._fleet.profile, name)
        assert isinstance(added, Provisioned)
        known = await self._fleet.registry.device(name)
        assert known is not None
        return known.device

    def open(self, device: Device, outlet: Heard, **more: Any) -> Session:
        return self.sessions.open(device, PEER, outlet, **more)


# ── trouble, and calls in the store ───────────────────────────────────────────────────────────

SHELL = Peer(Wire.SHELL, "tester")


@asynccontextmanager
async def unwritable(store: SqlStore) -> AsyncIterator[None]:
    """The database takes no writes, as on a full disk."""

    async def query_only(flag: int) -> None:
        writer = store.driver._open_writer()  # type: ignore[attr-defined]
        await writer.run(lambda db: db.execute(f"PRAGMA query_only = {flag}").fetchall())

    await query_only(1)
    try:
        yield
    finally:
        await query_only(0)


@asynccontextmanager
async def running(work: Any) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(5):
        while not await true():
            await asyncio.sleep(0.005)


def event(kind: EventKind, device: Device) -> Event:
    return Event(kind=kind, at=1, peer=SHELL, device_id=device.id)


async def stored(house: House, device: Device, **more: Any) -> RpcCall:
    now = house.clock()
    call = RpcCall(
        device_id=device.id,
        method="blink",
        created_at=now,
        **{"expires_at": now + 60_000, "persistent": True, **more},
    )
    saved = await SqlRegistrar(house.store).save_call(call, event(EventKind.DEVICE_RPC, device))
    assert saved is not None
    return saved


async def state_of(house: House, call: RpcCall) -> RpcState:
    found = await house.store.stored_call(call.id)
    assert found is not None
    return found.state
