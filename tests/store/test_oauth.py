"""Clients and the access they were given, in the store."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from gateway.core.errors import Cause, Conflict
from gateway.core.model import (
    TENANT_ADMIN,
    Event,
    EventKind,
    NoticeKind,
    Organisation,
    Secret,
    User,
)
from gateway.core.oauth_store import NewGrant, OAuthClient, OAuthScope
from gateway.core.people_store import KnownUser, OrganisationDraft, UserDraft
from gateway.store import oauth as decisions
from gateway.store.retention import Retention
from gateway.store.sql_oauth import SqlOAuth
from gateway.store.sql_people import SqlPeople
from gateway.store.sql_store import SqlStore

pytestmark = pytest.mark.every_database

SECRET = Secret("s" * 40)
KEPT = Secret("$argon2id$kept")
PLATFORM = frozenset({OAuthScope.PLATFORM_API})


@pytest.fixture
def oauth(store: SqlStore) -> SqlOAuth:
    return SqlOAuth(store)


@pytest.fixture
def people(store: SqlStore) -> SqlPeople:
    return SqlPeople(store)


@pytest.fixture
async def root(people: SqlPeople) -> Organisation:
    found = await people.organisation_numbered(1)
    assert found is not None
    return found


@pytest.fixture
async def acme(people: SqlPeople, root: Organisation, event: Any) -> Organisation:
    told = event(EventKind.ORGANISATION_CREATE)
    return await people.create_organisation(root, OrganisationDraft(name="Acme"), told)


@pytest.fixture
def add(oauth: SqlOAuth, event: Any, clock: Any) -> Callable[..., Any]:
    """Adds a client of an organisation."""

    async def make(organisation: Organisation, name: str = "one", most: int = 10) -> OAuthClient:
        draft = OAuthClient(
            name=name,
            label=f"the {name}",
            organisation=organisation,
            scopes=PLATFORM,
            created_at=clock.now,
        )
        return await oauth.add_client(
            draft, SECRET, event(EventKind.OAUTH_CLIENT_CREATE), most=most
        )

    return make


@pytest.fixture
async def ada(people: SqlPeople, acme: Organisation, event: Any) -> KnownUser:
    draft = UserDraft(
        email="ada@acme.test", organisation_id=acme.id, role=TENANT_ADMIN, password=KEPT
    )
    await people.create_user(draft, event(EventKind.USER_CREATE))
    found = await people.known_by_email("ada@acme.test")
    assert found is not None
    return found


@pytest.fixture
def grant(event: Any, clock: Any) -> Callable[..., NewGrant]:
    """A pair of tokens named `number`, good for 10 s and 20 s."""

    def make(
        client: OAuthClient, number: int, user: KnownUser | None = None, most: int = 10
    ) -> NewGrant:
        return NewGrant(
            client_id=client.id,
            access=Secret(f"access {number}"),
            refresh=Secret(f"refresh {number}"),
            access_until=clock.now + 10_000,
            refresh_until=clock.now + 20_000,
            most=most,
            event=event(EventKind.OAUTH_TOKEN, detail={"grant": "test"}),
            user=user,
        )

    return make


@pytest.fixture
def lives(oauth: SqlOAuth, clock: Any) -> Callable[..., Any]:
    """Which of the numbered grants open something."""

    async def find(*numbers: int) -> list[int]:
        found = [(n, await oauth.find_grant(Secret(f"access {n}"), clock.now)) for n in numbers]
        return [number for number, grant in found if grant is not None]

    return find


@pytest.fixture
def last(registrar: Any) -> Callable[..., Any]:
    async def find(count: int = 1) -> list[Event]:
        found: list[Event] = await registrar.last_events(limit=count, device_id=None)
        return found

    return find


# ── clients ───────────────────────────────────────────────────────────────────────────────────


async def test_a_client_is_known_by_its_secret(
    oauth: SqlOAuth, acme: Organisation, add: Any
) -> None:
    """With its organisation and scopes; another secret, and a token of that text, are nobody's."""
    client = await add(acme)
    assert (client.id, client.organisation, client.scopes) == (client.id, acme, PLATFORM)
    assert await oauth.find_client("one", SECRET) == client
    for name, secret in (("one", "S" * 40), ("one", ""), ("ONE", "s" * 40), ("two", "s" * 40)):
        assert await oauth.find_client(name, Secret(secret)) is None


