"""Pairs of static tokens: made, claimed, given back, revoked; and what other changes do to them."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct, structs

from gateway.core.errors import Cause, Conflict
from gateway.core.model import Event, EventKind, RefusalReason, Ticket, TicketKind
from gateway.core.static_token_store import NewPairs, StaticClaim, StaticToken
from gateway.store.driver import Row, Transaction
from gateway.store.events import event_on, tell
from gateway.store.logins import Login, end_sessions
from gateway.store.tickets import MOST_DEVICE_NUMBER, ticket_row, used_up
from gateway.store.writer import SingleDecision

_ROWS_PER_WEIGHT = 4
"""A pair writes three rows, a small decision about one."""


class KeptPair(Struct, frozen=True):
    """Both tokens as they are kept; the second is that of a device."""

    claim_digest: bytes
    sealed_claim: bytes
    login: Login


def pair_from_row(row: Row) -> StaticToken:
    """The first eight columns of `static_token_record`."""
    number, organisation_id, profile_id, device_id, holder_id, owner_id, claimed_at = row[:7]
    return StaticToken(
        id=number,
        organisation_id=organisation_id,
        profile_id=profile_id,
        device_id=device_id,
        holder_id=holder_id,
        owner_id=owner_id,
        claimed_at=claimed_at,
        created_at=row[7],
    )


def _named(event: Event, pair_id: int, device_id: int, **detail: str) -> Event:
    """An event of this pair."""
    return event_on(event, device_id, static_token=str(pair_id), **detail)


# ── making ────────────────────────────────────────────────────────────────────────────────────


class IssuePairs(SingleDecision[list[StaticToken]]):
    """Pairs, each with a number for its device, and a ticket by which it is born."""

    __slots__ = ("kept", "new", "weight")

    def __init__(self, new: NewPairs, kept: Sequence[KeptPair]) -> None:
        self.new = new
        self.kept = kept
        self.weight = 1 + 3 * len(kept) // _ROWS_PER_WEIGHT

    async def decide(self, tx: Transaction) -> list[StaticToken]:
        new, many = self.new, len(self.kept)
        found = await tx.fetch("has_organisation_and_profile", new.organisation_id, new.profile_id)
        if not found:
            raise Conflict(Cause.GONE, "the organisation or the profile is no more")
        first, first_device, first_ticket = [
            (await tx.fetch("next_ids", name, many))[0][0] - many + 1
            for name in ("static_token", "device", "ticket")
        ]
        if first_device + many - 1 > MOST_DEVICE_NUMBER:
            raise used_up()
        made = [
            StaticToken(
                id=first + nth,
                organisation_id=new.organisation_id,
                profile_id=new.profile_id,
                device_id=first_device + nth,
                created_at=new.event.at,
            )
            for nth in range(many)
        ]
        await self._insert(tx, made, first_ticket, found[0][0])
        tell(tx, [_named(new.event, one.id, one.device_id) for one in made])
        return made

    async def _insert(
        self, tx: Transaction, made: Sequence[StaticToken], first_ticket: int, path: str
    ) -> None:
        rows, tickets = [], []
        for nth, (one, kept) in enumerate(zip(made, self.kept, strict=True)):
            login = kept.login
            columns = (one.id, one.organisation_id, one.profile_id, one.device_id)
            claim = (kept.claim_digest, kept.sealed_claim)
            rows.append((*columns, *claim, login.digest, login.sealed, one.created_at))
            ticket = _ticket(first_ticket + nth, one, path, self.new.event)
            tickets.append(ticket_row(ticket, login))
        await tx.insert_rows("insert_static_tokens", rows)
        await tx.insert_rows("insert_tickets", tickets)


def _ticket(number: int, pair: StaticToken, path: str, event: Event) -> Ticket:
    """By which the device of a pair is born, in the organisation that made it."""
    return Ticket(
        id=number,
        kind=TicketKind.SINGLE,
        organisation_id=pair.organisation_id,
        device_id=pair.device_id,
        path=path,
        profile_id=pair.profile_id,
        issuer=event.peer.actor,
        created_at=event.at,
    )


# ── claiming and giving back ──────────────────────────────────────────────────────────────────


async def _give(
    tx: Transaction, pair: StaticToken, place: tuple[int, int, int | None], at: int
) -> str | None:
    """The device of a pair, from one organisation to another, and to a person; its name.

    "" when it is not born: its ticket is changed. None when it is elsewhere, or there is neither.
    """
    before, after, owner_id = place
    given = await tx.fetch("give_device_of_pair", pair.device_id, before, after, owner_id)
    if given:
        name, gateway = given[0]
        if gateway and before != after:
            # Its sessions bear children for the customer they know.
            await end_sessions(tx, pair.device_id, at)
        return str(name)
    if await tx.fetch("give_ticket_of_pair", pair.device_id, after, owner_id):
        return ""
    return None


class ClaimPair(SingleDecision[StaticToken | RefusalReason]):
    """One UPDATE decides whose it is. `digest` is that of the claim token."""

    __slots__ = ("claim", "digest")

    def __init__(self, claim: StaticClaim, digest: bytes) -> None:
        self.claim = claim
        self.digest = digest

    async def decide(self, tx: Transaction) -> StaticToken | RefusalReason:
        claim, event = self.claim, self.claim.event
        holder = (claim.organisation_id, claim.owner_id)
        taken = await tx.fetch("claim_static_token", self.digest, *holder, event.at)
        if not taken:
            return await self._why_not(tx)
        pair = pair_from_row(taken[0])
        name = await _give(tx, pair, (pair.organisation_id, *holder), event.at)
        if name is None:
            raise Conflict(Cause.GONE, "the pair has neither a device nor a ticket")
        tell(tx, [_named(structs.replace(event, subject=name), pair.id, pair.device_id)])
        return pair

    async def _why_not(self, tx: Transaction) -> StaticToken | RefusalReason:
        """It was claimed: by the same, who did not hear of it, or by others."""
        found = await tx.fetch("static_token_by_claim", self.digest)
        if not found:
            return RefusalReason.UNKNOWN_TOKEN
        pair, claim = pair_from_row(found[0]), self.claim
        holder = (claim.organisation_id, claim.owner_id)
        if pair.claimed_at is not None and (pair.holder_id, pair.owner_id) == holder:
            return pair
        if pair.claimed_at is None:
            at = (claim.organisation_id, pair.profile_id)
            person = await tx.fetch("user_by_number", claim.owner_id or 0)
            if not await tx.fetch("has_organisation_and_profile", *at) or (
                claim.owner_id is not None and not person
            ):
                raise Conflict(Cause.GONE, "the organisation or the person is no more")
        return RefusalReason.CUSTOMER_HAS_IT


class UnclaimPair(SingleDecision[bool]):
    """One UPDATE decides, for the claim that was seen."""

    __slots__ = ("event", "pair")

    def __init__(self, pair: StaticToken, event: Event) -> None:
        self.pair = pair
        self.event = event

    async def decide(self, tx: Transaction) -> bool:
        pair, event = self.pair, self.event
        if pair.holder_id is None:
            return False
        seen = (pair.id, pair.holder_id, pair.claimed_at)
        freed = await tx.fetch("unclaim_static_token", *seen)
        if not freed:
            return False
        now = structs.replace(pair, device_id=freed[0][0])
        name = await _give(tx, now, (pair.holder_id, pair.organisation_id, None), event.at)
        tell(tx, [_named(structs.replace(event, subject=name or ""), pair.id, now.device_id)])
        return True


class RevokePair(SingleDecision[bool]):
    """The delete decides. What was born with it stays."""

    __slots__ = ("event", "pair")

    def __init__(self, pair: StaticToken, event: Event) -> None:
        self.pair = pair
        self.event = event

    async def decide(self, tx: Transaction) -> bool:
        gone = await tx.fetch("revoke_static_token", self.pair.id)
        if not gone:
            return False
        device_id = gone[0][0]
        ticket = await tx.fetch("revoke_ticket_of_pair", device_id)
        device = "never born" if ticket else "stays"
        tell(tx, [_named(self.event, self.pair.id, device_id, device=device)])
        return True


# ── when something else goes ──────────────────────────────────────────────────────────────────


async def renew_pair_of_device(tx: Transaction, device_id: int, event: Event) -> str:
    """A device was removed: the pair it was made with, if any, is unclaimed, and waits for another.

    That has a number of its own, and the token the hardware was made with. The pair, as text.
    """
    found = await tx.fetch("static_token_of_device", device_id)
    if not found:
        return ""
    number, organisation_id, profile_id, digest, sealed, holder_id = found[0]
    next_device = (await tx.fetch("next_ids", "device", 1))[0][0]
    next_ticket = (await tx.fetch("next_ids", "ticket", 1))[0][0]
    await tx.fetch("renew_static_token", number, next_device)
    pair = StaticToken(
        id=number,
        organisation_id=organisation_id,
        profile_id=profile_id,
        device_id=next_device,
    )
    # Whatever path it has: it is looked up with the ticket.
    ticket = _ticket(next_ticket, pair, "", event)
    login = Login("", digest, sealed)
    await tx.insert_rows("insert_tickets", [ticket_row(ticket, login)])
    if holder_id is not None:
        freed = structs.replace(event, kind=EventKind.STATIC_TOKEN_UNCLAIM)
        tell(tx, [_named(freed, number, next_device, removed=str(device_id))])
    return str(number)


async def unclaim_pairs_of(
    tx: Transaction, organisation_id: int, event: Event, *, devices: bool
) -> None:
    """An organisation is to be removed: what it holds goes back to who made it.

    With `devices` those that are born go back, too; else they stay, and hold it up.
    """
    told = structs.replace(event, kind=EventKind.STATIC_TOKEN_UNCLAIM, object="")
    for row in await tx.fetch("static_tokens_held", organisation_id, int(devices)):
        await UnclaimPair(pair_from_row(row), told).decide(tx)


async def pairs_of_profile(tx: Transaction, profile_id: int) -> str:
    """How many pairs go with a profile that is to be removed, as text; "" when none does."""
    return str((await tx.fetch("count_static_tokens_of_profile", profile_id))[0][0] or "")


async def revoke_pairs_of(tx: Transaction, organisation_id: int) -> int:
    """An organisation is to be removed: the pairs it made are claimed no more. How many they were.

    Devices that others claimed and that are not born yet may still be.
    """
    return len(await tx.fetch("revoke_static_tokens_of_organisation", organisation_id))
