"""Organisations, changed by people."""

from __future__ import annotations

import os

from msgspec import structs

from gateway.core.errors import Cause, Conflict
from gateway.core.model import Event, EventKind, NoticeKind, Organisation, Peer
from gateway.core.people_store import OrganisationDraft
from gateway.store.driver import Row, Transaction
from gateway.store.events import event_on, tell
from gateway.store.identity import uuid7, uuid_text
from gateway.store.notices import notify
from gateway.store.people_rows import organisation_from_row
from gateway.store.static_tokens import revoke_pairs_of, unclaim_pairs_of
from gateway.store.writer import SingleDecision

_TAKEN = "an organisation of this name is there already"


async def alone(tx: Transaction, sequence: str) -> None:
    """Whoever else changes these waits for this transaction to end. (SQLite has one writer.)"""
    await tx.fetch("next_ids", sequence, 0)


async def organisation_now(tx: Transaction, number: int) -> Organisation:
    """Raises `Conflict` GONE."""
    found = await tx.fetch("organisation_by_number", number)
    if not found:
        raise Conflict(Cause.GONE)
    return organisation_from_row(found[0])


async def insert_organisation(
    tx: Transaction, parent: Organisation, identity: bytes, draft: OrganisationDraft, at: int
) -> int | None:
    """Its number. None when the name is taken below this parent, or there is no parent."""
    number: int = (await tx.fetch("next_ids", "organisation", 1))[0][0]
    path = f"{parent.path}{number}/"
    made = await tx.fetch(
        "insert_organisation",
        number,
        identity,
        parent.id,
        draft.name,
        path,
        draft.info or "{}",
        at,
    )
    return number if made else None


async def ensure_customer(
    tx: Transaction, organisation_id: int, name: str, at: int, peer: Peer
) -> int:
    """The number of the customer of this name directly below an organisation; made if it is new."""
    found = await tx.fetch("organisation_beside", organisation_id, name)
    if found:
        return int(found[0][0])
    above, identity = await organisation_now(tx, organisation_id), uuid7(at, os.urandom)
    number = await insert_organisation(tx, above, identity, OrganisationDraft(name=name), at)
    if number is None:
        return int((await tx.fetch("organisation_beside", organisation_id, name))[0][0])
    kind, made = EventKind.ORGANISATION_CREATE, uuid_text(identity)
    tell(tx, [Event(kind=kind, at=at, peer=peer, subject=name, object=made)])
    return number


class CreateOrganisation(SingleDecision[Organisation]):
    """The insert decides about the name."""

    __slots__ = ("draft", "event", "identity", "parent")

    def __init__(self, parent: Organisation, draft: OrganisationDraft, event: Event) -> None:
        self.parent = parent
        self.draft = draft
        self.identity = uuid7(event.at)
        self.event = structs.replace(event, object=uuid_text(self.identity))

    async def decide(self, tx: Transaction) -> Organisation:
        number = await insert_organisation(
            tx, self.parent, self.identity, self.draft, self.event.at
        )
        if number is None:
            await organisation_now(tx, self.parent.id)
            raise Conflict(Cause.NAME_TAKEN, _TAKEN)
        tell(tx, [self.event])
        return await organisation_now(tx, number)


class UpdateOrganisation(SingleDecision[Organisation]):
    __slots__ = ("draft", "event", "number")

    def __init__(self, number: int, draft: OrganisationDraft, event: Event) -> None:
        self.number = number
        self.draft = draft
        self.event = event

    async def decide(self, tx: Transaction) -> Organisation:
        await alone(tx, "organisation")
        draft = self.draft
        columns = (draft.name, draft.info, draft.version)
        if not await tx.fetch("update_organisation", self.number, *columns):
            there = await organisation_now(tx, self.number)
            if draft.version is not None and there.version != draft.version:
                raise Conflict(Cause.VERSION)
            raise Conflict(Cause.NAME_TAKEN, _TAKEN)
        saved = await organisation_now(tx, self.number)
        tell(tx, [structs.replace(self.event, object=saved.uuid)])
        return saved


class RemoveOrganisation(SingleDecision[None]):
    """Removes what nothing needs any more. The delete decides."""

    __slots__ = ("event", "most", "organisation", "unassign")

    def __init__(
        self, organisation: Organisation, event: Event, *, unassign: bool, most: int
    ) -> None:
        self.organisation = organisation
        self.event = structs.replace(event, object=organisation.uuid)
        self.unassign = unassign
        self.most = most

    async def decide(self, tx: Transaction) -> None:
        await alone(tx, "organisation")
        number = self.organisation.id
        taken_back = await self._unassign(tx) if self.unassign else []
        await unclaim_pairs_of(tx, number, self.event, devices=False)
        pairs = await revoke_pairs_of(tx, number)
        revoked = await tx.fetch("revoke_tickets_of_organisation", number)
        if not await tx.fetch("remove_organisation", number):
            await organisation_now(tx, number)
            raise Conflict(Cause.IN_USE, await _uses(tx, number))
        for rest in ("empty_groups", "delete_groups", "delete_roles"):
            await tx.fetch(f"{rest}_of_organisation", number)
        clients = await self._end_clients(tx)
        event = event_on(self.event, None, static_tokens=str(pairs or ""))
        tell(tx, [*taken_back, *self._revocations(revoked), *clients, event])

    async def _end_clients(self, tx: Transaction) -> list[Event]:
        """Its programs go with it, what they were given, and their connections."""
        number = self.organisation.id
        await tx.fetch("end_grants_of_organisation", number)
        event = structs.replace(self.event, kind=EventKind.OAUTH_CLIENT_REVOKE, object="")
        gone, told = await tx.fetch("remove_oauth_clients_of_organisation", number), list[Event]()
        for client_id, name, label in gone:
            await notify(tx, NoticeKind.CLIENT, self.event.at, client_id=client_id)
            told.append(event_on(structs.replace(event, subject=name), None, label=label))
        return told

    def _revocations(self, rows: list[Row]) -> list[Event]:
        """Tickets that wait go with it."""
        event = structs.replace(self.event, kind=EventKind.TICKET_REVOKE, object="")
        return [event_on(event, device_id, ticket=str(ticket)) for ticket, device_id in rows]

    async def _unassign(self, tx: Transaction) -> list[Event]:
        """Take its devices back: what is to be told of it. Raises `Conflict` if there are many."""
        number = self.organisation.id
        devices = (await tx.fetch("some_devices_of_customer", number, self.most + 1))[0][0]
        if devices > self.most:
            raise Conflict(
                Cause.IN_USE, f"more than {self.most} devices are assigned to it; take them back"
            )
        await unclaim_pairs_of(tx, number, self.event, devices=True)
        event = structs.replace(self.event, kind=EventKind.DEVICE_ASSIGN, object="")
        return [
            event_on(structs.replace(event, subject=name), device_id, before=self.organisation.name)
            for device_id, name in await tx.fetch("unassign_devices", number)
        ]


async def _uses(tx: Transaction, number: int) -> str:
    """What still needs it, as a sentence's end."""
    names = ("organisations below it", "users", "device profiles", "devices")
    found = (await tx.fetch("uses_of_organisation", number))[0]
    told = [name for name, used in zip(names, found, strict=True) if used]
    return f"it still has {', '.join(told)}"
