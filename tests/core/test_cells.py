"""Cells of tables: what they mean, and that spreadsheets take none of ours for a formula."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.cells import cell_of_value, disarmed, rearmed, value_of_cell
from gateway.core.model import Json

_STRUCTURES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
).filter(lambda one: isinstance(one, dict | list))
_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
_VALUES = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXTS
    | _STRUCTURES.map(lambda one: Json(__import__("json").dumps(one)))
)


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("30", 30),
        ("-7", -7),
        ("0", 0),
        ("30.0", 30.0),
        ("1e3", 1000.0),
        ("007", "007"),
        ("-", "-"),
        ("1.", "1."),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", "9223372036854775808"),
        ("1e999", "1e999"),
        ("true", True),
        ("FALSE", False),
        ('{"a": 1}', Json('{"a": 1}')),
        ("[1]", Json("[1]")),
        ("{a}", "{a}"),
        ("meter", "meter"),
        ("NaN", "NaN"),
    ],
)
def test_the_looks_of_a_cell_decide(cell, value):
    """A cell is a number, a boolean, JSON or text by how it is written."""
    for quoted in (True, False):
        found = value_of_cell(cell, quoted=quoted)
        assert found == value
        assert type(found) is type(value)


def test_a_quoted_cell_is_text_only_where_that_is_said():
    """A JSON string is the text it means for our own tables, and itself elsewhere."""
    assert value_of_cell('"30"', quoted=True) == "30"
    assert value_of_cell('"30"', quoted=False) == '"30"'
    assert value_of_cell('"30', quoted=True) == '"30'


@settings(deadline=None, max_examples=120)
@given(_VALUES)
def test_a_value_comes_back_from_its_cell(value):
    """Whatever a device or a person stored is the same, type and all, after export and import."""
    cell = cell_of_value(value)
    assert cell
    found = value_of_cell(rearmed(disarmed(cell)), quoted=True)
    assert type(found) is type(value)
    assert found == value


@settings(deadline=None, max_examples=120)
@given(st.text(st.sampled_from("=+-@'\t\ra1."), max_size=8) | _TEXTS)
def test_a_disarmed_cell_is_no_formula_and_comes_back(cell):
    """No cell we write begins as a formula does, unless it is a number; each comes back whole."""
    written = disarmed(cell)
    assert rearmed(written) == cell
    if written[:1] in tuple("=+@\t\r"):
        pytest.fail(f"{written!r} is a formula")
    if written[:1] == "-":
        float(written)


@settings(deadline=None, max_examples=50)
@given(st.lists(_TEXTS, min_size=1, max_size=4))
def test_cells_survive_a_csv_file(cells):
    """What csv writes of disarmed cells is read as the same cells."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerow([disarmed(one) for one in cells])
    text.seek(0)
    (row,) = csv.reader(text, strict=True)
    assert [rearmed(one) for one in row] == cells
