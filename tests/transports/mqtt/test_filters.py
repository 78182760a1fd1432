"""Topic filters, held against the standard."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.transports.mqtt.filters import filters_over, matches

LEVELS = st.lists(st.sampled_from(("a", "b", "", "$c")), min_size=1, max_size=4)


@pytest.mark.parametrize(
    ("topic_filter", "topic", "yes"),
    [
        ("a/b", "a/b", True),
        ("a/+", "a/b", True),
        ("a/+", "a/b/c", False),
        ("a/+/c", "a/b/c", True),
        ("+", "a", True),
        ("a/#", "a/b/c", True),
        ("a/#", "a", True),
        ("a/#", "b/a", False),
        ("#", "a/b", True),
        ("#", "$SYS/x", False),
        ("a/b", "a/bc", False),
    ],
)
def test_filters_match_as_the_standard_says(topic_filter: str, topic: str, yes: bool) -> None:
    """`+` is one level, a trailing `#` any number, none included (section 4.7)."""
    assert matches(topic_filter, topic) is yes


@given(LEVELS, LEVELS)
def test_what_is_over_a_topic_matches_it(wanted: list[str], levels: list[str]) -> None:
    """Each filter that is told matches, and every filter with `#` that matches is told, once."""
    topic, over = "/".join(levels), list(filters_over("/".join(levels)))
    assert len(set(over)) == len(over)
    assert all(matches(one, topic) for one in over)
    for topic_filter in ("/".join([*wanted, "#"]), "#"):
        assert (topic_filter in over) is matches(topic_filter, topic)
