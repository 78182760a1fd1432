"""Sessions of people, and keys for scripts."""

from __future__ import annotations

import uuid

from msgspec import structs

from gateway.core.errors import Cause, Conflict
from gateway.core.model import ApiKey, Event, User
from gateway.core.people_store import KnownUser
from gateway.core.tokens import random_bytes
from gateway.store.driver import Transaction
from gateway.store.events import tell
from gateway.store.identity import uuid7, uuid_text
from gateway.store.people_rows import permissions_text
from gateway.store.users import end_access
from gateway.store.writer import SingleDecision

_FORGOTTEN_AT_ONCE = 100
"""Expired sessions swept with each login: more than one login makes."""


class BeginSession(SingleDecision[str | None]):
    """The update of the user decides: with another password, or disabled, it finds none."""

    __slots__ = ("event", "expires_at", "identity", "known", "most")

    def __init__(self, known: KnownUser, event: Event, *, expires_at: int, most: int) -> None:
        self.known = known
        self.event = event
        self.expires_at = expires_at
        self.most = most
        self.identity = uuid.UUID(bytes=random_bytes(16), version=4).bytes

    async def decide(self, tx: Transaction) -> str | None:
        number, at = self.known.user.id, self.event.at
        password = self.known.password.reveal() if self.known.password else ""
        if not await tx.fetch("enter_user", number, at, password):
            return None
        await tx.fetch("insert_session", self.identity, number, at, self.expires_at)
        await tx.fetch("end_oldest_sessions", number, self.most)
        await tx.fetch("forget_sessions", at, _FORGOTTEN_AT_ONCE)
        tell(tx, [self.event])
        return uuid_text(self.identity)


class ExtendSession(SingleDecision[bool]):
    __slots__ = ("at", "expires_at", "identity")

    def __init__(self, identity: bytes, expires_at: int, at: int) -> None:
        self.identity = identity
        self.expires_at = expires_at
        self.at = at

    async def decide(self, tx: Transaction) -> bool:
        return bool(await tx.fetch("extend_session", self.identity, self.expires_at, self.at))


class EndSession(SingleDecision[bool]):
    __slots__ = ("event", "identity")

    def __init__(self, identity: bytes, event: Event) -> None:
        self.identity = identity
        self.event = event

    async def decide(self, tx: Transaction) -> bool:
        if not await tx.fetch("end_session", self.identity):
            return False
        tell(tx, [self.event])
        return True


class EndSessions(SingleDecision[int]):
    __slots__ = ("event", "number")

    def __init__(self, user: User, event: Event) -> None:
        self.number = user.id
        self.event = event

    async def decide(self, tx: Transaction) -> int:
        ended = await end_access(tx, self.number)
        tell(tx, [structs.replace(self.event, detail={"sessions": str(ended)})])
        return ended


# ── keys for scripts ──────────────────────────────────────────────────────────────────────────


class TouchKey(SingleDecision[None]):
    __slots__ = ("at", "number")

    def __init__(self, number: int, at: int) -> None:
        self.number = number
        self.at = at

    async def decide(self, tx: Transaction) -> None:
        await tx.fetch("touch_key", self.number, self.at)


class AddKey(SingleDecision[ApiKey]):
    """The insert decides, also about how many a user may have."""

    __slots__ = ("digest", "draft", "event", "identity", "most")

    def __init__(self, draft: ApiKey, digest: bytes, event: Event, *, most: int) -> None:
        self.draft = draft
        self.digest = digest
        self.event = event
        self.most = most
        self.identity = uuid7(event.at)

    async def decide(self, tx: Transaction) -> ApiKey:
        draft = self.draft
        number = (await tx.fetch("next_ids", "api_key", 1))[0][0]
        allowed = None if draft.permissions is None else permissions_text(draft.permissions)
        columns = (draft.label, self.digest, allowed, draft.created_at, draft.expires_at)
        if not await tx.fetch(
            "insert_key", number, self.identity, draft.user_id, *columns, self.most
        ):
            if not await tx.fetch("user_by_number", draft.user_id):
                raise Conflict(Cause.GONE)
            raise Conflict(Cause.IN_USE, f"a user has at most {self.most} keys; revoke one first")
        tell(tx, [self.event])
        return structs.replace(draft, id=number, uuid=uuid_text(self.identity))


class RemoveKey(SingleDecision[bool]):
    __slots__ = ("event", "identity", "number")

    def __init__(self, user: User, identity: bytes, event: Event) -> None:
        self.number = user.id
        self.identity = identity
        self.event = event

    async def decide(self, tx: Transaction) -> bool:
        removed = await tx.fetch("remove_key", self.number, self.identity)
        if removed:
            tell(tx, [structs.replace(self.event, detail={"label": removed[0][0]})])
        return bool(removed)
