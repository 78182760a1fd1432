"""Fleet secrets as rows, and back; and the decisions about them."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.core.errors import Cause, Conflict, KeyTaken
from gateway.core.fleet_secret_store import Borne, Bounds, NewFleetSecret
from gateway.core.model import Event, FleetTicket, NoticeKind, Secret
from gateway.store.driver import Row, Transaction
from gateway.store.events import tell
from gateway.store.identity import uuid_text
from gateway.store.notices import notify
from gateway.store.profiles import SealedPair
from gateway.store.queries import listed
from gateway.store.records import profile_from_row
from gateway.store.vault import Vault
from gateway.store.writer import SingleDecision

_networks = msgspec.json.Decoder(tuple[str, ...])


def fleet_ticket_from_row(vault: Vault, row: Row) -> FleetTicket:
    """A row of `fleet_ticket`, opened."""
    number, sealed_key, sealed_secret, label, created_at, not_before, expires_at = row[:7]
    max_uses, uses, networks, derived, quarantined_since, revoked_at, last_used_at = row[7:14]
    return FleetTicket(
        id=number,
        profile=profile_from_row(row[14:]),
        key=Secret(vault.open(sealed_key, b"key").decode()),
        secret=Secret(vault.open(sealed_secret, b"secret").decode()),
        label=label,
        created_at=created_at,
        not_before=not_before,
        expires_at=expires_at,
        max_uses=max_uses,
        uses=uses,
        networks=_networks.decode(networks),
        derived=bool(derived),
        quarantined_since=quarantined_since,
        revoked_at=revoked_at,
        last_used_at=last_used_at,
    )


def borne_from_row(row: Row) -> Borne:
    """A row of `borne_devices`."""
    number, uuid, name, provisioned_at, seen_at, suspended = row
    return Borne(
        id=number,
        uuid=uuid_text(uuid),
        name=name,
        provisioned_at=provisioned_at,
        seen_at=seen_at,
        suspended=bool(suspended),
    )


class AddFleetTicket(SingleDecision[int]):
    """Adds a pair to a profile; with `old` (a number, and when that ends) in its place."""

    __slots__ = ("new", "old", "pair")

    def __init__(
        self, new: NewFleetSecret, pair: SealedPair, old: tuple[int, int] | None = None
    ) -> None:
        self.new = new
        self.pair = pair
        self.old = old

    async def decide(self, tx: Transaction) -> int:
        new = self.new
        if not await tx.fetch("touch_profile_there", new.profile_id):
            raise Conflict(Cause.GONE, "there is no such device profile")
        if self.old is not None and not await tx.fetch("end_fleet_ticket", *self.old):
            raise Conflict(Cause.GONE, "the secret was revoked meanwhile")
        number: int = (await tx.fetch("next_ids", "ticket", 1))[0][0]
        if not await tx.fetch("insert_fleet_ticket", number, *self._row()):
            raise await self._why_not(tx)
        if (await tx.fetch("count_fleet_tickets", new.profile_id))[0][0] > new.most:
            raise Conflict(
                Cause.IN_USE,
                f"the profile has {new.most} secrets already; revoke one that is not needed",
            )
        tell(tx, [new.event])
        return number

    def _row(self) -> tuple[Any, ...]:
        new, bounds = self.new, self.new.bounds
        at, networks = new.event.at, listed(bounds.networks)
        until = (bounds.not_before, bounds.expires_at, bounds.max_uses)
        place = (new.organisation_id, new.profile_id)
        return (*place, *self.pair, at, new.label, *until, networks, int(new.derived))

    async def _why_not(self, tx: Transaction) -> Conflict | KeyTaken:
        if await tx.fetch("fleet_label_taken", self.new.profile_id, self.new.label):
            return Conflict(
                Cause.NAME_TAKEN, f"the profile has a secret called {self.new.label} already"
            )
        return KeyTaken("another secret already has this provision key")


class ChangeFleetTicket(SingleDecision[bool]):
    """Changes what is said of a pair by the statement `name`; False when that found nothing."""

    __slots__ = ("event", "name", "number", "values")

    def __init__(self, name: str, number: int, event: Event, *values: object) -> None:
        self.name = name
        self.number = number
        self.event = event
        self.values = values

    async def decide(self, tx: Transaction) -> bool:
        changed = await tx.fetch(self.name, self.number, *self.values)
        if not changed:
            return False
        # Kept tickets are as of their profile's revision: it makes every process look again.
        await tx.fetch("touch_profile", changed[0][0])
        tell(tx, [self.event])
        return True


class SuspendBorne(ChangeFleetTicket):
    """The same where devices are suspended by it, or no longer: all processes hear of that."""

    __slots__ = ()

    async def decide(self, tx: Transaction) -> bool:
        changed = await super().decide(tx)
        if changed:
            await notify(tx, NoticeKind.QUARANTINE, self.event.at, ticket_id=self.number)
        return changed


def bounds_row(bounds: Bounds) -> tuple[Any, ...]:
    """The values of `bound_fleet_ticket`, after the number."""
    until = (bounds.not_before, bounds.expires_at, bounds.max_uses)
    return (*until, listed(bounds.networks))
