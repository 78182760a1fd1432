"""Programs of organisations: who may add them, what they are given, and who acts by it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from people import PASSWORD, PEER, Crowd, email_of, make_crowd

from gateway.core import oauth as service
from gateway.core.errors import Cause, Conflict, Forbidden, Invalid
from gateway.core.limits import parse_rate
from gateway.core.logins import Logins
from gateway.core.model import (
    Actor,
    Event,
    EventKind,
    Organisation,
    Outcome,
    Peer,
    Permission,
    Secret,
    Wire,
)
from gateway.core.oauth import Credentials, Later, OAuth, Pair, Refusal
from gateway.core.oauth_store import OAuthClient, OAuthScope
from gateway.store.sql_oauth import SqlOAuth
from gateway.store.sql_people import SqlPeople
from gateway.store.sql_registrar import SqlRegistrar
from gateway.store.sql_store import SqlStore

PLATFORM, GATEWAY = OAuthScope.PLATFORM_API, OAuthScope.GATEWAY_API
ALL = frozenset(Permission)
Told = Callable[[EventKind], Awaitable[list[Event]]]


@pytest.fixture
async def crowd(store: SqlStore, clock: Any) -> AsyncIterator[Crowd]:
    made = await make_crowd(store, clock)
    yield made
    made.close()


@pytest.fixture
def events(store: SqlStore) -> Told:
    """Finds the events of a kind, those nobody waits for too, oldest first."""

    async def find(kind: EventKind) -> list[Event]:
        await store.writer.settled()
        found = await SqlRegistrar(store).events(after_seq=0, limit=1000, device_id=None)
        return [one for one in found if one.kind is kind]

    return find


@pytest.fixture
def new_oauth(store: SqlStore, crowd: Crowd, clock: Any) -> Callable[..., OAuth]:
    return lambda **fields: OAuth(SqlOAuth(store), crowd.logins, clock=clock, **fields)


@pytest.fixture
def oauth(new_oauth: Callable[..., OAuth]) -> OAuth:
    return new_oauth(access_s=100, refresh_s=200)


class Program:
    """A client that knows its secret."""

    def __init__(self, oauth: OAuth, client: OAuthClient, secret: Secret) -> None:
        self.client = client
        self.shown = Credentials(client.name, secret)
        self._oauth = oauth

    async def access(self) -> Pair:
        pair = await self._oauth.client_access(self.shown, PEER)
        assert isinstance(pair, Pair), pair
        return pair

    async def access_for(self, name: str, password: Secret = PASSWORD) -> Pair | Refusal | Later:
        return await self._oauth.user_access(self.shown, email_of(name), password, PEER)


@pytest.fixture
def program(oauth: OAuth, crowd: Crowd) -> Callable[..., Awaitable[Program]]:
    """Adds a client, of Acme unless another organisation is named."""

    async def make(organisation: Organisation | None = None, *scopes: OAuthScope) -> Program:
        where = organisation or crowd.acme
        client, secret = await oauth.add(crowd.operator, where, "p", scopes or (PLATFORM,))
        return Program(oauth, client, secret)

    return make


async def who(oauth: OAuth, token: Secret, peer: Peer = PEER) -> Actor | Refusal:
    return await oauth.actor(token, peer, PLATFORM)


# ── clients ───────────────────────────────────────────────────────────────────────────────────


async def test_a_client_has_the_form_of_blynks(oauth: OAuth, crowd: Crowd, events: Told) -> None:
    """Name and secret; the event names client and organisation, and not the secret."""
    client, secret = await oauth.add(crowd.operator, crowd.acme, " Back office ")
    assert client.name.startswith("oa2-client-id_")
    assert (len(client.name), client.name[14:].isalnum()) == (46, True)
    assert len(secret.reveal()) == 40
    assert set(secret.reveal().replace("-", "a").replace("_", "a")) <= set(map(chr, range(48, 123)))
    assert (client.label, client.scopes) == ("Back office", {PLATFORM})
    [told] = await events(EventKind.OAUTH_CLIENT_CREATE)
    assert (told.subject, told.peer.actor) == (client.name, "tester")
    assert told.detail == {
        "label": "Back office",
        "organisation": "Acme",
        "scopes": "platform_api",
    }
    assert secret.reveal() not in repr((client, told))


async def test_who_may_add_a_client(oauth: OAuth, crowd: Crowd) -> None:
    """Who may do everything there, at or below their organisation: a client may do no less."""
    admin = await crowd.actor("admin@acme")
    client, _ = await oauth.add(admin, crowd.north, "p")
    assert client.organisation == crowd.north
    for actor in (
        await crowd.actor("user@acme"),
        await crowd.actor("admin@acme", Permission.ORG_EDIT),
        await crowd.actor("admin@acme", Permission.RPC_CALL),
    ):
        with pytest.raises(Forbidden):
            await oauth.add(actor, crowd.acme, "p")
    for organisation in (crowd.root, crowd.globex):
        with pytest.raises(Conflict) as gone:
            await oauth.add(admin, organisation, "p")
        assert gone.value.cause is Cause.GONE


@pytest.mark.parametrize("label", ["", " ", "x" * 256, "a\nb", "a\x00b"])
async def test_a_label_is_a_line_of_text(oauth: OAuth, crowd: Crowd, label: str) -> None:
    with pytest.raises(Invalid):
        await oauth.add(crowd.operator, crowd.acme, label)


async def test_a_client_without_a_scope_is_none(oauth: OAuth, crowd: Crowd) -> None:
    with pytest.raises(Invalid):
        await oauth.add(crowd.operator, crowd.acme, "p", ())


async def test_who_sees_and_revokes_clients(oauth: OAuth, crowd: Crowd, program: Any) -> None:
    """Those at or below one's organisation: with ORG_VIEW, and with ORG_EDIT."""
    ours, theirs = (await program(crowd.north)).client, (await program(crowd.globex)).client
    admin, user = await crowd.actor("admin@acme"), await crowd.actor("user@acme")
    assert await oauth.clients(admin) == [ours]
    assert await oauth.clients(user) == [ours]
    assert await oauth.client(admin, theirs.name) is None
    viewer = await crowd.actor("viewer@acme")
    for refused in (oauth.clients(viewer), oauth.client(viewer, ours.name)):
        with pytest.raises(Forbidden):
            await refused
    with pytest.raises(Forbidden):
        await oauth.revoke(user, ours)
    with pytest.raises(Conflict):
        await oauth.revoke(admin, theirs)
    await oauth.revoke(admin, ours)
    with pytest.raises(Conflict):
        await oauth.revoke(admin, ours)
    assert await oauth.clients(crowd.operator) == [theirs]


