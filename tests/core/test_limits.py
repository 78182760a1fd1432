"""How often something may happen."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.limits import Allowance


def test_a_burst_then_a_rate():
    """Three at once, then one each half second; what was missed is counted once."""
    allowance = Allowance(3, 2)
    assert [allowance.take(1000) for _ in range(5)] == [True, True, True, False, False]
    assert allowance.forget_missed() == 2
    assert allowance.forget_missed() == 0
    assert not allowance.take(1499)
    assert allowance.take(1500)
    assert not allowance.take(1501)


@given(st.lists(st.integers(min_value=0, max_value=60_000), min_size=1), st.integers(1, 20))
def test_never_more_than_promised(times, at_once):
    """Over any span no more happens than the burst and the rate allow."""
    allowance = Allowance(at_once, 5)
    times.sort()
    taken = [now for now in times if allowance.take(now)]
    for begin in range(len(taken)):
        for end in range(begin, len(taken)):
            span = taken[end] - taken[begin]
            assert end - begin + 1 <= at_once + span / 200 + 1
