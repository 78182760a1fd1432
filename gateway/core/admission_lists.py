"""The allow-lists and deny-lists of profiles, for people: looked at, added to, taken from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final, Protocol

from msgspec import Struct

from gateway.core.admission_entries import Entry, EntryKind
from gateway.core.errors import Invalid
from gateway.core.model import Actor, DeviceProfile, Event, EventKind, Page
from gateway.core.names import is_plain
from gateway.core.ports import Clock

MOST_AT_ONCE: Final = 10_000
"""Entries in one change, which is one transaction: some hundredths of a second."""
MOST_PER_PAGE: Final = 10_000
_CLEARED_AT_ONCE: Final = 5_000


class KeptEntry(Struct, frozen=True):
    """An entry, and when it was added (ms)."""

    entry: Entry
    added_at: int


class AdmissionStore(Protocol):
    """Each change is one transaction with its event, which is told where anything changed."""

    async def add_entries(
        self, profile_id: int, denied: bool, entries: Sequence[Entry], event: Event
    ) -> int:
        """How many were not there before. Raises `Conflict` (GONE) without the profile."""

    async def remove_entries(
        self, profile_id: int, denied: bool, entries: Sequence[Entry], event: Event
    ) -> int:
        """How many were there."""

    async def clear_entries(self, profile_id: int, denied: bool, most: int, event: Event) -> int:
        """Remove at most so many; how many."""

    async def entries(
        self, profile_id: int, denied: bool, *, text: str, page: int, page_size: int
    ) -> Page[KeptEntry]:
        """Those whose value has `text` in it, by kind and value."""

    async def entries_after(
        self, profile_id: int, denied: bool, after: Entry | None, limit: int
    ) -> list[KeptEntry]:
        """The same order, from the next one on."""

    async def count_entries(self, profile_id: int) -> Mapping[tuple[bool, EntryKind], int]:
        """How many there are, by list and kind."""


class AdmissionLists:
    """Changes and shows the lists of profiles that the actor sees; the lists of a profile that a
    file defines, too, for they are not in the file."""

    def __init__(self, store: AdmissionStore, *, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def add(
        self, actor: Actor, profile: DeviceProfile, entries: Sequence[Entry], *, denied: bool
    ) -> int:
        """How many were not there before. Raises `Invalid` for too many, `Conflict` (GONE)."""
        _check_count(entries)
        event = self._event(actor, profile, denied=denied)
        return await self._store.add_entries(profile.id, denied, entries, event)

    async def remove(
        self, actor: Actor, profile: DeviceProfile, entries: Sequence[Entry], *, denied: bool
    ) -> int:
        """How many were there. Raises `Invalid` for too many."""
        _check_count(entries)
        event = self._event(actor, profile, denied=denied)
        return await self._store.remove_entries(profile.id, denied, entries, event)

    async def clear(
        self, actor: Actor, profile: DeviceProfile, *, denied: bool
    ) -> AsyncIterator[int]:
        """Remove all, some at a time: others are served in between. Gives how many each time."""
        event = self._event(actor, profile, denied=denied)
        while gone := await self._store.clear_entries(profile.id, denied, _CLEARED_AT_ONCE, event):
            yield gone

    async def page(
        self,
        profile: DeviceProfile,
        *,
        denied: bool,
        text: str = "",
        page: int = 0,
        page_size: int = 100,
    ) -> Page[KeptEntry]:
        """`text` is looked for in values, in any case of ASCII letters."""
        if not is_plain(text):
            return Page(data=[], total=0, has_next=False)
        return await self._store.entries(
            profile.id, denied, text=text, page=page, page_size=page_size
        )

    async def every(self, profile: DeviceProfile, *, denied: bool) -> AsyncIterator[KeptEntry]:
        """All of a list, by kind and value, however many."""
        after: Entry | None = None
        while some := await self._store.entries_after(profile.id, denied, after, MOST_PER_PAGE):
            for one in some:
                yield one
            after = some[-1].entry

    async def count(self, profile: DeviceProfile) -> Mapping[tuple[bool, EntryKind], int]:
        """How many there are, by list (denied or not) and kind."""
        return await self._store.count_entries(profile.id)

    def _event(self, actor: Actor, profile: DeviceProfile, *, denied: bool) -> Event:
        return Event(
            kind=EventKind.ADMISSION_CHANGE,
            at=self._clock(),
            peer=actor.peer,
            subject=profile.name,
            object=profile.uuid,
            detail={"list": "deny" if denied else "allow"},
        )


def _check_count(entries: Sequence[Entry]) -> None:
    if len(entries) > MOST_AT_ONCE:
        raise Invalid(f"At most {MOST_AT_ONCE} entries at once.")
