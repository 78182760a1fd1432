"""Organisations and users: who sees whom, and who may do what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from people import PASSWORD, Crowd, email_of, make_crowd

from gateway.core.errors import Cause, Conflict, Forbidden, Invalid, Overloaded
from gateway.core.logins import LoginRefusal
from gateway.core.model import (
    CUSTOMER_USER,
    TENANT_ADMIN,
    EventKind,
    Organisation,
    Peer,
    Permission,
    Secret,
    Wire,
)
from gateway.core.organisations import MOST_INFO_CHARACTERS, MOST_LEVELS
from gateway.core.users import INITIAL_PASSWORD_MS, normal_email
from gateway.store.sql_registrar import SqlRegistrar
from gateway.store.sql_store import SqlStore

NEW = Secret("another horse 2")


@pytest.fixture
async def crowd(store: SqlStore, clock: Any) -> AsyncIterator[Crowd]:
    made = await make_crowd(store, clock)
    yield made
    made.close()


async def events(store: SqlStore, kind: EventKind) -> list[Any]:
    found = await SqlRegistrar(store).events(after_seq=0, limit=1000, device_id=None)
    return [one for one in found if one.kind is kind]


# ── organisations ─────────────────────────────────────────────────────────────────────────────


async def test_an_organisation_knows_its_place(crowd: Crowd) -> None:
    """A path is the numbers from the root down, and every organisation has an outside name."""
    assert crowd.root.path == "/1/"
    assert crowd.acme.path == f"/1/{crowd.acme.id}/"
    assert crowd.north.path == f"/1/{crowd.acme.id}/{crowd.north.id}/"
    assert len({one.uuid for one in (crowd.root, crowd.acme, crowd.north, crowd.globex)}) == 4


@pytest.mark.parametrize(
    ("who", "seen"),
    [
        ("admin@root", {"root", "Acme", "Acme North", "Globex"}),
        ("admin@acme", {"Acme", "Acme North"}),
        ("user@north", {"Acme North"}),
        ("user@globex", {"Globex"}),
    ],
)
async def test_nobody_sees_but_downwards(crowd: Crowd, who: str, seen: set[str]) -> None:
    """An organisation is seen from itself and from above; its brother and its child see nothing."""
    actor = await crowd.actor(who)
    everything = (crowd.root, crowd.acme, crowd.north, crowd.globex)
    found = [await crowd.people.organisation(actor, one.uuid) for one in everything]
    assert {one.name for one in found if one is not None} == seen


@pytest.mark.parametrize("uuid", ["", "x", "00000000-0000-0000-0000-000000000000", "\x00" * 36])
async def test_what_names_nothing_is_not_there(crowd: Crowd, uuid: str) -> None:
    """Text that is no UUID is answered as one that nobody has."""
    assert await crowd.people.organisation(crowd.operator, uuid) is None
    assert await crowd.people.user(crowd.operator, uuid) is None


async def test_organisations_are_listed_in_pages(crowd: Crowd) -> None:
    """Those below the actor's come in order, each once, and the last page says so."""
    for number in range(5):
        await crowd.people.save_organisation(crowd.operator, name=f"customer {number}")
    names = []
    for page in range(3):
        found = await crowd.people.organisations(
            crowd.operator, page=page, page_size=2, text="CUSTOMER", descending=True
        )
        names += [one.name for one in found.data]
        assert (found.total, found.has_next) == (5, page < 2)
    assert names == [f"customer {number}" for number in (4, 3, 2, 1, 0)]


async def test_a_search_takes_signs_as_they_are(crowd: Crowd) -> None:
    """Per cent and underscore stand for themselves."""
    await crowd.people.save_organisation(crowd.operator, name="100% of_it")
    for text, total in (("%", 1), ("_", 1), ("100% of_", 1), ("\\", 0), ("c_e", 0)):
        assert (await crowd.people.organisations(crowd.operator, text=text)).total == total


async def test_an_organisation_is_found_by_its_name(crowd: Crowd) -> None:
    """A direct child first, else the only one anywhere below; of two deep ones neither."""
    people, operator = crowd.people, crowd.operator
    assert await people.organisation_named(operator, "Acme North") == crowd.north
    twin = await people.save_organisation(operator, name="Acme North", parent=crowd.globex)
    assert await people.organisation_named(operator, "Acme North") is None
    direct = await people.save_organisation(operator, name="Acme North")
    assert await people.organisation_named(operator, "Acme North") == direct
    globex = structs.replace(operator, organisation=crowd.globex)
    assert await people.organisation_named(globex, "Acme North") == twin


