"""Who is there: passwords, sessions and keys for scripts become an `Actor`, or nobody.

A session is a row with a UUID for its name. The tokens that carry the name are signed, so the name
alone opens nothing and is no secret; a key for scripts is one, and is kept as a digest.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import ClassVar

from msgspec import Struct

from gateway.core.errors import Cause, Conflict, Invalid, Overloaded
from gateway.core.limits import Allowance, Rate, parse_rate
from gateway.core.model import (
    ROOT_ORGANISATION,
    Actor,
    ApiKey,
    Event,
    EventKind,
    Organisation,
    Outcome,
    Peer,
    Permission,
    Secret,
    User,
)
from gateway.core.networks import host_of, subnet_of
from gateway.core.organisations import need
from gateway.core.people_store import KnownUser, PasswordHasher, PeopleStore
from gateway.core.ports import Clock, NewToken
from gateway.core.roles import no_more_than
from gateway.core.throttle import Throttle
from gateway.core.tokens import new_token as fresh_token
from gateway.core.users import normal_email

MOST_SESSIONS = 100
"""Of one user; beyond them the oldest ends."""
MOST_KEYS = 100
_TOUCH_MS = 60_000
_MOST_LABEL = 255
_LONGEST_PASSWORD = 1024
"""Characters; what is longer is wrong without being looked at, whoever's it is."""


