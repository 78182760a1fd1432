"""Values of datastreams: from what a device wrote to what is kept, and back (section 10).

What is kept: integers and the numbers of enums as integers, doubles as doubles, texts as texts, a
location as a JSON list of longitude and latitude. Readings of the same series may have come by
another dialect and be of any type; they are shown as well as they can be.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import isfinite
from typing import Any, Final

import msgspec

from gateway.core.model import Json, Value
from gateway.dialects.blynk.section import Datastream, StreamType

MOST_TEXT_BYTES: Final = 1024
"""Of a text (contract, section 10, limits)."""
MOST_NUMBER_CHARACTERS: Final = 64
WRONG_TYPE_TEXT: Final = "Value doesn't match the Datastream data type."

_WHOLE = re.compile(r"[-+]?[0-9]{1,19}(?:\.0*)?").fullmatch
_REAL = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?").fullmatch
_EMAIL = re.compile(r"[^@\s\0]{1,64}@[^@\s\0]{1,255}").fullmatch
_LEAST_INT64, _PAST_INT64 = -(2**63), 2**63
_PAST_LONGITUDE, _PAST_LATITUDE = 180.0, 90.0
_DECIMALS = 5


class Mistake(Exception):
    """What a device sent is not possible. The message is Blynk's text for it (section 10)."""


def _wrong() -> Mistake:
    return Mistake(WRONG_TYPE_TEXT)


# ── in ────────────────────────────────────────────────────────────────────────────────────────


def from_texts(stream: Datastream, texts: Sequence[str]) -> Value:
    """The value that was written as one text; a location may be two, or one with a comma.

    Raises `Mistake` for what is not of the datastream's type, or out of its range.
    """
    if stream.type is StreamType.LOCATION:
        parts = texts[0].strip("[]").split(",") if len(texts) == 1 else texts
        return _location([_real(one.strip()) for one in parts])
    if len(texts) != 1:
        raise _wrong()
    text = texts[0]
    match stream.type:
        case StreamType.INTEGER:
            return _within(stream, _whole(text))
        case StreamType.DOUBLE:
            return _within(stream, _real(text))
        case StreamType.ENUM:
            return _choice(stream, _index(stream, text) if text in stream.values else _whole(text))
        case _:
            return _text(text)


def from_json(stream: Datastream, found: object) -> Value:
    """The value of a decoded JSON value. Raises `Mistake` as `from_texts` does."""
    match stream.type, found:
        case _, bool():
            raise _wrong()
        case StreamType.INTEGER, int():
            return _within(stream, _whole(str(found)))
        case StreamType.DOUBLE, int() | float():
            return _within(stream, _double(found))
        case StreamType.STRING, str():
            return _text(found)
        case StreamType.ENUM, int():
            return _choice(stream, found)
        case StreamType.ENUM, str():
            return _index(stream, found)
        case StreamType.LOCATION, list():
            return _location([_double(one) for one in found])
        case _:
            raise _wrong()


def _whole(text: str) -> int:
    if not _WHOLE(text):
        raise _wrong()
    number = int(text.partition(".")[0])
    if not _LEAST_INT64 <= number < _PAST_INT64:
        raise _wrong()
    return number


def _real(text: str) -> float:
    if len(text) > MOST_NUMBER_CHARACTERS or not _REAL(text):
        raise _wrong()
    return _double(float(text))


def _double(number: object) -> float:
    """A finite double; whole numbers of JSON may be larger than any."""
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise _wrong()
    try:
        found = float(number)
    except OverflowError:
        raise _wrong() from None
    if not isfinite(found):
        raise _wrong()
    return found + 0.0  # no negative zero


def _within(stream: Datastream, number: int | float) -> int | float:
    if stream.min is not None and number < stream.min:
        raise _wrong()
    if stream.max is not None and number > stream.max:
        raise _wrong()
    return number


def _choice(stream: Datastream, number: int) -> int:
    if not 0 <= number < len(stream.values):
        raise _wrong()
    return number


def _index(stream: Datastream, name: str) -> int:
    if name not in stream.values:
        raise _wrong()
    return stream.values.index(name)


def _location(numbers: Sequence[float]) -> Json:
    if len(numbers) != 2:
        raise _wrong()
    longitude, latitude = numbers
    if abs(longitude) > _PAST_LONGITUDE or abs(latitude) > _PAST_LATITUDE:
        raise _wrong()
    return Json(msgspec.json.encode(numbers).decode())


def _text(text: str) -> str:
    """NUL is what separates values elsewhere."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise _wrong() from None
    if size > MOST_TEXT_BYTES or "\0" in text:
        raise _wrong()
    return text


def is_email(text: str) -> bool:
    """Whether it has the form of an e-mail address."""
    return _EMAIL(text) is not None


# ── out ───────────────────────────────────────────────────────────────────────────────────────


def default_of(stream: Datastream) -> Value | None:
    """What a datastream has before anything was written."""
    return None if stream.default is None else from_json(stream, stream.default)


def texts_of(value: Value) -> tuple[str, ...]:
    """The value as texts: one, or those of a list's members."""
    if not isinstance(value, Json):
        return (_plain(value),)
    found = msgspec.json.decode(value.text)
    if not isinstance(found, list) or any(isinstance(one, list | dict) for one in found):
        return (value.text,)
    return tuple("" if one is None else _plain(one) for one in found)


def _plain(value: bool | int | float | str) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    return value if isinstance(value, str) else repr(value)


def bare(stream: Datastream, value: Value) -> str:
    """A value alone in a body. Doubles have five decimals (`100.00000`), more where they need them;
    a list is JSON."""
    if isinstance(value, Json):
        return value.text
    if isinstance(value, str):
        return value
    return _decimal(float(value)) if stream.type is StreamType.DOUBLE else _plain(value)


def _decimal(number: float) -> str:
    text = repr(number)
    if "e" in text or not isfinite(number):
        return text
    whole, _, decimals = text.partition(".")
    return f"{whole}.{decimals:0<{_DECIMALS}}"


def json_of(stream: Datastream, value: Value) -> Any:
    """A value among others in a JSON object, for msgspec to encode."""
    if isinstance(value, Json):
        return msgspec.Raw(value.text.encode())
    if isinstance(value, str):
        return value
    if stream.type is StreamType.DOUBLE:
        return float(value)
    return int(value) if isinstance(value, bool) else value