async def test_a_name_is_taken_beside_itself_alone(crowd: Crowd) -> None:
    """Two organisations of one name live below different parents, not below the same."""
    with pytest.raises(Conflict) as taken:
        await crowd.people.save_organisation(crowd.operator, name="Acme")
    assert taken.value.cause is Cause.NAME_TAKEN
    await crowd.people.save_organisation(crowd.operator, name="Acme", parent=crowd.globex)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 256, "<b>x</b>"])
async def test_a_name_that_is_none_is_refused(crowd: Crowd, name: str) -> None:
    """Blank, over-long and unprintable names make no organisation."""
    with pytest.raises(Invalid):
        await crowd.people.save_organisation(crowd.operator, name=name)


@pytest.mark.parametrize(
    "info",
    ["", "[]", "{", '"x"', "{" + " " * MOST_INFO_CHARACTERS + "}", '{"a":' * 101 + "1" + "}" * 101],
)
async def test_information_is_an_object(crowd: Crowd, info: str) -> None:
    """What is no JSON object, or too much of one, is refused."""
    with pytest.raises(Invalid):
        await crowd.people.save_organisation(crowd.operator, name="x", info=info)


async def test_an_organisation_is_changed_once_for_each_reading(crowd: Crowd, store: Any) -> None:
    """The version counts up; who read an older one is told so, and nothing is changed."""
    saved = await crowd.people.save_organisation(
        crowd.operator, name="Acme Ltd", uuid=crowd.acme.uuid, info='{"phone":"1"}', version=1
    )
    assert (saved.name, saved.version, saved.info) == ("Acme Ltd", 2, '{"phone":"1"}')
    with pytest.raises(Conflict) as old:
        await crowd.people.save_organisation(
            crowd.operator, name="Acme Inc", uuid=crowd.acme.uuid, version=1
        )
    assert old.value.cause is Cause.VERSION
    again = await crowd.people.save_organisation(
        crowd.operator, name="Acme Inc", uuid=crowd.acme.uuid
    )
    assert (again.version, again.info) == (3, '{"phone":"1"}')
    told = await events(store, EventKind.ORGANISATION_UPDATE)
    assert [(one.subject, one.object, one.peer.actor) for one in told] == [
        ("Acme Ltd", crowd.acme.uuid, "tester"),
        ("Acme Inc", crowd.acme.uuid, "tester"),
    ]


async def test_an_organisation_cannot_take_its_brothers_name(crowd: Crowd) -> None:
    """A rename collides as a creation does."""
    with pytest.raises(Conflict) as taken:
        await crowd.people.save_organisation(crowd.operator, name="Acme", uuid=crowd.globex.uuid)
    assert taken.value.cause is Cause.NAME_TAKEN


async def test_the_root_may_have_another_name(crowd: Crowd) -> None:
    """Renamed, the tenant is told by its new name at once."""
    await crowd.people.save_organisation(crowd.operator, name="Our fleet", uuid=crowd.root.uuid)
    assert (await crowd.people.root()).name == "Our fleet"


async def test_nobody_changes_what_they_do_not_see(crowd: Crowd) -> None:
    """An admin of one customer finds neither its brother nor its parent to change or fill."""
    actor, people = await crowd.actor("admin@acme"), crowd.people
    for target in (crowd.globex, crowd.root):
        for attempt in (
            people.save_organisation(actor, name="x", uuid=target.uuid),
            people.save_organisation(actor, name="x", parent=target),
            people.remove_organisation(actor, target),
            people.save_user(actor, email="x@x.x", organisation=target, role=CUSTOMER_USER),
        ):
            with pytest.raises(Conflict) as gone:
                await attempt
            assert gone.value.cause is Cause.GONE


async def test_the_tree_has_an_end(crowd: Crowd) -> None:
    """Below the deepest level there is no further one."""
    parent: Organisation = crowd.root
    for level in range(MOST_LEVELS - 1):
        parent = await crowd.people.save_organisation(
            crowd.operator, name=f"level {level}", parent=parent
        )
    with pytest.raises(Invalid):
        await crowd.people.save_organisation(crowd.operator, name="too deep", parent=parent)


