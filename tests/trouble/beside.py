"""People beside a troubled gateway: they open its store in a process of their own, as a shell does.

And what a device of it needs in order to talk: a token, its topics, a log-in.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from house import SUCCESS, Gatehouse
from msgspec import structs
from wires import Mqtt, http, mqtt

from gateway.config import Config
from gateway.core.model import (
    AttributesChange,
    AttributeScope,
    ClaimResult,
    Package,
    PackageKind,
    Peer,
    RpcCall,
    Secret,
    Wire,
)
from gateway.core.ports import KnownCredentials
from gateway.core.registry import Registry
from gateway.opening import open_registry, open_store
from gateway.settings import StoreSettings
from gateway.store.packages import PackageStore

TELEMETRY = "v1/devices/me/telemetry"
ATTRIBUTES = "v1/devices/me/attributes"
CALLS = "v1/devices/me/rpc/request/+"
CALL = "v1/devices/me/rpc/request/"
ANSWER = "v1/devices/me/rpc/response/"
STAMP = int(time.time()) * 1000
"""Readings with times from here on are young enough to be kept."""


class People:
    """Operators of the gateway over this store."""

    def __init__(self, registry: Registry, folder: Path) -> None:
        self.registry = registry
        self._files = PackageStore(folder / "packages")

    async def known(self, name: str) -> KnownCredentials:
        known = await self.registry.device(name)
        assert known is not None, f"{name} is not in the store"
        return known

    async def share(self, name: str, **values: Any) -> None:
        """Change shared attributes of a device."""
        change = AttributesChange(values, ())
        known = await self.known(name)
        assert await self.registry.change_attributes(known, AttributeScope.SHARED, change)

    async def share_with_all(self, profile: str, **values: Any) -> int:
        """The same for all devices of a profile; how many they are."""
        found = await self.registry.profile(profile)
        assert found is not None
        change = AttributesChange(values, ())
        return await self.registry.change_profile_attributes(found, AttributeScope.SHARED, change)

    async def call(self, name: str, method: str, **more: Any) -> RpcCall:
        """Store a call; without a word else one that waits for its device."""
        how = {"persistent": True, "lasts_s": 600, **more}
        stored = await self.registry.calls.save(await self.known(name), method, **how)
        assert stored is not None
        return stored

    async def state(self, call: RpcCall, within_s: float = 5) -> tuple[str, str | None]:
        """How a call ended, or how far it came."""
        seen = await self.registry.calls.end_of(call, within_s)
        return seen.state.value, seen.response

    async def claim(self, name: str, key: str) -> ClaimResult:
        return await self.registry.claim(await self.known(name), "Acme", Secret(key))

    async def assign(self, name: str, title: str, content: bytes, source: Path) -> Package:
        """Make `content`, written to `source`, the firmware of a device."""
        source.write_bytes(content)
        named = Package(kind=PackageKind.FIRMWARE, title=title, version="1")
        added = self._files.add(source, named.algorithm)
        package = await self.registry.packages.add(
            structs.replace(named, file=added.file, size=added.size, checksum=added.checksum)
        )
        assert package is not None
        await self.registry.packages.assign(package.kind, package, (await self.known(name)).device)
        return package


@asynccontextmanager
async def beside(house: Gatehouse) -> AsyncIterator[People]:
    """People with the store of `house`, which must have been started once."""
    folder = house.database.parent
    config = Config(store=StoreSettings(url=f"sqlite:{house.database}"))
    async with open_store(config, {}) as store:
        yield People(open_registry(store, Peer(Wire.SHELL, "people")), folder)


async def born(
    house: Gatehouse, *names: str, profile: str = "create", gateway: bool = False
) -> list[str]:
    """The tokens of new devices."""
    tokens = []
    async with http(house.ports.http) as web:
        for name in names:
            asked = json.loads(house.request(name, profile)) | {"gateway": gateway}
            reply = await web.ask("POST", "/api/v1/provision", json.dumps(asked).encode())
            found = SUCCESS.match(reply.body)
            assert found, reply
            tokens.append(found[1].decode())
    return tokens


@asynccontextmanager
async def session_of(house: Gatehouse, token: str, version: int = 4) -> AsyncIterator[Mqtt]:
    """A device that is logged in."""
    async with mqtt(house.ports.mqtt, version) as session:
        assert await session.connect("c", token) == 0
        yield session


def online(house: Gatehouse, *names: str) -> set[str]:
    """Which of these devices are present, as far as that was written down."""
    asked = "SELECT name FROM device JOIN presence ON device_id = device.id WHERE online = 1"
    return {name for (name,) in house.rows(asked)} & set(names)


def sockets(house: Gatehouse) -> int:
    """How many sockets the process holds."""
    folder = Path(f"/proc/{house.running.pid}/fd")
    return sum(1 for one in folder.iterdir() if str(_target(one)).startswith("socket:"))


def _target(link: Path) -> Path:
    try:
        return link.readlink()
    except FileNotFoundError:  # closed since it was listed
        return Path()


async def until(true: Callable[[], bool], within_s: float, what: str) -> None:
    """Wait until something is true."""
    give_up = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < give_up, what
        await asyncio.sleep(0.05)


def object_of(pairs: Iterable[tuple[str, Any]]) -> bytes:
    """A JSON object."""
    return json.dumps(dict(pairs)).encode()
