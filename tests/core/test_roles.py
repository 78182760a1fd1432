"""Roles: which a user can have, and who may change them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from people import Crowd, make_crowd

from gateway.core.errors import Cause, Conflict, Forbidden, Invalid
from gateway.core.model import BUILT_IN_ROLES, TENANT_ADMIN, EventKind, Permission
from gateway.store.sql_registrar import SqlRegistrar
from gateway.store.sql_store import SqlStore


@pytest.fixture
async def crowd(store: SqlStore, clock: Any) -> AsyncIterator[Crowd]:
    made = await make_crowd(store, clock)
    yield made
    made.close()


async def test_the_built_in_roles_are_everywhere(crowd: Crowd) -> None:
    """Every actor finds both, with the permissions they always have."""
    for name in ("admin@root", "user@north"):
        actor = await crowd.actor(name)
        found = {one.name: one.permissions for one in await crowd.people.roles(actor)}
        assert BUILT_IN_ROLES.items() <= found.items()


@pytest.mark.parametrize(
    ("who", "seen"),
    [("admin@root", True), ("admin@acme", True), ("user@north", True), ("user@globex", False)],
)
async def test_a_role_is_seen_along_its_line(crowd: Crowd, who: str, seen: bool) -> None:
    """From its organisation, from above and from below; a brother knows nothing of it."""
    actor = await crowd.actor(who)
    assert ("viewer" in {one.name for one in await crowd.people.roles(actor)}) is seen
    assert (await crowd.people.role(actor, "viewer") is not None) is seen


async def test_a_role_is_asked_for_by_organisation(crowd: Crowd) -> None:
    """Two brothers have one of a name: from above it is said whose, else it is neither."""
    await crowd.people.save_role(
        crowd.operator, name="viewer", permissions=[], organisation=crowd.globex
    )
    people, operator = crowd.people, crowd.operator
    assert await people.role(operator, "viewer") is None
    for organisation in (crowd.acme, crowd.globex):
        found = await people.role(operator, "viewer", organisation)
        assert found is not None
        assert found.organisation_id == organisation.id
    assert await people.role(operator, "viewer", crowd.root) is None


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 256])
async def test_a_role_has_a_name(crowd: Crowd, name: str) -> None:
    """Blank, over-long and unprintable names make no role."""
    with pytest.raises(Invalid):
        await crowd.people.save_role(crowd.operator, name=name, permissions=[])


async def test_the_built_in_roles_stay(crowd: Crowd) -> None:
    """Neither made again, nor changed, nor removed, not even by the operator."""
    people, operator = crowd.people, crowd.operator
    built_in = await people.role(operator, TENANT_ADMIN)
    assert built_in is not None
    for attempt, cause in (
        (people.save_role(operator, name=TENANT_ADMIN, permissions=[]), Cause.NAME_TAKEN),
        (people.save_role(operator, name=TENANT_ADMIN, permissions=[], uuid="x"), Cause.READ_ONLY),
        (people.remove_role(operator, built_in), Cause.READ_ONLY),
    ):
        with pytest.raises(Conflict) as refused:
            await attempt
        assert refused.value.cause is cause


async def test_a_role_from_above_is_not_ones_own(crowd: Crowd) -> None:
    """A customer's admin uses the tenant's roles and changes none; a brother's are not there."""
    people, operator = crowd.people, crowd.operator
    above = await people.save_role(operator, name="ours", permissions=[Permission.ORG_VIEW])
    beside = await people.save_role(
        operator, name="theirs", permissions=[], organisation=crowd.globex
    )
    actor = await crowd.actor("admin@acme")
    with pytest.raises(Forbidden, match="above"):
        await people.save_role(actor, name="ours", permissions=[], uuid=above.uuid)
    with pytest.raises(Forbidden, match="above"):
        await people.remove_role(actor, above)
    for attempt in (
        people.save_role(actor, name="theirs", permissions=[], uuid=beside.uuid),
        people.remove_role(actor, beside),
        people.save_role(actor, name="x", permissions=[], organisation=crowd.globex),
    ):
        with pytest.raises(Conflict) as gone:
            await attempt
        assert gone.value.cause is Cause.GONE


async def test_nobody_changes_a_role_that_allows_more(crowd: Crowd) -> None:
    """Who lacks one of its permissions neither widens, narrows nor removes it."""
    people = crowd.people
    strong = await people.save_role(
        crowd.operator,
        name="strong",
        permissions=[Permission.ORG_DELETE],
        organisation=crowd.acme,
    )
    await crowd.user_with(crowd.acme, Permission.ROLE_EDIT, Permission.ORG_VIEW, name="hr@acme")
    actor = await crowd.actor("hr@acme")
    for attempt in (
        people.save_role(actor, name="strong", permissions=[], uuid=strong.uuid),
        people.remove_role(actor, strong),
        people.save_role(actor, name="new", permissions=[Permission.ORG_DELETE]),
    ):
        with pytest.raises(Forbidden, match="ORG_DELETE"):
            await attempt
    weak = await people.save_role(actor, name="weak", permissions=[Permission.ORG_VIEW])
    await people.remove_role(actor, weak)


async def test_changes_of_roles_are_told(crowd: Crowd, store: SqlStore) -> None:
    """With what was added and dropped, by whom."""
    people, operator = crowd.people, crowd.operator
    role = await people.save_role(operator, name="r", permissions=[Permission.ORG_VIEW])
    role = await people.save_role(
        operator, name="r", permissions=[Permission.RPC_CALL], uuid=role.uuid, version=1
    )
    await people.remove_role(operator, role)
    found = await SqlRegistrar(store).events(after_seq=0, limit=1000, device_id=None)
    told = [(one.kind, one.subject, one.detail) for one in found if one.object == role.uuid]
    assert told == [
        (EventKind.ROLE_CREATE, "r", {"permissions": "ORG_VIEW"}),
        (EventKind.ROLE_UPDATE, "r", {"added": "RPC_CALL", "dropped": "ORG_VIEW"}),
        (EventKind.ROLE_REMOVE, "r", {}),
    ]
