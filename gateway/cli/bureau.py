"""Opening the store for commands that act with authority: on organisations, profiles, devices."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from gateway.cli.options import Desk, open_desk
from gateway.config import Config
from gateway.core.catalogue import Catalogue
from gateway.core.inventory import Inventory
from gateway.core.model import Actor
from gateway.core.people import People
from gateway.store.sql_registrar import SqlRegistrar


class Bureau(NamedTuple):
    """What such a command works with. `actor` is the user of this shell, who may do everything."""

    desk: Desk
    actor: Actor
    people: People
    inventory: Inventory
    catalogue: Catalogue


@asynccontextmanager
async def open_bureau(config: Config, *, make: bool = False) -> AsyncIterator[Bureau]:
    """As `open_desk`."""
    from gateway.cli.options import shell_peer
    from gateway.clock import now_ms
    from gateway.core.tokens import new_token
    from gateway.passwords import Argon2Passwords
    from gateway.store.sql_inventory import SqlInventory
    from gateway.store.sql_people import SqlPeople

    async with open_desk(config, make=make) as desk:
        store, hasher = desk.store, Argon2Passwords()
        try:
            people = People(SqlPeople(store), clock=now_ms, new_token=new_token, hasher=hasher)
            yield Bureau(
                desk=desk,
                actor=await people.operator(shell_peer()),
                people=people,
                inventory=Inventory(store, SqlInventory(store), clock=now_ms, new_token=new_token),
                catalogue=Catalogue(store, SqlRegistrar(store), clock=now_ms, new_token=new_token),
            )
        finally:
            hasher.close()
