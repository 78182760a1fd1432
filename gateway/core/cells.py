"""Values as the cells of a table: what people type, and back.

A table says nothing of types, so the looks of a cell decide (contract, section 17.4): `30` is a
whole number, `30.0` a double, `true` a boolean, `{..}` and `[..]` JSON, everything else is text.
Numbers with leading zeros stay text: they are serial numbers. A text that would be taken for
something else is written as a JSON string, `"30"`.
"""

from __future__ import annotations

import re
from math import isfinite
from typing import Any, Final

import msgspec

from gateway.core.model import Json, Value

_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?").fullmatch
_MOST_NUMBER_CHARACTERS: Final = 400
_LEAST_WHOLE, _MOST_WHOLE = -(2**63), 2**63 - 1
_BOOLEANS: Final = {"true": True, "false": False}
_FORMULA: Final = frozenset("=+-@\t\r")
"""What a spreadsheet begins a formula with (OWASP, CSV Injection)."""

_json: Final = msgspec.json.Encoder()
_structure: Final = msgspec.json.Decoder(dict[str, Any] | list[Any])
_text: Final = msgspec.json.Decoder(str)


def value_of_cell(cell: str, *, quoted: bool) -> Value:
    """The value of a cell that is not empty. `quoted`: a JSON string is the text it means."""
    first = cell[0]
    if first in "-0123456789":
        return _number(cell)
    if first in "{[":
        return _structured(cell)
    if quoted and first == '"':
        return _unquoted(cell)
    return _BOOLEANS.get(cell.lower(), cell)


def _number(cell: str) -> Value:
    found = _NUMBER(cell) if len(cell) <= _MOST_NUMBER_CHARACTERS else None
    if found is None or cell == "-0":
        return cell
    if found[1] is None and found[2] is None:
        whole = int(cell)
        return whole if _LEAST_WHOLE <= whole <= _MOST_WHOLE else cell
    real = float(cell)
    return real if isfinite(real) else cell


def _structured(cell: str) -> Value:
    try:
        _structure.decode(cell)
    except (msgspec.DecodeError, RecursionError):
        return cell
    return Json(cell)


def _unquoted(cell: str) -> Value:
    try:
        return _text.decode(cell)
    except msgspec.DecodeError:
        return cell


def cell_of_value(value: Value) -> str:
    """The inverse of `value_of_cell(…, quoted=True)`."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return repr(value)  # always with a point or an exponent: read as a double again
        case Json(text):
            return text
        case _:
            return _cell_of_text(value)


def _cell_of_text(text: str) -> str:
    if text and text.isprintable() and value_of_cell(text, quoted=True) == text:
        return text
    return _json.encode(text).decode()


# ── formulas ──────────────────────────────────────────────────────────────────────────────────


def disarmed(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula: such a one gets an apostrophe before it.

    So does one that begins with an apostrophe, so that `rearmed` is the exact inverse. Numbers are
    let be, and apostrophes that stand before something harmless.
    """
    if not cell:
        return cell
    first = cell[0]
    if first in _FORMULA:
        return cell if _NUMBER(cell) else f"'{cell}"
    if first == "'" and (cell[1:2] == "'" or cell[1:2] in _FORMULA):
        return f"'{cell}"
    return cell


def rearmed(cell: str) -> str:
    """The cell that was meant: the apostrophe before a formula, or before another one, goes."""
    if cell[:1] == "'" and (cell[1:2] == "'" or cell[1:2] in _FORMULA):
        return cell[1:]
    return cell