async def test_an_organisation_in_use_stays(crowd: Crowd) -> None:
    """Children and users hold it; when they are gone it goes, and its roles with it."""
    with pytest.raises(Conflict, match="organisations below it, users") as used:
        await crowd.people.remove_organisation(crowd.operator, crowd.acme)
    assert used.value.cause is Cause.IN_USE
    await crowd.people.remove_user(crowd.operator, crowd.users["user@north"])
    await crowd.people.remove_organisation(crowd.operator, crowd.north)
    for name, user in crowd.users.items():
        if name.endswith("@acme"):
            await crowd.people.remove_user(crowd.operator, user)
    await crowd.people.remove_organisation(crowd.operator, crowd.acme)
    assert await crowd.people.organisation(crowd.operator, crowd.acme.uuid) is None
    assert await crowd.people.role(crowd.operator, "viewer") is None
    with pytest.raises(Conflict) as gone:
        await crowd.people.remove_organisation(crowd.operator, crowd.acme)
    assert gone.value.cause is Cause.GONE


async def test_devices_hold_their_customer(
    crowd: Crowd, store: SqlStore, registry: Any, new_fleet: Any
) -> None:
    """A customer with a device stays, unless its devices are to be taken back; then they are."""
    device = await (await new_fleet()).waiting("meter-1")
    customer = await crowd.people.save_organisation(crowd.operator, name="Initech")
    known = await registry.device("meter-1")
    await registry.claim(known, "Initech", None)
    with pytest.raises(Conflict, match="devices"):
        await crowd.people.remove_organisation(crowd.operator, customer)
    await crowd.people.remove_organisation(crowd.operator, customer, unassign=True)
    known = await registry.device("meter-1")
    assert known.device.customer_id is None
    [told] = await events(store, EventKind.DEVICE_ASSIGN)
    assert (told.device_id, told.subject, told.detail["before"]) == (
        device.id,
        "meter-1",
        "Initech",
    )


async def test_nobody_removes_the_ground_they_stand_on(crowd: Crowd) -> None:
    """Neither the operator the root, nor an admin their own organisation."""
    for actor, own in ((crowd.operator, crowd.root), (await crowd.actor("admin@acme"), crowd.acme)):
        with pytest.raises(Invalid):
            await crowd.people.remove_organisation(actor, own)


async def test_a_customer_is_made_once(crowd: Crowd) -> None:
    """Of many who mention a new customer at once one makes it, and all get the same."""
    made = await asyncio.gather(
        *(crowd.people.ensure_customer(crowd.operator, " Initech ") for _ in range(20))
    )
    assert {one.id for one in made} == {made[0].id}
    assert await crowd.people.ensure_customer(crowd.operator, "Acme North") == crowd.north


async def test_a_claim_makes_a_whole_customer(crowd: Crowd, registry: Any, new_fleet: Any) -> None:
    """The customer a claim mentions first has a path and an outside name, and an event."""
    await (await new_fleet()).waiting("meter-1")
    await registry.claim(await registry.device("meter-1"), "Initech", None)
    made = await crowd.people.organisation_named(crowd.operator, "Initech")
    assert made is not None
    assert made.path == f"/1/{made.id}/"
    assert await crowd.people.organisation(crowd.operator, made.uuid) == made
    device = (await registry.device("meter-1")).device
    assert device.customer_id == made.id


