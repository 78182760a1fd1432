"""Telemetry in SenML (RFC 8428), JSON and CBOR: a pack of records becomes readings.

Records are resolved (section 4.6): the key of a reading is base name and name. Times below 2**28
are relative to now, in seconds. What ThingsBoard's telemetry has no place for:

- The unit is left out; but where one name has several units in a pack (longitude and latitude, as
  in section 5.1.3), each key ends in its own: `urn:dev:ow:10e2073a01080063:lon`.
- A sum is a reading of its own, whose key ends in `.sum`.
- Data (`vd`) are kept as text, in base64url.
- `ut`, until when the next value comes at the latest, is read and forgotten.

A record of base fields alone gives no reading. Versions up to 10 are understood (section 4.4).
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from decimal import Decimal
from math import isfinite
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Struct

from gateway.core.model import Reading, Value
from gateway.dialects.thingsboard.readings import MOST_KEY_CHARACTERS
from gateway.wire.call import BadPayload

VERSION: Final = 10
RELATIVE_S: Final = 2**28
"""A time below it is counted from now (section 4.5.3)."""
MOST_S: Final = 10**11
"""A time in seconds that is meant: the year 5138."""
MOST_WHOLE: Final = 10**308
"""Whole numbers that can be added to a double."""
SUM: Final = ".sum"

_LABELS: Final = dict(
    enumerate(
        ("bs", "bv", "bu", "bt", "bn", "bver", "n", "u", "v", "vs", "vb", "s", "t", "ut", "vd"), -6
    )
)
"""Of members in CBOR (section 6)."""
_OWN: Final = frozenset({"n", "u", "v", "vs", "vb", "s", "t", "ut", "vd"})
"""Members that say something of one record. Those nobody knows are passed over (section 4.4)."""
_VALUES: Final = ("v", "vs", "vb", "vd")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9:./_-]*").fullmatch
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*={0,2}").fullmatch
_TOO_LONG: Final = f"a name must have at most {MOST_KEY_CHARACTERS} characters"
_NO_PACK: Final = "a SenML pack is an array of one or more records"
_LEAST_INT64, _PAST_INT64 = -(2**63), 2**63

Record: TypeAlias = dict[str, Any]
_PACK: msgspec.json.Decoder[list[Record]] = msgspec.json.Decoder(list[dict[str, Any]])


def decode_senml(body: bytes, now_ms: int, *, max_values: int, cbor: bool) -> list[Reading]:
    """The readings of a pack. Raises `BadPayload`."""
    records = _cbor_records(body) if cbor else _json_records(body)
    if not records:
        raise BadPayload(_NO_PACK)
    if len(records) > max_values:
        raise BadPayload(f"at most {max_values} records in one message")
    bases = _Bases()
    resolved = [one for record in records for one in bases.resolve(record, now_ms)]
    if len(resolved) > max_values:
        raise BadPayload(f"at most {max_values} values in one message")
    return _keyed(resolved)


# ── records ───────────────────────────────────────────────────────────────────────────────────


def _json_records(body: bytes) -> list[Record]:
    try:
        return _PACK.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadPayload(_NO_PACK, undecodable=True) from None


def _cbor_records(body: bytes) -> list[Record]:
    from gateway.dialects.thingsboard.cbor import loads

    pack = loads(body, senml=True)
    if not isinstance(pack, list) or not all(isinstance(one, dict) for one in pack):
        raise BadPayload(_NO_PACK, undecodable=True)
    return [_named(one) for one in pack]


def _named(labelled: Mapping[Any, Any]) -> Record:
    """A record whose members have their names; numbers nobody knows are extensions, left out."""
    record: Record = {}
    for label, value in labelled.items():
        name = _LABELS.get(label) if isinstance(label, int) else label
        if name is None:
            continue
        if name in record:
            raise BadPayload("a member is there twice in a record")
        record[name] = _number_of(value) if isinstance(value, Decimal) else value
    return record


def _number_of(fraction: Decimal) -> float:
    number = float(fraction)
    if not isfinite(number):
        raise BadPayload("a number is too large")
    return number


class _Resolved(Struct, frozen=True):
    """A value with its whole name, its unit ("": none) and its time in ms."""

    name: str
    unit: str
    ts: int
    value: Value


class _Bases:
    """What the records so far said for those behind them."""

    def __init__(self) -> None:
        self._version: int | None = None
        self._name = self._unit = ""
        self._time: int | float = 0
        self._value: int | float | None = None
        self._sum: int | float | None = None

    def resolve(self, record: Record, now_ms: int) -> list[_Resolved]:
        """The readings of one record: its value, its sum, or both."""
        for member in record:
            if member.endswith("_"):
                raise BadPayload("a member that must be understood (it ends in _) is not")
        self._take(record)
        if not record.keys() & _OWN:
            return []
        found: list[_Resolved] = []
        name = self._whole_name(record)
        unit = _text(record, "u") or self._unit
        ts = _moment(self._time + (_number(record, "t") or 0), now_ms)
        _number(record, "ut")
        value = self._value_of(record)
        if value is not None:
            found.append(_Resolved(name, unit, ts, value))
        summed = self._sum_of(record)
        if summed is not None:
            found.append(_Resolved(name + SUM, unit, ts, summed))
        if not found and self._value is not None:
            found.append(_Resolved(name, unit, ts, _kept(self._value)))  # and zero (section 4.5.4)
        if not found:
            raise BadPayload("a record has neither a value nor a sum")
        return found

    def _take(self, record: Record) -> None:
        """Base fields hold from this record on."""
        if self._version is None or "bver" in record:
            self._check_version(record.get("bver", VERSION))
        if "bn" in record:
            self._name = _short(_text(record, "bn"))
        if "bu" in record:
            self._unit = _text(record, "bu")
        if "bt" in record:
            self._time = _number(record, "bt") or 0
        if "bv" in record:
            self._value = _number(record, "bv")
        if "bs" in record:
            self._sum = _number(record, "bs")

    def _check_version(self, version: Any) -> None:
        if isinstance(version, bool) or not isinstance(version, int) or version < 1:
            raise BadPayload("bver must be a whole number above 0")
        if version > VERSION:
            raise BadPayload(f"version {VERSION} of SenML is understood, and no later one")
        if self._version not in (None, version):
            raise BadPayload("all records of a pack have one version")
        self._version = version

    def _whole_name(self, record: Record) -> str:
        name = _short(self._name + _text(record, "n"))
        if not _NAME(name):
            raise BadPayload(
                "a name begins with a letter or digit, and has letters, digits and -:./_ alone"
            )
        return name

    def _value_of(self, record: Record) -> Value | None:
        given = [one for one in _VALUES if one in record]
        if len(given) > 1:
            raise BadPayload("a record has more than one value")
        match given:
            case ["v"]:
                number = _number(record, "v")
                return None if number is None else _kept((self._value or 0) + number)
            case ["vs"]:
                return _text(record, "vs")
            case ["vb"]:
                return _flag(record["vb"])
            case ["vd"]:
                return _data(record["vd"])
            case _:
                return None

    def _sum_of(self, record: Record) -> Value | None:
        own = _number(record, "s")
        if own is None and self._sum is None:
            return None
        return _kept((self._sum or 0) + (own or 0))


# ── members ───────────────────────────────────────────────────────────────────────────────────


def _text(record: Record, member: str) -> str:
    """Empty without it."""
    found = record.get(member, "")
    if not isinstance(found, str):
        raise BadPayload(f"{member} must be a text")
    return found


def _short(name: str) -> str:
    """A name no longer than a key. Looked at before anything is made of it: a base name stands
    before each of thousands."""
    if len(name) > MOST_KEY_CHARACTERS:
        raise BadPayload(_TOO_LONG)
    return name


def _number(record: Record, member: str) -> int | float | None:
    if member not in record:
        return None
    found = record[member]
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise BadPayload(f"{member} must be a number")
    if isinstance(found, int) and abs(found) > MOST_WHOLE:
        raise BadPayload("a number is too large")
    return found


def _flag(found: Any) -> bool:
    if not isinstance(found, bool):
        raise BadPayload("vb must be true or false")
    return found


def _data(found: Any) -> str:
    """Bytes as text in base64url without padding, as JSON has them."""
    if isinstance(found, bytes):
        return urlsafe_b64encode(found).rstrip(b"=").decode()
    if not isinstance(found, str) or not _BASE64URL(found) or len(found.rstrip("=")) % 4 == 1:
        raise BadPayload("vd must be data in base64url")
    return found.rstrip("=")


def _kept(number: int | float) -> Value:
    """A number as readings have them: whole ones fit 64 bits."""
    if isinstance(number, int):
        return number if _LEAST_INT64 <= number < _PAST_INT64 else str(number)
    if not isfinite(number):
        raise BadPayload("a number is too large")
    return number + 0.0


def _moment(seconds: int | float, now_ms: int) -> int:
    """A time in ms: since the epoch, or from now on."""
    if not -MOST_S < seconds < MOST_S:
        raise BadPayload("a time is out of bounds")
    ms = round(seconds * 1000)
    return now_ms + ms if seconds < RELATIVE_S else ms


def _keyed(resolved: list[_Resolved]) -> list[Reading]:
    """Readings under their names, and the unit where it is all that tells them apart."""
    units: dict[str, set[str]] = {}
    for one in resolved:
        units.setdefault(one.name, set()).add(one.unit)
    readings = []
    for one in resolved:
        several = len(units[one.name]) > 1 and one.unit
        key = f"{one.name}:{one.unit}" if several else one.name
        readings.append(Reading(one.ts, _short(key), one.value))
    return readings
