"""Telemetry and attributes in JSON: a device's numbers and texts, into core values and back.

The number rules are ThingsBoard's (its contract, section 13) and depend on how a number was
written: `10` and `1E+1` are integers, `10.0` is not. So values are taken as written first.
Whatever a device sends, nothing but `BadPayload` comes out, and no message repeats it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from math import isfinite

import msgspec

from gateway.core.model import Attributes, AttributesSelection, Json, Reading, Value
from gateway.dialects.thingsboard.payloads import OBJECT, parse_json, text_of
from gateway.wire.call import BadPayload

MOST_KEY_CHARACTERS = 255
"""How long the key of a reading or an attribute may be; ThingsBoard's column is that wide."""

MOST_NUMBER_CHARACTERS = 1024
"""Bounds a number with a point or an exponent: the literal's length, and its exponent.

`1e999999999` is eleven bytes and a gigabyte written out. A double needs less than 800.
"""

_MOST_DECIMALS = 16
_LEAST_INT64, _PAST_INT64 = -(2**63), 2**63
_PLAIN_DECIMAL = re.compile(r"-?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)").fullmatch
_NUMBER_STARTS = frozenset("-.0123456789")

_Members = dict[str, msgspec.Raw]


class _Literal(str):
    """A number with a point or an exponent, as it was written."""

    __slots__ = ()


def _double(literal: str) -> float | _Literal:
    """A short number with a point is a double by any rule; others need a closer look."""
    if len(literal) <= _MOST_DECIMALS and "e" not in literal and "E" not in literal:
        return float(literal) + 0.0  # Java's BigDecimal knows no negative zero
    return _Literal(literal)


_VALUE = msgspec.json.Decoder(float_hook=_double)
_TELEMETRY: msgspec.json.Decoder[_Members | list[_Members]] = msgspec.json.Decoder(
    dict[str, msgspec.Raw] | list[dict[str, msgspec.Raw]]
)
_encode = msgspec.json.Encoder().encode


# ── from the device ───────────────────────────────────────────────────────────────────────────


def decode_telemetry(body: bytes, now_ms: int, *, type_cast: bool = True) -> list[Reading]:
    """Read telemetry: an object, `{"ts":ms,"values":{..}}`, or an array of either (section 13).

    What carries no time of its own is of `now_ms`; nulls are skipped. An empty array gives no
    readings, and is no error. With `type_cast`, texts that look like plain numbers become
    numbers, and numbers out of range become texts; without, the latter are a bad payload.
    """
    sent = parse_json(_TELEMETRY, body, "telemetry must be an object or an array of objects")
    readings: list[Reading] = []
    for members in sent if isinstance(sent, list) else (sent,):
        ts, values = now_ms, members
        if "values" in members and "ts" in members:
            ts = _timestamp(members["ts"])
            values = parse_json(OBJECT, bytes(members["values"]), "values must be an object")
        found = _values(values, type_cast)
        readings += [Reading(ts, key, value) for key, value in found.items()]
    return readings


def decode_attributes(body: bytes, *, type_cast: bool = True) -> dict[str, Value]:
    """Read attributes: one object. Values are as in `decode_telemetry`."""
    members = parse_json(OBJECT, body, "attributes must be an object")
    return _values(members, type_cast)


def _values(members: _Members, type_cast: bool) -> dict[str, Value]:
    """The values of one object, without its nulls. `members` have proven syntax, no proven size."""
    values: dict[str, Value] = {}
    try:
        for key, raw in members.items():
            if not key or len(key) > MOST_KEY_CHARACTERS:
                raise BadPayload(f"a key must have 1 to {MOST_KEY_CHARACTERS} characters")
            found = _VALUE.decode(raw)
            if type(found) is float:
                values[key] = found
            elif found is not None:
                values[key] = _value(found, raw, type_cast)
    except (msgspec.DecodeError, RecursionError):
        raise _oversized() from None
    return values