async def test_a_client_is_authenticated_with_its_scope(
    oauth: OAuth, crowd: Crowd, program: Any
) -> None:
    """The name and the secret must fit; a scope it lacks is told like a wrong secret."""
    both = await program(crowd.acme, PLATFORM, GATEWAY)
    one = await program(crowd.acme, PLATFORM)
    for name, secret, scope, right in (
        (both.client.name, both.shown.secret, "gateway_api", True),
        (one.client.name, one.shown.secret, "gateway_api", False),
        (one.client.name, one.shown.secret, "", True),
        (one.client.name, both.shown.secret, "", False),
        (one.client.name, Secret(""), "", False),
        (one.client.name, Secret("x" * 5000), "", False),
        ("", one.shown.secret, "", False),
        ("oa2-client-id_" + "x" * 32, one.shown.secret, "", False),
        (one.client.name + "\x00", one.shown.secret, "", False),
    ):
        found = await oauth.authenticate(name, secret, scope)
        assert (found is not None) is right, (name, scope)


# ── client_credentials ────────────────────────────────────────────────────────────────────────


async def test_a_client_acts_for_its_organisation(
    oauth: OAuth, crowd: Crowd, program: Any, events: Told
) -> None:
    """It is nobody, and may do everything there; events name it."""
    one = await program()
    pair = await one.access()
    assert (len(pair.access.reveal()), len(pair.refresh.reveal()), pair.expires_s) == (40, 40, 100)
    actor = await who(oauth, pair.access)
    assert isinstance(actor, Actor)
    assert (actor.organisation, actor.permissions, actor.user) == (crowd.acme, ALL, None)
    assert (actor.peer.actor, actor.peer.address) == (one.client.name, PEER.address)
    assert actor.peer.request == PEER.request
    [told] = await events(EventKind.OAUTH_TOKEN)
    assert (told.subject, told.outcome, told.peer.actor) == (
        one.client.name,
        Outcome.SUCCESS,
        one.client.name,
    )
    assert told.detail == {"grant": "client_credentials"}


