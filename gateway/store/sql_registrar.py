"""What operators ask of the store: profiles, devices and events, listed and changed.

Every change is a `Decision` of the same writer, so that it shares transactions with the devices'
traffic and writes its event in them. Another process may do the same at the same time: SQLite
lets one writer in after the other, and every statement here decides by itself.
"""

from __future__ import annotations

import uuid

from gateway.core.errors import KeyTaken
from gateway.core.model import DeviceProfile, Event, FleetTicket, ProfileTransport, Reading, Secret
from gateway.core.ports import DeviceListing, KnownCredentials, NewProfile
from gateway.store.decisions import event_row
from gateway.store.driver import Transaction
from gateway.store.records import event_from_row, profile_from_row, settings_of
from gateway.store.sql_store import SqlStore, device_from_row
from gateway.store.values import from_columns
from gateway.store.vault import Vault
from gateway.store.writer import Decision


class SqlRegistrar:
    """The operators' half of the store; implements `core.ports.Registrar`."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self._driver = store.driver
        self._submit = store.writer.submit

    # ── profiles ────────────────────────────────────────────────────────────────────────────

    async def save_profile(self, new: NewProfile, event: Event) -> DeviceProfile:
        try:
            return await self._submit(_SaveProfile(self._store.vault, new, event))
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
        ticket = await self.profile_ticket(profile_id)
        if ticket is None:
            return False
        rotate = _RotateTicket(self._store.vault, ticket, key or ticket.key, secret, event)
        try:
            return await self._submit(rotate)
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
        return await self._submit(_RemoveDevice(device_id, event))

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


class _SaveProfile(Decision[DeviceProfile]):
    """Creates a profile and its ticket, or updates the one of that name."""

    __slots__ = ("event", "new", "vault")

    def __init__(self, vault: Vault, new: NewProfile, event: Event) -> None:
        self.vault = vault
        self.new = new
        self.event = event

    async def decide(self, tx: Transaction) -> DeviceProfile:
        profile = self.new.profile
        organisation_id = profile.organisation_id
        made = await tx.fetch(
            "insert_profile", organisation_id, profile.name, settings_of(profile), self.event.at
        )
        if not made:
            row = (await tx.fetch("profile_named", organisation_id, profile.name))[0]
            await tx.fetch("update_profile", row[0], settings_of(profile))
            made = [(row[0],)]
        await self._save_ticket(tx, made[0][0])
        await tx.insert_rows("insert_events", [event_row(self.event)])
        row = (await tx.fetch("profile_named", organisation_id, profile.name))[0]
        return profile_from_row(row)

    async def _save_ticket(self, tx: Transaction, profile_id: int) -> None:
        key, secret = self.new.key, self.new.secret
        if key is None or secret is None:
            return
        values = _ticket_values(self.vault, key, secret)
        existing = await tx.fetch("fleet_ticket_of_profile", profile_id)
        if existing:
            saved = await tx.fetch("update_ticket", existing[0][0], *values)
        else:
            organisation_id = self.new.profile.organisation_id
            saved = await tx.fetch(
                "insert_ticket", organisation_id, profile_id, *values, self.event.at
            )
        if not saved:
            raise KeyTaken(f"another profile already has the provision key of {self.event.subject}")


def _ticket_values(vault: Vault, key: Secret, secret: Secret) -> tuple[bytes, bytes, bytes]:
    return (
        vault.digest(key.reveal()),
        vault.seal(key.reveal().encode(), b"key"),
        vault.seal(secret.reveal().encode(), b"secret"),
    )


class _RemoveProfile(Decision[bool]):
    __slots__ = ("event", "profile_id")

    def __init__(self, profile_id: int, event: Event) -> None:
        self.profile_id = profile_id
        self.event = event

    async def decide(self, tx: Transaction) -> bool:
        removed = bool(await tx.fetch("remove_profile", self.profile_id))
        if removed:
            await tx.insert_rows("insert_events", [event_row(self.event)])
        return removed


class _RotateTicket(Decision[bool]):
    __slots__ = ("event", "ticket", "values")

    def __init__(
        self, vault: Vault, ticket: FleetTicket, key: Secret, secret: Secret, event: Event
    ) -> None:
        self.ticket = ticket
        self.values = _ticket_values(vault, key, secret)
        self.event = event

    async def decide(self, tx: Transaction) -> bool:
        if not await tx.fetch("update_ticket", self.ticket.id, *self.values):
            raise KeyTaken("another profile already has this provision key")
        await tx.fetch("touch_profile", self.ticket.profile.id)
        await tx.insert_rows("insert_events", [event_row(self.event)])
        return True


class _RemoveDevice(Decision[bool]):
    __slots__ = ("device_id", "event")

    def __init__(self, device_id: int, event: Event) -> None:
        self.device_id = device_id
        self.event = event

    async def decide(self, tx: Transaction) -> bool:
        if not await tx.fetch("delete_device", self.device_id):
            return False
        for statement in (
            "delete_credentials",
            "delete_attributes",
            "delete_latest",
            "delete_readings",
        ):
            await tx.fetch(statement, self.device_id)
        await tx.insert_rows("insert_events", [event_row(self.event)])
        return True


class _RearmDevice(Decision[bool]):
    __slots__ = ("device_id", "event")

    def __init__(self, device_id: int, event: Event) -> None:
        self.device_id = device_id
        self.event = event

    async def decide(self, tx: Transaction) -> bool:
        if not await tx.fetch("rearm_device", self.device_id):
            return False
        await tx.insert_rows("insert_events", [event_row(self.event)])
        return True
