"""Forgets what is older than the settings say, a little at a time, beside the traffic."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeAlias

import structlog

from gateway.core.approvals import KEEP_MS
from gateway.core.errors import Overloaded, StoreUnavailable
from gateway.core.model import DeviceProfile, Event, EventKind, Peer, Wire
from gateway.core.ports import Clock
from gateway.store.certificates import ForgetCertificates
from gateway.store.chain import Chain
from gateway.store.devices import ForgetDevice
from gateway.store.driver import Transaction
from gateway.store.expiring import ExpireDevices
from gateway.store.records import profile_from_row
from gateway.store.reprovisionings import ForgetReadings
from gateway.store.sql_store import SqlStore
from gateway.store.tickets import ExpireTickets
from gateway.store.writer import SingleDecision

log = structlog.get_logger()

_DAY_MS = 86_400_000
_SERIES_PER_STEP = 200
_ROWS_PER_STEP = 2000
"""Rows deleted in one transaction: some milliseconds, between which devices are served."""
_DEVICES_PER_STEP = 50
"""Removed in one transaction: each takes some twenty statements."""
_PAUSE_S = 0.05
"""Between two steps, so that a sweep over a large store stays a minor part of the writing."""


_MINUTE_MS = 60_000
_NOTICES_MS = 10 * _MINUTE_MS
"""A gateway reads notices many times a second; one that missed ten minutes of them was stopped,
and begins anew."""
_CALLS_MS = 10 * _MINUTE_MS
"""How long after its end a call that does not wait for its device is kept: its caller, who waits
for it, reads how it ended within seconds."""
_PERSISTENT_CALLS_MS = 7 * _DAY_MS
"""The same for a persistent one, which is looked up by people, after a weekend."""

_PEER = Peer(Wire.SHELL, "retention")

Series: TypeAlias = list[tuple[int, str, int]]
"""Devices, keys, and the time before which their readings are forgotten."""


class _ForgetReadings(SingleDecision[Series]):
    """Forgets some old readings of some series. Gives the series that may have more."""

    __slots__ = ("series",)

    def __init__(self, series: Series) -> None:
        self.series = series

    async def decide(self, tx: Transaction) -> Series:
        left = _ROWS_PER_STEP
        for done, (device_id, key, before) in enumerate(self.series):
            left -= len(await tx.fetch("forget_readings", device_id, key, before, left))
            if left <= 0:
                return self.series[done:]
            await tx.fetch("forget_orphans", device_id, key)
        return []


class _Forget(SingleDecision[bool]):
    """Runs a statement that forgets some old rows. True when there may be more."""

    __slots__ = ("name", "params")

    def __init__(self, name: str, *params: int) -> None:
        self.name = name
        self.params = params

    async def decide(self, tx: Transaction) -> bool:
        return len(await tx.fetch(self.name, *self.params, _ROWS_PER_STEP)) == _ROWS_PER_STEP


class _ForgetEvents(SingleDecision[int]):
    """Forgets events up to the first that is younger than `before`. Gives how many."""

    __slots__ = ("before", "chain", "now")

    def __init__(self, chain: Chain, before: int, now: int) -> None:
        self.chain = chain
        self.before = before
        self.now = now

    async def decide(self, tx: Transaction) -> int:
        rows = await tx.fetch("forget_events", self.before, _ROWS_PER_STEP, self.now + _DAY_MS)
        if rows:
            await self.chain.forget(tx, rows)
        return len(rows)


class Retention:
    """`readings_keep_days` and `events_keep_days`, enforced every `every_s` seconds.

    A profile's own `readings_keep_days` stands above the store's. Devices whose time is over are
    removed. Calls that ended, claims, tickets and grants of programs that expired and notices go
    after times of their own, as do answers that may be repeated no more, what a device was armed
    with, and what was to be told to hooks that are no more; so do serial numbers that were reserved
    for nothing, and certificates `events_keep_days` after their end, or after the longest grace
    that a profile gives if that is longer.

    The newest event always stays, so that sequence numbers never start again; that events were
    forgotten is an event itself, once a day. The latest value
    of a key is kept for ever: it is the device's state, not its history.
    """

    def __init__(
        self,
        store: SqlStore,
        clock: Clock,
        *,
        readings_keep_days: float = 7,
        events_keep_days: float = 90,
        every_s: float = 60,
    ) -> None:
        self._store = store
        self._clock = clock
        self._readings_ms = int(readings_keep_days * _DAY_MS)
        self._events_ms = int(events_keep_days * _DAY_MS)
        self._every_s = every_s
        self._swept = 0
        self._swept_told = 0

    async def run(self) -> None:
        """Sweep for ever. A full disk or a busy writer only postpones it."""
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self.sweep()
            except (StoreUnavailable, Overloaded) as exc:
                log.warning("retention.postponed", reason=str(exc))

    async def sweep(self) -> None:
        """One pass over all that grows old."""
        now = self._clock()
        profiles = [profile_from_row(row) for row in await self._store.driver.rows("profiles")]
        await self._expire_devices(now)
        await self._sweep_readings(now, profiles)
        await self._forget_events(now)
        await self._forget("forget_notices", now - _NOTICES_MS)
        await self._forget("forget_calls", 0, now - _CALLS_MS)
        await self._forget("forget_calls", 1, now - _PERSISTENT_CALLS_MS)
        await self._forget("forget_claims", now)
        await self._forget("forget_grants", now)
        for name in ("forget_retries", "forget_armings", "forget_reprovisionings"):
            await self._forget(name, now)
        await self._forget_reset()
        await self._forget("forget_admission_entries")
        await self._forget("forget_approvals", now - KEEP_MS)
        await self._forget("forget_unfollowed")
        while await self._store.writer.submit(ExpireTickets(now, _ROWS_PER_STEP)):
            await asyncio.sleep(_PAUSE_S)
        await self._forget_certificates("forget_reservations", now)
        # What may be renewed yet is known until it may not.
        grace_ms = max((one.certificate.grace_days for one in profiles), default=0) * _DAY_MS
        ended_before = now - max(self._events_ms, grace_ms)
        await self._forget_certificates("forget_issued", ended_before)
        await self._forget_certificates("forget_revoked", now - self._events_ms)

    async def _expire_devices(self, now: int) -> None:
        """Devices whose time is over, with all they ever said."""
        while True:
            expire = ExpireDevices(now, _DEVICES_PER_STEP, _PEER)
            gone = await self._store.writer.submit(expire)
            for number in gone:
                while await self._store.writer.submit(ForgetDevice(number)):
                    await asyncio.sleep(_PAUSE_S)
            if gone:
                log.info("devices.expired", devices=len(gone))
            if len(gone) < _DEVICES_PER_STEP:
                return
            await asyncio.sleep(_PAUSE_S)

    async def _forget_events(self, now: int) -> None:
        while True:
            forget = _ForgetEvents(self._store.chain, now - self._events_ms, now)
            forgotten = await self._store.writer.submit(forget)
            self._swept += forgotten
            # A step deletes all but one of those it looks at.
            if forgotten < _ROWS_PER_STEP - 1:
                break
            await asyncio.sleep(_PAUSE_S)
        if self._swept and now >= self._swept_told + _DAY_MS:
            await self._store.record(_swept_event(now, self._swept))
            self._swept, self._swept_told = 0, now

    async def _forget(self, name: str, *params: int) -> None:
        while await self._store.writer.submit(_Forget(name, *params)):
            await asyncio.sleep(_PAUSE_S)

    async def _forget_reset(self) -> None:
        """Readings of devices that were reset."""
        for device_id, until in await self._store.driver.rows("forgetting", _ROWS_PER_STEP):
            while await self._store.writer.submit(ForgetReadings(device_id, until)):
                await asyncio.sleep(_PAUSE_S)

    async def _forget_certificates(self, name: str, before: int) -> None:
        while await self._store.writer.submit(ForgetCertificates(name, before, _ROWS_PER_STEP)):
            await asyncio.sleep(_PAUSE_S)

    async def _sweep_readings(self, now: int, profiles: Sequence[DeviceProfile]) -> None:
        kept_ms = {
            one.id: one.readings_keep_days * _DAY_MS
            for one in profiles
            if one.readings_keep_days is not None
        }
        after: tuple[int, str] = (0, "")
        while True:
            rows = await self._store.driver.rows("series_after", *after, _SERIES_PER_STEP)
            if not rows:
                return
            after = rows[-1][:2]
            series = [
                (int(device_id), str(key), now - kept_ms.get(profile_id, self._readings_ms))
                for device_id, key, profile_id in rows
            ]
            while series := await self._store.writer.submit(_ForgetReadings(series)):
                await asyncio.sleep(_PAUSE_S)
            await asyncio.sleep(_PAUSE_S)


def _swept_event(now: int, events: int) -> Event:
    return Event(kind=EventKind.AUDIT_SWEEP, at=now, peer=_PEER, detail={"events": str(events)})
