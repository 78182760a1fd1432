"""Values of attributes as they are typed."""

from __future__ import annotations

import json
from contextlib import suppress

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.cli.values import from_json, from_pairs
from gateway.core.model import Json


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("30", 30),
        ("-1.5", -1.5),
        ("true", True),
        ("Kitchen 1", "Kitchen 1"),
        ('"007"', "007"),
        ("007", "007"),
        ("", ""),
        ("a=b", "a=b"),
        ('{"a": [1, null]}', Json('{"a":[1,null]}')),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", "9223372036854775808"),
        ("NaN", "NaN"),
        ("1e999", "1e999"),
    ],
)
def test_json_is_taken_as_json_and_the_rest_as_text(typed: str, value: object) -> None:
    """A value keeps the type JSON gives it; what is no JSON is text."""
    found = from_pairs([f"k={typed}"])
    assert found == {"k": value}
    assert type(found["k"]) is type(value)


@pytest.mark.parametrize(
    "pair", ["novalue", "=1", " =1", "k=null", "k=[1e999]", "k" * 256 + "=1", "k=\udcff"]
)
def test_what_is_no_pair_is_told(pair: str) -> None:
    """Words without a key or a value, nulls and broken text are usage errors."""
    with pytest.raises(click.UsageError):
        from_pairs([pair])


@pytest.mark.parametrize(
    "text",
    ["", "[]", "1", '{"k": NaN}', '{"k": null}', "{", '{"": 1}', '{"k": 1e999}', '{"k": [-1e999]}'],
)
def test_a_file_must_be_one_object(text: str) -> None:
    """Anything but a JSON object of values is a usage error that names its source."""
    with pytest.raises(click.UsageError):
        from_json(text, "settings.json")


_members = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(
        str.strip
    ),
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, width=32),
    max_size=5,
)


@settings(deadline=None, max_examples=60)
@given(_members)
def test_members_of_a_file_keep_their_types(members: dict[str, object]) -> None:
    """Numbers and truth values come out of a file as they went in; infinity cannot be written."""
    finite = {k: v for k, v in members.items() if v not in (float("inf"), float("-inf"))}
    found = from_json(json.dumps(finite), "x")
    assert found == finite
    assert [type(one) for one in found.values()] == [type(one) for one in finite.values()]


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=40))
def test_any_text_is_values_or_a_usage_error(text: str) -> None:
    """Nothing that is typed raises anything but a usage error."""
    for read in (lambda: from_pairs([text]), lambda: from_json(text, "x")):
        with suppress(click.UsageError):
            assert isinstance(read(), dict)
