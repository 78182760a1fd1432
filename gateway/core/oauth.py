"""Access of programs: the tokens that clients of organisations work with (RFC 6749 and 7009).

A client shows its secret and is given a pair of tokens: one that opens, for a while, and one that
is exchanged, once, for the next pair. Both are opaque: 240 random bits, of which a keyed digest is
kept, so that each can be ended at any moment. That is why no library carries this: Authlib's server
side is made for Flask and Django, and gives its errors the statuses of RFC 6749 where Blynk's are
400 always; joserfc makes JWTs, which stay good until they expire.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from msgspec import Struct

from gateway.core.limits import Allowance, Rate
from gateway.core.logins import LoginRefusal, Logins
from gateway.core.model import Actor, Event, EventKind, Organisation, Outcome, Peer, Secret
from gateway.core.networks import host_of, subnet_of
from gateway.core.oauth_clients import (
    EVERYTHING,
    LONGEST,
    MOST_CLIENTS,
    OAuthClients,
    is_client_name,
    new_secret,
)
from gateway.core.oauth_store import KnownGrant, NewGrant, OAuthClient, OAuthScope, OAuthStore
from gateway.core.people_store import KnownUser
from gateway.core.ports import Clock, NewToken
from gateway.core.throttle import Throttle

MOST_GRANTS: Final = 1000
"""Of one client; beyond them the oldest ends."""
FRESH_MS: Final = 1000
"""How long a token that was looked up is known without another look. What ends it in this process,
by this service, ends it at once."""
MOST_KEPT: Final = 10_000
MOST_THROTTLED: Final = 10_000


class Refusal(StrEnum):
    """Why no access was given, or an access token opens nothing."""

    CLIENT = "wrong client"
    """There is no such client, or its secret is another."""
    GRANT = "wrong grant"
    """The refresh token, or the password, is not good: which way is not told."""
    UNAUTHORIZED = "not authorized"
    """This client may not ask on behalf of users."""
    TOKEN = "wrong token"  # noqa: S105
    SCOPE = "scope lacking"


class Later(Struct, frozen=True):
    """Too much from there: what was asked was not looked at. `wait_s` is at least 1."""

    wait_s: int


class Pair(Struct, frozen=True, kw_only=True):
    """Tokens, shown this once. `expires_s`: for how long the access token is good."""

    access: Secret
    refresh: Secret
    expires_s: int


class Credentials(Struct, frozen=True):
    """What a client says it is."""

    name: str
    secret: Secret


class OAuth(OAuthClients):
    """Gives access, and knows who acts by it.

    `access_s`, `refresh_s`: how long the two tokens of a pair are good. `wrong_clients`: how often
    one address may show a client that is none; `requests`: how often the programs of one
    organisation may call. None: any number.
    """

    def __init__(
        self,
        store: OAuthStore,
        logins: Logins,
        *,
        clock: Clock,
        new_secret: NewToken = new_secret,
        access_s: int = 86_400,
        refresh_s: int = 86_400,
        wrong_clients: Rate | None = None,
        requests: Rate | None = None,
        most_clients: int = MOST_CLIENTS,
        most_grants: int = MOST_GRANTS,
    ) -> None:
        super().__init__(store, clock=clock, most_clients=most_clients)
        self._logins = logins
        self._new_secret = new_secret
        self._access_s = access_s
        self._refresh_s = refresh_s
        self._strangers = _throttle(wrong_clients)
        self._requests = _throttle(requests)
        self._most_grants = most_grants
        self._told_refused = Allowance(20, 1.0)
        self._kept: dict[str, tuple[KnownGrant, int]] = {}
        self._age = 0
        """How often it was told to forget."""

    # ── access is given ─────────────────────────────────────────────────────────────────────

    async def client_access(self, shown: Credentials, peer: Peer) -> Pair | Refusal | Later:
        """For the organisation of the client (`client_credentials`)."""
        client = await self._known(shown, peer)
        if not isinstance(client, OAuthClient):
            return client
        new = self._new_grant(client, peer, "client_credentials")
        given = await self._store.give(new)
        return self._pair(new) if given else await self._refused(shown.name, peer, Refusal.CLIENT)

    async def user_access(
        self, shown: Credentials, email: str, password: Secret, peer: Peer
    ) -> Pair | Refusal | Later:
        """For a user whom the client reaches (`user_credentials`). Raises `Overloaded`.

        Wrong passwords count as at a login. A user out of reach is told like a wrong password.
        """
        client = await self._known(shown, peer)
        if not isinstance(client, OAuthClient):
            return client
        if OAuthScope.PLATFORM_API not in client.scopes:
            return await self._refused(client.name, peer, Refusal.UNAUTHORIZED)
        known = await self._logins.prove(email, password, peer, within=client.organisation)
        if isinstance(known, LoginRefusal):
            if known.wait_s:
                return Later(known.wait_s)
            return await self._refused(client.name, peer, Refusal.GRANT)
        new = self._new_grant(client, peer, "user_credentials", known)
        given = await self._store.give(new)
        return self._pair(new) if given else await self._refused(client.name, peer, Refusal.GRANT)

    async def refreshed(
        self, shown: Credentials, refresh: Secret, peer: Peer
    ) -> Pair | Refusal | Later:
        """The next pair, for whom the last was (`refresh_token`); the last ends."""
        client = await self._known(shown, peer)
        if not isinstance(client, OAuthClient):
            return client
        new = self._new_grant(client, peer, "refresh_token")
        fits = len(refresh.reveal()) <= LONGEST
        if not fits or not await self._store.refresh(refresh, new):
            return await self._refused(client.name, peer, Refusal.GRANT)
        self.forget()
        return self._pair(new)

    async def ended(self, shown: Credentials, token: Secret, peer: Peer) -> Refusal | Later | None:
        """End access by one of its tokens (RFC 7009). None when it is over, or never was."""
        client = await self._known(shown, peer)
        if not isinstance(client, OAuthClient):
            return client
        if len(token.reveal()) <= LONGEST:
            event = Event(
                kind=EventKind.OAUTH_TOKEN_REVOKE,
                at=self._clock(),
                peer=_as(client.name, peer),
                subject=client.name,
            )
            if await self._store.end_grant(client, token, event):
                self.forget()
        return None

    async def _known(self, shown: Credentials, peer: Peer) -> OAuthClient | Refusal | Later:
        """The client that asks, if it and its address may ask now."""
        host, now = subnet_of(host_of(peer)), self._clock()
        if wait_ms := self._strangers.wait(host, now) if self._strangers else 0:
            return Later(_seconds(wait_ms))
        client = await self.authenticate(shown.name, shown.secret)
        if client is None:
            if self._strangers is not None:
                self._strangers.spend(host, now)
            return await self._refused(shown.name, peer, Refusal.CLIENT)
        wait_s = self.wait_s(client.organisation)
        return Later(wait_s) if wait_s else client

    def _new_grant(
        self, client: OAuthClient, peer: Peer, kind: str, user: KnownUser | None = None
    ) -> NewGrant:
        now = self._clock()
        detail = {"grant": kind} | ({"user": user.user.email} if user is not None else {})
        event = Event(
            kind=EventKind.OAUTH_TOKEN,
            at=now,
            peer=_as(client.name, peer),
            subject=client.name,
            detail=detail,
        )
        return NewGrant(
            client_id=client.id,
            access=Secret(self._new_secret()),
            refresh=Secret(self._new_secret()),
            access_until=now + self._access_s * 1000,
            refresh_until=now + self._refresh_s * 1000,
            most=self._most_grants,
            event=event,
            user=user,
        )

    def _pair(self, new: NewGrant) -> Pair:
        return Pair(access=new.access, refresh=new.refresh, expires_s=self._access_s)

    async def _refused(self, name: str, peer: Peer, why: Refusal) -> Refusal:
        """In the audit log, without waiting. What is no client's name may be a secret: not told."""
        now = self._clock()
        if self._told_refused.take(now):
            missed = self._told_refused.forget_missed()
            event = Event(
                kind=EventKind.OAUTH_TOKEN,
                at=now,
                peer=peer,
                outcome=Outcome.REFUSED,
                reason=why.value,
                subject=name if is_client_name(name) else "",
                detail={"besides": str(missed)} if missed else {},
            )
            await self._store.record(event)
        return why

    # ── access is used ──────────────────────────────────────────────────────────────────────

    async def actor(self, access: Secret, peer: Peer, scope: OAuthScope) -> Actor | Refusal:
        """Who acts by an access token: its user with what the role allows now, or its client.

        A client may do everything at its organisation and below. TOKEN when the token is unknown
        or over, SCOPE when its client lacks the scope.
        """
        grant = await self._grant(access)
        if grant is None:
            return Refusal.TOKEN
        if scope not in grant.client.scopes:
            return Refusal.SCOPE
        known = grant.user
        if known is not None and not grant.client.organisation.has_below(known.organisation):
            return Refusal.TOKEN  # it was moved out of the client's reach as this was given
        if known is None:
            return Actor(
                peer=_as(grant.client.name, peer),
                organisation=grant.client.organisation,
                permissions=EVERYTHING,
            )
        return Actor(
            peer=_as(known.user.email, peer),
            organisation=known.organisation,
            permissions=known.permissions,
            user=known.user,
        )

    async def _grant(self, access: Secret) -> KnownGrant | None:
        text, now = access.reveal(), self._clock()
        kept = self._kept.get(text)
        if kept is not None:
            found, at = kept
            if 0 <= now - at < FRESH_MS and now < found.access_until:
                return found
        age = self._age
        grant = await self._store.find_grant(access, now) if len(text) <= LONGEST else None
        if grant is None:
            self._kept.pop(text, None)
            return None
        if age == self._age:  # else it may have ended while we read
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            self._kept[text] = grant, now
        return grant

    def forget(self) -> None:
        """Some access ended: look again."""
        self._age += 1
        self._kept.clear()

    async def revoke(self, actor: Actor, client: OAuthClient) -> None:
        """As there; what was looked up a moment ago opens nothing any more."""
        await super().revoke(actor, client)
        self.forget()

    def wait_s(self, organisation: Organisation) -> int:
        """Count one call of a program of this organisation, if it may: else seconds to wait."""
        if self._requests is None:
            return 0
        name, now = str(organisation.id), self._clock()
        wait_ms = self._requests.wait(name, now)
        if wait_ms:
            return _seconds(wait_ms)
        self._requests.spend(name, now)
        return 0


def _throttle(rate: Rate | None) -> Throttle | None:
    return None if rate is None else Throttle(rate, most=MOST_THROTTLED)


def _seconds(wait_ms: int) -> int:
    return max(1, -(-wait_ms // 1000))


def _as(name: str, peer: Peer) -> Peer:
    return Peer(peer.wire, peer.address, name, peer.request)
