"""One connection of a device or gateway, as this dialect uses it (contract, section 7)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from gateway.core.limits import Allowance
from gateway.core.ports import Clock
from gateway.dialects.blynk.topics import DIAG
from gateway.wire.call import Link

TAKEN_OVER: Final = 0x8E
NOT_AUTHORIZED: Final = 0x87
ADMINISTRATIVE: Final = 0x98
"""MQTT 5 reason codes of an end from this side."""

_NOTES_AT_ONCE: Final = 20
_NOTES_PER_S: Final = 2.0
"""How many mistakes are explained: who makes one with each message is not told of each."""


class Line:
    """Says things unasked, while the connection is open, and ends it.

    Used as a context while a claim is under way: an end waits for the answer to it, so that of many
    who claim one token at once each hears how it went.
    """

    __slots__ = ("_busy", "_clock", "_due", "_link", "_notes")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._notes: Allowance | None = None  # made when first needed: most are never told
        self._link: Link | None = None
        self._busy = 0
        self._due: tuple[int, str] | None = None

    def open(self, link: Link) -> None:
        self._link = link

    def close(self) -> None:
        """The connection is over. Let go, so that it is freed at once."""
        self._link = None

    @property
    def link(self) -> Link | None:
        """None before it is open, once it is over, and when it is about to be ended."""
        return self._link if self._due is None else None

    def push(
        self,
        topic: str,
        body: bytes,
        delivered: Callable[[], None] | None = None,
        *,
        unasked: int = 0,
    ) -> bool:
        """`unasked` is the quality without a subscription. See `Link.push`."""
        return self._link is not None and self._link.push(topic, body, delivered, unasked=unasked)

    def note(self, text: str, *, topic: str = DIAG) -> None:
        """Tell the developer of a device what is wrong, unless that was done often lately."""
        if self._link is None:
            return
        if self._notes is None:
            self._notes = Allowance(_NOTES_AT_ONCE, _NOTES_PER_S)
        if self._notes.take(self._clock()):
            self._link.push(topic, text.encode(), unasked=0)

    # ── the end ─────────────────────────────────────────────────────────────────────────────

    def shut(self, code: int, reason: str = "") -> None:
        """End the connection: behind the answer to a claim under way, else at once.

        A claim that came with the CONNECT has its turn before.
        """
        if self._link is not None:
            asyncio.get_running_loop().call_soon(self._end, code, reason)

    def _end(self, code: int, reason: str) -> None:
        if self._busy:
            self._due = code, reason
        elif self._link is not None:
            self._link.close(code, reason)

    def __enter__(self) -> None:
        self._busy += 1

    def __exit__(self, *exc: object) -> None:
        self._busy -= 1
        if self._due is not None:
            self.shut(*self._due)