async def test_clients_are_listed_where_they_are_in_sight(
    oauth: SqlOAuth, root: Organisation, acme: Organisation, add: Any
) -> None:
    """At or below a path, in the order they were made, some at a time."""
    one, two, three = await add(root, "one"), await add(acme, "two"), await add(acme, "three")
    assert await oauth.clients(root.path, after_id=0, limit=2) == [one, two]
    assert await oauth.clients(root.path, after_id=two.id, limit=2) == [three]
    assert await oauth.clients(acme.path, after_id=0, limit=9) == [two, three]
    assert await oauth.client_named("two", acme.path) == two
    assert await oauth.client_named("one", acme.path) is None


async def test_an_organisation_has_so_many_clients(
    oauth: SqlOAuth, root: Organisation, acme: Organisation, add: Any
) -> None:
    """Of many at once as many are made as may be; in another one there is room."""
    made = await asyncio.gather(
        *(add(acme, f"c{n}", most=3) for n in range(10)), return_exceptions=True
    )
    assert sum(isinstance(one, OAuthClient) for one in made) == 3
    assert {one.cause for one in made if isinstance(one, Conflict)} == {Cause.IN_USE}
    await add(root, "other", most=1)
    with pytest.raises(Conflict) as gone:
        await add(Organisation(id=99, uuid="", name="x", path="/1/99/"), "nobody's")
    assert gone.value.cause is Cause.GONE


async def test_with_a_client_its_access_goes(
    oauth: SqlOAuth, acme: Organisation, add: Any, grant: Any, lives: Any, event: Any
) -> None:
    """At once, and another one's stays; it is removed once."""
    one, two = await add(acme, "one"), await add(acme, "two")
    assert await oauth.give(grant(one, 1))
    assert await oauth.give(grant(two, 2))
    told = event(EventKind.OAUTH_CLIENT_REVOKE)
    ended = await asyncio.gather(*(oauth.remove_client(one, told) for _ in range(5)))
    assert sorted(ended) == [False] * 4 + [True]
    assert await lives(1, 2) == [2]
    assert not await oauth.give(grant(one, 3))
    assert not await oauth.refresh(Secret("refresh 1"), grant(one, 4))
    assert await lives(3, 4) == []


async def test_with_an_organisation_its_clients_go(
    oauth: SqlOAuth,
    people: SqlPeople,
    acme: Organisation,
    add: Any,
    grant: Any,
    lives: Any,
    event: Any,
    last: Any,
) -> None:
    """They do not hold it; each is told of."""
    client = await add(acme)
    assert await oauth.give(grant(client, 1))
    told = event(EventKind.ORGANISATION_REMOVE)
    await people.remove_organisation(acme, told, unassign=False, most=1)
    assert await lives(1) == []
    assert await oauth.find_client("one", SECRET) is None
    revoked, removed = await last(2)
    assert (revoked.kind, revoked.subject) == (EventKind.OAUTH_CLIENT_REVOKE, "one")
    assert removed.kind is EventKind.ORGANISATION_REMOVE


async def test_gateways_hear_of_revoked_clients(
    store: SqlStore, oauth: SqlOAuth, people: SqlPeople, acme: Organisation, add: Any, event: Any
) -> None:
    """Of each once, whether it was revoked or its organisation removed; not of what failed."""
    one, two, three = await add(acme, "one"), await add(acme, "two"), await add(acme, "three")
    seen = await store.last_notice()
    told = event(EventKind.OAUTH_CLIENT_REVOKE)
    assert [await oauth.remove_client(two, told) for _ in range(2)] == [True, False]
    below = await people.create_organisation(acme, OrganisationDraft(name="Below"), told)
    with pytest.raises(Conflict):
        await people.remove_organisation(acme, told, unassign=False, most=1)
    await people.remove_organisation(below, told, unassign=False, most=1)
    await people.remove_organisation(acme, told, unassign=False, most=1)
    notices = await store.notices(seen, 100)
    assert {notice.kind for notice in notices} == {NoticeKind.CLIENT}
    first, *rest = [notice.client_id for notice in notices]
    assert (first, sorted(rest)) == (two.id, [one.id, three.id])


