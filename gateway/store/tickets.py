"""Tickets of single devices: issued, claimed, revoked, forgotten. Births by them are set-based."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from gateway.core.errors import Cause, Conflict
from gateway.core.inventory_store import Sight
from gateway.core.model import (
    HARDWARE_INFO,
    PROVISIONED,
    AttributeScope,
    Device,
    DeviceCredentialsType,
    Event,
    EventKind,
    NoticeKind,
    Order,
    Peer,
    ProfileTransport,
    RefusalReason,
    Ticket,
    TicketKind,
    TicketRecord,
    Value,
    Wire,
)
from gateway.core.ports import TicketClaim
from gateway.core.ticket_store import NewTicket, Renewal
from gateway.store.device_records import sighted
from gateway.store.driver import Row, Transaction
from gateway.store.events import event_on, tell
from gateway.store.identity import uuid_text
from gateway.store.logins import Login, change_login
from gateway.store.notices import notify
from gateway.store.records import device_from_row
from gateway.store.search import index_again
from gateway.store.values import to_columns
from gateway.store.writer import Decision, SingleDecision

_TOKEN: Final = DeviceCredentialsType.ACCESS_TOKEN.value
_TICKET: Final = "ticket"
_json = msgspec.json.Encoder()


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


def ticket_record_from_row(row: Row) -> TicketRecord:
    """A row of `waiting_tickets`."""
    organisation, owner, device = row[10:]
    return TicketRecord(
        ticket=ticket_from_row(row),
        organisation_name=organisation,
        owner_email=owner or "",
        device_name=device or "",
    )


def _listed(numbers: Sequence[int]) -> str:
    return _json.encode(numbers).decode()


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
        return [next(made) if one.place in places else Conflict(Cause.GONE) for one in decisions]

    @property
    def place(self) -> tuple[int, int | None]:
        """The organisation and the owner it is for."""
        return self.new.organisation_id, self.new.owner_id

    @classmethod
    async def _issue(cls, tx: Transaction, decisions: Sequence[IssueTicket]) -> list[Ticket]:
        if not decisions:
            return []
        many = len(decisions)
        last = (await tx.fetch("next_ids", "ticket", many))[0][0]
        last_device = (await tx.fetch("next_ids", "device", many))[0][0]
        offset = last_device - last
        issued = [
            one._ticket(number, number + offset)
            for number, one in enumerate(decisions, last - many + 1)
        ]
        await tx.insert_rows(
            "insert_tickets",
            [ticket_row(made, one.login) for made, one in zip(issued, decisions, strict=True)],
        )
        tell(
            tx,
            [
                event_on(one.new.event, made.device_id, ticket=str(made.id))
                for made, one in zip(issued, decisions, strict=True)
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


async def _living_places(
    tx: Transaction, decisions: Sequence[IssueTicket]
) -> set[tuple[int, int | None]]:
    """The organisations and owners that are still there: they were looked up before."""
    places = {one.place for one in decisions}
    organisations = _listed([one for one, _ in places])
    owners = _listed([one for _, one in places if one is not None])
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
            await change_login(tx, renewal.device_id, self.login, event.at)
            told = event_on(told, renewal.device_id, older="ended at once")
        else:
            await tx.insert_rows("insert_tickets", [ticket_row(ticket, self.login)])
        tell(tx, [told])
        return ticket


async def sighted_row(tx: Transaction, device_id: int, sight: Sight) -> Row:
    """The row of `device_record` of a device in sight. Raises `Conflict` GONE."""
    await sighted(tx, device_id, sight)
    return (await tx.fetch("device_record", device_id))[0]


# ── claiming ──────────────────────────────────────────────────────────────────────────────────


class Taken(Struct, frozen=True):
    """A ticket that was taken just now, and whose claim it was."""

    claim: ClaimTicket
    ticket: int
    owner_id: int | None
    number: int
    digest: bytes
    sealed: bytes
    organisation_id: int

    def device_row(self, name: str) -> Row:
        claim, profile = self.claim.claim, self.claim.claim.template.profile
        return (
            self.number,
            self.claim.uuid,
            profile.organisation_id,
            profile.id,
            name,
            profile.name,
            0,
            PROVISIONED,
            claim.at,
            self.customer_id,
            None,
            self.owner_id,
        )

    @property
    def customer_id(self) -> int | None:
        """The organisation the device is in, where that is not the one of its profile."""
        own = self.claim.claim.template.profile.organisation_id
        return None if self.organisation_id == own else self.organisation_id

    def name(self) -> str:
        return self.claim.claim.template.device_name.replace("{id}", str(self.number))

    def attribute_rows(self) -> list[Row]:
        claim = self.claim.claim
        rows = [
            self._attribute(AttributeScope.SHARED, key, value)
            for key, value in claim.template.attributes.items()
        ]
        if claim.hardware is not None:
            rows.append(self._attribute(AttributeScope.CLIENT, HARDWARE_INFO, claim.hardware))
        return rows

    def _attribute(self, scope: AttributeScope, key: str, value: Value) -> Row:
        return (self.number, scope._value_, key, *to_columns(value), self.claim.claim.at)

    def device(self, name: str) -> Device:
        claim, profile = self.claim.claim, self.claim.claim.template.profile
        return Device(
            id=self.number,
            uuid=uuid_text(self.claim.uuid),
            name=name,
            type=profile.name,
            profile_id=profile.id,
            organisation_id=profile.organisation_id,
            provision_state=PROVISIONED,
            credentials_row=1,
            transport=profile.transport,
            created_at=claim.at,
            customer_id=self.customer_id,
            profile_revision=profile.revision,
        )


class There(Struct, frozen=True):
    """A device that has the token already."""

    device: Device


class ClaimTicket(Decision[Device | There | RefusalReason]):
    """The delete of its ticket gives birth to a device; whoever comes later finds that device.

    `digest` is that of the token.
    """

    __slots__ = ("claim", "digest", "uuid")

    def __init__(self, claim: TicketClaim, uuid: bytes, digest: bytes) -> None:
        self.claim = claim
        self.uuid = uuid
        self.digest = digest

    @classmethod
    async def decide_all(cls, tx: Transaction, decisions: Sequence[ClaimTicket]) -> list[Any]:
        living = await _living_profiles(tx, decisions)
        mine: dict[int, dict[bytes, ClaimTicket]] = {profile: {} for profile in living}
        for one in decisions:
            profile_id = one.claim.template.profile.id
            if profile_id in living:
                mine[profile_id].setdefault(one.digest, one)
        taken = [one for profile in mine for one in await _take(tx, profile, mine[profile])]
        born = await _bear(tx, taken)
        tell(
            tx,
            [
                _born_event(one.claim.claim, one.ticket, born[id(one.claim)])
                for one in taken
                if id(one.claim) in born
            ],
        )
        return [
            born.get(id(one)) or await one._found(tx, one.claim.template.profile.id in living)
            for one in decisions
        ]

    async def _found(self, tx: Transaction, living: bool) -> There | RefusalReason:
        """Somebody else took the ticket: is the device there, and is it of this template?"""
        if not living:
            return RefusalReason.UNKNOWN_TEMPLATE
        found = await device_of_token(tx, self.digest, self.claim.template.profile.id)
        if isinstance(found, There):
            await _note_hardware(tx, found.device.id, self.claim)
        return found


async def _living_profiles(tx: Transaction, decisions: Sequence[ClaimTicket]) -> set[int]:
    """Those that are still there: a device of none would be nobody's."""
    wanted = list({one.claim.template.profile.id for one in decisions})
    return {row[0] for row in await tx.fetch("living_profiles", _listed(wanted))}


