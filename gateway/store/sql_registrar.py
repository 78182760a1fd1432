"""What operators ask of the store: profiles, devices and events, listed and changed.

Every change is a `Decision` of the same writer, so that it shares transactions with the devices'
traffic and writes its event in them. Another process may do the same at the same time: SQLite
lets one writer in after the other, and every statement here decides by itself.
"""

from __future__ import annotations

import uuid
from typing import TypeAlias

from gateway.core.errors import KeyTaken
from gateway.core.model import DeviceProfile, Event, FleetTicket, ProfileTransport, Reading, Secret
from gateway.core.ports import DeviceListing, KnownCredentials, NewProfile
from gateway.store.decisions import event_row
from gateway.store.driver import Transaction
from gateway.store.records import event_from_row, profile_from_row, settings_of
from gateway.store.sql_store import SqlStore, device_from_row
from gateway.store.values import from_columns
from gateway.store.vault import Vault
from gateway.store.writer import SingleDecision

_ROWS_PER_STEP = 2000


class SqlRegistrar:
    """The operators' half of the store; implements `core.ports.Registrar`."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self._driver = store.driver
        self._submit = store.writer.submit

    # ── profiles ────────────────────────────────────────────────────────────────────────────

    async def save_profile(self, new: NewProfile, event: Event) -> DeviceProfile:
        vault, fresh = self._store.vault, None
        if new.spare is not None:
            key, secret = new.spare
            fresh = _sealed_pair(vault, new.key or key, new.secret or secret)
        save = _SaveProfile(new, event, _sealed_pair(vault, new.key, new.secret), fresh)
        try:
            return await self._submit(save)
        finally:
            self._store.forget_tickets()

    async def profiles(self) -> list[DeviceProfile]:
        return [profile_from_row(row) for row in await self._driver.rows("profiles")]

    async def profile_ticket(self, profile_id: int) -> FleetTicket | None:
        row = await self._driver.point("fleet_ticket_of_profile", profile_id)
        return None if row is None else await self._store.fleet_ticket(row[0])

    async def remove_profile(self, profile_id: int, event: Event) -> bool:
        try:
            return await self._submit(_RemoveProfile(profile_id, event))
        finally:
            self._store.forget_tickets()

    async def rotate_ticket(
        self, profile_id: int, key: Secret | None, secret: Secret, event: Event
    ) -> bool:
        pair = _sealed_pair(self._store.vault, key, secret)
        try:
            return await self._submit(_RotateTicket(profile_id, pair, event))
        finally:
            self._store.forget_tickets()

    # ── devices ─────────────────────────────────────────────────────────────────────────────

    async def devices(
        self, *, after_id: int, limit: int, profile_id: int | None, text: str
    ) -> list[DeviceListing]:
        rows = await self._driver.rows("devices", after_id, limit, profile_id, text)
        return [
            DeviceListing(device_from_row(tuple(device), ProfileTransport.DEFAULT), profile, kind)
            for *device, profile, kind in rows
        ]

    async def find_device(self, name_or_uuid: str) -> KnownCredentials | None:
        try:
            identity = uuid.UUID(name_or_uuid).bytes
        except ValueError:
            identity = b""
        row = await self._driver.point("device_id_named", name_or_uuid, identity)
        return None if row is None else await self._store.known_device(row[0])

    async def count_devices(self) -> int:
        row = await self._driver.rows("count_devices")
        return int(row[0][0])

    async def devices_per_profile(self) -> dict[int, int]:
        return {row[0]: row[1] for row in await self._driver.rows("devices_per_profile")}

    async def remove_device(self, device_id: int, event: Event) -> bool:
        removed = await self._submit(_RemoveDevice(device_id, event))
        # Its readings may be millions: in steps, so that others are served in between. What an
        # interruption leaves is found by the retention sweep.
        while removed and await self._submit(_ForgetDevice(device_id)):
            pass
        return removed

    async def rearm_device(self, device_id: int, event: Event) -> bool:
        return await self._submit(_RearmDevice(device_id, event))

    # ── what happened, what was measured ────────────────────────────────────────────────────

    async def events(self, *, after_seq: int, limit: int, device_id: int | None) -> list[Event]:
        rows = await self._driver.rows("events", after_seq, limit, device_id)
        return [event_from_row(row) for row in rows]

    async def last_events(self, *, limit: int, device_id: int | None) -> list[Event]:
        rows = await self._driver.rows("last_events", limit, device_id)
        return [event_from_row(row) for row in reversed(rows)]

    async def latest(self, device_id: int) -> list[Reading]:
        rows = await self._driver.rows("latest", device_id)
        return [Reading(ts, key, from_columns(*columns)) for ts, key, *columns in rows]

    async def readings(
        self, device_id: int, key: str, *, since: int, until: int, limit: int
    ) -> list[Reading]:
        """Readings of one key with `since <= ts < until`, oldest first."""
        rows = await self._driver.rows("readings", device_id, key, since, until, limit)
        return [Reading(ts, name, from_columns(*columns)) for ts, name, *columns in rows]


_SealedPair: TypeAlias = tuple[bytes | None, bytes | None, bytes | None]
"""A ticket's digest, sealed key and sealed secret; None: as it is."""


