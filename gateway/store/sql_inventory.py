"""The inventory's half of the store; implements `core.inventory_store.InventoryStore`."""

from __future__ import annotations

import uuid as uuids

import msgspec
from msgspec import structs

from gateway.core.inventory_store import DeviceCredentialsRecord, NewRecord, RecordChange, Sight
from gateway.core.model import (
    ClaimResult,
    DeviceCredentials,
    DeviceGroup,
    DeviceOrder,
    DeviceQuery,
    DeviceRecord,
    Event,
    Page,
    Secret,
)
from gateway.store.credentials import credentials_from_bytes
from gateway.store.device_records import is_in_sight, record_from_row, sighted
from gateway.store.devices import ForgetDevice, RemoveDevice
from gateway.store.driver import Transaction
from gateway.store.identity import uuid7, uuid_text
from gateway.store.inventory import (
    AddDevice,
    AssignDevice,
    ChangeDevice,
    ChangeLogin,
    ClaimForPerson,
    DropGroup,
    JoinGroups,
    LeaveGroup,
)
from gateway.store.listing import (
    MOST_PARTS,
    POSTGRES,
    SQLITE,
    Listing,
    Scope,
    Text,
    count,
    pattern_of,
    pick,
    some,
    walk,
)
from gateway.store.logins import kept_login
from gateway.store.search import MOST_CANDIDATES, MOST_PROFILES, can_occur, candidates
from gateway.store.sql_store import SqlStore

MOST_COUNTED = 10_000
"""Devices that are counted for a page's total."""

_WALKED = (DeviceOrder.CREATED, DeviceOrder.NAME)
"""Orders of which each organisation's devices have an index."""

_EMPTY: Page[DeviceRecord] = Page(data=[], total=0, has_next=False)


class DropDevice(RemoveDevice):
    """Removes a device that is in sight."""

    __slots__ = ("sight",)

    def __init__(self, device_id: int, sight: Sight, event: Event) -> None:
        super().__init__(device_id, event)
        self.sight = sight

    async def decide(self, tx: Transaction) -> bool:
        await sighted(tx, self.device_id, self.sight)
        return await super().decide(tx)


