"""Patterns of device names: matched in time linear in the name, by RE2.

`*` is any number of characters, `?` is one, and such a pattern fits a whole name. One that begins
with `^` is a regular expression of RE2, which may leave the end open.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from gateway.core.names import is_plain

Fits: TypeAlias = Callable[[str], bool]
"""Whether a name fits; of plain characters alone."""

MOST_PATTERNS: Final = 100
MOST_PATTERN_CHARACTERS: Final = 256
_MOST_MEMORY: Final = 1 << 20
"""Of a list of patterns, compiled: bytes."""


def check_pattern(text: str) -> None:
    """Raises `ValueError` for a pattern of names that is too long or cannot be read."""
    fitting((text,))


def fitting(patterns: Sequence[str]) -> Fits:
    """Tells whether a name fits one of `patterns`. Raises `ValueError` with a sentence.

    They become one expression, so that many take hardly longer than one.
    """
    if len(patterns) > MOST_PATTERNS:
        raise ValueError(f"at most {MOST_PATTERNS} of them")
    together: list[str] = []
    alone: list[str] = []
    for one in patterns:
        # What follows `\Q` is not read: neither is the bracket that would close it here.
        (alone if one.startswith("^") and r"\Q" in one else together).append(_expression(one))
    if together:
        alone.append("|".join(f"(?:{one})" for one in together))
    searches = [_search(one, _MOST_MEMORY // len(alone)) for one in alone]
    return lambda name: any(search(name) is not None for search in searches)


def _expression(pattern: str) -> str:
    if not 0 < len(pattern) <= MOST_PATTERN_CHARACTERS:
        raise ValueError(f"a pattern has 1 to {MOST_PATTERN_CHARACTERS} characters")
    if not is_plain(pattern):
        raise ValueError("a pattern has no control characters")
    if pattern.startswith("^"):
        _search(pattern, _MOST_MEMORY)  # by itself, so that no bracket of it closes one of ours
        return pattern
    parts = "".join(map(_part, re.split(r"(\*+|\?)", pattern)))
    return rf"\A(?s:{parts})\z"


def _part(text: str) -> str:
    if text.startswith("*"):
        return ".*"
    return "." if text == "?" else re.escape(text)


def _search(expression: str, memory: int) -> Callable[[str], Any]:
    # Loaded with the first pattern: few profiles have one.
    import re2

    options = re2.Options()
    options.max_mem = memory
    options.log_errors = False
    options.never_capture = True
    try:
        search: Callable[[str], Any] = re2.compile(expression, options).search
    except re2.error as exc:
        said = exc.args[0] if exc.args else ""
        words = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        if words.startswith("pattern too large"):
            raise ValueError("the patterns are too large; write shorter ones, or fewer") from None
        raise ValueError(
            f"it cannot be used: {words[:100]} (RE2 has no look-around and no back references)"
        ) from None
    return search