# ── access ────────────────────────────────────────────────────────────────────────────────────


async def test_access_is_found_until_it_ends(
    oauth: SqlOAuth, acme: Organisation, add: Any, grant: Any, lives: Any, clock: Any
) -> None:
    """By its access token alone; it is no user's, and its client was used."""
    client = await add(acme)
    assert await oauth.give(grant(client, 1))
    found = await oauth.find_grant(Secret("access 1"), clock.now)
    assert found is not None
    assert (found.user, found.access_until) == (None, clock.now + 10_000)
    assert (found.client.name, found.client.organisation) == ("one", acme)
    assert found.client.last_used_at == clock.now
    assert await oauth.find_grant(Secret("refresh 1"), clock.now) is None
    clock.now += 9_999
    assert await lives(1) == [1]
    clock.now += 1
    assert await lives(1) == []


async def test_of_many_refreshes_one_succeeds(
    oauth: SqlOAuth, acme: Organisation, add: Any, grant: Any, lives: Any, last: Any
) -> None:
    """A hundred at once: one gets the next access, and the older access token ends with it."""
    client = await add(acme)
    assert await oauth.give(grant(client, 0))
    refreshed = await asyncio.gather(
        *(oauth.refresh(Secret("refresh 0"), grant(client, n)) for n in range(1, 101))
    )
    assert refreshed.count(True) == 1
    assert await lives(*range(101)) == [refreshed.index(True) + 1]
    [told] = await last()
    assert (told.kind, dict(told.detail)) == (EventKind.OAUTH_TOKEN, {"grant": "test"})


async def test_two_gateways_refresh_once(stores: Any, event: Any, clock: Any, grant: Any) -> None:
    """Also when two processes are asked at one moment."""
    people, oauths = SqlPeople(stores[0]), [SqlOAuth(one) for one in stores]
    root = await people.organisation_numbered(1)
    assert root is not None
    draft = OAuthClient(name="one", label="l", organisation=root, scopes=PLATFORM)
    told = event(EventKind.OAUTH_CLIENT_CREATE)
    client = await oauths[0].add_client(draft, SECRET, told, most=1)
    assert await oauths[0].give(grant(client, 0))
    refreshed = await asyncio.gather(
        *(oauths[n % 2].refresh(Secret("refresh 0"), grant(client, n)) for n in range(1, 21))
    )
    assert refreshed.count(True) == 1


async def test_a_refresh_token_is_its_clients_and_has_an_end(
    oauth: SqlOAuth, acme: Organisation, add: Any, grant: Any, lives: Any, clock: Any
) -> None:
    """Another client's attempt uses nothing up; an access token refreshes nothing; late is late."""
    one, two = await add(acme, "one"), await add(acme, "two")
    assert await oauth.give(grant(one, 1))
    assert not await oauth.refresh(Secret("refresh 1"), grant(two, 2))
    assert not await oauth.refresh(Secret("access 1"), grant(one, 3))
    assert await lives(1, 2, 3) == [1]
    clock.now += 20_000
    assert not await oauth.refresh(Secret("refresh 1"), grant(one, 4))
    clock.now -= 1
    assert await oauth.refresh(Secret("refresh 1"), grant(one, 5))


