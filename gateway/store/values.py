"""Values of readings and attributes as columns: a kind, and one of three typed places."""

from __future__ import annotations

from typing import Any

from gateway.core.model import Json, Value
from gateway.store.driver import Row

_BOOLEAN, _WHOLE, _REAL, _TEXT, _JSON = range(5)
"""ThingsBoard's `KeyValueType` numbers (contract, section 15)."""


def to_columns(value: Value) -> Row:
    """`(kind, whole, real, text)`."""
    if isinstance(value, str):
        return (_TEXT, None, None, value)
    if isinstance(value, bool):
        return (_BOOLEAN, int(value), None, None)
    if isinstance(value, int):
        return (_WHOLE, value, None, None)
    if isinstance(value, float):
        return (_REAL, None, value, None)
    return (_JSON, None, None, value.text)


def from_columns(kind: int, whole: int | None, real: float | None, text: str | None) -> Value:
    """The value of a row; the inverse of `to_columns`."""
    found: Any
    match kind:
        case 0:
            found = bool(whole)
        case 1:
            found = whole
        case 2:
            found = real
        case 3:
            found = text
        case _:
            found = Json(text or "null")
    return found  # type: ignore[no-any-return]
