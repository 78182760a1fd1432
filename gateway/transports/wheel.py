"""Many deadlines under one timer: the wheel that says whose time has come."""

from __future__ import annotations

from math import inf
from typing import Any, Protocol


class Timed(Protocol):
    """What a `Wheel` carries. `slot` is the wheel's; -1 means it is not on it."""

    slot: int


class Wheel:
    """Deadlines by the tick, coarse on purpose: one timer for any number of connections.

    A member sits in one slot. Only an earlier deadline moves it; one that grew later is found out
    when the slot comes up. So activity costs nothing here.
    """

    __slots__ = ("_next", "_slots", "_tick_s")

    def __init__(self, tick_s: float, now: float) -> None:
        self._tick_s = tick_s
        self._slots: dict[int, set[Any]] = {}
        self._next = int(now / tick_s)

    def place(self, member: Timed, deadline: float) -> None:
        """See that `member` comes up within a tick after `deadline`, or earlier."""
        if deadline == inf:
            return
        slot = max(int(deadline / self._tick_s) + 1, self._next)
        if member.slot >= 0:
            if member.slot <= slot:
                return
            self.drop(member)
        member.slot = slot
        self._slots.setdefault(slot, set()).add(member)

    def drop(self, member: Timed) -> None:
        """Take `member` off, wherever it is."""
        number, member.slot = member.slot, -1
        slot = self._slots.get(number)
        if slot is not None:
            slot.discard(member)
            if not slot:
                del self._slots[number]

    def due(self, now: float) -> list[Any]:
        """Take off and return all whose slot has come."""
        found: list[Any] = []
        last = int(now / self._tick_s)
        while self._next <= last:
            found.extend(self._slots.pop(self._next, ()))
            self._next += 1
        for member in found:
            member.slot = -1
        return found