async def test_each_token_has_its_own_end(oauth: OAuth, program: Any, clock: Any) -> None:
    """The access token opens for `access_s`, to the millisecond, also when it was just known."""
    pair = await (await program()).access()
    clock.now += 99_999
    assert isinstance(await who(oauth, pair.access), Actor)
    clock.now += 1
    assert await who(oauth, pair.access) is Refusal.TOKEN
    assert await who(oauth, pair.refresh) is Refusal.TOKEN


@pytest.mark.parametrize("token", ["", "x", "x" * 40, "x" * 5000, "\x00", "\ud800"])
async def test_what_is_no_token_opens_nothing(oauth: OAuth, token: str) -> None:
    assert await who(oauth, Secret(token)) is Refusal.TOKEN


async def test_without_the_scope_access_opens_nothing(
    oauth: OAuth, crowd: Crowd, program: Any
) -> None:
    """It is given, and each call is refused (contract, section 6.2)."""
    one = await program(crowd.acme, GATEWAY)
    pair = await one.access()
    assert await who(oauth, pair.access) is Refusal.SCOPE
    assert isinstance(await oauth.actor(pair.access, PEER, GATEWAY), Actor)


async def test_a_revoked_client_is_gone_at_once(oauth: OAuth, crowd: Crowd, program: Any) -> None:
    """What it was given too, though it was looked up a moment ago."""
    one = await program()
    pair = await one.access()
    assert isinstance(await who(oauth, pair.access), Actor)
    await oauth.revoke(crowd.operator, one.client)
    assert await who(oauth, pair.access) is Refusal.TOKEN
    assert await oauth.client_access(one.shown, PEER) is Refusal.CLIENT
    assert await oauth.refreshed(one.shown, pair.refresh, PEER) is Refusal.CLIENT


async def test_what_another_process_ends_is_known_a_second_later(
    oauth: OAuth, new_oauth: Any, crowd: Crowd, program: Any, clock: Any
) -> None:
    one = await program()
    pair = await one.access()
    assert isinstance(await who(oauth, pair.access), Actor)
    await new_oauth().revoke(crowd.operator, one.client)
    clock.now += service.FRESH_MS
    assert await who(oauth, pair.access) is Refusal.TOKEN


