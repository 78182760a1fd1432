"""`SqlOAuth`: what clients and their access need, in SQL."""

from __future__ import annotations

from gateway.core.model import Event, Secret
from gateway.core.oauth_store import KnownGrant, NewGrant, OAuthClient
from gateway.store.oauth import (
    AddClient,
    Digests,
    EndGrant,
    GiveAccess,
    RefreshAccess,
    RemoveClient,
    client_from_row,
    grant_from_row,
    proven_client,
)
from gateway.store.sql_people import at_or_below
from gateway.store.sql_store import SqlStore

_ANYWHERE = "%"


class SqlOAuth:
    """Implements `core.oauth_store.OAuthStore` beside `SqlStore`.

    Secrets and tokens are kept as digests, each with its purpose: one is never taken for another.
    """

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self._driver = store.driver
        self._writer = store.writer

    # ── clients ─────────────────────────────────────────────────────────────────────────────

    async def add_client(
        self, draft: OAuthClient, secret: Secret, event: Event, *, most: int
    ) -> OAuthClient:
        digest = self._secret(draft.name, secret)
        return await self._writer.submit(AddClient(draft, digest, event, most=most))

    async def find_client(self, name: str, secret: Secret) -> OAuthClient | None:
        row = await self._driver.point("oauth_client_by_name", name, _ANYWHERE)
        return None if row is None else proven_client(row, self._secret(name, secret))

    async def clients(self, path: str, *, after_id: int, limit: int) -> list[OAuthClient]:
        rows = await self._driver.rows("oauth_clients", at_or_below(path), after_id, limit)
        return [client_from_row(row) for row in rows]

    async def client_named(self, name: str, path: str) -> OAuthClient | None:
        row = await self._driver.point("oauth_client_by_name", name, at_or_below(path))
        return None if row is None else client_from_row(row)

    async def remove_client(self, client: OAuthClient, event: Event) -> bool:
        return await self._writer.submit(RemoveClient(client.id, event))

    # ── access ──────────────────────────────────────────────────────────────────────────────

    async def give(self, new: NewGrant) -> bool:
        return await self._writer.submit(GiveAccess(new, self._digests(new.access, new.refresh)))

    async def refresh(self, refresh: Secret, new: NewGrant) -> bool:
        older = self._refresh(refresh)
        decision = RefreshAccess(older, new, self._digests(new.access, new.refresh))
        return await self._writer.submit(decision)

    async def find_grant(self, access: Secret, now: int) -> KnownGrant | None:
        row = await self._driver.point("find_grant", self._access(access), now)
        return None if row is None else grant_from_row(row)

    async def end_grant(self, client: OAuthClient, token: Secret, event: Event) -> bool:
        return await self._writer.submit(EndGrant(client.id, self._digests(token, token), event))

    async def record(self, event: Event) -> None:
        await self._store.record(event)

    def _digests(self, access: Secret, refresh: Secret) -> Digests:
        return Digests(self._access(access), self._refresh(refresh))

    def _access(self, token: Secret) -> bytes:
        return self._store.vault.digest(f"oauth access {token.reveal()}")

    def _refresh(self, token: Secret) -> bytes:
        return self._store.vault.digest(f"oauth refresh {token.reveal()}")

    def _secret(self, name: str, secret: Secret) -> bytes:
        return self._store.vault.digest(f"oauth client {name} {secret.reveal()}")
