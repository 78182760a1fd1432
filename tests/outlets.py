"""A session's other side that remembers what it was told, and devices to open sessions for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.core.model import AttributesChange, Device, Peer, Provisioned, RpcCall, Wire
from gateway.core.presence import Attendance
from gateway.core.sessions import Cause, Session, Sessions
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
