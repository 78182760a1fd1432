"""Passwords, sessions and keys for scripts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from people import PASSWORD, PEER, Crowd, make_crowd

from gateway.core.errors import Cause, Conflict, Forbidden, Invalid, Overloaded
from gateway.core.logins import LoginRefusal, Logins, Session
from gateway.core.model import (
    BUILT_IN_ROLES,
    CUSTOMER_USER,
    EventKind,
    Outcome,
    Peer,
    Permission,
    Secret,
    Wire,
)
from gateway.store.sql_people import SqlPeople
from gateway.store.sql_registrar import SqlRegistrar
from gateway.store.sql_store import SqlStore

WRONG = Secret("wrong horse 9")
NEW = Secret("another horse 2")


@pytest.fixture
async def crowd(store: SqlStore, clock: Any) -> AsyncIterator[Crowd]:
    made = await make_crowd(store, clock)
    yield made
    made.close()


def peer(number: int) -> Peer:
    return Peer(Wire.HTTP, f"198.51.100.{number}:1000")


async def told(store: SqlStore, kind: EventKind) -> list[Any]:
    await store.writer.settled()
    found = await SqlRegistrar(store).events(after_seq=0, limit=1000, device_id=None)
    return [one for one in found if one.kind is kind]


# ── passwords ─────────────────────────────────────────────────────────────────────────────────


async def test_who_knows_the_password_is_somebody(crowd: Crowd, clock: Any) -> None:
    """A session says who it is, where it stands and what it may; its actor is that user."""
    session = await crowd.logins.login(" USER@acme.test", PASSWORD, PEER)
    assert isinstance(session, Session)
    assert (session.user.email, session.organisation, session.root) == (
        "user@acme.test",
        crowd.acme,
        crowd.root,
    )
    assert session.permissions == BUILT_IN_ROLES[CUSTOMER_USER]
    assert session.expires_at == clock.now + 604_800_000
    actor = await crowd.logins.actor(session.id, PEER)
    assert actor is not None
    assert (actor.peer.actor, actor.peer.address, actor.peer.request, actor.session) == (
        "user@acme.test",
        PEER.address,
        "request-1",
        session.id,
    )
    assert actor.user is not None
    assert actor.user.last_login_at == clock.now
    assert actor.permissions == session.permissions


@pytest.mark.parametrize(
    ("email", "password"),
    [
        ("user@acme.test", WRONG),
        ("user@acme.test", Secret("")),
        ("user@acme.test", Secret("x" * 5000)),
        ("user@acme.test", Secret("\ud800\x00")),
        ("nobody@nowhere.test", PASSWORD),
        ("", PASSWORD),
        ("no address", PASSWORD),
        ("x" * 5000, PASSWORD),
        ("user@acme.test\x00", PASSWORD),
    ],
)
async def test_a_wrong_login_is_told_no_more(crowd: Crowd, email: str, password: Secret) -> None:
    """Whether the password, the user or the form of either is wrong: the answer is one."""
    assert await crowd.logins.login(email, password, PEER) == LoginRefusal.WRONG


async def test_a_disabled_user_is_nobody(crowd: Crowd) -> None:
    """Neither the right password nor a key lets it in, and the answer is that of a wrong one."""
    user = crowd.users["user@acme"]
    _, key = await crowd.logins.add_key(crowd.operator, user, "script")
    await crowd.people.save_user(
        crowd.operator,
        email=user.email,
        organisation=crowd.acme,
        role=user.role,
        enabled=False,
        uuid=user.uuid,
    )
    assert await crowd.logins.login(user.email, PASSWORD, PEER) == LoginRefusal.WRONG
    assert await crowd.logins.actor_by_key(key, PEER) is None


async def test_a_user_without_a_password_cannot_log_in(crowd: Crowd) -> None:
    """Not with an empty one either."""
    await crowd.people.save_user(
        crowd.operator, email="n@n.n", organisation=crowd.acme, role=CUSTOMER_USER
    )
    for text in ("", "None", "null"):
        assert await crowd.logins.login("n@n.n", Secret(text), PEER) == LoginRefusal.WRONG


async def test_unknown_users_cost_a_hash_too(crowd: Crowd, monkeypatch: Any) -> None:
    """For every login exactly one password is verified, whoever it is for."""
    verified = 0
    verify = crowd.passwords.verify

    async def counted(kept: Secret | None, password: Secret) -> bool:
        nonlocal verified
        verified += 1
        return await verify(kept, password)

    monkeypatch.setattr(crowd.passwords, "verify", counted)
    for email in ("user@acme.test", "nobody@nowhere.test", "no address"):
        await crowd.logins.login(email, WRONG, PEER)
    await crowd.logins.login("user@acme.test", Secret("x" * 5000), PEER)
    assert verified == 4


async def test_wrong_passwords_are_throttled_by_account(crowd: Crowd, clock: Any) -> None:
    """After ten from anywhere even the right one waits, whether there is such a user or not."""
    for email in ("user@acme.test", "nobody@nowhere.test"):
        for number in range(10):
            refused = await crowd.logins.login(email, WRONG, peer(number))
            assert refused == LoginRefusal.WRONG
        refused = await crowd.logins.login(email, PASSWORD, peer(99))
        assert refused == LoginRefusal("throttled", 30)
    clock.now += 30_000
    assert isinstance(await crowd.logins.login("user@acme.test", PASSWORD, peer(99)), Session)


async def test_wrong_passwords_are_throttled_by_address(crowd: Crowd, clock: Any) -> None:
    """After fifty from one address, of whatever port, it waits; another address does not."""
    for number in range(50):
        at = Peer(Wire.HTTP, f"198.51.100.1:{number}")
        await crowd.logins.login(f"user{number}@acme.test", WRONG, at)
    refused = await crowd.logins.login("user@acme.test", PASSWORD, peer(1))
    assert refused == LoginRefusal("throttled", 6)
    assert isinstance(await crowd.logins.login("user@acme.test", PASSWORD, peer(2)), Session)


async def test_many_guesses_at_once_are_no_more(crowd: Crowd) -> None:
    """Of a hundred wrong passwords in flight for one account ten are looked at."""
    tried = await asyncio.gather(
        *(crowd.logins.login("user@acme.test", WRONG, peer(n)) for n in range(100))
    )
    assert tried.count(LoginRefusal.WRONG) == 10
    assert all(isinstance(one, LoginRefusal) for one in tried)


async def test_right_passwords_are_not_throttled(crowd: Crowd) -> None:
    """A hundred logins of one user from one address at once all succeed."""
    tried = await asyncio.gather(
        *(crowd.logins.login("user@acme.test", PASSWORD, PEER) for _ in range(100))
    )
    assert all(isinstance(one, Session) for one in tried)


async def test_waiting_logins_are_bounded(store: SqlStore, crowd: Crowd, clock: Any) -> None:
    """Beyond the bound a login is told to come later, and the others go on."""
    logins = Logins(SqlPeople(store), crowd.passwords, clock=clock, max_waiting=3)
    tried = await asyncio.gather(
        *(logins.login("user@acme.test", PASSWORD, PEER) for _ in range(5)),
        return_exceptions=True,
    )
    assert [type(one) for one in tried] == [Session, Session, Session, Overloaded, Overloaded]
    assert isinstance(await logins.login("user@acme.test", PASSWORD, PEER), Session)


async def test_logins_are_told(crowd: Crowd, store: SqlStore) -> None:
    """Each with its outcome, address and author; what is no address is not repeated."""
    await crowd.logins.login("user@acme.test", PASSWORD, PEER)
    await crowd.logins.login("user@acme.test", WRONG, PEER)
    await crowd.logins.login(WRONG.reveal(), WRONG, PEER)
    found = await told(store, EventKind.USER_LOGIN)
    assert [(one.outcome, one.reason, one.subject, one.peer.actor) for one in found] == [
        (Outcome.SUCCESS, "", "user@acme.test", "user@acme.test"),
        (Outcome.REFUSED, "wrong password", "user@acme.test", ""),
        (Outcome.REFUSED, "wrong password", "", ""),
    ]
    assert found[0].object == crowd.users["user@acme"].uuid
    assert WRONG.reveal() not in repr(found)


async def test_a_flood_of_logins_is_told_in_short(crowd: Crowd, store: SqlStore) -> None:
    """Ten of the throttled are told, the others only counted."""
    for _ in range(200):
        await crowd.logins.login("user@acme.test", WRONG, PEER)
    reasons = [one.reason for one in await told(store, EventKind.USER_LOGIN)]
    assert (reasons.count("wrong password"), reasons.count("throttled")) == (10, 10)


async def test_a_password_changed_meanwhile_opens_nothing(crowd: Crowd, store: SqlStore) -> None:
    """A login that read the old password and is slow finds it changed when it begins a session."""
    kept = SqlPeople(store)
    known = await kept.known_by_email("user@acme.test")
    assert known is not None
    await crowd.people.set_password(crowd.operator, known.user, NEW)
    [event] = (await told(store, EventKind.USER_PASSWORD))[:1]
    assert await kept.begin_session(known, event, expires_at=event.at + 1000, most=5) is None


async def test_no_secret_shows(crowd: Crowd) -> None:
    """Neither a password nor what is kept of it is in what is printed of a user."""
    known = await SqlPeople(crowd.logins._store._store).known_by_email(  # type: ignore[attr-defined]
        "user@acme.test"
    )
    assert known is not None
    assert "argon2" not in repr(known)


# ── sessions ──────────────────────────────────────────────────────────────────────────────────


async def test_a_session_ends_in_time(crowd: Crowd, clock: Any) -> None:
    """Without a refresh it ends after its time, and cannot be refreshed then."""
    session = await crowd.login("user@acme")
    clock.now = session.expires_at - 1
    assert await crowd.logins.actor(session.id, PEER) is not None
    clock.now += 1
    assert await crowd.logins.actor(session.id, PEER) is None
    assert await crowd.logins.refresh(session.id, PEER) is None


async def test_a_refreshed_session_goes_on(crowd: Crowd, clock: Any) -> None:
    """It is the same session, good for its whole time again."""
    session = await crowd.login("user@acme")
    clock.now = session.expires_at - 1
    again = await crowd.logins.refresh(session.id, PEER)
    assert again is not None
    assert (again.id, again.expires_at) == (session.id, clock.now + 604_800_000)
    clock.now += 604_799_999
    assert await crowd.logins.actor(session.id, PEER) is not None


@pytest.mark.parametrize("text", ["", "x", "00000000-0000-4000-8000-000000000000", "\x00"])
async def test_an_unknown_session_is_nobodys(crowd: Crowd, text: str) -> None:
    """Text that names no session is nobody, in a look-up as in a refresh."""
    assert await crowd.logins.actor(text, PEER) is None
    assert await crowd.logins.refresh(text, PEER) is None


async def test_a_logout_ends_its_session_alone(crowd: Crowd, store: SqlStore) -> None:
    """The other sessions of the user go on; the second logout does nothing."""
    other, actor = await crowd.login("user@acme"), await crowd.actor("user@acme")
    for _ in range(2):
        await crowd.logins.logout(actor)
    assert await crowd.logins.actor(actor.session, PEER) is None
    assert await crowd.logins.actor(other.id, PEER) is not None
    assert len(await told(store, EventKind.USER_LOGOUT)) == 1
    await crowd.logins.logout(crowd.operator)


async def test_all_sessions_end_together(crowd: Crowd) -> None:
    """Somebody with authority logs a user out everywhere."""
    sessions = [await crowd.login("user@acme") for _ in range(3)]
    assert await crowd.logins.logout_all(crowd.operator, crowd.users["user@acme"]) == 3
    assert [await crowd.logins.actor(one.id, PEER) for one in sessions] == [None] * 3


async def test_sessions_of_a_user_are_bounded(store: SqlStore, crowd: Crowd, clock: Any) -> None:
    """With one too many the oldest ends; other users keep theirs."""
    logins = Logins(SqlPeople(store), crowd.passwords, clock=clock, most_sessions=2)
    other = await crowd.login("user@globex")
    sessions = []
    for _ in range(3):
        clock.now += 1
        sessions.append(await logins.login("user@acme.test", PASSWORD, PEER))
    living = [await logins.actor(one.id, PEER) is not None for one in (*sessions, other)]  # type: ignore[union-attr]
    assert living == [False, True, True, True]


async def test_permissions_are_those_of_now(crowd: Crowd) -> None:
    """A role that is changed counts from the next call on, in a session as with a key."""
    actor = await crowd.actor("viewer@acme")
    _, key = await crowd.logins.add_key(crowd.operator, crowd.users["viewer@acme"], "script")
    role = await crowd.people.role(crowd.operator, "viewer", crowd.acme)
    assert role is not None
    await crowd.people.save_role(
        crowd.operator, name="viewer", permissions=[Permission.ORG_VIEW], uuid=role.uuid
    )
    for now in (
        await crowd.logins.actor(actor.session, PEER),
        await crowd.logins.actor_by_key(key, PEER),
    ):
        assert now is not None
        assert now.permissions == {Permission.ORG_VIEW}


# ── keys for scripts ──────────────────────────────────────────────────────────────────────────


async def test_a_key_acts_for_its_user(crowd: Crowd) -> None:
    """With what the user may, from where it stands, without a session."""
    user = crowd.users["user@acme"]
    made, key = await crowd.logins.add_key(crowd.operator, user, " nightly ")
    actor = await crowd.logins.actor_by_key(key, PEER)
    assert actor is not None
    assert actor.user is not None
    assert (actor.user.id, actor.organisation, actor.session) == (user.id, crowd.acme, "")
    assert actor.permissions == BUILT_IN_ROLES[CUSTOMER_USER]
    assert actor.peer.actor == user.email
    assert made.label == "nightly"
    assert key.reveal().startswith("gh_")
    assert len(key.reveal()) == 43


async def test_a_key_may_allow_less(crowd: Crowd) -> None:
    """It allows what it names of what its user may now, and cannot make itself a better one."""
    user = crowd.users["admin@acme"]
    some = frozenset({Permission.ORG_VIEW, Permission.MANAGE_STATIC_TOKENS})
    _, key = await crowd.logins.add_key(crowd.operator, user, "small", some)
    actor = await crowd.logins.actor_by_key(key, PEER)
    assert actor is not None
    assert actor.permissions == some
    for permissions in (None, frozenset({Permission.ORG_DELETE})):
        with pytest.raises(Forbidden):
            await crowd.logins.add_key(actor, user, "large", permissions)


async def test_a_key_allows_no_more_than_its_user(crowd: Crowd) -> None:
    """Neither when it is made, nor later when the user may less."""
    user = crowd.users["user@acme"]
    with pytest.raises(Invalid):
        await crowd.logins.add_key(crowd.operator, user, "x", frozenset({Permission.ORG_DELETE}))
    _, key = await crowd.logins.add_key(crowd.operator, user, "x", frozenset({Permission.ORG_VIEW}))
    await crowd.people.save_user(
        crowd.operator,
        email=user.email,
        organisation=crowd.acme,
        role="viewer",
        uuid=user.uuid,
    )
    actor = await crowd.logins.actor_by_key(key, PEER)
    assert actor is not None
    assert actor.permissions == frozenset()


async def test_a_key_ends(crowd: Crowd, clock: Any) -> None:
    """At its time, or when it is revoked; a revoked one is gone from the list."""
    user = crowd.users["user@acme"]
    _, short = await crowd.logins.add_key(
        crowd.operator, user, "short", expires_at=clock.now + 1000
    )
    made, long = await crowd.logins.add_key(crowd.operator, user, "long")
    assert await crowd.logins.actor_by_key(short, PEER) is not None
    clock.now += 1000
    assert await crowd.logins.actor_by_key(short, PEER) is None
    await crowd.logins.revoke_key(crowd.operator, user, made.uuid)
    assert await crowd.logins.actor_by_key(long, PEER) is None
    assert [one.label for one in await crowd.logins.keys(crowd.operator, user)] == ["short"]
    for uuid in (made.uuid, "", "x"):
        with pytest.raises(Conflict) as gone:
            await crowd.logins.revoke_key(crowd.operator, user, uuid)
        assert gone.value.cause is Cause.GONE


async def test_the_use_of_a_key_is_noted_once_a_minute(
    crowd: Crowd, store: SqlStore, clock: Any
) -> None:
    """The first use and those a minute apart are written down, those between are not."""
    user = crowd.users["user@acme"]
    _, key = await crowd.logins.add_key(crowd.operator, user, "script")
    begun, noted = clock.now, []
    for later in (0, 59_999, 60_000):
        clock.now = begun + later
        await crowd.logins.actor_by_key(key, PEER)
        await store.writer.settled()
        noted += [one.last_used_at for one in await crowd.logins.keys(crowd.operator, user)]
    assert noted == [begun, begun, begun + 60_000]


async def test_a_key_of_another_is_out_of_reach(crowd: Crowd) -> None:
    """An admin of a customer neither makes, lists nor revokes keys of its brother's users."""
    actor, user = await crowd.actor("admin@acme"), crowd.users["user@globex"]
    made, _ = await crowd.logins.add_key(crowd.operator, user, "script")
    for attempt in (
        crowd.logins.add_key(actor, user, "x"),
        crowd.logins.keys(actor, user),
        crowd.logins.revoke_key(actor, user, made.uuid),
    ):
        with pytest.raises(Conflict) as gone:
            await attempt
        assert gone.value.cause is Cause.GONE


