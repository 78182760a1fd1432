"""Tickets of single devices: issued, revoked, forgotten; and orders to devices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from gateway.core.errors import Cause, Conflict, Overloaded
from gateway.core.inventory_store import Sight
from gateway.core.model import (
    Device,
    Event,
    EventKind,
    NoticeKind,
    Order,
    Peer,
    ProfileTransport,
    Ticket,
    TicketKind,
    TicketRecord,
    Wire,
)
from gateway.core.ticket_store import NewTicket, Renewal
from gateway.store.device_records import sighted
from gateway.store.driver import Row, Transaction
from gateway.store.events import event_on, tell
from gateway.store.logins import Login
from gateway.store.notices import notify
from gateway.store.queries import listed
from gateway.store.records import device_from_row
from gateway.store.ticket_claims import TICKET, take_up
from gateway.store.writer import Decision, SingleDecision

MOST_DEVICE_NUMBER: Final = 2**31 - 1
"""Blynk's clients take an int32 (contract, section 1)."""


def ticket_from_row(row: Row) -> Ticket:
    """The first ten columns of `find_ticket` and `waiting_tickets`."""
    number, kind, organisation_id, device_id, path, owner_id, profile_id = row[:7]
    issuer, created_at, expires_at = row[7:10]
    return Ticket(
        id=number,
        kind=TicketKind(kind),
        organisation_id=organisation_id,
        device_id=device_id,
        path=path,
        owner_id=owner_id,
        profile_id=profile_id,
        issuer=issuer,
        created_at=created_at,
        expires_at=expires_at,
    )


def holder_from_row(row: Row) -> Device | Ticket:
    """A row of `find_token`."""
    if row[0] is None:
        return ticket_from_row(row[14:])
    return device_from_row(row[:13], ProfileTransport(row[13]))


def ticket_record_from_row(row: Row) -> TicketRecord:
    """A row of `waiting_tickets`."""
    organisation, owner, device = row[10:]
    return TicketRecord(
        ticket=ticket_from_row(row),
        organisation_name=organisation,
        owner_email=owner or "",
        device_name=device or "",
    )


# ── issuing ───────────────────────────────────────────────────────────────────────────────────


class IssueTicket(Decision[Ticket]):
    """Reserves a number for a device, and keeps its token. `login` is the token as it is kept."""

    __slots__ = ("login", "new")

    def __init__(self, new: NewTicket, login: Login) -> None:
        self.new = new
        self.login = login

    @classmethod
    async def decide_all(cls, tx: Transaction, decisions: Sequence[IssueTicket]) -> list[Any]:
        places = await _living_places(tx, decisions)
        fit = [one for one in decisions if one.place in places]
        made = iter(await cls._issue(tx, fit))
        return [
            (next(made, None) or used_up()) if one.place in places else Conflict(Cause.GONE)
            for one in decisions
        ]

    @property
    def place(self) -> tuple[int, int | None]:
        """The organisation and the owner it is for."""
        return self.new.organisation_id, self.new.owner_id

    @classmethod
    async def _issue(cls, tx: Transaction, decisions: Sequence[IssueTicket]) -> list[Ticket]:
        """As many as there are device numbers for."""
        if not decisions:
            return []
        many = len(decisions)
        last = (await tx.fetch("next_ids", "ticket", many))[0][0]
        last_device = (await tx.fetch("next_ids", "device", many))[0][0]
        offset = last_device - last
        fit = decisions[: max(many - last_device + MOST_DEVICE_NUMBER, 0)]
        issued = [
            one._ticket(number, number + offset) for number, one in enumerate(fit, last - many + 1)
        ]
        await tx.insert_rows(
            "insert_tickets",
            [ticket_row(made, one.login) for made, one in zip(issued, fit, strict=True)],
        )
        tell(
            tx,
            [
                event_on(one.new.event, made.device_id, ticket=str(made.id))
                for made, one in zip(issued, fit, strict=True)
            ],
        )
        return issued

    def _ticket(self, number: int, device_id: int) -> Ticket:
        new = self.new
        return Ticket(
            id=number,
            kind=TicketKind.SINGLE,
            organisation_id=new.organisation_id,
            device_id=device_id,
            path=new.path,
            owner_id=new.owner_id,
            issuer=new.event.peer.actor,
            created_at=new.event.at,
            expires_at=new.expires_at,
        )


def used_up() -> Overloaded:
    """No device number is left that Blynk's clients could name a device by."""
    return Overloaded("the device numbers of 32 bits are used up")


