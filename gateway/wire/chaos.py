"""Answers that go astray, so that firmware can be tried against it. For development alone.

What a request asked for is done and on disk by then: only its answer is dropped, comes late, or
comes twice. What the wires make of that is in `gateway.transports.chaos`.
"""

from __future__ import annotations

import random
from typing import Final

import structlog
from msgspec import Struct

from gateway.core.model import Wire

log = structlog.get_logger()

_OF_DEVICES: Final = ("thingsboard.", "blynk.", "est.")
_OF_PEOPLE: Final = (".admin.", ".platform.", ".oauth.")


class Mischief(Struct, frozen=True, kw_only=True):
    """What is done to answers. `drop` and `duplicate` are percent of them.

    Each is held back for a time between `least_delay_s` and `most_delay_s`. With a `seed` the same
    is done to the same answers in the same order. `only`: routes whose name holds this word; ""
    means all that devices ask for, and nothing that people do.
    """

    drop: float = 0.0
    duplicate: float = 0.0
    least_delay_s: float = 0.0
    most_delay_s: float = 0.0
    seed: int | None = None
    only: str = ""


class Fate(Struct, frozen=True):
    """What becomes of one answer."""

    drop: bool = False
    twice: bool = False
    delay_s: float = 0.0


UNHARMED: Final = Fate()


class Chaos:
    """Draws the fate of each answer, and says so in the log."""

    def __init__(self, mischief: Mischief) -> None:
        self._mischief = mischief
        self._random = random.Random(mischief.seed)  # noqa: S311 - mischief, not a secret

    def concerns(self, route: str) -> bool:
        """Whether answers of the route with this name may go astray."""
        word = self._mischief.only
        if word:
            return word in route
        return route.startswith(_OF_DEVICES) and not any(part in route for part in _OF_PEOPLE)

    def fate(self, route: str, wire: Wire, peer: str) -> Fate:
        """What becomes of the next answer, which goes to `peer`."""
        if not self.concerns(route):
            return UNHARMED
        fate = self._draw(can_repeat=wire.plain is not Wire.HTTP)
        if fate.drop:
            log.warning("chaos.dropped", route=route, wire=wire, peer=peer)
            return fate
        if fate.delay_s:
            ms = round(fate.delay_s * 1000)
            log.warning("chaos.delayed", route=route, wire=wire, peer=peer, ms=ms)
        if fate.twice:
            log.warning("chaos.duplicated", route=route, wire=wire, peer=peer)
        return fate

    def _draw(self, *, can_repeat: bool) -> Fate:
        """Always three draws, so that one setting does not change what another one does."""
        mischief, draw = self._mischief, self._random.random
        drop, twice, late = draw() * 100, draw() * 100, draw()
        span_s = mischief.most_delay_s - mischief.least_delay_s
        return Fate(
            drop=drop < mischief.drop,
            twice=can_repeat and twice < mischief.duplicate,
            delay_s=mischief.least_delay_s + late * span_s,
        )