# ── who may ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("needed", "attempt"),
    [
        (Permission.ORG_CREATE, lambda c, a: c.people.save_organisation(a, name="x")),
        (
            Permission.ORG_EDIT,
            lambda c, a: c.people.save_organisation(a, name="x", uuid=c.north.uuid),
        ),
        (Permission.ORG_DELETE, lambda c, a: c.people.remove_organisation(a, c.north)),
        (
            Permission.ORG_INVITE_USERS,
            lambda c, a: c.people.save_user(
                a, email="n@n.n", organisation=c.north, role=CUSTOMER_USER
            ),
        ),
        (
            Permission.ORG_EDIT_USERS,
            lambda c, a: c.people.save_user(
                a,
                email="n@n.n",
                organisation=c.north,
                role=CUSTOMER_USER,
                uuid=c.users["user@north"].uuid,
            ),
        ),
        (Permission.ORG_DELETE_USERS, lambda c, a: c.people.remove_user(a, c.users["user@north"])),
        (
            Permission.ORG_EDIT_USERS,
            lambda c, a: c.people.set_password(a, c.users["user@north"], NEW),
        ),
        (
            Permission.ROLE_EDIT,
            lambda c, a: c.people.save_role(a, name="x", permissions=[]),
        ),
        (
            Permission.MANAGE_STATIC_TOKENS,
            lambda c, a: c.logins.add_key(a, c.users["user@north"], "x"),
        ),
        (
            Permission.MANAGE_STATIC_TOKENS,
            lambda c, a: c.logins.keys(a, c.users["user@north"]),
        ),
        (
            Permission.ORG_EDIT_USERS,
            lambda c, a: c.logins.logout_all(a, c.users["user@north"]),
        ),
    ],
)
async def test_every_change_needs_its_permission(
    crowd: Crowd, needed: Permission, attempt: Any
) -> None:
    """Without it the change is forbidden by name; with it, it is done."""
    with pytest.raises(Forbidden, match=needed.value):
        await attempt(crowd, await crowd.actor("admin@acme", needed))
    actor = await crowd.actor("admin@acme")
    if needed is Permission.ORG_DELETE:
        await crowd.people.remove_user(actor, crowd.users["user@north"])
    await attempt(crowd, actor)


async def test_nobody_gives_what_they_lack(crowd: Crowd) -> None:
    """A person who may invite cannot invite, raise or take over somebody who may more."""
    some = (Permission.ORG_INVITE_USERS, Permission.ORG_EDIT_USERS, Permission.ORG_DELETE_USERS)
    await crowd.user_with(crowd.acme, *some, Permission.ROLE_EDIT, name="hr@acme")
    actor, people = await crowd.actor("hr@acme"), crowd.people
    admin, viewer = crowd.users["admin@acme"], crowd.users["viewer@acme"]
    self = {"email": actor.user.email, "uuid": actor.user.uuid} if actor.user else {}
    for attempt in (
        people.save_user(actor, email="n@n.n", organisation=crowd.acme, role=TENANT_ADMIN),
        people.save_user(actor, **self, organisation=crowd.acme, role=TENANT_ADMIN),
        people.save_user(
            actor, email=admin.email, organisation=crowd.acme, role="powerless", uuid=admin.uuid
        ),
        people.set_password(actor, admin, NEW),
        people.remove_user(actor, admin),
        people.remove_user(actor, viewer),
        people.save_role(actor, name="boss", permissions=[Permission.ORG_DELETE]),
    ):
        with pytest.raises(Forbidden, match="lack"):
            await attempt
    await people.save_user(actor, email="n@n.n", organisation=crowd.acme, role="powerless")


# ── users ─────────────────────────────────────────────────────────────────────────────────────


async def test_users_are_seen_from_above(crowd: Crowd) -> None:
    """An actor sees users at or below its organisation, by UUID and by address."""
    actor = await crowd.actor("admin@acme")
    for name, user in crowd.users.items():
        seen = name.endswith(("@acme", "@north"))
        assert (await crowd.people.user(actor, user.uuid) is not None) is seen
        found = await crowd.people.user_by_email(actor, email_of(name).upper())
        assert (found is not None) is seen
    assert (await crowd.people.users(actor)).total == 5
    assert (await crowd.people.users(actor, organisation=crowd.acme)).total == 4
    assert (await crowd.people.users(actor, organisation=crowd.globex)).total == 0
    assert (await crowd.people.users(crowd.operator)).total == len(crowd.users)


async def test_users_are_found_and_ordered(crowd: Crowd) -> None:
    """Text is looked for in address and names; each order goes both ways, page by page."""
    await crowd.people.save_user(
        crowd.operator,
        email="z@z.test",
        organisation=crowd.globex,
        role=CUSTOMER_USER,
        first_name="Ada",
        last_name="Lovelace",
    )
    for text in ("z@z", "ADA", "lovel"):
        found = await crowd.people.users(crowd.operator, text=text)
        assert [one.email for one in found.data] == ["z@z.test"]
    for order in ("email", "created", "first_name", "last_name", "role"):
        up, down = [
            [
                one.id
                for page in range(4)
                for one in (
                    await crowd.people.users(
                        crowd.operator, order=order, descending=way, page=page, page_size=3
                    )
                ).data
            ]
            for way in (False, True)
        ]
        assert up == down[::-1]
        assert len(set(up)) == len(crowd.users) + 1


