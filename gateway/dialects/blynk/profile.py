"""A profile's `[blynk]` table: it makes the profile a template (contract, section 1).

The core carries the table unread. It is proven when a profile file is read (`prove_section`), and
read again for each revision of the profile (`Templates`).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

import msgspec
from msgspec import Struct

from gateway.core.model import Device, DeviceProfile, Json, ProfileTransport, Value
from gateway.core.ports import Clock, Store, Template

SECTION: Final = "blynk"
FRESH_MS: Final = 1000
"""How long templates are known without another look; a notice of a change ends it."""
_TEMPLATE_ID = re.compile(r"[A-Za-z0-9_-]{4,32}")
_MOST_STREAMS, _MOST_FIELDS, _MOST_EVENTS = 256, 100, 100


class StreamType(StrEnum):
    INTEGER = "integer"
    DOUBLE = "double"
    STRING = "string"
    ENUM = "enum"
    LOCATION = "location"


class Datastream(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One value of a device. `pin` 1 is `v1`; None: it has a name alone. `id` 0: its place in the
    list, from 1. `key` is that of the time series it is kept in, "": its name."""

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
        return self.key or self.name


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
    `fallback`: devices that name no template, or an unknown one, get this (section 5.2)."""

    template_id: str
    device_name: str = ""
    organisations: list[int] = []
    gateway: bool = False
    fallback: bool = False
    datastreams: list[Datastream] = []
    metadata: list[MetaField] = []
    events: list[EventType] = []


class BlynkTemplate:
    """A profile as Blynk's devices know it: its table, with ways to find what is in it."""

    def __init__(self, profile: DeviceProfile, section: Section) -> None:
        self.profile = profile
        self.section = section
        self.id = section.template_id
        self.name = profile.name
        streams = [
            one if one.id else msgspec.structs.replace(one, id=place)
            for place, one in enumerate(section.datastreams, 1)
        ]
        self.streams = tuple(streams)
        self.by_pin = {one.pin: one for one in streams if one.pin is not None}
        self.by_name = {one.name: one for one in streams}
        self.by_id = {one.id: one for one in streams}
        fields = [
            one if one.id else msgspec.structs.replace(one, id=place)
            for place, one in enumerate(section.metadata, 1)
        ]
        self.fields = tuple(fields)
        self.field_by_name = {one.name: one for one in fields}
        self.field_by_id = {one.id: one for one in fields}
        self.events = {one.code: one for one in section.events}
        self.template = Template(
            profile=profile,
            device_name=section.device_name or f"{profile.name} {{id}}",
            attributes={one.name: _value(one.default) for one in fields if one.default is not None},
        )

    def is_for(self, path: str) -> bool:
        """Whether devices of the organisation with that path may name it."""
        above = {int(one) for one in path.strip("/").split("/") if one}
        allowed = self.section.organisations
        return self.profile.organisation_id in above and (
            not allowed or not above.isdisjoint(allowed)
        )


def _value(value: str | int | float | list[float]) -> Value:
    return Json(msgspec.json.encode(value).decode()) if isinstance(value, list) else value


def read_section(section: Mapping[str, Any]) -> Section:
    """Raises `ValueError`: a sentence that begins with the key at fault."""
    try:
        found = msgspec.convert(dict(section), Section)
    except msgspec.ValidationError as exc:
        text = str(exc)
        at, _, where = text.partition(" - at `$.")
        key = where.rstrip("`").split("[")[0].split(".")[0] or "template_id"
        raise ValueError(f"{key}: {at}") from None
    if not _TEMPLATE_ID.fullmatch(found.template_id):
        raise ValueError("template_id must be 4 to 32 characters of A-Z, a-z, 0-9, _ and -")
    if found.device_name and "{id}" not in found.device_name:
        raise ValueError("device_name needs {id} where the number of the device belongs")
    return found


def prove_section(section: Mapping[str, Any], transport: ProfileTransport) -> object:
    """Raises `ValueError` as `read_section` does."""
    return read_section(section)


class Templates:
    """Finds templates. Implements `core.ports.Templates`, and gives the dialect all of one."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._all: dict[int, BlynkTemplate] = {}
        self._read_at: int | None = None
        self._age = 0
        """How often it was told to forget."""
        self._reading = asyncio.Lock()

    def forget(self) -> None:
        """A profile was changed."""
        self._age += 1
        self._read_at = None

    async def named(self, name: str, path: str) -> Template | None:
        found = await self.find(name, path)
        return None if found is None else found.template

    def names(self, profile: DeviceProfile) -> Sequence[str]:
        found = self._of_profile(profile)
        return () if found is None else (found.id,)

    async def find(self, name: str, path: str) -> BlynkTemplate | None:
        """The template of that id, of the nearest organisation; else the one to fall back to."""
        await self._read()
        reach = [one for one in self._all.values() if one.is_for(path)]
        found = [one for one in reach if one.id == name]
        if not found:
            found = [one for one in reach if one.section.fallback]
        depth = path.strip("/").split("/")
        return max(
            found,
            key=lambda one: (depth.index(str(one.profile.organisation_id)), -one.profile.id),
            default=None,
        )

    async def of(self, device: Device) -> BlynkTemplate | None:
        """That of a device's profile, as it is now; None when its profile is no template."""
        kept = self._all.get(device.profile_id)
        if kept is not None and kept.profile.revision >= device.profile_revision:
            return kept
        profile = await self._store.profile(device.profile_id)
        return None if profile is None else self._of_profile(profile)

    def _of_profile(self, profile: DeviceProfile) -> BlynkTemplate | None:
        kept = self._all.get(profile.id)
        if kept is not None and kept.profile.revision == profile.revision:
            return kept
        if SECTION not in profile.sections:
            return None
        try:
            made = BlynkTemplate(profile, read_section(profile.sections[SECTION]))
        except ValueError:
            return None  # proven when it was read from its file: it was written by another version
        self._all[profile.id] = made
        return made

    async def _read(self) -> None:
        if self._is_fresh():
            return
        async with self._reading:
            if self._is_fresh():
                return  # somebody else read them meanwhile
            age, now = self._age, self._clock()
            profiles = await self._store.profiles_with(SECTION)
            made = {one.id: self._of_profile(one) for one in profiles}
            self._all = {number: one for number, one in made.items() if one is not None}
            if age == self._age:  # else they changed while we read
                self._read_at = now

    def _is_fresh(self) -> bool:
        return self._read_at is not None and self._clock() - self._read_at < FRESH_MS
