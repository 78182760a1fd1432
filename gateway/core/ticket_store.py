"""What issuing tickets needs of the store."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from gateway.core.inventory_store import Sight
from gateway.core.model import Event, Order, Secret, Ticket, TicketRecord, User


class NewTicket(Struct, frozen=True, kw_only=True):
    """A reservation about to be made: its number and that of its device are given by the store.

    `path` is that of the organisation, for the ticket that comes back.
    """

    token: Secret
    organisation_id: int
    path: str
    owner_id: int | None
    expires_at: int | None
    event: Event


class Renewal(Struct, frozen=True, kw_only=True):
    """A new token for the device numbered `device_id`, if it still is in `sight`.

    `at_once`: the old token is gone with the commit, and not with the first use of the new one.
    """

    token: Secret
    device_id: int
    sight: Sight
    expires_at: int | None
    at_once: bool
    event: Event


class TicketStore(Protocol):
    """Each change is one transaction with its event."""

    async def issue(self, new: NewTicket) -> Ticket:
        """Reserve a device number, never used for another device, and keep the token.

        Raises `Conflict` GONE when the organisation or the owner went meanwhile."""

    async def renew(self, renewal: Renewal) -> Ticket:
        """Decides: the device's earlier pending token, if any, is gone. Raises `Conflict` GONE."""

    async def ticket(self, number: int, path: str) -> TicketRecord | None:
        """The ticket of that number whose organisation is at or below `path`."""

    async def tickets(
        self, path: str, *, after_id: int, limit: int, device_id: int | None
    ) -> list[TicketRecord]:
        """Those that wait, of organisations at or below `path`, in the order they were issued."""

    async def waiting(self, organisation_id: int) -> int:
        """How many tickets of an organisation wait."""

    async def revoke(self, ticket: Ticket, event: Event) -> bool:
        """Decides: False when it was claimed, revoked or swept meanwhile."""

    async def order(
        self, device_id: int, sight: Sight, order: Order, argument: str, event: Event
    ) -> None:
        """Tell every gateway process that the device is to do something.

        Raises `Conflict` GONE."""

    async def user_numbered(self, number: int) -> User | None: ...
