"""What people ask of the store about profiles; implements `core.catalogue_store.CatalogueStore`."""

from __future__ import annotations

from gateway.core.catalogue_store import ProfileChange, ProfileQuery
from gateway.core.model import DeviceProfile, Event, FleetTicket, Page, Secret
from gateway.core.ports import NewProfile
from gateway.store.identity import uuid_bytes
from gateway.store.profiles import RemoveProfile, RotateTicket, SaveProfile, sealed_pair
from gateway.store.records import profile_from_row
from gateway.store.shelf import DropProfile, EnterDefault, PutProfile, RetypeDevices, SetDefault
from gateway.store.sql_store import SqlStore


class ProfileShelf:
    """Profiles, by files and shell, and by people with authority over them."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self._driver = store.driver
        self._submit = store.writer.submit

    async def save_profile(self, new: NewProfile, event: Event) -> DeviceProfile:
        vault, fresh = self._store.vault, None
        if new.spare is not None:
            key, secret = new.spare
            fresh = sealed_pair(vault, new.key or key, new.secret or secret)
        save = SaveProfile(new, event, sealed_pair(vault, new.key, new.secret), fresh)
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
            return await self._submit(RemoveProfile(profile_id, event))
        finally:
            self._store.forget_tickets()

    async def rotate_ticket(
        self, profile_id: int, key: Secret | None, secret: Secret, event: Event
    ) -> bool:
        pair = sealed_pair(self._store.vault, key, secret)
        try:
            return await self._submit(RotateTicket(profile_id, pair, event))
        finally:
            self._store.forget_tickets()

    # ── the catalogue ───────────────────────────────────────────────────────────────────────

    async def profile_page(self, query: ProfileQuery) -> Page[DeviceProfile]:
        """The total is exact."""
        transport = query.transport.value if query.transport is not None else ""
        which = (query.path, int(query.provision), query.text, transport, int(query.in_use))
        name = "profile_page_descending" if query.descending else "profile_page"
        offset = query.page * query.page_size
        rows = await self._driver.rows(name, *which, query.order, query.page_size, offset)
        total = int((await self._driver.rows("count_profiles", *which))[0][0])
        data = [profile_from_row(row) for row in rows]
        return Page(data=data, total=total, has_next=offset + query.page_size < total)

    async def profile_at(self, uuid: str, path: str) -> DeviceProfile | None:
        row = await self._driver.point("profile_at", uuid_bytes(uuid), path)
        return None if row is None else profile_from_row(row)

    async def profile_numbered(self, number: int, path: str) -> DeviceProfile | None:
        row = await self._driver.point("profile_numbered", number, path)
        return None if row is None else profile_from_row(row)

    async def profile_named(self, organisation_id: int, name: str) -> DeviceProfile | None:
        row = await self._driver.point("profile_named", organisation_id, name)
        return None if row is None else profile_from_row(row)

    async def default_profile(self, organisation_id: int, event: Event) -> DeviceProfile:
        row = await self._driver.point("default_profile", organisation_id)
        found = None if row is None else await self._store.profile(row[0])
        if found is not None:
            return found
        return await self._submit(EnterDefault(organisation_id, event))

    async def put_profile(self, change: ProfileChange, event: Event) -> DeviceProfile:
        """Types of many devices follow a new name in steps, so that others are served in between.

        An interruption leaves the rest their old type, which people do not see (the profile's name
        is what they are shown).
        """
        vault, fresh = self._store.vault, None
        if change.spare is not None:
            key, secret = change.spare
            fresh = sealed_pair(vault, change.key or key, change.secret or secret)
        put = PutProfile(change, event, sealed_pair(vault, change.key, change.secret), fresh)
        try:
            stored = await self._submit(put)
        finally:
            self._store.forget_tickets()
        after_id = put.retyped_to
        while after_id:
            after_id = await self._submit(RetypeDevices(stored.id, stored.name, after_id))
        return stored

    async def drop_profile(self, profile_id: int, event: Event) -> None:
        try:
            await self._submit(DropProfile(profile_id, event))
        finally:
            self._store.forget_tickets()

    async def set_default_profile(self, profile_id: int, event: Event) -> DeviceProfile:
        return await self._submit(SetDefault(profile_id, event))

    async def profile_serves(self, uuid: str, path: str, owner_id: int | None) -> bool:
        row = await self._driver.rows("profile_serves", uuid_bytes(uuid), path, owner_id)
        return bool(row)