async def test_of_too_much_access_the_oldest_ends(
    oauth: SqlOAuth, acme: Organisation, add: Any, grant: Any, lives: Any
) -> None:
    """Of a client, and not of its neighbour."""
    one, two = await add(acme, "one"), await add(acme, "two")
    assert await oauth.give(grant(two, 100))
    for number in range(1, 6):
        assert await oauth.give(grant(one, number, most=3))
    assert await lives(1, 2, 3, 4, 5, 100) == [3, 4, 5, 100]


async def test_access_is_ended_by_either_token(
    oauth: SqlOAuth, acme: Organisation, add: Any, grant: Any, lives: Any, event: Any
) -> None:
    """By its own client alone, once."""
    one, two = await add(acme, "one"), await add(acme, "two")
    for number in (1, 2, 3):
        assert await oauth.give(grant(one, number))
    told = event(EventKind.OAUTH_TOKEN_REVOKE)
    assert not await oauth.end_grant(two, Secret("access 1"), told)
    assert await oauth.end_grant(one, Secret("access 1"), told)
    assert await oauth.end_grant(one, Secret("refresh 2"), told)
    assert not await oauth.end_grant(one, Secret("refresh 2"), told)
    assert await lives(1, 2, 3) == [3]
    assert not await oauth.refresh(Secret("refresh 1"), grant(one, 4))


# ── on behalf of users ────────────────────────────────────────────────────────────────────────


async def test_access_for_a_user_is_found_with_it(
    oauth: SqlOAuth, acme: Organisation, add: Any, ada: KnownUser, grant: Any, clock: Any, last: Any
) -> None:
    """The user as it is now, with its organisation and permissions; a refresh keeps it."""
    client = await add(acme)
    assert await oauth.give(grant(client, 1, ada))
    assert await oauth.refresh(Secret("refresh 1"), grant(client, 2))
    found = await oauth.find_grant(Secret("access 2"), clock.now)
    assert found is not None
    assert found.user is not None
    assert (found.user.user.email, found.user.organisation) == ("ada@acme.test", acme)
    assert found.user.permissions == ada.permissions
    assert found.user.user.last_login_at == clock.now
    [told] = await last()
    assert told.detail == {"grant": "test", "user": "ada@acme.test"}


async def test_nothing_is_given_for_a_user_who_changed_meanwhile(
    oauth: SqlOAuth, acme: Organisation, add: Any, people: SqlPeople, ada: KnownUser, grant: Any,
    event: Any,
) -> None:  # fmt: skip
    """Between the look at the password and the commit it became another."""
    client = await add(acme)
    told = event(EventKind.USER_PASSWORD)
    assert await people.set_password(ada.user.id, Secret("other"), told, until=None)
    assert not await oauth.give(grant(client, 1, ada))


async def _disable(people: SqlPeople, user: User, event: Any) -> None:
    draft = UserDraft(
        email=user.email, organisation_id=user.organisation_id, role=user.role, enabled=False
    )
    await people.update_user(user.id, draft, event(EventKind.USER_UPDATE))


async def _remove(people: SqlPeople, user: User, event: Any) -> None:
    await people.remove_user(user, event(EventKind.USER_REMOVE))


async def _change_password(people: SqlPeople, user: User, event: Any) -> None:
    told = event(EventKind.USER_PASSWORD)
    await people.set_password(user.id, Secret("other"), told, until=None)


async def _log_out(people: SqlPeople, user: User, event: Any) -> None:
    await people.end_sessions(user, event(EventKind.USER_LOGOUT))


@pytest.mark.parametrize("change", [_disable, _remove, _change_password, _log_out])
async def test_with_a_users_standing_its_access_ends(
    change: Any,
    oauth: SqlOAuth,
    people: SqlPeople,
    acme: Organisation,
    add: Any,
    ada: KnownUser,
    grant: Any,
    lives: Any,
    event: Any,
) -> None:
    """Disabled, removed, with another password or logged out everywhere; the client's own stays."""
    client = await add(acme)
    assert await oauth.give(grant(client, 1, ada))
    assert await oauth.give(grant(client, 2))
    await change(people, ada.user, event)
    assert await lives(1, 2) == [2]
    assert not await oauth.refresh(Secret("refresh 1"), grant(client, 3))
    assert await oauth.refresh(Secret("refresh 2"), grant(client, 4))


