"""Reading events for people, and following their chain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.core.audit import AuditEntry, AuditQuery, Progress, Sight, Verdict
from gateway.core.model import Event, Page
from gateway.store.driver import Row
from gateway.store.events import event_from_row
from gateway.store.identity import uuid_bytes, uuid_text
from gateway.store.sql_store import SqlStore
from gateway.store.verifying import Verification

_COUNTED = 10_000
"""A total is exact up to here; beyond it, it says one more than what was given so far at least."""
_EVENT_COLUMNS = 13


class SqlAudit:
    """`AuditStore` over the store's look-ups."""

    def __init__(self, store: SqlStore) -> None:
        self._driver = store.driver
        self._chain = store.chain

    async def audit_page(self, query: AuditQuery, sight: Sight) -> Page[AuditEntry]:
        place = await self._place(query)
        if place is None:
            return Page(data=[], total=0, has_next=False)
        name, *more = place
        offset = query.page * query.page_size
        counted = max(_COUNTED, offset + query.page_size) + 1
        asked = (*_filters(query, sight), counted, query.page_size)
        rows = await self._driver.rows(name, *asked, offset, *more)
        if not rows and offset:
            first = await self._driver.rows(name, *asked[:-1], 1, 0, *more)
            return Page(data=[], total=first[0][-1] if first else 0, has_next=False)
        total = rows[0][-1] if rows else 0
        return Page(
            data=[_entry(row) for row in rows],
            total=total,
            has_next=total > offset + query.page_size,
        )

    async def _place(self, query: AuditQuery) -> tuple[Any, ...] | None:
        """The statement that begins where the fewest are, and what it takes besides the filters."""
        direction = -1 if query.descending else 1
        if query.device:
            row = await self._driver.point("audit_device", uuid_bytes(query.device))
            if row is not None:
                return "audit_of_device", row[0], direction
            # One that was removed: what was told of it by its UUID is still there.
            return "audit_of_object", query.device, direction
        if query.object:
            return "audit_of_object", query.object, direction
        if query.actor:
            return "audit_by_actor", query.actor, direction
        if query.user:
            row = await self._driver.point("audit_user", uuid_bytes(query.user))
            return ("audit_by_actor", row[0], direction) if row is not None else None
        return ("audit_newest",) if query.descending else ("audit_oldest",)

    async def audit_path(self, *, customer: str) -> str | None:
        row = await self._driver.point("audit_customer", uuid_bytes(customer))
        return None if row is None else str(row[0])

    async def audit_named(self, subject: str, limit: int) -> list[Event]:
        rows = await self._driver.rows("audit_named", subject, limit)
        return [event_from_row(row) for row in reversed(rows)]

    async def audit_subjects(self, newest: int) -> list[str]:
        return [str(row[0]) for row in await self._driver.rows("audit_like", newest)]

    async def audit_verify(self, progress: Progress | None) -> Verdict:
        return await Verification(self._driver, self._chain, progress).run()


def _filters(query: AuditQuery, sight: Sight) -> tuple[Any, ...]:
    words = f"|{'|'.join(query.words)}|" if query.words else ""
    numbers = (query.after_seq, query.since, query.until)
    return *numbers, words, _pattern(query.text), sight.devices, sight.owner_id, sight.people


def _pattern(text: str) -> str:
    """What `LIKE … ESCAPE '\\'` takes for a text anywhere in another; "" for none."""
    if not text:
        return ""
    for special in "\\%_":
        text = text.replace(special, "\\" + special)
    return f"%{text}%"


def _entry(row: Row) -> AuditEntry:
    device, customer, user, first_name, last_name, people = row[_EVENT_COLUMNS:-1]
    return AuditEntry(
        event=event_from_row(row[:_EVENT_COLUMNS]),
        device_uuid=_uuid(device),
        customer_uuid=_uuid(customer) or _uuid(people),
        user_uuid=_uuid(user),
        user_name=_full_name((first_name, last_name)),
    )


def _uuid(value: bytes | None) -> str:
    return "" if value is None else uuid_text(value)


def _full_name(names: Sequence[str | None]) -> str:
    return " ".join(one for one in names if one)
