"""`SqlAdmission`: who stands in the lists of profiles, in SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.core.admission_entries import Entry, EntryKind, Marks
from gateway.core.admission_lists import KeptEntry
from gateway.core.admitting import Listed
from gateway.core.model import Event, Page
from gateway.store.admission import AddEntries, ClearEntries, RemoveEntries
from gateway.store.driver import Row
from gateway.store.listing import pattern_of
from gateway.store.names_together import NamesTogether
from gateway.store.sql_store import SqlStore

_ALLOWED, _NOT_LISTED = Listed(True, False), Listed(False, False)
_KINDS = {kind.value: kind for kind in EntryKind}


class SqlAdmission:
    """Implements `core.admitting.ListStore` and `core.admission_lists.AdmissionStore`."""

    def __init__(self, store: SqlStore) -> None:
        self._driver = store.driver
        self._writer = store.writer
        self._together = NamesTogether(store.driver)

    # ── for those who ask ───────────────────────────────────────────────────────────────────

    async def look_up(self, profile_id: int, marks: Marks, *, denying: bool) -> Listed:
        if not denying and marks.name is not None:
            if await self._together.is_allowed(profile_id, marks.name):
                return _ALLOWED
            if marks.serial is None and marks.mac is None:
                return _NOT_LISTED
        known = (profile_id, marks.name, marks.serial, marks.mac)
        if not denying:
            row = await self._driver.point("allows", *known)
            return _NOT_LISTED if row is None else _ALLOWED
        row = await self._driver.point("look_up_entries", *known)
        return _NOT_LISTED if row is None else Listed(bool(row[0]), bool(row[1]))

    async def has_deny_list(self, profile_id: int) -> bool:
        return await self._driver.point("has_denied", profile_id) is not None

    # ── for people ──────────────────────────────────────────────────────────────────────────

    async def add_entries(
        self, profile_id: int, denied: bool, entries: Sequence[Entry], event: Event
    ) -> int:
        return await self._writer.submit(AddEntries(profile_id, denied, entries, event))

    async def remove_entries(
        self, profile_id: int, denied: bool, entries: Sequence[Entry], event: Event
    ) -> int:
        return await self._writer.submit(RemoveEntries(profile_id, denied, entries, event))

    async def clear_entries(self, profile_id: int, denied: bool, most: int, event: Event) -> int:
        return await self._writer.submit(ClearEntries(profile_id, denied, most, event))

    async def entries(
        self, profile_id: int, denied: bool, *, text: str, page: int, page_size: int
    ) -> Page[KeptEntry]:
        which = (profile_id, int(denied), pattern_of(text.lower()) if text else "")
        offset = page * page_size
        rows = await self._driver.rows("admission_entries", *which, page_size, offset)
        total = int((await self._driver.rows("count_admission_entries", *which))[0][0])
        data = [_entry_from_row(row) for row in rows]
        return Page(data=data, total=total, has_next=offset + page_size < total)

    async def entries_after(
        self, profile_id: int, denied: bool, after: Entry | None, limit: int
    ) -> list[KeptEntry]:
        place = ("", "") if after is None else (after.kind.value, after.value)
        which = (profile_id, int(denied))
        rows = await self._driver.rows("admission_entries_after", *which, *place, limit)
        return [_entry_from_row(row) for row in rows]

    async def count_entries(self, profile_id: int) -> Mapping[tuple[bool, EntryKind], int]:
        rows = await self._driver.rows("sum_admission_entries", profile_id)
        return {(bool(denied), EntryKind(kind)): count for denied, kind, count in rows}


def _entry_from_row(row: Row) -> KeptEntry:
    kind, value, added_at = row
    return KeptEntry(Entry(_KINDS[kind], value), added_at)
