"""`gatehouse org`, `user` and `role`."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway.cli.first_admin import first_admin_lines
from gateway.cli.new_password import asked_password
from gateway.clock import now_ms
from gateway.core.logins import LoginRefusal, Logins, Session
from gateway.core.model import Actor, Peer, Permission, Secret, User, Wire
from gateway.passwords import Argon2Passwords
from gateway.store.sql_people import SqlPeople

PEER = Peer(Wire.HTTP, "192.0.2.1:1")
ADA = "ada@acme.test"


@pytest.fixture
def acme(shell: Any) -> Any:
    """A shell with an organisation `Acme` and one below it."""
    shell.ok("org", "add", "Acme")
    shell.ok("org", "add", "North", "--below", "Acme")
    return shell


@pytest.fixture
def ada(acme: Any) -> Any:
    acme.ok("user", "add", ADA, "--org", "Acme", "--password-env", "PW", PW="correct horse 1")
    return acme


def login(shell: Any, email: str, password: str) -> Session | LoginRefusal:
    async def attempt() -> Session | LoginRefusal:
        async with shell.inside() as inside:
            hasher = Argon2Passwords()
            try:
                logins = Logins(SqlPeople(inside.store), hasher, clock=now_ms)
                return await logins.login(email, Secret(password), PEER)
            finally:
                hasher.close()

    return asyncio.run(attempt())


def by_key(shell: Any, key: str) -> Actor | None:
    async def attempt() -> Actor | None:
        async with shell.inside() as inside:
            hasher = Argon2Passwords()
            logins = Logins(SqlPeople(inside.store), hasher, clock=now_ms)
            hasher.close()
            return await logins.actor_by_key(Secret(key), PEER)

    return asyncio.run(attempt())


# ── organisations ─────────────────────────────────────────────────────────────────────────────


def test_organisations_are_shown_as_a_tree(acme: Any) -> None:
    """Each with its place; those below one alone, or those with a text in the name."""
    assert [one["name"] for one in acme.json("org", "list")][1:] == ["Acme", "North"]
    assert acme.json("org", "list")[0]["parent_id"] is None
    assert "root / Acme / North" in acme.ok("org", "list")
    assert [one["name"] for one in acme.json("org", "list", "--below", "Acme")] == ["North"]
    assert [one["name"] for one in acme.json("org", "list", "--search", "acm")] == ["Acme"]
    told = acme("org", "list", "--limit", "1")
    assert "1 more" in told.stderr


def test_an_organisation_is_shown(ada: Any) -> None:
    """By name or UUID, with how much there is in it; the root by its word."""
    told = ada.json("org", "show", "Acme")
    assert (told["organisations"], told["users"]) == (1, 1)
    assert ada.json("org", "show", told["uuid"]) == told
    assert (told["devices"], told["profiles"]) == (0, 0)
    root = ada.json("org", "show", "root")
    assert root["organisations"] == 2
    assert root["profiles"] == len(ada.json("profile", "list"))
    assert "1970" not in ada.ok("org", "show", "root")
    assert "root / Acme" in ada.ok("org", "show", "Acme")


def test_an_organisation_is_renamed_and_removed(acme: Any) -> None:
    """Under its new name it goes, once nothing is below it."""
    acme.ok("org", "rename", "Acme", "Initech")
    assert acme.json("org", "show", "Initech")["version"] == 2
    kept = acme("org", "remove", "Initech", "--yes")
    assert kept.exit_code == 1
    assert "organisations below it" in kept.output
    acme.ok("org", "remove", "North", "--yes")
    acme.ok("org", "remove", "Initech", "--yes")
    assert [one["parent_id"] for one in acme.json("org", "list")] == [None]
    assert "there is none" in acme("org", "list").stderr


def test_removing_wants_an_answer(ada: Any) -> None:
    """Where nobody can be asked, nothing is removed without --yes."""
    for words in (
        ("org", "remove", "North"),
        ("user", "remove", ADA),
        ("role", "remove", "x"),
        ("user", "key", "revoke", ADA, "x"),
    ):
        assert ada(*words).exit_code == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("org", "show", "Acmee"), "Did you mean `Acme`?"),
        (("org", "show", "zzzzz"), "gatehouse org list"),
        (("org", "add", "x", "--below", "Nort"), "Did you mean `North`?"),
        (("user", "show", "ade@acme.test"), f"Did you mean `{ADA}`?"),
        (("user", "show", "zzz"), "gatehouse user list"),
        (("user", "add", "n@n.n", "--role", "TENANT_ADMINS"), "Did you mean `TENANT_ADMIN`?"),
        (("role", "show", "zzz"), "gatehouse role list"),
        (("user", "key", "revoke", ADA, "zzz", "--yes"), "gatehouse user key list"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(
    ada: Any, words: tuple[str, ...], told: str
) -> None:
    """Or with the command that shows what there is."""
    result = ada(*words)
    assert result.exit_code == 1
    assert told in result.output


def test_of_two_of_one_name_the_uuid_decides(acme: Any) -> None:
    """A name that is there twice names neither."""
    for parent in ("Acme", "North"):
        acme.ok("org", "add", "Twin", "--below", parent)
    result = acme("org", "show", "Twin")
    assert result.exit_code == 1
    assert "several organisations" in result.output
    uuids = [one["uuid"] for one in acme.json("org", "list", "--search", "Twin")]
    assert acme.json("org", "show", uuids[1])["uuid"] == uuids[1]


# ── users ─────────────────────────────────────────────────────────────────────────────────────


def test_a_user_logs_in_with_the_password_of_the_environment(ada: Any) -> None:
    """The command prints no password that somebody else chose."""
    assert isinstance(login(ada, ADA, "correct horse 1"), Session)
    result = ada(
        "user", "add", "b@acme.test", "--password-env", "PW", "--json", PW="correct horse 1"
    )
    assert "horse" not in result.output


def test_a_password_that_is_made_is_shown_once(acme: Any) -> None:
    """Where nobody can be asked one is made, printed, and works."""
    told = acme.json("user", "add", ADA, "--org", "North", "--role", "TENANT_ADMIN")
    session = login(acme, ADA, told["password"])
    assert isinstance(session, Session)
    assert session.organisation.name == "North"
    assert session.permissions == frozenset(Permission)
    shown = acme.ok("user", "password", ADA, "--generate").split()
    again = shown[shown.index("password", 3) + 1]
    assert login(acme, ADA, told["password"]) == LoginRefusal.WRONG
    assert isinstance(login(acme, ADA, again), Session)


def test_a_password_is_no_argument(acme: Any) -> None:
    """Neither too short, nor from a variable that is not set, nor from two places."""
    for env in ({"PW": "short"}, {}):
        result = acme("user", "add", ADA, "--password-env", "PW", **env)
        assert result.exit_code in (1, 2)
    assert acme("user", "add", ADA, "--password-env", "PW", "--generate", PW="x").exit_code == 2
    assert acme.json("user", "list") == []


def test_users_are_listed_and_shown(ada: Any) -> None:
    """With their organisation, role and state, and no trace of a password."""
    [row] = ada.json("user", "list", "--org", "Acme")
    assert (row["email"], row["organisation"], row["role"]) == (ADA, "Acme", "CUSTOMER_USER")
    assert ada.json("user", "show", ADA) == row
    assert ada.json("user", "list", "--org", "North") == []
    for words in (("user", "list"), ("user", "show", ADA)):
        text = ada.ok(*words)
        assert "Acme" in text
        assert "argon2" not in text
    assert "argon2" not in json.dumps(row)


def test_a_disabled_user_stays_out(ada: Any) -> None:
    """Until it is enabled again."""
    ada.ok("user", "disable", ADA)
    assert login(ada, ADA, "correct horse 1") == LoginRefusal.WRONG
    assert "disabled" in ada.ok("user", "list")
    ada.ok("user", "enable", ADA)
    assert isinstance(login(ada, ADA, "correct horse 1"), Session)


def test_a_removed_user_is_gone(ada: Any) -> None:
    """And its address can be given again."""
    ada.ok("user", "remove", ADA, "--yes")
    assert ada("user", "show", ADA).exit_code == 1
    ada.ok("user", "add", ADA, "--generate")


# ── keys ──────────────────────────────────────────────────────────────────────────────────────


def test_a_key_is_shown_once_and_revoked(ada: Any) -> None:
    """What is printed opens; the list tells of it without it; revoked, it opens nothing."""
    made = ada("user", "key", "add", ADA, "nightly", "--expires", "90d")
    assert "shown this once" in made.stderr
    key = made.stdout.strip()
    actor = by_key(ada, key)
    assert actor is not None
    assert actor.peer.actor == ADA
    [row] = ada.json("user", "key", "list", ADA)
    assert (row["label"], row["permissions"]) == ("nightly", None)
    assert row["expires_at"] > now_ms()
    assert key not in ada.ok("user", "key", "list", ADA)
    ada.ok("user", "key", "revoke", ADA, "nightly", "--yes")
    assert by_key(ada, key) is None
    assert "has no keys" in ada("user", "key", "list", ADA).stderr


def test_a_key_may_allow_less(ada: Any) -> None:
    """It allows what is named alone, in either case; not what its user may not."""
    told = ada.json("user", "key", "add", ADA, "read", "--allow", "org_view")
    actor = by_key(ada, told["key"])
    assert actor is not None
    assert actor.permissions == {Permission.ORG_VIEW}
    assert ada("user", "key", "add", ADA, "x", "--allow", "ORG_DELETE").exit_code == 1
    assert ada("user", "key", "add", ADA, "x", "--allow", "FLY").exit_code == 2


def test_of_two_keys_of_one_label_the_uuid_decides(ada: Any) -> None:
    """A label that is there twice names neither."""
    uuids = [ada.json("user", "key", "add", ADA, "twin")["uuid"] for _ in range(2)]
    assert ada("user", "key", "revoke", ADA, "twin", "--yes").exit_code == 1
    ada.ok("user", "key", "revoke", ADA, uuids[0], "--yes")
    assert [one["uuid"] for one in ada.json("user", "key", "list", ADA)] == uuids[1:]


# ── roles ─────────────────────────────────────────────────────────────────────────────────────


def test_a_role_is_made_changed_and_removed(ada: Any) -> None:
    """It holds for users below its organisation, and stays while somebody has it."""
    ada.ok("role", "add", "viewer", "--org", "Acme", "--allow", "ORG_DEVICES_VIEW")
    ada.ok("role", "change", "viewer", "--allow", "RPC_CALL", "--deny", "ORG_DEVICES_VIEW")
    told = ada.json("role", "show", "viewer")
    assert (told["permissions"], told["organisation"], told["version"]) == (["RPC_CALL"], "Acme", 2)
    ada.ok("user", "add", "b@acme.test", "--org", "North", "--role", "viewer", "--generate")
    assert ada("user", "add", "c@acme.test", "--role", "viewer").exit_code == 1
    assert ada("role", "remove", "viewer", "--yes").exit_code == 1
    ada.ok("user", "remove", "b@acme.test", "--yes")
    ada.ok("role", "remove", "viewer", "--yes")
    names = [one["name"] for one in ada.json("role", "list")]
    assert names == ["TENANT_ADMIN", "CUSTOMER_USER"]


def test_the_help_tells_of_every_permission(shell: Any) -> None:
    """At the end of `role --help`; the options name none of them."""
    told = shell.ok("role", "--help")
    assert all(one.value in told for one in Permission)
    for args in (("role", "add"), ("role", "change"), ("user", "key", "add")):
        usage = shell.ok(*args, "--help")
        assert "--allow PERMISSION" in usage
        assert "AUDIT_VIEW" not in usage


def test_the_prompt_says_how_long_a_password_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it is typed."""
    asked: list[str] = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.prompt", lambda text, **_: asked.append(text) or "correct horse 1")
    asked_password(None, generate=False)
    assert asked == ["Password (8 to 256 characters)"]


