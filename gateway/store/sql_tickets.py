"""`SqlTickets`: what issuing tickets needs, in SQL."""

from __future__ import annotations

from gateway.core.inventory_store import Sight
from gateway.core.model import (
    AccessToken,
    Event,
    Order,
    Ticket,
    TicketRecord,
    User,
)
from gateway.core.ticket_store import NewTicket, Renewal
from gateway.store.logins import kept_login
from gateway.store.people_rows import user_from_row
from gateway.store.sql_people import at_or_below
from gateway.store.sql_store import SqlStore
from gateway.store.tickets import (
    IssueTicket,
    OrderDevice,
    RenewToken,
    RevokeTicket,
    ticket_record_from_row,
)


class SqlTickets:
    """Implements `core.ticket_store.TicketStore` beside `SqlStore`."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self._driver = store.driver
        self._writer = store.writer

    async def issue(self, new: NewTicket) -> Ticket:
        login = kept_login(self._store.vault, AccessToken(new.token))
        return await self._writer.submit(IssueTicket(new, login))

    async def renew(self, renewal: Renewal) -> Ticket:
        login = kept_login(self._store.vault, AccessToken(renewal.token))
        return await self._writer.submit(RenewToken(renewal, login))

    async def ticket(self, number: int, path: str) -> TicketRecord | None:
        row = await self._driver.point("waiting_ticket", number, at_or_below(path))
        return None if row is None else ticket_record_from_row(row)

    async def tickets(
        self, path: str, *, after_id: int, limit: int, device_id: int | None
    ) -> list[TicketRecord]:
        where = (at_or_below(path), after_id, limit, device_id or 0)
        rows = await self._driver.rows("waiting_tickets", *where)
        return [ticket_record_from_row(row) for row in rows]

    async def waiting(self, organisation_id: int) -> int:
        return int((await self._driver.rows("count_tickets", organisation_id))[0][0])

    async def revoke(self, ticket: Ticket, event: Event) -> bool:
        return await self._writer.submit(RevokeTicket(ticket, event))

    async def order(
        self, device_id: int, sight: Sight, order: Order, argument: str, event: Event
    ) -> None:
        await self._writer.submit(OrderDevice(device_id, sight, order, argument, event))

    async def user_numbered(self, number: int) -> User | None:
        row = await self._driver.point("user_by_number", number)
        return None if row is None else user_from_row(row)
