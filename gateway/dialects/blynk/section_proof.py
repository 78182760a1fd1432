"""Proves a `[blynk]` table: every mistake is a sentence that begins with the key at fault."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, Final, TypeVar

import msgspec
from msgspec import structs

from gateway.core.model import ProfileTransport
from gateway.core.names import is_device_name
from gateway.core.spelling import nearest
from gateway.dialects.blynk.section import (
    DEVICE_NAME,
    DEVICE_OWNER,
    Datastream,
    EventType,
    FieldType,
    MetaField,
    Section,
    StreamType,
)
from gateway.dialects.blynk.values import MOST_TEXT_BYTES, Mistake, from_json, is_email

MOST_STREAMS: Final = 256
MOST_FIELDS: Final = 100
MOST_EVENTS: Final = 100
MOST_ORGANISATIONS: Final = 100
MOST_NAME_CHARACTERS: Final = 64
MOST_KEY_CHARACTERS: Final = 255
"""Of a time series, as ThingsBoard has it."""
MOST_DEVICE_NAME_CHARACTERS: Final = 200
"""With the number; leaves room for what is added when a name is taken."""
LAST_PIN: Final = 255
LAST_ID: Final = 999_999_999

_TEMPLATE_ID = re.compile(r"[A-Za-z0-9_-]{4,32}").fullmatch
_CODE = re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch
_NUMBER = re.compile(r"[-+]?[0-9]+(?:\.0*)?").fullmatch
_LIKE_A_PIN = re.compile(r"v[0-9]+").fullmatch
_LONGEST_NUMBER = "2147483647"
_LEAST_INT64, _PAST_INT64 = -(2**63), 2**63
_NOT_IN_NAMES = frozenset("/+#,\0")
_EVENT_KEYS = "event."
_Thing = TypeVar("_Thing", Datastream, MetaField)
_RANGED = (StreamType.INTEGER, StreamType.DOUBLE)


def read_section(section: Mapping[str, Any]) -> Section:
    """The table as a value. Raises `ValueError`: a sentence that begins with the key at fault."""
    known = Section.__struct_fields__
    for key in section:
        if key not in known:
            raise ValueError(f"{key} is no setting of a template. {nearest(key, known)}")
    try:
        found = msgspec.convert(dict(section), Section)
    except msgspec.ValidationError as exc:
        what, _, where = str(exc).partition(" - at `$.")
        path = where.rstrip("`")
        key = re.split(r"[.\[]", path)[0] or "template_id"
        raise ValueError(f"{key} is not as it should be ({path or key}): {what}.") from None
    _check_names(found)
    _check_streams(found.datastreams)
    _check_fields(found.metadata)
    _check_events(found.events)
    return found


def prove_section(section: Mapping[str, Any], transport: ProfileTransport) -> object:
    """Raises `ValueError` as `read_section` does; a template suits every transport."""
    return read_section(section)


def _check_names(found: Section) -> None:
    if not _TEMPLATE_ID(found.template_id):
        raise ValueError("template_id must be 4 to 32 characters of A-Z, a-z, 0-9, _ and -.")
    name = found.device_name
    if name and "{id}" not in name:
        raise ValueError("device_name needs {id} where the number of the device belongs.")
    longest = name.replace("{id}", _LONGEST_NUMBER)
    if len(longest) > MOST_DEVICE_NAME_CHARACTERS or not name.isprintable() or name != name.strip():
        raise ValueError(
            f"device_name has at most {MOST_DEVICE_NAME_CHARACTERS} printable characters with the "
            "number, and no space around it."
        )
    if name and not is_device_name(longest):
        raise ValueError("device_name may hold no markup: < with >, {{ or ${.")
    _check_count("organisations", found.organisations, MOST_ORGANISATIONS)
    _check_unique("organisations", "number", found.organisations)
    if any(one < 1 for one in found.organisations):
        raise ValueError("organisations are numbers from 1 on, as `gatehouse` shows them.")


# ── datastreams ───────────────────────────────────────────────────────────────────────────────


def _check_streams(streams: Sequence[Datastream]) -> None:
    key = "datastreams"
    _check_count(key, streams, MOST_STREAMS)
    for one in streams:
        _check_name(key, one.name)
        _check_id(key, one.name, one.id)
        if one.pin is not None and not 0 <= one.pin <= LAST_PIN:
            raise _fault(key, one.name, f"has a pin that is not from 0 to {LAST_PIN}")
        if len(one.key) > MOST_KEY_CHARACTERS or not one.key.isprintable():
            raise _fault(
                key, one.name, f"has a key of more than {MOST_KEY_CHARACTERS} printable characters"
            )
        if one.pin is None and _LIKE_A_PIN(one.name):
            raise _fault(key, one.name, "has the name of a pin, but no pin")
        if one.series.startswith(_EVENT_KEYS):
            raise _fault(key, one.name, f"is kept where events are: no key begins `{_EVENT_KEYS}`")
        _check_range(one)
        _check_values(one)
        _check_default(one)
    _check_unique(key, "name", [one.name for one in streams])
    _check_unique(key, "pin", [one.pin for one in streams if one.pin is not None])
    _check_unique(key, "id", _ids(streams))
    _check_unique(key, "key", [one.series for one in streams])


def _check_range(stream: Datastream) -> None:
    low, high = stream.min, stream.max
    if low is None and high is None:
        return
    if stream.type not in _RANGED:
        raise _fault("datastreams", stream.name, "has a min or max, but is no number")
    if not all(isfinite(one) for one in (low, high) if one is not None):
        raise _fault("datastreams", stream.name, "has a min or max that is no number")
    if low is not None and high is not None and low > high:
        raise _fault("datastreams", stream.name, "has a min that is greater than its max")


def _check_values(stream: Datastream) -> None:
    values, name = stream.values, stream.name
    if stream.type is not StreamType.ENUM:
        if values:
            raise _fault("datastreams", name, "has values, but is no enum")
        return
    if not 1 <= len(values) <= MOST_STREAMS or len(set(values)) < len(values):
        raise _fault("datastreams", name, f"needs 1 to {MOST_STREAMS} values, no two alike")
    for one in values:
        if not 0 < len(one) <= MOST_NAME_CHARACTERS or not one.isprintable() or _NUMBER(one):
            raise _fault(
                "datastreams",
                name,
                f"has a value that is not a name of 1 to {MOST_NAME_CHARACTERS} characters; a "
                "number is none",
            )


def _check_default(stream: Datastream) -> None:
    if stream.default is None:
        return
    try:
        from_json(stream, stream.default)
    except Mistake:
        raise _fault("datastreams", stream.name, "has a default that it may not have") from None


# ── metadata and events ───────────────────────────────────────────────────────────────────────


def _check_fields(fields: Sequence[MetaField]) -> None:
    key = "metadata"
    _check_count(key, fields, MOST_FIELDS)
    for one in fields:
        _check_name(key, one.name)
        _check_id(key, one.name, one.id)
        if one.name in (DEVICE_NAME, DEVICE_OWNER):
            raise _fault(key, one.name, "is there without being named")
        _check_field_default(one)
    _check_unique(key, "name", [one.name for one in fields])
    _check_unique(key, "id", _ids(fields))


def _check_field_default(field: MetaField) -> None:
    key, default = "metadata", field.default
    if default is None:
        return
    if isinstance(default, str):
        fits = field.type is not FieldType.NUMBER
        fits = fits and (field.type is not FieldType.EMAIL or not default or is_email(default))
    else:
        fits = field.type is FieldType.NUMBER and _can_be_kept(default)
    if not fits:
        raise _fault(key, field.name, f"has a default that is no {field.type.value}")
    if isinstance(default, str) and (
        len(default.encode(errors="replace")) > MOST_TEXT_BYTES or "\0" in default
    ):
        raise _fault(key, field.name, f"has a default of more than {MOST_TEXT_BYTES} bytes")


def _can_be_kept(number: int | float) -> bool:
    return _LEAST_INT64 <= number < _PAST_INT64 if isinstance(number, int) else isfinite(number)


def _check_events(events: Sequence[EventType]) -> None:
    key = "events"
    _check_count(key, events, MOST_EVENTS)
    for one in events:
        if not _CODE(one.code):
            raise _fault(key, one.code, "has a code that is not 1 to 64 of A-Z, a-z, 0-9, _ and -")
        if len(one.name) > MOST_KEY_CHARACTERS or not one.name.isprintable():
            raise _fault(
                key, one.code, f"has a name of more than {MOST_KEY_CHARACTERS} printable characters"
            )
    _check_unique(key, "code", [one.code for one in events])


# ── all of them ───────────────────────────────────────────────────────────────────────────────


def numbered(things: Sequence[_Thing]) -> list[_Thing]:
    """Each with its id, which is its place where the file names none."""
    return [
        one if one.id else structs.replace(one, id=place) for place, one in enumerate(things, 1)
    ]


def _ids(things: Sequence[_Thing]) -> list[int]:
    return [one.id for one in numbered(things)]


def _check_count(key: str, things: Sequence[object], most: int) -> None:
    if len(things) > most:
        raise ValueError(f"{key} may be at most {most}.")


def _check_name(key: str, name: str) -> None:
    """Names are levels of MQTT topics, and listed with commas."""
    if (
        not 0 < len(name) <= MOST_NAME_CHARACTERS
        or not name.isprintable()
        or name != name.strip()
        or not _NOT_IN_NAMES.isdisjoint(name)
    ):
        raise _fault(
            key,
            name,
            f"is no name: it has 1 to {MOST_NAME_CHARACTERS} printable characters, no space around "
            "it, and none of / + # and comma",
        )


def _check_id(key: str, name: str, number: int) -> None:
    if not 0 <= number <= LAST_ID:
        raise _fault(key, name, f"has an id that is not from 1 to {LAST_ID}")


def _check_unique(key: str, what: str, given: Sequence[object]) -> None:
    seen: set[object] = set()
    for one in given:
        if one in seen:
            raise ValueError(f"{key} has the {what} `{_short(str(one))}` twice.")
        seen.add(one)


def _fault(key: str, name: str, wrong: str) -> ValueError:
    return ValueError(f"{key} has a mistake: `{_short(name)}` {wrong}.")


def _short(name: str) -> str:
    return name[:MOST_NAME_CHARACTERS]