@pytest.mark.parametrize("fields", [{"label": " "}, {"label": "x" * 256}, {"label": "a\nb"}])
async def test_a_label_is_a_line_of_text(crowd: Crowd, fields: dict[str, str]) -> None:
    """Blank, over-long and unprintable labels make no key."""
    with pytest.raises(Invalid):
        await crowd.logins.add_key(crowd.operator, crowd.users["user@acme"], **fields)


async def test_a_key_is_not_made_for_the_past(crowd: Crowd, clock: Any) -> None:
    """Its end lies in the future."""
    user = crowd.users["user@acme"]
    with pytest.raises(Invalid):
        await crowd.logins.add_key(crowd.operator, user, "x", expires_at=clock.now)


async def test_keys_of_a_user_are_bounded(store: SqlStore, crowd: Crowd, clock: Any) -> None:
    """Of many made at once no more than the bound are."""
    logins = Logins(SqlPeople(store), crowd.passwords, clock=clock, most_keys=3)
    user = crowd.users["user@acme"]
    made = await asyncio.gather(
        *(logins.add_key(crowd.operator, user, f"key {n}") for n in range(5)),
        return_exceptions=True,
    )
    assert sum(isinstance(one, Conflict) for one in made) == 2
    assert len(await logins.keys(crowd.operator, user)) == 3


