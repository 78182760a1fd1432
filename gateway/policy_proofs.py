"""Proofs of single settings of a policy: what is saved can be used at each birth.

Each raises `ValueError` with a few words of ours, however long or strange the value is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from math import isfinite
from typing import TypeAlias
from urllib.parse import urlsplit

from gateway.core.giving import check_package, check_text
from gateway.core.model import EventKind
from gateway.core.name_patterns import MOST_PATTERNS, check_pattern, fitting
from gateway.core.names import MOST_NAME_CHARACTERS, is_plain
from gateway.toml_lines import plain, shown

Texts: TypeAlias = tuple[str, ...]
Scalar: TypeAlias = bool | int | float | str

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LASTING = re.compile(r"\A(\d{1,9})([smhd])\Z")
_MOST_WINDOW_S = 7 * 86_400
_MOST_LIFE_S = 3650 * 86_400
_KINDS = frozenset(kind.value for kind in EventKind)
_PAST_9999_MS = 253_402_300_800_000
_LEAST_INT64, _PAST_INT64 = -(2**63), 2**63
_MOST_KEY_CHARACTERS, _MOST_VALUE_CHARACTERS = 255, 65_536
_MOST_SERVERS, _MOST_WIRE_CHARACTERS = 20, 64


def seconds_of(text: str) -> int:
    """`90s`, `15m`, `12h` or `7d` in seconds; `0` is none. Raises `ValueError`."""
    if text == "0":
        return 0
    found = _LASTING.match(text)
    if found is None:
        raise ValueError("write a number with s, m, h or d")
    return int(found[1]) * _UNITS[found[2]]


def check_window(text: str) -> None:
    """How long a retry gets the same answer."""
    if seconds_of(text) > _MOST_WINDOW_S:
        raise ValueError("at most 7 days")


def check_life(text: str) -> None:
    """How long a burn-in device lives."""
    if not 0 < seconds_of(text) <= _MOST_LIFE_S:
        raise ValueError("at least a second, at most 3650 days")


def each(check: Callable[[str], None], most: int = MOST_PATTERNS) -> Callable[[Texts], None]:
    """A proof of a list: that there are no more than `most`, each of which passes `check`."""

    def proof(values: Texts) -> None:
        if len(values) > most:
            raise ValueError(f"at most {most} of them")
        for value in values:
            try:
                check(value)
            except ValueError as exc:
                raise ValueError(f"{shown(value)}: {exc}") from None

    return proof


def check_patterns(values: Texts) -> None:
    """Patterns of names."""
    each(check_pattern)(values)
    fitting(values)  # together they must not be too large


def check_time(text: str) -> None:
    """A moment, as `ms_of` reads it."""
    ms_of(text)


def ms_of(text: str) -> int:
    """`2026-12-01T07:00:00+01:00` in ms since the epoch. Raises `ValueError`."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:  # whose words repeat the text, however long
        raise ValueError("that is no time") from None
    if at.tzinfo is None:
        raise ValueError("say which time zone: end it with Z or +01:00")
    ms = round(at.timestamp() * 1000)
    if not 0 <= ms < _PAST_9999_MS:
        raise ValueError("a time lies in the years 1970 to 9999")
    return ms


def check_event_kind(text: str) -> None:
    """A kind of event that hooks may hear of."""
    if text not in _KINDS:
        raise ValueError("there is no such kind of event")
    if text.startswith("hook:"):
        raise ValueError("what befalls hooks is told to none of them")


def check_attributes(values: Mapping[str, Scalar]) -> None:
    """Attributes of a birth: such as can be stored, and with templates that can be filled in."""
    if len(values) > MOST_PATTERNS:
        raise ValueError(f"at most {MOST_PATTERNS} of them")
    for key, value in values.items():
        if not key.strip() or len(key) > _MOST_KEY_CHARACTERS:
            raise ValueError(f"a key has 1 to {_MOST_KEY_CHARACTERS} characters")
        try:
            _value(value)
        except ValueError as exc:
            raise ValueError(f"{plain(key)}: {exc}") from None


def _value(value: Scalar) -> None:
    if isinstance(value, str):
        if len(value) > _MOST_VALUE_CHARACTERS:
            raise ValueError(f"at most {_MOST_VALUE_CHARACTERS} characters")
        check_text(value)
    elif isinstance(value, int) and not _LEAST_INT64 <= value < _PAST_INT64:
        raise ValueError("a whole number has at most 64 bits")
    elif not isfinite(value):
        raise ValueError("a number must be finite")


def check_addresses(values: Mapping[str, str]) -> None:
    """Addresses by wire, which devices are told."""
    if len(values) > _MOST_SERVERS:
        raise ValueError(f"at most {_MOST_SERVERS} of them")
    for wire, address in values.items():
        if not 0 < len(wire) <= _MOST_WIRE_CHARACTERS or not is_plain(wire + address):
            raise ValueError(
                f"a wire has 1 to {_MOST_WIRE_CHARACTERS} characters, and neither it nor its "
                "address any control characters"
            )


def check_certificate(text: str) -> None:
    """PEM that every device may see."""
    if "PRIVATE KEY" in text:
        raise ValueError("a private key stands beside it, and devices are told all of it")


def check_filled(text: str) -> None:
    """A name, with blanks: what becomes of it is looked at again at each birth."""
    check_text(text)
    if len(text) > MOST_NAME_CHARACTERS:
        raise ValueError(f"at most {MOST_NAME_CHARACTERS} characters")
    if not is_plain(text):
        raise ValueError("it has control characters")


def check_filled_package(text: str) -> None:
    """A package by its title and version, with blanks."""
    check_filled(text)
    check_package(text)


def check_url(url: str) -> None:
    """An address of http whose host and port can be read."""
    try:
        parts = urlsplit(url)
        known = bool(parts.hostname) and parts.port != 0
    except ValueError:  # no number, one that is too large, a bracket that is never closed
        known = False
    if not known:
        raise ValueError("its host or port cannot be read")
