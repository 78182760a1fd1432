"""People over a store: services, and users of several roles in several organisations."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from msgspec import Struct, structs

from gateway.core.logins import Logins, Session
from gateway.core.model import (
    CUSTOMER_USER,
    TENANT_ADMIN,
    Actor,
    Organisation,
    Peer,
    Permission,
    Secret,
    User,
    Wire,
)
from gateway.core.people import People
from gateway.passwords import Argon2Passwords
from gateway.store.sql_people import SqlPeople
from gateway.store.sql_store import SqlStore

PASSWORD = Secret("correct horse 1")
"""Everybody's."""
PEER = Peer(Wire.HTTP, "192.0.2.99:40000", request="request-1")
SHELL = Peer(Wire.SHELL, "tester", actor="tester")


def cheap_passwords() -> Argon2Passwords:
    """Real argon2id at the least cost there is: for tests that are not about its cost."""
    return Argon2Passwords(memory_kib=8, passes=1)


def counted_tokens() -> Callable[[], str]:
    counter = itertools.count(1)
    return lambda: f"person-{next(counter):013d}"


class Crowd(Struct, kw_only=True):
    """A tree of organisations with users; `close` it. All log in with `PASSWORD`.

    root            admin@root    TENANT_ADMIN
    ├── Acme        admin@acme    TENANT_ADMIN   (rules Acme and what is below)
    │               user@acme     CUSTOMER_USER
    │               viewer@acme   a custom role: ORG_DEVICES_VIEW alone
    │               nobody@acme   a custom role without permissions
    │   └── Acme North   user@north   CUSTOMER_USER
    └── Globex      user@globex   CUSTOMER_USER
    """

    people: People
    logins: Logins
    passwords: Argon2Passwords
    operator: Actor
    root: Organisation
    acme: Organisation
    north: Organisation
    globex: Organisation
    users: dict[str, User]

    async def actor(self, name: str, *without: Permission, peer: Peer = PEER) -> Actor:
        """The user `name` (`admin@acme`) after a login, less the permissions named."""
        actor = await self.logins.actor((await self.login(name)).id, peer)
        assert actor is not None
        return structs.replace(actor, permissions=actor.permissions - set(without))

    async def login(self, name: str) -> Session:
        session = await self.logins.login(email_of(name), PASSWORD, PEER)
        assert isinstance(session, Session), session
        return session

    async def user_with(
        self, organisation: Organisation, *permissions: Permission, name: str = "exact"
    ) -> User:
        """A user with exactly these permissions, in a role of its own (`name@name.test`)."""
        role = await self.people.save_role(
            self.operator,
            name=f"role of {name}",
            permissions=permissions,
            organisation=organisation,
        )
        user = await self._add(name, organisation, role.name)
        self.users[name] = user
        return user

    async def _add(self, name: str, organisation: Organisation, role: str) -> User:
        return await self.people.save_user(
            self.operator,
            email=email_of(name),
            organisation=organisation,
            role=role,
            password=PASSWORD,
        )

    def close(self) -> None:
        self.passwords.close()


def email_of(name: str) -> str:
    """`admin@acme` → `admin@acme.test`; a name without place stands before its own."""
    return f"{name}.test" if "@" in name else f"{name}@{name}.test"


async def make_crowd(
    store: SqlStore,
    clock: Callable[[], int],
    new_token: Callable[[], str] | None = None,
    **fields: Any,
) -> Crowd:
    """The tree of `Crowd`, in this store. `fields` go to `Logins`."""
    new_token = new_token or counted_tokens()
    passwords, kept = cheap_passwords(), SqlPeople(store)
    people = People(kept, clock=clock, new_token=new_token, hasher=passwords)
    logins = Logins(kept, passwords, clock=clock, new_token=new_token, **fields)
    operator = await people.operator(SHELL)
    acme = await people.save_organisation(operator, name="Acme")
    crowd = Crowd(
        people=people,
        logins=logins,
        passwords=passwords,
        operator=operator,
        root=await people.root(),
        acme=acme,
        north=await people.save_organisation(operator, name="Acme North", parent=acme),
        globex=await people.save_organisation(operator, name="Globex"),
        users={},
    )
    await _populate(crowd)
    return crowd


async def _populate(crowd: Crowd) -> None:
    view = [Permission.ORG_DEVICES_VIEW]
    for name, permissions in (("viewer", view), ("powerless", [])):
        await crowd.people.save_role(
            crowd.operator, name=name, permissions=permissions, organisation=crowd.acme
        )
    for name, organisation, role in (
        ("admin@root", crowd.root, TENANT_ADMIN),
        ("admin@acme", crowd.acme, TENANT_ADMIN),
        ("user@acme", crowd.acme, CUSTOMER_USER),
        ("viewer@acme", crowd.acme, "viewer"),
        ("nobody@acme", crowd.acme, "powerless"),
        ("user@north", crowd.north, CUSTOMER_USER),
        ("user@globex", crowd.globex, CUSTOMER_USER),
    ):
        crowd.users[name] = await crowd._add(name, organisation, role)
