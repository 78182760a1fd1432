"""Opening the store for commands that act with authority: on organisations, profiles, devices."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from gateway.cli.options import Desk, open_desk, shell_peer
from gateway.config import Config
from gateway.core.admission_lists import AdmissionLists
from gateway.core.catalogue import Catalogue
from gateway.core.fleet_custody import FleetSecrets
from gateway.core.hook_queues import HookQueues
from gateway.core.inventory import Inventory
from gateway.core.model import Actor
from gateway.core.people import People


class Bureau(NamedTuple):
    """What such a command works with. `actor` is the user of this shell, who may do everything."""

    desk: Desk
    actor: Actor
    people: People
    inventory: Inventory
    catalogue: Catalogue
    secrets: FleetSecrets
    admission: AdmissionLists
    hooks: HookQueues


@asynccontextmanager
async def open_bureau(config: Config, *, make: bool = False) -> AsyncIterator[Bureau]:
    """As `open_desk`."""
    from gateway.services import open_services

    async with open_desk(config, make=make) as desk:
        services = open_services(desk.store)
        try:
            actor = await services.people.operator(shell_peer())
            yield Bureau(
                desk,
                actor,
                services.people,
                services.inventory,
                services.catalogue,
                services.secrets,
                services.admission,
                services.hooks,
            )
        finally:
            services.close()
