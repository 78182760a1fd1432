"""Forgets what is older than the settings say, a little at a time, beside the traffic."""

from __future__ import annotations

import asyncio
from typing import TypeAlias

import structlog

from gateway.core.errors import Overloaded, StoreUnavailable
from gateway.core.ports import Clock
from gateway.store.driver import Transaction
from gateway.store.sql_store import SqlStore
from gateway.store.writer import SingleDecision

log = structlog.get_logger()

_DAY_MS = 86_400_000
_SERIES_PER_STEP = 200
_ROWS_PER_STEP = 2000
"""Rows deleted in one transaction: some milliseconds, between which devices are served."""
_PAUSE_S = 0.05
"""Between two steps, so that a sweep over a large store stays a minor part of the writing."""


Series: TypeAlias = list[tuple[int, str]]
"""Devices and keys."""


class _ForgetReadings(SingleDecision[Series]):
    """Forgets some old readings of some series. Gives the series that may have more."""

    __slots__ = ("before", "series")

    def __init__(self, series: Series, before: int) -> None:
        self.series = series
        self.before = before

    async def decide(self, tx: Transaction) -> Series:
        left = _ROWS_PER_STEP
        for done, (device_id, key) in enumerate(self.series):
            left -= len(await tx.fetch("forget_readings", device_id, key, self.before, left))
            if left <= 0:
                return self.series[done:]
            await tx.fetch("forget_orphans", device_id, key)
        return []


class _ForgetEvents(SingleDecision[bool]):
    """Forgets some old events. True when there may be more."""

    __slots__ = ("before",)

    def __init__(self, before: int) -> None:
        self.before = before

    async def decide(self, tx: Transaction) -> bool:
        return bool(await tx.fetch("forget_events", self.before, _ROWS_PER_STEP))


class Retention:
    """`readings_keep_days` and `events_keep_days`, enforced every `every_s` seconds.

    The newest event always stays, so that sequence numbers never start again. The latest value
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

    async def run(self) -> None:
        """Sweep for ever. A full disk or a busy writer only postpones it."""
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self.sweep()
            except (StoreUnavailable, Overloaded) as exc:
                log.warning("retention.postponed", reason=str(exc))

    async def sweep(self) -> None:
        """One pass over all series and the oldest events."""
        await self._sweep_readings(self._clock() - self._readings_ms)
        while await self._store.writer.submit(_ForgetEvents(self._clock() - self._events_ms)):
            await asyncio.sleep(_PAUSE_S)

    async def _sweep_readings(self, before: int) -> None:
        after: tuple[int, str] = (0, "")
        while True:
            rows = await self._store.driver.rows("series_after", *after, _SERIES_PER_STEP)
            series = [(int(row[0]), str(row[1])) for row in rows]
            if not series:
                return
            after = series[-1]
            while series := await self._store.writer.submit(_ForgetReadings(series, before)):
                await asyncio.sleep(_PAUSE_S)
            await asyncio.sleep(_PAUSE_S)