async def test_an_address_is_one_users(crowd: Crowd) -> None:
    """In whatever case it is written; neither a new user nor a change takes another's."""
    for fields in ({}, {"uuid": crowd.users["user@north"].uuid}):
        with pytest.raises(Conflict) as taken:
            await crowd.people.save_user(
                crowd.operator,
                email=" USER@acme.test",
                organisation=crowd.north,
                role=CUSTOMER_USER,
                **fields,
            )
        assert taken.value.cause is Cause.NAME_TAKEN


@pytest.mark.parametrize("email", ["", "x", "a@b@c", "a b@c.d", "a@", "@b", "a@b\n", "<a@b.c>"])
async def test_what_is_no_address_is_refused(crowd: Crowd, email: str) -> None:
    """A user has an address with one at-sign, without spaces or brackets."""
    if email.strip() != email:
        assert normal_email(email) == email.strip()
        return
    with pytest.raises(Invalid):
        await crowd.people.save_user(
            crowd.operator, email=email, organisation=crowd.acme, role=CUSTOMER_USER
        )


@given(st.text(max_size=300))
@settings(deadline=None, max_examples=80)
def test_an_address_in_its_form_keeps_it(text: str) -> None:
    """What an address is made into is an address, the same again, printable and without space."""
    found = normal_email(text)
    if found is not None:
        assert normal_email(found) == found
        assert found.isprintable()
        assert not any(one.isspace() for one in found)
        assert len(found) <= 254


async def test_a_role_must_be_there(crowd: Crowd) -> None:
    """A user gets a built-in role, or one of its organisation or above it, and no other."""
    for organisation in (crowd.globex, crowd.root):
        with pytest.raises(Invalid, match="role"):
            await crowd.people.save_user(
                crowd.operator, email="n@n.n", organisation=organisation, role="viewer"
            )
    made = await crowd.people.save_user(
        crowd.operator, email="n@n.n", organisation=crowd.north, role="viewer"
    )
    assert made.role == "viewer"


@pytest.mark.parametrize(
    "change",
    [
        {"role": "powerless"},
        {"enabled": False},
        {"email": "other@acme.test"},
        {"organisation": "north"},
        {"password": NEW},
    ],
)
async def test_a_change_of_standing_ends_sessions(crowd: Crowd, change: dict[str, Any]) -> None:
    """Another role, address, organisation, password, or being disabled logs a user out."""
    session = await crowd.login("user@acme")
    user = crowd.users["user@acme"]
    fields = {
        "email": user.email,
        "organisation": crowd.acme,
        "role": user.role,
        "uuid": user.uuid,
    } | change
    if fields["organisation"] == "north":
        fields["organisation"] = crowd.north
    saved = await crowd.people.save_user(crowd.operator, **fields)
    assert saved.version == 2
    assert await crowd.logins.actor(session.id, crowd.operator.peer) is None


async def test_a_change_of_name_ends_nothing(crowd: Crowd) -> None:
    """Everybody may write their own name otherwise, without a permission, and stays logged in."""
    actor = await crowd.actor("nobody@acme")
    assert actor.user is not None
    await crowd.people.save_user(
        actor,
        email=actor.user.email,
        organisation=crowd.acme,
        role="powerless",
        first_name=" Ada ",
        uuid=actor.user.uuid,
    )
    now = await crowd.logins.actor(actor.session, actor.peer)
    assert now is not None
    assert now.user is not None
    assert now.user.first_name == "Ada"


async def test_a_key_for_scripts_does_not_rename_its_user(crowd: Crowd) -> None:
    """Whoever holds a key that may only look is not the person whose key it is."""
    person = await crowd.actor("nobody@acme")
    assert person.user is not None
    user = person.user
    with pytest.raises(Forbidden):
        await crowd.people.save_user(
            structs.replace(person, session=""),
            email=user.email,
            organisation=crowd.acme,
            role=user.role,
            first_name="Eve",
            uuid=user.uuid,
        )


