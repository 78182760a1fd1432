"""Charts of readings."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.cli.chart import HEIGHT, chart


def test_a_rising_line_rises() -> None:
    """The first point is lowest at the left, the last highest at the right, with their labels."""
    lines = chart([(0, 1.0), (1000, 2.0), (2000, 3.0)], 40)

    assert len(lines) == HEIGHT + 1
    assert lines[0].startswith("3 ┤")
    assert lines[HEIGHT - 1].startswith("1 ┤")
    drawn = [line.partition("┤")[2] for line in lines[:HEIGHT]]
    assert drawn[0].endswith("⠉") or drawn[0].rstrip("⠀")[-1] != "⠀"
    assert not drawn[-1].startswith("⠀")
    assert drawn[0].startswith("⠀")
    assert lines[-1].split() == ["00:00:00", "00:00:02"]


@pytest.mark.parametrize("points", [[], [(0, 1.0)], [(0, 1.0), (1, float("nan"))]])
def test_fewer_than_two_points_are_no_chart(points: list[tuple[int, float]]) -> None:
    """One point is no line."""
    assert chart(points, 80) == []


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(-(2**62), 2**62), st.floats()), max_size=30),
    st.integers(0, 200),
)
def test_any_points_can_be_drawn(points: list[tuple[int, float]], width: int) -> None:
    """Huge values, far times, equal ones: a chart is as wide as it may be, or ten columns."""
    lines = chart(sorted(points), width)
    assert all(len(line) <= max(width, 40) for line in lines[:HEIGHT])
