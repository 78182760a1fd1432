"""`SqlFleetTickets`: what keeping fleet secrets needs, in SQL."""

from __future__ import annotations

from gateway.core.errors import Cause, Conflict, StoreUnavailable
from gateway.core.fleet_secret_store import (
    Borne,
    Bounds,
    FleetSecretQuery,
    NewFleetSecret,
)
from gateway.core.model import Event, FleetTicket
from gateway.store.fleet_tickets import (
    AddFleetTicket,
    ChangeFleetTicket,
    SuspendBorne,
    borne_from_row,
    bounds_row,
    fleet_ticket_from_row,
)
from gateway.store.profiles import sealed_pair
from gateway.store.sql_people import at_or_below
from gateway.store.sql_store import SqlStore


class SqlFleetTickets:
    """Implements `core.fleet_secret_store.FleetSecretStore` beside `SqlStore`."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self._driver = store.driver

    # ── changes ─────────────────────────────────────────────────────────────────────────────

    async def add_secret(self, new: NewFleetSecret) -> FleetTicket:
        return await self._added(new, None)

    async def rotate_secret(
        self, old: FleetTicket, new: NewFleetSecret, ends_at: int
    ) -> FleetTicket:
        return await self._added(new, (old.id, ends_at))

    async def _added(self, new: NewFleetSecret, old: tuple[int, int] | None) -> FleetTicket:
        pair = sealed_pair(self._store.vault, new.key, new.secret)
        try:
            number = await self._store.writer.submit(AddFleetTicket(new, pair, old))
        finally:
            self._store.forget_tickets()
        added = await self._store.fleet_ticket(number)
        if added is None:
            raise StoreUnavailable("the profile was removed just now")
        return added

    async def bound_secret(self, number: int, bounds: Bounds, event: Event) -> None:
        await self._change("bound_fleet_ticket", number, event, *bounds_row(bounds))

    async def revoke_secret(self, number: int, event: Event) -> None:
        await self._change("revoke_fleet_ticket", number, event, event.at)

    async def _change(self, name: str, number: int, event: Event, *values: object) -> None:
        if not await self._submit(ChangeFleetTicket(name, number, event, *values)):
            raise Conflict(Cause.GONE, "the secret was revoked meanwhile")

    async def quarantine_secret(self, number: int, since: int, event: Event) -> None:
        if not await self._submit(SuspendBorne("quarantine_fleet_ticket", number, event, since)):
            raise Conflict(Cause.GONE, "there is no such secret")

    async def release_secret(self, number: int, event: Event) -> bool:
        return await self._submit(SuspendBorne("release_fleet_ticket", number, event))

    async def _submit(self, change: ChangeFleetTicket) -> bool:
        try:
            return await self._store.writer.submit(change)
        finally:
            self._store.forget_tickets()

    # ── looking ─────────────────────────────────────────────────────────────────────────────

    async def secrets(self, query: FleetSecretQuery) -> list[FleetTicket]:
        where = (at_or_below(query.path), query.profile_id, query.label)
        rows = await self._driver.rows("fleet_tickets", *where, query.after_id, query.limit)
        return [fleet_ticket_from_row(self._store.vault, row) for row in rows]

    async def secret_numbered(self, number: int, path: str) -> FleetTicket | None:
        row = await self._driver.point("fleet_ticket_numbered", number, at_or_below(path))
        return None if row is None else fleet_ticket_from_row(self._store.vault, row)

    async def borne(self, number: int, *, since: int, after_id: int, limit: int) -> list[Borne]:
        rows = await self._driver.rows("borne_devices", number, since, after_id, limit)
        return [borne_from_row(row) for row in rows]

    async def count_borne(self, number: int, since: int) -> int:
        return int((await self._driver.rows("count_borne_devices", number, since))[0][0])
