"""The store from beside a running gateway: devices put in, changes made, and what is in it."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from msgspec import Struct

from gateway.config import Config
from gateway.core.model import (
    PROVISIONED,
    AttributesChange,
    AttributeScope,
    DeviceCredentials,
    DeviceProfile,
    Peer,
    Provisioned,
    Secret,
    Value,
    Wire,
)
from gateway.core.ports import NewDevice
from gateway.core.registry import Registry
from gateway.opening import open_registry, open_store
from gateway.services import open_services
from gateway.settings import BlynkSettings, StoreSettings
from gateway.simulator.processes import PROFILE
from gateway.store.sql_store import SqlStore
from gateway.ticketing import open_tickets

_AT_ONCE = 1000
"""Devices added in one go."""


class Numbered(Struct, frozen=True):
    """Devices whose tokens are `prefix` and a number of at least four digits."""

    prefix: str
    count: int

    @property
    def tokens(self) -> list[str]:
        return [f"{self.prefix}{number:04d}" for number in range(self.count)]


class Changed(Struct, frozen=True):
    """A change for so many devices. `at`: its commit was known here, in seconds of the monotonic
    clock; that is moments after the commit itself."""

    devices: int
    at: float


def add_devices(database: Path, count: int) -> Numbered:
    """Put devices of the throw-away profile into the store of a running gateway."""
    devices = Numbered("bench-token-", count)
    asyncio.run(_add(database, devices.tokens))
    return devices


async def _add(database: Path, tokens: list[str]) -> None:
    async with _registry(database) as (registry, profile):
        for start in range(0, len(tokens), _AT_ONCE):
            added = await asyncio.gather(
                *(
                    registry.add_device(profile, f"device-{token}", token=Secret(token))
                    for token in tokens[start : start + _AT_ONCE]
                )
            )
            assert all(isinstance(one, Provisioned) for one in added)


def add_with(database: Path, credentials: Mapping[str, DeviceCredentials]) -> None:
    """Put devices with these credentials there, by their names."""
    asyncio.run(_add_with(database, credentials))


async def _add_with(database: Path, credentials: Mapping[str, DeviceCredentials]) -> None:
    peer, at = Peer(Wire.SHELL, "bench"), int(time.time() * 1000)
    async with _store(database) as store:
        profile = await open_registry(store, peer).profile(PROFILE)
        assert profile is not None
        added = await asyncio.gather(
            *(
                store.create_device(
                    NewDevice(
                        organisation_id=profile.organisation_id,
                        profile_id=profile.id,
                        name=name,
                        type=profile.name,
                        credentials=one,
                        provision_state=PROVISIONED,
                        peer=peer,
                        at=at,
                    )
                )
                for name, one in credentials.items()
            )
        )
        assert all(isinstance(one, Provisioned) for one in added)


async def issue(database: Path, wanted: int) -> list[str]:
    """Tokens for so many new devices of the root organisation, or a few more."""
    config = Config(blynk=BlynkSettings(max_tickets=10_000_000))
    async with _store(database) as store:
        services = open_services(store)
        try:
            actor = await services.people.operator(Peer(Wire.SHELL, "bench", "bench"))
            tickets, found = open_tickets(config, store), list[str]()
            while len(found) < wanted:
                new = (tickets.issue(actor, actor.organisation, None) for _ in range(_AT_ONCE))
                found += [one.token.reveal() for one in await asyncio.gather(*new)]
            return found
        finally:
            services.close()


def share(database: Path, key: str, value: Value) -> Changed:
    """Set one shared attribute of all devices of the profile, from this process."""
    return asyncio.run(_share(database, key, value))


async def _share(database: Path, key: str, value: Value) -> Changed:
    change = AttributesChange({key: value})
    async with _registry(database) as (registry, profile):
        devices = await registry.change_profile_attributes(profile, AttributeScope.SHARED, change)
        return Changed(devices, time.monotonic())


@asynccontextmanager
async def _registry(database: Path) -> AsyncIterator[tuple[Registry, DeviceProfile]]:
    async with _store(database) as store:
        registry = open_registry(store, Peer(Wire.SHELL, "bench"))
        profile = await registry.profile(PROFILE)
        assert profile is not None
        yield registry, profile


def _store(database: Path) -> AbstractAsyncContextManager[SqlStore]:
    return open_store(Config(store=StoreSettings(url=f"sqlite:{database}")), {})


def count_issued(database: Path) -> int:
    """Certificates that our own authority signed, and that are their devices' credentials."""
    return _number(
        database,
        "SELECT count(*) FROM certificate JOIN credentials USING (device_id, digest)"
        " WHERE state = 'issued'",
    )


def count_readings(database: Path) -> int:
    """Readings of all devices and keys."""
    return _number(database, "SELECT count(*) FROM reading")


def count_tickets(database: Path) -> int:
    """Tokens of single devices that wait to be claimed."""
    return _number(database, "SELECT count(*) FROM ticket WHERE device_id IS NOT NULL")


def count_shared(database: Path, key: str, value: int) -> int:
    """Devices whose shared attribute `key` is the whole number `value`."""
    statement = (
        "SELECT count(*) FROM attribute WHERE scope = 'SHARED_SCOPE' AND key = ? AND whole = ?"
    )
    return _number(database, statement, key, value)


def _number(database: Path, statement: str, *values: object) -> int:
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        return int(connection.execute(statement, values).fetchone()[0])
    finally:
        connection.close()