def _sealed_pair(vault: Vault, key: Secret | None, secret: Secret | None) -> _SealedPair:
    return (
        vault.digest(key.reveal()) if key else None,
        vault.seal(key.reveal().encode(), b"key") if key else None,
        vault.seal(secret.reveal().encode(), b"secret") if secret else None,
    )


async def _update_ticket(tx: Transaction, profile_id: int, pair: _SealedPair) -> bool:
    """Change what the pair gives. False when there is no ticket; raises `KeyTaken`."""
    if await tx.fetch("update_ticket", profile_id, *pair):
        return True
    if await tx.fetch("fleet_ticket_of_profile", profile_id):
        raise KeyTaken("another profile already has this provision key")
    return False


class _SaveProfile(SingleDecision[DeviceProfile]):
    """Creates a profile and its ticket, or updates the one of that name.

    `given` changes a ticket that is there, `fresh` makes one where there is none.
    """

    __slots__ = ("event", "fresh", "given", "new")

    def __init__(
        self, new: NewProfile, event: Event, given: _SealedPair, fresh: _SealedPair | None
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
        row = (await tx.fetch("profile_named", organisation_id, profile.name))[0]
        return profile_from_row(row)


class _RemoveProfile(SingleDecision[bool]):
    __slots__ = ("event", "profile_id")

    def __init__(self, profile_id: int, event: Event) -> None:
        self.profile_id = profile_id
        self.event = event

    async def decide(self, tx: Transaction) -> bool:
        removed = bool(await tx.fetch("remove_profile", self.profile_id))
        if removed:
            await tx.insert_rows("insert_events", [event_row(self.event)])
        return removed


class _RotateTicket(SingleDecision[bool]):
    __slots__ = ("event", "pair", "profile_id")

    def __init__(self, profile_id: int, pair: _SealedPair, event: Event) -> None:
        self.profile_id = profile_id
        self.pair = pair
        self.event = event

    async def decide(self, tx: Transaction) -> bool:
        if not await _update_ticket(tx, self.profile_id, self.pair):
            return False
        await tx.fetch("touch_profile", self.profile_id)
        await tx.insert_rows("insert_events", [event_row(self.event)])
        return True


class _RemoveDevice(SingleDecision[bool]):
    __slots__ = ("device_id", "event")

    def __init__(self, device_id: int, event: Event) -> None:
        self.device_id = device_id
        self.event = event

    async def decide(self, tx: Transaction) -> bool:
        if not await tx.fetch("delete_device", self.device_id):
            return False
        await tx.fetch("delete_credentials", self.device_id)
        await tx.fetch("delete_attributes", self.device_id)
        await tx.insert_rows("insert_events", [event_row(self.event)])
        return True


class _ForgetDevice(SingleDecision[bool]):
    """Forgets some readings of a removed device. True when there may be more."""

    __slots__ = ("device_id",)

    def __init__(self, device_id: int) -> None:
        self.device_id = device_id

    async def decide(self, tx: Transaction) -> bool:
        if await tx.fetch("forget_device_readings", self.device_id, _ROWS_PER_STEP):
            return True
        await tx.fetch("delete_latest", self.device_id)
        return False


class _RearmDevice(SingleDecision[bool]):
    __slots__ = ("device_id", "event")

    def __init__(self, device_id: int, event: Event) -> None:
        self.device_id = device_id
        self.event = event

    async def decide(self, tx: Transaction) -> bool:
        if not await tx.fetch("rearm_device", self.device_id):
            return False
        await tx.insert_rows("insert_events", [event_row(self.event)])
        return True