class SqlInventory:
    """Devices as people see them. On SQLite names and labels are found by an index of trigrams, on
    PostgreSQL by looking at all (`ILIKE`), since that needs no extension."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self._driver = store.driver
        self._submit = store.writer.submit
        self._searched = store.driver.database == "sqlite"
        self._words = SQLITE if self._searched else POSTGRES

    # ── pages ───────────────────────────────────────────────────────────────────────────────

    async def device_page(self, query: DeviceQuery, sight: Sight) -> Page[DeviceRecord]:
        if query.text and not can_occur(query.text):
            return _EMPTY
        scope = await self._scope(sight)
        text = await self._text(query.text) if query.text else None
        if self._searched:
            found = await self._few(query, scope, text)
            if found is not None:
                return await self._picked(query, scope, text, found)
        rows = await self._read(walk(query, scope, text, self._words))
        numbers = [row[0] for row in rows]
        total = await self._total(query, scope, text, len(numbers))
        return await self._page(query, numbers, total)

    async def _text(self, text: str) -> Text:
        pattern = pattern_of(text)
        rows = await self._driver.rows("profiles_with_text", pattern, MOST_PROFILES)
        return Text(pattern=pattern, profiles=tuple(row[0] for row in rows))

    async def _few(self, query: DeviceQuery, scope: Scope, text: Text | None) -> list[int] | None:
        """Candidates, where they are few enough to be looked at one by one; else None."""
        if text is not None:
            found = await candidates(self._driver, query.text, list(text.profiles))
            if found is not None:
                return found
        filters = (query.profile_id, query.customer_id, query.group_id, query.ids)
        narrowed = any(one is not None for one in filters)
        if not narrowed and scope.covers_all:
            return None
        if not narrowed and query.order in _WALKED and not scope.below:
            return None
        rows = await self._read(some(query, scope, MOST_CANDIDATES + 1, self._words))
        return [row[0] for row in rows] if len(rows) <= MOST_CANDIDATES else None

    async def _picked(
        self, query: DeviceQuery, scope: Scope, text: Text | None, found: list[int]
    ) -> Page[DeviceRecord]:
        rows = await self._read(pick(query, scope, text, found)) if found else []
        if not rows and query.page and found:
            # Beyond the last page nothing says how many there are.
            first = await self._read(pick(structs.replace(query, page=0), scope, text, found))
            return await self._page(query, [], first[0][1] if first else 0)
        return await self._page(query, [row[0] for row in rows], rows[0][1] if rows else 0)

    async def _total(self, query: DeviceQuery, scope: Scope, text: Text | None, seen: int) -> int:
        """Exact up to a bound; beyond it at least one more than all pages so far have."""
        before = query.page * query.page_size
        if 0 < seen <= query.page_size:
            return before + seen
        if not seen and not before:
            return 0
        if seen and text is not None and self._searched and query.text.isascii():
            # Few would have been looked at one by one.
            return max(before + seen, MOST_COUNTED)
        counting = count(query, scope, text, MOST_COUNTED, self._words)
        counted = (await self._read(counting))[0][0]
        return max(before + seen, counted) if seen else counted

    async def _page(self, query: DeviceQuery, numbers: list[int], total: int) -> Page[DeviceRecord]:
        shown = numbers[: query.page_size]
        listed = msgspec.json.encode(shown).decode()
        rows = await self._driver.rows("device_records", listed) if shown else []
        records = {row[0]: record_from_row(row) for row in rows}
        data = [records[number] for number in shown if number in records]
        return Page(data=data, total=total, has_next=len(numbers) > query.page_size)

    async def _scope(self, sight: Sight) -> Scope:
        owning = await self._owning()
        if sight.everything:
            return Scope(owning=owning)
        if not sight.path:
            return Scope(organisations=(), owner_id=sight.owner_id, owning=owning)
        rows = await self._driver.rows("organisations_within", sight.path, MOST_PARTS + 1)
        if len(rows) > MOST_PARTS:
            return Scope(below=sight.path, owner_id=sight.owner_id, owning=owning)
        numbers = tuple(row[0] for row in rows)
        return Scope(organisations=numbers, owner_id=sight.owner_id, owning=owning)

    async def _owning(self) -> tuple[int, ...] | None:
        """The organisations in which devices have their names, mostly the root alone."""
        found: list[int] = []
        last = 0
        while len(found) <= MOST_PARTS:
            row = (await self._driver.rows("next_organisation_with_devices", last))[0]
            if row[0] is None:
                return tuple(found)
            last = row[0]
            found.append(last)
        return None

    async def _read(self, listing: Listing) -> list[tuple[int, ...]]:
        return await self._driver.read(listing.statement, *listing.values)

    # ── one device ──────────────────────────────────────────────────────────────────────────

    async def device_at(self, uuid: str, sight: Sight) -> DeviceRecord | None:
        try:
            identity = uuids.UUID(uuid).bytes
        except ValueError:
            return None
        row = await self._driver.point("device_record_at", identity)
        return record_from_row(row) if row is not None and is_in_sight(row, sight) else None

    async def device_numbered(self, number: int, sight: Sight) -> DeviceRecord | None:
        row = await self._driver.point("device_record", number)
        return record_from_row(row) if row is not None and is_in_sight(row, sight) else None

    async def device_called(self, name: str, sight: Sight) -> DeviceRecord | None:
        if not can_occur(name):
            return None
        for row in await self._driver.rows("device_records_named", name):
            if is_in_sight(row, sight):
                return record_from_row(row)
        return None

    async def put_device(self, new: NewRecord) -> DeviceRecord:
        login = kept_login(self._store.vault, new.credentials)
        return await self._submit(AddDevice(new, uuid7(new.event.at), login))

    async def change_device(self, change: RecordChange) -> DeviceRecord:
        vault, asked = self._store.vault, change.draft.credentials
        login = kept_login(vault, asked) if asked is not None else None
        return await self._submit(ChangeDevice(change, login, vault))

    async def drop_device(self, device_id: int, sight: Sight, event: Event) -> bool:
        removed = await self._submit(DropDevice(device_id, sight, event))
        # In steps, as `SqlRegistrar.remove_device` does it.
        while removed and await self._submit(ForgetDevice(device_id)):
            pass
        return removed

    # ── credentials, customers ──────────────────────────────────────────────────────────────

    async def device_credentials(self, device_id: int) -> DeviceCredentialsRecord | None:
        row = await self._driver.point("device_login", device_id)
        if row is None:
            return None
        kind, digest, sealed, generation, created_at = row
        clear = self._store.vault.open(sealed, bytes(digest))
        return DeviceCredentialsRecord(
            credentials=credentials_from_bytes(kind, clear),
            generation=generation,
            created_at=created_at,
        )

    async def change_device_credentials(
        self,
        device_id: int,
        credentials: DeviceCredentials,
        version: int | None,
        sight: Sight,
        event: Event,
    ) -> DeviceCredentialsRecord:
        login = kept_login(self._store.vault, credentials)
        generation = await self._submit(ChangeLogin(device_id, login, version, sight, event))
        return DeviceCredentialsRecord(
            credentials=credentials, generation=generation, created_at=event.at
        )

    async def assign_device(
        self, device_id: int, customer_id: int | None, sight: Sight, event: Event
    ) -> DeviceRecord:
        return await self._submit(AssignDevice(device_id, customer_id, sight, event))

    async def claim_device_for(
        self, name: str, key: Secret, customer_id: int, owner_id: int | None, event: Event
    ) -> tuple[ClaimResult, DeviceRecord | None]:
        vault = self._store.vault
        claim = ClaimForPerson(name, key, (customer_id, owner_id), event, vault)
        result = await self._submit(claim)
        if result is not ClaimResult.SUCCESS:
            return result, None
        row = await self._driver.point("device_record", claim.device_id)
        return result, record_from_row(row) if row is not None else None

    # ── groups ──────────────────────────────────────────────────────────────────────────────

    async def groups(self, path: str) -> list[DeviceGroup]:
        return [
            DeviceGroup(
                id=number,
                uuid=uuid_text(bytes(identity)),
                organisation_id=organisation_id,
                name=name,
                created_at=created_at,
                devices=devices,
            )
            for number, identity, organisation_id, name, created_at, devices in (
                await self._driver.rows("device_groups", path)
            )
        ]

    async def put_into_groups(
        self, device_id: int, organisation_id: int, names: tuple[str, ...], event: Event
    ) -> None:
        await self._submit(JoinGroups(device_id, organisation_id, names, event))

    async def take_out_of_group(self, device_id: int, group_id: int, event: Event) -> bool:
        return await self._submit(LeaveGroup(device_id, group_id, event))

    async def drop_group(self, group_id: int, event: Event) -> bool:
        return await self._submit(DropGroup(group_id, event))
