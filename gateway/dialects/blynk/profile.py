"""A profile's `[blynk]` table: it makes the profile a template (contract, section 1).

The core carries the table unread. It is proven when a profile file is read (`prove_section`), and
read again for each revision of the profile (`Templates`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from gateway.core.model import (
    ROOT_ORGANISATION,
    Device,
    DeviceProfile,
)
from gateway.core.ports import Clock, Store, Template
from gateway.dialects.blynk.section import (
    DEVICE_NAME,
    DEVICE_OWNER,
    SECTION,
    Datastream,
    EventType,
    FieldType,
    MetaField,
    Section,
    StreamType,
)
from gateway.dialects.blynk.section_proof import numbered, prove_section, read_section

__all__ = [
    "DEVICE_NAME",
    "DEVICE_OWNER",
    "SECTION",
    "BlynkTemplate",
    "Datastream",
    "EventType",
    "FieldType",
    "MetaField",
    "Section",
    "StreamType",
    "Templates",
    "prove_section",
    "read_section",
]

FRESH_MS: Final = 1000
"""How long templates are known without another look; a notice of a change ends it."""
_MOST_OF_A_NAME: Final = 200
"""Characters of a profile's name in its devices' names, which leaves room for their numbers."""


class BlynkTemplate:
    """A profile as Blynk's devices know it: its table, with ways to find what is in it."""

    def __init__(self, profile: DeviceProfile, section: Section) -> None:
        self.profile = profile
        self.section = section
        self.id = section.template_id
        self.name = profile.name
        streams = numbered(section.datastreams)
        self.streams = tuple(streams)
        self.by_pin = {one.pin: one for one in streams if one.pin is not None}
        self.by_name = {one.name: one for one in streams}
        self.by_id = {one.id: one for one in streams}
        fields = numbered(section.metadata)
        self.fields = tuple(fields)
        self.field_by_name = {one.name: one for one in fields}
        self.field_by_id = {one.id: one for one in fields}
        self.events = {one.code: one for one in section.events}
        self.template = Template(
            profile=profile,
            device_name=section.device_name or f"{profile.name[:_MOST_OF_A_NAME]} {{id}}",
            attributes={one.name: one.default for one in fields if one.default is not None},
        )

    def is_for(self, path: str) -> bool:
        """Whether devices of the organisation with that path may name it."""
        above = {int(one) for one in path.strip("/").split("/") if one}
        allowed = self.section.organisations
        return self.profile.organisation_id in above and (
            not allowed or not above.isdisjoint(allowed)
        )


class Templates:
    """Finds templates. Implements `core.ports.Templates`, and gives the dialect all of one."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._all: dict[int, BlynkTemplate] = {}
        self._open: dict[str, Template] = {}
        """By their ids those that are for all organisations, and the only ones of their id."""
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

    async def everywhere(self, name: str) -> Template | None:
        await self._read()
        return self._open.get(name)

    def names(self, profile: DeviceProfile) -> Sequence[str]:
        found = self._of_profile(profile)
        return () if found is None else (found.id,)

    def fits(self, profile: DeviceProfile, name: str) -> bool:
        found = self._of_profile(profile)
        return found is not None and (found.id == name or found.section.fallback)

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
        await self._read()
        kept = self._all.get(device.profile_id)
        if kept is not None and kept.profile.revision >= device.profile_revision:
            return kept
        return await self.fresh(device)

    async def fresh(self, device: Device) -> BlynkTemplate | None:
        """The same, read now."""
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
            self._open = _open_to_all(self._all.values())
            if age == self._age:  # else they changed while we read
                self._read_at = now

    def _is_fresh(self) -> bool:
        return self._read_at is not None and self._clock() - self._read_at < FRESH_MS


def _open_to_all(templates: Iterable[BlynkTemplate]) -> dict[str, Template]:
    found: dict[str, list[BlynkTemplate]] = {}
    for one in templates:
        found.setdefault(one.id, []).append(one)
    return {
        name: alike[0].template
        for name, alike in found.items()
        if len(alike) == 1
        and alike[0].profile.organisation_id == ROOT_ORGANISATION
        and not alike[0].section.organisations
    }
