"""How often something may go wrong under one name: a bounded table of allowances."""

from __future__ import annotations

from collections import OrderedDict

from gateway.core.limits import Bucket, Rate


class Throttle:
    """One `Rate` for each name. At most `most` names are remembered, those used last.

    Who asks pays afterwards: `wait` takes nothing, `spend` does. Times are milliseconds.
    """

    __slots__ = ("_known", "_most", "_rate")

    def __init__(self, rate: Rate, *, most: int) -> None:
        if most < 1:
            raise ValueError("most must be at least 1")
        self._rate = rate
        self._most = most
        self._known: OrderedDict[str, Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def wait(self, name: str, now: int) -> int:
        """How long until it may be tried under this name: 0 for now."""
        bucket = self._known.get(name)
        return 0 if bucket is None else bucket.wait(1, now)

    def spend(self, name: str, now: int) -> None:
        """It went wrong."""
        bucket = self._known.get(name)
        if bucket is None:
            self._make_room(now)
            bucket = self._known[name] = Bucket(self._rate)
        self._known.move_to_end(name)
        if not bucket.wait(1, now):
            bucket.spend(1, now)

    def forget(self, name: str) -> None:
        """It went right: what went wrong before counts no more."""
        self._known.pop(name, None)

    def _make_room(self, now: int) -> None:
        """Forget two that have nothing to tell, else the one not used for the longest time."""
        known = self._known
        for _ in range(2):
            if known and next(iter(known.values())).full(now):
                known.popitem(last=False)
        if len(known) >= self._most:
            known.popitem(last=False)
