"""How often something may happen, by the generic cell rate algorithm (ITU-T I.371)."""

from __future__ import annotations


class Allowance:
    """`at_once` in a row, then `per_s` a second. Times are milliseconds, handed in."""

    __slots__ = ("_apart_ms", "_due", "_missed", "_slack_ms")

    def __init__(self, at_once: int, per_s: float) -> None:
        self._apart_ms = 1000 / per_s
        self._slack_ms = self._apart_ms * (at_once - 1)
        self._due = 0.0
        self._missed = 0

    def take(self, now: int) -> bool:
        """Whether it may happen now. What may not is counted."""
        due = max(self._due, now)
        if due - now > self._slack_ms:
            self._missed += 1
            return False
        self._due = due + self._apart_ms
        return True

    def forget_missed(self) -> int:
        """How many were not allowed since this was last asked."""
        missed, self._missed = self._missed, 0
        return missed
