"""When each device was last heard of, gathered here and written in batches.

What is shown to people may be some seconds old; what a process knew when it was killed is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from gateway.core.errors import GatehouseError
from gateway.core.model import Peer
from gateway.core.ports import Clock, PresenceUpdate, Store

log = structlog.get_logger()

WRITE_EVERY_S = 1.0
"""Connects and disconnects are written this often."""
ACTIVITY_EVERY = 5
"""Every so many writes the times of last activity go along: a row for each active device."""
ALIVE_EVERY = 5
"""Every so many times something is written though nothing happened: this process lives."""
MOST_PER_WRITE = 2_000
"""Devices in one write; the others wait for the next."""


class Attendance:
    """Notes who comes, speaks and goes. `node` is the number of this process, once it entered."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._active: dict[int, int] = {}
        self._changed: dict[int, PresenceUpdate] = {}
        self._writes = 0
        self.node = 0

    def heard(self, device_id: int) -> None:
        """The device said something. On every message: one entry in a dictionary."""
        self._active[device_id] = self._clock()

    def connected(self, device_id: int, peer: Peer, gateway_id: int | None) -> None:
        now = self._clock()
        update = self._update(device_id, now)
        update.online = True
        update.connected_at = now
        update.wire, update.address = peer.wire.value, peer.address
        if gateway_id is not None:
            update.gateway_id = gateway_id

    def disconnected(self, device_id: int) -> None:
        now = self._clock()
        update = self._update(device_id, now)
        update.online = False
        update.disconnected_at = now

    def _update(self, device_id: int, now: int) -> PresenceUpdate:
        update = self._changed.get(device_id)
        if update is None:
            update = self._changed[device_id] = PresenceUpdate(active_at=now)
        return update

    async def enter(self) -> None:
        """This process begins. Raises what the store raises."""
        self.node = await self._store.enter_node(self._clock())

    async def run(self) -> None:
        """Write what was noted, again and again, until cancelled."""
        while True:
            await asyncio.sleep(WRITE_EVERY_S)
            try:
                await self.write()
            except GatehouseError as exc:
                log.debug("presence.not_written", reason=str(exc))
            except Exception:
                log.exception("presence.failed")

    async def write(self, *, everything: bool = False) -> None:
        """Write connects and disconnects, and from time to time, or with `everything`, activity."""
        self._writes += 1
        if everything or self._writes % ACTIVITY_EVERY == 0:
            self._gather_activity()
        if not self._changed and not everything and self._writes % ALIVE_EVERY:
            return
        while True:
            part = dict(list(self._changed.items())[:MOST_PER_WRITE])
            for device_id in part:
                del self._changed[device_id]
            try:
                await self._store.save_presence(self.node, part, self._clock())
            except Exception:
                self._put_back(part)
                raise
            if not self._changed:
                return

    def _put_back(self, part: Mapping[int, PresenceUpdate]) -> None:
        """What was not written, under what was learned meanwhile."""
        for device_id, older in part.items():
            newer = self._changed.get(device_id)
            if newer is None:
                self._changed[device_id] = older
                continue
            for name in PresenceUpdate.__struct_fields__:
                if getattr(newer, name) is None:
                    setattr(newer, name, getattr(older, name))

    def _gather_activity(self) -> None:
        active, self._active = self._active, {}
        for device_id, at in active.items():
            update = self._update(device_id, at)
            update.active_at = max(update.active_at, at)
