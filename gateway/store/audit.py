"""Reading events for people, and following their chain."""

# ruff: noqa: S608 - words of our own are composed; what people say stands at `?1`.
from __future__ import annotations

from collections.abc import Sequence

from gateway.core.audit import AuditEntry, AuditQuery, Progress, Sight, Verdict
from gateway.core.model import Event, Page
from gateway.store.driver import Row
from gateway.store.events import event_from_row
from gateway.store.identity import uuid_bytes, uuid_text
from gateway.store.listing import Clauses, pattern_of
from gateway.store.sql_store import SqlStore
from gateway.store.verifying import Verification

_COUNTED = 10_000
"""A total is exact up to here; beyond it, it says one more than what was given so far at least."""
_EVENT_COLUMNS = 13
_COLUMNS = (
    "seq, at, kind, outcome, reason, device_id, subject, wire, address, detail, actor, request, "
    "object, device_uuid, customer_uuid, user_uuid, first_name, last_name, people_uuid"
)


class SqlAudit:
    """`AuditStore` over the store's look-ups."""

    def __init__(self, store: SqlStore) -> None:
        self._driver = store.driver
        self._chain = store.chain

    async def audit_page(self, query: AuditQuery, sight: Sight) -> Page[AuditEntry]:
        clauses = Clauses()
        if not await self._begin(query, clauses):
            return Page(data=[], total=0, has_next=False)
        _filter(query, sight, clauses)
        offset = query.page * query.page_size
        counted = max(_COUNTED, offset + query.page_size) + 1
        order = "DESC" if query.descending else "ASC"
        values, last = clauses.values, len(clauses.values)
        found = f"SELECT seq AS place FROM audit_entry{clauses.where()} ORDER BY seq {order}"
        statement = (
            f"WITH found AS ({found} LIMIT {counted})"
            f" SELECT {_COLUMNS}, (SELECT count(*) FROM found)"
            " FROM found JOIN audit_entry ON seq = place"
            f" ORDER BY place {order} LIMIT ?{last + 1} OFFSET ?{last + 2}"
        )
        rows = await self._driver.read(statement, *values, query.page_size, offset)
        if not rows and offset:
            first = await self._driver.read(statement, *values, 1, 0)
            return Page(data=[], total=first[0][-1] if first else 0, has_next=False)
        total = rows[0][-1] if rows else 0
        return Page(
            data=[_entry(row) for row in rows],
            total=total,
            has_next=total > offset + query.page_size,
        )

    async def _begin(self, query: AuditQuery, clauses: Clauses) -> bool:
        """Begin where the fewest are; False: nothing can be found."""
        if query.device:
            row = await self._driver.point("audit_device", uuid_bytes(query.device))
            if row is not None:
                clauses.add(f"device_id = {clauses.place(row[0])}")
            else:
                # One that was removed: what was told of it by its UUID is still there.
                clauses.add(f"object = {clauses.place(query.device)} AND object <> ''")
        elif query.object:
            clauses.add(f"object = {clauses.place(query.object)} AND object <> ''")
        elif query.actor or query.user:
            actor = query.actor or await self._email(query.user)
            if actor is None:
                return False
            clauses.add(f"actor = {clauses.place(actor)} AND actor <> ''")
        return True

    async def _email(self, user: str) -> str | None:
        row = await self._driver.point("audit_user", uuid_bytes(user))
        return None if row is None else str(row[0])

    async def audit_path(self, *, customer: str) -> str | None:
        row = await self._driver.point("audit_customer", uuid_bytes(customer))
        return None if row is None else str(row[0])

    async def audit_named(self, subject: str, limit: int) -> list[Event]:
        rows = await self._driver.rows("audit_named", subject, limit)
        return [event_from_row(row) for row in reversed(rows)]

    async def audit_numbered(self, device_id: int, limit: int) -> list[Event]:
        rows = await self._driver.rows("last_events_of_device", limit, device_id)
        return [event_from_row(row) for row in reversed(rows)]

    async def audit_ticket(self, number: int) -> int | None:
        rows = await self._driver.rows("audit_ticket", f'%"ticket":"{number}"%')
        return int(rows[0][0]) if rows else None

    async def audit_subjects(self, newest: int) -> list[str]:
        return [str(row[0]) for row in await self._driver.rows("audit_like", newest)]

    async def audit_verify(self, progress: Progress | None) -> Verdict:
        return await Verification(self._driver, self._chain, progress).run()


def _filter(query: AuditQuery, sight: Sight, clauses: Clauses) -> None:
    place = clauses.place
    clauses.add(f"seq > {place(query.after_seq)}")
    clauses.add(f"at >= {place(query.since)} AND at < {place(query.until)}")
    if query.words:
        clauses.add(f"word IN ({', '.join(map(place, query.words))})")
    if query.text:
        pattern = f"lower({place(pattern_of(query.text))})"
        # Kinds and reasons are written in small letters.
        columns = ("lower(subject)", "lower(actor)", "kind", "reason")
        tests = [f"{column} LIKE {pattern} ESCAPE '\\'" for column in columns]
        clauses.add(f"({' OR '.join(tests)})")
    if sight.devices:
        clauses.add(
            f"(device_path LIKE {place(sight.devices)} || '%' OR owner_id = {place(sight.owner_id)}"
            f" OR people_path LIKE {place(sight.people)} || '%')"
        )


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
