"""Tickets of single devices that are claimed. Births by them are set-based."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from gateway.core.errors import Cause, Conflict
from gateway.core.model import (
    HARDWARE_INFO,
    PROVISIONED,
    AttributeScope,
    Device,
    DeviceCredentialsType,
    DeviceProfile,
    Event,
    EventKind,
    ProfileTransport,
    RefusalReason,
    Ticket,
    Value,
)
from gateway.core.ports import TicketClaim
from gateway.store.caps import UNBOUNDED, Bounds, bounds_of, count_reserved, room_in
from gateway.store.driver import Row, Transaction
from gateway.store.events import event_on, tell
from gateway.store.identity import uuid_text
from gateway.store.logins import Login, change_login
from gateway.store.queries import listed
from gateway.store.records import device_from_row
from gateway.store.search import index_again
from gateway.store.values import to_columns
from gateway.store.writer import Decision, SingleDecision

_TOKEN: Final = DeviceCredentialsType.ACCESS_TOKEN.value
TICKET: Final = "ticket"
"""How events name one."""


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

    Where its profile bounds the number of devices and there is no room, the ticket stays. `digest`
    is that of the token.
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
        bounded = {
            profile_id: bounds
            for profile_id, wanted in mine.items()
            if (bounds := bounds_of(_profile_of(wanted))) != UNBOUNDED
        }
        free = {number: wanted for number, wanted in mine.items() if number not in bounded}
        born, full = await _claimed(tx, free), dict[bytes, RefusalReason]()
        for profile_id, bounds in bounded.items():
            full |= await _claim_bounded(tx, bounds, mine[profile_id], born)
        return [
            born.get(id(one))
            or await one._found(tx, one.claim.template.profile.id in living, full.get(one.digest))
            for one in decisions
        ]

    async def _found(
        self, tx: Transaction, living: bool, full: RefusalReason | None
    ) -> There | RefusalReason:
        """Somebody else took the ticket: is the device there, and is it of this template?

        `full`: nobody took it, if it is there, since there is no room.
        """
        if not living:
            return RefusalReason.UNKNOWN_TEMPLATE
        if full is not None and await tx.fetch("find_ticket", self.digest):
            return full
        found = await device_of_token(tx, self.digest, self.claim.template.profile.id)
        if isinstance(found, There):
            await _note_hardware(tx, found.device.id, self.claim)
        return found


async def _claim_bounded(
    tx: Transaction, bounds: Bounds, wanted: Mapping[bytes, ClaimTicket], born: dict[int, Device]
) -> dict[bytes, RefusalReason]:
    """The first as there is room, into `born`; why the others, if they have a ticket, are not."""
    profile, waiting = _profile_of(wanted), list(wanted)
    while waiting:
        room = await room_in(tx, (profile.organisation_id, profile.id), bounds)
        if not room.free:
            break
        some, waiting = waiting[: room.free], waiting[room.free :]
        born |= await _claimed(tx, {profile.id: {digest: wanted[digest] for digest in some}})
    return dict.fromkeys(waiting, room.reason) if waiting else {}


def _profile_of(wanted: Mapping[bytes, ClaimTicket]) -> DeviceProfile:
    """The one that all of them name."""
    return next(iter(wanted.values())).claim.template.profile


async def _claimed(
    tx: Transaction, mine: Mapping[int, Mapping[bytes, ClaimTicket]]
) -> dict[int, Device]:
    """The devices of the tickets that were there, by the identity of their claim. `mine`: claims by
    profile and digest."""
    taken = [one for profile in mine for one in await _take(tx, profile, mine[profile])]
    born = await _bear(tx, taken)
    events = [
        _born_event(one.claim.claim, one.ticket, born[id(one.claim)])
        for one in taken
        if id(one.claim) in born
    ]
    tell(tx, events)
    return born


async def _living_profiles(tx: Transaction, decisions: Sequence[ClaimTicket]) -> set[int]:
    """Those that are still there: a device of none would be nobody's."""
    wanted = list({one.claim.template.profile.id for one in decisions})
    return {row[0] for row in await tx.fetch("living_profiles", listed(wanted))}


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
    """The devices of these tickets, by the identity of their claim."""
    if not taken:
        return {}
    names = await _insert_devices(tx, taken)
    rows = [
        (one.number, 1, _TOKEN, one.digest, one.sealed, one.claim.claim.at)
        for one in taken
        if one.number in names
    ]
    await tx.insert_rows("insert_credentials", rows)
    alive = [one for one in taken if one.number in names]
    attributes = [row for one in alive for row in one.attribute_rows()]
    if attributes:
        await tx.insert_rows("insert_attributes", attributes)
    # Their numbers are older than their births.
    numbers = [one.number for one in alive]
    await index_again(tx, numbers)
    await count_reserved(tx, numbers)
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
            there = {row[0] for row in await tx.fetch("living", listed(list(pending)))}
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
        detail={TICKET: str(ticket)},
    )


async def device_of_token(tx: Transaction, digest: bytes, profile_id: int) -> There | RefusalReason:
    """The device whose token has this digest, if it is of that profile. Certificates and keys are
    looked up by digests too, but what is known of those is no secret."""
    found = await tx.fetch("known_by_digest", digest)
    if not found:
        return RefusalReason.UNKNOWN_TOKEN
    *columns, transport, kind, _, _, _ = found[0]
    if kind != _TOKEN:
        return RefusalReason.UNKNOWN_TOKEN
    device = device_from_row(tuple(columns), ProfileTransport(transport))
    return There(device) if device.profile_id == profile_id else RefusalReason.OTHER_TEMPLATE


async def _note_hardware(tx: Transaction, number: int, claim: TicketClaim) -> None:
    """What a device that is there says of its hardware now."""
    if claim.hardware is not None:
        columns = (*to_columns(claim.hardware), claim.at)
        row = (number, AttributeScope.CLIENT.value, HARDWARE_INFO, *columns)
        await tx.insert_rows("insert_attributes", [row])


# ── devices that exist ────────────────────────────────────────────────────────────────────────────


async def take_up(tx: Transaction, device_id: int, login: Login, at: int) -> str:
    """Give a device its new token. The certificates that ended with the older login, as text.

    Raises `Conflict` CREDENTIALS_TAKEN, which undoes what was decided with it."""
    superseded = await change_login(tx, device_id, login, at)
    if superseded is None:
        raise Conflict(Cause.CREDENTIALS_TAKEN, "the token is another device's")
    # Else who has the key of its profile could claim it, and be told the token.
    await tx.fetch("waits_no_more", device_id)
    return superseded


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
        ended = await take_up(tx, number, Login(_TOKEN, digest, sealed), claim.at)
        await _note_hardware(tx, number, claim)
        found = await device_of_token(tx, digest, profile.id)
        assert isinstance(found, There), "it is of that profile, and not suspended"
        event = _born_event(claim, self.ticket.id, found.device)
        tell(tx, [event_on(event, number, older="ended", superseded=ended)])
        return found.device

    async def _why_not(self, tx: Transaction) -> There | RefusalReason:
        """Somebody took it, or the device is of another profile by now, or suspended."""
        found = await device_of_token(tx, self.digest, self.claim.template.profile.id)
        if isinstance(found, There):
            await _note_hardware(tx, found.device.id, self.claim)
        if found is not RefusalReason.UNKNOWN_TOKEN:
            return found
        if await tx.fetch("is_suspended", self.ticket.device_id):
            return RefusalReason.SECRET_QUARANTINED
        waits = await tx.fetch("find_ticket", self.digest)
        return RefusalReason.OTHER_TEMPLATE if waits else RefusalReason.UNKNOWN_TOKEN
