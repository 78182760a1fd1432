"""Telemetry and attributes in JSON: a device's numbers and texts, into core values and back.

The number rules are ThingsBoard's (its contract, section 13, type cast on) and depend on how a
number was written: `10` and `1E+1` are integers, `10.0` is not. Whatever a device sends, nothing
but `BadPayload` comes out, and no message repeats it. What comes out is bounded by what came in:
numbers are written out for so many characters, and a message has so many values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from math import isfinite
from typing import Any

import msgspec

from gateway.core.model import Attributes, AttributesSelection, Json, Reading, Value
from gateway.dialects.thingsboard.payloads import OBJECT, Decoded, parse_json, text_of
from gateway.wire.call import BadPayload

MOST_VALUES = 10_000
"""How many values one message may have unless its reader is told otherwise; nulls count."""

MOST_KEYS_ASKED = 1_000
"""How many attributes one request may ask for by name, both scopes together."""

MOST_KEY_CHARACTERS = 255
"""How long the key of a reading or an attribute may be; ThingsBoard's column is that wide."""

MOST_NUMBER_CHARACTERS = 1024
"""How long a number with a point or an exponent may be, and a text that is taken for a number."""

LEAST_EXPONENT, MOST_EXPONENT = -324, 308
"""A double's. `1e999999999` is eleven bytes and a gigabyte written out."""

_NO_TELEMETRY = "telemetry must be an object or an array of objects"
_MOST_DECIMALS = 16
_LEAST_INT64, _PAST_INT64 = -(2**63), 2**63
_PLAIN_DECIMAL = re.compile(r"-?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)").fullmatch
_NUMBER_STARTS = frozenset("-.0123456789")

_Found = dict[str, Any]
"""The members of an object as they decode: numbers by `_double`, structures as what they hold."""
_Raws = dict[str, msgspec.Raw]


class _Literal(str):
    """A number with a point or an exponent, as it was written."""

    __slots__ = ()


def _double(literal: str) -> float | _Literal:
    """A short number with a point is a double by any rule; others need a closer look."""
    if len(literal) <= _MOST_DECIMALS and "e" not in literal and "E" not in literal:
        return float(literal) + 0.0  # Java's BigDecimal knows no negative zero
    return _Literal(literal)


_OBJECT: msgspec.json.Decoder[_Found] = msgspec.json.Decoder(dict[str, Any], float_hook=_double)
_TELEMETRY: msgspec.json.Decoder[_Found | list[_Found]] = msgspec.json.Decoder(
    dict[str, Any] | list[dict[str, Any]], float_hook=_double
)
_RAW_TELEMETRY: msgspec.json.Decoder[_Raws | list[_Raws]] = msgspec.json.Decoder(
    dict[str, msgspec.Raw] | list[dict[str, msgspec.Raw]]
)
_TOO_MUCH = "a number has too many digits, or a value is nested too deep"
_encode = msgspec.json.Encoder().encode


# ── from the device ───────────────────────────────────────────────────────────────────────────


def decode_telemetry(body: bytes, now_ms: int, *, max_values: int = MOST_VALUES) -> list[Reading]:
    """Read telemetry: an object, `{"ts":ms,"values":{..}}`, or an array of either (section 13).

    What carries no time of its own is of `now_ms`; nulls are skipped. An empty array gives no
    readings, and is no error. Texts that look like plain numbers become numbers, and numbers out
    of range become texts. More than `max_values` values, or objects, are a bad payload.
    """
    sent = _parsed(_TELEMETRY, _RAW_TELEMETRY, body, _NO_TELEMETRY)
    message = _Message(body, max_values)
    readings: list[Reading] = []
    if isinstance(sent, dict):
        _read(sent, now_ms, message, readings)
        return readings
    if len(sent) > max_values:
        raise BadPayload(f"at most {max_values} objects in one message")
    for message.index, found in enumerate(sent):
        _read(found, now_ms, message, readings)
    return readings


def decode_attributes(body: bytes, *, max_values: int = MOST_VALUES) -> dict[str, Value]:
    """Read attributes: one object. Values are as in `decode_telemetry`."""
    found = _parsed(_OBJECT, OBJECT, body, "attributes must be an object")
    readings: list[Reading] = []
    _read_values(found, 0, _Message(body, max_values), readings)
    return {reading.key: reading.value for reading in readings}


