"""A profile's `[blynk]` table, which makes the profile a template (contract, section 1)."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from msgspec import Struct

SECTION: Final = "blynk"
DEVICE_NAME: Final = "Device Name"
DEVICE_OWNER: Final = "Device Owner"
"""Fields of metadata that every device has: its name, and the e-mail address of its owner."""


class StreamType(StrEnum):
    INTEGER = "integer"
    DOUBLE = "double"
    STRING = "string"
    ENUM = "enum"
    LOCATION = "location"


class Datastream(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One value of a device. `pin` 1 is `v1`; None: it has a name alone. `id` 0: its place in the
    list, from 1. `key` is that of the time series it is kept in, "": its name. Values are from
    `min` to `max`, where they are given."""

    name: str
    pin: int | None = None
    id: int = 0
    type: StreamType = StreamType.DOUBLE
    min: float | None = None
    max: float | None = None
    default: int | float | str | list[float] | None = None
    values: list[str] = []
    """Of an enum: what its numbers 0, 1, … mean."""
    key: str = ""

    @property
    def series(self) -> str:
        """The key of its time series."""
        return self.key or self.name

    @property
    def label(self) -> str:
        """What it is called among others: its pin, or its name without one."""
        return self.name if self.pin is None else f"v{self.pin}"


class FieldType(StrEnum):
    TEXT = "Text"
    NUMBER = "Number"
    EMAIL = "Email"
    LOCATION = "Location"


class MetaField(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One field of metadata; devices are born with its default, if it has one. Kept as the shared
    attribute of its name. `id` 0: its place in the list, from 1."""

    name: str
    id: int = 0
    type: FieldType = FieldType.TEXT
    default: str | int | float | None = None
    writable: bool = True
    """Whether devices may change it."""


class EventType(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something a device may tell of."""

    code: str
    name: str = ""


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table. `device_name` has `{id}` where the device's number belongs, "": the profile's name
    and the number. `organisations` are the numbers of those it is enabled for, with all below them;
    none: for all that see the profile. `gateway`: its devices may speak for others (section 7.4).
    `fallback`: devices that name none, or an unknown one, are of this (section 5.2)."""

    template_id: str
    device_name: str = ""
    organisations: list[int] = []
    gateway: bool = False
    fallback: bool = False
    datastreams: list[Datastream] = []
    metadata: list[MetaField] = []
    events: list[EventType] = []
