"""The breaker: who failed five times on end is left alone, and one tries whether it is back."""

from __future__ import annotations

import pytest

from gateway.core.breaking import FAILURES, FIRST_MS, MOST_MS, Breaker


@pytest.fixture
def opened() -> Breaker:
    """One that opened at 0."""
    breaker = Breaker()
    for count in range(1, FAILURES + 1):
        assert breaker.enter(0)
        assert breaker.wrong(0) is (count == FAILURES)
    return breaker


def test_failures_on_end_open_it_and_one_that_is_right_begins_anew() -> None:
    """Four, a success and four more leave it closed."""
    breaker = Breaker()
    for _ in range(2):
        for _ in range(FAILURES - 1):
            assert breaker.enter(0)
            breaker.wrong(0)
        assert not breaker.right()
    assert not breaker.is_open


def test_one_alone_tries_when_the_time_is_over(opened: Breaker) -> None:
    assert not opened.enter(FIRST_MS - 1)
    assert opened.wait(1) == FIRST_MS - 1
    assert opened.enter(FIRST_MS)
    assert not opened.enter(FIRST_MS), "a second one must wait for the first"
    assert opened.right()
    assert opened.enter(FIRST_MS)
    assert opened.enter(FIRST_MS)


def test_each_vain_try_doubles_the_time_up_to_a_bound(opened: Breaker) -> None:
    now, waits = 0, []
    for _ in range(8):
        waits.append(opened.wait(now))
        now += waits[-1]
        assert opened.enter(now)
        opened.wrong(now)
    assert waits == [min(FIRST_MS << n, MOST_MS) for n in range(8)]


def test_a_try_whose_caller_went_away_lets_another_try(opened: Breaker) -> None:
    assert opened.enter(FIRST_MS)
    opened.leave()
    assert opened.enter(FIRST_MS)


def test_a_clock_set_back_does_not_keep_it_open_for_longer(opened: Breaker) -> None:
    assert opened.wait(-3_600_000) == FIRST_MS