async def test_known_tokens_are_bounded(
    oauth: OAuth, program: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the bound they are looked up again, and open as before."""
    monkeypatch.setattr(service, "MOST_KEPT", 3)
    one = await program()
    pairs = [await one.access() for _ in range(8)]
    for _ in range(2):
        for pair in pairs:
            assert isinstance(await who(oauth, pair.access), Actor)
            assert len(oauth._kept) <= 3


# ── refresh_token ─────────────────────────────────────────────────────────────────────────────


async def test_a_refresh_token_is_good_once(
    oauth: OAuth, crowd: Crowd, program: Any, events: Told
) -> None:
    """It yields a new pair for the same organisation; both older tokens are over at once."""
    one = await program()
    first = await one.access()
    assert isinstance(await who(oauth, first.access), Actor)
    second = await oauth.refreshed(one.shown, first.refresh, PEER)
    assert isinstance(second, Pair)
    assert len({first.access, first.refresh, second.access, second.refresh}) == 4
    assert await who(oauth, first.access) is Refusal.TOKEN
    actor = await who(oauth, second.access)
    assert isinstance(actor, Actor)
    assert actor.organisation == crowd.acme
    assert await oauth.refreshed(one.shown, first.refresh, PEER) is Refusal.GRANT
    *_, told, refused = await events(EventKind.OAUTH_TOKEN)
    assert told.detail == {"grant": "refresh_token"}
    assert (refused.outcome, refused.reason) == (Outcome.REFUSED, "wrong grant")


async def test_of_a_hundred_refreshes_one_succeeds(oauth: OAuth, program: Any) -> None:
    one = await program()
    pair = await one.access()
    ended = await asyncio.gather(
        *(oauth.refreshed(one.shown, pair.refresh, PEER) for _ in range(100))
    )
    assert sum(isinstance(one, Pair) for one in ended) == 1
    assert sum(one is Refusal.GRANT for one in ended) == 99


async def test_a_refresh_token_ends_after_its_time(oauth: OAuth, program: Any, clock: Any) -> None:
    one = await program()
    pair = await one.access()
    clock.now += 200_000
    assert await oauth.refreshed(one.shown, pair.refresh, PEER) is Refusal.GRANT


async def test_a_refresh_token_is_its_clients_alone(oauth: OAuth, program: Any) -> None:
    """Another client's attempt is refused and uses nothing up; an access token is none."""
    one, two = await program(), await program()
    pair = await one.access()
    for shown, token in (
        (two.shown, pair.refresh),
        (one.shown, pair.access),
        (one.shown, Secret("x" * 5000)),
    ):
        assert await oauth.refreshed(shown, token, PEER) is Refusal.GRANT
    assert isinstance(await oauth.refreshed(one.shown, pair.refresh, PEER), Pair)


# ── user_credentials ──────────────────────────────────────────────────────────────────────────


async def test_a_program_acts_as_the_user(
    oauth: OAuth, crowd: Crowd, program: Any, events: Told
) -> None:
    """With the user's permissions in the user's organisation, also after a refresh."""
    one = await program()
    pair = await one.access_for("user@north")
    assert isinstance(pair, Pair)
    pair = await oauth.refreshed(one.shown, pair.refresh, PEER)
    assert isinstance(pair, Pair)
    actor = await who(oauth, pair.access)
    assert isinstance(actor, Actor)
    assert actor.user is not None
    assert (actor.user.email, actor.organisation) == ("user@north.test", crowd.north)
    assert actor.permissions == (await crowd.actor("user@north")).permissions
    assert actor.peer.actor == "user@north.test"
    told = await events(EventKind.OAUTH_TOKEN)
    assert [one.detail for one in told] == [
        {"grant": "user_credentials", "user": "user@north.test"},
        {"grant": "refresh_token", "user": "user@north.test"},
    ]


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("user@acme", Secret("wrong horse 1")),
        ("user@acme", Secret("")),
        ("unknown@acme", PASSWORD),
        ("user@globex", PASSWORD),
        ("admin@root", PASSWORD),
    ],
)
async def test_wrong_users_are_told_alike(
    oauth: OAuth, program: Any, events: Told, name: str, password: Secret
) -> None:
    """A wrong password, an unknown user, and one whom the client does not reach."""
    one = await program()
    assert await one.access_for(name, password) is Refusal.GRANT
    [told] = await events(EventKind.USER_LOGIN)
    assert (told.outcome, told.reason) == (Outcome.REFUSED, "wrong password")
    [told] = await events(EventKind.OAUTH_TOKEN)
    assert (told.outcome, told.subject) == (Outcome.REFUSED, one.client.name)


async def test_wrong_passwords_count_as_at_a_login(
    crowd: Crowd, program: Any, clock: Any, store: SqlStore
) -> None:
    """Ten of one user, then neither a program nor a person tries again for a while."""
    one = await program()
    for _ in range(10):
        assert await one.access_for("user@acme", Secret("wrong horse 1")) is Refusal.GRANT
    later = await one.access_for("user@acme")
    assert later == Later(30)
    clock.now += 30_000
    assert isinstance(await one.access_for("user@acme"), Pair)


async def test_an_initial_password_ends_here_too(crowd: Crowd, program: Any, clock: Any) -> None:
    one = await program()
    user = crowd.users["user@acme"]
    await crowd.people.set_password(crowd.operator, user, PASSWORD, until=clock.now + 1000)
    assert isinstance(await one.access_for("user@acme"), Pair)
    clock.now += 1000
    assert await one.access_for("user@acme") is Refusal.GRANT


