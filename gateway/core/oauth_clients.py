"""The programs of organisations: added, listed and revoked, and known by their secrets."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from gateway.core.errors import Cause, Conflict, Invalid
from gateway.core.model import Actor, Event, EventKind, Organisation, Permission, Secret
from gateway.core.oauth_store import OAuthClient, OAuthScope, OAuthStore
from gateway.core.organisations import need
from gateway.core.ports import Clock
from gateway.core.roles import no_more_than
from gateway.core.tokens import new_token, new_url_token

MOST_CLIENTS: Final = 1000
"""Of one organisation."""
LONGEST: Final = 1024
"""Characters of a secret; what is longer is wrong without being looked at."""
EVERYTHING: Final = frozenset(Permission)
_MOST_LABEL: Final = 255
_PREFIX: Final = "oa2-client-id_"
_NAME: Final = re.compile(_PREFIX + r"[A-Za-z0-9]{32}")


def is_client_name(text: str) -> bool:
    """Whether it has the form of a client's name (Blynk contract, section 6.1)."""
    return _NAME.fullmatch(text) is not None


def new_client_name() -> str:
    """One that nobody has: 190 random bits."""
    return _PREFIX + new_token(32)


def new_secret() -> str:
    """40 characters of URL-safe base64: 30 random bytes."""
    return new_url_token(30)


class OAuthClients:
    """The programs of organisations, for those with authority over these."""

    def __init__(
        self, store: OAuthStore, *, clock: Clock, most_clients: int = MOST_CLIENTS
    ) -> None:
        self._store = store
        self._clock = clock
        self._most_clients = most_clients

    async def authenticate(self, name: str, secret: Secret, scope: str = "") -> OAuthClient | None:
        """The client of that name, if this is its secret and it has the scope; "" asks for none."""
        if not is_client_name(name) or len(secret.reveal()) > LONGEST:
            return None
        client = await self._store.find_client(name, secret)
        return client if client is not None and (not scope or scope in client.scopes) else None

    async def add(
        self,
        actor: Actor,
        organisation: Organisation,
        label: str,
        scopes: Iterable[OAuthScope] = (OAuthScope.PLATFORM_API,),
    ) -> tuple[OAuthClient, Secret]:
        """A client, and its secret, which is shown this once.

        It may do all there is in its organisation, so nobody makes one who may not. Raises
        `Forbidden`, `Invalid`, `Conflict` (GONE; IN_USE: there are too many).
        """
        need(actor, Permission.ORG_EDIT)
        no_more_than(actor, EVERYTHING)
        if not actor.organisation.has_below(organisation):
            raise Conflict(Cause.GONE, "there is no such organisation")
        found = frozenset(scopes)
        if not found:
            raise Invalid("a client without a scope could do nothing.")
        draft = OAuthClient(
            name=new_client_name(),
            label=_proven_label(label),
            organisation=organisation,
            scopes=found,
            created_at=self._clock(),
        )
        secret = Secret(new_secret())
        event = self._event(actor, EventKind.OAUTH_CLIENT_CREATE, draft)
        return await self._store.add_client(draft, secret, event, most=self._most_clients), secret

    async def clients(
        self, actor: Actor, *, after_id: int = 0, limit: int = 100
    ) -> list[OAuthClient]:
        """Those at or below the actor's organisation, oldest first. Raises `Forbidden`."""
        need(actor, Permission.ORG_VIEW)
        return await self._store.clients(actor.organisation.path, after_id=after_id, limit=limit)

    async def client(self, actor: Actor, name: str) -> OAuthClient | None:
        """None when it is out of sight. Raises `Forbidden`."""
        need(actor, Permission.ORG_VIEW)
        return await self._store.client_named(name, actor.organisation.path)

    async def revoke(self, actor: Actor, client: OAuthClient) -> None:
        """It gets no more access, and what it has ends. Raises `Forbidden`, `Conflict` GONE."""
        need(actor, Permission.ORG_EDIT)
        if not actor.organisation.has_below(client.organisation):
            raise Conflict(Cause.GONE)
        event = self._event(actor, EventKind.OAUTH_CLIENT_REVOKE, client)
        if not await self._store.remove_client(client, event):
            raise Conflict(Cause.GONE, "the client was revoked meanwhile")

    def _event(self, actor: Actor, kind: EventKind, client: OAuthClient) -> Event:
        detail = {
            "label": client.label,
            "organisation": client.organisation.name,
            "scopes": " ".join(sorted(client.scopes)),
        }
        return Event(
            kind=kind, at=self._clock(), peer=actor.peer, subject=client.name, detail=detail
        )


def _proven_label(label: str) -> str:
    found = label.strip()
    if not found or len(found) > _MOST_LABEL or not found.isprintable():
        raise Invalid(f"a client's label has 1 to {_MOST_LABEL} printable characters.")
    return found