async def test_keys_and_sessions_are_told(crowd: Crowd, store: SqlStore) -> None:
    """Making and revoking a key are events with their author and label, without the key."""
    user = crowd.users["user@acme"]
    made, key = await crowd.logins.add_key(crowd.operator, user, "script")
    await crowd.logins.revoke_key(crowd.operator, user, made.uuid)
    for kind in (EventKind.USER_KEY_CREATE, EventKind.USER_KEY_REVOKE):
        [event] = await told(store, kind)
        assert (event.subject, event.object, event.detail["label"]) == (
            user.email,
            user.uuid,
            "script",
        )
        assert event.peer.actor == "tester"
        assert key.reveal() not in repr(event)


async def test_a_key_is_kept_as_a_digest(crowd: Crowd, store: SqlStore) -> None:
    """Nothing in the store is the key, nor a digest of it that needs no master key."""
    _, key = await crowd.logins.add_key(crowd.operator, crowd.users["user@acme"], "script")
    row = await store.driver.point("find_key", store.vault.digest(f"api key {key.reveal()}"), 0)
    assert row is not None
    assert key.reveal() not in repr(row)
    assert await store.driver.point("find_key", key.reveal().encode(), 0) is None


def test_logins_without_a_limit_are_refused(store: SqlStore) -> None:
    """Wrong passwords are always limited."""
    with pytest.raises(ValueError):
        Logins(SqlPeople(store), object(), clock=lambda: 0, account_rate="")  # type: ignore[arg-type]
