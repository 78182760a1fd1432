"""Clients of organisations and the access they were given."""

from __future__ import annotations

from hmac import compare_digest

import msgspec
from msgspec import Struct, structs

from gateway.core.errors import Cause, Conflict
from gateway.core.model import Event, NoticeKind
from gateway.core.oauth_store import KnownGrant, NewGrant, OAuthClient, OAuthScope
from gateway.store.driver import Row, Transaction
from gateway.store.events import event_on, tell
from gateway.store.notices import notify
from gateway.store.organisations import organisation_now
from gateway.store.people_rows import known_from_row, organisation_from_row
from gateway.store.writer import SingleDecision

_CLIENT_COLUMNS = 14
_names = msgspec.json.Decoder(list[str])
_SCOPES = {one.value: one for one in OAuthScope}


def client_from_row(row: Row) -> OAuthClient:
    """The first columns of `oauth_clients`. A scope of another version is left out."""
    number, name, label, scopes, created_at, last_used_at, *organisation = row[:_CLIENT_COLUMNS]
    return OAuthClient(
        id=number,
        name=name,
        label=label,
        organisation=organisation_from_row(tuple(organisation)),
        scopes=frozenset(_SCOPES[one] for one in _names.decode(scopes) if one in _SCOPES),
        created_at=created_at,
        last_used_at=last_used_at,
    )


def proven_client(row: Row, digest: bytes) -> OAuthClient | None:
    """The client of `oauth_client_by_name`, if its secret has this digest."""
    fits = compare_digest(bytes(row[_CLIENT_COLUMNS]), digest)
    return client_from_row(row) if fits else None


def grant_from_row(row: Row) -> KnownGrant:
    """A row of `find_grant`."""
    user = row[_CLIENT_COLUMNS + 1 :]
    return KnownGrant(
        client=client_from_row(row),
        access_until=row[_CLIENT_COLUMNS],
        user=None if user[0] is None else known_from_row(user),
    )


class AddClient(SingleDecision[OAuthClient]):
    """The insert decides, also about how many an organisation may have."""

    __slots__ = ("digest", "draft", "event", "most")

    def __init__(self, draft: OAuthClient, digest: bytes, event: Event, *, most: int) -> None:
        self.draft = draft
        self.digest = digest
        self.event = event
        self.most = most

    async def decide(self, tx: Transaction) -> OAuthClient:
        draft, organisation_id = self.draft, self.draft.organisation.id
        number = (await tx.fetch("next_ids", "oauth_client", 1))[0][0]
        scopes = msgspec.json.encode(sorted(draft.scopes)).decode()
        columns = (draft.label, scopes, self.digest, draft.created_at)
        if not await tx.fetch(
            "insert_oauth_client", number, draft.name, organisation_id, *columns, self.most
        ):
            await organisation_now(tx, organisation_id)
            told = f"an organisation has at most {self.most} clients; revoke one first"
            raise Conflict(Cause.IN_USE, told)
        tell(tx, [self.event])
        return structs.replace(draft, id=number)


class RemoveClient(SingleDecision[bool]):
    """With all it was given, and its connections. The delete decides."""

    __slots__ = ("event", "number")

    def __init__(self, number: int, event: Event) -> None:
        self.number = number
        self.event = event

    async def decide(self, tx: Transaction) -> bool:
        if not await tx.fetch("remove_oauth_client", self.number):
            return False
        await tx.fetch("end_grants_of_client", self.number)
        await notify(tx, NoticeKind.CLIENT, self.event.at, client_id=self.number)
        tell(tx, [self.event])
        return True


class Digests(Struct, frozen=True):
    """Those of a pair of tokens."""

    access: bytes
    refresh: bytes


class GiveAccess(SingleDecision[bool]):
    """The updates decide: of a client that is gone, of a user who is, or has another password."""

    __slots__ = ("digests", "new")

    def __init__(self, new: NewGrant, digests: Digests) -> None:
        self.new = new
        self.digests = digests

    async def decide(self, tx: Transaction) -> bool:
        number = (await tx.fetch("next_ids", "oauth_grant", 1))[0][0]
        user_id, known = None, self.new.user
        if known is not None:
            user_id, password = known.user.id, known.password.reveal() if known.password else ""
            if not await tx.fetch("enter_user", user_id, self.new.event.at, password):
                return False
        return await _insert(tx, number, self.new, self.digests, user_id)


class RefreshAccess(SingleDecision[bool]):
    """The delete of the older grant decides which of many refreshes is the one."""

    __slots__ = ("digests", "new", "refresh")

    def __init__(self, refresh: bytes, new: NewGrant, digests: Digests) -> None:
        self.refresh = refresh
        self.new = new
        self.digests = digests

    async def decide(self, tx: Transaction) -> bool:
        number = (await tx.fetch("next_ids", "oauth_grant", 1))[0][0]
        at = self.new.event.at
        taken = await tx.fetch("take_grant", self.refresh, self.new.client_id, at)
        if not taken:
            return False
        user_id, email = taken[0][0], ""
        if user_id is not None:
            email = (await tx.fetch("user_by_number", user_id))[0][3]
        event = event_on(self.new.event, None, user=email)
        new = structs.replace(self.new, event=event)
        return await _insert(tx, number, new, self.digests, user_id)


async def _insert(
    tx: Transaction, number: int, new: NewGrant, digests: Digests, user_id: int | None
) -> bool:
    """Keep it and tell of it. False: the client was revoked."""
    at = new.event.at
    if not await tx.fetch("use_oauth_client", new.client_id, at):
        return False
    row = (number, new.client_id, user_id, digests.access, digests.refresh)
    until = (at, new.access_until, new.refresh_until)
    await tx.insert_rows("insert_oauth_grant", [(*row, *until)])
    await tx.fetch("end_oldest_grants", new.client_id, new.most)
    tell(tx, [new.event])
    return True


class EndGrant(SingleDecision[bool]):
    """By the digest of either of its tokens."""

    __slots__ = ("client_id", "digests", "event")

    def __init__(self, client_id: int, digests: Digests, event: Event) -> None:
        self.client_id = client_id
        self.digests = digests
        self.event = event

    async def decide(self, tx: Transaction) -> bool:
        digests = self.digests
        if not await tx.fetch("end_grant", self.client_id, digests.access, digests.refresh):
            return False
        tell(tx, [self.event])
        return True