async def _take(
    tx: Transaction, profile_id: int, wanted: Mapping[bytes, ClaimTicket]
) -> list[Taken]:
    """The tickets with these digests, from now on gone."""
    now = max(one.claim.at for one in wanted.values())
    rows = await tx.fetch("take_tickets", b"".join(wanted), now, profile_id)
    return [
        Taken(wanted[bytes(digest)], number, owner_id, device_id, digest, sealed, organisation_id)
        for number, organisation_id, owner_id, device_id, digest, sealed in rows
    ]


async def _bear(tx: Transaction, taken: Sequence[Taken]) -> dict[int, Device]:
    """The devices of these tickets, by the identity of their claim; less those whose token is
    another device's by now, which no chance brings about."""
    if not taken:
        return {}
    names = await _insert_devices(tx, taken)
    rows = [
        (one.number, 1, _TOKEN, one.digest, one.sealed, one.claim.claim.at)
        for one in taken
        if one.number in names
    ]
    numbers = _listed([row[0] for row in rows])
    if await tx.insert_rows("insert_credentials", rows) != len(rows):
        keyed = {row[0] for row in await tx.fetch("born_among", numbers)}
        for number in names.keys() - keyed:
            await tx.fetch("delete_device", number)
            del names[number]
    alive = [one for one in taken if one.number in names]
    attributes = [row for one in alive for row in one.attribute_rows()]
    if attributes:
        await tx.insert_rows("insert_attributes", attributes)
    await index_again(tx, [one.number for one in alive])  # its number is older than its birth
    return {id(one.claim): one.device(names[one.number]) for one in alive}


