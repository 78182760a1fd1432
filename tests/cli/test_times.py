"""Durations and moments as people type them."""

from __future__ import annotations

from contextlib import suppress

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.cli.times import DURATION, MOMENT, MOST_MS, lasting


@pytest.mark.parametrize(
    ("text", "ms"),
    [("10s", 10_000), ("5m", 300_000), ("1h30m", 5_400_000), ("7d", 604_800_000), ("250ms", 250)],
)
def test_a_duration_is_read(text: str, ms: int) -> None:
    """Numbers with units add up to milliseconds."""
    assert DURATION.convert(text, None, None) == ms


@pytest.mark.parametrize("text", ["", "10", "s", "0s", "-1s", "1.5h", "1y", "9999999d", "1h 5m"])
def test_what_is_no_duration_is_told_with_an_example(text: str) -> None:
    """A number without a unit, nothing, and what is out of bounds are usage errors."""
    with pytest.raises(click.BadParameter, match=r"write 10s|out of bounds"):
        DURATION.convert(text, None, None)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, MOST_MS))
def test_a_duration_is_told_as_it_is_typed(ms: int) -> None:
    """What `lasting` writes is read back as the same time."""
    assert DURATION.convert(lasting(ms), None, None) == ms


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=20))
def test_any_text_is_a_time_or_a_usage_error(text: str) -> None:
    """Nothing that is typed raises anything but a usage error."""
    for kind in (DURATION, MOMENT):
        with suppress(click.BadParameter):
            assert isinstance(kind.convert(text, None, None), int)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2026-11-21", 1_795_219_200_000),
        ("2026-11-21T00:00:00Z", 1_795_219_200_000),
        ("2026-11-21T01:00:00+01:00", 1_795_219_200_000),
        ("20261121", 1_795_219_200_000),
        ("1795219200000", 1_795_219_200_000),
    ],
)
def test_a_moment_is_read(text: str, ms: int) -> None:
    """ISO times without a zone are UTC; long numbers are milliseconds."""
    assert MOMENT.convert(text, None, None) == ms


@pytest.mark.parametrize("text", ["1795219200", "yesterday", "2026-13-01"])
def test_what_is_no_moment_is_told(text: str) -> None:
    """Seconds are not taken for milliseconds."""
    with pytest.raises(click.BadParameter, match="is no time"):
        MOMENT.convert(text, None, None)