async def test_no_refresh_outlives_a_change_of_password_beside_it(
    stores: Any,
    database: str,
    event: Any,
    grant: Any,
    clock: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In another process, while the refresh is half done: nothing opens afterwards."""
    people, oauths = SqlPeople(stores[0]), [SqlOAuth(one) for one in stores]
    draft = UserDraft(email="a@a.test", organisation_id=1, role=TENANT_ADMIN, password=KEPT)
    user = await people.create_user(draft, event(EventKind.USER_CREATE))
    known = await people.known_by_email(user.email)
    assert known is not None
    one = OAuthClient(name="one", label="l", organisation=known.organisation, scopes=PLATFORM)
    told = event(EventKind.OAUTH_CLIENT_CREATE)
    client = await oauths[0].add_client(one, SECRET, told, most=1)
    assert await oauths[0].give(grant(client, 1, known))
    half, insert = threading.Event(), decisions._insert

    async def slowly(*args: Any) -> bool:
        half.set()
        if database == "sqlite":  # in a thread, without a loop
            time.sleep(0.2)
        else:
            await asyncio.sleep(0.2)
        return await insert(*args)

    monkeypatch.setattr(decisions, "_insert", slowly)
    refresh = asyncio.create_task(oauths[1].refresh(Secret("refresh 1"), grant(client, 2)))
    while not half.is_set():
        await asyncio.sleep(0.005)
    changed = people.set_password(user.id, KEPT, event(EventKind.USER_PASSWORD), until=None)
    assert await asyncio.gather(refresh, changed) == [True, True]
    for number in (1, 2):
        assert await oauths[0].find_grant(Secret(f"access {number}"), clock.now) is None


async def test_access_outlives_a_change_of_names(
    oauth: SqlOAuth,
    people: SqlPeople,
    acme: Organisation,
    add: Any,
    ada: KnownUser,
    grant: Any,
    lives: Any,
    event: Any,
) -> None:
    client = await add(acme)
    assert await oauth.give(grant(client, 1, ada))
    draft = UserDraft(
        email=ada.user.email, organisation_id=acme.id, role=ada.user.role, first_name="Ada"
    )
    await people.update_user(ada.user.id, draft, event(EventKind.USER_UPDATE))
    assert await lives(1) == [1]


async def test_what_is_over_is_swept(
    store: SqlStore, oauth: SqlOAuth, acme: Organisation, add: Any, grant: Any, clock: Any
) -> None:
    """When neither token is good any more, and not before."""
    client = await add(acme)
    assert await oauth.give(grant(client, 1))
    clock.now += 19_999
    await Retention(store, clock).sweep()
    assert await store.driver.read("SELECT count(*) FROM oauth_grant") == [(1,)]
    clock.now += 1
    await Retention(store, clock).sweep()
    assert await store.driver.read("SELECT count(*) FROM oauth_grant") == [(0,)]


async def test_no_secret_is_kept_as_it_is(
    store: SqlStore, oauth: SqlOAuth, acme: Organisation, add: Any, grant: Any
) -> None:
    """Of secrets and tokens there are digests, and the three kinds have digests of their own."""
    client = await add(acme)
    same = Secret("s" * 40)
    new = grant(client, 1)
    given = NewGrant(
        client_id=new.client_id,
        access=same,
        refresh=same,
        access_until=new.access_until,
        refresh_until=new.refresh_until,
        most=1,
        event=new.event,
    )
    assert await oauth.give(given)
    digests = {
        bytes(one)
        for table, columns in (
            ("oauth_client", "digest, digest"),
            ("oauth_grant", "access_digest, refresh_digest"),
        )
        for row in await store.driver.read(f"SELECT {columns} FROM {table}")
        for one in row
    }
    assert len(digests) == 3
    assert {len(one) for one in digests} == {32}
    assert not any(b"sss" in one for one in digests)