async def _living_places(
    tx: Transaction, decisions: Sequence[IssueTicket]
) -> set[tuple[int, int | None]]:
    """The organisations and owners that are still there: they were looked up before."""
    places = {one.place for one in decisions}
    organisations = listed([one for one, _ in places])
    owners = listed([one for _, one in places if one is not None])
    known = {row[0] for row in await tx.fetch("living_organisations", organisations)}
    people = {row[0] for row in await tx.fetch("living_users", owners)}
    return {(one, owner) for one, owner in places if one in known and owner in (None, *people)}


def ticket_row(ticket: Ticket, login: Login) -> Row:
    """A row of `insert_tickets`."""
    return (
        ticket.id,
        ticket.kind._value_,
        ticket.organisation_id,
        ticket.profile_id,
        ticket.device_id,
        ticket.owner_id,
        login.digest,
        login.sealed,
        ticket.expires_at,
        ticket.created_at,
        ticket.issuer,
    )


class RenewToken(SingleDecision[Ticket]):
    """A new token for a device that exists, in place of one that may still wait."""

    __slots__ = ("login", "renewal")

    def __init__(self, renewal: Renewal, login: Login) -> None:
        self.renewal = renewal
        self.login = login

    async def decide(self, tx: Transaction) -> Ticket:
        renewal, event = self.renewal, self.renewal.event
        row = await sighted_row(tx, renewal.device_id, renewal.sight)
        before = await tx.fetch("revoke_rotations", renewal.device_id)
        number = (await tx.fetch("next_ids", "ticket", 1))[0][0]
        ticket = Ticket(
            id=number,
            kind=TicketKind.ROTATE,
            organisation_id=row[9] if row[9] is not None else row[5],
            device_id=renewal.device_id,
            path=row[-1],
            owner_id=row[20],
            issuer=event.peer.actor,
            created_at=event.at,
            expires_at=renewal.expires_at,
        )
        replaced = ", ".join(str(one[0]) for one in before)
        told = event_on(event, renewal.device_id, ticket=str(number), replaces=replaced)
        if renewal.at_once:
            ended = await take_up(tx, renewal.device_id, self.login, event.at)
            told = event_on(told, renewal.device_id, older="ended at once", superseded=ended)
        else:
            await tx.insert_rows("insert_tickets", [ticket_row(ticket, self.login)])
        tell(tx, [told])
        return ticket


async def sighted_row(tx: Transaction, device_id: int, sight: Sight) -> Row:
    """The row of `device_record` of a device in sight. Raises `Conflict` GONE."""
    await sighted(tx, device_id, sight)
    return (await tx.fetch("device_record", device_id))[0]


# ── the end of tickets ────────────────────────────────────────────────────────────────────────


class RevokeTicket(SingleDecision[bool]):
    """The delete decides."""

    __slots__ = ("event", "ticket")

    def __init__(self, ticket: Ticket, event: Event) -> None:
        self.ticket = ticket
        self.event = event

    async def decide(self, tx: Transaction) -> bool:
        if not await tx.fetch("revoke_ticket", self.ticket.id):
            return False
        tell(tx, [self.event])
        return True


class ExpireTickets(SingleDecision[bool]):
    """Forgets some of those that are over, and says so. True when there may be more."""

    __slots__ = ("most", "now")

    def __init__(self, now: int, most: int) -> None:
        self.now = now
        self.most = most

    async def decide(self, tx: Transaction) -> bool:
        gone = await tx.fetch("expire_tickets", self.now, self.most)
        peer = Peer(Wire.SHELL, "retention")
        tell(
            tx,
            [
                Event(
                    kind=EventKind.TICKET_EXPIRE,
                    at=self.now,
                    peer=peer,
                    device_id=device_id,
                    detail={TICKET: str(number), "kind": kind},
                )
                for number, device_id, kind in gone
            ],
        )
        return len(gone) == self.most


class OrderDevice(SingleDecision[None]):
    """Tells every gateway process what a device is to do."""

    __slots__ = ("argument", "device_id", "event", "order", "sight")

    def __init__(
        self, device_id: int, sight: Sight, order: Order, argument: str, event: Event
    ) -> None:
        self.device_id = device_id
        self.sight = sight
        self.order = order
        self.argument = argument
        self.event = event

    async def decide(self, tx: Transaction) -> None:
        await sighted(tx, self.device_id, self.sight)
        await notify(
            tx,
            NoticeKind.ORDER,
            self.event.at,
            device_id=self.device_id,
            order=self.order,
            argument=self.argument,
        )
        tell(tx, [self.event])
