"""Values of attributes and readings, as ThingsBoard's REST takes and gives them.

Attributes that people set are not cast, unlike those that devices send: `"00123"` stays a text
(contract, section 13, is about devices). Readings that people write are read as devices' are.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

from gateway.core.model import Attribute, Json, Reading, Value
from gateway.dialects.thingsboard.admin.desk import bad_request
from gateway.dialects.thingsboard.readings import MOST_KEY_CHARACTERS, MOST_VALUES

MOST_KEYS: Final = 1_000
"""Keys that one call may name."""
_LEAST, _PAST = -(2**63), 2**63
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ANY: Final = msgspec.json.Decoder()


class AttributeAnswer(Struct, rename="camel"):
    """One attribute; `last_update_ts` in ms."""

    last_update_ts: int
    key: str
    value: Any


class ReadingAnswer(Struct):
    """One reading; `ts` in ms. The value is a text, unless its own type was asked for."""

    ts: int
    value: Any


def attributes_in(body: bytes) -> dict[str, Value]:
    """A flat object; nulls are skipped. Raises `Trouble` (400), which repeats nothing of it."""
    try:
        body.decode()  # msgspec checks the UTF-8 it decodes, but not what it skips
        raws = _OBJECT.decode(body)
        found = {key: _value(raw) for key, raw in raws.items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise bad_request("Request is not a JSON object") from None
    values = {key: value for key, value in found.items() if value is not None}
    if not values:
        raise bad_request("No attributes data found in request body!")
    if len(values) > MOST_VALUES:
        raise bad_request(f"at most {MOST_VALUES} attributes in one request")
    if any(not key.strip() or len(key) > MOST_KEY_CHARACTERS for key in values):
        raise bad_request(f"Key must have 1 to {MOST_KEY_CHARACTERS} characters, not only spaces")
    return values


def _value(raw: msgspec.Raw) -> Value | None:
    found = _ANY.decode(raw)
    match found:
        case dict() | list():
            return Json(bytes(raw).decode())
        case bool() | str() | float() | None:
            return found
        case int() if _LEAST <= found < _PAST:
            return found
        case _:
            raise bad_request("Big integer values are not supported!")


def plain_value(value: Value) -> Any:
    """As JSON has it; objects and arrays as they were written."""
    return msgspec.Raw(value.text) if isinstance(value, Json) else value


def value_text(value: Value) -> str:
    """As ThingsBoard writes it by default: every value a text (`"3.0"`, `"true"`)."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case Json(text):
            return text
        case _:
            return repr(value)


def attribute_json(one: Attribute) -> AttributeAnswer:
    return AttributeAnswer(one.updated_at, one.key, plain_value(one.value))


def reading_json(one: Reading, *, strict: bool) -> ReadingAnswer:
    """`{"ts":1,"value":"3.0"}`; `strict` (`useStrictDataTypes`): with its own type."""
    return ReadingAnswer(one.ts, plain_value(one.value) if strict else value_text(one.value))


def keys_in(text: str) -> list[str]:
    """A comma-separated list, each key once. Raises `Trouble` (400)."""
    if text.count(",") >= MOST_KEYS:
        raise bad_request(f"at most {MOST_KEYS} keys in one request")
    return list(dict.fromkeys(key for key in text.split(",") if key))


def flag_of(text: str, name: str) -> bool:
    """`true` or `false`; left out it is false. Raises `Trouble` (400)."""
    match text.lower():
        case "true":
            return True
        case "" | "false":
            return False
        case _:
            raise bad_request(f"{name} must be true or false")
