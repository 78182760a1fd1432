"""Whose names are in an allow-list, asked for by many at once with one statement.

Each look-up of its own opens a view of the database and reads its pages anew, since births change
it all the while: 45 us of the 210 that a birth with a nonce took, with a million names. Those who
ask within one turn of the loop share one.
"""

from __future__ import annotations

import asyncio

import msgspec

from gateway.core.errors import StoreUnavailable
from gateway.store.driver import Driver
from gateway.store.queries import listed

_MOST_TOGETHER = 500
_names = msgspec.json.Decoder(list[str])


class _Asked:
    """Names that wait for the next look."""

    __slots__ = ("found", "names")

    def __init__(self, found: asyncio.Future[frozenset[str]]) -> None:
        self.names: list[str] = []
        self.found = found


class NamesTogether:
    """One for a process. At most 500 names are looked up together."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._asked: dict[int, _Asked] = {}
        self._looks: set[asyncio.Task[None]] = set()

    async def is_allowed(self, profile_id: int, name: str) -> bool:
        """Whether the name is in the profile's allow-list. Raises `StoreUnavailable`."""
        asked = self._asked.get(profile_id)
        if asked is None or len(asked.names) >= _MOST_TOGETHER:
            asked = _Asked(asyncio.get_running_loop().create_future())
            self._asked[profile_id] = asked
            look = asyncio.create_task(self._look(profile_id, asked))
            self._looks.add(look)
            look.add_done_callback(self._looks.discard)
        asked.names.append(name)
        # Who goes away, because it took too long, must not take the others' answer along.
        return name in await asyncio.shield(asked.found)

    async def _look(self, profile_id: int, asked: _Asked) -> None:
        if self._asked.get(profile_id) is asked:
            del self._asked[profile_id]
        try:
            row = await self._driver.point("allowed_names", profile_id, listed(asked.names))
        except StoreUnavailable as exc:
            if not asked.found.done():
                asked.found.set_exception(exc)
                asked.found.exception()  # those who wait for it raise it; nobody may be left
            return
        names = _names.decode(row[0]) if row is not None and row[0] else []
        if not asked.found.done():
            asked.found.set_result(frozenset(names))