async def test_logins_by_programs_are_counted(store: SqlStore, crowd: Crowd, clock: Any) -> None:
    """As those of people are, by how they ended."""
    outcomes = defaultdict[str, int](int)
    logins = Logins(SqlPeople(store), crowd.passwords, clock=clock, outcomes=outcomes)
    oauth = OAuth(SqlOAuth(store), logins, clock=clock)
    one = Program(oauth, *await oauth.add(crowd.operator, crowd.acme, "p"))
    assert isinstance(await one.access_for("user@acme"), Pair)
    assert await one.access_for("user@acme", Secret("wrong horse 1")) is Refusal.GRANT
    assert outcomes == {"success": 1, "wrong": 1}


async def test_a_client_without_the_scope_asks_for_no_user(
    oauth: OAuth, crowd: Crowd, program: Any, events: Told
) -> None:
    """The password is not even looked at."""
    one = await program(crowd.acme, GATEWAY)
    assert await one.access_for("user@acme") is Refusal.UNAUTHORIZED
    assert await events(EventKind.USER_LOGIN) == []


async def test_a_change_of_password_ends_what_programs_may_do(
    oauth: OAuth, crowd: Crowd, program: Any, clock: Any
) -> None:
    """For this user; within a second."""
    one = await program()
    pair = await one.access_for("user@acme")
    assert isinstance(pair, Pair)
    assert isinstance(await who(oauth, pair.access), Actor)
    await crowd.people.set_password(
        crowd.operator, crowd.users["user@acme"], Secret("another horse 2")
    )
    clock.now += service.FRESH_MS
    assert await who(oauth, pair.access) is Refusal.TOKEN
    assert await oauth.refreshed(one.shown, pair.refresh, PEER) is Refusal.GRANT


async def test_a_clock_set_back_keeps_no_access_alive(
    oauth: OAuth, crowd: Crowd, program: Any, clock: Any, store: SqlStore
) -> None:
    """What another process revoked opens nothing, though it was known until a later time."""
    one = await program()
    pair = await one.access()
    assert isinstance(await who(oauth, pair.access), Actor)
    elsewhere = OAuth(SqlOAuth(store), crowd.logins, clock=clock)
    await elsewhere.revoke(crowd.operator, one.client)
    clock.now -= 3_600_000
    assert await who(oauth, pair.access) is Refusal.TOKEN


async def test_a_user_moved_away_as_access_was_given(
    store: SqlStore, crowd: Crowd, clock: Any
) -> None:
    """A client acts for nobody who is out of its reach, however that came about."""

    class Moving(Logins):
        """The user is moved between its password and the access."""

        async def prove(self, *shown: Any, **how: Any) -> Any:
            known = await super().prove(*shown, **how)
            user = crowd.users["user@acme"]
            await crowd.people.save_user(
                crowd.operator,
                email=user.email,
                organisation=crowd.globex,
                role=user.role,
                uuid=user.uuid,
            )
            return known

    logins = Moving(SqlPeople(store), crowd.passwords, clock=clock)
    oauth = OAuth(SqlOAuth(store), logins, clock=clock)
    one = Program(oauth, *await oauth.add(crowd.operator, crowd.acme, "p"))
    pair = await one.access_for("user@acme")
    assert isinstance(pair, Pair)
    assert await who(oauth, pair.access) is Refusal.TOKEN


async def test_permissions_are_those_of_now(
    oauth: OAuth, crowd: Crowd, program: Any, clock: Any
) -> None:
    """A role that changes changes what its users' programs may do, within a second."""
    one = await program()
    pair = await one.access_for("viewer@acme")
    assert isinstance(pair, Pair)
    [role] = [r for r in await crowd.people.roles(crowd.operator) if r.name == "viewer"]
    await crowd.people.save_role(
        crowd.operator,
        name="viewer",
        permissions=[Permission.RPC_CALL],
        organisation=crowd.acme,
        uuid=role.uuid,
    )
    clock.now += service.FRESH_MS
    actor = await who(oauth, pair.access)
    assert isinstance(actor, Actor)
    assert actor.permissions == {Permission.RPC_CALL}