def _parsed(
    decoder: msgspec.json.Decoder[Decoded],
    raw_decoder: msgspec.json.Decoder[Any],
    body: bytes,
    wrong_shape: str,
) -> Decoded:
    """Decode `body`, as `parse_json` does; JSON that is too much for `decoder` is told apart."""
    try:
        if not body.isascii():
            body.decode()  # msgspec checks the UTF-8 it decodes, but not what it skips
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        parse_json(raw_decoder, body, wrong_shape)
    raise BadPayload(_TOO_MUCH)


class _Message(msgspec.Struct):
    """What is being read: how many values it had so far, and the place of the object at hand."""

    body: bytes
    max_values: int
    count: int = 0
    index: int = 0
    timed: bool = False
    objects: list[_Raws] | None = None

    def as_written(self) -> _Raws:
        """The values of the object at hand as they were written; a timed one has them inside.

        The message is decoded once more when this is first asked for, and only then.
        """
        try:
            if self.objects is None:
                sent = _RAW_TELEMETRY.decode(self.body)
                self.objects = sent if isinstance(sent, list) else [sent]
            raws = self.objects[self.index]
            return OBJECT.decode(raws["values"]) if self.timed else raws
        except RecursionError:  # the first time was from less deep in the program
            raise BadPayload(_TOO_MUCH) from None


def _read(found: _Found, now_ms: int, message: _Message, readings: list[Reading]) -> None:
    """Append the readings of one object of telemetry to `readings`."""
    message.timed = "values" in found and "ts" in found
    if message.timed:
        now_ms, found = _timestamp(found["ts"]), found["values"]
        if not isinstance(found, dict):
            raise BadPayload("values must be an object", undecodable=True)
    _read_values(found, now_ms, message, readings)


def _read_values(found: _Found, ts: int, message: _Message, readings: list[Reading]) -> None:
    """Append a reading for each member that is not null to `readings`."""
    message.count += len(found)
    if message.count > message.max_values:
        raise BadPayload(f"at most {message.max_values} values in one message")
    raws: _Raws | None = None
    for key, value in found.items():
        if not 0 < len(key) <= MOST_KEY_CHARACTERS:
            raise BadPayload(f"a key must have 1 to {MOST_KEY_CHARACTERS} characters")
        kind = type(value)
        if kind is str:
            if value[:1] in _NUMBER_STARTS:
                value = _cast(value)
        elif kind is int:
            value = _integral(value)
        elif kind is _Literal:
            value = _fractional(value)
        elif kind is dict or kind is list:
            raws = raws or message.as_written()
            value = Json(bytes(raws[key]).decode())
        elif value is None:
            continue
        readings.append(Reading(ts, key, value))


def _timestamp(found: object) -> int:
    """A time in ms, a number or text. A fraction is cut off: ThingsBoard's gateway sends some."""
    if isinstance(found, _Literal) or (isinstance(found, str) and _PLAIN_DECIMAL(found)):
        found = int(_exact(found))
    elif isinstance(found, float):
        found = int(found)
    if isinstance(found, bool) or not isinstance(found, int):
        raise BadPayload("ts must be a number of milliseconds")
    if not _LEAST_INT64 <= found < _PAST_INT64:
        raise BadPayload("ts must fit 64 bits")
    return found


# ── numbers ───────────────────────────────────────────────────────────────────────────────────


def _cast(text: str) -> int | float | str:
    """A text that is a plain decimal number as that number; any other as it is.

    Plain means: no exponent, no plus sign, no point at the end (Java's `NumberUtils.isParsable`).
    """
    if len(text) > MOST_NUMBER_CHARACTERS or _PLAIN_DECIMAL(text) is None:
        return text
    return _simple(text) if "." in text else _integral(int(text))


def _integral(number: int) -> int | str:
    return number if _LEAST_INT64 <= number < _PAST_INT64 else str(number)


