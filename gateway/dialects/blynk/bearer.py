"""Who calls the Platform API, by the bearer token of the call (contract, sections 4.6 and 6.2)."""

from __future__ import annotations

from typing import Final

from msgspec import structs

from gateway.core.logins import Logins
from gateway.core.model import Actor, Peer, Secret
from gateway.core.oauth import OAuth, Refusal
from gateway.core.oauth_store import OAuthScope
from gateway.dialects.blynk.words import NO_SCOPE_TEXT, QUIET_HEADERS, refused, too_many
from gateway.wire.call import Call, Reply, Status

_KEY: Final = "gh_"
"""What keys for scripts begin with; one access token in 262,144 does, too."""

NOBODY: Final = structs.replace(
    refused("The access token is missing, unknown or expired.", Status.UNAUTHENTICATED),
    headers={**QUIET_HEADERS, "WWW-Authenticate": "Bearer"},  # RFC 6750, section 3
)
NO_SCOPE: Final = refused(NO_SCOPE_TEXT, Status.FORBIDDEN)


class Bearers:
    """Turns an access token, or a key for scripts, into who acts by it."""

    def __init__(self, oauth: OAuth, logins: Logins) -> None:
        self._oauth = oauth
        self._logins = logins

    async def actor(self, call: Call) -> Actor | Reply:
        """Who calls; else the reply: nobody is known (401), the scope is lacking (403), or the
        organisation calls too often (429)."""
        token = shown(call)
        found = await self._found(token, call.peer) if token else Refusal.TOKEN
        if isinstance(found, Refusal):
            return NO_SCOPE if found is Refusal.SCOPE else NOBODY
        wait_s = self._oauth.wait_s(found.organisation)
        return too_many(wait_s) if wait_s else found

    async def _found(self, token: str, peer: Peer) -> Actor | Refusal:
        secret = Secret(token)
        if token.startswith(_KEY):
            actor = await self._logins.actor_by_key(secret, peer)
            if actor is not None:
                return actor
        return await self._oauth.actor(secret, peer, OAuthScope.PLATFORM_API)


def shown(call: Call) -> str:
    """The bearer token of a call; "" without one."""
    scheme, _, token = call.headers.get("Authorization", "").strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
