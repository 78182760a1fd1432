"""A breaker: who failed several times on end is left alone for a while."""

from __future__ import annotations

from typing import Final

FAILURES: Final = 5
"""On end, after which it opens."""
FIRST_MS: Final = 10_000
MOST_MS: Final = 300_000
"""How long it stays open: at first, and at most. It doubles each time."""


class Breaker:
    """Closed: all may call. Open: nobody. After a while one may try, and that decides.

    Whoever was let through by `enter` says how it ended: `right`, `wrong`, or `leave` when nobody
    knows. Times are milliseconds.
    """

    __slots__ = ("_failures", "_lasts", "_since", "_trying")

    def __init__(self) -> None:
        self._failures = 0
        self._since = 0
        self._lasts = 0
        self._trying = False

    @property
    def is_open(self) -> bool:
        """Whether it was opened and nobody was right since."""
        return self._lasts > 0

    def wait(self, now: int) -> int:
        """How long until one may call: 0 for now. While one tries, the others wait a second."""
        if not self._lasts:
            return 0
        if self._trying:
            return 1000
        # A clock that was set back does not keep it open for longer.
        return max(0, min(self._since + self._lasts - now, self._lasts))

    def enter(self, now: int) -> bool:
        """Whether this one may call. When it was open, it is the one that tries."""
        if self.wait(now):
            return False
        self._trying = self._lasts > 0
        return True

    def right(self) -> bool:
        """It answered. Whether that closed it."""
        was_open = self.is_open
        self._failures = self._lasts = 0
        self._trying = False
        return was_open

    def wrong(self, now: int) -> bool:
        """It failed. Whether that opened it for the first time."""
        self._failures += 1
        if self._trying:
            self._trying = False
            self._since, self._lasts = now, min(2 * self._lasts, MOST_MS)
            return False
        if self.is_open or self._failures < FAILURES:
            return False  # those that began before it opened say nothing new
        self._since, self._lasts = now, FIRST_MS
        return True

    def leave(self) -> None:
        """Whoever called went away before it was known how it ends."""
        self._trying = False
