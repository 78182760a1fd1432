"""What stands in the allow-lists and deny-lists of profiles: names, serial numbers, MACs.

Each has one normal form, in which it is kept and looked for.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

import msgspec
from msgspec import Struct

from gateway.core.model import ProvisionRequest
from gateway.core.names import MOST_NAME_CHARACTERS, is_device_name, is_plain

MOST_SERIAL_CHARACTERS: Final = MOST_NAME_CHARACTERS
_MAC: Final = re.compile(
    r"[0-9a-f]{2}([:-]?)[0-9a-f]{2}(?:\1[0-9a-f]{2}){4}(?:(?:\1[0-9a-f]{2}){2})?"
    r"|[0-9a-f]{4}(?:\.[0-9a-f]{4}){2,3}"
)
"""Six bytes, or eight (EUI-64), as IEEE 802, Windows, Cisco and plain hexadecimal write them."""


class EntryKind(StrEnum):
    """By what a list knows a device."""

    NAME = "name"
    SERIAL = "serial"
    MAC = "mac"


class Entry(Struct, frozen=True, order=True):
    """A device as a list knows it. `value` is in its normal form."""

    kind: EntryKind
    value: str


def entry_of(kind: EntryKind, text: str) -> Entry:
    """`text` in its normal form: names as they are, serial numbers in one case of letters, MACs as
    `aa:bb:cc:dd:ee:ff`. Raises `ValueError` with a sentence."""
    match kind:
        case EntryKind.NAME:
            return Entry(kind, _name(text))
        case EntryKind.SERIAL:
            return Entry(kind, _serial(text))
        case EntryKind.MAC:
            return Entry(kind, _mac(text))


def _name(text: str) -> str:
    name = text.strip()
    if not is_device_name(name):
        raise ValueError(f"a name has 1 to {MOST_NAME_CHARACTERS} plain characters")
    return name


def _serial(text: str) -> str:
    serial = text.strip().casefold()
    if not 0 < len(serial) <= MOST_SERIAL_CHARACTERS or not is_plain(serial):
        raise ValueError(f"a serial number has 1 to {MOST_SERIAL_CHARACTERS} plain characters")
    return serial


def _mac(text: str) -> str:
    mac = text.strip().lower()
    if not _MAC.fullmatch(mac):
        raise ValueError("a MAC has six bytes (or eight), as in aa:bb:cc:dd:ee:ff")
    if mac[2] in ":-":
        return mac.replace("-", ":")
    digits = mac.replace(".", "")
    return ":".join(digits[at : at + 2] for at in range(0, len(digits), 2))


# ── what a device tells of itself ─────────────────────────────────────────────────────────────


class Marks(Struct, frozen=True):
    """By what a device that asks may be listed; None: it has no such thing."""

    name: str | None = None
    serial: str | None = None
    mac: str | None = None


class _Hardware(Struct):
    serial: str | int | None = None
    mac: str | None = None


class _Serial(Struct):
    serial: str | int | None = None


class _MacAlone(Struct):
    mac: str | None = None


_whole = msgspec.json.Decoder(_Hardware)
_pieces = (msgspec.json.Decoder(_Serial), msgspec.json.Decoder(_MacAlone))


def marks_of(request: ProvisionRequest) -> Marks:
    """A serial number or MAC that is none counts as if the device had not told it."""
    name = (request.device_name or "").strip()
    hardware = _Hardware() if request.hardware is None else _hardware(request.hardware.text)
    return Marks(
        name if is_device_name(name) else None,
        _known(EntryKind.SERIAL, hardware.serial),
        _known(EntryKind.MAC, hardware.mac),
    )


def _hardware(text: str) -> _Hardware:
    try:
        return _whole.decode(text)
    except (msgspec.DecodeError, RecursionError):
        pass
    found = _Hardware()
    for decoder in _pieces:  # one may be readable where the other is not
        try:
            piece = decoder.decode(text)
        except (msgspec.DecodeError, RecursionError):
            continue
        for name in piece.__struct_fields__:
            setattr(found, name, getattr(piece, name))
    return found


def _known(kind: EntryKind, value: str | int | None) -> str | None:
    if value is None:
        return None
    try:
        return entry_of(kind, str(value)).value
    except ValueError:
        return None