def _fractional(literal: str) -> int | float | str:
    """A JSON number with a point, an exponent or both."""
    if "e" in literal or "E" in literal:
        return _scientific(literal)
    if len(literal) > MOST_NUMBER_CHARACTERS:
        raise _too_long()
    return _simple(literal)


def _simple(text: str) -> float | str:
    """A number with a point and no exponent: a double even if integral, unless it is too long."""
    return _decimal(text, len(text) - text.index(".") - 1)


def _scientific(literal: str) -> int | float | str:
    """A number with an exponent: an integer if it is integral, whatever its looks."""
    exact = _exact(literal)
    whole = exact.to_integral_value()
    if whole == exact:
        return int(whole) if _LEAST_INT64 <= whole < _PAST_INT64 else format(whole, "f")
    mantissa, _, exponent = literal.lower().partition("e")
    return _decimal(literal, len(mantissa.partition(".")[2]) - int(exponent))


def _decimal(literal: str, decimals: int) -> float | str:
    """A number as a double; written out if it has more decimals than are kept, or is too large."""
    if decimals <= _MOST_DECIMALS:
        number = float(literal) + 0.0
        if isfinite(number):
            return number
    return format(Decimal(literal), "f")


def _exact(literal: str) -> Decimal:
    """The number a literal means. Raises `BadPayload` before it could become a big one."""
    if len(literal) > MOST_NUMBER_CHARACTERS:
        raise _too_long()
    exponent = literal.lower().partition("e")[2]
    if exponent and not LEAST_EXPONENT <= int(exponent) <= MOST_EXPONENT:
        raise BadPayload(f"an exponent must be from {LEAST_EXPONENT} to {MOST_EXPONENT}")
    return Decimal(literal)


def _too_long() -> BadPayload:
    return BadPayload(f"a number must not have more than {MOST_NUMBER_CHARACTERS} digits")


# ── which attributes are asked for ────────────────────────────────────────────────────────────


def decode_attributes_request(body: bytes) -> AttributesSelection:
    """Read `{"clientKeys":"a,b","sharedKeys":"c"}` (section 8); an empty payload asks for all."""
    if not body:
        return AttributesSelection()
    members = parse_json(OBJECT, body, "an attributes request must be an object")
    return _select(
        text_of("clientKeys", members.get("clientKeys")),
        text_of("sharedKeys", members.get("sharedKeys")),
    )


def selection_from_query(query: Mapping[str, str]) -> AttributesSelection:
    """What `clientKeys` and `sharedKeys` of an HTTP or CoAP query ask for (sections 10 and 11)."""
    return _select(query.get("clientKeys"), query.get("sharedKeys"))


def _select(client_keys: str | None, shared_keys: str | None) -> AttributesSelection:
    """What two comma-separated lists of keys ask for.

    A list without keys counts as not given. Neither given: all of both scopes. One given: that
    one alone. Keys are not trimmed, since a key may begin or end with a space. Raises
    `BadPayload` beyond `MOST_KEYS_ASKED` keys, repeated and empty ones included.
    """
    asked = sum(text.count(",") + 1 for text in (client_keys, shared_keys) if text)
    if asked > MOST_KEYS_ASKED:
        raise BadPayload(f"at most {MOST_KEYS_ASKED} keys in one request")
    client, shared = _keys(client_keys), _keys(shared_keys)
    if not client and not shared:
        return AttributesSelection()
    return AttributesSelection(client, shared)


def _keys(text: str | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(key for key in text.split(",") if key)) if text else ()


# ── to the device ─────────────────────────────────────────────────────────────────────────────


def encode_attributes(found: Attributes) -> bytes:
    """`{"client":{..},"shared":{..}}`; a scope without values is left out (section 8)."""
    scopes = {"client": found.client, "shared": found.shared}
    return _encode(
        {name: msgspec.Raw(encode_values(values)) for name, values in scopes.items() if values}
    )


def encode_values(values: Mapping[str, Value]) -> bytes:
    """Values by key as one flat object, the way a device is told of changed attributes.

    A double stays one (`42.0`); an object or an array goes out as it came in.
    """
    return _encode(
        {
            key: msgspec.Raw(value.text) if isinstance(value, Json) else value
            for key, value in values.items()
        }
    )