def test_a_built_in_role_is_shown_and_never_changed(shell: Any) -> None:
    """Its permissions are listed; a change says why not."""
    shell.ok("org", "add", "Acme")
    assert "RPC_CALL" in shell.ok("role", "show", "CUSTOMER_USER")
    result = shell("role", "change", "CUSTOMER_USER", "--allow", "ORG_DELETE")
    assert result.exit_code == 1


def test_a_change_of_nothing_is_a_usage_error(shell: Any) -> None:
    """As is one that both allows and denies."""
    shell.ok("role", "add", "r")
    assert shell("role", "change", "r").exit_code == 2
    words = ("--allow", "RPC_CALL", "--deny", "RPC_CALL")
    assert shell("role", "change", "r", *words).exit_code == 2


def test_roles_of_one_name_want_their_organisation(acme: Any) -> None:
    """Two customers have a role of one name each: it is said whose is meant."""
    acme.ok("org", "add", "Globex")
    for org in ("Acme", "Globex"):
        acme.ok("role", "add", "twin", "--org", org)
    assert "--org" in acme("role", "show", "twin").output
    assert acme.json("role", "show", "twin", "--org", "Globex")["organisation"] == "Globex"


# ── the first start ───────────────────────────────────────────────────────────────────────────


def test_the_first_administrator_is_told() -> None:
    """Address, password, where to log in and until when; without a listener no address."""
    user = User(
        id=1,
        uuid="u",
        organisation_id=1,
        email="admin@fleet.test",
        role="TENANT_ADMIN",
        password_until=1_790_000_000_000,
    )
    text = "\n".join(first_admin_lines(user, Secret("initial-1"), "http://h:1"))
    for told in ("admin@fleet.test", "initial-1", "http://h:1/api/auth/login", "2026-09-21"):
        assert told in text
    assert "POST" not in "\n".join(first_admin_lines(user, Secret("x"), ""))


def test_what_the_shell_does_is_told_with_its_author(ada: Any) -> None:
    """Events of organisations and users name the login name of this machine's user."""

    async def authors() -> set[str]:
        async with ada.inside() as inside:
            events = await inside.registry.events(limit=100)
            return {one.peer.actor for one in events if one.kind.value.startswith(("org", "user"))}

    [author] = asyncio.run(authors())
    assert author
