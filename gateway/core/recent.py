"""What was looked up a moment ago, for those who ask for the same thing again and again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

from gateway.core.ports import Clock

T = TypeVar("T")

FRESH_MS: Final = 1000
"""How long what was found is known without another look."""
MOST_KEPT: Final = 10_000


class Recent(Generic[T]):
    """Numbered things as they were up to `FRESH_MS` ago; what is not there is looked for anew.

    For what is decided once more where it is written.
    """

    def __init__(self, find: Callable[[int], Awaitable[T | None]], clock: Clock) -> None:
        self._find = find
        self._clock = clock
        self._kept: dict[int, tuple[T, int]] = {}

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._kept)

    async def find(self, number: int) -> T | None:
        now = self._clock()
        kept = self._kept.get(number)
        if kept is not None and 0 <= now - kept[1] < FRESH_MS:
            return kept[0]
        found = await self._find(number)
        if found is None:
            self._kept.pop(number, None)
            return None
        if len(self._kept) >= MOST_KEPT:
            self._kept.clear()
        self._kept[number] = found, now
        return found

    def forget(self, number: int) -> None:
        """It may be another by now."""
        self._kept.pop(number, None)
