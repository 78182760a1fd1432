"""How often something may go wrong under one name."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.limits import parse_rate
from gateway.core.throttle import Throttle

RATE = parse_rate("3:30")
assert RATE is not None


def test_what_goes_wrong_too_often_must_wait() -> None:
    """After three there is a wait of what one costs; another name is free."""
    throttle = Throttle(RATE, most=10)
    for _ in range(3):
        assert throttle.wait("a", 0) == 0
        throttle.spend("a", 0)
    assert throttle.wait("a", 0) == 10_000
    assert throttle.wait("a", 9_999) == 1
    assert throttle.wait("a", 10_000) == 0
    assert throttle.wait("b", 0) == 0


def test_what_went_right_is_forgotten() -> None:
    """A name that is forgotten has its whole allowance again."""
    throttle = Throttle(RATE, most=10)
    for _ in range(3):
        throttle.spend("a", 0)
    throttle.forget("a")
    throttle.forget("never seen")
    assert throttle.wait("a", 0) == 0


def test_asking_costs_nothing() -> None:
    """Names that are only asked for take no room."""
    throttle = Throttle(RATE, most=10)
    for number in range(100):
        throttle.wait(str(number), 0)
    assert len(throttle) == 0


def test_spending_more_than_there_is_waits_no_longer() -> None:
    """Those in flight together cannot close a name for longer than its bucket is deep."""
    throttle = Throttle(RATE, most=10)
    for _ in range(50):
        throttle.spend("a", 0)
    assert throttle.wait("a", 0) == 10_000


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 1000)), max_size=200))
@settings(deadline=None, max_examples=50)
def test_the_table_is_bounded(steps: list[tuple[int, int]]) -> None:
    """However many names come, no more are remembered, and the newest is among them."""
    throttle, now = Throttle(RATE, most=5), 0
    for name, later in steps:
        now += later
        throttle.spend(str(name), now)
        assert len(throttle) <= 5
        throttle.spend(str(name), now)
        throttle.spend(str(name), now)
        assert throttle.wait(str(name), now) > 0


def test_an_empty_table_is_refused() -> None:
    """A throttle that remembers nobody would hold back nobody."""
    with pytest.raises(ValueError):
        Throttle(RATE, most=0)