def _value(found: object, raw: msgspec.Raw, type_cast: bool) -> Value:
    """The value `raw` is; `found` is what it decodes to."""
    if isinstance(found, str):
        if isinstance(found, _Literal):
            return _fractional(found, type_cast)
        return _cast(found) if type_cast else found
    if isinstance(found, bool):
        return found
    if isinstance(found, int):
        return _integral(found, type_cast)
    return Json(bytes(raw).decode())


def _oversized() -> BadPayload:
    return BadPayload("a number has too many digits, or a value is nested too deep")


def _timestamp(raw: msgspec.Raw) -> int:
    """A time in ms, a number or text. A fraction is cut off: ThingsBoard's gateway sends some."""
    try:
        found = _VALUE.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        raise _oversized() from None
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
    if text[:1] not in _NUMBER_STARTS or len(text) > MOST_NUMBER_CHARACTERS:
        return text
    if _PLAIN_DECIMAL(text) is None:
        return text
    return _simple(text, True) if "." in text else _integral(int(text), True)


def _integral(number: int, type_cast: bool) -> int | str:
    if _LEAST_INT64 <= number < _PAST_INT64:
        return number
    return _as_text(Decimal(number), type_cast)


def _fractional(literal: str, type_cast: bool) -> int | float | str:
    """A JSON number with a point, an exponent or both."""
    if "e" in literal or "E" in literal:
        return _scientific(literal, type_cast)
    if len(literal) > MOST_NUMBER_CHARACTERS:
        raise _too_long()
    return _simple(literal, type_cast)


def _simple(text: str, type_cast: bool) -> float | str:
    """A number with a point and no exponent: a double even if integral, unless it is too long."""
    if len(text) - text.index(".") - 1 <= _MOST_DECIMALS:
        number = float(text) + 0.0
        if isfinite(number):
            return number
    return _as_text(Decimal(text), type_cast)


def _scientific(literal: str, type_cast: bool) -> int | float | str:
    """A number with an exponent: an integer if it is integral, whatever its looks."""
    exact = _exact(literal)
    whole = int(exact)
    if whole == exact:
        return _integral(whole, type_cast)
    mantissa, _, exponent = literal.lower().partition("e")
    decimals = len(mantissa.partition(".")[2]) - int(exponent)
    return float(exact) if decimals <= _MOST_DECIMALS else _as_text(exact, type_cast)


def _exact(literal: str) -> Decimal:
    """The number a literal means. Raises `BadPayload` before it could become a big one."""
    exponent = literal.lower().partition("e")[2]
    if len(literal) > MOST_NUMBER_CHARACTERS or abs(int(exponent or 0)) > MOST_NUMBER_CHARACTERS:
        raise _too_long()
    return Decimal(literal)


def _too_long() -> BadPayload:
    return BadPayload(f"a number must not need more than {MOST_NUMBER_CHARACTERS} digits")


def _as_text(number: Decimal, type_cast: bool) -> str:
    """A number no double or 64-bit integer holds: written out, or refused."""
    if not type_cast:
        raise BadPayload("a number is out of range")
    return format(number, "f")


# ── which attributes are asked for ────────────────────────────────────────────────────────────


def decode_attributes_request(body: bytes) -> AttributesSelection:
    """Read `{"clientKeys":"a,b","sharedKeys":"c"}` (section 8); an empty payload asks for all."""
    if not body:
        return select(None, None)
    members = parse_json(OBJECT, body, "an attributes request must be an object")
    return select(
        text_of("clientKeys", members.get("clientKeys")),
        text_of("sharedKeys", members.get("sharedKeys")),
    )


def selection_from_query(query: Mapping[str, str]) -> AttributesSelection:
    """What `clientKeys` and `sharedKeys` of an HTTP or CoAP query ask for (sections 10 and 11)."""
    return select(query.get("clientKeys"), query.get("sharedKeys"))


def select(client_keys: str | None, shared_keys: str | None) -> AttributesSelection:
    """What two comma-separated lists of keys ask for.

    A list without keys counts as not given. Neither given: all of both scopes. One given: that
    one alone. Keys are not trimmed, since a key may begin or end with a space.
    """
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
