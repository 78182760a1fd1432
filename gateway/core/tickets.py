"""Tickets, for the people and programs that onboard devices one by one.

What is issued here is claimed in `gateway.core.provisioning`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from msgspec import Struct

from gateway.core.errors import Cause, Conflict, Invalid, Overloaded
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


class Issued(Struct, frozen=True):
    """A ticket and its token, which is shown this once."""

    ticket: Ticket
    token: Secret


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
        self._counts: dict[int, tuple[int, int]] = {}
        """Of an organisation: how many wait, and when they were counted."""

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
        need(actor, Permission.PROVISION_DEVICES)
        if owner is not None and (actor.user is None or owner.id != actor.user.id):
            need(actor, Permission.ORG_VIEW_USERS)
        if not actor.organisation.has_below(organisation):
            raise Conflict(Cause.GONE, "there is no such organisation")
        if owner is not None and not await self._may_own(actor, organisation, owner):
            raise Conflict(Cause.GONE, "there is no such user")
        now = self._clock()
        until = self._until(now, days)
        await self._make_room(organisation.id, now)
        token = Secret(self._new_token())
        detail = {"organisation": organisation.name}
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
        return Issued(await self._store.issue(new), token)

    @staticmethod
    async def _may_own(actor: Actor, organisation: Organisation, owner: User) -> bool:
        """A member of the organisation, or of one above it up to the actor's."""
        above = {int(one) for one in organisation.path.strip("/").split("/")}
        hidden = {int(one) for one in actor.organisation.path.strip("/").split("/")[:-1]}
        return owner.organisation_id in above - hidden

    def _until(self, now: int, days: float | None) -> int:
        found = self._days if days is None else days
        if not 0 < found <= MOST_DAYS:
            raise Invalid(f"a ticket stands for more than 0 and at most {MOST_DAYS} days.")
        return now + round(found * _DAY_MS)

    async def _make_room(self, organisation_id: int, now: int) -> None:
        count, at = self._counts.get(organisation_id, (0, -_COUNTED_MS))
        if now - at >= _COUNTED_MS or count >= self._most_waiting:
            if len(self._counts) >= 10_000:
                self._counts.clear()
            count, at = await self._store.waiting(organisation_id), now
        self._counts[organisation_id] = count + 1, at
        if count >= self._most_waiting:
            raise Overloaded("too many tickets of this organisation wait for their devices")

    async def reprovision(
        self, actor: Actor, record: DeviceRecord, *, days: float | None = None
    ) -> Issued:
        """A new token for a device that exists; its number and all its data stay.

        Until the new token is first used the old one works, unless `revoke_on_issue`. Raises
        `Forbidden`, `Conflict` GONE, `Invalid`.
        """
        self._need_device(actor)
        now = self._clock()
        token = Secret(self._new_token())
        event = Event(
            kind=EventKind.TICKET_ISSUE,
            at=now,
            peer=actor.peer,
            device_id=record.device.id,
            subject=record.device.name,
        )
        renewal = Renewal(
            token=token,
            device_id=record.device.id,
            sight=sight_for_viewing(actor),
            expires_at=self._until(now, days),
            at_once=self._revoke_on_issue,
            event=event,
        )
        return Issued(await self._store.renew(renewal), token)

    @staticmethod
    def _need_device(actor: Actor) -> None:
        """May provision, and look at devices at all."""
        need(actor, Permission.PROVISION_DEVICES)
        if not actor.may(Permission.ORG_DEVICES_VIEW):
            need(actor, Permission.OWN_DEVICES_VIEW)

    # ── orders ──────────────────────────────────────────────────────────────────────────────

    async def order(
        self, actor: Actor, record: DeviceRecord, order: Order, argument: str = ""
    ) -> bool:
        """Tell a device to do something at once; whether it was online at this moment.

        Nothing is kept for one that is away. Raises `Forbidden`, `Conflict` GONE, `Invalid`.
        """
        self._need_device(actor)
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
        known = await self._store.known_user_numbered(number)
        return None if known is None else known.user

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
