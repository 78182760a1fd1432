"""Decisions about the allow-lists and deny-lists of profiles."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter

from gateway.core.admission_entries import Entry
from gateway.core.errors import Cause, Conflict
from gateway.core.model import Event
from gateway.store.driver import Transaction
from gateway.store.events import event_on, tell
from gateway.store.queries import listed
from gateway.store.writer import SingleDecision

_WEIGHT = 256
"""Of a change of thousands of entries: it shares a transaction with few others."""


class _OfEntries(SingleDecision[int]):
    """About entries of one list of a profile; `event` is told if any was concerned."""

    __slots__ = ("denied", "entries", "event", "profile_id")

    weight = _WEIGHT

    def __init__(
        self, profile_id: int, denied: bool, entries: Sequence[Entry], event: Event
    ) -> None:
        self.profile_id = profile_id
        self.denied = denied
        self.entries = entries
        self.event = event


class AddEntries(_OfEntries):
    """Gives how many were not there before. Raises `Conflict` (GONE)."""

    __slots__ = ()

    async def decide(self, tx: Transaction) -> int:
        if not await tx.fetch("living_profile", self.profile_id):
            raise Conflict(Cause.GONE)
        place, at = (self.profile_id, int(self.denied)), self.event.at
        # In the order of the index: of a million that is a third of the time.
        rows = [(*place, one.kind.value, one.value, at) for one in sorted(set(self.entries))]
        added = await tx.insert_rows("insert_admission_entries", rows)
        if added:
            tell(tx, [event_on(self.event, None, added=str(added))])
        return added


class RemoveEntries(_OfEntries):
    """Gives how many were there."""

    __slots__ = ()

    async def decide(self, tx: Transaction) -> int:
        place, removed = (self.profile_id, int(self.denied)), 0
        for kind, some in groupby(sorted(set(self.entries)), attrgetter("kind")):
            values = listed([one.value for one in some])
            removed += len(await tx.fetch("delete_admission_entries", *place, kind.value, values))
        if removed:
            tell(tx, [event_on(self.event, None, removed=str(removed))])
        return removed


class ClearEntries(SingleDecision[int]):
    """Removes at most `most` of a list. Gives how many."""

    __slots__ = ("denied", "event", "most", "profile_id")

    weight = _WEIGHT

    def __init__(self, profile_id: int, denied: bool, most: int, event: Event) -> None:
        self.profile_id = profile_id
        self.denied = denied
        self.most = most
        self.event = event

    async def decide(self, tx: Transaction) -> int:
        place = (self.profile_id, int(self.denied))
        removed = len(await tx.fetch("clear_admission_entries", *place, self.most))
        if removed:
            tell(tx, [event_on(self.event, None, removed=str(removed))])
        return removed
