"""Programs that work for an organisation, what they were given, and what the store does for it."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from msgspec import Struct

from gateway.core.model import Event, Organisation, Secret
from gateway.core.people_store import KnownUser


class OAuthScope(StrEnum):
    """What a client may be used for."""

    PLATFORM_API = "platform_api"
    GATEWAY_API = "gateway_api"
    """To speak over MQTT for devices of its organisation."""


class OAuthClient(Struct, frozen=True, kw_only=True):
    """A program that works for `organisation`, and reaches it and all below it.

    `name` is what it logs in with, and no secret; of its secret a digest is kept. `id` is 0 before
    it is stored.
    """

    name: str
    label: str
    organisation: Organisation
    scopes: frozenset[OAuthScope]
    id: int = 0
    created_at: int = 0
    last_used_at: int | None = None


class NewGrant(Struct, frozen=True, kw_only=True):
    """Access about to be given to a client, with the tokens it is shown this once.

    `user` is whose password was shown; None: it is the client's own. Beyond `most` grants of a
    client its oldest ends. Times are ms.
    """

    client_id: int
    access: Secret
    refresh: Secret
    access_until: int
    refresh_until: int
    most: int
    event: Event
    user: KnownUser | None = None


class KnownGrant(Struct, frozen=True, kw_only=True):
    """Access that stands until `access_until` (ms), and who acts by it: a user, or the client."""

    client: OAuthClient
    user: KnownUser | None
    access_until: int


class OAuthStore(Protocol):
    """Each change is one transaction with its event."""

    async def add_client(
        self, draft: OAuthClient, secret: Secret, event: Event, *, most: int
    ) -> OAuthClient:
        """Raises `Conflict`: IN_USE with `most` of the organisation, GONE without one."""

    async def find_client(self, name: str, secret: Secret) -> OAuthClient | None:
        """The client of that name, if this is its secret."""

    async def clients(self, path: str, *, after_id: int, limit: int) -> list[OAuthClient]:
        """Those of organisations at or below `path`, in the order they were made."""

    async def client_named(self, name: str, path: str) -> OAuthClient | None:
        """The one of that name, if its organisation is at or below `path`."""

    async def remove_client(self, client: OAuthClient, event: Event) -> bool:
        """With all it was given. Decides: False when it was gone."""

    async def give(self, new: NewGrant) -> bool:
        """Decides: False when the client was revoked meanwhile; or the user was disabled or
        removed, or its password changed."""

    async def refresh(self, refresh: Secret, new: NewGrant) -> bool:
        """Access anew, for whom it was; the older ends. One delete decides which of many gets it.

        False when the token is not this client's, was used or is over; nothing ends then.
        """

    async def find_grant(self, access: Secret, now: int) -> KnownGrant | None:
        """None when it ended, or its user is disabled."""

    async def end_grant(self, client: OAuthClient, token: Secret, event: Event) -> bool:
        """By its access or its refresh token. Decides: False when it is none of this client's."""

    async def record(self, event: Event) -> None:
        """Write an event nobody waits for; it gives way when the store is busy."""
