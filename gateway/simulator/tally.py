"""Counting answers and their times."""

from __future__ import annotations

import time
from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

_MOST_SAMPLES: Final = 5_000_000
"""Latencies kept, 8 bytes each: those of a load of a minute, and 40 MB at most."""
_MOST_KINDS: Final = 16
"""Different sentences kept; further ones are counted together."""


class Measured(Struct, frozen=True):
    """What came of one load. `busy` is the share of a core the load itself took."""

    answered: int
    failed: int
    seconds: float
    p50_ms: float
    p99_ms: float
    busy: float

    @property
    def rate(self) -> float:
        """Good answers per second."""
        return self.answered / self.seconds if self.seconds else 0.0


class Tally:
    """Counts answers of one load while it is `open`."""

    __slots__ = ("_began", "_cpu", "_samples", "answered", "failed", "open", "under_way")

    def __init__(self) -> None:
        self._samples = array("d")
        self._began = self._cpu = 0.0
        self.answered = 0
        self.failed = 0
        self.under_way = 0
        self.open = False

    def begin(self) -> None:
        self.open = True
        self._cpu = time.process_time()
        self._began = time.perf_counter()

    def count(self, asked_at: float, *, good: bool) -> None:
        """An answer came. Those after the end are not counted: the rate would be flattered."""
        self.under_way -= 1
        if not self.open:
            return
        if not good:
            self.failed += 1
            return
        self.answered += 1
        if len(self._samples) < _MOST_SAMPLES:
            self._samples.append(time.perf_counter() - asked_at)

    def end(self) -> Measured:
        self.open = False
        seconds = time.perf_counter() - self._began
        samples = sorted(self._samples)
        return Measured(
            answered=self.answered,
            failed=self.failed,
            seconds=seconds,
            p50_ms=percentile(samples, 0.50) * 1000,
            p99_ms=percentile(samples, 0.99) * 1000,
            busy=min(1.0, (time.process_time() - self._cpu) / seconds),
        )


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` of `ordered` lies; 0 of nothing."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def count(kinds: Counter[str], said: str) -> None:
    """Count by what was said; a gateway that says something new each time fills no memory."""
    kinds[said if said in kinds or len(kinds) < _MOST_KINDS else "other"] += 1
