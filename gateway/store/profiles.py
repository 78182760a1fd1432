"""Profiles and their tickets: as files describe them, and as other decisions need them."""

from __future__ import annotations

import os
from typing import TypeAlias

from gateway.core.errors import KeyTaken
from gateway.core.model import DeviceProfile, Event, NoticeKind, Secret
from gateway.core.ports import NewProfile
from gateway.store.driver import Transaction
from gateway.store.events import event_on, tell
from gateway.store.hook_deliveries import follow
from gateway.store.identity import uuid7
from gateway.store.notices import notify
from gateway.store.records import profile_from_row, settings_of
from gateway.store.static_tokens import pairs_of_profile
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


async def keep_ticket(
    tx: Transaction,
    profile: tuple[int, int],
    given: SealedPair,
    fresh: SealedPair | None,
    at: int,
) -> None:
    """Give the ticket of a profile (its organisation, its number) what is `given`.

    `fresh` makes one where there is none. Raises `KeyTaken`.
    """
    organisation_id, number = profile
    if await _update_ticket(tx, number, given) or fresh is None:
        return
    ticket = (await tx.fetch("next_ids", "ticket", 1))[0][0]
    if not await tx.fetch("insert_ticket", ticket, organisation_id, number, *fresh, at):
        raise KeyTaken("another profile already has this provision key")


async def insert_profile(
    tx: Transaction, profile: DeviceProfile, at: int, identity: bytes | None = None
) -> int | None:
    """Its number; None when its organisation has one of that name."""
    number: int = (await tx.fetch("next_ids", "profile", 1))[0][0]
    made = await tx.fetch(
        "insert_profile",
        number,
        profile.organisation_id,
        profile.name,
        settings_of(profile),
        profile.transport.value,
        at,
        identity or uuid7(at, os.urandom),
        profile.info,
        int(profile.birth.profile_by_type),
    )
    if made and profile.policy.after is not None:
        await follow(tx, number, profile)
    return number if made else None


async def profile_called(tx: Transaction, organisation_id: int, name: str) -> DeviceProfile | None:
    """The organisation's profile of that name."""
    named = await tx.fetch("profile_named", organisation_id, name)
    return profile_from_row(named[0]) if named else None


async def ensure_profile(
    tx: Transaction, organisation_id: int, name: str, at: int
) -> tuple[int, bool]:
    """The number of the profile of this name, and whether it was made for it."""
    named = await tx.fetch("profile_named", organisation_id, name)
    if named:
        return named[0][0], False
    profile = DeviceProfile(id=0, name=name, organisation_id=organisation_id)
    made = await insert_profile(tx, profile, at)
    if made is not None:
        return made, True
    return (await tx.fetch("profile_named", organisation_id, name))[0][0], False


async def ensure_default(
    tx: Transaction, organisation_id: int, name: str, at: int
) -> tuple[int, bool]:
    """The number of the organisation's default profile, and whether it was made.

    Where none is the default, the one called `name` is from now on.
    """
    found = await tx.fetch("default_profile", organisation_id)
    if found:
        return found[0][0], False
    number, made = await ensure_profile(tx, organisation_id, name, at)
    await tx.fetch("set_default_profile", number)
    return number, made


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
        organisation_id = profile.organisation_id
        number = await insert_profile(tx, profile, at)
        if number is None:
            number = (await tx.fetch("profile_named", organisation_id, profile.name))[0][0]
            settings, transport = settings_of(profile), profile.transport.value
            await tx.fetch("update_profile", number, settings, transport)
            await follow(tx, number, profile)
        await keep_ticket(tx, (organisation_id, number), self.given, self.fresh, at)
        tell(tx, [self.event])
        await notify(tx, NoticeKind.PROFILE, at, profile_id=number)
        row = (await tx.fetch("profile_named", organisation_id, profile.name))[0]
        return profile_from_row(row)


class RemoveProfile(SingleDecision[bool]):
    """Removes a profile that no device uses, with its ticket and its pairs of static tokens."""

    __slots__ = ("event", "profile_id")

    def __init__(self, profile_id: int, event: Event) -> None:
        self.profile_id = profile_id
        self.event = event

    async def decide(self, tx: Transaction) -> bool:
        pairs = await pairs_of_profile(tx, self.profile_id)
        removed = bool(await tx.fetch("remove_profile", self.profile_id))
        if removed:
            await tx.fetch("delete_assignments", "profile", self.profile_id)
            tell(tx, [event_on(self.event, None, static_tokens=pairs)])
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
        tell(tx, [self.event])
        await notify(tx, NoticeKind.PROFILE, self.event.at, profile_id=self.profile_id)
        return True
