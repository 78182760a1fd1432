"""Profiles and their tickets, changed by people."""

from __future__ import annotations

from typing import TypeAlias

from gateway.core.errors import KeyTaken
from gateway.core.model import DeviceProfile, Event, NoticeKind, Secret
from gateway.core.ports import NewProfile
from gateway.store.driver import Transaction
from gateway.store.notices import tell
from gateway.store.records import event_row, profile_from_row, settings_of
from gateway.store.vault import Vault
from gateway.store.writer import SingleDecision

SealedPair: TypeAlias = tuple[bytes | None, bytes | None, bytes | None]
"""A ticket's digest, sealed key and sealed secret; None: as it is."""


def sealed_pair(vault: Vault, key: Secret | None, secret: Secret | None) -> SealedPair:
    return (
        vault.digest(key.reveal()) if key else None,
        vault.seal(key.reveal().encode(), b"key") if key else None,
        vault.seal(secret.reveal().encode(), b"secret") if secret else None,
    )


async def _update_ticket(tx: Transaction, profile_id: int, pair: SealedPair) -> bool:
    """Change what the pair gives. False when there is no ticket; raises `KeyTaken`."""
    if await tx.fetch("update_ticket", profile_id, *pair):
        return True
    if await tx.fetch("fleet_ticket_of_profile", profile_id):
        raise KeyTaken("another profile already has this provision key")
    return False


class SaveProfile(SingleDecision[DeviceProfile]):
    """Creates a profile and its ticket, or updates the one of that name.

    `given` changes a ticket that is there, `fresh` makes one where there is none.
    """

    __slots__ = ("event", "fresh", "given", "new")

    def __init__(
        self, new: NewProfile, event: Event, given: SealedPair, fresh: SealedPair | None
    ) -> None:
        self.new = new
        self.event = event
        self.given = given
        self.fresh = fresh

    async def decide(self, tx: Transaction) -> DeviceProfile:
        profile, at = self.new.profile, self.event.at
        organisation_id, settings = profile.organisation_id, settings_of(profile)
        transport = profile.transport.value
        number = (await tx.fetch("next_ids", "profile", 1))[0][0]
        made = await tx.fetch(
            "insert_profile", number, organisation_id, profile.name, settings, transport, at
        )
        if not made:
            number = (await tx.fetch("profile_named", organisation_id, profile.name))[0][0]
            await tx.fetch("update_profile", number, settings, transport)
        if not await _update_ticket(tx, number, self.given) and self.fresh is not None:
            ticket = (await tx.fetch("next_ids", "ticket", 1))[0][0]
            if not await tx.fetch(
                "insert_ticket", ticket, organisation_id, number, *self.fresh, at
            ):
                raise KeyTaken("another profile already has this provision key")
        await tx.insert_rows("insert_events", [event_row(self.event)])
        await tell(tx, NoticeKind.PROFILE, at, profile_id=number)
        row = (await tx.fetch("profile_named", organisation_id, profile.name))[0]
        return profile_from_row(row)


class RemoveProfile(SingleDecision[bool]):
    """Removes a profile that no device uses, and its ticket with it."""

    __slots__ = ("event", "profile_id")

    def __init__(self, profile_id: int, event: Event) -> None:
        self.profile_id = profile_id
        self.event = event

    async def decide(self, tx: Transaction) -> bool:
        removed = bool(await tx.fetch("remove_profile", self.profile_id))
        if removed:
            await tx.fetch("delete_assignments", "profile", self.profile_id)
            await tx.insert_rows("insert_events", [event_row(self.event)])
        return removed


class RotateTicket(SingleDecision[bool]):
    """Changes the key or secret of a profile. False when it has none."""

    __slots__ = ("event", "pair", "profile_id")

    def __init__(self, profile_id: int, pair: SealedPair, event: Event) -> None:
        self.profile_id = profile_id
        self.pair = pair
        self.event = event

    async def decide(self, tx: Transaction) -> bool:
        if not await _update_ticket(tx, self.profile_id, self.pair):
            return False
        await tx.fetch("touch_profile", self.profile_id)
        await tx.insert_rows("insert_events", [event_row(self.event)])
        await tell(tx, NoticeKind.PROFILE, self.event.at, profile_id=self.profile_id)
        return True
