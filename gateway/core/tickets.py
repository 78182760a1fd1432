"""Tickets, for the people and programs that onboard devices one by one.

What is issued here is claimed in `gateway.core.token_claims`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import TypeAlias

from msgspec import Struct

from gateway.core.errors import Cause, Conflict, Forbidden, Invalid, Overloaded
from gateway.core.inventory_store import sight_for_viewing
from gateway.core.model import (
    Actor,
    DeviceRecord,
    Event,
    EventKind,
    Order,
    Organisation,
    Permission,
    Secret,
    Ticket,
    TicketRecord,
    User,
)
from gateway.core.organisations import need
from gateway.core.ports import Clock, NewToken
from gateway.core.ticket_store import NewTicket, Renewal, TicketStore

IsOnline: TypeAlias = Callable[[int], Awaitable[bool]]
"""Whether the device of that number has a live channel by which it can be told something."""

MOST_ARGUMENT = 255
MOST_DAYS = 3650
_DAY_MS = 86_400_000
_COUNTED_MS = 5000
"""How long a count of waiting tickets is trusted, with what was issued here since."""
_FULL_MS = 500
"""The same while there is no room: many are counted slowly, and not for each refusal."""
_MOST_ROOMS = 10_000


def lacked_to_issue(actor: Actor, owner_id: int | None) -> Permission | None:
    """What the actor may not, of what a ticket for a device of that owner takes."""
    if not actor.may(Permission.PROVISION_DEVICES):
        return Permission.PROVISION_DEVICES
    own = owner_id is None or (actor.user is not None and owner_id == actor.user.id)
    return None if own or actor.may(Permission.ORG_VIEW_USERS) else Permission.ORG_VIEW_USERS


def lacked_for_device(actor: Actor) -> Permission | None:
    """What the actor may not, of what telling a device something takes, and a new token for it."""
    if not actor.may(Permission.PROVISION_DEVICES):
        return Permission.PROVISION_DEVICES
    seen = actor.may(Permission.ORG_DEVICES_VIEW, Permission.OWN_DEVICES_VIEW)
    return None if seen else Permission.OWN_DEVICES_VIEW


def may_own(actor: Actor, organisation: Organisation, owner: User) -> bool:
    """Whether the actor may name this user as the owner of a device of that organisation, which is
    the actor's or below it: a member of it, or of one above it up to the actor's."""
    hidden = actor.organisation.path.rstrip("/").rpartition("/")[0]
    return f"/{owner.organisation_id}/" in organisation.path[len(hidden) :]


def _refuse(lacked: Permission | None) -> None:
    if lacked is not None:
        raise Forbidden(f"this needs the permission {lacked.value}")


class Issued(Struct, frozen=True):
    """A ticket and its token, which is shown this once."""

    ticket: Ticket
    token: Secret


class _Room:
    """How many tickets of an organisation wait, for as long as that is worth knowing: never fewer
    than there are. Who counts them has the `turn`."""

    __slots__ = ("counted", "counted_at", "since", "turn", "under_way")

    def __init__(self) -> None:
        self.counted = 0
        self.counted_at: int | None = None
        self.since = 0
        """Issued here since they were counted."""
        self.under_way = 0
        self.turn = asyncio.Lock()

    @property
    def waiting(self) -> int:
        return self.counted + self.since

    def is_stale(self, now: int, most: int) -> bool:
        """Whether they are to be counted. A clock that was set back makes it so, too."""
        stands_ms = _FULL_MS if self.waiting >= most else _COUNTED_MS
        return self.counted_at is None or not 0 <= now - self.counted_at < stands_ms

    def enter(self) -> None:
        self.since += 1
        self.under_way += 1


class Tickets:
    """Issues, lists and revokes tickets, and sends orders to devices, as an `Actor`.

    `days`: how long a ticket stands unless somebody says otherwise. `most_waiting`: of one
    organisation; beyond it `Overloaded`. `revoke_on_issue`: the old token of a device that is
    provisioned anew is gone when the new one is issued, not when it is first used.
    """

    def __init__(
        self,
        store: TicketStore,
        *,
        clock: Clock,
        new_token: NewToken,
        is_online: IsOnline,
        days: float = 7,
        most_waiting: int = 100_000,
        revoke_on_issue: bool = False,
    ) -> None:
        self._store = store
        self._clock = clock
        self._new_token = new_token
        self._is_online = is_online
        self._days = days
        self._most_waiting = most_waiting
        self._revoke_on_issue = revoke_on_issue
        self._rooms: dict[int, _Room] = {}
        """By the number of an organisation."""

    # ── issuing ─────────────────────────────────────────────────────────────────────────────

    async def issue(
        self,
        actor: Actor,
        organisation: Organisation,
        owner: User | None,
        *,
        days: float | None = None,
    ) -> Issued:
        """Reserve a new device number and a token for a device of `organisation`.

        Each call makes a new one. Raises `Forbidden` (PROVISION_DEVICES; ORG_VIEW_USERS for
        somebody else's device), `Conflict` GONE (the organisation is out of sight, or the owner is
        not a member of it or of one above it that the actor reaches), `Invalid`, `Overloaded`.
        """
        _refuse(lacked_to_issue(actor, None if owner is None else owner.id))
        if not actor.organisation.has_below(organisation):
            raise Conflict(Cause.GONE, "there is no such organisation")
        if owner is not None and not may_own(actor, organisation, owner):
            raise Conflict(Cause.GONE, "there is no such user")
        now = self._clock()
        until = self._until(now, days)
        room = await self._room(organisation.id, now)
        token = Secret(self._new_token())
        detail = {"organisation": organisation.name, "until": utc_text(until)}
        if owner is not None:
            detail["owner"] = owner.email
        event = Event(kind=EventKind.TICKET_ISSUE, at=now, peer=actor.peer, detail=detail)
        new = NewTicket(
            token=token,
            organisation_id=organisation.id,
            path=organisation.path,
            owner_id=None if owner is None else owner.id,
            expires_at=until,
            event=event,
        )
        room.enter()
        try:
            return Issued(await self._store.issue(new), token)
        finally:
            room.under_way -= 1

    def _until(self, now: int, days: float | None) -> int:
        found = self._days if days is None else days
        if not 0 < found <= MOST_DAYS:
            raise Invalid(f"a ticket stands for more than 0 and at most {MOST_DAYS} days.")
        return now + round(found * _DAY_MS)

    async def _room(self, organisation_id: int, now: int) -> _Room:
        """Where one more fits. Raises `Overloaded`."""
        room = self._rooms.get(organisation_id)
        if room is None:
            if len(self._rooms) >= _MOST_ROOMS:
                self._rooms = {key: one for key, one in self._rooms.items() if one.under_way}
            room = self._rooms[organisation_id] = _Room()
        if room.is_stale(now, self._most_waiting):
            await self._count(room, organisation_id, now)
        if room.waiting >= self._most_waiting:
            raise Overloaded("too many tickets of this organisation wait for their devices")
        return room

    async def _count(self, room: _Room, organisation_id: int, now: int) -> None:
        """Count once for all who ask. While it is counted again, what was known is good."""
        if room.counted_at is not None and room.turn.locked():
            return
        async with room.turn:
            if room.is_stale(now, self._most_waiting):
                # What is under way, or begins while it is counted, may be among those, or not.
                done = room.since - room.under_way
                room.counted = await self._store.waiting(organisation_id)
                room.since -= done
                room.counted_at = now

    async def reprovision(
        self, actor: Actor, record: DeviceRecord, *, days: float | None = None
    ) -> Issued:
        """A new token for a device that exists; its number and all its data stay.

        Until the new token is first used the old one works, unless `revoke_on_issue`. Raises
        `Forbidden`, `Conflict` GONE, `Invalid`.
        """
        _refuse(lacked_for_device(actor))
        now = self._clock()
        until = self._until(now, days)
        token = Secret(self._new_token())
        event = Event(
            kind=EventKind.TICKET_ISSUE,
            at=now,
            peer=actor.peer,
            device_id=record.device.id,
            subject=record.device.name,
            detail={} if self._revoke_on_issue else {"until": utc_text(until)},
        )
        renewal = Renewal(
            token=token,
            device_id=record.device.id,
            sight=sight_for_viewing(actor),
            expires_at=until,
            at_once=self._revoke_on_issue,
            event=event,
        )
        return Issued(await self._store.renew(renewal), token)

    # ── orders ──────────────────────────────────────────────────────────────────────────────

    async def order(
        self, actor: Actor, record: DeviceRecord, order: Order, argument: str = ""
    ) -> bool:
        """Tell a device to do something at once; whether it was online at this moment.

        Nothing is kept for one that is away. Raises `Forbidden`, `Conflict` GONE, `Invalid`.
        """
        _refuse(lacked_for_device(actor))
        if len(argument) > MOST_ARGUMENT or not argument.isprintable():
            raise Invalid(f"an argument has at most {MOST_ARGUMENT} printable characters.")
        if (order is Order.REDIRECT) != bool(argument):
            raise Invalid("an address goes with a redirect, and with nothing else.")
        online = await self._is_online(record.device.id)
        detail = {"order": order.value, "online": "yes" if online else "no"}
        if argument:
            detail["to"] = argument
        event = Event(
            kind=EventKind.DEVICE_ORDER,
            at=self._clock(),
            peer=actor.peer,
            device_id=record.device.id,
            subject=record.device.name,
            detail=detail,
        )
        sight = sight_for_viewing(actor)
        await self._store.order(record.device.id, sight, order, argument, event)
        return online

    # ── looking and revoking ────────────────────────────────────────────────────────────────

    async def owner(self, number: int) -> User | None:
        """The user of that number, whoever asks; None when there is none."""
        return await self._store.user_numbered(number)

    async def waiting(
        self, actor: Actor, *, after_id: int = 0, limit: int = 100, device_id: int | None = None
    ) -> list[TicketRecord]:
        """Tickets that wait for their device, in the order they were issued."""
        need(actor, Permission.PROVISION_DEVICES)
        return await self._store.tickets(
            actor.organisation.path, after_id=after_id, limit=limit, device_id=device_id
        )

    async def find(self, actor: Actor, number: int) -> TicketRecord | None:
        """The ticket of that number, if it is in sight and waits."""
        need(actor, Permission.PROVISION_DEVICES)
        return await self._store.ticket(number, actor.organisation.path)

    async def revoke(self, actor: Actor, record: TicketRecord) -> None:
        """Its token is good no more. Raises `Forbidden`, `Conflict` GONE."""
        need(actor, Permission.PROVISION_DEVICES)
        ticket = record.ticket
        if not ticket.path.startswith(actor.organisation.path):
            raise Conflict(Cause.GONE)
        event = Event(
            kind=EventKind.TICKET_REVOKE,
            at=self._clock(),
            peer=actor.peer,
            device_id=ticket.device_id,
            subject=record.device_name,
            detail={"ticket": str(ticket.id)},
        )
        if not await self._store.revoke(ticket, event):
            raise Conflict(Cause.GONE, "the ticket was claimed, revoked or swept meanwhile")


def utc_text(at: int) -> str:
    """A time as events tell it: `2026-11-28T18:23:36Z`."""
    return _second_text(at // 1000)


@lru_cache(maxsize=16)
def _second_text(second: int) -> str:
    """Kept, for many tickets are issued in one second."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
