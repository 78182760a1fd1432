"""A distribution in whole numbers: cheap enough for every call, and read by whoever measures."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

SECONDS: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""Bounds for times, from what a call takes in memory to what a device waits for at most."""
SIZES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
"""Bounds for how many of something came together."""


class Histogram:
    """How often a value was at most each of `bounds`, which ascend; the last count is of the rest.

    `total` is the sum of all values. Kept by one thread; another may read it at any time.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[int]:
        """How many values were at most each bound, and in all."""
        summed, so_far = [], 0
        for count in self.counts:
            so_far += count
            summed.append(so_far)
        return summed
