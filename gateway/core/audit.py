"""What happened, for those who may know: pages of events, and proof that none was altered."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Protocol, TypeAlias

from msgspec import Struct

from gateway.core.errors import Forbidden
from gateway.core.model import Actor, Event, EventKind, Outcome, Page, Permission

Progress: TypeAlias = Callable[[int, int], None]
"""Called with how many events were looked at, of how many."""

_NOBODY = -1
_NOWHERE = "-"
"""No path begins so."""
FOREVER_MS = 2**62


class AuditEntry(Struct, frozen=True, kw_only=True):
    """An event with the names its reader wants. A UUID is "" where there is none (any more).

    `customer_uuid` is the customer that has the device, else the one that the person belongs to.
    """

    event: Event
    device_uuid: str = ""
    customer_uuid: str = ""
    user_uuid: str = ""
    user_name: str = ""


class AuditQuery(Struct, frozen=True, kw_only=True):
    """Which events. `words` (see `word_of`): one of these; empty: all. `until` is not included.

    Of `device` (UUID), `object` (UUID of what is no device), `user` (UUID) and `customer` (UUID) at
    most one is given. `actor` is what `Peer.actor` says, for those who are no user. `text` is
    looked for in names, kinds and reasons, in any (ASCII) case.
    """

    page: int = 0
    page_size: int = 100
    descending: bool = True
    since: int = 0
    until: int = FOREVER_MS
    words: tuple[str, ...] = ()
    text: str = ""
    device: str = ""
    object: str = ""
    user: str = ""
    customer: str = ""
    actor: str = ""
    after_seq: int = 0


def word_of(kind: EventKind, outcome: Outcome, *, customer: bool = False) -> str:
    """What a query names events by. `customer`: of DEVICE_ASSIGN, that one was given."""
    return f"{kind.value} {outcome.value}{' to' if customer else ''}"


class Sight(Struct, frozen=True):
    """Whose events are seen: devices at or below a path, those of an owner, people at or below a
    path. All of them when the first is empty."""

    devices: str = ""
    owner_id: int = _NOBODY
    people: str = ""


class Break(StrEnum):
    """How a chain is broken."""

    CHANGED = "changed"
    REMOVED = "removed"
    INSERTED = "inserted"
    REORDERED = "reordered"
    CUT = "cut"
    """The newest are missing."""
    HEAD = "head"
    """What says where the chain ends was removed, or written by another than us."""


class BrokenLink(Struct, frozen=True):
    """The first place where the chain does not hold. `to_seq`: the last missing one."""

    how: Break
    seq: int
    to_seq: int = 0


class Verdict(Struct, frozen=True, kw_only=True):
    """`events` hold together; `older` were written before there was a chain. `digest` is that of
    the newest event, in hexadecimal: noted elsewhere, it proves that this chain was once here."""

    events: int = 0
    older: int = 0
    newest: int = 0
    digest: str = ""
    broken: BrokenLink | None = None


class AuditStore(Protocol):
    async def audit_page(self, query: AuditQuery, sight: Sight) -> Page[AuditEntry]:
        """Events one may see, the newest first unless `descending` is False."""

    async def audit_path(self, *, customer: str) -> str | None:
        """The path of an organisation (UUID)."""

    async def audit_verify(self, progress: Progress | None) -> Verdict: ...

    async def audit_named(self, subject: str, limit: int) -> list[Event]:
        """The newest events about this name, oldest first; of devices that never were too."""

    async def audit_numbered(self, device_id: int, limit: int) -> list[Event]:
        """The newest events about the device of this number, oldest first; also of one that is no
        more, or not yet."""

    async def audit_ticket(self, number: int) -> int | None:
        """The device number that a ticket was issued for, while that event is kept."""

    async def audit_subjects(self, newest: int) -> list[str]:
        """The names that the newest events are about."""


class Audit:
    """Reads the events. An actor below the root sees those of devices in its sight, and what its
    own people did."""

    def __init__(self, store: AuditStore) -> None:
        self._store = store

    async def page(self, actor: Actor, query: AuditQuery) -> Page[AuditEntry]:
        """Raises `Forbidden` without AUDIT_VIEW. Of what is out of sight nothing is in the page."""
        _must_view(actor)
        sight = _sight(actor)
        if query.customer:
            narrowed = await self._within(actor, query.customer, sight)
            if narrowed is None:
                return Page(data=[], total=0, has_next=False)
            sight = narrowed
        return await self._store.audit_page(query, sight)

    async def _within(self, actor: Actor, customer: str, sight: Sight) -> Sight | None:
        """The part of a sight that is one customer's; None when that is out of sight."""
        path = await self._store.audit_path(customer=customer)
        if path is None or not path.startswith(actor.organisation.path):
            return None
        if sight.devices == _NOWHERE:
            return Sight(_NOWHERE, sight.owner_id if path == actor.organisation.path else -1, path)
        return Sight(path, _NOBODY, path)

    async def verify(self, progress: Progress | None = None) -> Verdict:
        """Follow the whole chain, in constant memory. New events may be written meanwhile."""
        return await self._store.audit_verify(progress)

    async def named(self, actor: Actor, subject: str, limit: int = 1000) -> list[Event]:
        """What happened under a name, oldest first, for those who see everything."""
        _must_see_all(actor)
        return await self._store.audit_named(subject, limit)

    async def numbered(self, actor: Actor, device_id: int, limit: int = 1000) -> list[Event]:
        """What happened to the device of a number, which may only be reserved, or removed; oldest
        first, for those who see everything."""
        _must_see_all(actor)
        return await self._store.audit_numbered(device_id, limit)

    async def device_of_ticket(self, actor: Actor, number: int) -> int | None:
        """The device number that a ticket is, or was, for; for those who see everything."""
        _must_see_all(actor)
        return await self._store.audit_ticket(number)

    async def subjects(self, actor: Actor, newest: int = 10_000) -> list[str]:
        """Names that something happened to lately, for those who see everything."""
        _must_view(actor)
        return await self._store.audit_subjects(newest) if actor.is_root else []


def _must_view(actor: Actor) -> None:
    if not actor.may(Permission.AUDIT_VIEW):
        raise Forbidden("AUDIT_VIEW is needed")


def _must_see_all(actor: Actor) -> None:
    _must_view(actor)
    if not actor.is_root:
        raise Forbidden("what happened to all devices is for the root organisation")


def _sight(actor: Actor) -> Sight:
    if actor.is_root:
        return Sight()
    path = actor.organisation.path
    if actor.may(Permission.ORG_DEVICES_VIEW):
        return Sight(path, _NOBODY, path)
    owner = actor.owner_id if actor.may(Permission.OWN_DEVICES_VIEW) else 0
    return Sight(_NOWHERE, owner or _NOBODY, path)
