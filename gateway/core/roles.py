"""Roles: which there are, and who may give what to whom."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.core.errors import Cause, Conflict, Forbidden, Invalid
from gateway.core.model import (
    BUILT_IN_ROLES,
    Actor,
    EventKind,
    Organisation,
    Permission,
    Role,
)
from gateway.core.organisations import Desk, need, proven_name

_BUILT_IN = {
    name: Role(name=name, permissions=permissions) for name, permissions in BUILT_IN_ROLES.items()
}


def no_more_than(actor: Actor, permissions: Iterable[Permission]) -> None:
    """Nobody gives what they lack, nor rules over whom may more. Raises `Forbidden`."""
    lacking = sorted(set(permissions) - actor.permissions)
    if lacking:
        names = ", ".join(one.value for one in lacking)
        raise Forbidden(f"you lack what this would give or touch: {names}")


class Roles(Desk):
    """One part of `People`. A role holds for users of its organisation and of those below it.

    On the way from the root to an organisation no name is there twice, so a user's role is one.
    """

    async def roles(self, actor: Actor) -> list[Role]:
        """The built-in ones, then those at, above and below the actor's organisation, by name."""
        return [*_BUILT_IN.values(), *await self._store.roles(actor.organisation.path)]

    async def role(
        self, actor: Actor, name: str, organisation: Organisation | None = None
    ) -> Role | None:
        """The role users of `organisation` (the actor's) have by this name.

        Without `organisation` also one below, if there is but one of the name.
        """
        if name in _BUILT_IN:
            return _BUILT_IN[name]
        at = organisation or actor.organisation
        found = await self._store.roles_named(name, at.path)
        holds = [one for one in found if _holds(one, at)]
        if holds or organisation is not None:
            return holds[0] if holds else None
        return found[0] if len(found) == 1 else None

    async def save_role(
        self,
        actor: Actor,
        *,
        name: str,
        permissions: Iterable[Permission],
        organisation: Organisation | None = None,
        uuid: str | None = None,
        version: int | None = None,
    ) -> Role:
        """Create one (`uuid` None) for `organisation` (the actor's), or change what one allows.

        Raises `Forbidden`, `Invalid`, `Conflict` (NAME_TAKEN, READ_ONLY: built in, VERSION, GONE).
        """
        need(actor, Permission.ROLE_EDIT)
        wanted = sorted(set(permissions))
        no_more_than(actor, wanted)
        if uuid is not None:
            role = await self._own_role(actor, name, uuid)
            no_more_than(actor, role.permissions)
            event = self._event(
                actor,
                EventKind.ROLE_UPDATE,
                role.name,
                added=_names(set(wanted) - role.permissions),
                dropped=_names(role.permissions - set(wanted)),
            )
            return await self._store.update_role(role, wanted, event, version)
        at = organisation or actor.organisation
        if not actor.organisation.has_below(at):
            raise Conflict(Cause.GONE)
        found = proven_name(name, "the name of a role")
        if found in _BUILT_IN:
            raise Conflict(Cause.NAME_TAKEN, f"{found} is built in")
        event = self._event(actor, EventKind.ROLE_CREATE, found, permissions=_names(wanted))
        return await self._store.create_role(at, found, wanted, event)

    async def remove_role(self, actor: Actor, role: Role) -> None:
        """Raises `Forbidden`, `Conflict` (IN_USE while users have it, READ_ONLY, GONE)."""
        need(actor, Permission.ROLE_EDIT)
        own = await self._own_role(actor, role.name, role.uuid)
        no_more_than(actor, own.permissions)
        event = self._event(actor, EventKind.ROLE_REMOVE, own.name)
        await self._store.remove_role(own, event)

    async def _own_role(self, actor: Actor, name: str, uuid: str) -> Role:
        """The role, as it is now, if it is at or below the actor's organisation."""
        if name in _BUILT_IN:
            raise Conflict(Cause.READ_ONLY, f"{name} is built in and cannot be changed")
        for one in await self._store.roles_named(name, actor.organisation.path):
            if one.uuid == uuid:
                if one.organisation_id not in _above(actor.organisation):
                    return one
                raise Forbidden("this role belongs to an organisation above yours")
        raise Conflict(Cause.GONE)

    async def _permissions(self, name: str, organisation: Organisation) -> frozenset[Permission]:
        """What a role allows users of `organisation`. Raises `Invalid` when there is none."""
        if name in _BUILT_IN:
            return _BUILT_IN[name].permissions
        for one in await self._store.roles_named(name, organisation.path):
            if _holds(one, organisation):
                return one.permissions
        raise Invalid("there is no such role in this organisation.")


def _line(organisation: Organisation) -> list[int]:
    """The numbers from the root down to it."""
    return [int(number) for number in organisation.path.strip("/").split("/")]


def _above(organisation: Organisation) -> set[int]:
    return set(_line(organisation)[:-1])


def _holds(role: Role, organisation: Organisation) -> bool:
    return role.organisation_id in _line(organisation)


def _names(permissions: Iterable[Permission]) -> str:
    return ",".join(sorted(one.value for one in permissions))
