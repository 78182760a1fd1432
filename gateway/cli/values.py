"""Values of attributes as they are typed: `on=true`, `name=Kitchen`, or a JSON object."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

import click

from gateway.cli.options import shown
from gateway.core.model import Json, Value

_MOST_KEY_CHARACTERS: Final = 255
_LEAST_WHOLE, _MOST_WHOLE = -(2**63), 2**63 - 1


def from_pairs(pairs: Sequence[str]) -> dict[str, Value]:
    """`key=value` words; a value that is JSON is taken as JSON, any other as text."""
    found = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise click.UsageError(
                f"{shown(pair)} is no key=value. Write for example interval=30 or 'name=Kitchen 1'."
            )
        found[checked_key(key)] = value_of(key, _parsed(text))
    return found


def from_json(text: str, source: str) -> dict[str, Value]:
    """The members of a JSON object, as values. `source` names it in errors."""
    try:
        members = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as exc:
        place = f" (line {exc.lineno}: {exc.msg})" if isinstance(exc, json.JSONDecodeError) else ""
        raise click.UsageError(f"{source} is not JSON{place}.") from None
    if not isinstance(members, Mapping):
        raise click.UsageError(f'{source} must be a JSON object, like {{"interval": 30}}.')
    return {checked_key(key): value_of(key, value) for key, value in members.items()}


def checked_key(key: str) -> str:
    """The key, if the store takes it."""
    if not 0 < len(key) <= _MOST_KEY_CHARACTERS or not key.strip() or not _storable(key):
        raise click.UsageError(
            f"{shown(key)} is no key: 1 to {_MOST_KEY_CHARACTERS} characters of valid text."
        )
    return key


def value_of(key: str, value: Any) -> Value:
    """A parsed JSON value as the product keeps it. Whole numbers beyond 64 bits become text."""
    match value:
        case None:
            raise click.UsageError(
                f"null is no value for {shown(key)}; `gatehouse device attributes delete` removes "
                "an attribute."
            )
        case int() if not isinstance(value, bool) and not _LEAST_WHOLE <= value <= _MOST_WHOLE:
            return str(value)
        case float() if not math.isfinite(value):
            raise click.UsageError(f"a number in {shown(key)} is too large for a double.")
        case dict() | list():
            value = Json(_written(key, value))
            text = value.text
        case str():
            text = value
        case _:
            return value  # type: ignore[no-any-return]
    if not _storable(text):
        raise click.UsageError(f"the value of {shown(key)} is no valid text.")
    return value  # type: ignore[no-any-return]


def _written(key: str, value: Any) -> str:
    """An object or an array as JSON, which has no word for what is too large for a double."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError:
        raise click.UsageError(f"a number in {shown(key)} is too large for a double.") from None


def _parsed(text: str) -> Any:
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return text
    return text if isinstance(value, float) and not math.isfinite(value) else value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _storable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text
