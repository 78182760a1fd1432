"""People in SQL: one contract on every database."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.core.errors import Cause, Conflict
from gateway.core.model import (
    CUSTOMER_USER,
    TENANT_ADMIN,
    ApiKey,
    EventKind,
    Organisation,
    Permission,
    Secret,
)
from gateway.core.people_store import KnownUser, OrganisationDraft, UserDraft, Window
from gateway.store.identity import uuid_text
from gateway.store.people_rows import permissions_from, permissions_text
from gateway.store.sql_people import SqlPeople, containing
from gateway.store.sql_store import SqlStore
from gateway.store.vault import Vault

pytestmark = pytest.mark.every_database

KEPT = Secret("$argon2id$not-a-real-one")


@pytest.fixture
def people(store: SqlStore) -> SqlPeople:
    return SqlPeople(store)


@pytest.fixture
async def root(people: SqlPeople) -> Organisation:
    found = await people.organisation_numbered(1)
    assert found is not None
    return found


@pytest.fixture
def make_organisation(people: SqlPeople, event: Any) -> Any:
    async def make(parent: Organisation, name: str) -> Organisation:
        draft = OrganisationDraft(name=name)
        return await people.create_organisation(
            parent, draft, event(EventKind.ORGANISATION_CREATE, subject=name)
        )

    return make


@pytest.fixture
def make_user(people: SqlPeople, event: Any) -> Any:
    async def make(organisation: Organisation, email: str, **fields: Any) -> KnownUser:
        draft = UserDraft(
            email=email,
            organisation_id=organisation.id,
            role=fields.pop("role", CUSTOMER_USER),
            password=KEPT,
            **fields,
        )
        user = await people.create_user(draft, event(EventKind.USER_CREATE))
        known = await people.known_user(user.uuid)
        assert known is not None
        return known

    return make


async def test_an_organisation_is_kept(
    people: SqlPeople, root: Organisation, make_organisation: Any
) -> None:
    """By its UUID, its number and its name it is found as it was made, and listed below others."""
    acme = await make_organisation(root, "Acme")
    north = await make_organisation(acme, "North")
    assert await people.organisation(north.uuid) == north
    assert await people.organisation_numbered(north.id) == north
    assert await people.organisations_named("North", root.path) == [north]
    assert await people.organisations_named("North", north.path) == []
    for order in ("name", "created"):
        for descending in (False, True):
            window = Window(order=order, descending=descending, text="o")
            page = await people.organisations(root.path, window)
            assert (page.data, page.total, page.has_next) == ([north], 1, False)
    second = await people.organisations(root.path, Window(page=1, page_size=1))
    assert (second.data, second.total, second.has_next) == ([north], 2, False)


async def test_a_name_is_given_once(
    people: SqlPeople, root: Organisation, make_organisation: Any
) -> None:
    """Of many that make one organisation at once one does, and below another parent it is free."""
    made = await asyncio.gather(
        *(make_organisation(root, "Acme") for _ in range(10)), return_exceptions=True
    )
    [acme] = [one for one in made if isinstance(one, Organisation)]
    assert {one.cause for one in made if isinstance(one, Conflict)} == {Cause.NAME_TAKEN}
    await make_organisation(acme, "Acme")


async def test_an_organisation_changes_by_version(
    people: SqlPeople, root: Organisation, make_organisation: Any, event: Any
) -> None:
    """Its name and info; an old version, a brother's name and a number of none are refused."""
    acme, globex = await make_organisation(root, "Acme"), await make_organisation(root, "Globex")
    told = event(EventKind.ORGANISATION_UPDATE)
    draft = OrganisationDraft(name="Acme Ltd", info='{"a":1}', version=1)
    saved = await people.update_organisation(acme.id, draft, told)
    assert (saved.name, saved.info, saved.version) == ("Acme Ltd", '{"a":1}', 2)
    for number, refused, cause in (
        (acme.id, draft, Cause.VERSION),
        (globex.id, OrganisationDraft(name="Acme Ltd"), Cause.NAME_TAKEN),
        (999, OrganisationDraft(name="x"), Cause.GONE),
    ):
        with pytest.raises(Conflict) as conflict:
            await people.update_organisation(number, refused, told)
        assert conflict.value.cause is cause
    assert await people.organisation(globex.uuid) == globex


async def test_an_organisation_goes_when_nothing_needs_it(
    people: SqlPeople, root: Organisation, make_organisation: Any, make_user: Any, event: Any
) -> None:
    """A child and a user hold it; a refused removal leaves everything as it was."""
    acme = await make_organisation(root, "Acme")
    north = await make_organisation(acme, "North")
    known = await make_user(acme, "a@a.test")
    role = await people.create_role(acme, "r", [], event(EventKind.ROLE_CREATE))

    async def remove(one: Organisation) -> None:
        await people.remove_organisation(
            one, event(EventKind.ORGANISATION_REMOVE), unassign=True, most=10
        )

    with pytest.raises(Conflict, match="organisations below it, users"):
        await remove(acme)
    assert await people.roles_named("r", acme.path) == [role]
    await remove(north)
    assert await people.remove_user(known.user, event(EventKind.USER_REMOVE))
    await remove(acme)
    assert await people.organisation(acme.uuid) is None
    assert await people.roles(root.path) == []
    with pytest.raises(Conflict):
        await remove(root)


