"""A line chart made of Braille dots: two columns and four rows of dots in each character."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final

_DOTS: Final = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""The bits of a Braille character's dots, by column and row (Unicode, U+2800 and following)."""
_BLANK: Final = 0x2800
HEIGHT: Final = 8


def chart(points: Sequence[tuple[int, float]], width: int, height: int = HEIGHT) -> list[str]:
    """Lines of text that show `points` (ms, value) in the order of time; none for fewer than two.

    `width` and `height` are characters, and hold the labels of the values too.
    """
    points = [point for point in points if math.isfinite(point[1])]
    if len(points) < 2:
        return []
    low, high = min(value for _, value in points), max(value for _, value in points)
    labels = [f"{high:.6g}", *[""] * (height - 2), f"{low:.6g}"]
    margin = max(map(len, labels)) + 1
    columns = max(width - margin - 1, 10)
    rows = _drawn(points, low, high, columns, height)
    lines = [f"{label:>{margin - 1}} ┤{row}" for label, row in zip(labels, rows, strict=True)]
    return [*lines, " " * margin + " " + _ends(points[0][0], points[-1][0], columns)]


def _drawn(
    points: Sequence[tuple[int, float]], low: float, high: float, columns: int, height: int
) -> list[str]:
    cells = [[_BLANK] * columns for _ in range(height)]
    places = [_place(point, points, low, high, columns * 2, height * 4) for point in points]
    for near, far in pairwise(places):
        for x, y in _line(near, far):
            cells[y // 4][x // 2] |= _DOTS[x % 2][y % 4]
    return ["".join(map(chr, row)).rstrip(chr(_BLANK)) for row in cells]


def _place(
    point: tuple[int, float],
    points: Sequence[tuple[int, float]],
    low: float,
    high: float,
    width: int,
    height: int,
) -> tuple[int, int]:
    """Where a point stands, in dots from the upper left."""
    first, last = points[0][0], points[-1][0]
    across = (point[0] - first) / max(last - first, 1)
    # Halved, for the span of two large values may be no number.
    span = high / 2 - low / 2
    up = (point[1] / 2 - low / 2) / span if span else 0.5
    return round(across * (width - 1)), round((1 - up) * (height - 1))


def _line(near: tuple[int, int], far: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """The dots from one place to another."""
    steps = max(abs(far[0] - near[0]), abs(far[1] - near[1]), 1)
    for step in range(steps + 1):
        part = step / steps
        yield (
            round(near[0] + (far[0] - near[0]) * part),
            round(near[1] + (far[1] - near[1]) * part),
        )


def _ends(first: int, last: int, columns: int) -> str:
    """The times of the first and the last point, as far apart as there is room."""
    try:
        begin, end = (datetime.fromtimestamp(at / 1000, UTC) for at in (first, last))
    except (OverflowError, ValueError, OSError):
        return ""
    form = "%H:%M:%S" if begin.date() == end.date() else "%Y-%m-%d %H:%M"
    left, right = f"{begin:{form}}", f"{end:{form}}"
    return f"{left}{right:>{max(columns - len(left), len(right) + 1)}}"
