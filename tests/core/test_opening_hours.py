"""Hours at which devices may come: by the clocks of their zone, over midnight, or refused."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.opening_hours import check_hours, hours_of

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def at(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


@pytest.mark.parametrize(
    ("hours", "open_at", "closed_at"),
    [
        # 2026-12-07 is a Monday.
        ("07:00-19:00", "2026-12-13T07:00Z", "2026-12-13T19:00Z"),
        ("Mon-Fri 07:00-19:00", "2026-12-11T18:59Z", "2026-12-12T12:00Z"),
        ("Fri-Mon 07:00-19:00 UTC", "2026-12-07T12:00Z", "2026-12-08T12:00Z"),
        ("Sat, Sun 00:00-24:00", "2026-12-13T23:59Z", "2026-12-14T00:00Z"),
        ("sat,sun 8:00-9:00", "2026-12-12T08:30Z", "2026-12-12T07:59Z"),
        ("Mon-Fri 07:00-19:00 Europe/Berlin", "2026-12-07T06:00Z", "2026-12-07T18:00Z"),
        ("Mon-Fri 07:00-19:00 Europe/Berlin", "2026-07-06T05:00Z", "2026-07-06T17:00Z"),
        ("22:00-06:00", "2026-12-07T23:00Z", "2026-12-07T06:00Z"),
        ("22:00-06:00", "2026-12-07T05:59Z", "2026-12-07T21:59Z"),
        ("Mon 22:00-06:00", "2026-12-08T05:00Z", "2026-12-07T05:00Z"),
        ("Sun 22:00-06:00", "2026-12-07T05:00Z", "2026-12-08T05:00Z"),
        ("22:00-00:00", "2026-12-07T23:59Z", "2026-12-08T00:00Z"),
        ("Mon 23:00-01:00 Asia/Kolkata", "2026-12-07T19:00Z", "2026-12-07T19:30Z"),
    ],
)
def test_hours_hold_by_the_clocks_of_their_zone(hours: str, open_at: str, closed_at: str) -> None:
    """The end is not part of them; those past midnight are of the day they begin on."""
    found = hours_of(hours)
    assert found.hold(at(open_at))
    assert not found.hold(at(closed_at))


@pytest.mark.parametrize(
    ("hours", "because"),
    [
        ("", "write days"),
        ("Mon-Fri", "write days"),
        ("Mon-Fri 7-19", "write days"),
        ("07:00-19:00 Europe/Berlin extra", "write days"),
        ("Mon " * 60 + "07:00-19:00", "write days"),
        ("Mo-Fr 07:00-19:00", "days are"),
        ("Mon- 07:00-19:00", "days are"),
        ("07:00-25:00", "no time of day"),
        ("07:60-08:00", "no time of day"),
        ("07:00-07:00", "whole day"),
        ("24:00-06:00", "whole day"),
        ("07:00-19:00 Europe/Atlantis", "no such time zone"),
        ("07:00-19:00 Europe", "no such time zone"),
        ("07:00-19:00 ../../etc/passwd", "no such time zone"),
        ("07:00-19:00 /etc/localtime", "no such time zone"),
    ],
)
def test_what_are_no_hours_is_refused_with_a_reason(hours: str, because: str) -> None:
    with pytest.raises(ValueError, match=because):
        check_hours(hours)


def test_a_machine_without_time_zones_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The remedy is not another spelling then."""
    monkeypatch.setattr("zoneinfo.available_timezones", set)
    with pytest.raises(ValueError, match="install tzdata"):
        check_hours("07:00-19:00 Europe/Atlantis")
    check_hours("07:00-19:00")


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 6),
    st.integers(0, 1439),
    st.integers(1, 1439),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Pacific/Auckland"]),
    st.integers(0, 14 * 24 * 60),
)
def test_hours_are_as_a_calendar_has_them(
    day: int, begin: int, lasts: int, zone: str, minute: int
) -> None:
    """Held against the calendar of the days around."""
    end = (begin + lasts) % 1440
    times = [f"{one // 60:02}:{one % 60:02}" for one in (begin, end)]
    hours = hours_of(f"{DAYS[day]} {'-'.join(times)} {zone}")
    now = datetime(2026, 12, 1, tzinfo=UTC) + timedelta(minutes=minute)
    there = now.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    midnights = (there.replace(hour=0, minute=0) - timedelta(days=back) for back in (0, 1))
    expected = any(
        timedelta(minutes=begin) <= there - midnight < timedelta(minutes=begin + lasts)
        for midnight in midnights
        if midnight.weekday() == day
    )
    assert hours.hold(round(now.timestamp() * 1000)) == expected


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_hours_or_refused(text: str) -> None:
    """And nothing breaks."""
    with contextlib.suppress(ValueError):
        hours_of(text).hold(0)