async def test_a_user_is_kept(
    people: SqlPeople, root: Organisation, make_organisation: Any, make_user: Any
) -> None:
    """Found by UUID and address with its organisation and role; listed in every order."""
    acme = await make_organisation(root, "Acme")
    known = await make_user(acme, "a@a.test", first_name="Ada", enabled=False)
    assert known.organisation == acme
    assert (known.user.first_name, known.user.enabled) == ("Ada", False)
    assert known.password == KEPT
    assert Permission.ORG_DEVICES_VIEW in known.permissions
    assert await people.known_by_email("a@a.test") == known
    assert await people.has_users()
    for order in ("email", "created", "first_name", "last_name", "role"):
        for descending in (False, True):
            window = Window(order=order, descending=descending, text="ADA")
            assert (await people.users(root.path, window)).data == [known.user]
    assert (await people.users(root.path, Window(), root.id)).data == []
    assert (await people.users(acme.path, Window(), acme.id)).data == [known.user]


async def test_an_address_is_given_once(
    people: SqlPeople, root: Organisation, make_user: Any
) -> None:
    """Of many that make one user at once one does."""
    made = await asyncio.gather(
        *(make_user(root, "a@a.test") for _ in range(10)), return_exceptions=True
    )
    assert {one.cause for one in made if isinstance(one, Conflict)} == {Cause.NAME_TAKEN}
    assert sum(isinstance(one, KnownUser) for one in made) == 1


async def test_a_user_changes_by_version(
    people: SqlPeople, root: Organisation, make_user: Any, event: Any
) -> None:
    """What is given is changed, the password when there is one; collisions are told apart."""
    known, other = await make_user(root, "a@a.test"), await make_user(root, "b@a.test")
    told = event(EventKind.USER_UPDATE)
    draft = UserDraft(email="c@a.test", organisation_id=1, role=TENANT_ADMIN, version=1)
    saved = await people.update_user(known.user.id, draft, told)
    assert (saved.email, saved.role, saved.version) == ("c@a.test", TENANT_ADMIN, 2)
    again = await people.known_user(saved.uuid)
    assert again is not None
    assert again.password == KEPT
    fields: dict[str, Any] = {"role": TENANT_ADMIN, "organisation_id": 1}
    for number, refused, cause in (
        (saved.id, draft, Cause.VERSION),
        (other.user.id, UserDraft(email="c@a.test", **fields), Cause.NAME_TAKEN),
        (saved.id, UserDraft(email="x@a.test", organisation_id=99, role="r"), Cause.GONE),
        (999, UserDraft(email="x@a.test", **fields), Cause.GONE),
    ):
        with pytest.raises(Conflict) as conflict:
            await people.update_user(number, refused, told)
        assert conflict.value.cause is cause


async def test_the_first_user_is_one(people: SqlPeople, event: Any) -> None:
    """Of many first ones at once, with addresses of their own, one comes into being."""
    made = await asyncio.gather(
        *(
            people.first_user(
                UserDraft(email=f"a{n}@a.test", organisation_id=1, role=TENANT_ADMIN),
                event(EventKind.USER_CREATE),
            )
            for n in range(10)
        )
    )
    assert sum(one is not None for one in made) == 1
    assert await people.has_users()


async def test_two_gateways_make_one_first_user(stores: Any, event: Any) -> None:
    """Also when two processes start on one empty store."""
    made = await asyncio.gather(
        *(
            SqlPeople(one).first_user(
                UserDraft(email=f"a{n}@a.test", organisation_id=1, role=TENANT_ADMIN),
                event(EventKind.USER_CREATE),
            )
            for n, one in enumerate(stores)
        )
    )
    assert sum(one is not None for one in made) == 1


async def test_a_custom_role_holds_below_its_organisation(
    people: SqlPeople, root: Organisation, make_organisation: Any, make_user: Any, event: Any
) -> None:
    """Its users get what it allows now; its name is given once on a way down, and freely beside."""
    acme, globex = await make_organisation(root, "Acme"), await make_organisation(root, "Globex")
    north = await make_organisation(acme, "North")
    told = event(EventKind.ROLE_CREATE)
    role = await people.create_role(acme, "r", [Permission.RPC_CALL], told)
    for place in (root, acme, north):
        with pytest.raises(Conflict) as taken:
            await people.create_role(place, "r", [], told)
        assert taken.value.cause is Cause.NAME_TAKEN
    twin = await people.create_role(globex, "r", [], told)
    assert await people.roles(root.path) == [role, twin]
    assert await people.roles_named("r", north.path) == [role]
    known = await make_user(north, "a@a.test", role="r")
    assert known.permissions == {Permission.RPC_CALL}
    changed = await people.update_role(role, [], told, 1)
    assert (changed.version, changed.permissions) == (2, frozenset())
    with pytest.raises(Conflict) as old:
        await people.update_role(role, [], told, 1)
    assert old.value.cause is Cause.VERSION
    with pytest.raises(Conflict) as used:
        await people.remove_role(role, told)
    assert used.value.cause is Cause.IN_USE
    await people.remove_role(twin, told)
    for gone in (people.remove_role(twin, told), people.update_role(twin, [], told, None)):
        with pytest.raises(Conflict) as conflict:
            await gone
        assert conflict.value.cause is Cause.GONE