async def test_a_user_is_changed_once_for_each_reading(crowd: Crowd) -> None:
    """Who read an older version is told so."""
    user = crowd.users["user@acme"]
    fields: dict[str, Any] = {"email": user.email, "organisation": crowd.acme, "role": user.role}
    await crowd.people.save_user(crowd.operator, **fields, uuid=user.uuid, version=1)
    with pytest.raises(Conflict) as old:
        await crowd.people.save_user(crowd.operator, **fields, uuid=user.uuid, version=1)
    assert old.value.cause is Cause.VERSION


async def test_a_removed_user_is_gone(crowd: Crowd) -> None:
    """Its session and its keys open nothing, and its address is free again."""
    user = crowd.users["user@acme"]
    session = await crowd.login("user@acme")
    _, key = await crowd.logins.add_key(crowd.operator, user, "script")
    await crowd.people.remove_user(crowd.operator, user)
    assert await crowd.logins.actor(session.id, crowd.operator.peer) is None
    assert await crowd.logins.actor_by_key(key, crowd.operator.peer) is None
    refused = await crowd.logins.login(user.email, PASSWORD, crowd.operator.peer)
    assert refused == LoginRefusal.WRONG
    with pytest.raises(Conflict) as gone:
        await crowd.people.remove_user(crowd.operator, user)
    assert gone.value.cause is Cause.GONE
    again = await crowd.people.save_user(
        crowd.operator, email=user.email, organisation=crowd.acme, role=CUSTOMER_USER
    )
    assert again.id > user.id


async def test_nobody_shuts_themselves_out(crowd: Crowd) -> None:
    """An admin can neither remove nor disable itself."""
    actor = await crowd.actor("admin@acme")
    assert actor.user is not None
    with pytest.raises(Invalid):
        await crowd.people.remove_user(actor, actor.user)
    with pytest.raises(Invalid):
        await crowd.people.save_user(
            actor,
            email=actor.user.email,
            organisation=crowd.acme,
            role=TENANT_ADMIN,
            enabled=False,
            uuid=actor.user.uuid,
        )


async def test_changes_of_users_are_told(crowd: Crowd, store: Any) -> None:
    """Creation, change, password and removal are events with author and object, no secret."""
    user = await crowd.people.save_user(
        crowd.operator, email="n@n.n", organisation=crowd.acme, role="viewer", password=NEW
    )
    await crowd.people.save_user(
        crowd.operator, email="m@n.n", organisation=crowd.acme, role="powerless", uuid=user.uuid
    )
    await crowd.people.set_password(crowd.operator, user, NEW)
    await crowd.people.remove_user(crowd.operator, user)
    found = await SqlRegistrar(store).events(after_seq=0, limit=1000, device_id=None)
    told = [one for one in found if one.object == user.uuid]
    assert [(one.kind, one.subject) for one in told] == [
        (EventKind.USER_CREATE, "n@n.n"),
        (EventKind.USER_UPDATE, "n@n.n"),
        (EventKind.USER_PASSWORD, "m@n.n"),
        (EventKind.USER_REMOVE, "m@n.n"),
    ]
    assert told[1].detail == {"email": "m@n.n", "role": "powerless"}
    assert {one.peer.actor for one in told} == {"tester"}
    assert NEW.reveal() not in repr(found)


# ── passwords ─────────────────────────────────────────────────────────────────────────────────


async def test_ones_own_password_ends_the_other_sessions(crowd: Crowd) -> None:
    """After it the old one is wrong, the new one right, and this session alone goes on."""
    other, actor = await crowd.login("user@acme"), await crowd.actor("user@acme")
    await crowd.people.change_own_password(actor, PASSWORD, NEW)
    assert await crowd.logins.actor(other.id, actor.peer) is None
    assert await crowd.logins.actor(actor.session, actor.peer) is not None
    email = email_of("user@acme")
    assert await crowd.logins.login(email, PASSWORD, actor.peer) == LoginRefusal.WRONG
    assert not isinstance(await crowd.logins.login(email, NEW, actor.peer), LoginRefusal)


