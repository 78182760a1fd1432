"""Two gateway processes on one PostgreSQL database, people beside them, and a hook of theirs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
from house import Gatehouse
from operators import root_operator
from postgres_server import PostgresServer
from wires import provision

from gateway.config import Config
from gateway.core.model import (
    DeviceProfile,
    FleetTicket,
    HookRule,
    Policy,
    ProvisionType,
    Secret,
)
from gateway.core.registry import ProfileDraft, Registry
from gateway.opening import open_registry, open_store
from gateway.services import Services, open_services
from gateway.settings import StoreSettings
from gateway.store.sql_store import SqlStore

SOON_S = 5.0
"""Within this everything has its effect at both; on an idle machine it is a tenth of a second."""
_KNOWN_S = 0.011
"""A secret and its profile that were looked up are known for 10 ms, which is no time for people."""
_MASTER_KEY = "5a" * 32
_HOOK = {"BIRTH_HOOK_SECRET": "a-secret-of-both-sides"}
OPERATOR = root_operator("operator")


class Pair:
    """Gateways A and B, each a process over the database at `url`."""

    def __init__(self, folder: Path, server: PostgresServer) -> None:
        name = server.new_name()
        asyncio.run(_execute(server.url("postgres"), f"CREATE DATABASE {name}"))
        self.url = server.url(name)
        self.a, self.b = (self._house(folder / letter) for letter in "ab")
        self.both = (self.a, self.b)
        self.b.pairs = self.a.pairs
        self.b._write_profiles()

    def _house(self, folder: Path) -> Gatehouse:
        folder.mkdir()
        store = {"GATEHOUSE_STORE_URL": self.url, "GATEHOUSE_MASTER_KEY": _MASTER_KEY}
        return Gatehouse(folder, **store, **_HOOK)

    def start(self) -> None:
        """Both at the same moment, on a database without tables."""
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(Gatehouse.start, self.both))

    async def ask(self, body: bytes, *wires: str) -> list[bytes]:
        """The answers of A, and then of B, to one request made at both at once on each wire."""
        await asyncio.sleep(_KNOWN_S)
        asked = [(house, wire) for house in self.both for wire in wires or ("http",)]
        return await asyncio.gather(*(provision(house.ports, wire, body) for house, wire in asked))

    async def ask_in_turn(self, bodies: list[bytes]) -> list[bytes]:
        """The answers to requests made all at once, the first at A, the second at B, and so on."""
        await asyncio.sleep(_KNOWN_S)
        ports = (self.both[number % 2].ports for number in range(len(bodies)))
        asked = zip(ports, bodies, strict=True)
        return await asyncio.gather(*(provision(to, "http", body) for to, body in asked))

    async def change(self, statement: str) -> None:
        """Change the database behind everybody's back."""
        await _execute(self.url, statement)


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


class Operators:
    """People with a store of their own on the same database, as a command in a shell has it."""

    def __init__(self, store: SqlStore, services: Services, registry: Registry) -> None:
        self.store = store
        self.services = services
        self.registry = registry

    async def save(self, name: str, **policy: Any) -> DeviceProfile:
        """A profile for new devices; its pair is `{name}-key-0001`, `{name}-secret-0001`."""
        kind = ProvisionType.ALLOW_CREATE_NEW_DEVICES
        profile = DeviceProfile(id=0, name=name, provision_type=kind, policy=Policy(**policy))
        pair = {"key": Secret(f"{name}-key-0001"), "secret": Secret(f"{name}-secret-0001")}
        await self.registry.save_profile(ProfileDraft(profile=profile, **pair))
        found = await self.registry.profile(name)
        assert found is not None
        return found

    async def count(self, what: str, *params: Any) -> int:
        rows = await self.store.driver.read(f"SELECT count(*) FROM {what}", *params)
        return int(rows[0][0])


@asynccontextmanager
async def operators(pair: Pair) -> AsyncIterator[Operators]:
    config = Config(store=StoreSettings(url=pair.url))
    async with open_store(config, {"GATEHOUSE_MASTER_KEY": _MASTER_KEY}) as store:
        services = open_services(store)
        services.close()  # no password is proven here
        yield Operators(store, services, open_registry(store, OPERATOR.peer))


def asking(profile: str, name: str | None = None, **more: Any) -> bytes:
    """A request with the pair of a profile that `Operators` saved."""
    pair = {
        "provisionDeviceKey": f"{profile}-key-0001",
        "provisionDeviceSecret": f"{profile}-secret-0001",
    }
    return json.dumps({**pair, **({} if name is None else {"deviceName": name}), **more}).encode()


def by(ticket: FleetTicket, name: str) -> bytes:
    """A request with another pair."""
    pair = {"provisionDeviceKey": ticket.key, "provisionDeviceSecret": ticket.secret}
    shown = {member: secret.reveal() for member, secret in pair.items()}
    return json.dumps({**shown, "deviceName": name}).encode()


def born(answers: list[bytes]) -> int:
    """How many of them give a credential."""
    return sum(b'"status":"SUCCESS"' in one for one in answers)


async def until(holds: Callable[[], Awaitable[bool]], what: str, within_s: float = SOON_S) -> None:
    try:
        async with asyncio.timeout(within_s):
            while not await holds():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(what) from None


class Ear:
    """An after-hook of both: what it was told, in order. It takes `slow_s` for each, and takes none
    while its `status` is not 200."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, int]] = []
        self.status = 200
        self.slow_s = 0.0
        self.url = ""
        self._callers: set[asyncio.Task[None]] = set()

    @property
    def rule(self) -> HookRule:
        kinds = ("device:provision", "device:attributes")
        return HookRule(url=self.url, secret_env="BIRTH_HOOK_SECRET", events=kinds)

    def called(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        caller = asyncio.create_task(self._listen(reader, writer))
        self._callers.add(caller)
        caller.add_done_callback(self._callers.discard)

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                size = int(head.partition(b"content-length:")[2].split()[0])
                told = json.loads(await reader.readexactly(size))
                if self.status == 200:
                    self.heard.append((told["deviceName"], told["seq"]))
                    await asyncio.sleep(self.slow_s)
                writer.write(f"HTTP/1.1 {self.status} x\r\nContent-Length: 0\r\n\r\n".encode())
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # a caller that was killed
        finally:
            writer.close()

    async def hang_up(self) -> None:
        for caller in self._callers:
            caller.cancel()
        await asyncio.gather(*self._callers, return_exceptions=True)


@asynccontextmanager
async def listening() -> AsyncIterator[Ear]:
    ear = Ear()
    async with await asyncio.start_server(ear.called, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        ear.url = f"http://{host}:{port}/"
        try:
            yield ear
        finally:
            await ear.hang_up()