# ── revocation of tokens ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("which", ["access", "refresh"])
async def test_a_program_ends_its_access(
    oauth: OAuth, program: Any, events: Told, which: str
) -> None:
    """By either token, at once; ending it again, or another's, is no mistake and does nothing."""
    one, two = await program(), await program()
    pair = await one.access()
    assert isinstance(await who(oauth, pair.access), Actor)
    assert await oauth.ended(two.shown, getattr(pair, which), PEER) is None
    assert isinstance(await who(oauth, pair.access), Actor)
    for _ in range(2):
        assert await oauth.ended(one.shown, getattr(pair, which), PEER) is None
        assert await who(oauth, pair.access) is Refusal.TOKEN
    assert await oauth.refreshed(one.shown, pair.refresh, PEER) is Refusal.GRANT
    [told] = await events(EventKind.OAUTH_TOKEN_REVOKE)
    assert told.subject == one.client.name
    wrong = Credentials(one.client.name, Secret("wrong"))
    assert await oauth.ended(wrong, pair.access, PEER) is Refusal.CLIENT


# ── bounds ────────────────────────────────────────────────────────────────────────────────────


async def test_an_address_is_wrong_so_often(new_oauth: Any, crowd: Crowd, clock: Any) -> None:
    """Then it waits, with the right secret too; other addresses do not."""
    oauth = new_oauth(wrong_clients=parse_rate("3:60"))
    client, secret = await oauth.add(crowd.operator, crowd.acme, "p")
    right, wrong = Credentials(client.name, secret), Credentials(client.name, Secret("x" * 40))
    for _ in range(3):
        assert await oauth.client_access(wrong, PEER) is Refusal.CLIENT
    assert await oauth.client_access(right, PEER) == Later(20)
    assert await oauth.refreshed(right, Secret("x"), PEER) == Later(20)
    assert await oauth.ended(right, Secret("x"), PEER) == Later(20)
    other = Peer(Wire.HTTP, "198.51.100.7:1")
    assert isinstance(await oauth.client_access(right, other), Pair)
    clock.now += 20_000
    assert isinstance(await oauth.client_access(right, PEER), Pair)


async def test_the_programs_of_an_organisation_call_so_often(
    new_oauth: Any, crowd: Crowd, clock: Any
) -> None:
    """All together; asking for access counts as a call."""
    oauth = new_oauth(requests=parse_rate("3:60"))
    client, secret = await oauth.add(crowd.operator, crowd.acme, "p")
    shown = Credentials(client.name, secret)
    assert isinstance(await oauth.client_access(shown, PEER), Pair)
    assert [oauth.wait_s(crowd.acme) for _ in range(4)] == [0, 0, 20, 20]
    assert await oauth.client_access(shown, PEER) == Later(20)
    assert oauth.wait_s(crowd.globex) == 0
    clock.now += 20_000
    assert oauth.wait_s(crowd.acme) == 0


async def test_refusals_do_not_fill_the_audit_log(oauth: OAuth, clock: Any, events: Told) -> None:
    """Of many some are told, and later how many there were besides. A secret in the place of a
    name is not."""
    for _ in range(50):
        shown = Credentials("a-secret-in-the-wrong-place", Secret("x"))
        assert await oauth.client_access(shown, PEER) is Refusal.CLIENT
    clock.now += 1000
    name = "oa2-client-id_" + "x" * 32
    await oauth.client_access(Credentials(name, Secret("x")), PEER)
    told = await events(EventKind.OAUTH_TOKEN)
    assert len(told) == 21
    assert {one.subject for one in told} == {"", name}
    assert {(one.outcome, one.reason) for one in told} == {(Outcome.REFUSED, "wrong client")}
    assert told[-1].detail == {"besides": "30"}
    assert "wrong-place" not in repr(told)


def test_nothing_that_is_printed_shows_a_secret() -> None:
    """Neither a pair nor what a client shows of itself."""
    secret = Secret("hush")
    pair = Pair(access=secret, refresh=secret, expires_s=1)
    assert "hush" not in repr((pair, Credentials("n", secret)))