async def test_a_session_lives_and_ends(
    people: SqlPeople, root: Organisation, make_user: Any, event: Any, clock: Any
) -> None:
    """It is found until its end, can be put off, bounded, and ended alone or with all others."""
    known = await make_user(root, "a@a.test")
    told, until = event(EventKind.USER_LOGIN), clock.now + 1000

    async def begin() -> str:
        made = await people.begin_session(known, told, expires_at=until, most=3)
        assert made is not None
        return made

    first = await begin()
    found = await people.session(first, clock.now)
    assert found is not None
    assert (found[0].user.id, found[0].user.last_login_at, found[1]) == (1, clock.now, until)
    assert await people.session(first, until) is None
    assert await people.extend_session(first, until + 1000, clock.now)
    assert await people.session(first, until) is not None
    assert not await people.extend_session(first, until, until + 1000)
    assert await people.end_session(first, told)
    assert not await people.end_session(first, told)
    living = [await begin() for _ in range(5)]
    assert sum([await people.session(one, clock.now) is not None for one in living]) == 3
    assert await people.end_sessions(known.user, told) == 3


async def test_a_new_password_spares_one_session(
    people: SqlPeople, root: Organisation, make_user: Any, event: Any, clock: Any
) -> None:
    """The others end, and who knew the old one begins none."""
    known = await make_user(root, "a@a.test")
    told, until = event(EventKind.USER_LOGIN), clock.now + 1000
    one, other = [
        await people.begin_session(known, told, expires_at=until, most=9) for _ in range(2)
    ]
    assert one is not None
    assert other is not None
    changed = await people.set_password(1, Secret("other"), told, until=until, spare=one)
    assert changed
    assert await people.session(one, clock.now) is not None
    assert await people.session(other, clock.now) is None
    assert await people.begin_session(known, told, expires_at=until, most=9) is None
    assert not await people.set_password(99, Secret("x"), told, until=None)


async def test_a_key_is_kept(
    people: SqlPeople, root: Organisation, make_user: Any, event: Any, clock: Any, store: SqlStore
) -> None:
    """It is found until its end with its user; its use is noted; its number is bounded."""
    known = await make_user(root, "a@a.test")
    told = event(EventKind.USER_KEY_CREATE)
    draft = ApiKey(
        id=0,
        uuid="",
        user_id=known.user.id,
        label="l",
        permissions=frozenset({Permission.RPC_CALL}),
        created_at=clock.now,
        expires_at=clock.now + 1000,
    )
    made = await people.add_key(draft, Secret("k"), told, most=1)
    found = await people.find_key(Secret("k"), clock.now)
    assert found is not None
    assert (found.key, found.known.user.id) == (made, known.user.id)
    assert await people.find_key(Secret("k"), clock.now + 1000) is None
    assert await people.find_key(Secret("x"), clock.now) is None
    for now in (clock.now + 5, clock.now):
        await people.touch_key(made.id, now)
        await store.writer.settled()
        assert [one.last_used_at for one in await people.keys(1)] == [clock.now + 5]
    with pytest.raises(Conflict) as full:
        await people.add_key(draft, Secret("k2"), told, most=1)
    assert full.value.cause is Cause.IN_USE
    assert await people.remove_key(known.user, made.uuid, told)
    assert not await people.remove_key(known.user, made.uuid, told)


async def test_opening_names_what_has_no_name(drivers: Any) -> None:
    """Rows of older versions get UUIDs, once, and keep them."""
    store = SqlStore(drivers[0], Vault(bytes(32)))
    await store.open()
    before = await store.driver.point("organisation_by_number", 1)
    await store.close()
    again = SqlStore(drivers[1], Vault(bytes(32)))
    await again.open()
    after = await again.driver.point("organisation_by_number", 1)
    await again.close()
    assert before is not None
    assert after is not None
    assert before[1] == after[1]
    assert uuid_text(after[1])[14] == "7"


def test_permissions_are_text_and_back() -> None:
    """In the order of the alphabet; what a later version may add is left out."""
    some = frozenset({Permission.RPC_CALL, Permission.ORG_VIEW})
    assert permissions_text(some) == '["ORG_VIEW","RPC_CALL"]'
    assert permissions_from(permissions_text(some)) == some
    assert permissions_from('["RPC_CALL","FLY"]') == {Permission.RPC_CALL}
    assert permissions_from(None) == frozenset()


def test_a_pattern_takes_signs_as_they_are() -> None:
    """Wildcards of LIKE are escaped, and so is what escapes them."""
    assert containing(r"50%_\x") == r"%50\%\_\\x%"
