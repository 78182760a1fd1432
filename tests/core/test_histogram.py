"""Values fall where Prometheus expects them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.histogram import Histogram


def test_a_bound_holds_itself():
    """A value that is a bound counts below it; one above all counts as the rest."""
    kept = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 9.0):
        kept.add(value)
    assert kept.counts == [2, 2, 1]
    assert kept.cumulative() == [2, 4, 5]
    assert kept.total == 14.0


@given(st.lists(st.floats(min_value=0, max_value=100)))
def test_counts_agree_with_the_values(values):
    """For every bound, as many values are counted as are at most that."""
    kept = Histogram((0.1, 1.0, 10.0))
    for value in values:
        kept.add(value)
    told = [sum(value <= bound for value in values) for bound in kept.bounds]
    assert kept.cumulative() == [*told, len(values)]
