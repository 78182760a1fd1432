"""Hours of a week at which devices may come: `Mon-Fri 07:00-19:00 Europe/Berlin`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Final

from msgspec import Struct

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_MINUTES: Final = 24 * 60
_MOST_CHARACTERS: Final = 128
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SHAPE: Final = re.compile(
    r"\s*(?:(?P<days>[A-Za-z][A-Za-z,\- ]*?)\s+)?"
    r"(?P<begin>\d{1,2}:\d\d)\s*-\s*(?P<end>\d{1,2}:\d\d)(?:\s+(?P<zone>\S+))?\s*",
    re.ASCII,
)


class Hours(Struct, frozen=True):
    """Hours of some days, Monday being 0. `begin` and `end` are minutes of the day; hours that go
    past midnight are those of the day on which they begin."""

    days: frozenset[int]
    begin: int
    end: int
    zone: tzinfo

    def hold(self, now: int) -> bool:
        """Whether it is that time, at `now` (ms), by the clocks of the zone."""
        there = (_EPOCH + timedelta(milliseconds=now)).astimezone(self.zone)
        day, minute = there.weekday(), there.hour * 60 + there.minute
        if self.begin < self.end:
            return day in self.days and self.begin <= minute < self.end
        if minute >= self.begin:
            return day in self.days
        return minute < self.end and (day - 1) % 7 in self.days

    def next(self, now: int) -> int:
        """When they begin the next time after `now` (both ms)."""
        today = (_EPOCH + timedelta(milliseconds=now)).astimezone(self.zone).date()
        opening = time(self.begin // 60, self.begin % 60)
        for later in range(9):
            day = today + timedelta(days=later)
            if day.weekday() not in self.days:
                continue
            begins = round(datetime.combine(day, opening, self.zone).timestamp() * 1000)
            if begins > now:
                return begins
        raise AssertionError("hours are of one day of the week at least")


def hours_of(text: str) -> Hours:
    """Days (`Mon`, `Mon-Fri`, `Sat,Sun`; none: all), hours, and a zone (none: UTC).

    `22:00-06:00` is over midnight. Raises `ValueError` with a sentence.
    """
    found = _SHAPE.fullmatch(text) if len(text) <= _MOST_CHARACTERS else None
    if found is None:
        raise ValueError("write days, hours and a zone, as in Mon-Fri 07:00-19:00 Europe/Berlin")
    begin, end = _minutes(found["begin"]), _minutes(found["end"])
    if begin in (end, _DAY_MINUTES):
        raise ValueError("they begin when they end; the whole day is 00:00-24:00")
    return Hours(_days(found["days"]), begin, end, _zone(found["zone"]))


def check_hours(text: str) -> None:
    """Raises `ValueError` for what is no `Mon-Fri 07:00-19:00 Europe/Berlin`."""
    hours_of(text)


def _minutes(text: str) -> int:
    hours, minutes = map(int, text.split(":"))
    if minutes > 59 or hours * 60 + minutes > _DAY_MINUTES:
        raise ValueError(f"{text} is no time of day")
    return hours * 60 + minutes


def _days(text: str | None) -> frozenset[int]:
    if text is None:
        return frozenset(range(7))
    days: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        begin = _day(first)
        end = _day(last) if dash else begin
        days |= {(begin + after) % 7 for after in range((end - begin) % 7 + 1)}
    return frozenset(days)


def _day(text: str) -> int:
    try:
        return _DAYS.index(text.strip().lower())
    except ValueError:
        raise ValueError("days are Mon, Tue, Wed, Thu, Fri, Sat and Sun") from None


def _zone(name: str | None) -> tzinfo:
    if name is None or name in ("UTC", "Z"):
        return UTC
    # Few profiles name one.
    from zoneinfo import ZoneInfo, available_timezones

    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):  # as zoneinfo says: a folder, a path, not there
        pass
    if not available_timezones():
        raise ValueError(
            "this machine has no time zones: install tzdata, or write the hours in UTC"
        )
    raise ValueError("this machine has no such time zone; write one like Europe/Berlin, or UTC")
