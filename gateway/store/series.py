"""Readings put together by interval: what SQL counted, as one value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.core.model import Aggregation, Reading, SeriesQuery
from gateway.store.driver import Row

_MOST_WHOLE = 2**63
_HALF = 2**32


def interval_of(query: SeriesQuery) -> int:
    """The length of an interval in ms; without one the whole time is one interval."""
    return query.interval_ms if query.interval_ms > 0 else max(query.until - query.since, 1)


def reading_from_interval(query: SeriesQuery, row: Row) -> Reading:
    """A row of `reading_intervals` as a reading at the begin of its interval."""
    nth, counted, *numbers = row
    ts = query.since + int(nth) * interval_of(query)
    if query.aggregation is Aggregation.COUNT:
        return Reading(ts, query.key, counted)
    return Reading(ts, query.key, _value(query.aggregation, numbers))


def _value(aggregation: Aggregation, numbers: list[Any]) -> int | float:
    """The average is real; the others are whole where all readings were."""
    wholes, reals, least, most, high, low, least_real, most_real, total_real = numbers
    match aggregation:
        case Aggregation.MIN:
            return _one_of(min, least, least_real)
        case Aggregation.MAX:
            return _one_of(max, most, most_real)
    total = int(high or 0) * _HALF + int(low or 0)
    if aggregation is Aggregation.AVG:
        return _sum(total, total_real) / int(wholes + reals)
    fits = -_MOST_WHOLE <= total < _MOST_WHOLE
    return total if fits and not reals else _sum(total, total_real)


def _sum(total: int, total_real: float | None) -> float:
    return float(total) + (total_real or 0.0)


def _one_of(
    choose: Callable[[int | float, int | float], int | float], whole: int | None, real: float | None
) -> int | float:
    """The least or greatest of both kinds; real as soon as one reading was."""
    if real is None:
        assert whole is not None, "an interval without numbers"
        return whole
    if whole is None:
        return real
    return float(choose(whole, real))