async def test_a_wrong_old_password_changes_nothing(crowd: Crowd, clock: Any) -> None:
    """It is told; after ten of them even the right one must wait, however many come at once."""
    actor = await crowd.actor("user@acme")

    async def attempt(old: Secret) -> type[Exception]:
        with pytest.raises((Invalid, Overloaded)) as refused:
            await crowd.people.change_own_password(actor, old, NEW)
        return refused.type

    tried = await asyncio.gather(*(attempt(Secret(f"wrong {n}")) for n in range(15)))
    assert tried.count(Invalid) == 10
    assert await attempt(PASSWORD) is Overloaded
    clock.now += 30_000
    await crowd.people.change_own_password(actor, PASSWORD, NEW)


async def test_the_operator_has_no_password(crowd: Crowd) -> None:
    """Whoever acts from the shell has none of their own to change."""
    with pytest.raises(Forbidden):
        await crowd.people.change_own_password(crowd.operator, PASSWORD, NEW)


@pytest.mark.parametrize("text", ["", "short 1", "x" * 257])
async def test_a_password_has_some_length(crowd: Crowd, text: str) -> None:
    """Neither set nor changed nor given is one of fewer than 8 or more than 256 characters."""
    actor, user = await crowd.actor("user@acme"), crowd.users["user@acme"]
    for attempt in (
        crowd.people.set_password(crowd.operator, user, Secret(text)),
        crowd.people.change_own_password(actor, PASSWORD, Secret(text)),
        crowd.people.save_user(
            crowd.operator,
            email="n@n.n",
            organisation=crowd.acme,
            role=CUSTOMER_USER,
            password=Secret(text),
        ),
    ):
        with pytest.raises(Invalid, match="8 to 256"):
            await attempt


# ── the first administrator ───────────────────────────────────────────────────────────────────


@pytest.fixture
async def nobody(store: SqlStore, crowd: Crowd) -> Crowd:
    for user in crowd.users.values():
        await crowd.people.remove_user(crowd.operator, user)
    return crowd


async def test_the_first_administrator_is_made_once(nobody: Crowd) -> None:
    """Of any number of starts at once one makes an administrator, with a password that works."""
    tried = await asyncio.gather(
        *(nobody.people.first_administrator(f"admin{n}@fleet.test", None) for n in range(5))
    )
    [(user, password)] = [one for one in tried if one is not None]
    assert (user.role, user.organisation_id) == (TENANT_ADMIN, 1)
    assert len(password.reveal()) == 20
    session = await nobody.logins.login(user.email, password, nobody.operator.peer)
    assert not isinstance(session, LoginRefusal)
    assert await nobody.people.first_administrator("again@fleet.test", None) is None


async def test_an_initial_password_ends(nobody: Crowd, clock: Any) -> None:
    """After a week it is refused as expired, to who knows it alone; a change makes it last."""
    made = await nobody.people.first_administrator("admin@fleet.test", None)
    assert made is not None
    user, password = made
    peer = Peer(Wire.HTTP, "192.0.2.1:1")
    session = await nobody.logins.login(user.email, password, peer)
    assert not isinstance(session, LoginRefusal)
    actor = await nobody.logins.actor(session.id, peer)
    clock.now += INITIAL_PASSWORD_MS
    assert await nobody.logins.login(user.email, password, peer) == LoginRefusal.EXPIRED
    assert await nobody.logins.login(user.email, NEW, peer) == LoginRefusal.WRONG
    assert actor is not None
    await nobody.people.change_own_password(actor, password, NEW)
    clock.now += INITIAL_PASSWORD_MS
    assert not isinstance(await nobody.logins.login(user.email, NEW, peer), LoginRefusal)


async def test_a_given_password_stays_good(nobody: Crowd, clock: Any) -> None:
    """Whoever chose the first password need not change it."""
    made = await nobody.people.first_administrator("admin@fleet.test", NEW)
    assert made is not None
    clock.now += 10 * INITIAL_PASSWORD_MS
    session = await nobody.logins.login("admin@fleet.test", NEW, nobody.operator.peer)
    assert not isinstance(session, LoginRefusal)


async def test_the_operator_is_named(crowd: Crowd) -> None:
    """What is done from a shell is told with the login name of who did it."""
    actor = await crowd.people.operator(Peer(Wire.SHELL, "ada"))
    assert (actor.peer.actor, actor.organisation.id, actor.user) == ("ada", 1, None)
    assert actor.permissions == frozenset(Permission)
