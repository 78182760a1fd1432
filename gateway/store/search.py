"""Finding devices by a part of their name or label among a million, on SQLite.

An FTS5 index of trigrams names candidates; whoever searches looks at each device itself, so that
what is gone or renamed may stay in the index. It is filled behind the traffic, some thousands at a
time: nobody's birth pays for it. Devices that are not in it yet are looked through one by one.

Measured on a million devices: 5 µs a device to fill, half a millisecond for a rare text.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import structlog

from gateway.core.errors import Overloaded, StoreUnavailable
from gateway.store.driver import Driver, Transaction
from gateway.store.listing import pattern_of
from gateway.store.writer import SingleDecision

if TYPE_CHECKING:
    from gateway.store.sql_store import SqlStore

log = structlog.get_logger()

MOST_CANDIDATES = 10_000
"""Devices that are looked at one by one, in ten or twenty milliseconds. What more have is found
soon by walking along the list itself."""
MOST_PROFILES = 200
"""Profiles in whose names a text is found; more are left out."""
_MOST_TRIGRAMS = 16
"""Of one text; enough to leave hardly a wrong candidate."""
_MOST_TERMS = 200
"""Trigrams that begin with the one or two signs of a text."""
_SAMPLE, _MOST_IN_SAMPLE = 8000, 80
"""A text of one or two characters is rare when fewer of the newest devices have it."""
_STEP = 2000
"""Devices that are indexed in one transaction: ten milliseconds."""
_PAUSE_S = 0.05
"""Between two steps, so that devices are served in between."""

_json = msgspec.json.Encoder()


def can_occur(text: str) -> bool:
    """Whether a name could have this in it: names are no longer, and have no such characters."""
    return (
        len(text) <= 255 and "\x00" not in text and not any("\ud800" <= c <= "\udfff" for c in text)
    )


def match_of(text: str) -> str:
    """What `MATCH` takes to find, among others, all that contains `text`, of 3 signs or more, in
    any case."""
    trigrams = dict.fromkeys(text[at : at + 3] for at in range(len(text) - 2))
    return " AND ".join(_quoted(one) for one in list(trigrams)[:_MOST_TRIGRAMS])


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


async def candidates(driver: Driver, text: str, profiles: list[int]) -> list[int] | None:
    """The devices that may have `text` in their name or label, and all of `profiles`.

    None when they are more than `MOST_CANDIDATES`, or the index cannot tell.
    """
    most = MOST_CANDIDATES + 1
    pattern = pattern_of(text)
    match = match_of(text) if len(text) > 2 else await _match_of_few_signs(driver, text)
    if match is None:
        return None
    rows = await driver.rows("devices_found", match, most) if match else []
    if len(rows) < most:
        rows += await driver.rows("devices_not_indexed_with_text", pattern, most - len(rows))
    if profiles and len(rows) < most:
        listed = _json.encode(profiles).decode()
        rows += await driver.rows("devices_of_profiles", listed, most - len(rows))
    return list({row[0] for row in rows}) if len(rows) < most else None


async def _match_of_few_signs(driver: Driver, text: str) -> str | None:
    """The same for one or two signs: any of the trigrams that begin with them ("": there is none).

    None when many devices have them, or they are not ASCII, whose case we know how to fold.
    """
    newest = (await driver.rows("some_with_text", pattern_of(text), _SAMPLE))[0][0]
    if newest >= _MOST_IN_SAMPLE or not text.isascii():
        return None
    rows = await driver.rows("trigrams_that_begin", text.lower(), _MOST_TERMS + 1)
    return " OR ".join(_quoted(row[0]) for row in rows) if len(rows) <= _MOST_TERMS else None


async def index_again(tx: Transaction, device_ids: Sequence[int]) -> None:
    """The names or labels of these changed: whoever changes one says so in its transaction."""
    await tx.fetch("index_again", _json.encode(device_ids).decode())


class IndexDevices(SingleDecision[int]):
    """Puts the next devices into the index; how many."""

    __slots__ = ()

    async def decide(self, tx: Transaction) -> int:
        last, many = (await tx.fetch("next_to_index", _STEP))[0]
        if many:
            await tx.fetch("index_devices", last)
            await tx.fetch("indexed_to", last)
        return int(many)


class SearchIndexer:
    """Keeps the index near its end: a step whenever `_STEP` devices are new."""

    def __init__(self, store: SqlStore, *, every_s: float = 5) -> None:
        self._store = store
        self._every_s = every_s

    async def run(self) -> None:
        """For ever; at once what is missing. A busy or full store only postpones it."""
        if self._store.driver.database != "sqlite":
            return
        while True:
            try:
                await self.catch_up()
            except (StoreUnavailable, Overloaded) as exc:
                log.debug("search.postponed", reason=str(exc))
            await asyncio.sleep(self._every_s)

    async def catch_up(self, *, everything: bool = False) -> None:
        """Index what is new, in whole steps; or all of it."""
        while True:
            _, many = (await self._store.driver.rows("next_to_index", _STEP))[0]
            if not many or (many < _STEP and not everything):
                return
            await self._store.writer.submit(IndexDevices())
            await asyncio.sleep(_PAUSE_S)