async def _insert_devices(tx: Transaction, taken: Sequence[Taken]) -> dict[int, str]:
    """Insert all, under their own name or, where that is taken, with something added. By number."""
    names: dict[int, str] = {}
    pending = {one.number: one for one in taken}
    wanted = {one.number: one.name() for one in taken}
    for _ in range(2):
        rows = [one.device_row(wanted[number]) for number, one in pending.items()]
        if await tx.insert_rows("insert_reserved_devices", rows) == len(rows):
            there = set(pending)
        else:
            there = {row[0] for row in await tx.fetch("living", _listed(list(pending)))}
        names |= {number: wanted[number] for number in there & pending.keys()}
        pending = {number: one for number, one in pending.items() if number not in there}
        if not pending:
            break
        for number, one in pending.items():
            wanted[number] = f"{wanted[number]}-{one.claim.claim.spare}"
    return names


def _born_event(claim: TicketClaim, ticket: int, device: Device) -> Event:
    return Event(
        kind=EventKind.DEVICE_PROVISION,
        at=claim.at,
        peer=claim.peer,
        subject=device.name,
        device_id=device.id,
        detail={_TICKET: str(ticket)},
    )


async def device_of_token(tx: Transaction, digest: bytes, profile_id: int) -> There | RefusalReason:
    """The device whose token has this digest, if it is of that profile."""
    found = await tx.fetch("known_by_digest", digest)
    if not found:
        return RefusalReason.UNKNOWN_TOKEN
    *columns, transport, _, _, _ = found[0]
    device = device_from_row(tuple(columns), ProfileTransport(transport))
    return There(device) if device.profile_id == profile_id else RefusalReason.OTHER_TEMPLATE


async def _note_hardware(tx: Transaction, number: int, claim: TicketClaim) -> None:
    """What a device that is there says of its hardware now."""
    if claim.hardware is not None:
        columns = (*to_columns(claim.hardware), claim.at)
        row = (number, AttributeScope.CLIENT.value, HARDWARE_INFO, *columns)
        await tx.insert_rows("insert_attributes", [row])


class TakeRotation(SingleDecision[Device | There | RefusalReason]):
    """The first use of a device's new token: the old one is gone, and its sessions end."""

    __slots__ = ("claim", "digest", "ticket")

    def __init__(self, claim: TicketClaim, ticket: Ticket, digest: bytes) -> None:
        self.claim = claim
        self.ticket = ticket
        self.digest = digest

    async def decide(self, tx: Transaction) -> Device | There | RefusalReason:
        claim, profile = self.claim, self.claim.template.profile
        taken = await tx.fetch("take_rotation", self.ticket.id, claim.at, profile.id)
        if not taken:
            return await self._why_not(tx)
        number, digest, sealed = taken[0]
        if await change_login(tx, number, Login(_TOKEN, digest, sealed), claim.at) is None:
            return RefusalReason.UNKNOWN_TOKEN
        await _note_hardware(tx, number, claim)
        found = await device_of_token(tx, digest, profile.id)
        assert isinstance(found, There)
        event = _born_event(claim, self.ticket.id, found.device)
        tell(tx, [event_on(event, number, older="ended")])
        return found.device

    async def _why_not(self, tx: Transaction) -> There | RefusalReason:
        """Somebody took it, or the device is of another profile by now."""
        found = await device_of_token(tx, self.digest, self.claim.template.profile.id)
        if found is not RefusalReason.UNKNOWN_TOKEN:
            return found
        waits = await tx.fetch("find_ticket", self.digest)
        return RefusalReason.OTHER_TEMPLATE if waits else RefusalReason.UNKNOWN_TOKEN


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
                    detail={_TICKET: str(number), "kind": kind},
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
