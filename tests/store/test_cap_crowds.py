"""Bounds of profiles and organisations hold exactly, whatever else happens at the same time."""

from __future__ import annotations

import asyncio
import random

import pytest
from operators import root_operator

from gateway.core.import_rows import ImportRow
from gateway.core.importing import Importer
from gateway.core.model import (
    AccessToken,
    Event,
    EventKind,
    Provisioned,
    ProvisionType,
    Secret,
)
from gateway.core.terms import Terms
from gateway.store.sql_imports import SqlImports
from gateway.store.sql_registrar import SqlRegistrar

pytestmark = pytest.mark.every_database

BOSS = root_operator()
MOST = 12


async def test_a_crowd_at_two_gateways_leaves_the_count_right(
    stores, keep_profile, newcomer, clock
):
    """Births, devices entered and imported by operators, removals and names that are taken, all at
    once: afterwards as many are born as there is room for, counted from the devices themselves."""
    profile = await keep_profile(stores[0], kind=ProvisionType.ALLOW_CREATE_NEW_DEVICES)
    rolled = random.Random(4711)
    tokens = (f"token-{number}" for number in range(10**6))

    def new(name, most=None):
        terms = Terms(max_devices=most)
        token = AccessToken(Secret(next(tokens)))
        return newcomer(profile, name, credentials=token, terms=terms)

    async def remove(store, name):
        registrar = SqlRegistrar(store)
        found = await registrar.find_device(name)
        if found is not None:
            event = Event(kind=EventKind.DEVICE_REMOVE, at=clock(), peer=BOSS.peer, subject=name)
            await registrar.remove_device(found.device.id, event)

    async def act():
        store, name = rolled.choice(stores), f"d{rolled.randrange(40)}"
        match rolled.randrange(5):
            case 0 | 1:
                await store.create_device(new(name, MOST))
            case 2:
                await store.create_device(new(name))
            case 3:
                importer = Importer(SqlImports(store), clock=clock, new_token=lambda: next(tokens))
                rows = [ImportRow(1, name, type=profile.name), ImportRow(2, f"{name}-b")]
                await importer.import_rows(BOSS, rows)
            case _:
                await remove(store, name)

    async def there():
        page = SqlRegistrar(stores[0])
        found = await page.devices(after_id=0, limit=1000, profile_id=profile.id, text="")
        return [one.device.name for one in found]

    await stores[0].create_device(new("first", MOST))
    for _ in range(6):
        await asyncio.gather(*(act() for _ in range(25)))
        names = await there()
        rolled.shuffle(names)
        for name in names[MOST - 3 :]:
            await remove(rolled.choice(stores), name)
        free = MOST - len(await there())
        tried = [stores[n % 2].create_device(new(f"x-{rolled.random()}", MOST)) for n in range(8)]
        born = [isinstance(one, Provisioned) for one in await asyncio.gather(*tried)]
        assert sum(born) == min(8, free)
