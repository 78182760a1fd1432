"""Opening the store for commands about people, and finding whom a command line names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

import click

from gateway.cli.options import Desk, meant, open_desk, shell_peer, shown
from gateway.config import Config
from gateway.core.model import Actor, Organisation, Role, User

if TYPE_CHECKING:
    from gateway.core.logins import Logins
    from gateway.core.people import People

MOST_GUESSES = 1000
"""Names that are read to find the one that was meant."""
ROOT = "root"


class PeopleDesk(NamedTuple):
    """What such a command works with. `actor` is the user of this shell, who may do everything."""

    desk: Desk
    actor: Actor
    people: People
    logins: Logins

    async def organisation(self, name: str) -> Organisation:
        """The one of that name or UUID, or `root`; a `ClickException` with the nearest name."""
        people, actor = self.people, self.actor
        if name == ROOT:
            return await people.root()
        found = await people.organisation(actor, name) or await people.organisation_named(
            actor, name
        )
        if found is not None:
            return found
        if name == actor.organisation.name:
            return actor.organisation
        page = await people.organisations(actor, page_size=MOST_GUESSES)
        names = [one.name for one in page.data]
        if name in names:
            raise click.ClickException(
                f"there are several organisations {shown(name)}. Name the one you mean by its "
                "UUID; `gatehouse org list` shows them."
            )
        see = "`gatehouse org list` shows what there is."
        raise click.ClickException(
            f"there is no organisation {shown(name)}. {meant(name, names) or see}"
        )

    async def user(self, email: str) -> User:
        """The user of that address; a `ClickException` with the nearest address without one."""
        found = await self.people.user_by_email(self.actor, email)
        if found is not None:
            return found
        page = await self.people.users(self.actor, page_size=MOST_GUESSES)
        see = "`gatehouse user list` shows who there is."
        near = meant(email, [one.email for one in page.data])
        raise click.ClickException(f"there is no user {shown(email)}. {near or see}")

    async def role(self, name: str, organisation: Organisation | None = None) -> Role:
        """The role of that name; a `ClickException` with the nearest name without one."""
        found = await self.people.role(self.actor, name, organisation)
        if found is not None:
            return found
        names = [one.name for one in await self.people.roles(self.actor)]
        if organisation is None and name in names:
            raise click.ClickException(
                f"there are several roles {shown(name)}. Say with --org whose you mean."
            )
        see = "`gatehouse role list` shows what there is."
        raise click.ClickException(f"there is no role {shown(name)}. {meant(name, names) or see}")

    async def place(self, organisation: Organisation) -> str:
        """Where it is in the tree, by name: `root / Acme / Acme North`."""
        names = []
        for number in organisation.path.strip("/").split("/"):
            found = await self.people.organisation_numbered(int(number))
            names.append(found.name if found is not None else number)
        return " / ".join(names)


@asynccontextmanager
async def open_people(config: Config, *, make: bool = False) -> AsyncIterator[PeopleDesk]:
    """As `open_desk`."""
    from gateway.clock import now_ms
    from gateway.core.logins import Logins
    from gateway.services import open_services
    from gateway.store.sql_people import SqlPeople

    async with open_desk(config, make=make) as desk:
        services = open_services(desk.store)
        try:
            actor = await services.people.operator(shell_peer())
            logins = Logins(SqlPeople(desk.store), services.hasher, clock=now_ms)
            yield PeopleDesk(desk, actor, services.people, logins)
        finally:
            services.close()
