"""How deep JSON may go that is kept."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.nesting import MOST_LEVELS, is_shallow

_TEXT = st.text(alphabet='[]{}"\\a', max_size=5)
_VALUES = st.recursive(
    st.none() | _TEXT, lambda inner: st.lists(inner) | st.dictionaries(_TEXT, inner), max_leaves=30
)


def depth_of(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max(map(depth_of, inner), default=0) if isinstance(value, dict | list) else 0


@settings(deadline=None, max_examples=60)
@given(_VALUES, st.integers(1, 6))
def test_brackets_count_where_they_are_no_text(value: Any, most: int) -> None:
    """It is told exactly, whatever stands in strings."""
    assert is_shallow(json.dumps(value), most) is (depth_of(value) <= most)


def test_many_beside_each_other_are_shallow() -> None:
    """Only what stands in each other counts."""
    assert is_shallow("[" + ",".join(["[[]]"] * 1000) + "]")
    assert is_shallow("[" * MOST_LEVELS + "]" * MOST_LEVELS)
    assert not is_shallow("[" * (MOST_LEVELS + 1) + "]" * (MOST_LEVELS + 1))
