"""Patterns of names: globs and RE2, bounded in number, length, memory and time."""

from __future__ import annotations

import fnmatch
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.name_patterns import check_pattern, fitting


@pytest.mark.parametrize(
    ("pattern", "fits", "fits_not"),
    [
        ("WM-*", "WM-1", "xWM-1"),
        ("WM-?", "WM-é", "WM-12"),
        ("*-test", "a\u2028-test", "-test-"),
        ("a.b[c]", "a.b[c]", "axb[c]"),
        ("***", "", "never"),
        (r"a\*", "a\\b", "a*"),
        (r"^WM-\d{4}$", "WM-0001", "WM-00012"),
        ("^WM", "WM-1", "xWM-1"),
        ("^a$|^b$", "b", "ab"),
        (r"^\Qa.b", "a.b)", "axb"),
        ("^(?i)wm", "WM-1", "x"),
    ],
)
def test_globs_fit_whole_names_and_expressions_what_they_say(
    pattern: str, fits: str, fits_not: str
) -> None:
    assert fitting((pattern,))(fits)
    assert pattern == "***" or not fitting((pattern,))(fits_not)


def test_one_of_many_is_enough_and_none_changes_another() -> None:
    """Also where names of groups are there twice, or the rest of an expression is quoted."""
    fits = fitting(("^(?P<n>a)$", "^(?P<n>b)$", r"^\Qc|", "x*", "^(d|e)$"))
    assert [name for name in ("a", "b", "c|", "xy", "e", "c", "f", "ab") if fits(name)] == [
        *("a", "b", "c|", "xy", "e")
    ]


@pytest.mark.parametrize(
    ("pattern", "because"),
    [
        ("", "1 to 256"),
        ("a" * 257, "1 to 256"),
        ("a\nb", "control"),
        ("^(a", "cannot be used: missing"),
        ("^a)", "cannot be used: unexpected"),
        (r"^(a)\1", "cannot be used"),
        ("^(?=a)b", "cannot be used"),
        ("^((((a{100}){100}){100}))", "cannot be used|too large"),
        ("^" + r"\pL{100}" * 30, "too large"),
        ("^\ud800", "control"),
    ],
)
def test_a_pattern_that_cannot_be_used_is_told_why(pattern: str, because: str) -> None:
    with pytest.raises(ValueError, match=because):
        check_pattern(pattern)


def test_patterns_are_bounded_together() -> None:
    with pytest.raises(ValueError, match="at most 100"):
        fitting(["a"] * 101)
    with pytest.raises(ValueError, match="too large"):
        fitting([rf"^\pL{{60}}{number}" for number in range(100)])
    assert fitting([f"{number:03}{'x' * 250}*" for number in range(100)])("099" + "x" * 250)


def test_no_name_takes_long() -> None:
    """What makes backtracking explode is linear here."""
    fits = fitting(["*a" * 100, "^(a*)*$", "^(a|a)*b$"])
    began = time.perf_counter()
    for _ in range(20):
        fits("a" * 254 + "!")
    assert time.perf_counter() - began < 1


@settings(max_examples=60, deadline=None)
@given(st.text("ab*?", min_size=1, max_size=12), st.text("ab", max_size=12))
def test_globs_are_what_a_shell_makes_of_them(pattern: str, name: str) -> None:
    assert fitting((pattern,))(name) == fnmatch.fnmatchcase(name, pattern)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=3))
def test_any_text_is_a_pattern_or_refused(patterns: list[str]) -> None:
    """One that is no expression fits itself, less its stars."""
    try:
        fits = fitting(patterns)
    except ValueError:
        return
    for one in patterns:
        assert one.startswith("^") or fits(one.replace("*", ""))