class LoginRefusal(Struct, frozen=True):
    """Why nobody was logged in: `WRONG` (or unknown, or disabled: it is not told), `EXPIRED` (an
    initial password that was right once), or throttled, when `wait_s` is not 0."""

    reason: str
    wait_s: int = 0

    WRONG: ClassVar[LoginRefusal]
    EXPIRED: ClassVar[LoginRefusal]

    @classmethod
    def throttled(cls, wait_ms: int) -> LoginRefusal:
        """Too many wrong passwords before; how long to wait is told in whole seconds."""
        return cls("throttled", max(1, -(-wait_ms // 1000)))


LoginRefusal.WRONG = LoginRefusal("wrong")
LoginRefusal.EXPIRED = LoginRefusal("expired")


class Session(Struct, frozen=True, kw_only=True):
    """A login. `expires_at` is when it can be refreshed no more (ms)."""

    id: str
    user: User
    organisation: Organisation
    root: Organisation
    permissions: frozenset[Permission]
    expires_at: int


class Logins:
    """Turns what people present into an `Actor`.

    `access_s` is for how long a token of a session is good, `refresh_s` the session without a
    refresh. `account_rate`, `address_rate`: wrong passwords for one address of e-mail, and from
    one network address. `max_waiting` logins wait at once, further ones raise `Overloaded`.
    `outcomes` is counted up: `success`, or why not.
    """

    def __init__(
        self,
        store: PeopleStore,
        hasher: PasswordHasher,
        *,
        clock: Clock,
        new_token: NewToken = fresh_token,
        access_s: int = 9000,
        refresh_s: int = 604_800,
        account_rate: str = "10:300",
        address_rate: str = "50:300",
        most_throttled: int = 10_000,
        max_waiting: int = 200,
        outcomes: defaultdict[str, int] | None = None,
        most_sessions: int = MOST_SESSIONS,
        most_keys: int = MOST_KEYS,
    ) -> None:
        self._store = store
        self._hasher = hasher
        self._clock = clock
        self._new_token = new_token
        self.access_s = access_s
        self.refresh_s = refresh_s
        self._accounts = Throttle(_rate(account_rate), most=most_throttled)
        self._addresses = Throttle(_rate(address_rate), most=most_throttled)
        self._max_waiting = max_waiting
        self._outcomes = defaultdict[str, int](int) if outcomes is None else outcomes
        self._most_sessions = most_sessions
        self._most_keys = most_keys
        self._waiting = 0
        self._turn = asyncio.Lock()
        self._told_throttled = Allowance(10, 0.1)
        self._root: Organisation | None = None

    # ── passwords ───────────────────────────────────────────────────────────────────────────

    async def login(self, email: str, password: Secret, peer: Peer) -> Session | LoginRefusal:
        """A session for who knows the password. Raises `Overloaded`.

        Answer and time are the same whether there is such a user or not.
        """
        known = await self._known_in_turn(email, password, peer)
        ended = known if isinstance(known, LoginRefusal) else await self._begin(known, peer)
        self._count(ended)
        return ended

    async def prove(
        self, email: str, password: Secret, peer: Peer, *, within: Organisation
    ) -> KnownUser | LoginRefusal:
        """Whose password it is, without a session. Raises `Overloaded`.

        As a login in all else. A user who is not at or below `within` has no password there.
        """
        known = await self._known_in_turn(email, password, peer, within)
        if isinstance(known, KnownUser) and _is_over(known.user, self._clock()):
            known = await self._expired(known.user, peer)
        self._count(known)
        return known

    def _count(self, ended: object) -> None:
        self._outcomes[ended.reason if isinstance(ended, LoginRefusal) else "success"] += 1

    async def _known_in_turn(
        self, email: str, password: Secret, peer: Peer, within: Organisation | None = None
    ) -> KnownUser | LoginRefusal:
        account, address = normal_email(email) or "", subnet_of(host_of(peer))
        if refused := await self._throttled(account, address, peer):
            return refused
        if self._waiting >= self._max_waiting:
            raise Overloaded("too many logins wait")
        self._waiting += 1
        try:
            # One after another: of many wrong ones at once, none gets past the throttle, and
            # there is but one thread that hashes.
            async with self._turn:
                return await self._judge(account, address, password, peer, within)
        finally:
            self._waiting -= 1

    async def _judge(
        self,
        account: str,
        address: str,
        password: Secret,
        peer: Peer,
        within: Organisation | None,
    ) -> KnownUser | LoginRefusal:
        """Whose password it is."""
        if refused := await self._throttled(account, address, peer):
            return refused
        known = await self._store.known_by_email(account)
        fits = len(password.reveal()) <= _LONGEST_PASSWORD
        kept = known.password if known is not None and fits else None
        right = await self._hasher.verify(kept, password if fits else Secret(""))
        if known is None or not right or not known.user.enabled:
            return await self._wrong(account, address, peer)
        if within is not None and not within.has_below(known.organisation):
            return await self._wrong(account, address, peer)
        return known

    async def _throttled(self, account: str, address: str, peer: Peer) -> LoginRefusal | None:
        now = self._clock()
        wait = max(self._accounts.wait(account, now), self._addresses.wait(address, now))
        if not wait:
            return None
        if self._told_throttled.take(now):
            await self._tell_refused(account, peer, "throttled")
        return LoginRefusal.throttled(wait)

    async def _wrong(self, account: str, address: str, peer: Peer) -> LoginRefusal:
        now = self._clock()
        self._accounts.spend(account, now)
        self._addresses.spend(address, now)
        await self._tell_refused(account, peer, "wrong password")
        return LoginRefusal.WRONG

    async def _tell_refused(self, account: str, peer: Peer, reason: str) -> None:
        """In the audit log, without waiting. What is no address may be a password: not told."""
        missed = self._told_throttled.forget_missed() if reason == "throttled" else 0
        event = Event(
            kind=EventKind.USER_LOGIN,
            at=self._clock(),
            peer=peer,
            outcome=Outcome.REFUSED,
            reason=reason,
            subject=account,
            detail={"besides": str(missed)} if missed else {},
        )
        await self._store.record(event)

    async def _begin(self, known: KnownUser, peer: Peer) -> Session | LoginRefusal:
        now, user = self._clock(), known.user
        if _is_over(user, now):
            return await self._expired(user, peer)
        expires_at = now + self.refresh_s * 1000
        event = _event(EventKind.USER_LOGIN, now, _as(user, peer), user)
        session_id = await self._store.begin_session(
            known, event, expires_at=expires_at, most=self._most_sessions
        )
        if session_id is None:
            return LoginRefusal.WRONG
        return await self._session(session_id, known, expires_at)

    async def _expired(self, user: User, peer: Peer) -> LoginRefusal:
        await self._tell_refused(user.email, peer, "password expired")
        return LoginRefusal.EXPIRED

    async def _session(self, session_id: str, known: KnownUser, expires_at: int) -> Session:
        if self._root is None:
            self._root = await self._store.organisation_numbered(ROOT_ORGANISATION)
        assert self._root is not None
        return Session(
            id=session_id,
            user=known.user,
            organisation=known.organisation,
            root=self._root,
            permissions=known.permissions,
            expires_at=expires_at,
        )

    # ── sessions ────────────────────────────────────────────────────────────────────────────

    async def refresh(self, session_id: str, peer: Peer) -> Session | None:
        """The session, good for `refresh_s` from now on. None when it ended."""
        now = self._clock()
        found = await self._store.session(session_id, now)
        expires_at = now + self.refresh_s * 1000
        if found is None or not await self._store.extend_session(session_id, expires_at, now):
            return None
        return await self._session(session_id, found[0], expires_at)

    async def actor(self, session_id: str, peer: Peer) -> Actor | None:
        """Whose session it is, with what the role allows now. None when it ended."""
        found = await self._store.session(session_id, self._clock())
        return None if found is None else _actor(found[0], peer, session=session_id)

    async def logout(self, actor: Actor) -> None:
        """End the session. With a key for scripts, or from the shell, there is none to end."""
        if actor.session and actor.user is not None:
            event = _event(EventKind.USER_LOGOUT, self._clock(), actor.peer, actor.user)
            await self._store.end_session(actor.session, event)

    async def logout_all(self, actor: Actor, user: User) -> int:
        """End all sessions of a user: how many there were. Raises as `People.set_password`."""
        await self._reach(actor, user, Permission.ORG_EDIT_USERS)
        event = _event(EventKind.USER_LOGOUT, self._clock(), actor.peer, user)
        return await self._store.end_sessions(user, event)

    # ── keys for scripts ────────────────────────────────────────────────────────────────────

    async def actor_by_key(self, key: Secret, peer: Peer) -> Actor | None:
        """Whom the key acts for. None when it is unknown, revoked or expired."""
        now = self._clock()
        found = await self._store.find_key(key, now)
        if found is None:
            return None
        if now - (found.key.last_used_at or 0) >= _TOUCH_MS:
            await self._store.touch_key(found.key.id, now)
        return _actor(found.known, peer, only=found.key.permissions)

    async def add_key(
        self,
        actor: Actor,
        user: User,
        label: str,
        permissions: frozenset[Permission] | None = None,
        expires_at: int | None = None,
    ) -> tuple[ApiKey, Secret]:
        """A key that acts for `user`, shown this once. `permissions` None: all the user has.

        Raises `Forbidden`, `Invalid`, `Conflict` (GONE; IN_USE: it has too many).
        """
        known = await self._reach(actor, user, Permission.MANAGE_STATIC_TOKENS)
        now = self._clock()
        if not label.strip() or len(label) > _MOST_LABEL or not label.isprintable():
            raise Invalid(f"a key's label has 1 to {_MOST_LABEL} characters.")
        if expires_at is not None and expires_at <= now:
            raise Invalid("a key must end in the future.")
        if permissions is not None and not permissions <= known.permissions:
            raise Invalid("a key can allow no more than its user may.")
        key = Secret(f"gh_{self._new_token()}{self._new_token()}")
        draft = ApiKey(
            id=0,
            uuid="",
            user_id=known.user.id,
            label=label.strip(),
            permissions=permissions,
            created_at=now,
            expires_at=expires_at,
        )
        event = _event(EventKind.USER_KEY_CREATE, now, actor.peer, known.user, label=draft.label)
        return await self._store.add_key(draft, key, event, most=self._most_keys), key

    async def keys(self, actor: Actor, user: User) -> list[ApiKey]:
        """Without the keys themselves. Raises `Forbidden`, `Conflict` GONE."""
        known = await self._reach(actor, user, Permission.MANAGE_STATIC_TOKENS, rule=False)
        return await self._store.keys(known.user.id)

    async def revoke_key(self, actor: Actor, user: User, uuid: str) -> None:
        """Raises `Forbidden`, `Conflict` GONE."""
        known = await self._reach(actor, user, Permission.MANAGE_STATIC_TOKENS)
        event = _event(EventKind.USER_KEY_REVOKE, self._clock(), actor.peer, known.user)
        if not await self._store.remove_key(known.user, uuid, event):
            raise Conflict(Cause.GONE)

    async def _reach(
        self, actor: Actor, user: User, wanted: Permission, *, rule: bool = True
    ) -> KnownUser:
        """The user as it is now, in sight of an actor who may do this (`rule`: and rules it)."""
        need(actor, wanted)
        known = await self._store.known_user(user.uuid)
        if known is None or not actor.organisation.has_below(known.organisation):
            raise Conflict(Cause.GONE)
        if rule:
            no_more_than(actor, known.permissions)
        return known


def _actor(
    known: KnownUser,
    peer: Peer,
    *,
    session: str = "",
    only: frozenset[Permission] | None = None,
) -> Actor:
    permissions = known.permissions if only is None else known.permissions & only
    return Actor(
        peer=_as(known.user, peer),
        organisation=known.organisation,
        permissions=permissions,
        user=known.user,
        session=session,
    )


def _is_over(user: User, now: int) -> bool:
    """Whether it has an initial password that is good no more."""
    return user.password_until is not None and user.password_until <= now


def _as(user: User, peer: Peer) -> Peer:
    return Peer(peer.wire, peer.address, user.email, peer.request)


def _event(kind: EventKind, at: int, peer: Peer, user: User, **detail: str) -> Event:
    return Event(kind=kind, at=at, peer=peer, subject=user.email, object=user.uuid, detail=detail)


def _rate(text: str) -> Rate:
    rate = parse_rate(text)
    if rate is None:
        raise ValueError("wrong passwords must be limited: write capacity:seconds")
    return rate
